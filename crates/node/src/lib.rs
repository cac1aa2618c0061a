//! The node.

pub mod datapath;
