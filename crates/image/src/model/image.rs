//! An image and the states it goes through.
//!
//! ```text
//! queued ──► saving ──► active ◄──► deactivated
//!   │  ▲        │ (failed: back to queued)
//!   ▼  │        ▼
//! uploading ──► importing ──► active
//! ```
//! Every state leads to deletion.

use std::collections::BTreeMap;

use super::Refusal;

/// What an image's record says.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// UUID.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// State.
    pub status: Status,
    /// Who sees it: `public`, `community`, `shared`, `private`.
    pub visibility: String,
    /// The project it belongs to.
    pub owner: Option<String>,
    /// Format of the disk.
    pub disk_format: Option<String>,
    /// Format of what the disk is wrapped in.
    pub container_format: Option<String>,
    /// Bytes of the data.
    pub size: Option<i64>,
    /// Bytes of the disk that the data describes.
    pub virtual_size: Option<i64>,
    /// GiB a guest's disk needs at least.
    pub min_disk: i64,
    /// MiB a guest's memory needs at least.
    pub min_ram: i64,
    /// Whether it may not be deleted.
    pub protected: bool,
    /// Whether lists leave it out.
    pub os_hidden: bool,
    /// MD5 of the data.
    pub checksum: Option<String>,
    /// Name of the other hash.
    pub os_hash_algo: Option<String>,
    /// The other hash of the data.
    pub os_hash_value: Option<String>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
    /// What users add.
    pub properties: BTreeMap<String, String>,
    /// Its tags, in order.
    pub tags: Vec<String>,
}

/// State of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Without data.
    Queued,
    /// Data is being received.
    Saving,
    /// Data is being staged for an import.
    Uploading,
    /// Staged data is being imported.
    Importing,
    /// Ready for use.
    Active,
    /// Taken out of use by an administrator.
    Deactivated,
    /// On its way out.
    Deleted,
}

impl Status {
    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Saving => "saving",
            Status::Uploading => "uploading",
            Status::Importing => "importing",
            Status::Active => "active",
            Status::Deactivated => "deactivated",
            Status::Deleted => "deleted",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Status> {
        [
            Status::Queued,
            Status::Saving,
            Status::Uploading,
            Status::Importing,
            Status::Active,
            Status::Deactivated,
            Status::Deleted,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }

    fn leads_to(self, next: Status) -> bool {
        use Status::{Active, Deactivated, Deleted, Importing, Queued, Saving, Uploading};
        matches!(
            (self, next),
            (Queued, Saving | Uploading | Importing | Active | Deleted)
                | (Saving, Active | Deleted | Queued)
                | (Uploading, Importing | Queued | Deleted)
                | (Importing, Active | Deleted | Queued)
                | (Active, Deleted | Deactivated)
                | (Deactivated, Active | Deleted)
        )
    }
}

/// Why an image cannot go into a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTransition {
    /// The states do not follow each other.
    States(String),
    /// A format is missing.
    Formats(String),
}

impl Image {
    /// Puts the image into another state.
    ///
    /// # Errors
    /// Where the state machine has no such step, or a format must be set before.
    pub fn go(&mut self, next: Status) -> Result<(), NoTransition> {
        if !self.status.leads_to(next) {
            return Err(NoTransition::States(format!(
                "Image status transition from {} to {} is not allowed",
                self.status.as_str(),
                next.as_str()
            )));
        }
        let before_data = matches!(self.status, Status::Queued | Status::Uploading);
        if before_data && matches!(next, Status::Saving | Status::Active | Status::Importing) {
            let mut missing = Vec::new();
            if self.disk_format.as_deref().unwrap_or("").is_empty() {
                missing.push("disk_format");
            }
            if self.container_format.as_deref().unwrap_or("").is_empty() {
                missing.push("container_format");
            }
            match missing.as_slice() {
                [] => {}
                [one] => {
                    return Err(NoTransition::Formats(format!(
                        "Property {one} must be set prior to saving data."
                    )));
                }
                _ => {
                    let names = missing.join(", ");
                    return Err(NoTransition::Formats(format!(
                        "Properties {names} must be set prior to saving data."
                    )));
                }
            }
        }
        if next == Status::Queued {
            self.size = None;
            self.virtual_size = None;
        }
        self.status = next;
        Ok(())
    }

    /// Takes the image out of use. Doing it twice is no error.
    ///
    /// # Errors
    /// An image without data cannot be deactivated.
    pub fn deactivate(&mut self) -> Result<(), Refusal> {
        self.switch("deactivate", Status::Deactivated)
    }

    /// Puts the image back into use. Doing it twice is no error.
    ///
    /// # Errors
    /// An image without data cannot be reactivated.
    pub fn reactivate(&mut self) -> Result<(), Refusal> {
        self.switch("reactivate", Status::Active)
    }

    fn switch(&mut self, verb: &str, next: Status) -> Result<(), Refusal> {
        if !matches!(self.status, Status::Active | Status::Deactivated) {
            let status = self.status.as_str();
            return Err(Refusal::Forbidden(format!(
                "Not allowed to {verb} image in status '{status}'"
            )));
        }
        self.status = next;
        Ok(())
    }

    /// Whether the formats may still be changed.
    ///
    /// # Errors
    /// Once there is data they may not.
    pub fn may_change_format(&self, attribute: &str) -> Result<(), Refusal> {
        if matches!(self.status, Status::Queued | Status::Importing) {
            return Ok(());
        }
        Err(Refusal::Forbidden(format!(
            "Attribute {attribute} can be only replaced for a queued image."
        )))
    }
}

/// Checks `min_disk` and `min_ram`.
///
/// # Errors
/// Negative, or too large for a 32 bit column.
pub fn check_minimum(name: &str, value: i64) -> Result<(), Refusal> {
    if value < 0 {
        return Err(Refusal::Invalid(format!(
            "Invalid value '{value}' for parameter '{name}': Cannot be a negative value"
        )));
    }
    if value > i64::from(i32::MAX) {
        return Err(Refusal::Invalid(format!(
            "'{name}' value out of range, must not exceed {}.",
            i32::MAX
        )));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) fn sample() -> Image {
    Image {
        id: "5a3a8f0e-0b5c-4b0e-9c1f-1f2b3c4d5e6f".into(),
        name: Some("tiny".into()),
        status: Status::Queued,
        visibility: "shared".into(),
        owner: Some("p".into()),
        disk_format: None,
        container_format: Some("bare".into()),
        size: None,
        virtual_size: None,
        min_disk: 0,
        min_ram: 0,
        protected: false,
        os_hidden: false,
        checksum: None,
        os_hash_algo: None,
        os_hash_value: None,
        created_at: 0,
        updated_at: 0,
        properties: BTreeMap::new(),
        tags: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_needs_formats_first() {
        let mut image = sample();
        let error = image.go(Status::Saving).unwrap_err();
        assert_eq!(
            error,
            NoTransition::Formats("Property disk_format must be set prior to saving data.".into())
        );
        image.disk_format = Some("raw".into());
        image.go(Status::Saving).unwrap();
        image.go(Status::Active).unwrap();
        let error = image.go(Status::Saving).unwrap_err();
        assert_eq!(
            error,
            NoTransition::States("Image status transition from active to saving is not allowed".into())
        );
    }

    #[test]
    fn only_images_with_data_are_taken_out_of_use() {
        let mut image = sample();
        assert!(matches!(image.deactivate(), Err(Refusal::Forbidden(text)) if text.contains("status 'queued'")));
        image.status = Status::Active;
        image.deactivate().unwrap();
        image.deactivate().unwrap();
        assert_eq!(image.status, Status::Deactivated);
        image.reactivate().unwrap();
        assert_eq!(image.status, Status::Active);
    }
}
