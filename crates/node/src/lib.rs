//! `node`
