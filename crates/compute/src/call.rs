//! What every operation of the Compute API shares: microversion window, schema checks, policy.

use std::sync::Arc;

use api::{Context, Error, Method, Request, Response, Routes, StatusCode, Version};
use serde_json::Value;

use crate::Compute;

/// Result of handlers.
pub(crate) type Result<T = Response, E = Error> = std::result::Result<T, E>;

/// nova.conf `[api] max_limit`.
pub(crate) const MAX_LIMIT: u64 = 1000;

/// A request whose version, query and body have been checked.
pub(crate) struct Call<'a> {
    pub(crate) request: &'a Request,
    /// The body; `null` where there is none.
    pub(crate) body: Value,
    /// The query parameters that count, in order.
    pub(crate) query: Vec<(String, String)>,
}

impl Call<'_> {
    pub(crate) fn context(&self) -> &Arc<Context> {
        self.request.context()
    }

    pub(crate) fn project(&self) -> &str {
        self.request.context().project_id().unwrap_or_default()
    }

    pub(crate) fn user(&self) -> &str {
        self.request.context().user_id()
    }

    pub(crate) fn param(&self, name: &str) -> &str {
        self.request.param(name)
    }

    /// Whether the client speaks at least 2.`minor`.
    pub(crate) fn at_least(&self, minor: u16) -> bool {
        self.request.version >= Version(2, minor)
    }

    /// The last value of a query parameter, as webob's `params[...]` gives it.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    pub(crate) fn query_all<'b>(&'b self, name: &'b str) -> impl Iterator<Item = &'b str> + 'b {
        self.query
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// `limit` (at most [`MAX_LIMIT`]) and `marker`.
    pub(crate) fn paging(&self) -> Result<(u64, Option<&str>)> {
        let limit = match self.query("limit") {
            None => MAX_LIMIT,
            Some(text) => integer(text, "limit")?.min(MAX_LIMIT),
        };
        Ok((limit, self.query("marker")))
    }

    /// nova.api.openstack.common.limited: `limit` and `offset` on a list in memory.
    pub(crate) fn limited<T>(&self, items: Vec<T>) -> Result<Vec<T>> {
        let number = |name| self.query(name).map(|text| integer(text, name)).transpose();
        let offset = number("offset")?.unwrap_or(0);
        let limit = match number("limit")? {
            None | Some(0) => MAX_LIMIT,
            Some(limit) => limit.min(MAX_LIMIT),
        };
        Ok(items.into_iter().skip(offset as usize).take(limit as usize).collect())
    }

    /// The `next` link of a page, where there may be one.
    pub(crate) fn next_link(&self, collection: &str, count: usize, last: Option<&str>) -> Result<Option<Value>> {
        let (limit, _) = self.paging()?;
        let (Some(last), true) = (last, limit > 0 && count as u64 == limit) else {
            return Ok(None);
        };
        let query = self.request.query.rewritten(|pairs| {
            pairs.retain(|(name, _)| name != "marker");
            pairs.push(("marker".into(), last.into()));
            pairs.sort();
        });
        let href = self.request.url(&format!("/v2.1/{collection}?{query}"));
        Ok(Some(serde_json::json!([{"rel": "next", "href": href}])))
    }

    /// `self` and `bookmark`.
    pub(crate) fn links(&self, collection: &str, id: &str) -> Value {
        serde_json::json!([
            {"rel": "self", "href": self.request.url(&format!("/v2.1/{collection}/{id}"))},
            {"rel": "bookmark", "href": self.bookmark(collection, id)},
        ])
    }

    pub(crate) fn bookmark(&self, collection: &str, id: &str) -> String {
        self.request.url(&format!("/{collection}/{id}"))
    }
}

fn integer(text: &str, name: &str) -> Result<u64> {
    text.trim().parse::<u64>().map_err(|_| {
        let reason = if text.trim().starts_with('-') {
            "must be >= 0"
        } else {
            "must be an integer"
        };
        Error::bad_request(format!("Invalid input received: {name} {reason}"))
    })
}

pub(crate) type Handler = fn(&Compute, &Call) -> Result;

/// The operations of the service, as they are put together.
pub(crate) struct Table {
    routes: Routes<Compute>,
    actions: Vec<(&'static str, Vec<Action>)>,
}

struct Action {
    name: &'static str,
    min: u16,
    max: u16,
    handler: Handler,
}

/// No upper end of the microversions.
pub(crate) const NEWEST: u16 = 9999;

/// What a client sees of something that its microversion does not have.
pub(crate) fn no_such_version() -> Error {
    Error::not_found("The resource could not be found.")
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            routes: Routes::new(),
            actions: Vec::new(),
        }
    }

    /// An operation of microversions 2.`min` to 2.`max`. `path` begins after `/v2.1`.
    pub(crate) fn between(
        &mut self,
        method: Method,
        path: &'static str,
        (min, max): (u16, u16),
        handler: Handler,
    ) -> &mut Self {
        let query_key = format!("{method} {path} query");
        let body_key = format!("{method} {path} body");
        let has_body = method == Method::POST || method == Method::PUT;
        let run = move |compute: &Compute, request: &Request| {
            if request.version < Version(2, min) || request.version > Version(2, max) {
                return Err(no_such_version());
            }
            let query = compute.schemas.query(&query_key, request.version, &request.query)?;
            let body = if has_body { parse(request)? } else { Value::Null };
            if has_body {
                compute.schemas.body(&body_key, request.version, &body)?;
            }
            handler(compute, &Call { request, body, query })
        };
        let full: &'static str = Box::leak(format!("/v2.1{path}").into_boxed_str());
        match method {
            Method::GET => self.routes.get(full, run),
            Method::POST => self.routes.post(full, run),
            Method::PUT => self.routes.put(full, run),
            _ => self.routes.delete(full, run),
        };
        self
    }

    pub(crate) fn get(&mut self, path: &'static str, handler: Handler) -> &mut Self {
        self.between(Method::GET, path, (1, NEWEST), handler)
    }

    pub(crate) fn post(&mut self, path: &'static str, handler: Handler) -> &mut Self {
        self.between(Method::POST, path, (1, NEWEST), handler)
    }

    pub(crate) fn put(&mut self, path: &'static str, handler: Handler) -> &mut Self {
        self.between(Method::PUT, path, (1, NEWEST), handler)
    }

    pub(crate) fn delete(&mut self, path: &'static str, handler: Handler) -> &mut Self {
        self.between(Method::DELETE, path, (1, NEWEST), handler)
    }

    /// An action of `POST path`, picked by the only key of the body.
    pub(crate) fn action(
        &mut self,
        path: &'static str,
        name: &'static str,
        (min, max): (u16, u16),
        handler: Handler,
    ) -> &mut Self {
        let action = Action {
            name,
            min,
            max,
            handler,
        };
        match self.actions.iter_mut().find(|(p, _)| *p == path) {
            Some((_, list)) => list.push(action),
            None => self.actions.push((path, vec![action])),
        }
        self
    }

    pub(crate) fn public(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(&Compute, &Request) -> Result + Send + Sync + 'static,
    ) -> &mut Self {
        self.routes.public(method, path, handler);
        self
    }

    pub(crate) fn finish(mut self) -> Routes<Compute> {
        for (path, actions) in std::mem::take(&mut self.actions) {
            let full: &'static str = Box::leak(format!("/v2.1{path}").into_boxed_str());
            self.routes
                .post(full, move |compute: &Compute, request: &Request| -> Result {
                    let body = parse(request)?;
                    let Value::Object(map) = &body else {
                        return Err(no_such_version());
                    };
                    let mut keys = map.keys();
                    let (Some(name), None) = (keys.next(), keys.next()) else {
                        return Err(malformed());
                    };
                    let Some(action) = actions.iter().find(|a| a.name == name) else {
                        return Err(Error::bad_request(format!("There is no such action: {name}")));
                    };
                    if request.version < Version(2, action.min) || request.version > Version(2, action.max) {
                        return Err(no_such_version());
                    }
                    compute
                        .schemas
                        .body(&format!("{path} {name} body"), request.version, &body)?;
                    let query = request
                        .query
                        .iter()
                        .map(|(n, v)| (n.to_owned(), v.to_owned()))
                        .collect();
                    (action.handler)(compute, &Call { request, body, query })
                });
        }
        self.routes
    }
}

fn malformed() -> Error {
    Error::bad_request("Malformed request body")
}

fn parse(request: &Request) -> Result<Value> {
    if request.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&request.body).map_err(|_| malformed())
}

pub(crate) fn ok(value: Value) -> Result {
    Ok(Response::json(StatusCode::OK, &value))
}

pub(crate) fn accepted() -> Result {
    Ok(Response::empty(StatusCode::ACCEPTED))
}

pub(crate) fn no_content() -> Result {
    Ok(Response::empty(StatusCode::NO_CONTENT))
}

impl Compute {
    /// May the caller do this to something of `project` (and `user`, where one is named)?
    pub(crate) fn allow(&self, call: &Call, rule: &str, project: &str, user: Option<&str>) -> Result<()> {
        let target: [(&str, Option<&str>); 2] = [("project_id", Some(project)), ("user_id", user)];
        self.policy
            .check(rule, &target, &call.context().credentials)
            .map_err(|denied| refused(&denied))
    }

    /// As [`Compute::allow`], the target being the caller's own project.
    pub(crate) fn allow_own(&self, call: &Call, rule: &str) -> Result<()> {
        self.allow(call, rule, call.project(), Some(call.user()))
    }

    /// As [`Compute::allow`], the target having nothing: rules of an owner do not hold.
    pub(crate) fn allow_bare(&self, call: &Call, rule: &str) -> Result<()> {
        self.policy
            .check(rule, &(), &call.context().credentials)
            .map_err(|denied| refused(&denied))
    }

    /// A yes or no for what is hidden rather than refused.
    pub(crate) fn permits(&self, call: &Call, rule: &str, project: &str) -> bool {
        let target: [(&str, Option<&str>); 2] = [("project_id", Some(project)), ("user_id", Some(call.user()))];
        self.policy.allows(rule, &target, &call.context().credentials)
    }
}

/// nova.exception.PolicyNotAuthorized; a wrong scope reads the same with upstream's enforcement.
fn refused(denied: &policy::Denied) -> Error {
    Error::forbidden(format!("Policy doesn't allow {} to be performed.", denied.rule()))
}
