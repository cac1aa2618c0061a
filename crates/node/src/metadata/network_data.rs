//! `network_data.json`: how a guest's interfaces are to be set up.

use ipnet::IpNet;
use node_protocol::objects::tap_name;
use serde_json::{Value, json};
use virtual_network::topology::{FixedIp, Ipv6Mode, Subnet};

use super::Subject;

/// The document. As upstream's it tells the first IPv4 and the first IPv6 subnet of each interface.
pub fn document(subject: &Subject<'_>) -> Value {
    let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::<Value>::new());
    for (id, port) in subject.ports() {
        let Some(network) = subject.topology.networks.get(&port.network) else {
            continue;
        };
        let subnet_of = |ip: &FixedIp| Some((*ip, subject.topology.subnets.get(&ip.subnet)?));
        let first = |v6: bool| {
            port.fixed_ips
                .iter()
                .filter(|ip| ip.address.is_ipv6() == v6)
                .find_map(subnet_of)
        };
        let found: Vec<(FixedIp, &Subnet)> = [first(false), first(true)].into_iter().flatten().collect();
        if found.is_empty() {
            continue;
        }
        let link = tap_name(id);
        links.push(json!({
            "id": link,
            "vif_id": id.to_string(),
            "type": "ovs",
            "mtu": network.mtu,
            "ethernet_mac_address": port.mac.to_string(),
        }));
        for (ip, subnet) in found {
            let mut entry = json!({"id": format!("network{}", networks.len()), "link": link, "network_id": port.network.to_string()});
            fill(&mut entry, ip, subnet);
            networks.push(entry);
            for service in dns(subnet) {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
    }
    if links.is_empty() {
        return json!({});
    }
    json!({"links": links, "networks": networks, "services": services})
}

fn dns(subnet: &Subnet) -> Vec<Value> {
    subnet
        .dns_nameservers
        .iter()
        .map(|address| json!({"type": "dns", "address": address.to_string()}))
        .collect()
}

fn fill(entry: &mut Value, ip: FixedIp, subnet: &Subnet) {
    let mode = match subnet.ipv6_address_mode {
        Some(Ipv6Mode::Slaac) => Some("slaac"),
        Some(Ipv6Mode::Dhcpv6Stateful) => Some("dhcpv6-stateful"),
        Some(Ipv6Mode::Dhcpv6Stateless) => Some("dhcpv6-stateless"),
        None => None,
    };
    let version = if ip.address.is_ipv6() { 6 } else { 4 };
    entry["type"] = match mode {
        Some(mode) => json!(format!("ipv{version}_{mode}")),
        None if subnet.enable_dhcp => {
            entry["type"] = json!(format!("ipv{version}_dhcp"));
            return;
        }
        None => json!(format!("ipv{version}")),
    };
    entry["ip_address"] = json!(ip.address.to_string());
    entry["netmask"] = json!(netmask(&subnet.cidr));
    let mut routes = Vec::new();
    if let Some(gateway) = subnet.gateway {
        let any = if version == 4 { "0.0.0.0" } else { "::" };
        routes.push(json!({"network": any, "netmask": any, "gateway": gateway.to_string()}));
    }
    for route in &subnet.host_routes {
        routes.push(json!({
            "network": route.destination.network().to_string(),
            "netmask": netmask(&route.destination),
            "gateway": route.nexthop.to_string(),
        }));
    }
    entry["routes"] = json!(routes);
    entry["services"] = json!(dns(subnet));
}

fn netmask(network: &IpNet) -> String {
    network.netmask().to_string()
}
