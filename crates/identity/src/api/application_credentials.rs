//! `/v3/users/{id}/application_credentials` and `/v3/users/{id}/access_rules`.

use super::*;
use crate::model::schemas;
use crate::store::application_credentials as store;
use crate::store::assignments::{self, Actor, Target as Place};
use crate::store::{is_true, roles};
use base64::Engine;
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    let many = "/v3/users/{user_id}/application_credentials";
    routes.get(many, list).post(many, create);
    let one = "/v3/users/{user_id}/application_credentials/{application_credential_id}";
    routes.get(one, show).delete(one, delete);
    routes.get("/v3/users/{user_id}/access_rules", list_rules);
    let rule = "/v3/users/{user_id}/access_rules/{access_rule_id}";
    routes.get(rule, show_rule).delete(rule, delete_rule);
}

/// A token by delegation manages no application credentials, unless it is one of an application credential itself.
fn check_delegation(token: &Token) -> Result<()> {
    if token.application_credential.is_some() || !token.is_delegated_or_trust() {
        return Ok(());
    }
    Err(Error::Forbidden(
        "Cannot manage application credentials with a token issued via delegation.".into(),
    ))
}

fn check_unrestricted(token: &Token) -> Result<()> {
    if token
        .application_credential
        .as_ref()
        .is_some_and(|credential| !is_true(credential, "unrestricted"))
    {
        return Err(Error::Action(
            "Using method 'application_credential' is not allowed for managing additional application credentials."
                .into(),
        ));
    }
    Ok(())
}

/// Times as the API shows them here.
fn shown(mut credential: Ref) -> Ref {
    let expires = credential
        .get("expires_at")
        .and_then(Value::as_i64)
        .map(::api::time::naive_micros);
    credential.insert("expires_at".into(), expires.into());
    credential
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    let user = r.param("user_id");
    s.enforce(
        r,
        "identity:list_application_credentials",
        &Target::new().arg("user_id", user),
    )?;
    check_delegation(&*s.token(r)?)?;
    let hints = s.hints(r, &["name"], false)?;
    let mut page = s.read(|tx| store::list(tx, user, &hints))?;
    page.refs = page.refs.into_iter().map(shown).collect();
    collection(
        r,
        "application_credentials",
        "application_credentials",
        page,
        hints.limit,
    )
}

fn expiration(credential: &Ref) -> Result<Option<i64>> {
    let given = text(credential, "expires_at");
    if given.is_empty() {
        return Ok(None);
    }
    super::trusts::parse_expiration(given).map(Some)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let mut credential = checked(r, &schemas::APPLICATION_CREDENTIAL_CREATE, "application_credential")?;
    let user = r.param("user_id");
    s.enforce(
        r,
        "identity:create_application_credential",
        &Target::new().arg("user_id", user),
    )?;
    let token = s.token(r)?;
    check_delegation(&token)?;
    check_unrestricted(&token)?;
    if r.context().user_id() != user {
        return Err(Error::Action(
            "Cannot create an application credential for another user.".into(),
        ));
    }
    let project = r.context().project_id().unwrap_or_default().to_owned();
    let secret = match text(&credential, "secret") {
        "" => base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[[u8; 32]; 2]>().concat()),
        given => given.to_owned(),
    };
    let hash = s.passwords.hash(&secret)?;
    let expires_at = expiration(&credential)?;
    let wanted = credential
        .remove("roles")
        .and_then(|roles| roles.as_array().cloned())
        .unwrap_or_default();
    let mut rules = credential
        .remove("access_rules")
        .and_then(|rules| rules.as_array().cloned());
    for rule in rules.iter_mut().flatten() {
        if rule.get("id").is_none() {
            rule["id"] = new_id().into();
        }
    }
    credential.remove("secret");
    let mut credential = with_new_id(normalized(&credential));
    credential.insert("user_id".into(), user.into());
    credential.insert("project_id".into(), project.clone().into());
    credential.insert("expires_at".into(), expires_at.map_or(Value::Null, Value::from));
    credential.entry("unrestricted").or_insert(Value::Null);
    let credential = s.write(|tx| {
        let role_ids = role_ids(tx, &token, &wanted)?;
        let limit = s.config.application_credential_limit;
        if limit >= 0 && store::count(tx, user)? >= limit {
            return Err(Error::Refused(format!(
                "Unable to create additional application credentials, maximum of {limit} already exceeded for user."
            )));
        }
        let held = assignments::effective_roles(tx, user, &Place::Project(project.clone()), false)?;
        if let Some(role) = role_ids.iter().find(|role| !held.contains(*role)) {
            let why = assignments::missing(role, &Actor::User(user.into()), &Place::Project(project.clone()));
            return Err(Error::Invalid(format!("Invalid application credential: {why}")));
        }
        store::insert(tx, &credential, &hash, &role_ids, rules.as_ref())
    })?;
    let mut credential = shown(credential);
    credential.insert("secret".into(), secret.into());
    created(r, "application_credential", "application_credentials", credential)
}

/// The roles asked for with those they imply, all of which the token must have; its own where none was asked for.
fn role_ids(tx: &mut Tx<'_>, token: &Token, wanted: &[Value]) -> Result<Vec<String>> {
    let held: Vec<String> = token.roles.iter().map(|role| text(role, "id").to_owned()).collect();
    if wanted.is_empty() {
        return Ok(held);
    }
    let mut ids = Vec::new();
    for role in wanted {
        ids.push(match role["id"].as_str() {
            Some(id) => id.to_owned(),
            None => text(
                &roles::unique_by_name(tx, role["name"].as_str().unwrap_or_default())?,
                "id",
            )
            .to_owned(),
        });
    }
    let ids: Vec<String> = roles::with_implied(tx, ids)?.into_iter().collect();
    // A role that is not there is one that the token does not have.
    if ids.iter().any(|id| !held.contains(id)) {
        return Err(Error::Invalid(
            "Invalid application credential: Cannot create an application credential with unassigned role".into(),
        ));
    }
    Ok(ids)
}

/// The rules look at whose the credential is, whatever the path says.
fn owner(tx: &mut Tx<'_>, r: &Request) -> Result<Target> {
    match store::get(tx, r.param("application_credential_id")) {
        Ok(credential) => Ok(Target::new()
            .arg("user_id", text(&credential, "user_id"))
            .with("user_id", credential["user_id"].clone())),
        Err(error) if error.is_not_found() => Ok(Target::new().arg("user_id", r.param("user_id"))),
        Err(error) => Err(error),
    }
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    let credential = s.read(|tx| {
        s.enforce(r, "identity:get_application_credential", &owner(tx, r)?)?;
        check_delegation(&token)?;
        store::get(tx, r.param("application_credential_id"))
    })?;
    ok(
        r,
        "application_credential",
        "application_credentials",
        shown(credential),
    )
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    s.write(|tx| {
        s.enforce(r, "identity:delete_application_credential", &owner(tx, r)?)?;
        check_delegation(&token)?;
        check_unrestricted(&token)?;
        store::APPLICATION_CREDENTIALS.delete(tx, r.param("application_credential_id"))
    })?;
    no_content()
}

fn list_rules(s: &Identity, r: &Request) -> Result<Response> {
    let hints = s.hints(r, &["service", "path", "method"], false)?;
    let token = s.token(r)?;
    let page = s.read(|tx| {
        s.enforce(r, "identity:list_access_rules", &super::users::target(s, tx, r)?)?;
        check_delegation(&token)?;
        store::rules(tx, r.param("user_id"), &hints)
    })?;
    collection(r, "access_rules", "access_rules", page, hints.limit)
}

fn show_rule(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    let rule = s.read(|tx| {
        s.enforce(r, "identity:get_access_rule", &super::users::target(s, tx, r)?)?;
        check_delegation(&token)?;
        store::rule(tx, r.param("access_rule_id"), r.param("user_id"))
    })?;
    ok(r, "access_rule", "access_rules", rule)
}

fn delete_rule(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    s.write(|tx| {
        s.enforce(r, "identity:delete_access_rule", &super::users::target(s, tx, r)?)?;
        check_delegation(&token)?;
        store::delete_rule(tx, r.param("access_rule_id"), r.param("user_id"))
    })?;
    no_content()
}
