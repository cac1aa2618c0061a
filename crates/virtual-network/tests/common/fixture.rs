//! A small cloud: two networks at a router with a gateway, another tenant with the same addresses, an external network.

use std::net::{IpAddr, Ipv4Addr};
use uuid::Uuid;
use virtual_network::topology::*;
use virtual_network::{Patch, PortNumbers};

pub fn id(n: u128) -> Uuid {
    Uuid::from_u128(0xfe00_0000_0000_4000_8000_0000_0000_0000 | n)
}

pub fn mac(n: u8) -> MacAddress {
    MacAddress::new([0xfa, 0x16, 0x3e, 0, 0, n])
}

/// MACs of routers, floating IPs and the like.
pub fn infra(n: u8) -> MacAddress {
    MacAddress::new([0xfa, 0x16, 0x3e, 0xff, 0, n])
}

pub const NET_A: u128 = 1;
pub const NET_B: u128 = 2;
pub const NET_C: u128 = 3;
pub const NET_X: u128 = 4;
pub const SUB_A: u128 = 11;
pub const SUB_A6: u128 = 12;
pub const SUB_B: u128 = 13;
pub const SUB_B6: u128 = 14;
pub const SUB_C: u128 = 15;
pub const SUB_X: u128 = 16;
pub const SUB_X6: u128 = 17;
pub const R1: u128 = 21;
pub const R2: u128 = 22;
pub const SG_OPEN: u128 = 31;
pub const SG_WEB: u128 = 32;
pub const SG_MEMBERS: u128 = 33;
pub const SG_EMPTY: u128 = 34;
pub const G1: u128 = 41;
pub const G2: u128 = 42;
pub const G3: u128 = 43;
pub const G4: u128 = 44;
pub const GX: u128 = 45;
pub const FIP1: u128 = 51;
pub const FIP4: u128 = 54;

fn network(kind: NetworkType, segment: Option<u32>, mtu: u16) -> Network {
    Network {
        kind,
        physical_network: kind.is_provider().then(|| "extnet".into()),
        segmentation_id: segment,
        mtu,
        external: kind.is_provider(),
        admin_state_up: true,
        port_security_enabled: true,
        service_mac: None,
        dns_domain: Some("cloud.example.".into()),
    }
}

fn subnet(network: u128, cidr: &str, gateway: &str, dhcp: Option<&str>) -> Subnet {
    let cidr: ipnet::IpNet = cidr.parse().unwrap();
    let mode = cidr.addr().is_ipv6().then_some(Ipv6Mode::Slaac);
    Subnet {
        network: id(network).into(),
        cidr,
        gateway: Some(gateway.parse().unwrap()),
        dns_nameservers: vec![if cidr.addr().is_ipv4() {
            "9.9.9.9".parse().unwrap()
        } else {
            "2620:fe::9".parse().unwrap()
        }],
        host_routes: Vec::new(),
        enable_dhcp: dhcp.is_some() || mode.is_some(),
        ipv6_ra_mode: mode,
        ipv6_address_mode: mode,
        dhcp_server: dhcp.map(|d| d.parse().unwrap()),
    }
}

pub fn fixed(subnet: u128, address: &str) -> FixedIp {
    FixedIp {
        subnet: id(subnet).into(),
        address: address.parse().unwrap(),
    }
}

pub fn port(network: u128, n: u8, ips: &[FixedIp], groups: &[u128], tap: &str) -> Port {
    Port {
        network: id(network).into(),
        mac: mac(n),
        fixed_ips: ips.to_vec(),
        allowed_address_pairs: Vec::new(),
        port_security_enabled: true,
        security_groups: groups.iter().map(|g| id(*g).into()).collect(),
        admin_state_up: true,
        device_owner: "compute:nova".into(),
        device_id: id(1000 + u128::from(n)).to_string(),
        binding: Binding::Local { interface: tap.into() },
        extra_dhcp_opts: Vec::new(),
        dns_name: None,
        qos: None,
    }
}

pub fn rule(direction: Direction, ethertype: EtherType) -> SecurityGroupRule {
    SecurityGroupRule {
        direction,
        ethertype,
        protocol: None,
        port_range_min: None,
        port_range_max: None,
        remote_ip_prefix: None,
        remote_group: None,
        remote_address_group: None,
    }
}

pub fn tcp_in(port: u16) -> SecurityGroupRule {
    SecurityGroupRule {
        protocol: Some("tcp".into()),
        port_range_min: Some(port),
        port_range_max: Some(port),
        ..rule(Direction::Ingress, EtherType::Ipv4)
    }
}

pub fn egress_all() -> Vec<SecurityGroupRule> {
    vec![
        rule(Direction::Egress, EtherType::Ipv4),
        rule(Direction::Egress, EtherType::Ipv6),
    ]
}

fn group(mut rules: Vec<SecurityGroupRule>) -> SecurityGroup {
    rules.extend(egress_all());
    SecurityGroup { stateful: true, rules }
}

fn interface(n: u8, network: u128, ips: &[FixedIp]) -> RouterInterface {
    RouterInterface {
        port: id(60 + u128::from(n)).into(),
        network: id(network).into(),
        mac: infra(n),
        fixed_ips: ips.to_vec(),
        admin_state_up: true,
    }
}

fn gateway(n: u8, address: &str) -> Gateway {
    Gateway {
        port: id(60 + u128::from(n)).into(),
        network: id(NET_X).into(),
        mac: infra(n),
        fixed_ips: vec![fixed(SUB_X, address)],
        enable_snat: true,
        binding: Gateway::here(),
    }
}

pub fn floating(n: u8, address: &str, port: u128, to: &str, router: u128) -> FloatingIp {
    FloatingIp {
        network: id(NET_X).into(),
        address: address.parse().unwrap(),
        mac: infra(n),
        port: id(port).into(),
        fixed_address: to.parse().unwrap(),
        router: id(router).into(),
    }
}

/// g1 (web, floating IP) and g2 in A, g3 in B, both at R1; g4 in C with A's addresses at R2; gx in the external network.
pub fn cloud() -> Topology {
    let mut t = Topology::default();
    t.node.hostname = "node".into();
    t.node.bridge_mappings.insert("extnet".into(), "br-ex".into());
    t.node.metadata = Some(MetadataListener {
        mac: infra(200),
        tcp_port: 8775,
        clients_v4: "100.64.0.0/10".parse().unwrap(),
        clients_v6: "fd00:a9fe:a9fe::/96".parse().unwrap(),
    });
    for (n, v) in [
        (NET_A, network(NetworkType::Vxlan, Some(70001), 1450)),
        (NET_B, network(NetworkType::Vxlan, Some(70002), 1450)),
        (NET_C, network(NetworkType::Vxlan, Some(70003), 1450)),
        (NET_X, network(NetworkType::Flat, None, 1500)),
    ] {
        t.networks.insert(id(n).into(), v);
    }
    for (n, v) in [
        (
            SUB_A,
            subnet(NET_A, "192.168.5.0/24", "192.168.5.1", Some("192.168.5.2")),
        ),
        (SUB_A6, subnet(NET_A, "fd00:5::/64", "fd00:5::1", None)),
        (
            SUB_B,
            subnet(NET_B, "192.168.6.0/24", "192.168.6.1", Some("192.168.6.2")),
        ),
        (SUB_B6, subnet(NET_B, "fd00:6::/64", "fd00:6::1", None)),
        (
            SUB_C,
            subnet(NET_C, "192.168.5.0/24", "192.168.5.1", Some("192.168.5.2")),
        ),
        (SUB_X, subnet(NET_X, "10.98.0.0/24", "10.98.0.1", None)),
    ] {
        t.subnets.insert(id(n).into(), v);
    }
    let ping = SecurityGroupRule {
        protocol: Some("icmp".into()),
        ..rule(Direction::Ingress, EtherType::Ipv4)
    };
    let open = vec![
        rule(Direction::Ingress, EtherType::Ipv4),
        rule(Direction::Ingress, EtherType::Ipv6),
    ];
    let members = SecurityGroupRule {
        remote_group: Some(id(SG_MEMBERS).into()),
        ..tcp_in(9000)
    };
    for (n, v) in [
        (SG_OPEN, group(open)),
        (SG_WEB, group(vec![tcp_in(80), ping])),
        (SG_MEMBERS, group(vec![members])),
        (SG_EMPTY, group(vec![])),
    ] {
        t.security_groups.insert(id(n).into(), v);
    }
    let ports = [
        (
            G1,
            port(
                NET_A,
                1,
                &[fixed(SUB_A, "192.168.5.11"), fixed(SUB_A6, "fd00:5::11")],
                &[SG_WEB, SG_MEMBERS],
                "g1",
            ),
        ),
        (
            G2,
            port(
                NET_A,
                2,
                &[fixed(SUB_A, "192.168.5.12"), fixed(SUB_A6, "fd00:5::12")],
                &[SG_OPEN, SG_MEMBERS],
                "g2",
            ),
        ),
        (
            G3,
            port(
                NET_B,
                3,
                &[fixed(SUB_B, "192.168.6.13"), fixed(SUB_B6, "fd00:6::13")],
                &[SG_OPEN],
                "g3",
            ),
        ),
        (G4, port(NET_C, 4, &[fixed(SUB_C, "192.168.5.11")], &[SG_OPEN], "g4")),
        (GX, port(NET_X, 5, &[fixed(SUB_X, "10.98.0.60")], &[SG_OPEN], "gx")),
    ];
    t.ports.extend(ports.map(|(n, p)| (id(n).into(), p)));
    t.routers.insert(
        id(R1).into(),
        Router {
            admin_state_up: true,
            interfaces: vec![
                interface(1, NET_A, &[fixed(SUB_A, "192.168.5.1")]),
                interface(2, NET_A, &[fixed(SUB_A6, "fd00:5::1")]),
                interface(3, NET_B, &[fixed(SUB_B, "192.168.6.1"), fixed(SUB_B6, "fd00:6::1")]),
            ],
            gateway: Some(gateway(4, "10.98.0.21")),
            routes: Vec::new(),
        },
    );
    t.routers.insert(
        id(R2).into(),
        Router {
            admin_state_up: true,
            interfaces: vec![interface(5, NET_C, &[fixed(SUB_C, "192.168.5.1")])],
            gateway: Some(gateway(6, "10.98.0.22")),
            routes: Vec::new(),
        },
    );
    let one = floating(101, "10.98.0.101", G1, "192.168.5.11", R1);
    t.floating_ips.insert(id(FIP1).into(), one);
    let four = floating(104, "10.98.0.104", G4, "192.168.5.11", R2);
    t.floating_ips.insert(id(FIP4).into(), four);
    t
}

/// Port numbers for [`cloud`], as if everything were plugged.
pub fn numbers() -> PortNumbers {
    let guests = ["g1", "g2", "g3", "g4", "gx"].into_iter().zip(11..);
    let patch = Patch {
        integration: 1,
        physical: 1,
    };
    PortNumbers {
        interfaces: guests.map(|(name, n)| (name.to_owned(), n)).collect(),
        patches: [("br-ex".to_owned(), patch)].into(),
        tunnels: [(NetworkType::Vxlan, 2)].into(),
        metadata: Some(3),
    }
}

pub fn v4(a: &str) -> Ipv4Addr {
    a.parse().unwrap()
}

pub fn ip(a: &str) -> IpAddr {
    a.parse().unwrap()
}
