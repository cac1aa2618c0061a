//! `disk-image`
