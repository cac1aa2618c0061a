//! `/v2.0/network-ip-availabilities`: how many addresses networks have, and have left.

use super::list;
use super::networks::rows_for;
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam;
use ::api::{Request, Response, StatusCode};
use std::collections::HashMap;

/// Availability of addresses.
pub static IP_AVAILABILITY: Resource = Resource {
    sight: Sight::Everyone,
    standard: false,
    key: "network_id",
    ..Resource::base(
        "network_ip_availability",
        "network_ip_availabilities",
        "/v2.0/network-ip-availabilities",
        "/v2.0/network-ip-availabilities/{id}",
        ATTRIBUTES,
        |id| Error::NetworkNotFound { id: id.into() },
    )
};

const ATTRIBUTES: &[Attribute] = attributes![plain;
    a("network_id", "VFS"), a("network_name", "VFS"), a("project_id", "VF"), a("tenant_id", "VF"),
    a("total_ips", "V"), a("used_ips", "V"), a("subnet_ip_availability", "V"), a("ip_version", "F"),
];

fn number(count: u128) -> Value {
    // What 64 bits do not hold is shown as a float; Python's clients read it all the same.
    u64::try_from(count).map_or_else(|_| json!(count as f64), |n| json!(n))
}

fn items(cx: &mut Cx<'_, '_>, only: Option<&str>, filters: &[(String, Vec<String>)]) -> Result<Vec<Item>> {
    let version = filters.iter().find(|(n, _)| n == "ip_version").map(|(_, v)| v.clone());
    let mut select = Select::new("t.id, t.name, t.project_id", "networks t");
    if let Some(id) = only {
        select.filter("t.id = ?", &params![id]);
    }
    for (name, values) in filters {
        let column = match name.as_str() {
            "network_id" => "t.id",
            "network_name" => "t.name",
            "project_id" | "tenant_id" => "t.project_id",
            _ => continue,
        };
        select.filter_in(column, &values.iter().map(Sql::from).collect::<Vec<_>>());
    }
    if let Some(versions) = &version {
        let places = super::networks::places(versions.len());
        let numbers: Vec<Sql> = versions.iter().map(|v| Sql::Int(v.parse().unwrap_or(0))).collect();
        select.filter(&format!("t.id IN (SELECT network_id FROM subnets WHERE ip_version IN ({places}))"), &numbers);
    }
    select.order("t.id", database::Direction::Ascending);
    let networks = select.rows(cx.tx)?;
    let ids: Vec<String> = networks.iter().map(|r| r.get(0)).collect::<database::Result<_>>()?;
    let mut used: HashMap<String, i64> = HashMap::new();
    for chunk in ids.chunks(500) {
        let places: Vec<String> = (1..=chunk.len()).map(|n| format!("?{n}")).collect();
        let sql = format!("SELECT subnet_id, COUNT(*) FROM ip_allocations WHERE network_id IN ({}) GROUP BY subnet_id", places.join(", "));
        for row in cx.tx.query(&sql, &chunk.iter().map(Sql::from).collect::<Vec<_>>())? {
            used.insert(row.get(0)?, row.get(1)?);
        }
    }
    let mut subnets: HashMap<String, Vec<(Value, u128, i64)>> = HashMap::new();
    let columns = "network_id, id, name, cidr, ip_version, allocation_pools";
    for row in rows_for(cx, columns, "subnets", "network_id", &ids, None, &["created_at", "id"])? {
        let (network, id): (String, String) = (row.get(0)?, row.get(1)?);
        let family: i64 = row.get(4)?;
        if version.as_ref().is_some_and(|v| !v.contains(&family.to_string())) {
            continue;
        }
        let pools: Value = row.get(5)?;
        let count: u128 = ipam::pools_of(&pools).iter().map(|(a, b)| (b - a).saturating_add(1)).fold(0, u128::saturating_add);
        let used = used.get(&id).copied().unwrap_or(0);
        let shown = json!({
            "subnet_id": id, "subnet_name": row.get::<String>(2)?, "cidr": row.get::<String>(3)?, "ip_version": family,
            "used_ips": used, "total_ips": number(count),
        });
        subnets.entry(network).or_default().push((shown, count, used));
    }
    let mut found = Vec::new();
    for (row, id) in networks.iter().zip(&ids) {
        let own = subnets.remove(id).unwrap_or_default();
        let count: u128 = own.iter().map(|(_, n, _)| *n).fold(0, u128::saturating_add);
        let used: i64 = own.iter().map(|(.., used)| used).sum();
        let mut item = Item { resource: &IP_AVAILABILITY, values: vec![Value::Null; ATTRIBUTES.len()] };
        item.set("network_id", id.as_str());
        item.set("network_name", row.get::<String>(1)?);
        item.set("project_id", row.get::<String>(2)?);
        item.set("tenant_id", row.get::<String>(2)?);
        item.set("total_ips", number(count));
        item.set("used_ips", used);
        item.set("subnet_ip_availability", own.into_iter().map(|(shown, ..)| shown).collect::<Vec<_>>());
        found.push(item);
    }
    Ok(found)
}

/// GET of all.
pub fn index(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let filters = list::filters(&IP_AVAILABILITY, request)?;
        let found = items(cx, None, &filters)?;
        list::list_of(cx, &IP_AVAILABILITY, request, found)
    })
}

/// GET of one network's.
pub fn show(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let id = request.param("id");
        let found = items(cx, Some(id), &[])?.pop().ok_or_else(|| Error::NetworkNotFound { id: id.into() })?;
        super::access::require_on(cx, "get_network_ip_availability", &found)?;
        list::single(cx, &found, request, StatusCode::OK)
    })
}
