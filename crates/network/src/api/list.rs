//! Lists: filters, fields, sort keys, pages and their links.

use super::access::{self, Parents};
use crate::caller::Cx;
use crate::model::attribute::{Kind, Resource, qualified};
use crate::model::python::{repr_list, show};
use crate::store::item::{self, Item, View};
use crate::store::tags;
use crate::{Error, Result};
use api::{Request, Response, StatusCode};
use database::{Direction, Select, Value as Sql, params};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

/// What is no filter.
const CONTROL: &[&str] = &["fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"];

/// Which page.
struct Page {
    limit: Option<u64>,
    marker: Option<String>,
    reverse: bool,
}

impl Page {
    fn of(request: &Request) -> Result<Page> {
        let text = request.query.last("limit").unwrap_or("0");
        let limit = text.trim().parse::<u64>().map_err(|_| {
            Error::request("limit", format!("Limit must be an integer 0 or greater and not '{text}'"))
        })?;
        let reverse = request.query.last("page_reverse").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let marker = request.query.last("marker").filter(|_| limit > 0).filter(|m| !m.is_empty()).map(str::to_string);
        Ok(Page { limit: (limit > 0).then_some(limit), marker, reverse })
    }
}

/// The attributes to sort by, each with its direction.
fn sorts(resource: &'static Resource, request: &Request) -> Result<Vec<(&'static str, Direction)>> {
    let keys: Vec<&str> = request.query.all("sort_key").filter(|v| !v.is_empty()).collect();
    let dirs: Vec<&str> = request.query.all("sort_dir").filter(|v| !v.is_empty()).collect();
    if keys.len() != dirs.len() {
        return Err(Error::bad("The number of sort_keys and sort_dirs must be same"));
    }
    let absent: Vec<&str> = keys.iter().filter(|k| !resource.attribute(k).is_some_and(|a| a.sort)).copied().collect();
    if !absent.is_empty() {
        return Err(Error::bad(format!("{} is invalid attribute for sort_keys", repr_list(&absent))));
    }
    let wrong: Vec<&str> = dirs.iter().filter(|d| !matches!(**d, "asc" | "desc")).copied().collect();
    if !wrong.is_empty() {
        return Err(Error::bad(format!(
            "{} is invalid value for sort_dirs, valid value is 'asc' and 'desc'",
            repr_list(&wrong)
        )));
    }
    let direction = |dir: &str| if dir == "asc" { Direction::Ascending } else { Direction::Descending };
    let pairs = keys.iter().zip(&dirs);
    Ok(pairs.filter_map(|(k, d)| Some((resource.attribute(k)?.name, direction(d)))).collect())
}

/// The filters of a request, each with its values, converted; refuses attributes that are none.
pub fn filters(resource: &Resource, request: &Request) -> Result<Vec<(String, Vec<String>)>> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in request.query.iter().filter(|(name, _)| !CONTROL.contains(name)) {
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value.into()),
            None => found.push((name.into(), vec![value.into()])),
        }
    }
    let unknown: Vec<&str> =
        found.iter().map(|(n, _)| n.as_str()).filter(|n| !resource.attribute(n).is_some_and(|a| a.filter)).collect();
    if !unknown.is_empty() {
        return Err(Error::bad(format!("{} is invalid attribute for filtering", repr_list(&unknown))));
    }
    for (name, values) in &mut found {
        let Some(attribute) = resource.attribute(name) else { continue };
        // Conversions of lists (`fixed_ips=ip_address=…`) are the filter's own affair.
        if let Some(convert) = attribute.convert
            && !matches!(attribute.column, Some((_, Kind::Json)))
        {
            for value in values.iter_mut() {
                *value = show(&convert(Value::String(std::mem::take(value)))?);
            }
        }
    }
    Ok(found)
}

fn apply_filter(cx: &mut Cx<'_, '_>, resource: &'static Resource, select: &mut Select, name: &str, values: &[String]) -> Result<()> {
    if (resource.filter)(cx, select, name, values)? || resource.tags && tags::filter(select, name, values) {
        return Ok(());
    }
    if name == "changed_since" {
        for value in values {
            let since = api::time::parse(value).ok_or_else(|| {
                Error::input(format!("The input {name} must be in the following format: YYYY-MM-DDTHH:MM:SS[Z], but got: {value}"))
            });
            let since = since.map_err(|_| Error::input(format!("The input changed_since must be in the following format: YYYY-MM-DDTHH:MM:SS[Z]")))?;
            select.filter("t.updated_at >= ?", &params![since]);
        }
        return Ok(());
    }
    let Some((column, kind)) = resource.attribute(name).and_then(|a| a.column) else { return Ok(()) };
    let column = qualified(column);
    if kind == Kind::Time {
        let mut any = Vec::new();
        let mut bounds = Vec::new();
        for second in values.iter().filter_map(|v| api::time::parse(v)) {
            any.push(format!("({column} >= ? AND {column} < ?)"));
            bounds.extend(params![second, second + 1_000_000]);
        }
        let any = if any.is_empty() { "1 = 0".to_string() } else { format!("({})", any.join(" OR ")) };
        select.filter(&any, &bounds);
        return Ok(());
    }
    let values: Vec<Sql> = values
        .iter()
        .filter_map(|value| match kind {
            Kind::Bool => Some(Sql::from(value == "True")),
            Kind::Int => value.parse::<i64>().ok().map(Sql::Int),
            _ => Some(Sql::from(value.as_str())),
        })
        .collect();
    select.filter_in(&column, &values);
    Ok(())
}

fn flip(direction: Direction) -> Direction {
    if direction == Direction::Ascending { Direction::Descending } else { Direction::Ascending }
}

/// The items that a request for a list asks for, page and policy applied.
fn items(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request, page: &Page) -> Result<Vec<Item>> {
    let mut select = item::select(cx, resource);
    for (name, values) in filters(resource, request)? {
        apply_filter(cx, resource, &mut select, &name, &values)?;
    }
    let key = format!("t.{}", resource.key);
    let mut order: Vec<(String, Direction)> = Vec::new();
    for (name, direction) in sorts(resource, request)? {
        if let Some((column, _)) = resource.attribute(name).and_then(|a| a.column) {
            order.push((qualified(column), direction));
        }
    }
    if !order.iter().any(|(column, _)| *column == key) {
        order.push((key.clone(), Direction::Ascending));
    }
    for (column, direction) in &order {
        select.order(column, if page.reverse { flip(*direction) } else { *direction });
    }
    if let Some(marker) = &page.marker {
        let columns: Vec<&str> = order.iter().map(|(column, _)| column.as_str()).collect();
        let mut one = Select::new(columns.join(", "), format!("{} t", resource.table));
        one.filter(&format!("{key} = ?"), &params![marker.as_str()]);
        let row = one.rows(cx.tx)?.pop().ok_or_else(|| (resource.not_found)(marker))?;
        select.after(&row.into_values());
    }
    if let Some(limit) = page.limit {
        select.limit(limit);
    }
    let mut found = item::load(cx, resource, &select)?;
    if page.reverse && page.limit.is_some() {
        found.reverse();
    }
    Ok(found)
}

/// GET of a collection.
pub fn list(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request) -> Result<Response> {
    let page = Page::of(request)?;
    let found = items(cx, resource, request, &page)?;
    answer(cx, resource, request, found, &page)
}

/// Answers a list of items that were found in another way than by their table: filters, order and page are applied here.
pub fn list_of(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request, mut found: Vec<Item>) -> Result<Response> {
    let page = Page::of(request)?;
    let visible = |name: &str| resource.attribute(name).is_some_and(|a| a.visible);
    for (name, values) in filters(resource, request)?.into_iter().filter(|(name, _)| visible(name)) {
        found.retain(|i| values.iter().any(|v| show(i.get(&name)) == *v));
    }
    let order = sorts(resource, request)?;
    found.sort_by(|a, b| {
        let by_keys = order.iter().map(|(name, direction)| {
            let ordering = compare(a.get(name), b.get(name));
            if *direction == Direction::Ascending { ordering } else { ordering.reverse() }
        });
        by_keys.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    });
    if let Some(limit) = page.limit {
        let limit = limit as usize;
        let at = page.marker.as_ref().and_then(|m| found.iter().position(|i| i.id() == m));
        if page.marker.is_some() && at.is_none() {
            found.clear();
        }
        let (from, to) = match (page.reverse, at) {
            (true, at) => {
                let end = at.unwrap_or(found.len());
                (end.saturating_sub(limit), end)
            }
            (false, at) => {
                let start = at.map_or(0, |i| i + 1);
                (start, (start + limit).min(found.len()))
            }
        };
        found = found.drain(from.min(found.len())..to.max(from).min(found.len())).collect();
    }
    answer(cx, resource, request, found, &page)
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(std::cmp::Ordering::Equal),
        (Value::Null, Value::Null) => std::cmp::Ordering::Equal,
        (Value::Null, _) => std::cmp::Ordering::Less,
        (_, Value::Null) => std::cmp::Ordering::Greater,
        (a, b) => show(a).cmp(&show(b)),
    }
}

struct Answer<'a> {
    resource: &'static Resource,
    views: Vec<View<'a>>,
    links: Vec<Value>,
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.resource.collection, &self.views)?;
        if !self.links.is_empty() {
            map.serialize_entry(&format!("{}_links", self.resource.collection), &self.links)?;
        }
        map.end()
    }
}

fn answer(cx: &mut Cx<'_, '_>, resource: &'static Resource, request: &Request, found: Vec<Item>, page: &Page) -> Result<Response> {
    let links = links(request, resource, &found, page);
    let rule = format!("get_{}", resource.name);
    let parents = Parents::default();
    let mut kept = Vec::with_capacity(found.len());
    let guarded = cx.net.policy.has_rule(&rule);
    for item in found {
        if !guarded || parents.allows(cx, &rule, &item)? {
            kept.push(item);
        }
    }
    let fields: Vec<&str> = request.query.all("fields").filter(|f| !f.is_empty()).collect();
    let shown = match kept.first() {
        Some(first) => access::shown(cx, resource, first, &fields)?,
        None => Vec::new(),
    };
    let views = kept.iter().map(|item| View { item, shown: &shown }).collect();
    Ok(Response::json(StatusCode::OK, &Answer { resource, views, links }))
}

fn links(request: &Request, _resource: &Resource, found: &[Item], page: &Page) -> Vec<Value> {
    let Some(limit) = page.limit else { return Vec::new() };
    let full = found.len() as u64 >= limit;
    let to = |marker: Option<&str>, reverse: bool| {
        let query = request.query.rewritten(|pairs| {
            pairs.retain(|(name, _)| name != "marker" && name != "page_reverse");
            if let Some(marker) = marker {
                pairs.push(("marker".into(), marker.into()));
            }
            if reverse {
                pairs.push(("page_reverse".into(), "True".into()));
            }
        });
        format!("{}?{query}", request.url(&request.path))
    };
    let mut links = Vec::new();
    if full || page.reverse {
        links.push(json!({"rel": "next", "href": to(found.last().map(Item::id), false)}));
    }
    if full || !page.reverse {
        links.push(json!({"rel": "previous", "href": to(found.first().map(Item::id), true)}));
    }
    links
}

/// One item as an answer, under its name.
pub fn single(cx: &mut Cx<'_, '_>, item: &Item, request: &Request, status: StatusCode) -> Result<Response> {
    let fields: Vec<&str> = if request.method == api::Method::GET { request.query.all("fields").filter(|f| !f.is_empty()).collect() } else { Vec::new() };
    let shown = access::shown(cx, item.resource, item, &fields)?;
    Ok(Response::json(status, &One { item, shown: &shown }))
}

struct One<'a> {
    item: &'a Item,
    shown: &'a [bool],
}

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.item.resource.name, &View { item: self.item, shown: self.shown })?;
        map.end()
    }
}

/// Several items as the answer of a bulk create.
pub fn several(cx: &mut Cx<'_, '_>, resource: &'static Resource, items: &[Item]) -> Result<Response> {
    let shown = match items.first() {
        Some(first) => access::shown(cx, resource, first, &[])?,
        None => Vec::new(),
    };
    let views = items.iter().map(|item| View { item, shown: &shown }).collect();
    Ok(Response::json(StatusCode::CREATED, &Answer { resource, views, links: Vec::new() }))
}
