//! `openflow`
