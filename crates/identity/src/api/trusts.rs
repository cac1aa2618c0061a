//! `/v3/OS-TRUST/trusts`.

use super::*;
use crate::model::schemas;
use crate::store::assignments::{self, Target as Place};
use crate::store::revocations::Event;
use crate::store::{is_true, projects, roles, trusts, users};
use database::{Tx, now};

const PATH: &str = "OS-TRUST/trusts";

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes
        .get("/v3/OS-TRUST/trusts", list)
        .post("/v3/OS-TRUST/trusts", create);
    let one = "/v3/OS-TRUST/trusts/{trust_id}";
    routes.get(one, show).delete(one, delete);
    routes.get("/v3/OS-TRUST/trusts/{trust_id}/roles", list_roles);
    routes.get("/v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}", show_role);
}

/// A time in the future.
pub(super) fn parse_expiration(given: &str) -> Result<i64> {
    let with_zone = if given.ends_with('Z') {
        given.to_owned()
    } else {
        format!("{given}Z")
    };
    let at = ::api::time::parse(&with_zone).ok_or_else(|| {
        Error::Invalid("Timestamp not in expected format. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.".into())
    })?;
    if at < now() {
        return Err(Error::Invalid("The 'expires_at' must not be before now. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.".into()));
    }
    Ok(at)
}

fn check_delegated(token: &Token) -> Result<()> {
    if token.is_delegated() {
        return Err(Error::Action("Delegated tokens cannot manage trusts.".into()));
    }
    Ok(())
}

fn with_times(mut trust: Ref) -> Ref {
    let expires = trust["expires_at"]
        .as_i64()
        .map(|at| ::api::time::iso8601_micros(at / 1_000_000 * 1_000_000));
    trust.insert("expires_at".into(), expires.into());
    trust
}

/// A trust as the API shows one: its roles in full.
fn shown(tx: &mut Tx<'_>, r: &Request, trust: Ref) -> Result<Ref> {
    let ids: Vec<String> = trust["roles"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|role| role["id"].as_str().map(Into::into))
        .collect();
    let mut shown = with_times(trust);
    let mut full = Vec::new();
    for mut role in roles::ROLES.get_many(tx, &ids)? {
        link(r, "roles", &mut role);
        full.push(Value::Object(role));
    }
    shown.insert("roles".into(), full.into());
    let links = json!({"self": url(r, &format!("{}/roles", text(&shown, "id"))), "next": null, "previous": null});
    shown.insert("roles_links".into(), links);
    Ok(shown)
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    let given = |name: &str| r.query.get(name).filter(|id| !id.is_empty());
    let by = [("trustor_user_id", "trustor"), ("trustee_user_id", "trustee")]
        .into_iter()
        .find_map(|(name, who)| given(name).map(|id| (name, who, id)));
    match by {
        Some((name, who, id)) => s.enforce(
            r,
            &format!("identity:list_trusts_for_{who}"),
            &Target::new().with("trust", json!({name: id})),
        )?,
        None => s.enforce(r, "identity:list_trusts", &Target::new())?,
    }
    check_delegated(&*s.token(r)?)?;
    let found = match by {
        None if !r.query.is_empty() => Vec::new(),
        by => s.read(|tx| trusts::list(tx, by.map(|(name, _, id)| (name, id))))?,
    };
    collection(
        r,
        "trusts",
        PATH,
        all(found.into_iter().map(with_times).collect()),
        None,
    )
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let trust = checked(r, &schemas::TRUST_CREATE, "trust")?;
    s.enforce(r, "identity:create_trust", &Target::new().with("trust", trust.clone()))?;
    let token = s.token(r)?;
    check_delegated(&token)?;
    let wanted = trust
        .get("roles")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if !text(&trust, "project_id").is_empty() && wanted.is_empty() {
        return Err(Error::Action("At least one role should be specified".into()));
    }
    if r.context().user_id() != text(&trust, "trustor_user_id") {
        return Err(Error::Action("The authenticated user should match the trustor".into()));
    }
    let expires_at = match text(&trust, "expires_at") {
        "" => None,
        given => Some(parse_expiration(given)?),
    };
    let trust = s.write(|tx| {
        users::get(tx, text(&trust, "trustee_user_id"), &s.config.security_compliance)?;
        let mut new = trust.clone();
        let mut role_ids = Vec::new();
        for role in &wanted {
            let id = match role["id"].as_str() {
                Some(id) => id.to_owned(),
                None => text(
                    &roles::unique_by_name(tx, role["name"].as_str().unwrap_or_default())?,
                    "id",
                )
                .to_owned(),
            };
            role_ids.push(id);
        }
        check_roles(tx, &trust, &role_ids)?;
        new.insert(
            "roles".into(),
            role_ids.iter().map(|id| json!({"id": id})).collect::<Vec<_>>().into(),
        );
        new.insert("expires_at".into(), expires_at.map_or(Value::Null, Value::from));
        let new = with_new_id(new);
        let created = s.create_trust(tx, new, token.trust.as_ref())?;
        shown(tx, r, created)
    })?;
    created(r, "trust", PATH, trust)
}

/// The trustor must have what it delegates.
fn check_roles(tx: &mut Tx<'_>, trust: &Ref, role_ids: &[String]) -> Result<()> {
    let project = text(trust, "project_id");
    let held = match project {
        "" => Default::default(),
        project => {
            projects::get(tx, project)?;
            assignments::effective_roles(
                tx,
                text(trust, "trustor_user_id"),
                &Place::Project(project.into()),
                true,
            )?
        }
    };
    match role_ids.iter().find(|role| !held.contains(*role)) {
        Some(role) => Err(Error::not_found("role", role.as_str())),
        None => Ok(()),
    }
}

impl Identity {
    /// Adds a trust, perhaps one that hands on another.
    fn create_trust(&self, tx: &mut Tx<'_>, mut trust: Ref, from: Option<&Ref>) -> Result<Ref> {
        let most = self.config.max_redelegation_count;
        let asked = trust.get("redelegation_count").and_then(Value::as_i64);
        let may_go_on = is_true(&trust, "allow_redelegation") && asked != Some(0);
        trust.remove("allow_redelegation");
        if !may_go_on {
            trust.insert("redelegation_count".into(), 0.into());
        } else {
            if let Some(asked) = asked.filter(|asked| *asked > most) {
                return Err(Error::Forbidden(format!(
                    "Requested redelegation depth of {asked} is greater than allowed {most}"
                )));
            }
            if trust.get("remaining_uses").is_some_and(|uses| !uses.is_null()) {
                return Err(Error::Invalid(
                    "remaining_uses must not be set if redelegation is allowed".into(),
                ));
            }
        }
        if let Some(from) = from {
            trust.insert("redelegated_trust_id".into(), from["id"].clone());
            let remaining = from["redelegation_count"].as_i64().unwrap_or(0) - 1;
            if may_go_on && asked.is_some_and(|asked| asked != 0 && asked != remaining) {
                return Err(Error::Forbidden(
                    "Modifying \"redelegation_count\" upon redelegation is forbidden. Omitting this parameter is advised.".into(),
                ));
            }
            trust.entry("redelegation_count").or_insert_with(|| remaining.into());
            for parent in trusts::pedigree(tx, text(from, "id"))? {
                check_handed_on(&parent, &mut trust, most)?;
            }
        }
        if trust.get("redelegation_count").is_none_or(Value::is_null) {
            trust.insert("redelegation_count".into(), most.into());
        }
        trusts::insert(tx, trust)
    }
}

/// What is handed on may not be more than what was received.
fn check_handed_on(parent: &Ref, trust: &mut Ref, most: i64) -> Result<()> {
    let depth = parent["redelegation_count"].as_i64().unwrap_or(0);
    if depth <= 0 || depth > most {
        return Err(Error::Forbidden(format!(
            "Remaining redelegation depth of {depth} out of allowed range of [0..{most}]"
        )));
    }
    if trust.get("remaining_uses").is_some_and(|uses| !uses.is_null()) {
        return Err(Error::Forbidden(
            "Field \"remaining_uses\" must not be set in order to redelegate a trust".into(),
        ));
    }
    match (trust["expires_at"].as_i64(), parent["expires_at"].as_i64()) {
        (Some(asked), Some(given)) if given < asked => {
            return Err(Error::Forbidden(
                "Requested expiration time is more than redelegated trust can provide".into(),
            ));
        }
        (None, Some(given)) => {
            trust.insert("expires_at".into(), given.into());
        }
        _ => {}
    }
    let given = parent["roles"].as_array().cloned().unwrap_or_default();
    if trust["roles"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|role| !given.iter().any(|g| g["id"] == role["id"]))
    {
        return Err(Error::Forbidden(
            "Some of requested roles are not in redelegated trust".into(),
        ));
    }
    if !is_true(parent, "impersonation") && is_true(trust, "impersonation") {
        return Err(Error::Forbidden(
            "Impersonation is not allowed because redelegated trust does not specify impersonation.".into(),
        ));
    }
    Ok(())
}

/// The trust, once the caller may do this with it.
fn allowed(s: &Identity, tx: &mut Tx<'_>, r: &Request, rule: &str) -> Result<Ref> {
    let trust = trusts::get(tx, r.param("trust_id"))?;
    s.enforce(r, rule, &Target::new().with("trust", trust.clone()))?;
    Ok(trust)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    let trust = s.read(|tx| {
        let trust = allowed(s, tx, r, "identity:get_trust")?;
        check_delegated(&token)?;
        shown(tx, r, trust)
    })?;
    ok(r, "trust", PATH, trust)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    s.write(|tx| {
        let trust = allowed(s, tx, r, "identity:delete_trust")?;
        check_delegated(&token)?;
        for id in trusts::delete(tx, text(&trust, "id"))? {
            s.revoke(
                tx,
                Event {
                    trust_id: Some(&id),
                    ..Event::default()
                },
            )?;
        }
        Ok(())
    })?;
    no_content()
}

fn list_roles(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    let trust = s.read(|tx| {
        let trust = allowed(s, tx, r, "identity:list_roles_for_trust")?;
        check_delegated(&token)?;
        shown(tx, r, trust)
    })?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"roles": trust["roles"], "links": trust["roles_links"]}),
    ))
}

fn show_role(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    let id = r.param("role_id");
    let role = s.read(|tx| {
        let trust = allowed(s, tx, r, "identity:get_role_for_trust")?;
        check_delegated(&token)?;
        if !trust["roles"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|role| role["id"].as_str() == Some(id))
        {
            return Err(Error::not_found("role", id));
        }
        roles::ROLES.get(tx, id)
    })?;
    ok(r, "role", "roles", role)
}
