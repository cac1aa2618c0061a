//! SQL, one file per resource. Every function works in the caller's transaction.

pub mod images;
pub mod members;
pub mod metadefs;
pub mod tasks;
