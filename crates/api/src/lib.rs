//! What all OpenStack services share: routes, authentication, errors in each service's own form, microversions, request ids,
//! filters, paging, JSON schemas, and the server that speaks HTTP.
//!
//! A service is a struct with its state, a table of routes ([`Routes`]) whose handlers are plain functions
//! `fn(&S, &Request) -> Result<Response, E>`, and a [`ServiceConfig`]. [`Service::new`] puts them together, and
//! [`server::Server`] mounts services under ports and path prefixes.

mod context;
mod error;
pub mod formats;
pub mod json_schema;
pub mod links;
pub mod metrics;
mod microversion;
pub mod python;
mod request;
mod response;
mod routes;
pub mod schema;
pub mod server;
mod service;
pub mod services;
pub mod time;
pub mod webob;

pub use context::{AuthFailure, Authenticator, Context, DomainRef, Principal, RoleRef, Scope};
pub use error::{Error, ErrorFormat};
pub use microversion::{Microversions, Version};
pub use request::{BodyStream, Query, Request, StreamRequest};
pub use response::{Body, Response};
pub use routes::{BoxFuture, Routes};
pub use service::{Service, ServiceConfig};

pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// Result of handlers.
pub type Result<T, E = Error> = std::result::Result<T, E>;
