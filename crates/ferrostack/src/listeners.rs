//! Which service answers where.

use crate::config::Api;
use api::Service;
use api::server::{Mount, Mounts};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The services of the cloud, the word that names each in paths and configuration, and what follows the mount in the catalog's URL.
pub const SERVICES: &[(&str, &str, &str)] = &[
    ("identity", "identity", ""),
    ("image", "image", ""),
    ("compute", "compute", "/v2.1"),
    ("placement", "placement", ""),
    ("network", "network", ""),
];

/// Name under which the catalog lists a service type.
pub fn service_name(service_type: &str) -> &'static str {
    match service_type {
        "identity" => "keystone",
        "image" => "glance",
        "compute" => "nova",
        "placement" => "placement",
        "network" => "neutron",
        _ => "ferrostack",
    }
}

/// The port that is the service's own.
pub fn port(api: &Api, service: &str) -> u16 {
    match service {
        _ if api.single_port != 0 => api.single_port,
        "identity" => api.identity_port,
        "image" => api.image_port,
        "compute" => api.compute_port,
        "placement" => api.placement_port,
        "network" => api.network_port,
        "novnc" => api.novnc_port,
        _ => 0,
    }
}

/// The host that clients use: as configured, else the source address of the default route (nothing is sent to find it), else loopback.
pub fn public_host(api: &Api) -> String {
    if !api.public_host.is_empty() {
        return api.public_host.clone();
    }
    if let Ok(ip) = api.listen.parse::<IpAddr>()
        && !ip.is_unspecified()
    {
        return host_in_url(ip);
    }
    let route = UdpSocket::bind(("0.0.0.0", 0)).and_then(|s| {
        // TEST-NET-1 (RFC 5737): only the route is looked up.
        s.connect(("192.0.2.1", 9))?;
        s.local_addr()
    });
    match route {
        Ok(address) if !address.ip().is_unspecified() => host_in_url(address.ip()),
        _ => "127.0.0.1".into(),
    }
}

fn host_in_url(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Where a service's clients begin: `http://host:port`, with the path where all share a port.
pub fn base_url(api: &Api, service: &str) -> String {
    let host = public_host(api);
    let port = port(api, service);
    if api.single_port != 0 { format!("http://{host}:{port}/{service}") } else { format!("http://{host}:{port}") }
}

/// The URL that the catalog has for a service.
pub fn catalog_url(api: &Api, service: &str) -> String {
    let suffix = SERVICES.iter().find(|(s, _, _)| *s == service).map_or("", |(_, _, suffix)| suffix);
    format!("{}{suffix}", base_url(api, service))
}

/// An address to listen on and what answers there.
pub type Listener = (SocketAddr, Mounts);

/// The listeners of a controller.
pub fn listeners(api: &Api, services: &[Service]) -> Result<Vec<Listener>, String> {
    let ip: IpAddr = api.listen.parse().map_err(|_| format!("api.listen must be an IP address, and {} is none", api.listen))?;
    if api.single_port != 0 {
        let mounts = services.iter().map(|s| Mount { prefix: format!("/{}", s.name()), service: s.clone() }).collect();
        return Ok(vec![(SocketAddr::new(ip, api.single_port), Mounts::new(mounts))]);
    }
    Ok(services
        .iter()
        .map(|s| (SocketAddr::new(ip, port(api, s.name())), Mounts::new(vec![Mount { prefix: String::new(), service: s.clone() }])))
        .collect())
}
