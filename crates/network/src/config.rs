//! What an operator can set.

use serde::{Deserialize, Serialize};

/// A range of segment ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRange {
    /// The first id.
    pub first: u32,
    /// The last id.
    pub last: u32,
}

/// VLANs of a physical network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanRange {
    /// The physical network.
    pub physical_network: String,
    /// The first VLAN that is handed out; 0 for all there are.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// The configuration of the Network service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Types that networks of projects get, in order of preference.
    pub project_network_types: Vec<String>,
    /// Physical networks that flat networks may be on; `*` allows any.
    pub flat_networks: Vec<String>,
    /// Physical networks with their VLANs.
    pub vlan_ranges: Vec<VlanRange>,
    /// VXLAN network identifiers.
    pub vxlan_range: SegmentRange,
    /// GRE keys.
    pub gre_range: SegmentRange,
    /// Geneve network identifiers.
    pub geneve_range: SegmentRange,
    /// The largest IP packet of the physical networks, in bytes.
    pub physical_mtu: u32,
    /// The domain of ports' names; ends with a dot.
    pub dns_domain: String,
    /// Seconds after which an agent that said nothing counts as dead.
    pub agent_down_time: u32,
    /// The availability zone that nodes are in.
    pub availability_zone: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            project_network_types: vec!["vxlan".into()],
            flat_networks: vec!["*".into()],
            vlan_ranges: vec![VlanRange { physical_network: "extnet".into(), first: 0, last: 0 }],
            vxlan_range: SegmentRange { first: 1, last: 16_777_215 },
            gre_range: SegmentRange { first: 1, last: 16_777_215 },
            geneve_range: SegmentRange { first: 1, last: 16_777_215 },
            physical_mtu: 1500,
            dns_domain: "openstacklocal.".into(),
            agent_down_time: 75,
            availability_zone: "nova".into(),
        }
    }
}

impl Config {
    /// The largest IP packet in a network of this type: what is left of the physical network's, in bytes.
    pub fn mtu(&self, network_type: &str) -> i64 {
        // IP header, then upstream's ENCAP_OVERHEADs: VXLAN 30 (Ethernet 14, UDP 8, VXLAN 8), GRE 22, Geneve 38.
        let overhead = match network_type {
            "vxlan" => 20 + 30,
            "gre" => 20 + 22,
            "geneve" => 20 + 38,
            _ => 0,
        };
        i64::from(self.physical_mtu) - overhead
    }
}
