//! `/v2.0/subnetpools` and `/v2.0/address-scopes`

use super::networks::shared_filter;
use crate::api_prelude::*;
use crate::attributes;
use crate::model::net::{self, Cidr};
use ::api::{Request, Response, StatusCode};
use std::collections::HashSet;

/// Subnet pools.
pub static SUBNETPOOL: Resource = Resource {
    sight: Sight::Shared("subnetpool"),
    tags: true,
    quota: Some("subnetpool"),
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend: |cx, items| extend_shared(cx, items, "subnetpool"),
    filter: |cx, select, name, values| {
        if name == "shared" {
            shared_filter(cx, select, "subnetpool", "t.id", values);
        }
        Ok(name == "shared")
    },
    ..Resource::base("subnetpool", "subnetpools", "/v2.0/subnetpools", "/v2.0/subnetpools/{id}", POOL, |id| Error::SubnetPoolNotFound { id: id.into() })
};

/// Address scopes.
pub static ADDRESS_SCOPE: Resource = Resource {
    sight: Sight::Shared("address_scope"),
    standard: false,
    create: Some(create_scope),
    update: Some(update_scope),
    delete: Some(delete_scope),
    extend: |cx, items| extend_shared(cx, items, "address_scope"),
    filter: |cx, select, name, values| {
        if name == "shared" {
            shared_filter(cx, select, "address_scope", "t.id", values);
        }
        Ok(name == "shared")
    },
    ..Resource::base("address_scope", "address_scopes", "/v2.0/address-scopes", "/v2.0/address-scopes/{id}", SCOPE, |id| Error::AddressScopeNotFound { id: id.into() })
};

const POOL: &[Attribute] = attributes![tagged;
    ID, PROJECT, TENANT,
    a("name", "CUVFS").is(Check::NonEmptyName).text(),
    a("prefixes", "CUV").is(Check::Rule(check::subnets)).json(),
    a("default_quota", "CUVFS").or(Initial::Unset).to(convert::int).is(Check::NonNegative).int(),
    a("ip_version", "VFS").int(),
    a("default_prefixlen", "CUVFS").or(Initial::Unset).to(convert::int).is(Check::NonNegative).int(),
    a("min_prefixlen", "CUVFS").or(Initial::Unset).to(convert::int).is(Check::NonNegative).int(),
    a("max_prefixlen", "CUVFS").or(Initial::Unset).to(convert::int).is(Check::NonNegative).int(),
    a("is_default", "CUVFSP").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("shared", "CVFP").or(Initial::Bool(false)).to(convert::boolean),
    a("address_scope_id", "CUVFS").or(Initial::Unset).is(Check::UuidOrNone).text(),
];

const SCOPE: &[Attribute] = attributes![plain;
    ID, NAME, PROJECT, TENANT,
    a("shared", "CUVFP").or(Initial::Bool(false)).to(convert::boolean),
    a("ip_version", "CVFS").to(convert::int).is(Check::Numbers(&[4, 6])).int(),
];

/// Fills in `shared` from RBAC policies.
pub fn extend_shared(cx: &mut Cx<'_, '_>, items: &mut [Item], kind: &str) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let also = "object_type = ? AND action = 'access_as_shared' AND target_project IN (?, '*')";
    let values = params![kind, cx.caller.project()];
    let mut shared: HashSet<String> = HashSet::new();
    for row in super::networks::rows_for(cx, "object_id", "rbac_policies", "object_id", &ids, Some((also, &values)), &[])? {
        shared.insert(row.get(0)?);
    }
    for item in items.iter_mut() {
        let is = shared.contains(item.id());
        item.set("shared", is);
        if kind == "subnetpool" {
            // Upstream shows lengths as text.
            for name in ["default_prefixlen", "min_prefixlen", "max_prefixlen"] {
                let text = show(item.get(name));
                item.set(name, text);
            }
        }
    }
    Ok(())
}

fn prefixes(value: &Value) -> Vec<Cidr> {
    value.as_array().into_iter().flatten().filter_map(|p| p.as_str().and_then(Cidr::parse)).map(|c| c.network()).collect()
}

fn shown(prefixes: &[Cidr]) -> Value {
    prefixes.iter().map(|c| json!(c.to_string())).collect()
}

/// Lengths and prefixes of a pool, checked as upstream's reader does.
fn read(body: &mut Body, old: Option<&Item>) -> Result<(i64, Vec<Cidr>)> {
    let listed = body.get("prefixes").or(old.map(|o| o.get("prefixes"))).cloned().unwrap_or_default();
    let listed = prefixes(&listed);
    let Some(first) = listed.first() else { return Err(Error::EmptySubnetPoolPrefixList {}) };
    let version = first.version();
    if listed.iter().any(|p| p.version() != version) {
        return Err(Error::PrefixVersionMismatch {});
    }
    let number = |body: &Body, name: &str, default: i64| {
        let own = body.get(name).and_then(convert::as_int);
        own.or_else(|| old.and_then(|o| convert::as_int(o.get(name)))).unwrap_or(default)
    };
    let bits = if version == 4 { 32 } else { 128 };
    let min = number(body, "min_prefixlen", if version == 4 { 8 } else { 64 });
    let max = number(body, "max_prefixlen", bits);
    let default = number(body, "default_prefixlen", min);
    let bounds = |kind: &str, len: i64, base: &str, base_len: i64| Error::IllegalSubnetPoolPrefixBounds {
        prefix_type: kind.into(),
        prefixlen: len.to_string(),
        base_prefix_type: base.into(),
        base_prefixlen: base_len.to_string(),
    };
    if min > max {
        return Err(bounds("min_prefixlen", min, "max_prefixlen", max));
    }
    if max > bits {
        return Err(bounds("max_prefixlen", max, "ip_version_max", bits));
    }
    if default < min {
        return Err(bounds("default_prefixlen", default, "min_prefixlen", min));
    }
    if default > max {
        return Err(bounds("default_prefixlen", default, "max_prefixlen", max));
    }
    let compacted = net::compact(&listed);
    body.insert("prefixes".into(), shown(&compacted));
    body.insert("min_prefixlen".into(), json!(min));
    body.insert("max_prefixlen".into(), json!(max));
    body.insert("default_prefixlen".into(), json!(default));
    Ok((version, compacted))
}

fn one_default(cx: &mut Cx<'_, '_>, version: i64) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM subnetpools WHERE is_default = 1 AND ip_version = ?1", &params![version])?.is_some() {
        return Err(Error::input(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family",
        ));
    }
    Ok(())
}

fn check_scope(cx: &mut Cx<'_, '_>, scope_id: Option<&str>, pool_id: &str, version: i64, prefixes: &[Cidr]) -> Result<()> {
    let Some(scope_id) = scope_id else { return Ok(()) };
    let scope = item::get(cx, &ADDRESS_SCOPE, scope_id)?;
    if scope.int("ip_version") != version {
        return Err(Error::IllegalSubnetPoolIpVersionAssociationToAddressScope {
            subnetpool_id: pool_id.into(),
            address_scope_id: scope_id.into(),
            ip_version: show(scope.get("ip_version")),
        });
    }
    // Networks of this pool's subnets must have no subnet of the family that stays behind.
    let stray = "SELECT id FROM subnets WHERE ip_version = ?2 AND (subnetpool_id IS NULL OR subnetpool_id <> ?1)
         AND network_id IN (SELECT network_id FROM subnets WHERE subnetpool_id = ?1) LIMIT 1";
    if cx.tx.query_one(stray, &params![pool_id, version])?.is_some() {
        return Err(Error::NetworkAddressScopeAffinityError {});
    }
    let others = cx.tx.column::<Value>("SELECT prefixes FROM subnetpools WHERE address_scope_id = ?1 AND id <> ?2", &params![scope_id, pool_id])?;
    if others.iter().flat_map(self::prefixes).any(|o| prefixes.iter().any(|p| p.overlaps(&o))) {
        return Err(Error::AddressScopePrefixConflict {});
    }
    Ok(())
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let (version, compacted) = read(&mut body, None)?;
    if body.get("is_default") == Some(&json!(true)) {
        one_default(cx, version)?;
    }
    let scope = body.get("address_scope_id").and_then(Value::as_str).map(str::to_string);
    check_scope(cx, scope.as_deref(), &id, version, &compacted)?;
    item::insert(cx, &SUBNETPOOL, &id, &body, &[("ip_version", Sql::Int(version))])?;
    if body.get("shared") == Some(&json!(true)) {
        super::rbac::grant(cx, item::text(&body, "project_id"), "subnetpool", &id, "access_as_shared", "*")?;
    }
    Ok(id)
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, mut body: Body) -> Result<()> {
    if body.contains_key("prefixes") {
        let (had, new) = (prefixes(old.get("prefixes")), prefixes(&body["prefixes"]));
        let new = net::compact(&new);
        if !had.iter().all(|h| new.iter().any(|n| n.covers(h))) && !new.is_empty() {
            return Err(Error::IllegalSubnetPoolPrefixUpdate { msg: "Existing prefixes must be a subset of the new prefixes".into() });
        }
    }
    let (version, compacted) = read(&mut body, Some(old))?;
    if body.get("is_default") == Some(&json!(true)) && !old.is("is_default") {
        one_default(cx, version)?;
    }
    if let Some(current) = old.get("address_scope_id").as_str() {
        let owner: Option<String> = cx.tx.scalar("SELECT project_id FROM address_scopes WHERE id = ?1", &params![current])?;
        if !cx.caller.admin && owner.as_deref() != cx.caller.project_id() {
            return Err(Error::IllegalSubnetPoolUpdate {
                reason: format!("subnetpool {} cannot be updated when associated with shared address scope {current}", old.id()),
            });
        }
    }
    let scope = body.get("address_scope_id").unwrap_or(old.get("address_scope_id")).as_str().map(str::to_string);
    check_scope(cx, scope.as_deref(), old.id(), version, &compacted)?;
    // The old lengths are shown as text; as numbers they compare with the new ones.
    let mut plain = old.clone();
    for name in ["default_prefixlen", "min_prefixlen", "max_prefixlen"] {
        let number = convert::as_int(old.get(name));
        plain.set(name, json!(number));
    }
    item::update(cx, &plain, &body, &[])?;
    Ok(())
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM subnets WHERE subnetpool_id = ?1 LIMIT 1", &params![old.id()])?.is_some() {
        return Err(Error::SubnetPoolDeleteError { reason: "Subnet pool has existing allocations".into() });
    }
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'subnetpool' AND object_id = ?1", &params![old.id()])?;
    item::delete(cx, old)
}

/// Takes a prefix of a pool for a subnet: a certain one, or the tightest free one of the length asked for.
pub fn allocate(cx: &mut Cx<'_, '_>, pool_id: &str, version: i64, asked: Option<Cidr>, prefixlen: Option<i64>, project: &str) -> Result<Cidr> {
    let pool = item::get(cx, &SUBNETPOOL, pool_id)?;
    let pool_version = pool.int("ip_version");
    if pool_version != version {
        return Err(Error::request("subnets", format!("Cannot allocate IPv{version} subnet from IPv{pool_version} subnet pool")));
    }
    let length = |name: &str| convert::as_int(pool.get(name)).unwrap_or(0);
    let wanted = asked.map(|c| i64::from(c.prefix)).or(prefixlen).unwrap_or_else(|| length("default_prefixlen"));
    let (min, max) = (length("min_prefixlen"), length("max_prefixlen"));
    if wanted > max {
        return Err(Error::MaxPrefixSubnetAllocationError { prefixlen: wanted.to_string(), max_prefixlen: max.to_string() });
    }
    if wanted < min {
        return Err(Error::MinPrefixSubnetAllocationError { prefixlen: wanted.to_string(), min_prefixlen: min.to_string() });
    }
    let taken: Vec<(String, String)> = cx
        .tx
        .query("SELECT cidr, project_id FROM subnets WHERE subnetpool_id = ?1", &params![pool_id])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<_>>()?;
    if let Some(quota) = pool.get("default_quota").as_i64() {
        let unit = if version == 4 { 32 } else { 64 };
        let units = |prefix: i64| 2f64.powi((unit - prefix) as i32);
        let own = taken.iter().filter(|(_, owner)| owner == project);
        let used: f64 = own.filter_map(|(c, _)| Cidr::parse(c)).map(|c| units(c.prefix.into())).sum();
        if used + units(wanted) > quota as f64 {
            return Err(Error::SubnetPoolQuotaExceeded {});
        }
    }
    let taken: Vec<Cidr> = taken.iter().filter_map(|(c, _)| Cidr::parse(c)).collect();
    let mut free = net::difference(&prefixes(pool.get("prefixes")), &taken);
    match asked {
        Some(asked) if free.iter().any(|f| f.covers(&asked)) => Ok(asked),
        Some(_) => Err(Error::SubnetAllocationError { reason: "Cannot allocate requested subnet from the available set of prefixes".into() }),
        None => {
            free.sort_by_key(|f| std::cmp::Reverse(f.prefix));
            let found = free.iter().find(|f| i64::from(f.prefix) <= wanted);
            found.map(|f| Cidr { address: f.address, prefix: wanted as u8 }).ok_or_else(|| Error::SubnetAllocationError {
                reason: format!("Insufficient prefix space to allocate subnet size /{wanted}"),
            })
        }
    }
}

/// Subnets of a family in one network come from one pool, or from pools of one address scope.
pub fn check_affinity(cx: &mut Cx<'_, '_>, network_id: &str, version: i64, pool: Option<&str>) -> Result<()> {
    let scope_of = "SELECT p.address_scope_id FROM subnets s JOIN subnetpools p ON p.id = s.subnetpool_id
         WHERE s.network_id = ?1 AND s.ip_version = ?2 AND p.address_scope_id IS NOT NULL LIMIT 1";
    let scope: Option<String> = cx.tx.scalar(scope_of, &params![network_id, version])?;
    if let Some(scope) = &scope {
        let own: Option<Option<String>> = match pool {
            Some(pool) => cx.tx.scalar("SELECT address_scope_id FROM subnetpools WHERE id = ?1", &params![pool])?,
            None => None,
        };
        if pool.is_some() && own.flatten().as_ref() != Some(scope) {
            return Err(Error::NetworkAddressScopeAffinityError {});
        }
    }
    let others: Vec<Option<String>> =
        cx.tx.column("SELECT subnetpool_id FROM subnets WHERE network_id = ?1 AND ip_version = ?2", &params![network_id, version])?;
    let clash = match pool {
        Some(pool) => scope.is_none() && others.iter().any(|o| o.as_deref() != Some(pool)),
        None => others.iter().any(Option::is_some),
    };
    if clash { Err(Error::NetworkSubnetPoolAffinityError {}) } else { Ok(()) }
}

/// PUT of `add_prefixes`, `remove_prefixes`.
pub fn change_prefixes(net: &crate::Network, request: &Request, add: bool) -> Result<Response> {
    let body = super::body::object(request)?;
    let listed = body.get("prefixes").cloned().unwrap_or_default();
    let strings: Option<Vec<&str>> = listed.as_array().and_then(|l| l.iter().map(Value::as_str).collect());
    let Some(texts) = strings.filter(|l| !l.is_empty()) else {
        return Err(Error::bad("Request body contains invalid data"));
    };
    if let Some(bad) = texts.iter().find(|t| Cidr::parse(t).is_none()) {
        return Err(Error::bad(format!("Invalid subnetpool prefix list. Reason: '{bad}' is not a valid IP subnet")));
    }
    net.write(request, |cx| {
        let old = item::get(cx, &SUBNETPOOL, request.param("id"))?;
        super::access::require_on(cx, if add { "add_prefixes" } else { "remove_prefixes" }, &old)?;
        let current = prefixes(old.get("prefixes"));
        let given = prefixes(&listed);
        let new = if given.is_empty() {
            current.clone()
        } else if add {
            current.iter().chain(&given).copied().collect()
        } else if !current.iter().any(|c| given.iter().any(|g| g.overlaps(c))) {
            current.clone()
        } else {
            let subnets: Vec<String> = cx.tx.column("SELECT cidr FROM subnets WHERE subnetpool_id = ?1", &params![old.id()])?;
            if subnets.iter().filter_map(|s| Cidr::parse(s)).any(|s| given.iter().any(|g| g.overlaps(&s))) {
                return Err(Error::IllegalSubnetPoolPrefixUpdate {
                    msg: "One or more the prefixes to be removed is in use by a subnet.".into(),
                });
            }
            net::difference(&current, &given)
        };
        let new = net::compact(&new);
        if add {
            let mut body = Body::new();
            body.insert("prefixes".into(), shown(&new));
            update(cx, &old, body)?;
        } else {
            let mut body = Body::new();
            body.insert("prefixes".into(), shown(&new));
            item::update(cx, &old, &body, &[])?;
        }
        Ok(Response::json(StatusCode::OK, &json!({"prefixes": shown(&new)})))
    })
}

fn create_scope(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let id = item::new_id();
    item::insert(cx, &ADDRESS_SCOPE, &id, &body, &[])?;
    if body.get("shared") == Some(&json!(true)) {
        super::rbac::grant(cx, item::text(&body, "project_id"), "address_scope", &id, "access_as_shared", "*")?;
    }
    Ok(id)
}

fn update_scope(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    match body.get("shared").and_then(Value::as_bool) {
        Some(false) if old.is("shared") => {
            return Err(Error::AddressScopeUpdateError { id: old.id().into(), reason: "Shared address scope can't be unshared".into() });
        }
        Some(true) if !old.is("shared") => {
            super::rbac::grant(cx, old.text("project_id"), "address_scope", old.id(), "access_as_shared", "*")?;
        }
        _ => {}
    }
    item::update(cx, old, &body, &[])?;
    Ok(())
}

fn delete_scope(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM subnetpools WHERE address_scope_id = ?1 LIMIT 1", &params![old.id()])?.is_some() {
        return Err(Error::AddressScopeInUse { id: old.id().into() });
    }
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'address_scope' AND object_id = ?1", &params![old.id()])?;
    item::delete(cx, old)
}
