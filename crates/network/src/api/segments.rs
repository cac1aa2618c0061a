//! `/v2.0/segments`

use super::networks::NETWORK;
use crate::api_prelude::*;
use crate::attributes;
use crate::ipam::Subnet;
use crate::store::segments::{self, Wish};

/// Segments.
pub static SEGMENT: Resource = Resource {
    table: "network_segments",
    sight: Sight::Everyone,
    create: Some(create),
    update: Some(|cx, old, body| item::update(cx, old, &body, &[]).map(|_| ())),
    delete: Some(delete),
    ..Resource::base("segment", "segments", "/v2.0/segments", "/v2.0/segments/{id}", ATTRIBUTES, |id| Error::SegmentNotFound { id: id.into() })
};

const ATTRIBUTES: &[Attribute] = attributes![standard;
    ID,
    a("tenant_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("project_id", "C").or(Initial::Unset).is(Check::Text(255)),
    a("network_id", "CVFS").is(Check::Uuid).text(),
    a("physical_network", "CVFS").or(Initial::Unset).is(Check::Text(64)).text(),
    a("network_type", "CVFS").is(Check::Text(32)).text(),
    a("segmentation_id", "CVS").or(Initial::Unset).to(convert::int).int(),
    a("name", "CUVFS").or(Initial::Unset).is(Check::NameOrNone(255)).text(),
];

fn create(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let network_id = item::text(&body, "network_id").to_string();
    let project = item::get(cx, &NETWORK, &network_id)?.text("project_id").to_string();
    let wish = Wish {
        network_type: item::text(&body, "network_type").into(),
        physical_network: body.get("physical_network").and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_string),
        segmentation_id: body.get("segmentation_id").and_then(Value::as_i64),
    };
    segments::validate(cx, &wish)?;
    let got = segments::reserve(cx, &wish, &project)?;
    let next = "SELECT COALESCE(MAX(segment_index), -1) + 1 FROM network_segments WHERE network_id = ?1";
    let index: i64 = cx.tx.scalar(next, &params![&network_id])?.unwrap_or(0);
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let id = segments::add(cx, &network_id, &got, index, text("name"), text("description"))?;
    item::bump(cx, &NETWORK, &network_id)?;
    Ok(id)
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    if cx.tx.query_one("SELECT id FROM subnets WHERE segment_id = ?1 LIMIT 1", &params![old.id()])?.is_some() {
        return Err(Error::SegmentInUse { id: old.id().into(), reason: "The segment is still associated with subnet(s)".into() });
    }
    if let Some(number) = old.get("segmentation_id").as_i64() {
        item::delete(cx, old)?;
        segments::release(cx, old.text("network_type"), old.get("physical_network").as_str(), number)?;
    } else {
        item::delete(cx, old)?;
    }
    item::bump(cx, &NETWORK, old.text("network_id"))
}

/// A subnet's segment is one of its network's, and all subnets of a network have one, or none has.
pub fn check_subnet(cx: &mut Cx<'_, '_>, network_id: &str, segment: Option<&str>, siblings: &[Subnet]) -> Result<()> {
    if let Some(id) = segment {
        let owner: Option<String> = cx.tx.scalar("SELECT network_id FROM network_segments WHERE id = ?1", &params![id])?;
        match owner {
            None => return Err(Error::SegmentNotFound { id: id.into() }),
            Some(owner) if owner != network_id => {
                return Err(Error::NetworkIdsDontMatch { subnet_network: network_id.into(), segment_id: id.into() });
            }
            Some(_) => {}
        }
    }
    if siblings.is_empty() {
        return Ok(());
    }
    let with = "SELECT id FROM subnets WHERE network_id = ?1 AND segment_id IS NOT NULL LIMIT 1";
    let others = cx.tx.query_one(with, &params![network_id])?.is_some();
    if others != segment.is_some() {
        return Err(Error::SubnetsNotAllAssociatedWithSegments { network_id: network_id.into() });
    }
    Ok(())
}
