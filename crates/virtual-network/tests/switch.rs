//! The compiled flows in a real Open vSwitch, and real packets through them.

#[allow(dead_code)]
#[path = "common/fixture.rs"]
mod fixture;
#[allow(dead_code)]
#[path = "common/lab.rs"]
mod lab;

use fixture::*;
use lab::*;

fn guests(lab: &mut Lab, which: &[&str]) {
    for g in which {
        match *g {
            "g1" => lab.guest("g1", mac(1), &["192.168.5.11/24", "fd00:5::11/64"], &["192.168.5.1", "fd00:5::1"]),
            "g2" => lab.guest("g2", mac(2), &["192.168.5.12/24", "fd00:5::12/64"], &["192.168.5.1", "fd00:5::1"]),
            "g3" => lab.guest("g3", mac(3), &["192.168.6.13/24", "fd00:6::13/64"], &["192.168.6.1", "fd00:6::1"]),
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
    assert!(lab.seen_as("g2", "192.168.5.11", 9000).is_some(), "g2 is in the group that may");
    lab.edit(|t| {
        let g2 = t.ports.get_mut(&id(G2).into()).unwrap();
        g2.security_groups.remove(&id(SG_MEMBERS).into());
    });
    assert_eq!(lab.seen_as("g2", "192.168.5.11", 9000), None, "g2 has left it");
    lab.check_flows();
}
