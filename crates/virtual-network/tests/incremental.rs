//! What the compiler says after any sequence of changes is what compiling the result from nothing says.
#![allow(clippy::unwrap_used)]

#[path = "common/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use fixture::*;
use openflow::Flow;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use virtual_network::topology::*;
use virtual_network::{Bridge, Compiler, FlowDiff, Flows, compile};

/// Flows as a switch holds them.
type Held = BTreeMap<Bridge, BTreeSet<Flow>>;

fn sorted(flows: Flows) -> Held {
    let flows = flows.into_iter().map(|(b, f)| (b, f.into_iter().collect()));
    flows.filter(|(_, f): &(_, BTreeSet<Flow>)| !f.is_empty()).collect()
}

fn apply(held: &mut Held, diff: FlowDiff) {
    for (bridge, d) in diff.bridges {
        let flows = held.entry(bridge).or_default();
        for f in d.remove {
            assert!(flows.remove(&f), "removes what was not there: {f}");
        }
        for f in d.add {
            flows.retain(|x| x.key() != f.key());
            flows.insert(f);
        }
    }
    held.retain(|_, f| !f.is_empty());
}

#[derive(Debug, Clone)]
enum Edit {
    Port(u8, u8, u8, u8),
    Unport(u8),
    Network(u8, u8),
    Subnet(u8, u8),
    Router(u8, u8),
    Floating(u8, u8),
    Group(u8, u8),
    Addresses(u8),
    Neighbor(u8, bool),
    Plug(u8),
    Node(bool),
}

fn edit() -> impl Strategy<Value = Edit> {
    let b = any::<u8>;
    prop_oneof![
        6 => (b(), b(), b(), b()).prop_map(|(a, b, c, d)| Edit::Port(a, b, c, d)),
        3 => b().prop_map(Edit::Unport),
        1 => (b(), b()).prop_map(|(a, b)| Edit::Network(a, b)),
        2 => (b(), b()).prop_map(|(a, b)| Edit::Subnet(a, b)),
        3 => (b(), b()).prop_map(|(a, b)| Edit::Router(a, b)),
        2 => (b(), b()).prop_map(|(a, b)| Edit::Floating(a, b)),
        4 => (b(), b()).prop_map(|(a, b)| Edit::Group(a, b)),
        1 => b().prop_map(Edit::Addresses),
        1 => (b(), any::<bool>()).prop_map(|(a, b)| Edit::Neighbor(a, b)),
        2 => b().prop_map(Edit::Plug),
        1 => any::<bool>().prop_map(Edit::Node),
    ]
}

const NETS: [u128; 4] = [NET_A, NET_B, NET_C, NET_X];
const SUBS: [u128; 4] = [SUB_A, SUB_B, SUB_C, SUB_X];
const GROUPS: [u128; 5] = [SG_OPEN, SG_WEB, SG_MEMBERS, SG_EMPTY, 35];

fn made_port(n: u8, how: u8, groups: u8, binding: u8) -> Port {
    let net = usize::from(how % 4);
    let (third, prefix) = [(5, "192.168"), (6, "192.168"), (5, "192.168"), (0, "10.98")][net];
    let address = format!("{prefix}.{third}.{}", 100 + n % 8);
    let chosen: Vec<u128> = GROUPS
        .iter()
        .enumerate()
        .filter(|(i, _)| groups >> i & 1 == 1)
        .map(|g| *g.1)
        .collect();
    let mut p = port(
        NETS[net],
        n % 8 + 10,
        &[fixed(SUBS[net], &address)],
        &chosen,
        &format!("t{}", n % 8),
    );
    p.port_security_enabled = how & 16 == 0;
    p.admin_state_up = how & 0xe0 != 0;
    if how & 8 != 0 {
        p.allowed_address_pairs = vec![AddressPair {
            address: "10.1.0.0/16".parse().unwrap(),
            mac: (how & 4 != 0).then(|| mac(99)),
        }];
    }
    p.binding = match binding % 5 {
        0 => Binding::Remote {
            tunnel: ip("10.99.0.2"),
        },
        1 => Binding::Remote {
            tunnel: ip("10.99.0.3"),
        },
        2 => Binding::Unbound,
        _ => p.binding,
    };
    p
}

fn change(t: &Topology, e: &Edit) -> Option<Change> {
    Some(match e {
        Edit::Port(n, how, groups, binding) => Change::Port(
            id(100 + u128::from(n % 8)).into(),
            Some(made_port(*n, *how, *groups, *binding)),
        ),
        Edit::Unport(n) => Change::Port(id(100 + u128::from(n % 8)).into(), None),
        Edit::Network(n, how) => {
            let key = id(NETS[usize::from(n % 4)]).into();
            let mut v = cloud().networks[&key].clone();
            v.admin_state_up = how & 1 == 0;
            if how & 2 != 0 {
                v.mtu = 1400;
            }
            Change::Network(key, (how % 5 != 0).then_some(v))
        }
        Edit::Subnet(n, how) => {
            let all: Vec<_> = cloud().subnets.into_iter().collect();
            let (key, mut v) = all[usize::from(*n) % all.len()].clone();
            v.enable_dhcp = how & 1 == 0;
            if how & 2 != 0 {
                v.gateway = None;
            }
            Change::Subnet(key, (how % 5 != 0).then_some(v))
        }
        Edit::Router(n, how) => {
            let key = id([R1, R2][usize::from(n % 2)]).into();
            let mut v = cloud().routers[&key].clone();
            v.admin_state_up = how & 1 == 0;
            if how & 2 != 0 {
                v.gateway = None;
            }
            if how & 4 != 0 {
                v.interfaces.pop();
            }
            if how & 8 != 0 {
                v.routes.push(Route {
                    destination: "172.30.0.0/16".parse().unwrap(),
                    nexthop: ip("192.168.5.77"),
                });
            }
            if let Some(g) = &mut v.gateway {
                g.enable_snat = how & 16 == 0;
            }
            Change::Router(key, (how % 5 != 0).then_some(v))
        }
        Edit::Floating(n, how) => {
            let port = 100 + u128::from(how % 8);
            let v = floating(
                150,
                "10.98.0.150",
                port,
                &format!("192.168.5.{}", 100 + how % 8),
                [R1, R2][usize::from(n % 2)],
            );
            Change::FloatingIp(id(200).into(), (how % 7 != 0).then_some(v))
        }
        Edit::Group(n, how) => {
            let mut rules = egress_all();
            for (i, g) in GROUPS.iter().enumerate().filter(|(i, _)| how >> i & 1 == 1) {
                let mut r = tcp_in(1000 + i as u16);
                r.remote_group = (how & 32 != 0).then(|| id(*g).into());
                if how & 64 != 0 {
                    (r.protocol, r.port_range_min, r.port_range_max) = (None, None, None);
                }
                if i == 2 && r.remote_group.is_none() {
                    r.remote_address_group = Some(id(300).into());
                }
                rules.push(r);
            }
            let v = SecurityGroup {
                stateful: how & 128 == 0,
                rules,
            };
            Change::SecurityGroup(id(GROUPS[usize::from(n % 5)]).into(), (*how != 0).then_some(v))
        }
        Edit::Addresses(how) => {
            let addresses = (0..how % 4)
                .map(|i| format!("10.{i}.0.0/16").parse().unwrap())
                .collect();
            Change::AddressGroup(id(300).into(), (how % 5 != 0).then_some(AddressGroup { addresses }))
        }
        Edit::Node(metadata) => {
            let mut node = t.node.clone();
            node.metadata = cloud().node.metadata.filter(|_| *metadata);
            Change::Node(node)
        }
        Edit::Neighbor(..) | Edit::Plug(_) => return None,
    })
}

fn plugged() -> virtual_network::PortNumbers {
    let mut n = numbers();
    for i in 0..8 {
        n.interfaces.insert(format!("t{i}"), 20 + i);
    }
    n
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `PROPTEST_CASES` for more.
        cases: if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 64 },
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn incremental_is_full(edits in prop::collection::vec((edit(), any::<bool>()), 1..25)) {
        let mut compiler = Compiler::new(Default::default());
        let mut held = Held::new();
        apply(&mut held, compiler.set_port_numbers(plugged()));
        apply(&mut held, compiler.replace(&cloud()));
        let mut batch = Vec::new();
        for (e, flush) in edits {
            match &e {
                Edit::Neighbor(n, known) => {
                    let address = ip(&format!("10.98.0.{n}"));
                    apply(&mut held, compiler.set_neighbor(id(NET_X).into(), address, known.then(|| mac(*n))));
                }
                Edit::Plug(n) => {
                    let mut ports = compiler.port_numbers().clone();
                    let name = format!("t{}", n % 8);
                    if ports.interfaces.remove(&name).is_none() {
                        ports.interfaces.insert(name, 40 + u32::from(*n));
                    }
                    apply(&mut held, compiler.set_port_numbers(ports));
                }
                _ => batch.extend(change(compiler.topology(), &e)),
            }
            if flush {
                apply(&mut held, compiler.update(std::mem::take(&mut batch)));
                let mut numbers = compiler.numbers().clone();
                let full = compile(compiler.topology(), compiler.port_numbers(), compiler.neighbors(), &mut numbers);
                prop_assert_eq!(&numbers, compiler.numbers());
                let full = sorted(full);
                prop_assert_eq!(&held, &sorted(compiler.flows()));
                for (bridge, flows) in &full {
                    let empty = BTreeSet::new();
                    let mine = held.get(bridge).unwrap_or(&empty);
                    let missing: Vec<_> = flows.difference(mine).collect();
                    let extra: Vec<_> = mine.difference(flows).collect();
                    prop_assert!(missing.is_empty() && extra.is_empty(), "{:?}\nmissing {:#?}\nextra {:#?}", e, missing, extra);
                }
                prop_assert_eq!(held.len(), full.len());
            }
        }
    }
}

#[test]
fn a_port_costs_its_own_flows() {
    let mut compiler = Compiler::new(Default::default());
    compiler.set_port_numbers(plugged());
    compiler.replace(&cloud());
    let p = port(
        NET_A,
        12,
        &[fixed(SUB_A, "192.168.5.102")],
        &[SG_OPEN, SG_MEMBERS],
        "t2",
    );
    let key: PortId = id(102).into();
    let diff = compiler.update(vec![Change::Port(key, Some(p))]);
    let added = &diff.bridges[&Bridge::Integration];
    // Its own, its membership in the two sets that name its group, and the network's flood list.
    assert!(added.remove.is_empty());
    assert!(added.add.len() < 30, "{:#?}", added.add);
    assert_eq!(diff.flush_zones.len(), 1);
    let diff = compiler.update(vec![Change::Port(key, None)]);
    assert!(diff.bridges[&Bridge::Integration].add.len() <= 2, "{:#?}", diff);
    assert!(compiler.replace(&cloud()).is_empty());
}

#[test]
fn an_address_that_moves_to_another_guest_takes_its_connections_along() {
    let mut compiler = Compiler::new(Default::default());
    compiler.set_port_numbers(plugged());
    compiler.replace(&cloud());
    let other = floating(101, "10.98.0.101", G2, "192.168.5.12", R1);
    let diff = compiler.update(vec![Change::FloatingIp(id(FIP1).into(), Some(other))]);
    let addresses: Vec<String> = diff.flush_connections.iter().map(|c| format!("{c:?}")).collect();
    assert!(
        addresses.iter().any(|a| a.contains("To") && a.contains("10.98.0.101")),
        "{addresses:?}"
    );
    assert!(
        addresses
            .iter()
            .any(|a| a.contains("From") && a.contains("192.168.5.11")),
        "{addresses:?}"
    );
}
