//! What services need of each other, as small traits named for the need. All that write take the caller's transaction, so
//! that one API call stays one transaction, whatever services it touches.

use crate::{Context, Error};
use database::Tx;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// What Compute must know of an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// `active`, `queued`, …
    pub status: String,
    /// The project that owns it.
    pub owner: Option<String>,
    /// `public`, `private`, `shared`, `community`.
    pub visibility: String,
    /// `qcow2`, `raw`, …
    pub disk_format: Option<String>,
    /// `bare`, …
    pub container_format: Option<String>,
    /// Bytes of the data.
    pub size: Option<u64>,
    /// Bytes of the disk that the data describes.
    pub virtual_size: Option<u64>,
    /// GiB that a flavor's disk must have at least.
    pub min_disk: u64,
    /// MiB that a flavor's memory must have at least.
    pub min_ram: u64,
    /// MD5 of the data, hexadecimal.
    pub checksum: Option<String>,
    /// `sha512`.
    pub os_hash_algo: Option<String>,
    /// The hash by that algorithm, hexadecimal.
    pub os_hash_value: Option<String>,
    /// Whether it may not be deleted.
    pub protected: bool,
    /// Further properties (`hw_*`, `os_*`, what users set).
    pub properties: BTreeMap<String, String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// µs since the epoch.
    pub created_at: i64,
    /// µs since the epoch.
    pub updated_at: i64,
}

/// A new image that a service makes of a server or volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewImage {
    /// Its name.
    pub name: String,
    /// `qcow2`, `raw`.
    pub disk_format: Option<String>,
    /// `bare`.
    pub container_format: Option<String>,
    /// GiB.
    pub min_disk: u64,
    /// MiB.
    pub min_ram: u64,
    /// Further properties.
    pub properties: BTreeMap<String, String>,
}

/// Images, for Compute.
pub trait Images: Send + Sync {
    /// The image, where this caller may see it.
    fn find(&self, tx: &mut Tx<'_>, caller: &Context, id: &str) -> Result<Option<ImageFacts>, Error>;
    /// All images that this caller may see, newest first.
    fn visible(&self, tx: &mut Tx<'_>, caller: &Context) -> Result<Vec<ImageFacts>, Error>;
    /// The local file with the data of an active image.
    fn data(&self, id: &str) -> Option<PathBuf>;
    /// Makes a queued image that belongs to the caller's project; returns its id.
    fn create(&self, tx: &mut Tx<'_>, caller: &Context, image: &NewImage) -> Result<String, Error>;
    /// Deletes an image as the caller.
    fn delete(&self, tx: &mut Tx<'_>, caller: &Context, id: &str) -> Result<(), Error>;
    /// Replaces (or, with `replace` false, merges) the caller's properties of an image.
    fn set_properties(&self, tx: &mut Tx<'_>, caller: &Context, id: &str, properties: &BTreeMap<String, String>, replace: bool) -> Result<(), Error>;
}

/// A provider with what it has and what is taken, for the scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderRoom {
    /// The provider's UUID, which is the compute node's.
    pub uuid: String,
    /// Its name: the host name.
    pub name: String,
    /// By resource class.
    pub classes: BTreeMap<String, ClassRoom>,
    /// Its traits.
    pub traits: Vec<String>,
    /// Its aggregates.
    pub aggregates: Vec<String>,
}

/// One resource class of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClassRoom {
    /// What there is.
    pub total: u64,
    /// What is kept back.
    pub reserved: u64,
    /// How often each unit may be given out.
    pub allocation_ratio: f64,
    /// What is taken.
    pub used: u64,
    /// The largest single allocation.
    pub max_unit: u64,
}

/// Who holds an allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Consumer {
    /// The server's UUID.
    pub uuid: String,
    /// Its project.
    pub project_id: String,
    /// Its user.
    pub user_id: String,
}

/// Capacity of hosts, for Compute.
pub trait Capacity: Send + Sync {
    /// The providers on which `resources` still fit, as seen in this transaction.
    fn candidates(&self, tx: &mut Tx<'_>, resources: &BTreeMap<String, u64>) -> Result<Vec<ProviderRoom>, Error>;
    /// Takes `resources` of a provider, or says that they no longer fit (`Ok(false)`).
    fn claim(&self, tx: &mut Tx<'_>, consumer: &Consumer, provider: &str, resources: &BTreeMap<String, u64>) -> Result<bool, Error>;
    /// Gives back all that the consumer holds.
    fn release(&self, tx: &mut Tx<'_>, consumer: &str) -> Result<(), Error>;
    /// Makes or updates the provider of a node: its name and its inventory (total, reserved, ratio by class) and traits.
    fn ensure_provider(&self, tx: &mut Tx<'_>, uuid: &str, name: &str, inventory: &BTreeMap<String, ClassRoom>, traits: &[String]) -> Result<(), Error>;
    /// Sets the host aggregates that a provider is in.
    fn set_aggregates(&self, tx: &mut Tx<'_>, provider: &str, aggregates: &[String]) -> Result<(), Error>;
}

/// The server that ports are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerRef {
    /// Its UUID: the ports' `device_id`.
    pub id: String,
    /// The name a port's DNS name is made of.
    pub hostname: String,
    /// Where it is scheduled.
    pub host: Option<String>,
    /// Its availability zone: the ports' `device_owner` is `compute:` and this.
    pub availability_zone: String,
    /// Its project.
    pub project_id: String,
}

/// One NIC that a client asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestedNic {
    /// On this network.
    pub network_id: Option<String>,
    /// With this existing port.
    pub port_id: Option<String>,
    /// With this address.
    pub fixed_ip: Option<String>,
    /// The device's tag.
    pub tag: Option<String>,
}

/// An address of a NIC.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NicAddress {
    /// The address.
    pub address: String,
    /// Its subnet.
    pub subnet_id: String,
    /// 4 or 6.
    pub version: u8,
    /// The floating addresses that lead to it.
    pub floating: Vec<String>,
}

/// A NIC as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nic {
    /// The port.
    pub port_id: String,
    /// Its network.
    pub network_id: String,
    /// The network's name: the label in a server's `addresses`.
    pub network_name: String,
    /// `fa:16:3e:…`.
    pub mac_address: String,
    /// Its addresses.
    pub addresses: Vec<NicAddress>,
    /// `ACTIVE`, `DOWN`, `BUILD`.
    pub status: String,
    /// The network's MTU.
    pub mtu: u32,
    /// The device's tag.
    pub tag: Option<String>,
    /// Whether Compute made the port, and so deletes it.
    pub created_by_compute: bool,
    /// Ids and names of its security groups.
    pub security_groups: Vec<(String, String)>,
    /// Whether port security is on.
    pub port_security_enabled: bool,
}

/// Ports and addresses, for Compute. Errors carry Networking's type as their kind (`PortInUse`, `IpAddressGenerationFailure`, …).
pub trait Ports: Send + Sync {
    /// Makes or takes a port for each of `nics` and binds it to the server, in the order given. An empty list takes the networks that
    /// a server without an explicit choice gets: the caller's only network, or none; more than one is the error of kind `NetworkAmbiguous`.
    /// `security_groups` (ids or names; empty means `default`) go on the ports that are made.
    fn attach(&self, tx: &mut Tx<'_>, caller: &Context, server: &ServerRef, nics: &[RequestedNic], security_groups: &[String]) -> Result<Vec<Nic>, Error>;
    /// Checks `nics` and groups as [`Ports::attach`] would, without making anything; returns how many ports would be made per server.
    fn check(&self, tx: &mut Tx<'_>, caller: &Context, project_id: &str, nics: &[RequestedNic], security_groups: &[String]) -> Result<u64, Error>;
    /// Detaches one port of a server; deletes it where Compute made it.
    fn detach(&self, tx: &mut Tx<'_>, caller: &Context, server_id: &str, port_id: &str) -> Result<(), Error>;
    /// Detaches all ports of a server.
    fn detach_all(&self, tx: &mut Tx<'_>, server_id: &str) -> Result<(), Error>;
    /// The NICs of servers, each list in the order of attachment.
    fn nics(&self, tx: &mut Tx<'_>, server_ids: &[String]) -> Result<HashMap<String, Vec<Nic>>, Error>;
    /// Ids of the servers that have an address which matches the expression (`ip`, `ip6` filters).
    fn servers_with_address(&self, tx: &mut Tx<'_>, project_id: Option<&str>, version: u8, pattern: &str) -> Result<Vec<String>, Error>;
    /// Moves a server's ports to another host.
    fn bind(&self, tx: &mut Tx<'_>, server_id: &str, host: Option<&str>) -> Result<(), Error>;
    /// Renames the server's ports for DNS.
    fn rename(&self, tx: &mut Tx<'_>, server_id: &str, hostname: &str) -> Result<(), Error>;
    /// Adds a security group (id or name) to all ports of a server, or takes it off.
    fn change_security_group(&self, tx: &mut Tx<'_>, caller: &Context, server: &ServerRef, group: &str, add: bool) -> Result<(), Error>;
    /// The `network_data.json` facts of a server: links, networks, services, as the metadata service and config drive give them.
    fn network_data(&self, tx: &mut Tx<'_>, server_id: &str) -> Result<Value, Error>;
}

/// Facts of Identity that other services check.
pub trait Identities: Send + Sync {
    /// Whether there is such a project.
    fn project_exists(&self, tx: &mut Tx<'_>, id: &str) -> Result<bool, Error>;
    /// Whether there is such a user.
    fn user_exists(&self, tx: &mut Tx<'_>, id: &str) -> Result<bool, Error>;
}

/// A JSON object, as bodies and documents are passed around.
pub type Document = Map<String, Value>;
