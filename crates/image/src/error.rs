//! What can go wrong in Image.

use api::webob::DETAIL;

use crate::model::Refusal;
use crate::model::image::NoTransition;

/// An error of the service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage of records failed.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The storage of data failed.
    #[error("storing the data of an image: {0}")]
    Data(#[from] std::io::Error),
    /// There is no such image, or none that the caller may see.
    #[error("No image found with ID {0}")]
    NotFound(String),
    /// The request is against a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An answer that was made up already.
    #[error(transparent)]
    Answer(#[from] api::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<Refusal> for api::Error {
    fn from(refusal: Refusal) -> api::Error {
        use api::Error;
        match refusal {
            Refusal::Invalid(text) => Error::bad_request(text),
            Refusal::Forbidden(text) => Error::forbidden(text),
            Refusal::ForbiddenDetail(text) => Error::forbidden(text).kind(DETAIL),
            Refusal::Conflict(text) => Error::conflict(text),
            Refusal::ConflictDetail(text) => Error::conflict(text).kind(DETAIL),
            Refusal::TooMuch(text) => Error::too_large(text),
            Refusal::Media(text) => Error::unsupported_media_type(text).kind(DETAIL),
        }
    }
}

impl From<Error> for api::Error {
    fn from(error: Error) -> api::Error {
        match error {
            Error::Database(error) => error.into(),
            Error::Refused(refusal) => refusal.into(),
            Error::Answer(error) => error,
            Error::NotFound(_) => api::Error::not_found(error.to_string()),
            Error::Data(error) => match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    api::Error::too_large(format!("Image storage media is full: {error}")).caused_by(error)
                }
                std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                    api::Error::unavailable(format!("Insufficient permissions on image storage media: {error}"))
                        .caused_by(error)
                }
                _ => api::Error::internal(error),
            },
        }
    }
}

impl From<NoTransition> for Refusal {
    fn from(reason: NoTransition) -> Refusal {
        match reason {
            NoTransition::States(text) => Refusal::Conflict(text),
            NoTransition::Formats(text) => Refusal::Invalid(text),
        }
    }
}
