//! What Compute once answered for other services, and what it no longer does.

mod images;
mod networks;
mod security_groups;
mod volumes;

use api::{Body, Error, Method, Service, StatusCode};
use serde_json::Value;

use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table};

/// Resources that are gone: upstream answers 410 for each of their operations.
const GONE: &[(Method, &str)] = &[
    (Method::GET, "/os-agents"),
    (Method::POST, "/os-agents"),
    (Method::PUT, "/os-agents/{id}"),
    (Method::DELETE, "/os-agents/{id}"),
    (Method::GET, "/os-cells"),
    (Method::POST, "/os-cells"),
    (Method::GET, "/os-cells/capacities"),
    (Method::GET, "/os-cells/detail"),
    (Method::GET, "/os-cells/info"),
    (Method::POST, "/os-cells/sync_instances"),
    (Method::GET, "/os-cells/{id}"),
    (Method::PUT, "/os-cells/{id}"),
    (Method::DELETE, "/os-cells/{id}"),
    (Method::GET, "/os-cells/{id}/capacities"),
    (Method::POST, "/os-certificates"),
    (Method::GET, "/os-certificates/{id}"),
    (Method::GET, "/os-cloudpipe"),
    (Method::POST, "/os-cloudpipe"),
    (Method::PUT, "/os-cloudpipe/{id}"),
    (Method::GET, "/os-fixed-ips/{id}"),
    (Method::POST, "/os-fixed-ips/{id}/action"),
    (Method::GET, "/os-floating-ip-dns"),
    (Method::PUT, "/os-floating-ip-dns/{id}"),
    (Method::DELETE, "/os-floating-ip-dns/{id}"),
    (Method::GET, "/os-floating-ip-dns/{domain_id}/entries/{id}"),
    (Method::PUT, "/os-floating-ip-dns/{domain_id}/entries/{id}"),
    (Method::DELETE, "/os-floating-ip-dns/{domain_id}/entries/{id}"),
    (Method::GET, "/os-floating-ips-bulk"),
    (Method::POST, "/os-floating-ips-bulk"),
    (Method::GET, "/os-floating-ips-bulk/{id}"),
    (Method::PUT, "/os-floating-ips-bulk/{id}"),
    (Method::GET, "/os-fping"),
    (Method::GET, "/os-fping/{id}"),
    (Method::POST, "/os-networks"),
    (Method::POST, "/os-networks/add"),
    (Method::DELETE, "/os-networks/{id}"),
    (Method::POST, "/os-networks/{id}/action"),
    (Method::GET, "/os-security-group-default-rules"),
    (Method::POST, "/os-security-group-default-rules"),
    (Method::GET, "/os-security-group-default-rules/{id}"),
    (Method::DELETE, "/os-security-group-default-rules/{id}"),
    (Method::POST, "/os-tenant-networks"),
    (Method::DELETE, "/os-tenant-networks/{id}"),
    (Method::GET, "/servers/{server_id}/consoles"),
    (Method::POST, "/servers/{server_id}/consoles"),
    (Method::GET, "/servers/{server_id}/consoles/{id}"),
    (Method::DELETE, "/servers/{server_id}/consoles/{id}"),
];

pub(super) fn add(table: &mut Table) {
    for (method, path) in GONE {
        table.between(method.clone(), path, (1, NEWEST), |_, _| {
            Err(Error::new(
                StatusCode::GONE,
                "This resource is no longer available. No forwarding address is given.",
            ))
        });
    }
    images::add(table);
    networks::add(table);
    security_groups::add(table);
    volumes::add(table);
}

impl Compute {
    /// Says through what Networking's API is reached, for the operations that only pass on what it says (microversions below 2.36).
    pub fn connect_network(&self, network: Service) {
        let _ = self.network.set(network);
    }

    /// Asks Networking as the caller.
    fn network(&self, call: &Call, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Value)> {
        let Some(service) = self.network.get() else {
            return Err(Error::unavailable("The Network service cannot be reached."));
        };
        let mut headers = api::HeaderMap::new();
        if let Some(token) = call.request.headers.get("x-auth-token") {
            headers.insert("x-auth-token", token.clone());
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut request = Service::head(method, path, query, headers, call.request.base_url.clone(), None);
        if let Some(body) = body {
            request.body = body.to_string().into();
        }
        let response = service.call(request);
        let value = match &response.body {
            Body::Full(bytes) => serde_json::from_slice(bytes).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        Ok((response.status, value))
    }

    /// As [`Compute::network`]; what is not a success is an error with Networking's text.
    fn network_ok(&self, call: &Call, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.network(call, method, path, body)?;
        if status.is_success() {
            return Ok(value);
        }
        let text = value["NeutronError"]["message"]
            .as_str()
            .unwrap_or("The Network service refused the request.");
        let kind = value["NeutronError"]["type"].as_str().unwrap_or_default().to_owned();
        Err(Error::new(status, text).detail(Value::Null).caused_by(kind))
    }
}
