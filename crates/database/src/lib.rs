//! `database`
