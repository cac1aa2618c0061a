//! Addresses. Each subnet keeps its free addresses as the fewest intervals: taking any, taking a certain one and giving one back
//! look at one or two rows, however large the subnet and however full. That an address has one port is the table's own constraint.

mod choose;

pub use choose::{Wanted, choose};

use crate::caller::Cx;
use crate::model::net::{self, Cidr};
use crate::{Error, Result};
use database::params;
use serde_json::{Value, json};
use std::net::IpAddr;

/// A subnet as far as addresses are concerned.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// Its network.
    pub network_id: String,
    /// Its prefix.
    pub cidr: Cidr,
    /// Its gateway.
    pub gateway_ip: Option<String>,
    /// `ipv6_ra_mode`.
    pub ra_mode: Option<String>,
    /// `ipv6_address_mode`.
    pub address_mode: Option<String>,
    /// Device owners that it serves; empty for all.
    pub service_types: Vec<String>,
    /// First and last addresses of its pools.
    pub pools: Vec<(u128, u128)>,
}

const COLUMNS: &str = "id, network_id, cidr, gateway_ip, ipv6_ra_mode, ipv6_address_mode, service_types, allocation_pools";

impl Subnet {
    fn from_row(row: &database::Row) -> Result<Subnet> {
        let cidr: String = row.get(2)?;
        let types: Value = row.get(6)?;
        let pools: Value = row.get(7)?;
        let texts = |v: &Value| v.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_string)).collect();
        Ok(Subnet {
            id: row.get(0)?,
            network_id: row.get(1)?,
            cidr: Cidr::parse(&cidr).unwrap_or(Cidr { address: IpAddr::from([0, 0, 0, 0]), prefix: 32 }),
            gateway_ip: row.get(3)?,
            ra_mode: row.get(4)?,
            address_mode: row.get(5)?,
            service_types: texts(&types),
            pools: pools_of(&pools),
        })
    }

    /// The subnet with this id.
    pub fn get(cx: &mut Cx<'_, '_>, id: &str) -> Result<Option<Subnet>> {
        let sql = format!("SELECT {COLUMNS} FROM subnets WHERE id = ?1");
        cx.tx.query_one(&sql, &params![id])?.as_ref().map(Subnet::from_row).transpose()
    }

    /// The subnets of a network, oldest first.
    pub fn of_network(cx: &mut Cx<'_, '_>, network_id: &str) -> Result<Vec<Subnet>> {
        let sql = format!("SELECT {COLUMNS} FROM subnets WHERE network_id = ?1 ORDER BY created_at, id");
        cx.tx.query(&sql, &params![network_id])?.iter().map(Subnet::from_row).collect()
    }

    /// Whether ports make their addresses themselves, from advertisements.
    pub fn is_auto_address(&self) -> bool {
        let auto = |mode: &Option<String>| matches!(mode.as_deref(), Some("slaac" | "dhcpv6-stateless"));
        self.cidr.v6() && (auto(&self.address_mode) || auto(&self.ra_mode))
    }
}

/// The pools of a subnet as numbers.
pub fn pools_of(pools: &Value) -> Vec<(u128, u128)> {
    let number = |v: &Value| v.as_str().and_then(|t| t.parse::<IpAddr>().ok()).map(net::number);
    let pools = pools.as_array().into_iter().flatten();
    pools.filter_map(|p| Some((number(&p["start"])?, number(&p["end"])?))).collect()
}

/// Pools as the API shows them.
pub fn shown(pools: &[(u128, u128)], v6: bool) -> Value {
    let text = |n: u128| net::address(n, v6).to_string();
    pools.iter().map(|(first, last)| json!({"start": text(*first), "end": text(*last)})).collect()
}

/// Every address but the network's, the broadcast's and the gateway's: the pools of a subnet that asks for none.
pub fn default_pools(cidr: &Cidr, gateway: Option<IpAddr>) -> Vec<(u128, u128)> {
    let (first, last) = (cidr.first(), cidr.last());
    if first == last {
        return vec![(first, last)];
    }
    let (first, last) = match (cidr.v6(), cidr.prefix) {
        (false, 0..=30) => (first + 1, last - 1),
        (false, _) => (first, last),
        (true, _) => (first + 1, last),
    };
    match gateway.map(net::number) {
        Some(gateway) if (first..=last).contains(&gateway) => {
            let mut pools = Vec::new();
            if gateway > first {
                pools.push((first, gateway - 1));
            }
            if gateway < last {
                pools.push((gateway + 1, last));
            }
            pools
        }
        _ => vec![(first, last)],
    }
}

fn put(cx: &mut Cx<'_, '_>, subnet: &str, v6: bool, first: u128, last: u128) -> Result<()> {
    let sql = "INSERT INTO free_addresses (subnet_id, first_ip, last_ip) VALUES (?1, ?2, ?3)";
    cx.tx.execute(sql, &params![subnet, net::sort_key(first, v6), net::sort_key(last, v6)])?;
    Ok(())
}

fn remove(cx: &mut Cx<'_, '_>, subnet: &str, v6: bool, first: u128) -> Result<()> {
    let sql = "DELETE FROM free_addresses WHERE subnet_id = ?1 AND first_ip = ?2";
    cx.tx.execute(sql, &params![subnet, net::sort_key(first, v6)])?;
    Ok(())
}

/// Moves the beginning of an interval; the whole of it goes where nothing is left.
fn shrink(cx: &mut Cx<'_, '_>, subnet: &str, v6: bool, first: u128, last: u128) -> Result<()> {
    if first == last {
        return remove(cx, subnet, v6, first);
    }
    let sql = "UPDATE free_addresses SET first_ip = ?3 WHERE subnet_id = ?1 AND first_ip = ?2";
    cx.tx.execute(sql, &params![subnet, net::sort_key(first, v6), net::sort_key(first + 1, v6)])?;
    Ok(())
}

/// Works out the free addresses of a subnet from its pools and what is taken; when it is made and when its pools change.
pub fn rebuild(cx: &mut Cx<'_, '_>, subnet: &str, v6: bool, pools: &[(u128, u128)]) -> Result<()> {
    cx.tx.execute("DELETE FROM free_addresses WHERE subnet_id = ?1", &params![subnet])?;
    let taken: Vec<String> = cx.tx.column("SELECT ip_address FROM ip_allocations WHERE subnet_id = ?1", &params![subnet])?;
    let mut taken: Vec<u128> = taken.iter().filter_map(|t| t.parse().ok()).map(net::number).collect();
    taken.sort_unstable();
    for (first, last) in pools {
        let mut from = *first;
        let mut open = true;
        for ip in taken.iter().filter(|ip| (first..=last).contains(ip)) {
            if *ip > from {
                put(cx, subnet, v6, from, ip - 1)?;
            }
            match ip.checked_add(1) {
                Some(next) => from = next,
                None => open = false,
            }
        }
        if open && from <= *last {
            put(cx, subnet, v6, from, *last)?;
        }
    }
    Ok(())
}

/// Takes the lowest free address of a subnet; `None` where there is none.
pub fn take_any(cx: &mut Cx<'_, '_>, subnet: &Subnet) -> Result<Option<IpAddr>> {
    let sql = "SELECT first_ip, last_ip FROM free_addresses WHERE subnet_id = ?1 ORDER BY first_ip LIMIT 1";
    let Some(row) = cx.tx.query_one(sql, &params![&subnet.id])? else { return Ok(None) };
    let (first, last): (String, String) = (row.get(0)?, row.get(1)?);
    let (first, last) = (net::from_sort_key(&first), net::from_sort_key(&last));
    let v6 = subnet.cidr.v6();
    shrink(cx, &subnet.id, v6, first, last)?;
    Ok(Some(net::address(first, v6)))
}

/// Takes this address of a subnet, in or outside of its pools.
pub fn take(cx: &mut Cx<'_, '_>, subnet: &Subnet, ip: IpAddr) -> Result<()> {
    let taken = "SELECT port_id FROM ip_allocations WHERE subnet_id = ?1 AND ip_address = ?2";
    if cx.tx.query_one(taken, &params![&subnet.id, ip.to_string()])?.is_some() {
        return Err(Error::IpAddressAlreadyAllocated { ip: ip.to_string(), subnet_id: subnet.id.clone() });
    }
    let (v6, at) = (subnet.cidr.v6(), net::number(ip));
    let sql = "SELECT first_ip, last_ip FROM free_addresses WHERE subnet_id = ?1 AND first_ip <= ?2 ORDER BY first_ip DESC LIMIT 1";
    let Some(row) = cx.tx.query_one(sql, &params![&subnet.id, net::sort_key(at, v6)])? else { return Ok(()) };
    let (first, last): (String, String) = (row.get(0)?, row.get(1)?);
    let (first, last) = (net::from_sort_key(&first), net::from_sort_key(&last));
    if at > last {
        return Ok(());
    }
    remove(cx, &subnet.id, v6, first)?;
    if at > first {
        put(cx, &subnet.id, v6, first, at - 1)?;
    }
    if at < last {
        put(cx, &subnet.id, v6, at + 1, last)?;
    }
    Ok(())
}

/// Gives an address back, if it is in a pool of its subnet, and joins it with its neighbours.
pub fn release(cx: &mut Cx<'_, '_>, subnet: &Subnet, ip: IpAddr) -> Result<()> {
    let (v6, at) = (subnet.cidr.v6(), net::number(ip));
    let Some((low, high)) = subnet.pools.iter().copied().find(|(first, last)| (*first..=*last).contains(&at)) else {
        return Ok(());
    };
    let (mut first, mut last) = (at, at);
    let below = "SELECT first_ip, last_ip FROM free_addresses WHERE subnet_id = ?1 AND first_ip < ?2 ORDER BY first_ip DESC LIMIT 1";
    if let Some(row) = cx.tx.query_one(below, &params![&subnet.id, net::sort_key(at, v6)])? {
        let (start, end): (String, String) = (row.get(0)?, row.get(1)?);
        let (start, end) = (net::from_sort_key(&start), net::from_sort_key(&end));
        if at > low && end == at - 1 {
            remove(cx, &subnet.id, v6, start)?;
            first = start;
        } else if end >= at {
            return Ok(());
        }
    }
    if at < high {
        let above = "SELECT last_ip FROM free_addresses WHERE subnet_id = ?1 AND first_ip = ?2";
        if let Some(end) = cx.tx.scalar::<String>(above, &params![&subnet.id, net::sort_key(at + 1, v6)])? {
            remove(cx, &subnet.id, v6, at + 1)?;
            last = net::from_sort_key(&end);
        }
    }
    put(cx, &subnet.id, v6, first, last)
}

/// Writes down which port has an address.
pub fn assign(cx: &mut Cx<'_, '_>, network_id: &str, port_id: &str, subnet_id: &str, ip: IpAddr) -> Result<()> {
    let sql = "INSERT INTO ip_allocations (subnet_id, ip_address, network_id, port_id) VALUES (?1, ?2, ?3, ?4)";
    cx.tx.execute(sql, &params![subnet_id, ip.to_string(), network_id, port_id])?;
    Ok(())
}

/// Takes an address off its port and gives it back.
pub fn unassign(cx: &mut Cx<'_, '_>, subnet_id: &str, ip: IpAddr) -> Result<()> {
    let sql = "DELETE FROM ip_allocations WHERE subnet_id = ?1 AND ip_address = ?2";
    cx.tx.execute(sql, &params![subnet_id, ip.to_string()])?;
    match Subnet::get(cx, subnet_id)? {
        Some(subnet) => release(cx, &subnet, ip),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cidr: &str, gateway: Option<&str>) -> Vec<(String, String)> {
        let cidr = Cidr::parse(cidr).unwrap();
        let pools = default_pools(&cidr, gateway.map(|g| g.parse().unwrap()));
        let text = |n| net::address(n, cidr.v6()).to_string();
        pools.into_iter().map(|(a, b)| (text(a), text(b))).collect()
    }

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.into(), b.into())
    }

    #[test]
    fn default_pools_leave_out_the_gateway_and_the_ends() {
        assert_eq!(range("172.16.1.0/24", Some("172.16.1.1")), [pair("172.16.1.2", "172.16.1.254")]);
        assert_eq!(range("10.0.0.0/29", Some("10.0.0.4")), [pair("10.0.0.1", "10.0.0.3"), pair("10.0.0.5", "10.0.0.6")]);
        assert_eq!(range("10.0.0.0/31", None), [pair("10.0.0.0", "10.0.0.1")]);
        assert_eq!(range("10.0.0.9/32", None), [pair("10.0.0.9", "10.0.0.9")]);
        assert_eq!(range("2001:db8::/126", Some("2001:db8::")), [pair("2001:db8::1", "2001:db8::3")]);
    }
}
