//! What Identity answers when it cannot do what was asked, with upstream's texts.

use api::StatusCode;
use serde_json::json;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that ends a request early. `Display` is the text that the client reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object that is not there. 404.
    #[error("Could not find {what}: {id}.")]
    NotFound {
        /// The kind of object, as upstream writes it: `user`, `Identity Provider`.
        what: &'static str,
        /// The id (or name) asked for.
        id: String,
    },
    /// A 404 with a text of its own.
    #[error("{0}")]
    Missing(String),
    /// Something that must be in the request is not. 400.
    #[error(
        "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error."
    )]
    Expecting {
        /// What is missing.
        attribute: String,
        /// Where it should be.
        target: String,
    },
    /// A 400 with a text of its own.
    #[error("{0}")]
    Invalid(String),
    /// The policy (or a rule above it) does not allow the action. 403.
    #[error("You are not authorized to perform the requested action: {0}.")]
    Action(String),
    /// A 403 whose text the client may read.
    #[error("{0}")]
    Refused(String),
    /// A 403 whose reason only the log gets.
    #[error("You are not authorized to perform the requested action.")]
    Forbidden(String),
    /// A 401 whose reason only the log gets.
    #[error("The request you have made requires authentication.")]
    Unauthorized(String),
    /// A 401 whose text the client may read.
    #[error("{0}")]
    Rejected(String),
    /// An authentication method this cloud does not have. 401 with the list of those it has.
    #[error("Attempted to authenticate with an unsupported method.")]
    UnsupportedMethod(&'static [&'static str]),
    /// The object would clash with another. 409.
    #[error("Conflict occurred attempting to store {what} - {details}.")]
    Conflict {
        /// The kind of object.
        what: &'static str,
        /// With what it clashes.
        details: String,
    },
    /// The API of PKI tokens. 410.
    #[error("This API is no longer available due to the removal of support for PKI tokens.")]
    Gone,
    /// The database failed.
    #[error("An unexpected error prevented the server from fulfilling your request.")]
    Database(#[from] database::Error),
    /// Something of the server's own failed: keys, hashing.
    #[error("An unexpected error prevented the server from fulfilling your request.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// `Could not find what: id.`
    pub fn not_found(what: &'static str, id: impl Into<String>) -> Error {
        Error::NotFound { what, id: id.into() }
    }

    /// `Expecting to find attribute in target. …`
    pub fn expecting(attribute: impl Into<String>, target: impl Into<String>) -> Error {
        Error::Expecting {
            attribute: attribute.into(),
            target: target.into(),
        }
    }

    /// An internal failure with its cause.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Internal(source.into())
    }

    /// Whether this is a 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. } | Error::Missing(_))
    }

    fn status(&self) -> StatusCode {
        match self {
            Error::NotFound { .. } | Error::Missing(_) => StatusCode::NOT_FOUND,
            Error::Expecting { .. } | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Action(_) | Error::Refused(_) | Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Unauthorized(_) | Error::Rejected(_) | Error::UnsupportedMethod(_) => StatusCode::UNAUTHORIZED,
            Error::Conflict { .. } => StatusCode::CONFLICT,
            Error::Gone => StatusCode::GONE,
            Error::Database(_) | Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<policy::Denied> for Error {
    fn from(denied: policy::Denied) -> Error {
        Error::Action(denied.rule().to_owned())
    }
}

impl From<Error> for api::Error {
    fn from(error: Error) -> api::Error {
        match &error {
            Error::Unauthorized(reason) | Error::Forbidden(reason) => tracing::debug!(%reason, "refused"),
            _ => {}
        }
        let answer = api::Error::new(error.status(), error.to_string());
        match error {
            Error::Database(source) => api::Error::from(source),
            Error::Internal(source) => api::Error {
                source: Some(source),
                ..answer
            },
            Error::UnsupportedMethod(methods) => answer.detail(json!({"identity": {"methods": methods}})),
            _ => answer,
        }
    }
}
