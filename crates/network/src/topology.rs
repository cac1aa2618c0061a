//! The database's rows as the values that nodes compile flows from (`virtual_network::topology`), and which of them concern a node.
//!
//! A node is told of the networks of its guests' ports, of the routers that join these, directly or through each other, of all networks
//! of those routers, and of the ports, security groups and floating IPs in them; also of the routers whose gateway it has.
//! There are no ports for DHCP: every node answers its own guests.

use crate::api_prelude::*;
use crate::rest::{networks, ports, routers};
use ipnet::IpNet;
use node_protocol::objects::{Object, ObjectKey, ObjectKind, tap_name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use uuid::Uuid;
use virtual_network::topology as vn;

/// What concerns a node, by ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Networks.
    pub networks: BTreeSet<String>,
    /// Routers.
    pub routers: BTreeSet<String>,
}

/// What is known of all nodes, for bindings.
pub struct Nodes {
    tunnels: HashMap<String, Option<IpAddr>>,
    mappings: BTreeMap<String, Value>,
    /// Where routers' gateways are by an administrator's or the scheduler's choice.
    chosen: HashMap<String, String>,
}

impl Nodes {
    /// Reads them.
    pub fn load(cx: &mut Cx<'_, '_>) -> Result<Nodes> {
        let mut nodes = Nodes { tunnels: HashMap::new(), mappings: BTreeMap::new(), chosen: HashMap::new() };
        for row in cx.tx.query("SELECT hostname, tunnel_ip, bridge_mappings FROM network_nodes ORDER BY hostname", &[])? {
            let host: String = row.get(0)?;
            let tunnel: Option<String> = row.get(1)?;
            nodes.tunnels.insert(host.clone(), tunnel.and_then(|t| t.parse().ok()));
            nodes.mappings.insert(host, row.get(2)?);
        }
        // With one node there is nothing to choose.
        if nodes.mappings.len() > 1 {
            let sql = "SELECT b.object_id, a.host FROM agent_bindings b JOIN agents a ON a.id = b.agent_id WHERE a.agent_type = 'L3 agent'";
            for row in cx.tx.query(sql, &[])? {
                nodes.chosen.insert(row.get(0)?, row.get(1)?);
            }
        }
        Ok(nodes)
    }

    fn binding(&self, node: &str, host: &str, interface: String) -> vn::Binding {
        if host.is_empty() {
            return vn::Binding::Unbound;
        }
        if host == node {
            return vn::Binding::Local { interface };
        }
        match self.tunnels.get(host) {
            Some(Some(tunnel)) => vn::Binding::Remote { tunnel: *tunnel },
            _ => vn::Binding::Unbound,
        }
    }

    /// The node that has a router's gateway: the chosen one, if it reaches the physical network; else of those that reach the physical network the one with the highest hash, so that a
    /// node that comes or goes moves as few gateways as possible.
    fn gateway_host(&self, router: &str, physical: Option<&str>) -> Option<&str> {
        let reaches = |m: &Value| physical.is_none_or(|p| m.get(p).is_some());
        if let Some(host) = self.chosen.get(router)
            && self.mappings.get(host).is_some_and(reaches)
        {
            return Some(host);
        }
        let able = self.mappings.iter().filter(|(_, m)| reaches(m));
        let weight = |host: &str| {
            let bytes = router.bytes().chain(host.bytes());
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
        };
        able.map(|(host, _)| host.as_str()).max_by_key(|host| weight(host))
    }
}

fn id<T: From<Uuid>>(text: &str) -> Option<T> {
    Uuid::parse_str(text).ok().map(T::from)
}

fn texts(values: &[Value]) -> impl Iterator<Item = &str> {
    values.iter().filter_map(Value::as_str)
}

fn fixed_ips(values: &[Value]) -> Vec<vn::FixedIp> {
    let one = |f: &Value| Some(vn::FixedIp { subnet: id(f["subnet_id"].as_str()?)?, address: f["ip_address"].as_str()?.parse().ok()? });
    values.iter().filter_map(one).collect()
}

fn net_or_host(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn routes(values: &[Value]) -> Vec<vn::Route> {
    let one = |r: &Value| Some(vn::Route { destination: r["destination"].as_str()?.parse().ok()?, nexthop: r["nexthop"].as_str()?.parse().ok()? });
    values.iter().filter_map(one).collect()
}

/// Which networks and routers concern a node.
pub fn reach(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str) -> Result<Reach> {
    let own: Vec<String> = cx.tx.column("SELECT DISTINCT network_id FROM ports WHERE host_id = ?1", &params![node])?;
    let mut reach = Reach { networks: own.into_iter().collect(), routers: gateways_of(cx, nodes, node)?.into_iter().collect() };
    let mut new_networks: Vec<String> = reach.networks.iter().cloned().collect();
    let mut new_routers: Vec<String> = reach.routers.iter().cloned().collect();
    while !new_networks.is_empty() || !new_routers.is_empty() {
        let joined = Some(("r.port_type = ?", &params!["network:router_interface"][..]));
        let from = "router_ports r JOIN ports p ON p.id = r.port_id";
        let mut routers = Vec::new();
        for row in networks::rows_for(cx, "DISTINCT r.router_id", from, "p.network_id", &std::mem::take(&mut new_networks), joined, &[])? {
            routers.push(row.get::<String>(0)?);
        }
        new_routers.extend(routers.into_iter().filter(|r| reach.routers.insert(r.clone())));
        for row in networks::rows_for(cx, "DISTINCT p.network_id, r.port_type", from, "r.router_id", &std::mem::take(&mut new_routers), None, &[])? {
            let (network, kind): (String, String) = (row.get(0)?, row.get(1)?);
            // The other routers of an external network are the outside.
            if reach.networks.insert(network.clone()) && kind == "network:router_interface" {
                new_networks.push(network);
            }
        }
    }
    Ok(reach)
}

/// Routers whose gateway is on this node.
fn gateways_of(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str) -> Result<Vec<String>> {
    if !nodes.mappings.contains_key(node) {
        return Ok(Vec::new());
    }
    let sql = "SELECT r.id, s.physical_network FROM routers r JOIN ports g ON g.id = r.gw_port_id
         JOIN network_segments s ON s.network_id = g.network_id AND s.segment_index = 0";
    let mut found = Vec::new();
    for row in cx.tx.query(sql, &[])? {
        let (router, physical): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        if nodes.gateway_host(&router, physical.as_deref()) == Some(node) {
            found.push(router);
        }
    }
    Ok(found)
}

/// The networks with these ids.
pub fn network_objects(cx: &mut Cx<'_, '_>, ids: &[String]) -> Result<Vec<Object>> {
    let columns = "n.id, n.mtu, n.external, n.admin_state_up, n.port_security_enabled, n.dns_domain, s.network_type, s.physical_network, s.segmentation_id";
    let from = "networks n LEFT JOIN network_segments s ON s.network_id = n.id";
    let mut objects = Vec::new();
    for row in networks::rows_for(cx, columns, from, "n.id", ids, None, &["n.id", "s.segment_index"])? {
        let Some(key) = id::<vn::NetworkId>(&row.get::<String>(0)?) else { continue };
        let kind = match row.get::<Option<String>>(6)?.as_deref() {
            Some("flat") => vn::NetworkType::Flat,
            Some("vlan") => vn::NetworkType::Vlan,
            Some("vxlan") => vn::NetworkType::Vxlan,
            Some("gre") => vn::NetworkType::Gre,
            Some("geneve") => vn::NetworkType::Geneve,
            _ => vn::NetworkType::Local,
        };
        let network = vn::Network {
            kind,
            physical_network: row.get(7)?,
            segmentation_id: row.get(8)?,
            mtu: row.get::<i64>(1)?.clamp(0, 65535) as u16,
            external: row.get(2)?,
            admin_state_up: row.get(3)?,
            port_security_enabled: row.get(4)?,
            service_mac: None,
            dns_domain: Some(cx.net.config.dns_domain.trim_end_matches('.').to_string()).filter(|d| !d.is_empty()),
        };
        // Of several segments the first is the one that nodes use.
        if !objects.iter().any(|o| matches!(o, Object::Network(known, _) if *known == key)) {
            objects.push(Object::Network(key, network));
        }
    }
    Ok(objects)
}

/// Subnets, by their own ids or those of their networks.
pub fn subnet_objects(cx: &mut Cx<'_, '_>, column: &str, ids: &[String]) -> Result<Vec<Object>> {
    let columns = "id, network_id, cidr, gateway_ip, dns_nameservers, host_routes, enable_dhcp, ipv6_ra_mode, ipv6_address_mode";
    let mode = |text: Option<String>| match text.as_deref() {
        Some("slaac") => Some(vn::Ipv6Mode::Slaac),
        Some("dhcpv6-stateful") => Some(vn::Ipv6Mode::Dhcpv6Stateful),
        Some("dhcpv6-stateless") => Some(vn::Ipv6Mode::Dhcpv6Stateless),
        _ => None,
    };
    let mut objects = Vec::new();
    for row in networks::rows_for(cx, columns, "subnets", column, ids, None, &["id"])? {
        let (key, network, cidr): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (Some(key), Some(network), Ok(cidr)) = (id(&key), id(&network), cidr.parse()) else { continue };
        let servers: Value = row.get(4)?;
        let host_routes: Value = row.get(5)?;
        let subnet = vn::Subnet {
            network,
            cidr,
            gateway: row.get::<Option<String>>(3)?.and_then(|g| g.parse().ok()),
            dns_nameservers: texts(servers.as_array().map_or(&[], Vec::as_slice)).filter_map(|s| s.parse().ok()).collect(),
            host_routes: routes(host_routes.as_array().map_or(&[], Vec::as_slice)),
            enable_dhcp: row.get(6)?,
            ipv6_ra_mode: mode(row.get(7)?),
            ipv6_address_mode: mode(row.get(8)?),
            dhcp_server: None,
        };
        objects.push(Object::Subnet(key, subnet));
    }
    Ok(objects)
}

/// Ports of guests, by their own ids or those of their networks, with the network of each.
pub fn port_objects(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str, column: &str, ids: &[String]) -> Result<Vec<(String, Object)>> {
    let mut objects = Vec::new();
    let mut policies: HashMap<String, Option<vn::Qos>> = HashMap::new();
    let also: Option<(&str, &[Sql])> = Some(("t.device_owner NOT LIKE 'network:%'", &[]));
    for row in networks::rows_for(cx, ports::PORT.select_list(), "ports t", &format!("t.{column}"), ids, also, &["t.id"])? {
        let item = Item::from_row(&ports::PORT, row);
        let (Some(key), Some(network)) = (id::<vn::PortId>(item.id()), id(item.text("network_id"))) else { continue };
        let Ok(mac) = item.text("mac_address").parse() else { continue };
        let pair = |p: &Value| Some(vn::AddressPair { address: net_or_host(p["ip_address"].as_str()?)?, mac: p["mac_address"].as_str().and_then(|m| m.parse().ok()) });
        let option = |o: &Value| {
            Some(vn::ExtraDhcpOption {
                name: o["opt_name"].as_str()?.into(),
                value: o["opt_value"].as_str()?.into(),
                ip_version: if o["ip_version"] == 6 { 6 } else { 4 },
            })
        };
        let policy = item.get("qos_policy_id").as_str().map(str::to_string);
        let qos = match policy {
            Some(policy) => match policies.get(&policy) {
                Some(known) => *known,
                None => {
                    let limits = crate::rest::qos::limits(cx, &policy)?;
                    policies.insert(policy, limits);
                    limits
                }
            },
            None => None,
        };
        let port = vn::Port {
            network,
            mac,
            fixed_ips: fixed_ips(item.list("fixed_ips")),
            allowed_address_pairs: item.list("allowed_address_pairs").iter().filter_map(pair).collect(),
            port_security_enabled: item.is("port_security_enabled"),
            security_groups: texts(item.list("security_groups")).filter_map(id).collect(),
            admin_state_up: item.is("admin_state_up"),
            device_owner: item.text("device_owner").into(),
            device_id: item.text("device_id").into(),
            binding: nodes.binding(node, item.text("binding:host_id"), tap_name(key)),
            extra_dhcp_opts: item.list("extra_dhcp_opts").iter().filter_map(option).collect(),
            dns_name: Some(item.text("dns_name").to_string()).filter(|n| !n.is_empty()),
            qos,
        };
        objects.push((item.text("network_id").to_string(), Object::Port(key, Box::new(port))));
    }
    Ok(objects)
}

/// The routers with these ids.
pub fn router_objects(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str, ids: &[String]) -> Result<Vec<Object>> {
    let mut found: BTreeMap<String, vn::Router> = BTreeMap::new();
    let mut snat: HashMap<String, bool> = HashMap::new();
    for row in networks::rows_for(cx, routers::ROUTER.select_list(), "routers t", "t.id", ids, None, &["t.id"])? {
        let item = Item::from_row(&routers::ROUTER, row);
        snat.insert(item.id().into(), item.is("enable_snat"));
        let router = vn::Router { admin_state_up: item.is("admin_state_up"), interfaces: Vec::new(), gateway: None, routes: routes(item.list("routes")) };
        found.insert(item.id().into(), router);
    }
    let columns = "r.router_id, r.port_type, p.id, p.network_id, p.mac_address, p.fixed_ips, p.admin_state_up, s.physical_network";
    let from = "router_ports r JOIN ports p ON p.id = r.port_id LEFT JOIN network_segments s ON s.network_id = p.network_id AND s.segment_index = 0";
    for row in networks::rows_for(cx, columns, from, "r.router_id", ids, None, &["r.router_id", "p.id"])? {
        let (owner, kind, port, network, mac): (String, String, String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        let ips: Value = row.get(5)?;
        let fixed_ips = fixed_ips(ips.as_array().map_or(&[], Vec::as_slice));
        let (Some(port), Some(network), Ok(mac), Some(router)) = (id(&port), id(&network), mac.parse(), found.get_mut(&owner)) else { continue };
        if kind == "network:router_gateway" {
            let physical: Option<String> = row.get(7)?;
            let binding = match nodes.gateway_host(&owner, physical.as_deref()) {
                Some(host) if host == node => vn::Gateway::here(),
                Some(host) => nodes.binding(node, host, String::new()),
                None => vn::Binding::Unbound,
            };
            let enable_snat = snat.get(&owner).copied().unwrap_or(true);
            router.gateway = Some(vn::Gateway { port, network, mac, fixed_ips, enable_snat, binding });
        } else {
            router.interfaces.push(vn::RouterInterface { port, network, mac, fixed_ips, admin_state_up: row.get(6)? });
        }
    }
    Ok(found.into_iter().filter_map(|(key, router)| Some(Object::Router(id(&key)?, router))).collect())
}

/// Floating IPs that lead somewhere, by their own ids or those of their routers, with the router of each.
pub fn floating_ip_objects(cx: &mut Cx<'_, '_>, column: &str, ids: &[String]) -> Result<Vec<(String, Object)>> {
    let columns = "f.id, f.floating_network_id, f.floating_ip_address, p.mac_address, f.port_id, f.fixed_ip_address, f.router_id";
    let from = "floatingips f JOIN ports p ON p.id = f.floating_port_id";
    let also: Option<(&str, &[Sql])> = Some(("f.port_id IS NOT NULL AND f.router_id IS NOT NULL", &[]));
    let mut objects = Vec::new();
    for row in networks::rows_for(cx, columns, from, &format!("f.{column}"), ids, also, &["f.id"])? {
        let text = |at: usize| row.get::<Option<String>>(at).map(Option::unwrap_or_default);
        let router_id = text(6)?;
        let whole = (|| {
            let ip = vn::FloatingIp {
                network: id(&text(1).ok()?)?,
                address: text(2).ok()?.parse().ok()?,
                mac: text(3).ok()?.parse().ok()?,
                port: id(&text(4).ok()?)?,
                fixed_address: text(5).ok()?.parse().ok()?,
                router: id(&router_id)?,
            };
            Some(Object::FloatingIp(id(&text(0).ok()?)?, ip))
        })();
        objects.extend(whole.map(|object| (router_id.clone(), object)));
    }
    Ok(objects)
}

/// The security groups with these ids.
pub fn group_objects(cx: &mut Cx<'_, '_>, ids: &[String]) -> Result<Vec<Object>> {
    let mut found: BTreeMap<String, vn::SecurityGroup> = BTreeMap::new();
    for row in networks::rows_for(cx, "id, stateful", "security_groups", "id", ids, None, &["id"])? {
        found.insert(row.get(0)?, vn::SecurityGroup { stateful: row.get(1)?, rules: Vec::new() });
    }
    let columns = "security_group_id, direction, ethertype, protocol, port_range_min, port_range_max, remote_ip_prefix, remote_group_id, remote_address_group_id";
    for row in networks::rows_for(cx, columns, "security_group_rules", "security_group_id", ids, None, &["security_group_id", "id"])? {
        let Some(group) = found.get_mut(&row.get::<String>(0)?) else { continue };
        let optional = |at: usize| row.get::<Option<String>>(at);
        let port = |at: usize| row.get::<Option<i64>>(at).map(|n| n.and_then(|n| u16::try_from(n).ok()));
        group.rules.push(vn::SecurityGroupRule {
            direction: if row.get::<String>(1)? == "ingress" { vn::Direction::Ingress } else { vn::Direction::Egress },
            ethertype: if row.get::<String>(2)? == "IPv6" { vn::EtherType::Ipv6 } else { vn::EtherType::Ipv4 },
            protocol: optional(3)?,
            port_range_min: port(4)?,
            port_range_max: port(5)?,
            remote_ip_prefix: optional(6)?.as_deref().and_then(net_or_host).map(|n| n.trunc()),
            remote_group: optional(7)?.as_deref().and_then(id),
            remote_address_group: optional(8)?.as_deref().and_then(id),
        });
    }
    Ok(found.into_iter().filter_map(|(key, group)| Some(Object::SecurityGroup(id(&key)?, group))).collect())
}

/// The address groups with these ids; all where none are named.
pub fn address_group_objects(cx: &mut Cx<'_, '_>, ids: Option<&[String]>) -> Result<Vec<Object>> {
    let rows = match ids {
        Some(ids) => networks::rows_for(cx, "id, addresses", "address_groups", "id", ids, None, &["id"])?,
        None => cx.tx.query("SELECT id, addresses FROM address_groups ORDER BY id", &[])?,
    };
    let mut objects = Vec::new();
    for row in rows {
        let addresses: Value = row.get(1)?;
        let addresses = texts(addresses.as_array().map_or(&[], Vec::as_slice)).filter_map(net_or_host).collect();
        if let Some(key) = id(&row.get::<String>(0)?) {
            objects.push(Object::AddressGroup(key, vn::AddressGroup { addresses }));
        }
    }
    Ok(objects)
}

/// Ids of the security groups that local ports are in.
fn groups_of_node(cx: &mut Cx<'_, '_>, node: &str) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT s.security_group_id FROM port_security_groups s JOIN ports p ON p.id = s.port_id WHERE p.host_id = ?1";
    Ok(cx.tx.column(sql, &params![node])?)
}

/// Everything that concerns a node.
pub fn snapshot(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str, reach: &Reach) -> Result<Vec<Object>> {
    let networks: Vec<String> = reach.networks.iter().cloned().collect();
    let routers: Vec<String> = reach.routers.iter().cloned().collect();
    let mut objects = network_objects(cx, &networks)?;
    objects.extend(subnet_objects(cx, "network_id", &networks)?);
    objects.extend(port_objects(cx, nodes, node, "network_id", &networks)?.into_iter().map(|(_, o)| o));
    objects.extend(router_objects(cx, nodes, node, &routers)?);
    objects.extend(floating_ip_objects(cx, "router_id", &routers)?.into_iter().map(|(_, o)| o));
    let groups = groups_of_node(cx, node)?;
    objects.extend(group_objects(cx, &groups)?);
    objects.extend(address_group_objects(cx, None)?);
    Ok(objects)
}

/// What changes in a node's view when these things changed: objects to tell, and keys of those that no longer concern it.
pub fn changes(cx: &mut Cx<'_, '_>, nodes: &Nodes, node: &str, reach: &Reach, changed: &[(String, String)]) -> Result<(Vec<Object>, Vec<ObjectKey>)> {
    let of = |topic: &str| -> Vec<String> { changed.iter().filter(|(t, _)| t == topic).map(|(_, k)| k.clone()).collect() };
    let (mut told, mut gone) = (Vec::new(), Vec::new());
    let ids: Vec<String> = of("network");
    let here: Vec<String> = ids.iter().filter(|i| reach.networks.contains(*i)).cloned().collect();
    told.extend(network_objects(cx, &here)?);
    missing(ObjectKind::Network, &ids, &told, &mut gone);

    let ids = of("subnet");
    let found = subnet_objects(cx, "id", &ids)?;
    let near = |network: vn::NetworkId| reach.networks.contains(&network.0.to_string());
    let found: Vec<Object> = found.into_iter().filter(|o| matches!(o, Object::Subnet(_, s) if near(s.network))).collect();
    missing(ObjectKind::Subnet, &ids, &found, &mut gone);
    told.extend(found);

    let ids = of("port");
    let found: Vec<Object> =
        port_objects(cx, nodes, node, "id", &ids)?.into_iter().filter(|(network, _)| reach.networks.contains(network)).map(|(_, o)| o).collect();
    missing(ObjectKind::Port, &ids, &found, &mut gone);
    // A port that came here brings its groups along.
    let mut groups = of("security_group");
    for object in &found {
        if let Object::Port(_, port) = object
            && matches!(port.binding, vn::Binding::Local { .. })
        {
            groups.extend(port.security_groups.iter().map(|g| g.0.to_string()));
        }
    }
    told.extend(found);

    let ids = of("router");
    let here: Vec<String> = ids.iter().filter(|i| reach.routers.contains(*i)).cloned().collect();
    let found = router_objects(cx, nodes, node, &here)?;
    missing(ObjectKind::Router, &ids, &found, &mut gone);
    told.extend(found);

    let ids = of("floatingip");
    let found: Vec<Object> =
        floating_ip_objects(cx, "id", &ids)?.into_iter().filter(|(router, _)| reach.routers.contains(router)).map(|(_, o)| o).collect();
    missing(ObjectKind::FloatingIp, &ids, &found, &mut gone);
    told.extend(found);

    groups.sort();
    groups.dedup();
    let found = group_objects(cx, &groups)?;
    missing(ObjectKind::SecurityGroup, &groups, &found, &mut gone);
    told.extend(found);

    let ids = of("address_group");
    let found = address_group_objects(cx, Some(&ids))?;
    missing(ObjectKind::AddressGroup, &ids, &found, &mut gone);
    told.extend(found);
    Ok((told, gone))
}

fn missing(kind: ObjectKind, asked: &[String], found: &[Object], gone: &mut Vec<ObjectKey>) {
    for key in asked.iter().filter_map(|k| Uuid::parse_str(k).ok()).map(|id| ObjectKey { kind, id }) {
        if !found.iter().any(|o| o.key() == key) {
            gone.push(key);
        }
    }
}
