//! Domain types and rules, without I/O.

pub mod image;
pub mod listing;
pub mod member;
pub mod patch;
pub mod schemas;

use std::fmt;

/// Limits that upstream lets operators set; these are its defaults.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Members of an image.
    pub members: usize,
    /// Properties of an image.
    pub properties: usize,
    /// Tags of an image.
    pub tags: usize,
    /// Bytes of an image's data.
    pub image_size: u64,
    /// Images on a page, where the client does not say.
    pub page: u64,
    /// Images on a page at most.
    pub page_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            members: 128,
            properties: 128,
            tags: 128,
            image_size: 1 << 40,
            page: 25,
            page_max: 1000,
        }
    }
}

/// Why something is not allowed; each variant is a status, its text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 400.
    Invalid(String),
    /// 403.
    Forbidden(String),
    /// 403, with the text in WebOb's place for details.
    ForbiddenDetail(String),
    /// 409.
    Conflict(String),
    /// 409, with the text in WebOb's place for details.
    ConflictDetail(String),
    /// 413.
    TooMuch(String),
    /// 415.
    Media(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Refusal::Invalid(text)
        | Refusal::Forbidden(text)
        | Refusal::ForbiddenDetail(text)
        | Refusal::Conflict(text)
        | Refusal::ConflictDetail(text)
        | Refusal::TooMuch(text)
        | Refusal::Media(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Refusal {}

/// Python's `bool` words as filters take them.
pub(crate) fn true_or_false(value: &str, filter: &str) -> Result<bool, Refusal> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::Invalid(format!(
            "Invalid value '{value}' for '{filter}' filter. Valid values are 'true' or 'false'."
        ))),
    }
}
