//! The domain: attributes of resources, their conversions and checks, addresses. No I/O.

pub mod attribute;
pub mod convert;
pub mod net;
pub mod python;
pub mod validate;
