//! `/v2.0/routers/{id}/conntrack_helpers`: which connections of a router are tracked with a helper.

use super::children::Child;
use super::networks::rows_for;
use super::routers::ROUTER;
use crate::api_prelude::*;
use crate::attributes;
use std::collections::HashMap;

/// Helpers.
pub static CONNTRACK_HELPER: Child = Child {
    resource: Resource {
        standard: false,
        ..Resource::base(
            "conntrack_helper",
            "conntrack_helpers",
            "/v2.0/routers/{parent}/conntrack_helpers",
            "/v2.0/routers/{parent}/conntrack_helpers/{id}",
            ATTRIBUTES,
            |id| Error::ConntrackHelperNotFound { id: id.into() },
        )
    },
    parent: &ROUTER,
    column: "router_id",
    rule: "router_conntrack_helper",
    create: |cx, router, body| {
        let whole = |name: &str| body.get(name).cloned().unwrap_or_default();
        check(cx, router.id(), "", &whole)?;
        let id = item::new_id();
        item::insert(cx, &CONNTRACK_HELPER.resource, &id, &body, &[("router_id", Sql::from(router.id()))])?;
        item::changed(cx, &ROUTER, router.id());
        Ok(id)
    },
    update: Some(|cx, router, old, body| {
        let new = old.merged(&body);
        check(cx, router.id(), old.id(), &|name| new.get(name).clone())?;
        item::update(cx, old, &body, &[])?;
        item::changed(cx, &ROUTER, router.id());
        Ok(())
    }),
    delete: |cx, router, old| {
        item::delete(cx, old)?;
        item::changed(cx, &ROUTER, router.id());
        Ok(())
    },
};

const ATTRIBUTES: &[Attribute] = attributes![plain;
    ID,
    a("project_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("tenant_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("protocol", "CUVFS").to(convert::lower).is(Check::Values(super::port_forwardings::PROTOCOLS)).text(),
    a("port", "CUVFS").to(convert::int).is(Check::Range(1, 65535)).int(),
    a("helper", "CUVFS").is(Check::Text(64)).text(),
];

/// The helpers that there are, each with its protocols.
const ALLOWED: &[(&str, &[&str])] = &[
    ("amanda", &["tcp"]),
    ("ftp", &["tcp"]),
    ("h323", &["udp", "tcp"]),
    ("irc", &["tcp"]),
    ("netbios-ns", &["udp"]),
    ("pptp", &["tcp"]),
    ("sane", &["tcp"]),
    ("sip", &["udp", "tcp"]),
    ("snmp", &["udp"]),
    ("tftp", &["udp"]),
];

fn check(cx: &mut Cx<'_, '_>, router: &str, id: &str, whole: &dyn Fn(&str) -> Value) -> Result<()> {
    let (helper, protocol) = (show(&whole("helper")), show(&whole("protocol")));
    let Some((_, protocols)) = ALLOWED.iter().find(|(name, _)| *name == helper) else {
        return Err(Error::ConntrackHelperNotAllowed { helper });
    };
    if !protocols.contains(&protocol.as_str()) {
        return Err(Error::InvalidProtocolForHelper { helper, protocol, supported_protocols: protocols.join(", ") });
    }
    let port = whole("port").as_i64().unwrap_or_default();
    let sql = "SELECT id FROM conntrack_helpers WHERE router_id = ?1 AND protocol = ?2 AND port = ?3 AND helper = ?4 AND id <> ?5";
    if cx.tx.query_one(sql, &params![router, &protocol, port, &helper, id])?.is_some() {
        let values = json!({"router_id": router, "protocol": protocol, "port": port, "helper": helper});
        return Err(Error::request(
            "conntrack_helper",
            format!("A duplicate conntrack helper entry with same attributes already exists, conflicting values are {}", show(&values)),
        ));
    }
    Ok(())
}

/// Fills in `conntrack_helpers` of routers.
pub fn extend_routers(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for row in rows_for(cx, "router_id, protocol, port, helper", "conntrack_helpers", "router_id", &ids, None, &["id"])? {
        let shown = json!({"protocol": row.get::<String>(1)?, "port": row.get::<i64>(2)?, "helper": row.get::<String>(3)?});
        found.entry(row.get(0)?).or_default().push(shown);
    }
    for item in items {
        let own = found.remove(item.id()).unwrap_or_default();
        item.set("conntrack_helpers", own);
    }
    Ok(())
}
