//! Segments of networks. Free ids are kept as the fewest intervals, so that taking one, any or a certain one, looks at one row.

use crate::caller::Cx;
use crate::{Error, Result};
use database::{Value as Sql, params};

/// A segment as it was asked for; what is `None` is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// `vxlan` and the like.
    pub network_type: String,
    /// Of flat and VLAN networks.
    pub physical_network: Option<String>,
    /// VLAN, VNI or key.
    pub segmentation_id: Option<i64>,
}

/// Brings the configured ranges into the database: what is new becomes free, what is gone is no longer handed out.
pub fn configure(cx: &mut Cx<'_, '_>) -> Result<()> {
    let config = &cx.net.config;
    let mut wanted: Vec<(&str, String, i64, i64)> = Vec::new();
    for (kind, range) in [("vxlan", &config.vxlan_range), ("gre", &config.gre_range), ("geneve", &config.geneve_range)] {
        wanted.push((kind, String::new(), range.first.into(), range.last.into()));
    }
    for vlan in &config.vlan_ranges {
        let (first, last) = if vlan.first == 0 { (1, 4094) } else { (vlan.first, vlan.last) };
        wanted.push(("vlan", vlan.physical_network.clone(), first.into(), last.into()));
    }
    let rows = cx.tx.query(
        "SELECT id, network_type, COALESCE(physical_network, ''), minimum, maximum FROM network_segment_ranges WHERE is_default = 1",
        &[],
    )?;
    let mut known: Vec<(String, (String, String, i64, i64))> = Vec::new();
    for row in rows {
        known.push((row.get(0)?, (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    }
    let same = |k: &(String, String, i64, i64), w: &(&str, String, i64, i64)| k.0 == w.0 && k.1 == w.1 && k.2 == w.2 && k.3 == w.3;
    let gone: Vec<_> = known.iter().filter(|(_, k)| !wanted.iter().any(|w| same(k, w))).cloned().collect();
    for (id, (kind, physical, ..)) in gone {
        cx.tx.execute("DELETE FROM network_segment_ranges WHERE id = ?1", &params![id])?;
        rebuild(cx, &kind, &physical)?;
    }
    for (kind, physical, first, last) in wanted.iter().filter(|w| !known.iter().any(|(_, k)| same(k, w))) {
        let now = database::now();
        cx.tx.execute(
            "INSERT INTO network_segment_ranges (id, name, is_default, shared, network_type, physical_network, minimum, maximum, created_at, updated_at, revision_number)
             VALUES (?1, '', 1, 1, ?2, ?3, ?4, ?5, ?6, ?6, 0)",
            &params![super::item::new_id(), *kind, (!physical.is_empty()).then_some(physical.clone()), *first, *last, now],
        )?;
        rebuild(cx, kind, physical)?;
    }
    Ok(())
}

/// Works out the free ids of a type anew from its ranges and its segments; only when ranges change.
pub fn rebuild(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM free_segments WHERE network_type = ?1 AND physical_network = ?2", &params![network_type, physical_network])?;
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for row in cx.tx.query(
        "SELECT minimum, maximum FROM network_segment_ranges WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 ORDER BY minimum",
        &params![network_type, physical_network],
    )? {
        let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
        match ranges.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = (*end).max(last),
            _ => ranges.push((first, last)),
        }
    }
    let taken: Vec<i64> = cx.tx.column(
        "SELECT segmentation_id FROM network_segments WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND segmentation_id IS NOT NULL ORDER BY segmentation_id",
        &params![network_type, physical_network],
    )?;
    for (first, last) in ranges {
        let mut from = first;
        for id in taken.iter().filter(|id| (first..=last).contains(*id)) {
            put(cx, network_type, physical_network, from, id - 1)?;
            from = id + 1;
        }
        put(cx, network_type, physical_network, from, last)?;
    }
    Ok(())
}

fn put(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str, first: i64, last: i64) -> Result<()> {
    if first <= last {
        let sql = "INSERT INTO free_segments (network_type, physical_network, first_id, last_id) VALUES (?1, ?2, ?3, ?4)";
        cx.tx.execute(sql, &params![network_type, physical_network, first, last])?;
    }
    Ok(())
}

fn remove(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str, first: i64) -> Result<()> {
    let sql = "DELETE FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND first_id = ?3";
    cx.tx.execute(sql, &params![network_type, physical_network, first])?;
    Ok(())
}

/// The first free id from `from` on.
fn first_free(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str, from: i64) -> Result<Option<i64>> {
    let sql = "SELECT first_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND last_id >= ?3 ORDER BY first_id LIMIT 1";
    let first: Option<i64> = cx.tx.scalar(sql, &params![network_type, physical_network, from])?;
    Ok(first.map(|first| first.max(from)))
}

/// Takes any free id for a project: from its own ranges first, then from those that are nobody's.
fn take_any(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str, project: &str) -> Result<Option<i64>> {
    let mut own: Vec<(i64, i64, bool)> = Vec::new();
    for row in cx.tx.query(
        "SELECT minimum, maximum, project_id FROM network_segment_ranges
         WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND shared = 0 AND is_default = 0 ORDER BY minimum",
        &params![network_type, physical_network],
    )? {
        own.push((row.get(0)?, row.get(1)?, row.get::<Option<String>>(2)?.as_deref() == Some(project)));
    }
    if !own.is_empty() {
        for (first, last, _) in own.iter().filter(|(_, _, mine)| *mine) {
            if let Some(id) = first_free(cx, network_type, physical_network, *first)?.filter(|id| id <= last) {
                take(cx, network_type, physical_network, id)?;
                return Ok(Some(id));
            }
        }
        let mut from = 0;
        while let Some(id) = first_free(cx, network_type, physical_network, from)? {
            let Some((_, last, _)) = own.iter().find(|(first, last, _)| (first..=last).contains(&&id)) else {
                take(cx, network_type, physical_network, id)?;
                return Ok(Some(id));
            };
            from = last + 1;
        }
        return Ok(None);
    }
    let sql = "SELECT first_id, last_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 ORDER BY first_id LIMIT 1";
    let Some(row) = cx.tx.query_one(sql, &params![network_type, physical_network])? else { return Ok(None) };
    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
    remove(cx, network_type, physical_network, first)?;
    put(cx, network_type, physical_network, first + 1, last)?;
    Ok(Some(first))
}

/// Takes this id out of the free ones, if it is among them (ids outside the ranges are administrators').
fn take(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: &str, id: i64) -> Result<()> {
    let sql = "SELECT first_id, last_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND first_id <= ?3 ORDER BY first_id DESC LIMIT 1";
    let Some(row) = cx.tx.query_one(sql, &params![network_type, physical_network, id])? else { return Ok(()) };
    let (first, last): (i64, i64) = (row.get(0)?, row.get(1)?);
    if id <= last {
        remove(cx, network_type, physical_network, first)?;
        put(cx, network_type, physical_network, first, id - 1)?;
        put(cx, network_type, physical_network, id + 1, last)?;
    }
    Ok(())
}

/// Gives an id back, if it is in a range, and joins it with its neighbours.
pub fn release(cx: &mut Cx<'_, '_>, network_type: &str, physical_network: Option<&str>, id: i64) -> Result<()> {
    let physical = physical_network.unwrap_or("");
    let inside = "SELECT id FROM network_segment_ranges WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND minimum <= ?3 AND maximum >= ?3 LIMIT 1";
    if cx.tx.query_one(inside, &params![network_type, physical, id])?.is_none() {
        return Ok(());
    }
    let (mut first, mut last) = (id, id);
    let before = "SELECT first_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND last_id = ?3 AND first_id <= ?3 ORDER BY first_id DESC LIMIT 1";
    if let Some(start) = cx.tx.scalar::<i64>(before, &params![network_type, physical, id - 1])? {
        remove(cx, network_type, physical, start)?;
        first = start;
    }
    let after = "SELECT last_id FROM free_segments WHERE network_type = ?1 AND physical_network = ?2 AND first_id = ?3";
    if let Some(end) = cx.tx.scalar::<i64>(after, &params![network_type, physical, id + 1])? {
        remove(cx, network_type, physical, id + 1)?;
        last = end;
    }
    put(cx, network_type, physical, first, last)
}

/// Refuses wishes that contradict their type, with the type drivers' texts.
pub fn validate(cx: &Cx<'_, '_>, wish: &Wish) -> Result<()> {
    let config = &cx.net.config;
    match wish.network_type.as_str() {
        "flat" => {
            let Some(physical) = &wish.physical_network else {
                return Err(Error::input("physical_network required for flat provider network"));
            };
            if config.flat_networks.is_empty() {
                return Err(Error::input("Flat provider networks are disabled"));
            }
            if !config.flat_networks.iter().any(|f| f == "*" || f == physical) {
                return Err(Error::input(format!("physical_network '{physical}' unknown for flat provider network")));
            }
            if wish.segmentation_id.is_some_and(|id| id != 0) {
                return Err(Error::input("segmentation_id prohibited for flat provider network"));
            }
        }
        "vlan" => match (&wish.physical_network, wish.segmentation_id) {
            (Some(physical), id) => {
                if !config.vlan_ranges.iter().any(|v| v.physical_network == *physical) {
                    return Err(Error::input(format!("physical_network '{physical}' unknown for VLAN provider network")));
                }
                if id.is_some_and(|id| !(1..=4094).contains(&id)) {
                    return Err(Error::input("segmentation_id out of range (1 through 4094)"));
                }
            }
            (None, Some(_)) => {
                return Err(Error::input("segmentation_id requires physical_network for VLAN provider network"));
            }
            (None, None) => {}
        },
        "vxlan" | "gre" | "geneve" => {
            let kind = &wish.network_type;
            if wish.physical_network.is_some() {
                return Err(Error::input(format!("provider:physical_network specified for {kind} network")));
            }
            let most = if kind == "gre" { i64::from(u32::MAX) } else { 16_777_215 };
            if wish.segmentation_id.is_some_and(|id| !(1..=most).contains(&id)) {
                return Err(Error::input(format!("segmentation_id out of range (1 through {most})")));
            }
        }
        "local" => {
            for (key, set) in [("physical_network", wish.physical_network.is_some()), ("segmentation_id", wish.segmentation_id.is_some_and(|i| i != 0))] {
                if set {
                    return Err(Error::input(format!("{key} prohibited for local provider network")));
                }
            }
        }
        other => return Err(Error::input(format!("network_type value '{other}' not supported"))),
    }
    Ok(())
}

/// Reserves what a wish leaves open; the unique index of the segments settles the rest.
pub fn reserve(cx: &mut Cx<'_, '_>, wish: &Wish, project: &str) -> Result<Wish> {
    let mut got = wish.clone();
    match wish.network_type.as_str() {
        "flat" => {
            got.segmentation_id = None;
            in_use(cx, &got)?;
        }
        "local" => got.segmentation_id = None,
        "vlan" => {
            let physicals: Vec<String> = match &wish.physical_network {
                Some(physical) => vec![physical.clone()],
                None => cx.net.config.vlan_ranges.iter().map(|v| v.physical_network.clone()).collect(),
            };
            if let Some(id) = wish.segmentation_id {
                in_use(cx, &got)?;
                take(cx, "vlan", &physicals[0], id)?;
            } else {
                let mut found = None;
                for physical in physicals {
                    if let Some(id) = take_any(cx, "vlan", &physical, project)? {
                        found = Some((physical, id));
                        break;
                    }
                }
                let (physical, id) = found.ok_or(Error::NoNetworkAvailable {})?;
                got.physical_network = Some(physical);
                got.segmentation_id = Some(id);
            }
        }
        kind => match wish.segmentation_id {
            Some(id) => {
                in_use(cx, &got)?;
                take(cx, kind, "", id)?;
            }
            None => got.segmentation_id = Some(take_any(cx, kind, "", project)?.ok_or(Error::NoNetworkAvailable {})?),
        },
    }
    Ok(got)
}

/// A segment for a network of a project that did not ask for one.
pub fn any(cx: &mut Cx<'_, '_>, project: &str) -> Result<Wish> {
    for kind in cx.net.config.project_network_types.clone() {
        let wish = Wish { network_type: kind, physical_network: None, segmentation_id: None };
        match reserve(cx, &wish, project) {
            Err(Error::NoNetworkAvailable {}) => {}
            other => return other,
        }
    }
    Err(Error::NoNetworkAvailable {})
}

fn in_use(cx: &mut Cx<'_, '_>, wish: &Wish) -> Result<()> {
    let sql = "SELECT id FROM network_segments WHERE network_type = ?1 AND COALESCE(physical_network, '') = ?2 AND COALESCE(segmentation_id, 0) = ?3 AND network_type <> 'local'";
    let physical = wish.physical_network.clone().unwrap_or_default();
    if cx.tx.query_one(sql, &params![&wish.network_type, &physical, wish.segmentation_id.unwrap_or(0)])?.is_none() {
        return Ok(());
    }
    let id = wish.segmentation_id.unwrap_or(0).to_string();
    Err(match wish.network_type.as_str() {
        "flat" => Error::FlatNetworkInUse { physical_network: physical },
        "vlan" => Error::VlanIdInUse { vlan_id: id, physical_network: physical },
        _ => Error::TunnelIdInUse { id },
    })
}

/// Adds a reserved segment to a network.
pub fn add(cx: &mut Cx<'_, '_>, network_id: &str, segment: &Wish, index: i64, name: Option<&str>, description: Option<&str>) -> Result<String> {
    let id = super::item::new_id();
    let now = database::now();
    cx.tx.execute(
        "INSERT INTO network_segments (id, network_id, name, description, network_type, physical_network, segmentation_id, segment_index, created_at, updated_at, revision_number)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, 0)",
        &[
            Sql::from(id.as_str()),
            Sql::from(network_id),
            Sql::from(name),
            Sql::from(description),
            Sql::from(&segment.network_type),
            Sql::from(&segment.physical_network),
            Sql::from(segment.segmentation_id),
            Sql::from(index),
            Sql::from(now),
        ],
    )?;
    Ok(id)
}
