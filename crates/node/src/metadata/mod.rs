//! What a guest is told of itself: over HTTP at 169.254.169.254, and on its config drive, from the same documents.

mod documents;
mod ec2;
mod listener;
mod network_data;
mod service;

use std::collections::BTreeMap;

use node_protocol::objects::Server;
use virtual_network::topology::{Port, PortId, Topology};

pub use documents::Document;
pub use listener::{Listener, ListenerConfig, ListenerError};
pub use service::{Client, Service};

/// The domain that is appended to guests' host names (`dhcp_domain`, upstream's default).
pub const DOMAIN: &str = "novalocal";

/// A server with what belongs to it, as the documents are written from it.
pub(crate) struct Subject<'a> {
    pub server: &'a Server,
    pub topology: &'a Topology,
}

impl<'a> Subject<'a> {
    fn hostname(&self) -> String {
        format!("{}.{DOMAIN}", self.server.hostname)
    }

    /// The server's ports that are known, in order.
    fn ports(&self) -> impl Iterator<Item = (PortId, &'a Port)> + use<'a> {
        let topology = self.topology;
        self.server.ports.iter().filter_map(move |port| {
            let id = PortId(port.port_id);
            Some((id, topology.ports.get(&id)?))
        })
    }

    /// User data as bytes.
    fn user_data(&self) -> Option<Vec<u8>> {
        use base64::Engine;
        let encoded = self.server.user_data.as_ref()?.expose();
        let compact: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(compact).ok()
    }
}

/// The answer to a request for `path`, if there is something.
pub fn lookup(server: &Server, topology: &Topology, path: &str) -> Option<Document> {
    documents::lookup(&Subject { server, topology }, path)
}

/// The files of a server's config drive.
pub fn config_drive_files(server: &Server, topology: &Topology) -> BTreeMap<String, Vec<u8>> {
    documents::config_drive_files(&Subject { server, topology })
}
