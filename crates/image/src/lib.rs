//! `image`
