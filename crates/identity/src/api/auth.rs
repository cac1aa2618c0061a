//! `/v3/auth`: tokens, and what a token's user can get.

use super::*;
use crate::model::schemas;
use crate::store::revocations::{self, Event};
use crate::store::{assignments, bool_from_text, catalog, projects};
use ::api::Method;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    let tokens = "/v3/auth/tokens";
    routes.public(Method::POST, tokens, issue);
    routes.get(tokens, validate).head(tokens, check).delete(tokens, revoke);
    for (path, member) in [
        ("/v3/auth/projects", true),
        ("/v3/OS-FEDERATION/projects", true),
        ("/v3/auth/domains", false),
        ("/v3/OS-FEDERATION/domains", false),
    ] {
        routes.get(path, move |s: &Identity, r: &Request| {
            if member {
                list_projects(s, r)
            } else {
                list_domains(s, r)
            }
        });
    }
    routes.get("/v3/auth/system", list_system);
    routes.get("/v3/auth/catalog", show_catalog);
    routes.get("/v3/OS-REVOKE/events", list_events);
    routes.public(
        Method::GET,
        "/v3/auth/tokens/OS-PKI/revoked",
        |_: &Identity, _: &Request| Err::<Response, _>(Error::Forbidden("there are no PKI tokens".into())),
    );
    for gone in ["/v3/OS-SIMPLE-CERT/ca", "/v3/OS-SIMPLE-CERT/certificates"] {
        routes.public(Method::GET, gone, |_: &Identity, _: &Request| {
            Err::<Response, _>(Error::Gone)
        });
    }
}

fn wants_catalog(r: &Request) -> bool {
    !r.query.contains("nocatalog")
}

fn with_token(status: StatusCode, bytes: bytes::Bytes, id: &str) -> Response {
    Response::bytes(status, "application/json", bytes)
        .header("x-subject-token", id)
        .header("vary", "X-Auth-Token")
}

fn issue(s: &Identity, r: &Request) -> Result<Response> {
    let body = body(r)?;
    let auth = body.get("auth").cloned().unwrap_or_default();
    if !auth.is_null() {
        schemas::check_part(&schemas::TOKEN, &auth)?;
        check_names(&auth)?;
    }
    let token = s.authenticate_for_token(&auth, || crate::oauth1::access_token(s, r))?;
    Ok(with_token(
        StatusCode::CREATED,
        token.render(&s.db, wants_catalog(r))?,
        &token.id,
    ))
}

/// Whatever is named must be named by an id or a name.
fn check_names(auth: &Value) -> Result<()> {
    for path in [
        "identity/password/user",
        "identity/password/user/domain",
        "scope/project",
        "scope/project/domain",
        "scope/domain",
    ] {
        let named = auth.pointer(&format!("/{path}")).filter(|value| !value.is_null());
        if named.is_some_and(|object| object.get("id").is_none() && object.get("name").is_none()) {
            return Err(Error::Invalid(format!(
                "Invalid input for field {path}: id or name must be present."
            )));
        }
    }
    Ok(())
}

/// The token in `X-Subject-Token`, once the caller may see it.
fn subject(s: &Identity, r: &Request, rule: &str) -> Result<Arc<Token>> {
    let grace = match r
        .query
        .get("allow_expired")
        .is_some_and(|text| bool_from_text(text, false))
    {
        true => s.config.allow_expired_window * 1_000_000,
        false => 0,
    };
    let id = r.header("x-subject-token").unwrap_or_default();
    if id.is_empty() {
        // Upstream asks for permission first.
        s.enforce(r, rule, &Target::new())?;
    }
    let token = s.tokens.validate(&s.db, &s.config, id, grace)?;
    let restricted = token
        .application_credential
        .as_ref()
        .is_some_and(|credential| credential.contains_key("access_rules"));
    let understood = r
        .header("openstack-identity-access-rules")
        .and_then(|v| v.parse::<f64>().ok())
        .is_some_and(|v| v >= 1.0);
    if restricted && !understood {
        return Err(Error::Missing("Failed to validate token".into()));
    }
    let about = json!({"user_id": token.payload.user_id, "user": {"domain": {"id": token.user["domain_id"]}}});
    s.enforce(r, rule, &Target::new().with("token", about))?;
    Ok(token)
}

fn validate(s: &Identity, r: &Request) -> Result<Response> {
    let token = subject(s, r, "identity:validate_token")?;
    Ok(with_token(
        StatusCode::OK,
        token.render(&s.db, wants_catalog(r))?,
        &token.id,
    ))
}

fn check(s: &Identity, r: &Request) -> Result<Response> {
    let token = subject(s, r, "identity:check_token")?;
    Ok(with_token(
        StatusCode::OK,
        token.render(&s.db, wants_catalog(r))?,
        &token.id,
    ))
}

fn revoke(s: &Identity, r: &Request) -> Result<Response> {
    let token = subject(s, r, "identity:revoke_token")?;
    let cascade = r.query.get("cascade").is_none_or(|text| bool_from_text(text, true));
    let audit_id = token.payload.audit_ids.first().map(String::as_str);
    s.write(|tx| {
        s.revoke(
            tx,
            Event {
                audit_id,
                ..Event::default()
            },
        )?;
        if cascade {
            s.revoke(
                tx,
                Event {
                    audit_chain_id: audit_id,
                    ..Event::default()
                },
            )?;
        }
        Ok(())
    })?;
    no_content()
}

fn list_projects(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_auth_projects", &Target::new())?;
    let refs = s.read(|tx| {
        let (ids, _) = s.reachable(tx, r.context().user_id())?;
        projects::get_many(tx, &ids)
    })?;
    collection(r, "projects", "projects", all(refs), None)
}

fn list_domains(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_auth_domains", &Target::new())?;
    let refs = s.read(|tx| {
        let (_, ids) = s.reachable(tx, r.context().user_id())?;
        projects::get_many(tx, &ids)
    })?;
    collection(
        r,
        "domains",
        "domains",
        all(refs.into_iter().map(projects::as_domain).collect()),
        None,
    )
}

fn list_system(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_auth_system", &Target::new())?;
    // As upstream: the roles of the user's groups do not count here, though a token can be had with them.
    let user = assignments::Actor::User(r.context().user_id().into());
    let roles = s.read(|tx| assignments::granted(tx, &user, &assignments::Target::System, false))?;
    let system: Vec<Value> = (!roles.is_empty()).then(|| json!({"all": true})).into_iter().collect();
    Ok(Response::json(
        StatusCode::OK,
        &json!({"system": system, "links": {"self": url(r, "auth/system")}}),
    ))
}

fn show_catalog(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_auth_catalog", &Target::new())?;
    let context = r.context();
    let Some(project) = context.project_id() else {
        return Err(Error::Forbidden(
            "A project-scoped token is required to produce a service catalog.".into(),
        ));
    };
    let catalog = s.read(|tx| catalog::catalog(tx, context.user_id(), Some(project)))?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"catalog": catalog, "links": {"self": url(r, "auth/catalog")}}),
    ))
}

fn list_events(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_revoke_events", &Target::new())?;
    let since = r.query.get("since").filter(|text| !text.is_empty());
    let since = since
        .map(|text| ::api::time::parse(text).ok_or_else(|| Error::Invalid(format!("invalidate date format {text}"))))
        .transpose()?;
    let events = s.read(|tx| revocations::list(tx, since))?;
    let links = json!({"next": null, "self": url(r, "OS-REVOKE/events"), "previous": null});
    Ok(Response::json(
        StatusCode::OK,
        &json!({"events": events, "links": links}),
    ))
}
