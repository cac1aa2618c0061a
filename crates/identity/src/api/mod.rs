//! Routes and what their handlers share: bodies, targets of policy rules, filters, links.

mod application_credentials;
mod auth;
mod catalog;
mod credentials;
mod discovery;
mod domain_config;
mod domains;
mod ec2;
mod endpoint_filter;
mod federation;
mod grants;
mod groups;
mod limits;
mod oauth1;
mod policies;
mod projects;
mod role_assignments;
mod roles;
mod trusts;
mod users;

use crate::store::{Filter, Hints, Page, Ref, new_id, text};
use crate::tokens::Token;
use crate::{Error, Identity, Result};
use ::api::schema::Schema;
use ::api::{Request, Response, Routes, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// All of Identity's routes.
pub fn routes() -> Routes<Identity> {
    let mut routes = Routes::new();
    for add in [
        discovery::routes,
        auth::routes,
        users::routes,
        groups::routes,
        projects::routes,
        domains::routes,
        domain_config::routes,
        roles::routes,
        grants::routes,
        role_assignments::routes,
        catalog::routes,
        endpoint_filter::routes,
        policies::routes,
        credentials::routes,
        ec2::routes,
        application_credentials::routes,
        trusts::routes,
        oauth1::routes,
        limits::routes,
        federation::routes,
    ] {
        add(&mut routes);
    }
    routes
}

/// The body as an object; an absent one is empty.
fn body(request: &Request) -> Result<Ref> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    let kind = request.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.is_empty() && kind != "application/json" && !(kind.starts_with("application/") && kind.ends_with("+json"))
    {
        return Err(Error::expecting("application/json", "Content-Type header"));
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(body)) => Ok(body),
        _ => Err(Error::expecting("valid JSON", "request body")),
    }
}

/// The object under `key` of a body that meets the schema.
fn checked(request: &Request, schema: &Schema, key: &str) -> Result<Ref> {
    let body = Value::Object(body(request)?);
    crate::model::schemas::check(schema, &body)?;
    Ok(body[key].as_object().cloned().unwrap_or_default())
}

/// The object under `key` of a body, unchecked.
fn part(request: &Request, key: &str) -> Result<Ref> {
    Ok(body(request)?
        .get(key)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default())
}

/// The list under `key` of a body that meets the schema.
fn checked_list(request: &Request, schema: &Schema, key: &str) -> Result<Vec<Ref>> {
    let body = Value::Object(body(request)?);
    crate::model::schemas::check(schema, &body)?;
    Ok(body[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(normalized)
        .collect())
}

/// Checks the query as an object of texts, the first of each name.
fn check_query(request: &Request, schema: &Schema) -> Result<()> {
    let mut query = Map::new();
    for (name, value) in request.query.iter() {
        query.entry(name).or_insert_with(|| value.into());
    }
    crate::model::schemas::check(schema, &Value::Object(query))
}

/// Upstream turns colons and dashes in attribute names of new objects into underscores.
fn normalized(object: &Ref) -> Ref {
    object
        .iter()
        .map(|(name, value)| (name.replace([':', '-'], "_"), value.clone()))
        .collect()
}

/// The object with a new id.
fn with_new_id(mut object: Ref) -> Ref {
    object.insert("id".into(), new_id().into());
    object
}

/// # Errors
/// 400 where the body has another id than the path.
fn check_same_id(object: &Ref, id: &str) -> Result<()> {
    match object.get("id") {
        Some(other) if !other.is_null() && other.as_str() != Some(id) => Err(Error::Invalid("Cannot change ID".into())),
        _ => Ok(()),
    }
}

/// What a policy rule is about.
#[derive(Default)]
struct Target(Map<String, Value>);

impl Target {
    fn new() -> Target {
        Target::default()
    }

    /// `target.name`.
    fn with(mut self, name: &str, object: impl Into<Value>) -> Target {
        let target = self.0.entry("target").or_insert_with(|| json!({}));
        target[name] = object.into();
        self
    }

    /// `target.name`, where the object is there.
    fn maybe(self, name: &str, object: Result<Ref>) -> Result<Target> {
        match object {
            Ok(object) => Ok(self.with(name, object)),
            Err(error) if error.is_not_found() => Ok(self),
            Err(error) => Err(error),
        }
    }

    /// A parameter of the path, by name alone.
    fn arg(mut self, name: &str, value: &str) -> Target {
        self.0.insert(name.into(), value.into());
        self
    }
}

impl Identity {
    /// # Errors
    /// 403 with the rule's name.
    fn enforce(&self, request: &Request, rule: &str, target: &Target) -> Result<()> {
        Ok(self.policy.check(rule, &target.0, &request.context().credentials)?)
    }

    /// The caller's token with all that stands behind it.
    fn token(&self, request: &Request) -> Result<Arc<Token>> {
        let id = &request.context().token;
        self.tokens
            .validate(&self.db, &self.config, id, 0)
            .map_err(|error| match error {
                Error::Database(_) | Error::Internal(_) => error,
                other => Error::Unauthorized(other.to_string()),
            })
    }

    /// Filters and paging of a list. `paged`: the list has markers, and is never longer than `max_db_limit`.
    fn hints(&self, request: &Request, known: &[&str], paged: bool) -> Result<Hints> {
        let mut hints = Hints::default();
        for (name, value) in request.query.iter() {
            if known.contains(&name) {
                hints = hints.equals(name, Some(value));
                continue;
            }
            let Some((base, comparator)) = name.split_once("__").filter(|(base, _)| known.contains(base)) else {
                continue;
            };
            let insensitive = comparator.starts_with('i');
            hints.filters.push(Filter {
                name: base.into(),
                value: Some(value.into()),
                comparator: comparator.strip_prefix('i').unwrap_or(comparator).into(),
                case_sensitive: !insensitive,
            });
        }
        let asked = request.query.get("limit").filter(|text| !text.is_empty());
        let asked: Option<i64> = asked
            .map(|text| {
                text.trim()
                    .parse()
                    .map_err(|_| Error::Invalid(format!("invalid literal for int() with base 10: '{text}'")))
            })
            .transpose()?;
        if asked.is_some_and(|limit| limit < 0) {
            return Err(Error::Invalid("limit must not be negative".into()));
        }
        let most = self.config.max_db_limit;
        hints.limit = asked
            .filter(|limit| *limit > 0)
            .map(|limit| (limit as usize).min(most))
            .or(self.config.list_limit);
        if paged {
            hints.marker = request
                .query
                .get("marker")
                .filter(|text| !text.is_empty())
                .map(Into::into);
            hints.full_is_truncated = hints.limit.is_some() && !hints.filters.is_empty();
        }
        Ok(hints)
    }
}

/// An absolute URL below `/v3`.
fn url(request: &Request, path: &str) -> String {
    format!("{}/v3/{}", request.base_url, path.trim_matches('/'))
}

/// Adds `links.self`.
fn link(request: &Request, collection: &str, object: &mut Ref) {
    let own = url(request, &format!("{collection}/{}", text(object, "id")));
    set_link(object, "self", own);
}

fn set_link(object: &mut Ref, name: &str, href: String) {
    match object.get_mut("links") {
        Some(Value::Object(links)) => {
            links.insert(name.into(), href.into());
        }
        _ => {
            object.insert("links".into(), json!({name: href}));
        }
    }
}

/// `{member: {…}}` with its link.
fn member(request: &Request, status: StatusCode, name: &str, collection: &str, mut object: Ref) -> Response {
    link(request, collection, &mut object);
    Response::json(status, &json!({name: object}))
}

fn ok(request: &Request, name: &str, collection: &str, object: Ref) -> Result<Response> {
    Ok(member(request, StatusCode::OK, name, collection, object))
}

fn created(request: &Request, name: &str, collection: &str, object: Ref) -> Result<Response> {
    Ok(member(request, StatusCode::CREATED, name, collection, object))
}

fn no_content() -> Result<Response> {
    Ok(Response::empty(StatusCode::NO_CONTENT))
}

/// `{collection: […], links: {…}}`, each with its link under `path`.
fn collection(request: &Request, name: &str, path: &str, page: Page, limit: Option<usize>) -> Result<Response> {
    Ok(Response::json(
        StatusCode::OK,
        &collection_value(request, name, path, page, limit),
    ))
}

fn collection_value(request: &Request, name: &str, path: &str, mut page: Page, limit: Option<usize>) -> Value {
    for object in &mut page.refs {
        link(request, path, object);
    }
    linked(request, name, page, limit)
}

/// A collection whose objects have their links already.
fn linked(request: &Request, name: &str, page: Page, limit: Option<usize>) -> Value {
    let next = match (page.truncated, page.refs.last(), limit) {
        (true, Some(last), Some(limit)) => {
            let query = request.query.rewritten(|pairs| {
                for (name, value) in [("marker", text(last, "id").to_owned()), ("limit", limit.to_string())] {
                    match pairs.iter_mut().find(|(n, _)| n == name) {
                        Some((_, old)) => *old = value,
                        None => pairs.push((name.into(), value)),
                    }
                }
            });
            Value::String(format!("{}{}?{query}", request.base_url, request.path))
        }
        _ => Value::Null,
    };
    let mut own = format!("{}{}", request.base_url, request.path.trim_end_matches('/'));
    if !request.query.is_empty() {
        own.push('?');
        own.push_str(request.query.raw());
    }
    let mut body = json!({name: page.refs, "links": {"next": next, "self": own, "previous": null}});
    if page.truncated {
        body["truncated"] = true.into();
    }
    body
}

/// A whole list.
fn all(refs: Vec<Ref>) -> Page {
    Page { refs, truncated: false }
}

/// Whether a parameter that needs no value is set: there, and not `0`.
fn is_set(request: &Request, name: &str) -> bool {
    request.query.get(name).is_some_and(|value| value != "0")
}

/// The domain of a domain-scoped token.
fn domain_scope(request: &Request) -> Option<&str> {
    request.context().credentials.domain_id.as_deref()
}

/// A new object of a domain that was not named belongs to the token's, else to the default one.
fn with_domain(identity: &Identity, request: &Request, mut object: Ref) -> Ref {
    if text(&object, "domain_id").is_empty() {
        let domain = domain_scope(request)
            .unwrap_or(&identity.config.default_domain_id)
            .to_owned();
        object.insert("domain_id".into(), domain.into());
    }
    object
}
