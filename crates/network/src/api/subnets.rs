//! `/v2.0/subnets`

use super::networks::{NETWORK, rows_for, shared_filter};
use super::subnetpools;
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::{self, Subnet};
use crate::model::net::Cidr;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Subnets.
pub static SUBNET: Resource = Resource {
    sight: Sight::OfNetwork,
    tags: true,
    quota: Some("subnet"),
    topic: Some("subnet"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    filter,
    ..Resource::base("subnet", "subnets", "/v2.0/subnets", "/v2.0/subnets/{id}", ATTRIBUTES, |id| Error::SubnetNotFound { id: id.into() })
};

const MODES: &[&str] = &["dhcpv6-stateful", "dhcpv6-stateless", "slaac"];
const MOST_NAMESERVERS: usize = 5;
const MOST_ROUTES: usize = 20;

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT,
    a("ip_version", "CVFS").to(convert::int).is(Check::Numbers(&[4, 6])).int(),
    a("network_id", "CVFS").is(Check::Uuid).text(),
    a("subnetpool_id", "CVFS").or(Initial::Unset).is(Check::Rule(check::subnetpool_id)).text(),
    a("prefixlen", "C").or(Initial::Unset).to(convert::int).is(Check::NonNegative),
    a("cidr", "CVFS").or(Initial::Unset).to(convert::cidr).is(Check::Rule(check::subnet_or_none)).text(),
    a("gateway_ip", "CUVFS").or(Initial::Unset).to(convert::ip).is(Check::Rule(check::ip_or_none)).text(),
    a("allocation_pools", "CUV").or(Initial::Unset).to(convert::pools).is(Check::Rule(check::pools)).json(),
    a("dns_nameservers", "CUV").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::nameservers)).json(),
    a("host_routes", "CUV").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::routes)).json(),
    a("enable_dhcp", "CUVFS").or(Initial::Bool(true)).to(convert::boolean).bool(),
    a("ipv6_ra_mode", "CVFS").or(Initial::Unset).is(Check::ValuesOrNone(MODES)).text(),
    a("ipv6_address_mode", "CVFS").or(Initial::Unset).is(Check::ValuesOrNone(MODES)).text(),
    a("shared", "FP").or(Initial::Bool(false)).to(convert::boolean),
    a("use_default_subnetpool", "C").or(Initial::Bool(false)).to(convert::boolean),
    a("segment_id", "CVFS").or(Initial::Null).is(Check::UuidOrNone).text(),
    a("dns_publish_fixed_ip", "CUV").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("service_types", "CUV").or(Initial::Unset).is(Check::Rule(check::service_types)).json(),
    a("router:external", "VFP").or(Initial::Bool(false)).to(convert::boolean),
];

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.text("network_id").to_string()).collect::<HashSet<_>>().into_iter().collect();
    let also = "object_type = 'network' AND action = 'access_as_shared' AND target_project IN (?, '*')";
    let values = params![cx.caller.project()];
    let mut shared: HashSet<String> = HashSet::new();
    for row in rows_for(cx, "object_id", "rbac_policies", "object_id", &ids, Some((also, &values)), &[])? {
        shared.insert(row.get(0)?);
    }
    let mut external: HashMap<String, bool> = HashMap::new();
    for row in rows_for(cx, "id, external", "networks", "id", &ids, None, &[])? {
        external.insert(row.get(0)?, row.get(1)?);
    }
    for item in items {
        let network = item.text("network_id").to_string();
        item.set("shared", shared.contains(&network));
        item.set("router:external", external.get(&network).copied().unwrap_or(false));
    }
    Ok(())
}

fn filter(cx: &mut Cx<'_, '_>, select: &mut Select, name: &str, values: &[String]) -> Result<bool> {
    match name {
        "shared" => shared_filter(cx, select, "network", "t.network_id", values),
        "router:external" => {
            let wanted = i64::from(values.first().is_some_and(|v| v == "True"));
            select.filter("t.network_id IN (SELECT id FROM networks WHERE external = ?)", &params![wanted]);
        }
        "cidr" => {
            let values: Vec<Sql> =
                values.iter().map(|v| Sql::from(Cidr::parse(v).map_or_else(|| v.clone(), |c| c.network().to_string()))).collect();
            select.filter_in("t.cidr", &values);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn given<'a>(body: &'a Body, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|v| !v.is_null())
}

fn check_version(version: i64, text: &str, name: &str) -> Result<()> {
    match Cidr::parse(text) {
        Some(cidr) if cidr.version() == version => Ok(()),
        _ => Err(Error::input(format!("{name} '{text}' does not match the ip_version '{version}'"))),
    }
}

/// What upstream checks of a new subnet, or of one with changes (then `old`), before it looks at its network.
fn validate(cx: &mut Cx<'_, '_>, body: &Body, version: i64, cidr: Option<&Cidr>, old: Option<&Item>) -> Result<()> {
    if let Some(cidr) = cidr {
        if cidr.version() != version {
            return Err(Error::input(format!("cidr '{cidr}' does not match the ip_version '{version}'")));
        }
        if version == 6 && cidr.first() == 0 {
            return Err(Error::input("IPv6 subnet '::' is not supported"));
        }
        let dhcp_was_on = old.is_some_and(|o| o.is("enable_dhcp"));
        if body.get("enable_dhcp") == Some(&json!(true)) && !dhcp_was_on {
            let first = cidr.network().address;
            if version == 4 && cidr.prefix > 30 || version == 6 && cidr.prefix > 126 {
                return Err(Error::input("Subnet has a prefix length that is incompatible with DHCP service enabled"));
            }
            if first.is_multicast() {
                return Err(Error::input("Multicast IP subnet is not supported if enable_dhcp is True"));
            }
            if first.is_loopback() {
                return Err(Error::input("Loopback IP subnet is not supported if enable_dhcp is True"));
            }
            if version == 4 && cidr.first() == 0 {
                return Err(Error::input("First IP '0.0.0.0' of network is not supported if enable_dhcp is True."));
            }
        }
    }
    if let Some(gateway) = body.get("gateway_ip") {
        if let Some(gateway) = gateway.as_str() {
            check_version(version, gateway, "gateway_ip")?;
            if let (Some(cidr), Ok(ip)) = (cidr, gateway.parse::<IpAddr>()) {
                let at = net::number(ip);
                // netaddr's last address of a /31 or /32 is an end too.
                if cidr.contains(ip) && version == 4 && (at == cidr.first() || at == cidr.last()) {
                    return Err(Error::input("Gateway is not valid on subnet"));
                }
            }
        }
        if let Some(old) = old
            && old.get("gateway_ip") != gateway
            && let Some(current) = old.get("gateway_ip").as_str()
        {
            let used = "SELECT a.port_id FROM ip_allocations a JOIN ports p ON p.id = a.port_id
                 WHERE a.subnet_id = ?1 AND a.ip_address = ?2 AND p.device_owner IN ('network:router_interface', 'network:ha_router_replicated_interface')";
            if let Some(port_id) = cx.tx.scalar::<String>(used, &params![old.id(), current])? {
                return Err(Error::GatewayIpInUse { ip_address: current.into(), port_id });
            }
        }
    }
    let name = || old.map_or_else(|| "new subnet".to_string(), |o| o.id().to_string());
    if let Some(servers) = given(body, "dns_nameservers").and_then(Value::as_array) {
        if servers.len() > MOST_NAMESERVERS {
            return Err(Error::DNSNameServersExhausted { subnet_id: name(), quota: MOST_NAMESERVERS.to_string() });
        }
        for server in servers {
            check_version(version, &show(server), "dns_nameserver")?;
        }
    }
    if let Some(routes) = given(body, "host_routes").and_then(Value::as_array) {
        if routes.len() > MOST_ROUTES {
            return Err(Error::HostRoutesExhausted { subnet_id: name(), quota: MOST_ROUTES.to_string() });
        }
        for route in routes {
            check_version(version, &show(&route["nexthop"]), "nexthop")?;
            check_version(version, &show(&route["destination"]), "destination")?;
        }
    }
    let (ra, address) = (given(body, "ipv6_ra_mode"), given(body, "ipv6_address_mode"));
    if version == 4 {
        for (name, value) in [("ipv6_ra_mode", ra), ("ipv6_address_mode", address)] {
            if value.is_some() {
                return Err(Error::input(format!("{name} is not valid when ip_version is 4")));
            }
        }
        return Ok(());
    }
    if let Some(old) = old {
        let modes = !old.get("ipv6_ra_mode").is_null() || !old.get("ipv6_address_mode").is_null();
        if body.get("enable_dhcp") == Some(&json!(false)) && modes {
            return Err(Error::input("Cannot disable enable_dhcp with ipv6 attributes set"));
        }
        return Ok(());
    }
    if (ra.is_some() || address.is_some()) && body.get("enable_dhcp") == Some(&json!(false)) {
        return Err(Error::input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"));
    }
    if let (Some(ra), Some(address)) = (ra, address)
        && ra != address
    {
        let (ra, address) = (show(ra), show(address));
        return Err(Error::input(format!(
            "ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes are set, they must be the same value"
        )));
    }
    let auto = |mode: Option<&Value>| mode.and_then(Value::as_str).is_some_and(|m| m != "dhcpv6-stateful");
    if let Some(cidr) = cidr
        && (auto(ra) || auto(address))
        && cidr.prefix != 64
    {
        return Err(Error::input(format!(
            "Invalid CIDR {cidr} for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64"
        )));
    }
    Ok(())
}

/// A pool as netaddr shows it.
fn pool_text((first, last): (u128, u128), v6: bool) -> String {
    format!("{}-{}", net::address(first, v6), net::address(last, v6))
}

/// Reads pools and checks that they are in the subnet and apart.
fn read_pools(value: &Value, cidr: &Cidr) -> Result<Vec<(u128, u128)>> {
    let v6 = cidr.v6();
    let mut pools: Vec<(u128, u128)> = Vec::new();
    let ends = match (v6, cidr.prefix) {
        (false, 0..=30) => (cidr.first() + 1, cidr.last() - 1),
        (false, _) => (cidr.first(), cidr.last()),
        (true, _) => (cidr.first().saturating_add(1), cidr.last()),
    };
    let mut ranges = Vec::new();
    for pool in value.as_array().into_iter().flatten() {
        let parse = |key: &str| pool[key].as_str().and_then(|t| t.parse::<IpAddr>().ok());
        let (Some(first), Some(last)) = (parse("start"), parse("end")) else {
            return Err(Error::InvalidAllocationPool { pool: show(pool) });
        };
        if first.is_ipv6() != last.is_ipv6() || net::number(first) > net::number(last) {
            return Err(Error::InvalidAllocationPool { pool: show(pool) });
        }
        ranges.push((first, last));
    }
    for (first, last) in ranges {
        let range = (net::number(first), net::number(last));
        if first.is_ipv6() != v6 {
            return Err(Error::InvalidAllocationPool { pool: format!("{first}-{last}") });
        }
        if range.0 < ends.0 || range.1 > ends.1 {
            return Err(Error::OutOfBoundsAllocationPool { pool: pool_text(range, v6), subnet_cidr: cidr.to_string() });
        }
        pools.push(range);
    }
    for (i, a) in pools.iter().enumerate() {
        if let Some(b) = pools[i + 1..].iter().find(|b| a.0 <= b.1 && b.0 <= a.1) {
            return Err(Error::OverlappingAllocationPools {
                pool_1: pool_text(*a, v6),
                pool_2: pool_text(*b, v6),
                subnet_cidr: cidr.to_string(),
            });
        }
    }
    Ok(pools)
}

fn gateway_outside(gateway: Option<&str>, pools: &[(u128, u128)], v6: bool) -> Result<()> {
    let Some(ip) = gateway.and_then(|g| g.parse::<IpAddr>().ok()) else { return Ok(()) };
    let at = net::number(ip);
    match pools.iter().find(|(first, last)| ip.is_ipv6() == v6 && (*first..=*last).contains(&at)) {
        Some(pool) => Err(Error::GatewayConflictWithAllocationPools { ip_address: ip.to_string(), pool: pool_text(*pool, v6) }),
        None => Ok(()),
    }
}

fn pool_id(cx: &mut Cx<'_, '_>, body: &Body) -> Result<Option<String>> {
    let asked = given(body, "subnetpool_id").and_then(Value::as_str);
    let default = body.get("use_default_subnetpool") == Some(&json!(true));
    match (asked, default) {
        (Some(_), true) => Err(Error::request("subnets", "subnetpool_id and use_default_subnetpool cannot both be specified")),
        (Some(id), false) => Ok(Some(id.into())),
        (None, false) => Ok(None),
        (None, true) => {
            let version = body.get("ip_version").and_then(Value::as_i64).unwrap_or(4);
            let found = cx.tx.scalar("SELECT id FROM subnetpools WHERE is_default = 1 AND ip_version = ?1", &params![version])?;
            found.map(Some).ok_or_else(|| Error::request("subnets", format!("No default subnetpool found for IPv{version}")))
        }
    }
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let version = body.get("ip_version").and_then(Value::as_i64).unwrap_or(4);
    let asked = given(&body, "cidr").and_then(Value::as_str).and_then(Cidr::parse);
    let prefixlen = given(&body, "prefixlen").and_then(Value::as_i64);
    if asked.is_some() && prefixlen.is_some() {
        return Err(Error::request("subnets", "cidr and prefixlen must not be supplied together"));
    }
    let asked = asked.map(|c| c.network());
    let pool = pool_id(cx, &body)?;
    if pool.is_none() && asked.is_none() {
        return Err(Error::request("subnets", "a subnetpool must be specified in the absence of a cidr"));
    }
    if asked.is_none() && given(&body, "allocation_pools").is_some() {
        return Err(Error::request("subnets", "allocation_pools allowed only for specific subnet requests."));
    }
    validate(cx, &body, version, asked.as_ref(), None)?;
    let network_id = item::text(&body, "network_id").to_string();
    let network = item::get(cx, &NETWORK, &network_id)?;
    let mtu = network.int("mtu");
    if mtu < 68 || version == 6 && mtu < 1280 {
        let least = if mtu < 68 { "68" } else { "1280" };
        return Err(Error::NetworkMTUSubnetConflict { id: network_id, mtu: least.into() });
    }
    let project = item::text(&body, "project_id").to_string();
    let cidr = match (&pool, asked) {
        (Some(pool), asked) => subnetpools::allocate(cx, pool, version, asked, prefixlen, &project)?,
        (None, Some(cidr)) => cidr,
        (None, None) => return Err(Error::request("subnets", "a subnetpool must be specified in the absence of a cidr")),
    };
    let v6 = cidr.v6();
    if !body.contains_key("gateway_ip") {
        // An IPv6 subnet's first address is the anycast address of its routers (RFC 4291, 2.6.1). From a pool upstream takes the next.
        let first = cidr.first() + u128::from(!v6 || asked.is_none());
        body.insert("gateway_ip".into(), json!(net::address(first, v6).to_string()));
    }
    let gateway = body.get("gateway_ip").and_then(Value::as_str).map(str::to_string);
    let pools = match given(&body, "allocation_pools") {
        Some(pools) => {
            let pools = read_pools(pools, &cidr)?;
            gateway_outside(gateway.as_deref(), &pools, v6)?;
            pools
        }
        None => ipam::default_pools(&cidr, gateway.as_deref().and_then(|g| g.parse().ok())),
    };
    if cidr.prefix == 0 {
        return Err(Error::input("0 is not allowed as CIDR prefix length"));
    }
    let siblings = Subnet::of_network(cx, &network_id)?;
    if siblings.iter().any(|s| s.cidr.overlaps(&cidr)) {
        return Err(Error::input(format!(
            "Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet"
        )));
    }
    subnetpools::check_affinity(cx, &network_id, version, pool.as_deref())?;
    super::segments::check_subnet(cx, &network_id, given(&body, "segment_id").and_then(Value::as_str), &siblings)?;
    let id = item::new_id();
    for (name, value) in [("dns_nameservers", json!([])), ("host_routes", json!([])), ("service_types", json!([]))] {
        if given(&body, name).is_none() {
            body.insert(name.into(), value);
        }
    }
    if version == 6 && body.get("enable_dhcp") == Some(&json!(false)) {
        body.remove("ipv6_ra_mode");
        body.remove("ipv6_address_mode");
    }
    body.insert("cidr".into(), json!(cidr.to_string()));
    body.insert("subnetpool_id".into(), json!(pool));
    body.insert("allocation_pools".into(), ipam::shown(&pools, v6));
    item::insert(cx, &SUBNET, &id, &body, &[])?;
    ipam::rebuild(cx, &id, v6, &pools)?;
    item::bump(cx, &NETWORK, &network_id)?;
    if body.get("enable_dhcp") == Some(&json!(true)) {
        super::schedulers::network_wants_dhcp(cx, &network_id)?;
    }
    if network.is("router:external") {
        super::routers::subnet_added(cx, &network_id, &id, version)?;
    }
    if let Some(subnet) = Subnet::get(cx, &id)?
        && subnet.is_auto_address()
    {
        super::ports::add_automatic_addresses(cx, &subnet)?;
    }
    Ok(id)
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, mut body: Body) -> Result<()> {
    let Some(cidr) = Cidr::parse(old.text("cidr")) else { return Err(Error::input("the subnet has no cidr")) };
    let version = old.int("ip_version");
    validate(cx, &body, version, Some(&cidr), Some(old))?;
    let new_pools = match given(&body, "allocation_pools") {
        Some(pools) => Some(read_pools(pools, &cidr)?),
        None => None,
    };
    let gateway = body.get("gateway_ip").unwrap_or(old.get("gateway_ip"));
    if gateway != old.get("gateway_ip") || new_pools.is_some() {
        let current = ipam::pools_of(old.get("allocation_pools"));
        gateway_outside(gateway.as_str(), new_pools.as_ref().unwrap_or(&current), cidr.v6())?;
    }
    if let Some(pools) = &new_pools {
        body.insert("allocation_pools".into(), ipam::shown(pools, cidr.v6()));
        ipam::rebuild(cx, old.id(), cidr.v6(), pools)?;
    }
    if body.get("service_types").is_some_and(Value::is_null) {
        body.insert("service_types".into(), json!([]));
    }
    if item::update(cx, old, &body, &[])? && body.get("gateway_ip").is_some_and(|g| g != old.get("gateway_ip")) {
        super::routers::changed_by_subnet(cx, old.id())?;
    }
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let in_use = || Error::SubnetInUse { id: old.id().into(), reason: "One or more ports have an IP allocation from this subnet".into() };
    let auto = Subnet::get(cx, old.id())?.is_some_and(|s| s.is_auto_address());
    let users = if auto {
        "AND p.device_owner IN ('network:router_interface', 'network:ha_router_replicated_interface', 'network:router_interface_distributed')"
    } else {
        "AND p.device_owner NOT IN ('network:dhcp', 'network:distributed', 'network:floatingip_agent_gateway')"
    };
    let sql = format!("SELECT a.port_id FROM ip_allocations a JOIN ports p ON p.id = a.port_id WHERE a.subnet_id = ?1 {users} LIMIT 1");
    if cx.tx.query_one(&sql, &params![old.id()])?.is_some() {
        return Err(in_use());
    }
    remove(cx, old)
}

/// Removes a subnet with the addresses that ports still have in it.
pub fn remove(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let ports: Vec<String> =
        cx.tx.column("SELECT DISTINCT port_id FROM ip_allocations WHERE subnet_id = ?1 ORDER BY port_id", &params![old.id()])?;
    cx.tx.execute("DELETE FROM ip_allocations WHERE subnet_id = ?1", &params![old.id()])?;
    for port in ports {
        super::ports::refresh_addresses(cx, &port)?;
    }
    item::delete(cx, old)?;
    item::bump(cx, &NETWORK, old.text("network_id"))
}
