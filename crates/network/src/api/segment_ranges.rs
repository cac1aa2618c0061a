//! `/v2.0/network_segment_ranges`: which segment ids are handed out, and to whom.

use crate::api_prelude::*;
use crate::attributes;
use crate::store::segments;

/// Ranges.
pub static RANGE: Resource = Resource {
    sight: Sight::Everyone,
    tags: true,
    create: Some(create),
    update: Some(update),
    delete: Some(delete),
    extend,
    ..Resource::base(
        "network_segment_range",
        "network_segment_ranges",
        "/v2.0/network_segment_ranges",
        "/v2.0/network_segment_ranges/{id}",
        ATTRIBUTES,
        |id| Error::NetworkSegmentRangeNotFound { id: id.into() },
    )
};

const TYPES: &[&str] = &["vlan", "vxlan", "gre", "geneve"];

const ATTRIBUTES: &[Attribute] = attributes![tagged;
    ID, NAME, PROJECT, TENANT,
    a("default", "V").at("is_default", Kind::Bool),
    a("shared", "CV").or(Initial::Bool(true)).to(convert::boolean).bool(),
    a("network_type", "CVF").is(Check::Values(TYPES)).text(),
    a("physical_network", "CVF").or(Initial::Unset).is(Check::Text(64)).text(),
    a("minimum", "CUV").to(convert::int).is(Check::Range(1, 4_294_967_295)).int(),
    a("maximum", "CUV").to(convert::int).is(Check::Range(1, 4_294_967_295)).int(),
    a("used", "V"),
    a("available", "V"),
];

/// Ids that a list of free ones shows at most; 16 million would be no answer.
const SHOWN: i64 = 4096;

fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    for item in items {
        let (first, last) = (item.int("minimum"), item.int("maximum"));
        let key = params![item.text("network_type"), item.text("physical_network"), first, last];
        let sql = "SELECT s.segmentation_id, n.project_id FROM network_segments s JOIN networks n ON n.id = s.network_id
             WHERE s.network_type = ?1 AND COALESCE(s.physical_network, '') = ?2 AND s.segmentation_id >= ?3 AND s.segmentation_id <= ?4 ORDER BY s.segmentation_id";
        let mut used = Map::new();
        for row in cx.tx.query(sql, &key)? {
            used.insert(row.get::<i64>(0)?.to_string(), Value::String(row.get(1)?));
        }
        let sql = "SELECT first_id, last_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND last_id >= ?3 AND first_id <= ?4 ORDER BY first_id";
        let mut free: Vec<i64> = Vec::new();
        for row in cx.tx.query(sql, &key)? {
            let (a, b): (i64, i64) = (row.get(0)?, row.get(1)?);
            let room = SHOWN - free.len() as i64;
            free.extend((a.max(first)..=b.min(last)).take(room.max(0) as usize));
        }
        item.set("used", Value::Object(used));
        item.set("available", json!(free));
    }
    Ok(())
}

/// Bounds in order and possible, and apart from the other ranges of administrators.
fn check(cx: &mut Cx<'_, '_>, id: &str, kind: &str, physical: &str, minimum: i64, maximum: i64) -> Result<()> {
    let most = match kind {
        "vlan" => 4094,
        "gre" => 4_294_967_295,
        _ => 16_777_215,
    };
    if minimum > maximum || maximum > most {
        let reason = if minimum > maximum { "End of tunnel range is less than start of tunnel range".into() } else { format!("{maximum} is not a valid {kind} identifier") };
        return Err(if kind == "vlan" {
            Error::NetworkVlanRangeError { range: format!("{minimum}:{maximum}"), reason: reason.replace("tunnel", "VLAN") }
        } else {
            Error::NetworkTunnelRangeError { range: format!("{minimum}:{maximum}"), reason }
        });
    }
    let sql = "SELECT id FROM network_segment_ranges WHERE is_default = 0 AND network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND id <> ?3 AND minimum <= ?5 AND maximum >= ?4";
    let others: Vec<String> = cx.tx.column(sql, &params![kind, physical, id, minimum, maximum])?;
    if !others.is_empty() {
        return Err(Error::NetworkSegmentRangeOverlaps { range_id: others.join(", ") });
    }
    Ok(())
}

fn create(cx: &mut Cx<'_, '_>, mut body: Body) -> Result<String> {
    let id = item::new_id();
    let kind = item::text(&body, "network_type").to_string();
    let number = |name: &str| body.get(name).and_then(Value::as_i64).unwrap_or(0);
    let (minimum, maximum) = (number("minimum"), number("maximum"));
    let physical = if kind == "vlan" { item::text(&body, "physical_network").to_string() } else { String::new() };
    check(cx, &id, &kind, &physical, minimum, maximum)?;
    if kind != "vlan" {
        body.remove("physical_network");
    }
    if body.get("shared") == Some(&json!(true)) {
        body.insert("project_id".into(), Value::Null);
        body.insert("tenant_id".into(), Value::Null);
    }
    item::insert(cx, &RANGE, &id, &body, &[("is_default", Sql::from(false))])?;
    segments::rebuild(cx, &kind, &physical)?;
    Ok(id)
}

fn taken(cx: &mut Cx<'_, '_>, old: &Item) -> Result<Option<(i64, i64)>> {
    let sql = "SELECT MIN(segmentation_id), MAX(segmentation_id) FROM network_segments
         WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND segmentation_id >= ?3 AND segmentation_id <= ?4";
    let key = params![old.text("network_type"), old.text("physical_network"), old.int("minimum"), old.int("maximum")];
    let Some(row) = cx.tx.query_one(sql, &key)? else { return Ok(None) };
    Ok(row.get::<Option<i64>>(0)?.zip(row.get::<Option<i64>>(1)?))
}

fn editable(old: &Item) -> Result<()> {
    if old.is("default") { Err(Error::NetworkSegmentRangeDefaultReadOnly { id: old.id().into() }) } else { Ok(()) }
}

fn update(cx: &mut Cx<'_, '_>, old: &Item, body: Body) -> Result<()> {
    editable(old)?;
    let number = |name: &str| body.get(name).and_then(Value::as_i64).unwrap_or(old.int(name));
    let (minimum, maximum) = (number("minimum"), number("maximum"));
    if let Some((lowest, highest)) = taken(cx, old)?
        && (minimum > lowest || maximum < highest)
    {
        return Err(Error::NetworkSegmentRangeReferencedByProject { id: old.id().into() });
    }
    check(cx, old.id(), old.text("network_type"), old.text("physical_network"), minimum, maximum)?;
    item::update(cx, old, &body, &[])?;
    segments::rebuild(cx, old.text("network_type"), old.text("physical_network"))
}

fn delete(cx: &mut Cx<'_, '_>, old: &Item) -> Result<()> {
    editable(old)?;
    if taken(cx, old)?.is_some() {
        return Err(Error::NetworkSegmentRangeReferencedByProject { id: old.id().into() });
    }
    item::delete(cx, old)?;
    segments::rebuild(cx, old.text("network_type"), old.text("physical_network"))
}
