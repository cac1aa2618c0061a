#![no_main]
//! What guests and neighbours send: DHCP, router solicitations, ARP, ND, and packets routers cannot deliver.
use libfuzzer_sys::fuzz_target;
use openflow::{Field, Match, PacketIn};
use std::cell::RefCell;
use std::time::Duration;
use virtual_network::{Compiler, Numbers, PortNumbers, Responder, Topology};

/// A dual-stack network at a router with a gateway, and a guest.
const CLOUD: &str = r#"{
  "node": {"bridge_mappings": {"extnet": "br-ex"}},
  "networks": {
    "00000000-0000-4000-8000-000000000001": {"type": "vxlan", "segmentation_id": 7, "mtu": 1450, "dns_domain": "a.example."},
    "00000000-0000-4000-8000-000000000002": {"type": "flat", "physical_network": "extnet", "mtu": 1500, "external": true}},
  "subnets": {
    "00000000-0000-4000-8000-000000000011": {"network": "00000000-0000-4000-8000-000000000001", "cidr": "192.168.5.0/24",
      "gateway": "192.168.5.1", "dns_nameservers": ["9.9.9.9"], "dhcp_server": "192.168.5.2"},
    "00000000-0000-4000-8000-000000000012": {"network": "00000000-0000-4000-8000-000000000001", "cidr": "fd00:5::/64",
      "gateway": "fd00:5::1", "ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"},
    "00000000-0000-4000-8000-000000000013": {"network": "00000000-0000-4000-8000-000000000002", "cidr": "10.98.0.0/24",
      "gateway": "10.98.0.1", "enable_dhcp": false}},
  "ports": {"00000000-0000-4000-8000-000000000021": {"network": "00000000-0000-4000-8000-000000000001", "mac": "fa:16:3e:00:00:01",
    "binding": {"local": {"interface": "g1"}},
    "fixed_ips": [{"subnet": "00000000-0000-4000-8000-000000000011", "address": "192.168.5.11"},
                  {"subnet": "00000000-0000-4000-8000-000000000012", "address": "fd00:5::11"}]}},
  "routers": {"00000000-0000-4000-8000-000000000031": {
    "interfaces": [{"port": "00000000-0000-4000-8000-000000000041", "network": "00000000-0000-4000-8000-000000000001",
      "mac": "fa:16:3e:00:01:01", "fixed_ips": [
        {"subnet": "00000000-0000-4000-8000-000000000011", "address": "192.168.5.1"},
        {"subnet": "00000000-0000-4000-8000-000000000012", "address": "fd00:5::1"}]}],
    "gateway": {"port": "00000000-0000-4000-8000-000000000042", "network": "00000000-0000-4000-8000-000000000002",
      "mac": "fa:16:3e:00:01:02",
      "fixed_ips": [{"subnet": "00000000-0000-4000-8000-000000000013", "address": "10.98.0.21"}]}}}
}"#;

thread_local! {
    static CLOUD_AND_RESPONDER: RefCell<(Compiler, Responder, u64)> = {
        let topology: Topology = serde_json::from_str(CLOUD).expect("the topology above");
        let mut compiler = Compiler::new(Numbers::default());
        compiler.set_port_numbers(PortNumbers { interfaces: [("g1".to_owned(), 5)].into(), ..PortNumbers::default() });
        compiler.replace(&topology);
        RefCell::new((compiler, Responder::new(), 0))
    };
}

fuzz_target!(|data: &[u8]| {
    let [trap, port, router, network, hop, frame @ ..] = data else { return };
    CLOUD_AND_RESPONDER.with_borrow_mut(|(compiler, responder, now)| {
        // Half a second passes with each packet, so limits and waiting have their part.
        *now += 500;
        let now = Duration::from_millis(*now);
        let metadata = Match::new()
            .with(Field::Reg5, u32::from(port % 4))
            .with(Field::Reg4, u32::from(router % 4))
            .with(Field::Reg6, u32::from(network % 4))
            .with(Field::Reg8, 0x0a62_0000 | u32::from(*hop));
        let packet = PacketIn { userdata: vec![*trap % 10], metadata, data: frame.to_vec(), ..PacketIn::default() };
        let response = responder.respond(compiler, &packet, now);
        for (network, address, mac) in response.neighbors {
            compiler.set_neighbor(network, address, mac);
        }
        for (network, address, mac) in responder.tick(compiler, now).neighbors {
            compiler.set_neighbor(network, address, mac);
        }
    });
});
