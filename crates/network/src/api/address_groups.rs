//! `/v2.0/address-groups`

use super::subnetpools::extend_shared;
use super::{access, body, list, networks};
use crate::api_prelude::*;
use crate::attributes;
use crate::model::net::Cidr;
use crate::model::python::repr_list;
use ::api::{Request, Response, StatusCode};

/// Address groups.
pub static ADDRESS_GROUP: Resource = Resource {
    sight: Sight::Shared("address_group"),
    topic: Some("address_group"),
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(delete),
    extend: |cx, items| extend_shared(cx, items, "address_group"),
    filter: |cx, select, name, values| {
        if name == "shared" {
            networks::shared_filter(cx, select, "address_group", "t.id", values);
        }
        Ok(name == "shared")
    },
    ..Resource::base("address_group", "address_groups", "/v2.0/address-groups", "/v2.0/address-groups/{id}", ATTRIBUTES, |id| Error::AddressGroupNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID, NAME, PROJECT, TENANT,
    a("addresses", "CV").or(Initial::Unset).to(convert::none_to_list).is(Check::Rule(check::subnets)).json(),
    a("shared", "V").or(Initial::Bool(false)),
];

fn canonical(value: Option<&Value>) -> Vec<String> {
    let addresses = value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut canonical: Vec<String> = Vec::new();
    for address in addresses {
        let text = Cidr::parse(address).map_or_else(|| address.to_string(), |c| c.network().to_string());
        if !canonical.contains(&text) {
            canonical.push(text);
        }
    }
    canonical
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let addresses = canonical(body.get("addresses"));
    body.insert("addresses".into(), json!(addresses));
    item::insert(cx, &ADDRESS_GROUP, &id, &body, &[])?;
    Ok(id)
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    let used = "SELECT id FROM security_group_rules WHERE remote_address_group_id = ?1 LIMIT 1";
    if cx.tx.query_one(used, &params![old.id()])?.is_some() {
        return Err(Error::AddressGroupInUse { id: old.id().into() });
    }
    cx.tx.execute("DELETE FROM rbac_policies WHERE object_type = 'address_group' AND object_id = ?1", &params![old.id()])?;
    item::delete(cx, old)
}

/// PUT of `add_addresses`, `remove_addresses`.
pub fn change(net: &crate::Network, request: &Request, add: bool) -> Result<Response> {
    let mut given = body::object(request)?;
    let inner = match given.remove("address_group") {
        Some(Value::Object(inner)) => inner,
        _ => return Err(Error::bad("Unable to find 'address_group' in request body")),
    };
    let Some(addresses) = inner.get("addresses").filter(|a| a.is_array()) else {
        return Err(Error::bad("Request body must contain only addresses"));
    };
    if let Some(reason) = check::subnets(addresses)? {
        return Err(Error::bad(format!("Invalid input for addresses. Reason: {reason}.")));
    }
    let addresses = canonical(Some(addresses));
    net.write(request, |cx| {
        let old = item::get(cx, &ADDRESS_GROUP, request.param("id"))?;
        access::require_on(cx, if add { "add_addresses" } else { "remove_addresses" }, &old)?;
        let mut now = canonical(Some(old.get("addresses")));
        if add {
            let known: Vec<&String> = addresses.iter().filter(|a| now.contains(a)).collect();
            if !known.is_empty() {
                return Err(Error::AddressesAlreadyExist { addresses: repr_list(&known), id: old.id().into() });
            }
            now.extend(addresses.clone());
        } else {
            let unknown: Vec<&String> = addresses.iter().filter(|a| !now.contains(a)).collect();
            if !unknown.is_empty() {
                return Err(Error::AddressesNotFound { addresses: repr_list(&unknown), id: old.id().into() });
            }
            now.retain(|a| !addresses.contains(a));
        }
        let mut body = Body::new();
        body.insert("addresses".into(), json!(now));
        item::update(cx, &old, &body, &[])?;
        let new = item::get(cx, &ADDRESS_GROUP, old.id())?;
        list::single(cx, &new, request, StatusCode::OK)
    })
}
