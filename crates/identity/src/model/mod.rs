//! What requests may look like.

pub mod schemas;
