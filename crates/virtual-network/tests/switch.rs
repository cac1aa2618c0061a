//! The compiled flows in a real Open vSwitch, and real packets through them.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "common/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "common/lab.rs"]
mod lab;

use fixture::*;
use lab::*;
use virtual_network::topology::*;

fn guests(lab: &mut Lab, which: &[&str]) {
    for g in which {
        match *g {
            "g1" => lab.guest(
                "g1",
                mac(1),
                &["192.168.5.11/24", "fd00:5::11/64"],
                &["192.168.5.1", "fd00:5::1"],
            ),
            "g2" => lab.guest(
                "g2",
                mac(2),
                &["192.168.5.12/24", "fd00:5::12/64"],
                &["192.168.5.1", "fd00:5::1"],
            ),
            "g3" => lab.guest(
                "g3",
                mac(3),
                &["192.168.6.13/24", "fd00:6::13/64"],
                &["192.168.6.1", "fd00:6::1"],
            ),
            "g4" => lab.guest("g4", mac(4), &["192.168.5.11/24"], &["192.168.5.1"]),
            "gx" => lab.guest("gx", mac(5), &["10.98.0.60/24"], &["10.98.0.1"]),
            "out" => lab.outside(),
            "meta" => lab.metadata(),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_switch_takes_every_flow_and_keeps_it_as_it_was() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2", "g3", "g4", "gx", "out", "meta"]);
    lab.check_flows();
}

#[test]
fn guests_of_a_network_reach_each_other_as_their_groups_say() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2", "g4"]);
    assert!(lab.ping("g2", "192.168.5.11"), "ICMP is allowed to g1");
    assert!(lab.ping("g1", "192.168.5.12"), "everything is allowed to g2");
    assert!(lab.ping("g1", "fd00:5::12"), "IPv6 too");
    assert!(!lab.ping("g2", "fd00:5::11"), "nothing allows IPv6 to g1");
    for port in [80, 81, 9000] {
        lab.serve("g1", port);
    }
    assert_eq!(lab.seen_as("g2", "192.168.5.11", 80).as_deref(), Some("192.168.5.12"));
    assert_eq!(lab.seen_as("g2", "192.168.5.11", 81), None, "no rule for 81");
    assert!(
        lab.seen_as("g2", "192.168.5.11", 9000).is_some(),
        "g2 is in the group that may"
    );
    lab.edit(|t| {
        let g2 = t.ports.get_mut(&id(G2).into()).unwrap();
        g2.security_groups.remove(&id(SG_MEMBERS).into());
    });
    assert_eq!(lab.seen_as("g2", "192.168.5.11", 9000), None, "g2 has left it");
    lab.check_flows();
}

#[test]
fn routers_route_answer_and_say_why_not() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g2", "g3"]);
    for own in ["192.168.5.1", "192.168.6.1", "10.98.0.21", "fd00:5::1", "fd00:6::1"] {
        assert!(lab.ping("g2", own), "the router answers at {own}");
    }
    assert!(lab.ping("g2", "192.168.5.2"), "the DHCP server's address answers");
    assert!(lab.ping("g2", "192.168.6.13") && lab.ping("g3", "192.168.5.12"));
    assert!(lab.ping("g2", "fd00:6::13") && lab.ping("g3", "fd00:5::12"));
    lab.serve("g3", 80);
    assert_eq!(lab.seen_as("g2", "192.168.6.13", 80).as_deref(), Some("192.168.5.12"));
    assert_eq!(lab.seen_as("g2", "fd00:6::13", 80).as_deref(), Some("fd00:5::12"));
    let error = |to: &str, ttl| {
        lab.udp_error("g2", to, ttl, 10)
            .map(|e| e.raw_os_error().unwrap_or_default())
    };
    assert_eq!(
        error("192.168.6.13", None),
        Some(libc::ECONNREFUSED),
        "the guest's own answer"
    );
    assert_eq!(
        error("192.168.6.13", Some(1)),
        Some(libc::EHOSTUNREACH),
        "TTL ran out at the router"
    );
    assert_eq!(
        error("192.168.6.1", None),
        Some(libc::ECONNREFUSED),
        "nobody listens at the router"
    );
    lab.edit(|t| {
        let r = t.routers.get_mut(&id(R1).into()).unwrap();
        r.gateway = None;
        let net = t.networks.get_mut(&id(NET_B).into()).unwrap();
        net.mtu = 1300;
    });
    assert_eq!(
        error("203.0.113.9", None),
        Some(libc::ENETUNREACH),
        "no way out any more"
    );
    // The first packet is too large for the other network; its sender then knows, and says so itself.
    let large = lab
        .udp_error("g2", "192.168.6.13", None, 1350)
        .map(|e| e.raw_os_error().unwrap_or_default());
    assert_eq!(large, Some(libc::EMSGSIZE));
    lab.edit(|t| {
        t.routers.get_mut(&id(R1).into()).unwrap().admin_state_up = false;
    });
    assert!(!lab.ping("g2", "192.168.6.13"), "a router that is down carries nothing");
    lab.check_flows();
}

#[test]
fn floating_ips_and_snat() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2", "g3", "g4", "out"]);
    for at in ["g1", "g2", "g4", "out"] {
        lab.serve(at, 80);
    }
    // To the outside: g1 and g4 with their own addresses, the others with their router's.
    assert_eq!(lab.seen_as("g2", "10.98.0.1", 80).as_deref(), Some("10.98.0.21"));
    assert_eq!(
        lab.seen_as("g3", "203.0.113.1", 80).as_deref(),
        Some("10.98.0.21"),
        "beyond the gateway"
    );
    assert_eq!(lab.seen_as("g1", "10.98.0.1", 80).as_deref(), Some("10.98.0.101"));
    assert_eq!(lab.seen_as("g4", "10.98.0.1", 80).as_deref(), Some("10.98.0.104"));
    assert!(lab.ping("g2", "10.98.0.1") && lab.ping("g1", "203.0.113.1"));
    // From the outside.
    assert_eq!(lab.seen_as("out", "10.98.0.101", 80).as_deref(), Some("10.98.0.1"));
    assert_eq!(
        lab.seen_as("out", "10.98.0.104", 80).as_deref(),
        Some("10.98.0.1"),
        "same inner address, other tenant"
    );
    assert!(lab.ping("out", "10.98.0.101"));
    assert!(lab.ping("out", "10.98.0.21"), "the gateway's address answers");
    lab.serve("g1", 81);
    assert_eq!(
        lab.seen_as("out", "10.98.0.101", 81),
        None,
        "g1's groups do not let this in"
    );
    // Among the guests by floating IP: same router, other router, back to itself.
    assert_eq!(lab.seen_as("g2", "10.98.0.101", 80).as_deref(), Some("10.98.0.21"));
    assert_eq!(lab.seen_as("g4", "10.98.0.101", 80).as_deref(), Some("10.98.0.104"));
    assert_eq!(lab.seen_as("g1", "10.98.0.104", 80).as_deref(), Some("10.98.0.101"));
    assert_eq!(lab.seen_as("g1", "10.98.0.101", 80).as_deref(), Some("10.98.0.101"));
    assert!(lab.ping("g1", "10.98.0.104"));
    // Errors come back through the translation, both ways.
    let refused = |from: &str, to: &str| {
        lab.udp_error(from, to, None, 10)
            .map(|e| e.raw_os_error().unwrap_or_default())
    };
    assert_eq!(refused("g2", "10.98.0.1"), Some(libc::ECONNREFUSED));
    assert_eq!(refused("out", "10.98.0.104"), Some(libc::ECONNREFUSED));
    assert_eq!(
        lab.udp_error("out", "10.98.0.104", Some(1), 10)
            .and_then(|e| e.raw_os_error()),
        Some(libc::EHOSTUNREACH),
        "the router is a hop on the way in too"
    );
    // Nobody is there.
    assert_eq!(lab.seen_as("g2", "10.98.0.99", 80), None);
    lab.check_flows();
}

#[test]
fn a_floating_ip_that_goes_takes_everything_along() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2", "out"]);
    for at in ["g1", "g2"] {
        lab.serve(at, 80);
    }
    let (_, mut talk) = lab.connect("out", "10.98.0.101", 80).unwrap();
    assert!(talk.alive());
    let to_other = floating(101, "10.98.0.101", G2, "192.168.5.12", R1);
    lab.edit(|t| {
        t.floating_ips.insert(id(FIP1).into(), to_other);
    });
    assert!(!talk.alive(), "the connection was g1's");
    assert_eq!(
        lab.seen_as("out", "10.98.0.101", 80).as_deref(),
        Some("10.98.0.1"),
        "now it is g2"
    );
    lab.edit(|t| {
        t.floating_ips.remove(&id(FIP1).into());
    });
    assert_eq!(lab.seen_as("out", "10.98.0.101", 80), None);
    assert!(!lab.ping("out", "10.98.0.101"));
    assert_eq!(
        lab.seen_as("g2", "192.168.5.11", 80).as_deref(),
        Some("192.168.5.12"),
        "inside all is as before"
    );
    // Without SNAT, packets leave as they are, and the outside has a route back.
    lab.exec("out", "ip", &["route", "add", "192.168.5.0/24", "via", "10.98.0.21"]);
    lab.serve("out", 80);
    assert_eq!(lab.seen_as("g2", "10.98.0.1", 80).as_deref(), Some("10.98.0.21"));
    lab.edit(|t| {
        let r = t.routers.get_mut(&id(R1).into()).unwrap();
        r.gateway.as_mut().unwrap().enable_snat = false;
    });
    assert_eq!(lab.seen_as("g2", "10.98.0.1", 80).as_deref(), Some("192.168.5.12"));
}

#[test]
fn a_rule_that_goes_ends_its_connections() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2"]);
    lab.serve("g1", 80);
    let (_, mut talk) = lab.connect("g2", "192.168.5.11", 80).unwrap();
    assert!(talk.alive());
    let web = id(SG_WEB).into();
    let rules = |lab: &Lab, rules: Vec<_>| {
        lab.edit(|t| {
            t.security_groups.get_mut(&web).unwrap().rules = rules;
        });
    };
    rules(&lab, egress_all());
    assert!(!talk.alive(), "what is established is not allowed any more");
    let mut allowed = egress_all();
    allowed.push(tcp_in(80));
    rules(&lab, allowed);
    assert!(
        lab.seen_as("g2", "192.168.5.11", 80).is_some(),
        "and new ones are, once the rule is back"
    );
    // Without state, answers need a rule of their own.
    lab.edit(|t| {
        let g2 = t.ports.get_mut(&id(G2).into()).unwrap();
        g2.security_groups = [web].into();
        t.security_groups.get_mut(&web).unwrap().stateful = false;
    });
    assert!(
        lab.seen_as("g2", "192.168.5.11", 80).is_none(),
        "the answer is not allowed to g2"
    );
}

#[test]
fn guests_use_only_what_is_theirs() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g2", "g3"]);
    assert!(lab.ping("g2", "192.168.5.11"));
    lab.exec("g2", "ip", &["addr", "add", "192.168.5.99/24", "dev", "eth0"]);
    assert!(
        !lab.ping_from("g2", Some("192.168.5.99"), "192.168.5.11"),
        "another IPv4 address"
    );
    lab.exec("g2", "ip", &["addr", "add", "fd00:5::99/64", "dev", "eth0", "nodad"]);
    assert!(
        !lab.ping_from("g2", Some("fd00:5::99"), "fd00:6::13"),
        "another IPv6 address"
    );
    // ARP for an address of someone else: g2 says it is g1.
    let arp = |sha: [u8; 6], spa: [u8; 4], op: u8| {
        let mut f = vec![0xff; 6];
        f.extend(mac(2).bytes());
        f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        f.extend(sha);
        f.extend(spa);
        f.extend([0; 6]);
        f.extend(spa);
        f
    };
    lab.edit(|t| {
        // A guest that no rule filters hears what is said.
        t.ports.get_mut(&id(G1).into()).unwrap().port_security_enabled = false;
    });
    assert!(lab.ping("g1", "192.168.5.12"));
    lab.exec("g1", "sysctl", &["-qw", "net.ipv4.conf.eth0.arp_accept=1"]);
    lab.inject("g2", &arp(mac(2).bytes(), [192, 168, 5, 200], 2));
    lab.inject("g2", &arp(mac(9).bytes(), [192, 168, 5, 12], 2));
    // Its own is heard, and comes later, so the others would have been there.
    lab.exec("g1", "ip", &["neigh", "flush", "all"]);
    assert!(lab.ping("g2", "192.168.5.11"));
    assert!(lab.neighbor("g1", "192.168.5.12").contains(&mac(2).to_string()));
    assert!(!lab.neighbor("g1", "192.168.5.200").contains("lladdr"));
    // With an address pair it is allowed, and others find it although the topology does not tell where it is.
    lab.edit(|t| {
        let pair = AddressPair {
            address: "192.168.5.99/32".parse().unwrap(),
            mac: None,
        };
        t.ports.get_mut(&id(G2).into()).unwrap().allowed_address_pairs = vec![pair];
    });
    assert!(lab.ping_from("g2", Some("192.168.5.99"), "192.168.5.11"));
    assert!(lab.ping("g1", "192.168.5.99"));
    assert!(lab.ping("g3", "192.168.5.99"), "the router asks for it");
    // Another MAC.
    lab.exec("g2", "ip", &["link", "set", "eth0", "address", &mac(77).to_string()]);
    assert!(!lab.ping("g2", "192.168.5.11"));
    lab.edit(|t| {
        t.ports.get_mut(&id(G2).into()).unwrap().port_security_enabled = false;
    });
    assert!(lab.ping("g2", "192.168.5.11"), "without port security anything goes");
    lab.edit(|t| {
        t.ports.get_mut(&id(G2).into()).unwrap().admin_state_up = false;
    });
    assert!(!lab.ping("g1", "192.168.5.12"), "a port that is down carries nothing");
}

#[test]
fn guests_in_the_providers_network() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["gx", "g1", "g2", "out"]);
    lab.serve("gx", 80);
    lab.serve("g1", 80);
    assert!(lab.ping("gx", "10.98.0.1") && lab.ping("out", "10.98.0.60"));
    assert!(lab.ping("gx", "203.0.113.1"));
    assert_eq!(lab.seen_as("out", "10.98.0.60", 80).as_deref(), Some("10.98.0.1"));
    assert_eq!(
        lab.seen_as("g2", "10.98.0.60", 80).as_deref(),
        Some("10.98.0.21"),
        "through the router"
    );
    assert_eq!(lab.seen_as("g1", "10.98.0.60", 80).as_deref(), Some("10.98.0.101"));
    assert_eq!(lab.seen_as("gx", "10.98.0.101", 80).as_deref(), Some("10.98.0.60"));
    lab.check_flows();
}

#[test]
fn metadata_tells_who_asks() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g1", "g4", "meta"]);
    lab.serve("meta", 8775);
    for (guest, port) in [("g1", G1), ("g4", G4)] {
        let seen = lab.seen_as(guest, "169.254.169.254", 80).unwrap();
        let (who, address) = lab.client(ip(&seen)).unwrap();
        assert_eq!(
            (who, address),
            (id(port).into(), ip("192.168.5.11")),
            "both have the same address"
        );
        let seen = lab.seen_as(guest, "fe80::a9fe:a9fe%eth0", 80).unwrap();
        assert_eq!(lab.client(ip(&seen)).unwrap().0, id(port).into(), "by IPv6 too");
    }
}

#[test]
fn addresses_come_by_dhcp_and_by_advertisement() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    lab.guest("g2", mac(2), &[], &[]);
    let mut discover = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0];
    discover.resize(28, 0);
    discover.extend(mac(2).bytes());
    discover.resize(236, 0);
    discover.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac(2).bytes(), [0xff; 6])
        .ipv4([0; 4], [255; 4], 64)
        .udp(68, 67)
        .write(&mut frame, &discover)
        .unwrap();
    let offer = lab.exchange("g2", &frame, |f| {
        f.len() > 282 && f[12..14] == [8, 0] && f[34..38] == [0, 67, 0, 68]
    });
    let offer = offer.expect("an offer");
    assert_eq!(offer[58..62], [192, 168, 5, 12], "its own address");
    // The same from a guest that pretends to be the server goes nowhere.
    let trace = lab.trace(&format!(
        "in_port={},udp,dl_src={},dl_dst=ff:ff:ff:ff:ff:ff,nw_src=192.168.5.12,nw_dst=255.255.255.255,udp_src=67,udp_dst=68",
        lab.ofport("g2"),
        mac(2)
    ));
    assert!(trace.contains("Datapath actions: drop"), "{trace}");
    // With the interface down and up again the guest solicits, and makes its address from the answer.
    lab.exec("g2", "sysctl", &["-qw", "net.ipv6.conf.eth0.accept_ra=2"]);
    lab.exec("g2", "ip", &["link", "set", "eth0", "down"]);
    lab.exec("g2", "ip", &["link", "set", "eth0", "up"]);
    eventually("an address from the advertised prefix", || {
        let all = lab.exec("g2", "ip", &["-6", "addr", "show", "dev", "eth0"]);
        let routes = lab.exec("g2", "ip", &["-6", "route"]);
        all.contains("fd00:5::f816:3eff:fe00:2/64") && routes.contains("default via fe80::")
    });
}

#[test]
fn ipv6_goes_out_as_it_is() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g2", "g3", "out"]);
    lab.edit(|t| {
        let mut subnet = t.subnets[&id(SUB_X).into()].clone();
        subnet.cidr = "2001:db8::/64".parse().unwrap();
        subnet.gateway = Some(ip("2001:db8::1"));
        t.subnets.insert(id(SUB_X6).into(), subnet);
        let r = t.routers.get_mut(&id(R1).into()).unwrap();
        r.gateway
            .as_mut()
            .unwrap()
            .fixed_ips
            .push(fixed(SUB_X6, "2001:db8::21"));
    });
    lab.exec("out", "ip", &["addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
    lab.exec("out", "ip", &["addr", "add", "2001:db8:1::1/128", "dev", "lo"]);
    lab.exec("out", "ip", &["route", "add", "fd00:5::/64", "via", "2001:db8::21"]);
    lab.serve("out", 80);
    lab.serve("g2", 80);
    assert!(lab.ping("out", "2001:db8::21"), "the gateway answers");
    assert_eq!(lab.seen_as("g2", "2001:db8::1", 80).as_deref(), Some("fd00:5::12"));
    assert_eq!(lab.seen_as("g2", "2001:db8:1::1", 80).as_deref(), Some("fd00:5::12"));
    assert_eq!(lab.seen_as("out", "fd00:5::12", 80).as_deref(), Some("2001:db8::1"));
    let error = lab.udp_error("g2", "2001:db8::1", Some(1), 10);
    assert!(
        error.is_some(),
        "the hop limit ran out at the router, or the host refused"
    );
}

#[test]
fn virtual_addresses_have_floating_ips_and_fragments_arrive() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    guests(&mut lab, &["g2", "g3", "out"]);
    lab.exec("g2", "ip", &["addr", "add", "192.168.5.99/24", "dev", "eth0"]);
    lab.edit(|t| {
        let pair = AddressPair {
            address: "192.168.5.99/32".parse().unwrap(),
            mac: None,
        };
        t.ports.get_mut(&id(G2).into()).unwrap().allowed_address_pairs = vec![pair];
        let mut vip = port(NET_A, 99, &[fixed(SUB_A, "192.168.5.99")], &[], "");
        vip.binding = Binding::Unbound;
        t.ports.insert(id(99).into(), vip);
        let f = floating(109, "10.98.0.109", 99, "192.168.5.99", R1);
        t.floating_ips.insert(id(109).into(), f);
    });
    lab.serve("g2", 80);
    assert_eq!(lab.seen_as("out", "10.98.0.109", 80).as_deref(), Some("10.98.0.1"));
    assert!(lab.ping_large("g3", "192.168.5.12", 3000), "between subnets");
    assert!(lab.ping_large("g3", "10.98.0.1", 1400), "through NAT");
    assert!(
        lab.ping_large("out", "10.98.0.109", 1470),
        "fragmented at the router, as the tenant's MTU is 1450"
    );
    lab.exec("out", "ip", &["link", "set", "eth0", "mtu", "1450"]);
    assert!(lab.ping_large("g3", "10.98.0.1", 3000), "in fragments through NAT");
    assert!(lab.ping_large("out", "10.98.0.109", 3000));
}

#[test]
fn other_nodes_and_vlans() {
    if !available() {
        return;
    }
    let mut lab = Lab::start();
    lab.guest("g1", mac(1), &["192.168.5.11/24"], &["192.168.5.1"]);
    lab.tunnel(NetworkType::Vxlan);
    lab.edit(|t| {
        let g2 = t.ports.get_mut(&id(G2).into()).unwrap();
        g2.binding = Binding::Remote {
            tunnel: ip("10.99.0.2"),
        };
        let mut other = port(NET_B, 77, &[fixed(SUB_B, "192.168.6.77")], &[], "");
        other.binding = Binding::Remote {
            tunnel: ip("10.99.0.3"),
        };
        t.ports.insert(id(77).into(), other);
        let x = t.networks.get_mut(&id(NET_X).into()).unwrap();
        (x.kind, x.segmentation_id) = (NetworkType::Vlan, Some(100));
    });
    let (g1, tunnel, patch) = (lab.ofport("g1"), lab.ofport("tun"), lab.ofport("int-br-ex"));
    let from_g1 = |to: MacAddress, dst: &str| {
        format!(
            "in_port={g1},icmp,dl_src={},dl_dst={to},nw_src=192.168.5.11,nw_dst={dst},nw_ttl=64,icmp_type=8",
            mac(1)
        )
    };
    let trace = |packet: &str| {
        lab.appctl(&[
            "ofproto/trace",
            "br-int",
            packet,
            "--ct-next",
            "trk,new",
            "--ct-next",
            "trk,new",
        ])
    };
    let t = trace(&from_g1(mac(2), "192.168.5.12"));
    assert!(
        t.contains("set_field:0x11171->tun_id") && t.contains("10.99.0.2->tun_dst"),
        "to a guest elsewhere: {t}"
    );
    let t = trace(&from_g1(infra(1), "192.168.6.77"));
    assert!(
        t.contains("set_field:0x11172->tun_id") && t.contains("10.99.0.3->tun_dst"),
        "routed here, then there: {t}"
    );
    let arp = format!(
        "in_port={g1},arp,dl_src={},dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_sha={},arp_spa=192.168.5.11",
        mac(1),
        mac(1)
    );
    let t = trace(&format!("{arp},arp_tpa=192.168.5.12"));
    assert!(
        t.contains("IN_PORT") && !t.contains("tun_dst"),
        "what is known is not flooded: {t}"
    );
    let t = trace(&format!("{arp},arp_tpa=192.168.5.222"));
    assert!(
        t.contains("10.99.0.2->tun_dst") && !t.contains("10.99.0.3->tun_dst"),
        "only to who has ports: {t}"
    );
    let t = lab.appctl(&[
        "ofproto/trace", "br-int",
        &format!("in_port={tunnel},tun_id=70001,icmp,dl_src={},dl_dst={},nw_src=192.168.5.12,nw_dst=192.168.5.11,nw_ttl=64,icmp_type=8", mac(2), mac(1)),
        "--ct-next", "trk,new",
    ]);
    assert!(t.contains(&format!("output:{g1}")), "{t}");
    // The provider's VLAN on the wire, and back.
    lab.change(|c| c.set_neighbor(id(NET_X).into(), ip("10.98.0.1"), Some(infra(254))));
    let t = trace(&from_g1(infra(1), "10.98.0.1"));
    assert!(
        t.contains("push_vlan:0x8100") && t.contains(&format!("output:{patch}")),
        "{t}"
    );
    let back = |vlan: u16| {
        format!(
            "in_port={patch},dl_vlan={vlan},arp,dl_src={},dl_dst=ff:ff:ff:ff:ff:ff,arp_op=1,arp_sha={},arp_spa=10.98.0.1,arp_tpa=10.98.0.101",
            infra(254),
            infra(254)
        )
    };
    let t = lab.trace(&back(100));
    assert!(
        t.contains("IN_PORT") || t.contains("output:LOCAL") || t.contains("arp(sip=10.98.0.101"),
        "{t}"
    );
    let t = lab.trace(&back(101));
    assert!(t.contains("Datapath actions: drop"), "another VLAN is not ours: {t}");
    lab.check_flows();
}
