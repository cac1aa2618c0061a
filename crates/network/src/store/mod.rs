//! SQL: items by their attribute tables, and what needs statements of its own.

pub mod item;
pub mod quotas;
pub mod segments;
pub mod tags;
