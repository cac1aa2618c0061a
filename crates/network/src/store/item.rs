//! Rows as items: one value per attribute of the resource, read, written and shown by the attribute table.

use crate::caller::Cx;
use crate::model::attribute::{Body, Kind, Resource, Sight, qualified};
use crate::{Error, Result};
use database::{Row, Select, Value as Sql, params};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// One resource, with the values of its attributes in the table's order.
#[derive(Clone)]
pub struct Item {
    /// What it is.
    pub resource: &'static Resource,
    /// Its values; an attribute without value is null.
    pub values: Vec<Value>,
}

static NULL: Value = Value::Null;

impl Item {
    /// Reads a row of [`Resource::select_list`].
    pub fn from_row(resource: &'static Resource, row: Row) -> Item {
        let mut columns = row.into_values().into_iter();
        let values = resource
            .attributes
            .iter()
            .map(|attribute| match attribute.column {
                None => Value::Null,
                Some((_, kind)) => from_sql(columns.next().unwrap_or(Sql::Null), kind),
            })
            .collect();
        Item { resource, values }
    }

    /// The value of an attribute; null where there is none of the name.
    pub fn get(&self, name: &str) -> &Value {
        self.resource.index(name).map_or(&NULL, |i| &self.values[i])
    }

    /// A text; empty where it is null.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).as_str().unwrap_or("")
    }

    /// A truth.
    pub fn is(&self, name: &str) -> bool {
        self.get(name).as_bool().unwrap_or(false)
    }

    /// A number.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).as_i64().unwrap_or(0)
    }

    /// A list.
    pub fn list(&self, name: &str) -> &[Value] {
        self.get(name).as_array().map_or(&[], Vec::as_slice)
    }

    /// What identifies it.
    pub fn id(&self) -> &str {
        self.text(self.resource.key)
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if let Some(i) = self.resource.index(name) {
            self.values[i] = value.into();
        }
    }

    /// The item with `changes` over it, as the policy sees an update.
    pub fn merged(&self, changes: &Body) -> Item {
        let mut merged = self.clone();
        for (name, value) in changes {
            merged.set(name, value.clone());
        }
        merged
    }
}

impl policy::Target for Item {
    fn get(&self, key: &str) -> Option<Value> {
        self.resource.index(key).map(|i| self.values[i].clone())
    }

    fn text(&self, key: &str) -> Option<std::borrow::Cow<'_, str>> {
        let value = &self.values[self.resource.index(key)?];
        Some(match value {
            Value::String(text) => std::borrow::Cow::Borrowed(text),
            other => std::borrow::Cow::Owned(crate::model::python::show(other)),
        })
    }
}

/// An item as a client sees it.
pub struct View<'a> {
    /// The item.
    pub item: &'a Item,
    /// Which attributes are shown, by their place.
    pub shown: &'a [bool],
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for ((attribute, value), shown) in self.item.resource.attributes.iter().zip(&self.item.values).zip(self.shown) {
            if *shown && !(attribute.optional && value.is_null()) {
                map.serialize_entry(attribute.name, value)?;
            }
        }
        map.end()
    }
}

fn from_sql(value: Sql, kind: Kind) -> Value {
    match (value, kind) {
        (Sql::Null, _) => Value::Null,
        (Sql::Int(n), Kind::Bool) => Value::Bool(n != 0),
        (Sql::Int(n), Kind::Time) => Value::String(api::time::iso8601_z(n)),
        (Sql::Int(n), _) => Value::from(n),
        (Sql::Text(text), Kind::Json) => serde_json::from_str(&text).unwrap_or(Value::Null),
        (Sql::Text(text), _) => Value::String(text),
        (Sql::Real(f), _) => Value::from(f),
        (Sql::Blob(_), _) => Value::Null,
    }
}

/// A value as its column holds it.
pub fn to_sql(value: &Value, kind: Kind) -> Sql {
    match (value, kind) {
        (Value::Null, _) => Sql::Null,
        (value, Kind::Json) => Sql::Text(value.to_string()),
        (Value::Bool(b), _) => Sql::from(*b),
        (Value::Number(n), Kind::Text) => Sql::Text(n.to_string()),
        (Value::Number(n), _) => n.as_i64().map_or(Sql::Null, Sql::Int),
        (Value::String(text), _) => Sql::Text(text.clone()),
        (other, _) => Sql::Text(other.to_string()),
    }
}

/// A select of items, cut down to what the caller may see.
pub fn select(cx: &Cx<'_, '_>, resource: &'static Resource) -> Select {
    let mut select = Select::new(resource.select_list(), format!("{} t", resource.table));
    if cx.caller.sees_all() {
        return select;
    }
    let project = cx.caller.project();
    match resource.sight {
        Sight::Everyone => {}
        Sight::Owner => {
            select.filter("t.project_id = ?", &params![project]);
        }
        Sight::MeteringLabel => {
            select.filter("(t.project_id = ? OR t.shared = 1)", &params![project]);
        }
        Sight::Shared(kind) => {
            // A network that is external for a project is seen by it as well.
            let actions = if kind == "network" { "('access_as_shared', 'access_as_external')" } else { "('access_as_shared')" };
            let shared = format!(
                "(t.project_id = ? OR t.id IN (SELECT object_id FROM rbac_policies WHERE object_type = ? AND action IN {actions} AND target_project IN (?, '*')))"
            );
            select.filter(&shared, &params![project, kind, project]);
        }
        Sight::OfNetwork => {
            select.filter(
                "(t.project_id = ? OR t.network_id IN (SELECT object_id FROM rbac_policies WHERE object_type = 'network' AND target_project IN (?, '*')))",
                &params![project, project],
            );
        }
        Sight::Port => {
            select.filter(
                "(t.project_id = ? OR t.network_id IN (SELECT id FROM networks WHERE project_id = ?))",
                &params![project, project],
            );
        }
        Sight::GroupRule => {
            select.filter("t.security_group_id IN (SELECT id FROM security_groups WHERE project_id = ?)", &params![project]);
        }
    }
    select
}

/// The items a select finds, complete.
pub fn load(cx: &mut Cx<'_, '_>, resource: &'static Resource, select: &Select) -> Result<Vec<Item>> {
    let rows = select.rows(cx.tx)?;
    let mut items: Vec<Item> = rows.into_iter().map(|row| Item::from_row(resource, row)).collect();
    if !items.is_empty() {
        (resource.extend)(cx, &mut items)?;
        if resource.tags {
            super::tags::extend(cx, &mut items)?;
        }
    }
    Ok(items)
}

/// The item with this id, if the caller may see it.
pub fn find(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str) -> Result<Option<Item>> {
    let mut one = select(cx, resource);
    one.filter(&format!("t.{} = ?", resource.key), &params![id]);
    Ok(load(cx, resource, &one)?.pop())
}

/// The item with this id, or the resource's own 404.
pub fn get(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str) -> Result<Item> {
    find(cx, resource, id)?.ok_or_else(|| (resource.not_found)(id))
}

/// The item with this id, whoever asks.
pub fn get_any(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str) -> Result<Item> {
    get(&mut cx.elevated(), resource, id)
}

/// All items with `column` = `value`, in the order of their ids, whoever asks.
pub fn all_with(cx: &mut Cx<'_, '_>, resource: &'static Resource, condition: &str, values: &[Sql]) -> Result<Vec<Item>> {
    let mut cx = cx.elevated();
    let mut some = select(&cx, resource);
    some.filter(condition, values).order(&format!("t.{}", resource.key), database::Direction::Ascending);
    load(&mut cx, resource, &some)
}

fn plain_column(resource: &Resource, name: &str) -> Option<(&'static str, Kind)> {
    let attribute = resource.attribute(name)?;
    attribute.column.filter(|(column, _)| qualified(column) != *column)
}

/// Adds a row with the body's columns and `more`, which are not attributes; sets id, revision and times where the resource has them.
pub fn insert(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str, body: &Body, more: &[(&str, Sql)]) -> Result<()> {
    let mut columns: Vec<&str> = vec!["id"];
    let mut values = vec![Sql::from(id)];
    for (name, value) in body {
        if let Some((column, kind)) = plain_column(resource, name)
            && !columns.contains(&column)
        {
            columns.push(column);
            values.push(to_sql(value, kind));
        }
    }
    if resource.standard {
        let now = database::now();
        columns.extend(["created_at", "updated_at", "revision_number"]);
        values.extend([Sql::Int(now), Sql::Int(now), Sql::Int(0)]);
    }
    for (column, value) in more {
        match columns.iter().position(|c| c == column) {
            Some(at) => values[at] = value.clone(),
            None => {
                columns.push(column);
                values.push(value.clone());
            }
        }
    }
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", resource.table, columns.join(", "), places.join(", "));
    cx.tx.execute(&sql, &values)?;
    changed(cx, resource, id);
    Ok(())
}

/// Writes the body's columns and `more` over an item. Where nothing differs, nothing is written and the revision stays.
/// Returns whether something was.
pub fn update(cx: &mut Cx<'_, '_>, old: &Item, body: &Body, more: &[(&str, Sql)]) -> Result<bool> {
    let resource = old.resource;
    let mut sets: Vec<String> = Vec::new();
    let mut values: Vec<Sql> = vec![Sql::from(old.id())];
    for (name, value) in body {
        if let Some((column, kind)) = plain_column(resource, name)
            && old.get(name) != value
        {
            values.push(to_sql(value, kind));
            sets.push(format!("{column} = ?{}", values.len()));
        }
    }
    for (column, value) in more {
        values.push(value.clone());
        sets.push(format!("{column} = ?{}", values.len()));
    }
    if sets.is_empty() {
        return Ok(false);
    }
    if resource.standard {
        values.push(Sql::Int(database::now()));
        sets.push(format!("updated_at = ?{}", values.len()));
        sets.push("revision_number = revision_number + 1".into());
    }
    cx.tx.execute(&format!("UPDATE {} SET {} WHERE {} = ?1", resource.table, sets.join(", "), resource.key), &values)?;
    changed(cx, resource, old.id());
    Ok(true)
}

/// Counts a change of something that belongs to the item (a subnet of a network, a rule of a group).
pub fn bump(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str) -> Result<()> {
    let sql = format!("UPDATE {} SET revision_number = revision_number + 1, updated_at = ?2 WHERE id = ?1", resource.table);
    cx.tx.execute(&sql, &params![id, database::now()])?;
    changed(cx, resource, id);
    Ok(())
}

/// Removes an item's row and its tags.
pub fn delete(cx: &mut Cx<'_, '_>, item: &Item) -> Result<()> {
    let resource = item.resource;
    if resource.tags {
        super::tags::forget(cx, item.id())?;
    }
    cx.tx.execute(&format!("DELETE FROM {} WHERE {} = ?1", resource.table, resource.key), &params![item.id()])?;
    changed(cx, resource, item.id());
    Ok(())
}

/// Tells those who follow.
pub fn changed(cx: &mut Cx<'_, '_>, resource: &'static Resource, id: &str) {
    if let Some(topic) = resource.topic {
        cx.tx.changed(topic, id);
    }
}

/// A body's text; empty where it is null or absent.
pub fn text<'a>(body: &'a Body, name: &str) -> &'a str {
    body.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A new id.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether an error is a unique constraint's refusal.
pub fn is_duplicate<T>(done: &Result<T>) -> bool {
    matches!(done, Err(Error::Database(database::Error::Unique { .. })))
}
