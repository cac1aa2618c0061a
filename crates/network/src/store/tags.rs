//! Tags of all resources in one table.

use super::item::Item;
use crate::Result;
use crate::caller::Cx;
use database::{Select, Value as Sql, params};
use serde_json::Value;
use std::collections::HashMap;

/// Fills in `tags` for a list.
pub fn extend(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let mut by_id: HashMap<String, Vec<Value>> = HashMap::new();
    for chunk in items.chunks(500) {
        let ids: Vec<Sql> = chunk.iter().map(|i| Sql::from(i.id())).collect();
        let mut select = Select::new("resource_id, tag", "tags");
        select.filter_in("resource_id", &ids).order("resource_id", database::Direction::Ascending).order("tag", database::Direction::Ascending);
        for row in select.rows(cx.tx)? {
            by_id.entry(row.get(0)?).or_default().push(Value::String(row.get(1)?));
        }
    }
    for item in items {
        let tags = by_id.remove(item.id()).unwrap_or_default();
        item.set("tags", Value::Array(tags));
    }
    Ok(())
}

/// The tags of one resource.
pub fn of(cx: &mut Cx<'_, '_>, id: &str) -> Result<Vec<String>> {
    Ok(cx.tx.column("SELECT tag FROM tags WHERE resource_id = ?1 ORDER BY tag", &params![id])?)
}

/// Adds a tag; one that is there already stays.
pub fn add(cx: &mut Cx<'_, '_>, kind: &str, id: &str, tag: &str) -> Result<()> {
    let sql = "INSERT INTO tags (resource_id, tag, resource) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    cx.tx.execute(sql, &params![id, tag, kind])?;
    Ok(())
}

/// Removes a tag; false where it was not there.
pub fn remove(cx: &mut Cx<'_, '_>, id: &str, tag: &str) -> Result<bool> {
    Ok(cx.tx.execute("DELETE FROM tags WHERE resource_id = ?1 AND tag = ?2", &params![id, tag])? > 0)
}

/// Removes all tags of a resource.
pub fn forget(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM tags WHERE resource_id = ?1", &params![id])?;
    Ok(())
}

/// The filters `tags`, `tags-any`, `not-tags` and `not-tags-any`; tags are separated by commas.
pub fn filter(select: &mut Select, name: &str, values: &[String]) -> bool {
    let tags: Vec<Sql> = values.iter().flat_map(|v| v.split(',')).filter(|t| !t.is_empty()).map(Sql::from).collect();
    let places = vec!["?"; tags.len().max(1)].join(", ");
    let any = format!("SELECT resource_id FROM tags WHERE tag IN ({places})");
    let mut distinct = tags.clone();
    distinct.dedup();
    let count = distinct.len();
    let every = format!("{any} GROUP BY resource_id HAVING COUNT(*) = {count}");
    let (negated, inner) = match name {
        "tags" => ("", every),
        "tags-any" => ("", any),
        "not-tags" => ("NOT ", every),
        "not-tags-any" => ("NOT ", any),
        _ => return false,
    };
    if tags.is_empty() {
        return true;
    }
    select.filter(&format!("t.id {negated}IN ({inner})"), &tags);
    true
}
