//! Disk images: what untrusted bytes really are, the node's cache of images and the overlays on them, config drives, and
//! the small guest that is made from distribution packages.

pub mod cache;
pub mod config_drive;
pub mod inspect;
pub mod overlay;
pub mod tiny;
