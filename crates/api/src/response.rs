//! An answer.

use crate::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, IntoHeaderName};
use http_body_util::combinators::UnsyncBoxBody;
use serde::Serialize;

/// An answer to a client.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
}

/// The body of an answer.
pub enum Body {
    /// None.
    Empty,
    /// All of it.
    Full(Bytes),
    /// Piece by piece, for what does not fit in memory.
    Stream(UnsyncBoxBody<Bytes, std::io::Error>),
}

impl Response {
    /// Only a status.
    pub fn empty(status: StatusCode) -> Response {
        Response { status, headers: HeaderMap::new(), body: Body::Empty }
    }

    /// A JSON body.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(bytes) => Response::bytes(status, "application/json", bytes),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Response::empty(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// A text body of the given media type.
    pub fn text(status: StatusCode, content_type: &'static str, text: impl Into<String>) -> Response {
        Response::bytes(status, content_type, text.into().into_bytes())
    }

    /// A body of the given media type.
    pub fn bytes(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
        let mut response = Response { status, headers: HeaderMap::new(), body: Body::Full(bytes.into()) };
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// A body that is sent as it is produced.
    pub fn stream(status: StatusCode, content_type: &'static str, body: UnsyncBoxBody<Bytes, std::io::Error>) -> Response {
        let mut response = Response { status, headers: HeaderMap::new(), body: Body::Stream(body) };
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// Sets a header; a value that is no header text is left out.
    pub fn header(mut self, name: impl IntoHeaderName, value: impl AsRef<str>) -> Response {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.insert(name, value);
        }
        self
    }
}
