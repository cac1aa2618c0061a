//! What the command line does, one file per command.

pub mod check;
pub mod doctor;
pub mod down;
mod services;
pub mod status;
pub mod tiny;
pub mod up;
