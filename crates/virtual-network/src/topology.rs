//! What a node must know of the virtual networks in order to serve its own guests: plain values, keyed by identifiers,
//! that travel from the controller to the node. Names and meanings are those of the Networking API.
//!
//! A node receives everything that its local ports can reach: their networks, the routers of those networks, the other
//! networks of those routers, and the ports, security groups and floating IPs of them all.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use uuid::Uuid;

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}({})", stringify!($name), self.0) }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self { Self(id) }
        }
    )*};
}

identifiers! {
    /// A network.
    NetworkId;
    /// A subnet.
    SubnetId;
    /// A port.
    PortId;
    /// A router.
    RouterId;
    /// A floating IP.
    FloatingIpId;
    /// A security group.
    SecurityGroupId;
    /// An address group.
    AddressGroupId;
}

/// An Ethernet address; in JSON as `fa:16:3e:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MacAddress(pub openflow::Mac);

impl MacAddress {
    /// Of these bytes.
    pub const fn new(bytes: [u8; 6]) -> MacAddress {
        MacAddress(openflow::Mac(bytes))
    }

    /// The bytes.
    pub const fn bytes(self) -> [u8; 6] {
        self.0.0
    }

    /// The EUI-64 link-local address (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        self.0.link_local()
    }
}

impl From<MacAddress> for openflow::Mac {
    fn from(m: MacAddress) -> openflow::Mac {
        m.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for MacAddress {
    type Err = openflow::NotAMac;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(MacAddress)
    }
}

impl Serialize for MacAddress {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddress {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything a node needs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Topology {
    /// The node itself.
    pub node: NodeInfo,
    /// Networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Subnets.
    pub subnets: BTreeMap<SubnetId, Subnet>,
    /// Ports of guests (and of other things that are plugged somewhere). Those of routers, floating IPs and DHCP are
    /// in [`Router`], [`FloatingIp`] and [`Subnet`]; here they may be left out.
    pub ports: BTreeMap<PortId, Port>,
    /// Routers.
    pub routers: BTreeMap<RouterId, Router>,
    /// Floating IPs that are associated with a port.
    pub floating_ips: BTreeMap<FloatingIpId, FloatingIp>,
    /// Security groups: those of the local ports, and nothing is lost if there are more.
    pub security_groups: BTreeMap<SecurityGroupId, SecurityGroup>,
    /// Address groups that rules refer to.
    pub address_groups: BTreeMap<AddressGroupId, AddressGroup>,
}

/// The node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Its name.
    pub hostname: String,
    /// Its end of the tunnels.
    pub tunnel_address: Option<IpAddr>,
    /// Physical network -> bridge (`extnet` -> `br-ex`).
    pub bridge_mappings: BTreeMap<String, String>,
    /// Where requests for metadata go.
    pub metadata: Option<MetadataListener>,
    /// DNS servers that guests are told in subnets that name none: the machine's own, as OVN's driver does.
    pub dns_resolvers: Vec<IpAddr>,
}

/// The listener for metadata. It is reached by one port of the integration bridge, whose other end has the addresses
/// 169.254.169.254 and fe80::a9fe:a9fe, and routes to `clients_v4` and `clients_v6` on the link.
///
/// Each address of each guest appears to the listener under an address of its own, which
/// [`Compiler::metadata_client`](crate::Compiler::metadata_client) turns back into the port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataListener {
    /// Ethernet address of the listener's interface.
    pub mac: MacAddress,
    /// TCP port the listener has there (guests always ask port 80).
    #[serde(default = "port_80")]
    pub tcp_port: u16,
    /// Addresses under which the guests' IPv4 addresses appear; 10 bits of prefix leave room for 4 million.
    pub clients_v4: ipnet::Ipv4Net,
    /// The same for IPv6.
    pub clients_v6: ipnet::Ipv6Net,
}

fn port_80() -> u16 {
    80
}

/// Kind of a network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// Untagged on a physical network.
    Flat,
    /// Tagged on a physical network.
    Vlan,
    /// In VXLAN.
    Vxlan,
    /// In GRE.
    Gre,
    /// In Geneve.
    Geneve,
    /// Never leaves the node.
    #[default]
    Local,
}

impl NetworkType {
    /// Whether nodes reach each other through tunnels.
    pub fn is_tunnel(self) -> bool {
        matches!(self, NetworkType::Vxlan | NetworkType::Gre | NetworkType::Geneve)
    }

    /// Whether the network is on a physical one.
    pub fn is_provider(self) -> bool {
        matches!(self, NetworkType::Flat | NetworkType::Vlan)
    }
}

/// A network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Network {
    /// Kind.
    #[serde(rename = "type")]
    pub kind: NetworkType,
    /// Of flat and VLAN networks.
    #[serde(default)]
    pub physical_network: Option<String>,
    /// VLAN id, VNI or GRE key.
    #[serde(default)]
    pub segmentation_id: Option<u32>,
    /// Largest IP packet.
    pub mtu: u16,
    /// Can be the gateway of routers.
    #[serde(default)]
    pub external: bool,
    /// Down: carries nothing.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    /// Default of its ports.
    #[serde(default = "yes")]
    pub port_security_enabled: bool,
    /// Ethernet address of what the network itself answers for (DHCP, metadata): that of its DHCP port, if it has
    /// one. Otherwise one is derived from the identifier.
    #[serde(default)]
    pub service_mac: Option<MacAddress>,
    /// Domain of its ports' names.
    #[serde(default)]
    pub dns_domain: Option<String>,
}

fn yes() -> bool {
    true
}

impl Network {
    /// The Ethernet address of the network's own services.
    pub fn service_mac(&self, id: NetworkId) -> MacAddress {
        let b = id.0.as_bytes();
        // Locally administered and of no vendor, so it is none that Neutron hands out (fa:16:3e).
        self.service_mac
            .unwrap_or(MacAddress::new([0x0e, b[11], b[12], b[13], b[14], b[15]]))
    }
}

/// `ipv6_ra_mode` and `ipv6_address_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipv6Mode {
    /// Addresses from the advertisement.
    Slaac,
    /// Addresses and options by DHCPv6.
    #[serde(rename = "dhcpv6-stateful")]
    Dhcpv6Stateful,
    /// Addresses from the advertisement, options by DHCPv6.
    #[serde(rename = "dhcpv6-stateless")]
    Dhcpv6Stateless,
}

/// A static route.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// By whom.
    pub nexthop: IpAddr,
}

/// A subnet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subnet {
    /// The network it is in.
    pub network: NetworkId,
    /// Its addresses.
    pub cidr: IpNet,
    /// Gateway.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// DNS servers, best first. With 0.0.0.0 or :: among them guests are told none.
    #[serde(default)]
    pub dns_nameservers: Vec<IpAddr>,
    /// Routes that guests are told.
    #[serde(default)]
    pub host_routes: Vec<Route>,
    /// Whether DHCP (or, in IPv6, what the modes say) is served.
    #[serde(default = "yes")]
    pub enable_dhcp: bool,
    /// Who sends advertisements, and what is in them.
    #[serde(default)]
    pub ipv6_ra_mode: Option<Ipv6Mode>,
    /// How guests get addresses.
    #[serde(default)]
    pub ipv6_address_mode: Option<Ipv6Mode>,
    /// The address in this subnet of the distributed DHCP server (that of Neutron's `network:dhcp` port). Without one
    /// the gateway's is used as the server's identifier.
    #[serde(default)]
    pub dhcp_server: Option<IpAddr>,
}

/// Where a port is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// On this node.
    Local {
        /// Its interface (tap) at the integration bridge.
        interface: String,
    },
    /// On another node.
    Remote {
        /// That node's end of the tunnels.
        tunnel: IpAddr,
    },
    /// Nowhere. Its addresses may still be used by others, by address pairs (a virtual address).
    #[default]
    Unbound,
}

/// An address of a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct FixedIp {
    /// In this subnet.
    pub subnet: SubnetId,
    /// The address.
    pub address: IpAddr,
}

/// A further address that a port may use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct AddressPair {
    /// Address or network.
    pub address: IpNet,
    /// Ethernet address; the port's own if none.
    #[serde(default)]
    pub mac: Option<MacAddress>,
}

/// A DHCP option for a port (`extra_dhcp_opts`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ExtraDhcpOption {
    /// Name as dnsmasq knows it, or number.
    pub name: String,
    /// Its value, as text.
    pub value: String,
    /// 4 or 6.
    #[serde(default = "four")]
    pub ip_version: u8,
}

fn four() -> u8 {
    4
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Port {
    /// Its network.
    pub network: NetworkId,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses.
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
    /// What else it may use.
    #[serde(default)]
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Off: neither addresses nor security groups are enforced.
    #[serde(default = "yes")]
    pub port_security_enabled: bool,
    /// Its groups. With none, nothing passes but DHCP, ARP and neighbour discovery.
    #[serde(default)]
    pub security_groups: BTreeSet<SecurityGroupId>,
    /// Down: carries nothing.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    /// `compute:nova` and the like.
    #[serde(default)]
    pub device_owner: String,
    /// The server.
    #[serde(default)]
    pub device_id: String,
    /// Where it is.
    #[serde(default)]
    pub binding: Binding,
    /// Options for its DHCP answers.
    #[serde(default)]
    pub extra_dhcp_opts: Vec<ExtraDhcpOption>,
    /// Host name for DHCP. Without one guests are called `host-192-168-0-5`, as Neutron calls them.
    #[serde(default)]
    pub dns_name: Option<String>,
    /// Limits and marks.
    #[serde(default)]
    pub qos: Option<Qos>,
}

impl Port {
    /// Whether it belongs to a router, a floating IP or DHCP, which the compiler knows from elsewhere.
    pub fn is_service(&self) -> bool {
        self.device_owner.starts_with("network:") && !matches!(self.binding, Binding::Local { .. })
    }
}

/// What is asked of a port's traffic. The direction is the guest's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Qos {
    /// Kilobits per second from the guest.
    pub egress_kbps: Option<u32>,
    /// Burst of that, in kilobits.
    pub egress_burst_kbits: Option<u32>,
    /// Kilobits per second to the guest.
    pub ingress_kbps: Option<u32>,
    /// Burst of that, in kilobits.
    pub ingress_burst_kbits: Option<u32>,
    /// Mark for what comes from the guest.
    pub dscp_mark: Option<u8>,
}

/// A router's port in one of its networks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RouterInterface {
    /// The port.
    pub port: PortId,
    /// Its network.
    pub network: NetworkId,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Down: carries nothing.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
}

/// A router's port in an external network.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gateway {
    /// The port.
    pub port: PortId,
    /// The external network.
    pub network: NetworkId,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Whether sources are translated to the gateway's address.
    #[serde(default = "yes")]
    pub enable_snat: bool,
    /// Which node has it. [`Gateway::HERE`] if this one.
    #[serde(default = "Gateway::here")]
    pub binding: Binding,
}

impl Gateway {
    /// Binding of a gateway that is on this node.
    pub fn here() -> Binding {
        Binding::Local {
            interface: String::new(),
        }
    }

    /// Whether this node has it.
    pub fn is_here(&self) -> bool {
        matches!(self.binding, Binding::Local { .. })
    }
}

/// A router.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Router {
    /// Down: carries nothing.
    #[serde(default = "yes")]
    pub admin_state_up: bool,
    /// Its ports in its networks.
    #[serde(default)]
    pub interfaces: Vec<RouterInterface>,
    /// Its port to the outside.
    #[serde(default)]
    pub gateway: Option<Gateway>,
    /// Extra routes.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// A floating IP. One that is associated with nothing is of no concern to nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FloatingIp {
    /// The external network.
    pub network: NetworkId,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Ethernet address of its port in the external network.
    pub mac: MacAddress,
    /// The port that has it.
    pub port: PortId,
    /// Which of the port's addresses.
    pub fixed_address: Ipv4Addr,
    /// The router that translates.
    pub router: RouterId,
}

/// Direction, as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the guest.
    Ingress,
    /// From the guest.
    Egress,
}

/// `ethertype` of a rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum EtherType {
    /// IPv4
    #[serde(rename = "IPv4")]
    Ipv4,
    /// IPv6
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// Something that is allowed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SecurityGroupRule {
    /// Which way.
    pub direction: Direction,
    /// IPv4 or IPv6.
    pub ethertype: EtherType,
    /// Protocol as in the API: a name (`tcp`, `icmp`, `ipv6-icmp`, …) or a number; none or `any` is every one.
    #[serde(default)]
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    #[serde(default)]
    pub port_range_min: Option<u16>,
    /// Last port, or ICMP code.
    #[serde(default)]
    pub port_range_max: Option<u16>,
    /// Only to or from these addresses.
    #[serde(default)]
    pub remote_ip_prefix: Option<IpNet>,
    /// Only to or from the members of this group.
    #[serde(default)]
    pub remote_group: Option<SecurityGroupId>,
    /// Only to or from these addresses.
    #[serde(default)]
    pub remote_address_group: Option<AddressGroupId>,
}

/// A security group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// Whether answers to what is allowed are allowed too.
    #[serde(default = "yes")]
    pub stateful: bool,
    /// What is allowed.
    pub rules: Vec<SecurityGroupRule>,
}

/// A list of addresses that rules can name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AddressGroup {
    /// The addresses.
    pub addresses: BTreeSet<IpNet>,
}

/// One change of a topology: the new value of something, or its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The node.
    Node(NodeInfo),
    /// A network.
    Network(NetworkId, Option<Network>),
    /// A subnet.
    Subnet(SubnetId, Option<Subnet>),
    /// A port.
    Port(PortId, Option<Port>),
    /// A router.
    Router(RouterId, Option<Router>),
    /// A floating IP.
    FloatingIp(FloatingIpId, Option<FloatingIp>),
    /// A security group.
    SecurityGroup(SecurityGroupId, Option<SecurityGroup>),
    /// An address group.
    AddressGroup(AddressGroupId, Option<AddressGroup>),
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(v) => {
            map.insert(key, v);
        }
        None => {
            map.remove(&key);
        }
    }
}

fn differences<K: Ord + Copy, V: PartialEq + Clone>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    out: &mut Vec<Change>,
    make: fn(K, Option<V>) -> Change,
) {
    out.extend(old.keys().filter(|k| !new.contains_key(k)).map(|k| make(*k, None)));
    let changed = new.iter().filter(|(k, v)| old.get(k) != Some(v));
    out.extend(changed.map(|(k, v)| make(*k, Some(v.clone()))));
}

impl Topology {
    /// Applies a change.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Node(v) => self.node = v,
            Change::Network(k, v) => put(&mut self.networks, k, v),
            Change::Subnet(k, v) => put(&mut self.subnets, k, v),
            Change::Port(k, v) => put(&mut self.ports, k, v),
            Change::Router(k, v) => put(&mut self.routers, k, v),
            Change::FloatingIp(k, v) => put(&mut self.floating_ips, k, v),
            Change::SecurityGroup(k, v) => put(&mut self.security_groups, k, v),
            Change::AddressGroup(k, v) => put(&mut self.address_groups, k, v),
        }
    }

    /// What turns this topology into `new`.
    pub fn changes_to(&self, new: &Topology) -> Vec<Change> {
        let mut out = Vec::new();
        if self.node != new.node {
            out.push(Change::Node(new.node.clone()));
        }
        differences(&self.networks, &new.networks, &mut out, Change::Network);
        differences(&self.subnets, &new.subnets, &mut out, Change::Subnet);
        differences(&self.ports, &new.ports, &mut out, Change::Port);
        differences(&self.routers, &new.routers, &mut out, Change::Router);
        differences(&self.floating_ips, &new.floating_ips, &mut out, Change::FloatingIp);
        let groups = Change::SecurityGroup;
        differences(&self.security_groups, &new.security_groups, &mut out, groups);
        differences(
            &self.address_groups,
            &new.address_groups,
            &mut out,
            Change::AddressGroup,
        );
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_survives_json_and_defaults_are_neutrons() {
        let text = r#"{
          "networks": {"6e0c0000-0000-0000-0000-000000000001": {"type": "vxlan", "segmentation_id": 7, "mtu": 1450}},
          "subnets": {"6e0c0000-0000-0000-0000-000000000002": {"network": "6e0c0000-0000-0000-0000-000000000001",
             "cidr": "fd00::/64", "ipv6_ra_mode": "dhcpv6-stateless", "ipv6_address_mode": "slaac"}},
          "ports": {"6e0c0000-0000-0000-0000-000000000003": {"network": "6e0c0000-0000-0000-0000-000000000001",
             "mac": "fa:16:3e:00:00:01", "binding": {"local": {"interface": "tap1"}}}}
        }"#;
        let t: Topology = serde_json::from_str(text).unwrap();
        let again: Topology = serde_json::from_str(&serde_json::to_string(&t).unwrap()).unwrap();
        assert_eq!(t, again);
        let port = t.ports.values().next().unwrap();
        assert!(port.port_security_enabled && port.admin_state_up);
        assert_eq!(
            t.subnets.values().next().unwrap().ipv6_ra_mode,
            Some(Ipv6Mode::Dhcpv6Stateless)
        );
        assert!(serde_json::from_str::<MacAddress>("\"fa:16:3e\"").is_err());
    }

    #[test]
    fn applying_the_changes_gives_the_other_topology() {
        let id = |n| Uuid::from_u128(n);
        let mut a = Topology::default();
        a.address_groups.insert(id(1).into(), AddressGroup::default());
        let group = |stateful| SecurityGroup {
            stateful,
            rules: Vec::new(),
        };
        a.security_groups.insert(id(2).into(), group(true));
        let mut b = Topology::default();
        b.security_groups.insert(id(2).into(), group(false));
        b.security_groups.insert(id(3).into(), group(true));
        b.node.hostname = "n".into();
        let changes = a.changes_to(&b);
        assert_eq!(changes.len(), 4);
        for c in changes {
            a.apply(c);
        }
        assert_eq!(a, b);
    }
}
