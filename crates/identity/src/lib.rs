//! `identity`
