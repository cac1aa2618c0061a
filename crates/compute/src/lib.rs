//! `compute`
