//! What should be: the objects a controller tells its nodes about.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virtual_network::topology as net;
pub use virtual_network::topology;

/// A value that never shows in a log. It travels as the plain string.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself; say in the caller why it is needed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// What the power of a guest should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantedPower {
    /// The guest runs.
    Running,
    /// The guest is shut down; its disks stay.
    Stopped,
    /// The guest is in memory and does not run.
    Paused,
    /// The guest's memory is on disk.
    Suspended,
    /// Nothing of the guest is left on the node. The node answers with [`crate::reports::Report::ServerGone`].
    Deleted,
}

/// The wanted power, and how often it was asked for.
///
/// A guest that dies by itself is not started again: as with Nova the server becomes SHUTOFF, and only a request of the
/// user starts it. So "should run" alone is not enough: the node acts when `generation` is above the one it
/// last brought about, and otherwise reports what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Power {
    /// What should be.
    pub wanted: WantedPower,
    /// Counts the requests for a power state (create, start, stop, pause, …).
    pub generation: u64,
}

/// The flavor a server was made with, as a copy: changing a flavor changes no server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flavor {
    /// The flavor's public id.
    pub id: String,
    /// The flavor's name (`m1.tiny`).
    pub name: String,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub ram_mib: u64,
    /// Root disk in GiB; 0 means the size of the image.
    pub disk_gib: u64,
    /// Swap disk in MiB; 0 means none.
    #[serde(default)]
    pub swap_mib: u64,
    /// Ephemeral disk in GiB; 0 means none.
    #[serde(default)]
    pub ephemeral_gib: u64,
    /// Extra specs.
    #[serde(default)]
    pub extra_specs: BTreeMap<String, String>,
}

/// The image a server's root disk is an overlay of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The image's id.
    pub id: Uuid,
    /// The image's name, for messages.
    #[serde(default)]
    pub name: String,
    /// `qcow2`, `raw`, …; checked against the bytes.
    pub disk_format: String,
    /// Length of the image data in bytes.
    pub size: u64,
    /// The MD5 that Glance calls `checksum`.
    #[serde(default)]
    pub checksum: Option<String>,
    /// Algorithm of `os_hash_value`, `sha512` by default.
    #[serde(default)]
    pub os_hash_algo: Option<String>,
    /// The image's multihash.
    #[serde(default)]
    pub os_hash_value: Option<String>,
    /// The image's properties that change how a guest is run (`hw_machine_type`, `hw_disk_bus`, `os_type`, …).
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// One network interface of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPort {
    /// The port, which comes as an object of its own.
    pub port_id: Uuid,
    /// The device tag the user gave.
    #[serde(default)]
    pub tag: Option<String>,
}

/// The key pair a server was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// Its name.
    pub name: String,
    /// `ssh` or `x509`.
    pub kind: String,
    /// The public key, one line for `ssh`.
    pub public_key: String,
}

/// A file that the user asked to be injected (microversions below 2.57); it goes to the config drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality {
    /// Where it goes in the guest.
    pub path: String,
    /// Its content, base64.
    pub contents: Secret,
}

/// A server: what Nova calls an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// The server's id; also the guest's SMBIOS UUID.
    pub id: Uuid,
    /// Display name.
    pub name: String,
    /// The guest's host name, without domain.
    pub hostname: String,
    /// Owner.
    pub project_id: String,
    /// Who made it.
    pub user_id: String,
    /// What it is made of.
    pub flavor: Flavor,
    /// What its root disk is made from; none when it boots from a volume.
    pub image: Option<ImageRef>,
    /// What its power should be.
    pub power: Power,
    /// Counts soft reboots asked for.
    #[serde(default)]
    pub soft_reboot: u64,
    /// Counts hard reboots asked for.
    #[serde(default)]
    pub hard_reboot: u64,
    /// Counts rebuilds asked for: a new number means a new root disk.
    #[serde(default)]
    pub rebuild: u64,
    /// How long a guest may take for its ACPI shutdown before it is killed, in seconds (`shutdown_timeout`, 60 upstream;
    /// image property `os_shutdown_timeout`).
    #[serde(default = "default_shutdown_timeout")]
    pub shutdown_timeout: u32,
    /// Its interfaces, in order.
    #[serde(default)]
    pub ports: Vec<ServerPort>,
    /// Whether it has a config drive.
    #[serde(default)]
    pub config_drive: bool,
    /// Metadata of the user.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The key for its login.
    #[serde(default)]
    pub key_pair: Option<KeyPair>,
    /// User data as the API took it: base64.
    #[serde(default)]
    pub user_data: Option<Secret>,
    /// Files to inject.
    #[serde(default)]
    pub personality: Vec<Personality>,
    /// The administrator's password, only in documents the guest itself reads.
    #[serde(default)]
    pub admin_password: Option<Secret>,
    /// Availability zone.
    pub availability_zone: String,
    /// Reservation (`r-…`) of the request that made it.
    #[serde(default)]
    pub reservation_id: String,
    /// Its number among the servers of the same request.
    #[serde(default)]
    pub launch_index: u32,
    /// Names of its security groups, for EC2's metadata.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Static vendor data, a JSON object.
    #[serde(default)]
    pub vendor_data: Option<serde_json::Value>,
    /// The encrypted password the guest has posted (`/openstack/…/password`), so that it reads it again.
    #[serde(default)]
    pub posted_password: Option<String>,
}

fn default_shutdown_timeout() -> u32 {
    60
}

/// Anything a node is told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Object {
    /// A guest that belongs on this node.
    Server(Box<Server>),
    /// A network that the node's ports can reach.
    Network(net::NetworkId, net::Network),
    /// A subnet of such a network.
    Subnet(net::SubnetId, net::Subnet),
    /// A port of such a network, on this node or elsewhere. The interface of a local binding is what
    /// [`tap_name`] says.
    Port(net::PortId, Box<net::Port>),
    /// A router that joins such networks.
    Router(net::RouterId, net::Router),
    /// A floating IP of such a router.
    FloatingIp(net::FloatingIpId, net::FloatingIp),
    /// A security group one of the ports is in or refers to.
    SecurityGroup(net::SecurityGroupId, net::SecurityGroup),
    /// An address group that rules refer to.
    AddressGroup(net::AddressGroupId, net::AddressGroup),
}

/// The interface of a port on its node: `tap` and the first eleven characters of its id, as Neutron has it.
pub fn tap_name(port: net::PortId) -> String {
    let mut name = format!("tap{port}");
    name.truncate(14);
    name
}

/// The kinds of [`Object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ObjectKind {
    Server,
    Network,
    Subnet,
    Port,
    Router,
    FloatingIp,
    SecurityGroup,
    AddressGroup,
}

/// Which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its id, unique among its kind.
    pub id: Uuid,
}

impl Object {
    /// Which object this is.
    pub fn key(&self) -> ObjectKey {
        let (kind, id) = match self {
            Object::Server(server) => (ObjectKind::Server, server.id),
            Object::Network(id, _) => (ObjectKind::Network, id.0),
            Object::Subnet(id, _) => (ObjectKind::Subnet, id.0),
            Object::Port(id, _) => (ObjectKind::Port, id.0),
            Object::Router(id, _) => (ObjectKind::Router, id.0),
            Object::FloatingIp(id, _) => (ObjectKind::FloatingIp, id.0),
            Object::SecurityGroup(id, _) => (ObjectKind::SecurityGroup, id.0),
            Object::AddressGroup(id, _) => (ObjectKind::AddressGroup, id.0),
        };
        ObjectKey { kind, id }
    }
}

/// An object at a revision; a later state of the same object has a higher one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versioned {
    /// Its revision.
    pub revision: u64,
    /// The object.
    pub object: Object,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_named_as_neutron_names_it_and_fits_the_kernel() {
        let id = net::PortId(Uuid::parse_str("6e0c1234-5678-0000-0000-000000000003").unwrap());
        assert_eq!(tap_name(id), "tap6e0c1234-56");
    }
}
