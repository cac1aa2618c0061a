//! What a simulated node has in place of a machine.

mod disks;
mod switch;

pub use disks::Disks;
pub use switch::Switch;
