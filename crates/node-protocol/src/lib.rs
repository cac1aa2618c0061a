//! `node-protocol`
