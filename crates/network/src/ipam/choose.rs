//! Which addresses a port gets: what it asks for, else one of each family, else what its MAC makes of an advertised prefix.

use super::{Subnet, take, take_any};
use crate::caller::Cx;
use crate::model::net;
use crate::{Error, Result};
use serde_json::Value;
use std::net::IpAddr;

/// What is known of a port when it gets addresses.
pub struct Wanted<'a> {
    /// Its network.
    pub network_id: &'a str,
    /// Its owner, which service types of subnets are matched with.
    pub device_owner: &'a str,
    /// Its MAC.
    pub mac: &'a str,
    /// `fixed_ips` as it was asked for; `None` leaves the choice to the cloud.
    pub fixed_ips: Option<&'a [Value]>,
}

/// Owners that are router interfaces.
pub const ROUTER_INTERFACES: &[&str] = &["network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed"];

fn is_router_interface(owner: &str) -> bool {
    ROUTER_INTERFACES.contains(&owner) || owner == "network:router_centralized_snat"
}

/// Whether a port can have this address in the subnet.
fn fits(subnet: &Subnet, ip: IpAddr, owner: &str) -> bool {
    let cidr = &subnet.cidr;
    if !cidr.contains(ip) {
        return false;
    }
    let at = net::number(ip);
    if cidr.v6() {
        let router = is_router_interface(owner) || owner.is_empty() || owner == "network:router_gateway";
        return router || at != cidr.first();
    }
    // netaddr knows no broadcast address in prefixes longer than /30.
    cidr.prefix > 30 && at != cidr.first() || at != cidr.first() && at != cidr.last()
}

/// The subnets a port of this owner can be in, those made for it first.
pub fn candidates(cx: &mut Cx<'_, '_>, network_id: &str, owner: &str) -> Result<Vec<Subnet>> {
    let all = Subnet::of_network(cx, network_id)?;
    let none = all.is_empty();
    let mut fitting: Vec<Subnet> =
        all.into_iter().filter(|s| s.service_types.is_empty() || s.service_types.iter().any(|t| t == owner)).collect();
    if fitting.is_empty() && !none {
        return Err(Error::IpAddressGenerationFailureNoMatchingSubnet {
            network_id: network_id.into(),
            service_type: owner.into(),
        });
    }
    fitting.sort_by_key(|s| s.service_types.is_empty());
    Ok(fitting)
}

/// Finds the subnet of one entry of `fixed_ips`.
fn subnet_of<'s>(cx: &mut Cx<'_, '_>, subnets: &'s [Subnet], fixed: &Value, wanted: &Wanted<'_>) -> Result<(&'s Subnet, Option<IpAddr>)> {
    if subnets.is_empty() {
        return Err(Error::input("IP allocation requires subnets for network"));
    }
    let ip = fixed.get("ip_address").and_then(Value::as_str).and_then(|t| t.parse::<IpAddr>().ok());
    if let Some(id) = fixed.get("subnet_id").and_then(Value::as_str) {
        let Some(subnet) = subnets.iter().find(|s| s.id == id) else {
            let known = Subnet::get(cx, id)?;
            return Err(match known {
                None => Error::SubnetNotFound { id: id.into() },
                Some(_) => Error::input(format!(
                    "Failed to create port on network {}, because fixed_ips included invalid subnet {id}",
                    wanted.network_id
                )),
            });
        };
        if let Some(ip) = ip
            && !fits(subnet, ip, wanted.device_owner)
        {
            return Err(Error::InvalidIpForSubnet { ip_address: ip.to_string() });
        }
        return Ok((subnet, ip));
    }
    let Some(ip) = ip else { return Err(Error::input("IP allocation requires subnet_id or ip_address")) };
    let found = subnets.iter().find(|s| fits(s, ip, wanted.device_owner));
    found.map(|s| (s, Some(ip))).ok_or_else(|| Error::InvalidIpForNetwork { ip_address: ip.to_string() })
}

/// Takes the addresses of a port. `skip` names subnets whose automatic address is settled already.
pub fn choose(cx: &mut Cx<'_, '_>, wanted: &Wanted<'_>, skip: &[&str]) -> Result<Vec<(String, IpAddr)>> {
    let subnets = candidates(cx, wanted.network_id, wanted.device_owner)?;
    let router = is_router_interface(wanted.device_owner);
    let mut exact: Vec<(&Subnet, IpAddr)> = Vec::new();
    let mut any: Vec<Vec<&Subnet>> = Vec::new();
    match wanted.fixed_ips {
        Some(fixed_ips) => {
            for fixed in fixed_ips {
                let (subnet, ip) = subnet_of(cx, &subnets, fixed, wanted)?;
                match ip {
                    Some(ip) => {
                        let own = net::eui64(&subnet.cidr, wanted.mac);
                        if subnet.is_auto_address() && !ROUTER_INTERFACES.contains(&wanted.device_owner) && own != Some(ip) {
                            return Err(Error::AllocationOnAutoAddressSubnet { ip: ip.to_string(), subnet_id: subnet.id.clone() });
                        }
                        exact.push((subnet, ip));
                    }
                    None if router || !subnet.is_auto_address() => any.push(vec![subnet]),
                    None => {}
                }
            }
        }
        None => {
            let v4: Vec<&Subnet> = subnets.iter().filter(|s| !s.cidr.v6()).collect();
            let stateful: Vec<&Subnet> = subnets.iter().filter(|s| s.cidr.v6() && !s.is_auto_address()).collect();
            any.extend([v4, stateful].into_iter().filter(|group| !group.is_empty()));
        }
    }
    if !router {
        for subnet in subnets.iter().filter(|s| s.is_auto_address() && !skip.contains(&s.id.as_str())) {
            if let Some(ip) = net::eui64(&subnet.cidr, wanted.mac)
                && !exact.iter().any(|(_, taken)| *taken == ip)
            {
                exact.push((subnet, ip));
            }
        }
    }
    let mut got = Vec::with_capacity(exact.len() + any.len());
    for (subnet, ip) in exact {
        take(cx, subnet, ip)?;
        got.push((subnet.id.clone(), ip));
    }
    for group in any {
        let mut found = None;
        for subnet in group {
            if let Some(ip) = take_any(cx, subnet)? {
                found = Some((subnet.id.clone(), ip));
                break;
            }
        }
        got.push(found.ok_or_else(|| Error::IpAddressGenerationFailure { net_id: wanted.network_id.into() })?);
    }
    Ok(got)
}
