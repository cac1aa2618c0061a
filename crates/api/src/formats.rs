//! How each service shows errors.

use crate::error::{NO_METHOD, NO_ROUTE, NO_TOKEN};
use crate::{Error, ErrorFormat, Request, Response, StatusCode, webob};
use serde_json::json;

/// The URL that `WWW-Authenticate` points to.
fn challenge(response: Response, identity: &str) -> Response {
    response.header("www-authenticate", format!("Keystone uri=\"{identity}\""))
}

/// What keystonemiddleware answers for every service when a token is missing or not valid.
fn middleware_refusal(identity: &str) -> Response {
    let text = "The request you have made requires authentication.";
    let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": text}});
    challenge(Response::json(StatusCode::UNAUTHORIZED, &body), identity)
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        s => s.canonical_reason().unwrap_or("Error"),
    }
}

/// WebOb's form of an exception, for services that let it through: HTML, JSON or text as the client prefers.
pub fn webob(status: StatusCode, explanation: &str, request: &Request) -> Response {
    webob::render(status, explanation, "", request, webob::plain_json)
}

/// What Flask answers for a path that has no route.
const NO_SUCH_PAGE: &str = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n";

/// Keystone's form: `{"error": {"code", "message", "title"}}`.
pub struct Identity;

impl ErrorFormat for Identity {
    fn render(&self, error: &Error, request: &Request) -> Response {
        let message = match error.status {
            StatusCode::INTERNAL_SERVER_ERROR => "An unexpected error prevented the server from fulfilling your request.",
            _ => &error.message,
        };
        let mut body = json!({"error": {"code": error.status.as_u16(), "message": message, "title": title(error.status)}});
        // What an authentication plugin adds (`identity`).
        if let (Some(inner), Some(detail)) = (body["error"].as_object_mut(), error.detail.as_ref().and_then(|d| d.as_object())) {
            inner.extend(detail.clone());
        }
        // Paths and methods that are not there are answered by the web framework, not by Identity.
        let response = match &*error.kind {
            NO_ROUTE => Response::text(error.status, "text/html; charset=utf-8", NO_SUCH_PAGE),
            NO_METHOD => Response::json(error.status, &json!({"message": "The method is not allowed for the requested URL."})),
            _ => Response::json(error.status, &body),
        };
        match error.status {
            StatusCode::UNAUTHORIZED => challenge(response, &format!("{}/v3", request.base_url)).header("vary", "X-Auth-Token"),
            _ => response.header("vary", "X-Auth-Token"),
        }
    }
}

/// Nova's form: `{"itemNotFound": {"code", "message"}}`, the key following from the status (or from the error's kind).
pub struct Compute {
    /// Identity's URL.
    pub identity_url: String,
}

impl ErrorFormat for Compute {
    fn render(&self, error: &Error, request: &Request) -> Response {
        match &*error.kind {
            NO_TOKEN => return middleware_refusal(&self.identity_url),
            NO_ROUTE | NO_METHOD => return webob(error.status, &error.message, request),
            _ => {}
        }
        let key = match error.status.as_u16() {
            _ if !error.kind.is_empty() => &*error.kind,
            400 => "badRequest",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "itemNotFound",
            405 => "badMethod",
            409 => "conflictingRequest",
            413 | 429 => "overLimit",
            415 => "badMediaType",
            501 => "notImplemented",
            503 => "serviceUnavailable",
            _ => "computeFault",
        };
        let message = match error.status {
            StatusCode::INTERNAL_SERVER_ERROR => "Unexpected API Error. The operator finds the cause in the log under this request's id.",
            _ => &error.message,
        };
        let mut inner = json!({"code": error.status.as_u16(), "message": message});
        if let Some(serde_json::Value::Object(more)) = &error.detail
            && let Some(inner) = inner.as_object_mut()
        {
            inner.extend(more.clone());
        }
        Response::json(error.status, &json!({key: inner}))
    }
}

/// Neutron's form: `{"NeutronError": {"type", "message", "detail"}}`.
pub struct Network {
    /// Identity's URL.
    pub identity_url: String,
}

impl ErrorFormat for Network {
    fn render(&self, error: &Error, request: &Request) -> Response {
        let (kind, message) = match &*error.kind {
            NO_TOKEN => return middleware_refusal(&self.identity_url),
            NO_ROUTE | NO_METHOD => return webob(error.status, &error.message, request),
            _ if error.status == StatusCode::INTERNAL_SERVER_ERROR => {
                ("HTTPInternalServerError", "Request Failed: internal server error while processing your request.")
            }
            "" => (default_type(error.status), error.message.as_str()),
            kind => (kind, error.message.as_str()),
        };
        let detail = error.detail.clone().unwrap_or_else(|| json!(""));
        Response::json(error.status, &json!({"NeutronError": {"type": kind, "message": message, "detail": detail}}))
    }
}

fn default_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "HTTPBadRequest",
        403 => "HTTPForbidden",
        404 => "HTTPNotFound",
        409 => "HTTPConflict",
        412 => "HTTPPreconditionFailed",
        413 => "HTTPRequestEntityTooLarge",
        501 => "HTTPNotImplemented",
        503 => "HTTPServiceUnavailable",
        _ => "HTTPClientError",
    }
}

/// Glance's form: WebOb's HTML.
pub struct Image {
    /// Identity's URL.
    pub identity_url: String,
}

impl ErrorFormat for Image {
    fn render(&self, error: &Error, request: &Request) -> Response {
        match &*error.kind {
            NO_TOKEN => middleware_refusal(&self.identity_url),
            webob::DETAIL => {
                webob::render(error.status, webob::explanation(error.status), &error.message, request, webob::plain_json)
            }
            _ => webob(error.status, &error.message, request),
        }
    }
}

/// Placement's form: `{"errors": [{"status", "request_id", "title", "detail", "code"}]}`, the code from 1.23 on.
pub struct Placement {
    /// Identity's URL.
    pub identity_url: String,
}

impl ErrorFormat for Placement {
    fn render(&self, error: &Error, request: &Request) -> Response {
        if error.kind == NO_TOKEN {
            return middleware_refusal(&self.identity_url);
        }
        let detail = match &*error.kind {
            NO_ROUTE => "",
            _ => error.message.as_str(),
        };
        // Placement reads an absent or indifferent Accept header as a wish for JSON.
        let accept = request.header("accept").filter(|accept| !matches!(*accept, "" | "*/*")).unwrap_or("application/json");
        let explanation = webob::explanation(error.status);
        webob::render_as(Some(accept), error.status, explanation, detail, request, |text, _, title| {
            let mut one = json!({
                "status": error.status.as_u16(), "title": title, "detail": webob::strip_tags(text), "request_id": request.id,
            });
            if request.version >= crate::Version(1, 23) {
                let undefined = error.kind.is_empty() || error.kind.starts_with("api.");
                one["code"] = json!(if undefined { "placement.undefined_code" } else { &*error.kind });
            }
            if let (Some(serde_json::Value::Object(more)), Some(one)) = (&error.detail, one.as_object_mut()) {
                one.extend(more.clone());
            }
            json!({"errors": [one]})
        })
    }
}
