//! SQL, one file per resource. Every function works in the caller's transaction.

pub mod aggregates;
pub mod allocations;
pub mod inventories;
pub mod providers;
pub mod resource_classes;
pub mod snapshot;
pub mod traits;
pub mod usages;
