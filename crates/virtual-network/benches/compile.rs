//! Ten thousand ports: compiling them all, and one more.
//!
//! `cargo bench -p virtual-network --bench compile`
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use uuid::Uuid;
use virtual_network::topology::*;
use virtual_network::{Compiler, Neighbors, Numbers, PortNumbers, compile};

const PORTS: u32 = 10_000;
/// A hundred tenants with a network, a router and a default group each.
const TENANTS: u32 = 100;

fn id(kind: u32, n: u32) -> Uuid {
    Uuid::from_u128(u128::from(kind) << 64 | u128::from(n))
}

fn mac(kind: u8, n: u32) -> MacAddress {
    let b = n.to_be_bytes();
    MacAddress::new([0xfa, kind, b[0], b[1], b[2], b[3]])
}

fn rule(direction: Direction, ethertype: EtherType, remote: Option<SecurityGroupId>) -> SecurityGroupRule {
    SecurityGroupRule {
        direction,
        ethertype,
        protocol: None,
        port_range_min: None,
        port_range_max: None,
        remote_ip_prefix: None,
        remote_group: remote,
        remote_address_group: None,
    }
}

fn port(n: u32) -> Port {
    let tenant = n % TENANTS;
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 10)) + n / TENANTS);
    Port {
        network: id(1, tenant).into(),
        mac: mac(1, n),
        fixed_ips: vec![FixedIp {
            subnet: id(2, tenant).into(),
            address: IpAddr::V4(address),
        }],
        allowed_address_pairs: Vec::new(),
        port_security_enabled: true,
        security_groups: [id(3, tenant).into()].into(),
        admin_state_up: true,
        device_owner: "compute:nova".into(),
        device_id: String::new(),
        binding: Binding::Local {
            interface: format!("tap{n}"),
        },
        extra_dhcp_opts: Vec::new(),
        dns_name: None,
        qos: None,
    }
}

fn cloud() -> (Topology, PortNumbers) {
    let mut t = Topology::default();
    let mut numbers = PortNumbers::default();
    for n in 0..TENANTS {
        let network = Network {
            kind: NetworkType::Vxlan,
            physical_network: None,
            segmentation_id: Some(n + 1),
            mtu: 1450,
            external: false,
            admin_state_up: true,
            port_security_enabled: true,
            service_mac: None,
            dns_domain: None,
        };
        t.networks.insert(id(1, n).into(), network);
        let subnet = Subnet {
            network: id(1, n).into(),
            cidr: "10.0.0.0/16".parse().expect("a network"),
            gateway: Some(IpAddr::from([10, 0, 0, 1])),
            dns_nameservers: Vec::new(),
            host_routes: Vec::new(),
            enable_dhcp: true,
            ipv6_ra_mode: None,
            ipv6_address_mode: None,
            dhcp_server: None,
        };
        t.subnets.insert(id(2, n).into(), subnet);
        let own = Some(id(3, n).into());
        let group = SecurityGroup {
            stateful: true,
            rules: vec![
                rule(Direction::Egress, EtherType::Ipv4, None),
                rule(Direction::Egress, EtherType::Ipv6, None),
                rule(Direction::Ingress, EtherType::Ipv4, own),
                rule(Direction::Ingress, EtherType::Ipv6, own),
                SecurityGroupRule {
                    protocol: Some("tcp".into()),
                    port_range_min: Some(22),
                    port_range_max: Some(22),
                    ..rule(Direction::Ingress, EtherType::Ipv4, None)
                },
            ],
        };
        t.security_groups.insert(id(3, n).into(), group);
        let interface = RouterInterface {
            port: id(4, n).into(),
            network: id(1, n).into(),
            mac: mac(2, n),
            fixed_ips: vec![FixedIp {
                subnet: id(2, n).into(),
                address: IpAddr::from([10, 0, 0, 1]),
            }],
            admin_state_up: true,
        };
        let router = Router {
            admin_state_up: true,
            interfaces: vec![interface],
            gateway: None,
            routes: Vec::new(),
        };
        t.routers.insert(id(5, n).into(), router);
    }
    for n in 0..=PORTS {
        numbers.interfaces.insert(format!("tap{n}"), n + 10);
        if n < PORTS {
            t.ports.insert(id(6, n).into(), port(n));
        }
    }
    (t, numbers)
}

fn benches(c: &mut Criterion) {
    let (topology, ports) = cloud();
    let mut group = c.benchmark_group("compile");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("10,000 ports", |b| {
        b.iter(|| compile(black_box(&topology), &ports, &Neighbors::new(), &mut Numbers::default()));
    });
    let mut compiler = Compiler::new(Numbers::default());
    compiler.set_port_numbers(ports);
    compiler.replace(&topology);
    let key: PortId = id(6, PORTS).into();
    group.bench_function("one more, and its end", |b| {
        b.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                let changes = (
                    vec![Change::Port(key, Some(port(PORTS)))],
                    vec![Change::Port(key, None)],
                );
                let start = Instant::now();
                black_box(compiler.update(changes.0));
                black_box(compiler.update(changes.1));
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
