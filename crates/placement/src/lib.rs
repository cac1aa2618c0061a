//! `placement`
