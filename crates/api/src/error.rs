//! An error on its way to a client.

use crate::{Request, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use std::borrow::Cow;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What a handler answers instead of a response: a status, a text for the client, and for the log the cause.
/// Each service turns it into its own body with its [`ErrorFormat`].
#[derive(Debug, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// The service's own name of the kind of error (Networking's `NetworkNotFound`, Placement's `placement.concurrent_update`);
    /// empty where the status says it all.
    pub kind: Cow<'static, str>,
    /// What the client reads.
    pub message: String,
    /// Further data some formats carry.
    pub detail: Option<serde_json::Value>,
    /// Headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The cause, for the log alone.
    #[source]
    pub source: Option<Source>,
}

/// How a service shows errors.
pub trait ErrorFormat: Send + Sync {
    /// The answer for `error`.
    fn render(&self, error: &Error, request: &Request) -> Response;
}

/// The `kind` of the error for a path that no route has.
pub const NO_ROUTE: &str = "api.no_route";
/// The `kind` of the error for a path that has routes, but not for this method.
pub const NO_METHOD: &str = "api.no_method";
/// The `kind` of the error for a missing or invalid token.
pub const NO_TOKEN: &str = "api.no_token";

macro_rules! constructors {
    ($($(#[$meta:meta])* $name:ident => $status:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(message: impl Into<String>) -> Error { Error::new(StatusCode::$status, message) }
    )*};
}

impl Error {
    /// An error with this status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Error {
        Error { status, kind: Cow::Borrowed(""), message: message.into(), detail: None, headers: Vec::new(), source: None }
    }

    constructors! {
        /// 400.
        bad_request => BAD_REQUEST;
        /// 401.
        unauthorized => UNAUTHORIZED;
        /// 403.
        forbidden => FORBIDDEN;
        /// 404.
        not_found => NOT_FOUND;
        /// 405.
        method_not_allowed => METHOD_NOT_ALLOWED;
        /// 406.
        not_acceptable => NOT_ACCEPTABLE;
        /// 409.
        conflict => CONFLICT;
        /// 412.
        precondition_failed => PRECONDITION_FAILED;
        /// 413.
        too_large => PAYLOAD_TOO_LARGE;
        /// 415.
        unsupported_media_type => UNSUPPORTED_MEDIA_TYPE;
        /// 501.
        not_implemented => NOT_IMPLEMENTED;
        /// 503.
        unavailable => SERVICE_UNAVAILABLE;
    }

    /// 500; the cause goes to the log, never to the client.
    pub fn internal(source: impl Into<Source>) -> Error {
        let mut error = Error::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        error.source = Some(source.into());
        error
    }

    /// Sets the service's name for the kind of error.
    pub fn kind(mut self, kind: impl Into<Cow<'static, str>>) -> Error {
        self.kind = kind.into();
        self
    }

    /// Adds data for formats that carry it.
    pub fn detail(mut self, detail: serde_json::Value) -> Error {
        self.detail = Some(detail);
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Error {
        self.headers.push((name, value));
        self
    }

    /// Keeps the cause for the log.
    pub fn caused_by(mut self, source: impl Into<Source>) -> Error {
        self.source = Some(source.into());
        self
    }
}

impl From<database::Error> for Error {
    /// A full disk is the operator's to mend and is said as 507; everything else nobody foresaw is 500.
    fn from(source: database::Error) -> Error {
        let mut error = match source {
            database::Error::Full => Error::new(StatusCode::INSUFFICIENT_STORAGE, "The disk that holds the database is full."),
            _ => Error::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        };
        error.source = Some(Box::new(source));
        error
    }
}
