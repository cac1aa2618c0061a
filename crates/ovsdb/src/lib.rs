//! `ovsdb`
