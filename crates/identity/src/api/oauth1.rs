//! `/v3/OS-OAUTH1`, and a user's access tokens.

use super::*;
use crate::model::schemas;
use crate::oauth1::{Header, request_token};
use crate::store::assignments::{self, Target as Place};
use crate::store::oauth1::{self as store, ACCESS_TOKENS, CONSUMERS, REQUEST_TOKENS};
use crate::store::revocations::Event;
use crate::store::{projects, roles};
use ::api::Method;
use database::now;
use rand::seq::IndexedRandom;

const PATH: &str = "OS-OAUTH1/consumers";
/// What a verifier is made of.
const VERIFIER: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes
        .get("/v3/OS-OAUTH1/consumers", list_consumers)
        .post("/v3/OS-OAUTH1/consumers", create_consumer);
    let consumer = "/v3/OS-OAUTH1/consumers/{consumer_id}";
    routes
        .get(consumer, show_consumer)
        .patch(consumer, update_consumer)
        .delete(consumer, delete_consumer);
    routes.public(Method::POST, "/v3/OS-OAUTH1/request_token", create_request_token);
    routes.public(Method::POST, "/v3/OS-OAUTH1/access_token", create_access_token);
    routes.put("/v3/OS-OAUTH1/authorize/{request_token_id}", authorize);
    routes.get("/v3/users/{user_id}/OS-OAUTH1/access_tokens", list_access_tokens);
    let token = "/v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}";
    routes.get(token, show_access_token).delete(token, delete_access_token);
    routes.get(
        "/v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles",
        list_roles,
    );
    routes.get(
        "/v3/users/{user_id}/OS-OAUTH1/access_tokens/{access_token_id}/roles/{role_id}",
        show_role,
    );
}

fn without_secret(mut consumer: Ref) -> Ref {
    consumer.remove("secret");
    consumer
}

fn list_consumers(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_consumers", &Target::new())?;
    let found = s.read(|tx| CONSUMERS.find_all(tx, "1 = 1", &[]))?;
    collection(
        r,
        "consumers",
        PATH,
        all(found.into_iter().map(without_secret).collect()),
        None,
    )
}

fn create_consumer(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:create_consumer", &Target::new())?;
    let consumer = normalized(&part(r, "consumer")?);
    schemas::check_part(&schemas::CONSUMER_CREATE, &consumer.clone().into())?;
    let mut consumer = with_new_id(consumer);
    consumer.insert("secret".into(), new_id().into());
    let consumer = s.write(|tx| {
        CONSUMERS.insert(tx, &consumer)?;
        CONSUMERS.get(tx, text(&consumer, "id"))
    })?;
    created(r, "consumer", PATH, consumer)
}

fn show_consumer(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_consumer", &Target::new())?;
    let consumer = s.read(|tx| CONSUMERS.get(tx, r.param("consumer_id")))?;
    ok(r, "consumer", PATH, without_secret(consumer))
}

fn update_consumer(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:update_consumer", &Target::new())?;
    let changes = part(r, "consumer")?;
    schemas::check_part(&schemas::CONSUMER_UPDATE, &changes.clone().into())?;
    let changes = normalized(&changes);
    let id = r.param("consumer_id");
    check_same_id(&changes, id)?;
    let consumer = s.write(|tx| {
        let mut consumer = CONSUMERS.get(tx, id)?;
        consumer.extend(changes.clone());
        CONSUMERS.update(tx, &consumer)?;
        CONSUMERS.get(tx, id)
    })?;
    ok(r, "consumer", PATH, without_secret(consumer))
}

fn delete_consumer(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_consumer", &Target::new())?;
    let id = r.param("consumer_id");
    s.write(|tx| {
        CONSUMERS.delete(tx, id)?;
        s.revoke(
            tx,
            Event {
                consumer_id: Some(id),
                ..Event::default()
            },
        )
    })?;
    no_content()
}

fn expiry(seconds: i64) -> Option<i64> {
    (seconds > 0).then(|| (now() / 1_000_000 + seconds) * 1_000_000)
}

/// The answers of OAuth's own steps are forms.
fn form(key: &str, secret: &str, expires_at: Option<i64>) -> Response {
    let mut text = format!("oauth_token={key}&oauth_token_secret={secret}");
    if let Some(at) = expires_at {
        text.push_str(&format!("&oauth_expires_at={}", ::api::time::iso8601_micros(at)));
    }
    Response::text(StatusCode::CREATED, "application/x-www-form-urlencoded", text)
}

fn create_request_token(s: &Identity, r: &Request) -> Result<Response> {
    let header = Header::of(r)?;
    let consumer_id = header.need("oauth_consumer_key")?;
    let project = r.header("requested-project-id").filter(|id| !id.is_empty());
    let project = project.ok_or_else(|| Error::expecting("Requested-Project-Id", "request"))?;
    let consumer = s.read(|tx| {
        projects::get(tx, project)?;
        CONSUMERS.get(tx, consumer_id)
    })?;
    header.check_signature(r, text(&consumer, "secret"), "")?;
    let expires_at = expiry(s.config.oauth1_request_token_duration);
    let token = json!({
        "id": new_id(), "request_secret": new_id(), "requested_project_id": project, "consumer_id": consumer_id, "expires_at": expires_at,
    });
    let token = token.as_object().cloned().unwrap_or_default();
    s.write(|tx| REQUEST_TOKENS.insert(tx, &token))?;
    Ok(form(text(&token, "id"), text(&token, "request_secret"), expires_at))
}

fn authorize(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:authorize_request_token", &Target::new())?;
    let wanted = body(r)?.get("roles").cloned().unwrap_or_else(|| json!([]));
    schemas::check_part(&schemas::AUTHORIZE, &wanted)?;
    let token = s.token(r)?;
    if token.is_delegated_or_trust() {
        return Err(Error::Forbidden(
            "Cannot authorize a request token with a token issued via delegation.".into(),
        ));
    }
    let verifier: String = VERIFIER
        .choose_multiple(&mut rand::rng(), 8)
        .map(|c| char::from(*c))
        .collect();
    s.write(|tx| {
        let mut request = request_token(tx, r.param("request_token_id"))?;
        let mut ids = Vec::new();
        for role in wanted.as_array().into_iter().flatten() {
            ids.push(match role["id"].as_str() {
                Some(id) => id.to_owned(),
                None => text(
                    &roles::unique_by_name(tx, role["name"].as_str().unwrap_or_default())?,
                    "id",
                )
                .to_owned(),
            });
        }
        let place = Place::Project(text(&request, "requested_project_id").into());
        let held = assignments::effective_roles(tx, &token.payload.user_id, &place, false)?;
        if ids.iter().any(|id| !held.contains(id)) {
            return Err(Error::Unauthorized(
                "authorizing user does not have role required".into(),
            ));
        }
        request.insert("authorizing_user_id".into(), token.payload.user_id.clone().into());
        request.insert("verifier".into(), verifier.clone().into());
        request.insert("role_ids".into(), ids.into());
        REQUEST_TOKENS.update(tx, &request)
    })?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"token": {"oauth_verifier": verifier}}),
    ))
}

fn create_access_token(s: &Identity, r: &Request) -> Result<Response> {
    let header = Header::of(r)?;
    let consumer_id = header.need("oauth_consumer_key")?;
    let request_id = header.need("oauth_token")?;
    let verifier = header.need("oauth_verifier")?;
    let refuse = |why: &str| Error::Unauthorized(why.into());
    let (request, consumer) = s.read(|tx| {
        let request = request_token(tx, request_id)?;
        let consumer = CONSUMERS
            .get(tx, consumer_id)
            .map_err(|_| refuse("Provided consumer does not exist."))?;
        Ok((request, consumer))
    })?;
    if text(&request, "consumer_id") != consumer_id {
        return Err(refuse("Provided consumer key does not match stored consumer key."));
    }
    if text(&request, "verifier") != verifier {
        return Err(refuse("Provided verifier does not match stored verifier"));
    }
    header.check_signature(r, text(&consumer, "secret"), text(&request, "request_secret"))?;
    if text(&request, "authorizing_user_id").is_empty() {
        return Err(refuse("Request Token does not have an authorizing user id."));
    }
    let expires_at = expiry(s.config.oauth1_access_token_duration);
    let token = s.write(|tx| store::exchange(tx, &request, expires_at))?;
    Ok(form(text(&token, "id"), text(&token, "access_secret"), expires_at))
}

fn check_not_delegated(s: &Identity, r: &Request) -> Result<()> {
    if s.token(r)?.is_delegated_or_trust() {
        return Err(Error::Forbidden(
            "Cannot manage OAuth access tokens with a token issued via delegation.".into(),
        ));
    }
    Ok(())
}

fn shown(r: &Request, mut token: Ref) -> Ref {
    token.remove("role_ids");
    token.remove("access_secret");
    let expires = token["expires_at"].as_i64().map(::api::time::iso8601_micros);
    token.insert("expires_at".into(), expires.into());
    let own = url(
        r,
        &format!(
            "users/{}/OS-OAUTH1/access_tokens/{}",
            text(&token, "authorizing_user_id"),
            text(&token, "id")
        ),
    );
    set_link(&mut token, "roles", format!("{own}/roles"));
    set_link(&mut token, "self", own);
    token
}

fn list_access_tokens(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_access_tokens", &Target::new())?;
    check_not_delegated(s, r)?;
    let found = s.read(|tx| store::access_tokens_of(tx, r.param("user_id")))?;
    let shown = found.into_iter().map(|token| shown(r, token)).collect();
    Ok(Response::json(
        StatusCode::OK,
        &linked(r, "access_tokens", all(shown), None),
    ))
}

/// The access token of the path, which must be this user's.
fn owned(tx: &mut database::Tx<'_>, r: &Request) -> Result<Ref> {
    let token = ACCESS_TOKENS.get(tx, r.param("access_token_id"))?;
    if text(&token, "authorizing_user_id") != r.param("user_id") {
        return Err(Error::Missing("Access token not found".into()));
    }
    Ok(token)
}

fn show_access_token(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_access_token", &Target::new())?;
    check_not_delegated(s, r)?;
    let token = s.read(|tx| owned(tx, r))?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"access_token": shown(r, token)}),
    ))
}

fn delete_access_token(s: &Identity, r: &Request) -> Result<Response> {
    // Upstream asks the rule of EC2 credentials here.
    s.enforce(r, "identity:ec2_delete_credential", &Target::new())?;
    check_not_delegated(s, r)?;
    s.write(|tx| {
        let token = ACCESS_TOKENS.get(tx, r.param("access_token_id"))?;
        if text(&token, "authorizing_user_id") != r.param("user_id") {
            return Err(Error::Unauthorized("User IDs do not match".into()));
        }
        ACCESS_TOKENS.delete(tx, text(&token, "id"))
    })?;
    no_content()
}

/// A role as it is shown with an access token.
fn brief(mut role: Ref) -> Ref {
    role.remove("description");
    role.remove("enabled");
    role
}

fn role_ids(token: &Ref) -> Vec<String> {
    token["role_ids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|id| id.as_str().map(Into::into))
        .collect()
}

fn list_roles(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_access_token_roles", &Target::new())?;
    let found = s.read(|tx| {
        let token = owned(tx, r)?;
        roles::ROLES.get_many(tx, &role_ids(&token))
    })?;
    collection(r, "roles", "roles", all(found.into_iter().map(brief).collect()), None)
}

fn show_role(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_access_token_role", &Target::new())?;
    let id = r.param("role_id");
    let role = s.read(|tx| {
        let token = ACCESS_TOKENS.get(tx, r.param("access_token_id"))?;
        if text(&token, "authorizing_user_id") != r.param("user_id") {
            return Err(Error::Unauthorized("User IDs do not match".into()));
        }
        if !role_ids(&token).iter().any(|held| held == id) {
            return Err(Error::not_found("role", id));
        }
        roles::ROLES.get(tx, id)
    })?;
    ok(r, "role", "roles", brief(role))
}
