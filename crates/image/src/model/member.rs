//! A project that an image is shared with.

use super::Refusal;

/// A member of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The image.
    pub image_id: String,
    /// The project.
    pub member: String,
    /// `pending`, `accepted` or `rejected`: whether the project wants to see the image in its lists.
    pub status: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
}

/// # Errors
/// For a word that is no state of a member.
pub fn check_status(status: &str) -> Result<(), Refusal> {
    if matches!(status, "pending" | "accepted" | "rejected") {
        return Ok(());
    }
    let text = "Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\".";
    Err(Refusal::Invalid(text.into()))
}
