//! Error bodies as Python's WebOb makes them for Placement and Image: HTML for browsers and for clients that take anything, JSON for those that
//! ask for it, plain text for the rest.

use serde_json::{Value, json};

use crate::{Request, Response, StatusCode};

/// The kind of an error whose message stands behind WebOb's usual explanation instead of taking its place.
pub const DETAIL: &str = "webob.detail";

/// WebOb's title of a status.
pub fn title(status: StatusCode) -> &'static str {
    match status.as_u16() {
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        416 => "Request Range Not Satisfiable",
        _ => status.canonical_reason().unwrap_or("Unknown"),
    }
}

/// WebOb's sentence on a status.
pub fn explanation(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300 | 301 | 303 | 307 | 308 => "The resource has been moved to",
        401 => {
            "This server could not verify that you are authorized to access the document you requested. Either you \
             supplied the wrong credentials (e.g., bad password), or your browser does not understand how to supply \
             the credentials required."
        }
        403 => "Access was denied to this resource.",
        404 => "The resource could not be found.",
        408 => "The server has waited too long for the request to be sent by the client.",
        409 => "There was a conflict when trying to complete your request.",
        410 => "This resource is no longer available. No forwarding address is given.",
        411 => "Content-Length header required.",
        412 => "Request precondition failed.",
        413 => "The body of your request was too large for this server.",
        414 => "The request URI was too long for this server.",
        416 => "The Range requested is not available.",
        417 => "Expectation failed.",
        422 => "Unable to process the contained instructions",
        423 => "The resource is locked",
        428 => "This request is required to be conditional",
        429 => "The client has sent too many requests in a given amount of time",
        500 | 501 => "The server has either erred or is incapable of performing the requested operation.",
        503 => "The server is currently unavailable. Please try again at a later time.",
        507 => "There was not enough space to save the resource",
        _ => "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    }
}

/// The text of an error: the explanation, two line breaks and the detail, except for the statuses that have a form of their own.
fn body(status: StatusCode, explanation: &str, detail: &str, request: &Request, escape: fn(&str) -> String) -> String {
    let detail = escape(detail);
    match status.as_u16() {
        405 => format!("The method {} is not allowed for this resource. <br /><br />\n{detail}", request.method),
        406 => format!(
            "The resource could not be generated that was acceptable to your browser\n(content of type {}. <br /><br />\n{detail}",
            escape(request.header("accept").unwrap_or("${HTTP_ACCEPT}"))
        ),
        415 => format!(
            "The request media type {} is not supported by this server.\n<br /><br />\n{detail}",
            escape(request.header("content-type").unwrap_or("${CONTENT_TYPE}"))
        ),
        _ => format!("{}<br /><br />\n{detail}\n\n", escape(explanation)),
    }
}

fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            c => out.push(c),
        }
    }
    out
}

/// WebOb's `strip_tags`: line breaks become spaces, `<br>` becomes a line break, other tags go.
pub fn strip_tags(html: &str) -> String {
    let flat = html.replace('\n', " ").replace('\r', "");
    let mut out = String::with_capacity(flat.len());
    let mut rest = flat.as_str();
    while let Some(open) = rest.find('<') {
        let Some(close) = rest[open..].find('>') else { break };
        out.push_str(&rest[..open]);
        let tag = &rest[open..=open + close];
        if tag.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("<br")) {
            out.push('\n');
        }
        rest = &rest[open + close + 1..];
    }
    out.push_str(rest);
    out.replace("<!--", "").replace("-->", "")
}

/// WebOb's JSON body.
pub fn plain_json(text: &str, status: &str, title: &str) -> Value {
    json!({"message": text, "code": status, "title": title})
}

#[derive(PartialEq)]
enum Form {
    Html,
    Json,
    Plain,
}

/// Which of `text/html` and `application/json` the client likes better; HTML where it likes both the same.
fn accepted(header: Option<&str>) -> Form {
    let quality = |kind: &str, subtype: &str| -> f64 {
        let mut best = (0, 0.0);
        for range in header.unwrap_or("").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or("").to_ascii_lowercase();
            let q = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok()).unwrap_or(1.0);
            let precise = match media.split_once('/') {
                Some((k, s)) if k == kind && s == subtype => 3,
                Some((k, "*")) if k == kind => 2,
                Some(("*", "*")) => 1,
                _ => 0,
            };
            if precise > best.0 {
                best = (precise, q);
            }
        }
        best.1
    };
    let (html, json) = (quality("text", "html"), quality("application", "json"));
    match (html > 0.0, json > 0.0) {
        (false, false) => Form::Plain,
        _ if html >= json => Form::Html,
        _ => Form::Json,
    }
}

/// The answer for an error with the explanation (upstream's `explanation=`, by default [`explanation`]) and the detail (upstream's first argument,
/// empty for none). `json` makes the JSON body from the text, the status line (`404 Not Found`) and the title.
pub fn render(
    status: StatusCode,
    explanation: &str,
    detail: &str,
    request: &Request,
    json: impl FnOnce(&str, &str, &str) -> Value,
) -> Response {
    render_as(request.header("accept"), status, explanation, detail, request, json)
}

/// [`render`] as if the client had sent this `Accept` header.
pub fn render_as(
    accept: Option<&str>,
    status: StatusCode,
    explanation: &str,
    detail: &str,
    request: &Request,
    json: impl FnOnce(&str, &str, &str) -> Value,
) -> Response {
    let title = title(status);
    let line = format!("{} {title}", status.as_u16());
    match accepted(accept) {
        Form::Html => {
            let body = body(status, explanation, detail, request, escape_html);
            let html = format!(
                "<html>\n <head>\n  <title>{line}</title>\n </head>\n <body>\n  <h1>{line}</h1>\n  {body}\n </body>\n</html>"
            );
            Response::text(status, "text/html; charset=UTF-8", html)
        }
        Form::Json => {
            let body = body(status, explanation, detail, request, str::to_owned);
            Response::json(status, &json(&body, &line, title))
        }
        Form::Plain => {
            let body = strip_tags(&body(status, explanation, detail, request, str::to_owned));
            Response::text(status, "text/plain; charset=UTF-8", format!("{line}\n\n{body}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Body, Context, Method};

    fn text(accept: Option<&str>) -> String {
        let mut request = Request::internal(Method::GET, "/", None, Arc::new(Context::internal()));
        if let Some(accept) = accept {
            request.headers.insert("accept", accept.parse().unwrap());
        }
        let status = StatusCode::NOT_FOUND;
        let response = render(status, explanation(status), "No <image>", &request, plain_json);
        match response.body {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => String::new(),
        }
    }

    #[test]
    fn the_form_follows_the_accept_header() {
        assert_eq!(
            text(Some("*/*")),
            "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  \
             The resource could not be found.<br /><br />\nNo &lt;image&gt;\n\n\n </body>\n</html>"
        );
        assert_eq!(
            text(Some("application/json")),
            r#"{"message":"The resource could not be found.<br /><br />\nNo <image>\n\n","code":"404 Not Found","title":"Not Found"}"#
        );
        assert_eq!(text(None), "404 Not Found\n\nThe resource could not be found.\n\n No   ");
    }
}
