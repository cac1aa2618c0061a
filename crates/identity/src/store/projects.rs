//! Projects, and domains, which are projects that act as such.

use super::{Hints, Kind, Page, Ref, Table, text};
use crate::{Error, Result};
use database::{Direction, Select, Tx, Value as Sql, params};
use serde_json::Value;
use std::collections::HashMap;

/// The table of both.
pub const PROJECTS: Table = Table {
    name: "identity_projects",
    kind: "project",
    missing: |id| Error::not_found("project", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("name", Kind::Text(64)),
        ("domain_id", Kind::Root(64)),
        ("description", Kind::Text(0)),
        ("enabled", Kind::Bool),
        ("parent_id", Kind::Text(64)),
        ("is_domain", Kind::Bool),
        ("options", Kind::Json),
    ],
    extra: true,
};

/// A project (or domain) with its tags.
pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    let project = PROJECTS.get(tx, id)?;
    with_tags(tx, vec![project])?
        .pop()
        .ok_or_else(|| Error::not_found("project", id))
}

/// A project by name within a domain; a domain, where `domain_id` is empty.
pub fn by_name(tx: &mut Tx<'_>, name: &str, domain_id: &str) -> Result<Option<Ref>> {
    let found = PROJECTS.find(tx, "domain_id = ?1 AND name = ?2", &params![domain_id, name])?;
    Ok(with_tags(tx, found.into_iter().collect())?.pop())
}

/// A domain, shown as one.
pub fn get_domain(tx: &mut Tx<'_>, id: &str) -> Result<Ref> {
    match get(tx, id) {
        Ok(project) if super::is_true(&project, "is_domain") => Ok(as_domain(project)),
        Err(error @ Error::Database(_)) => Err(error),
        _ => Err(Error::not_found("domain", id)),
    }
}

/// A domain by its name.
pub fn domain_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Ref> {
    by_name(tx, name, "")?
        .map(as_domain)
        .ok_or_else(|| Error::not_found("domain", name))
}

/// A domain as the API shows it: without what makes it a project.
pub fn as_domain(mut project: Ref) -> Ref {
    for name in ["parent_id", "domain_id", "is_domain", "extra"] {
        project.remove(name);
    }
    project
}

/// The project or domain's `enabled`, its domain's included.
pub fn is_enabled(tx: &mut Tx<'_>, project: &Ref) -> Result<bool> {
    if !super::is_true(project, "enabled") {
        return Ok(false);
    }
    let domain_id = text(project, "domain_id");
    Ok(domain_id.is_empty() || super::is_true(&PROJECTS.get(tx, domain_id)?, "enabled"))
}

fn with_tags(tx: &mut Tx<'_>, mut projects: Vec<Ref>) -> Result<Vec<Ref>> {
    let mut tags: HashMap<String, Vec<Value>> = HashMap::new();
    for chunk in projects.chunks(500) {
        let ids: Vec<Sql> = chunk.iter().map(|p| text(p, "id").into()).collect();
        let mut select = Select::new("project_id, name", "identity_project_tags");
        select
            .filter_in("project_id", &ids)
            .order("project_id", Direction::Ascending)
            .order("position", Direction::Ascending);
        for row in select.rows(tx)? {
            tags.entry(row.get(0)?).or_default().push(Value::String(row.get(1)?));
        }
    }
    for project in &mut projects {
        let own = tags.remove(text(project, "id")).unwrap_or_default();
        project.insert("tags".into(), own.into());
    }
    Ok(projects)
}

/// Adds a project that was checked.
pub fn insert(tx: &mut Tx<'_>, mut project: Ref) -> Result<Ref> {
    let tags = project.remove("tags");
    project.entry("options").or_insert_with(|| Value::Object(Ref::new()));
    let options = super::merge_options(&Value::Null, project.get("options"));
    project.insert("options".into(), options);
    PROJECTS.insert(tx, &project)?;
    set_tags(tx, text(&project, "id"), tags.as_ref())?;
    get(tx, text(&project, "id"))
}

/// Writes `changes` over the project.
pub fn update(tx: &mut Tx<'_>, old: &Ref, changes: &Ref) -> Result<Ref> {
    let mut project = old.clone();
    project.remove("tags");
    let options = super::merge_options(old.get("options").unwrap_or(&Value::Null), changes.get("options"));
    for (name, value) in changes {
        if name != "tags" {
            project.insert(name.clone(), value.clone());
        }
    }
    project.insert("options".into(), options);
    project.insert("id".into(), old["id"].clone());
    PROJECTS.update(tx, &project)?;
    if let Some(tags) = changes.get("tags") {
        set_tags(tx, text(old, "id"), Some(tags))?;
    }
    let mut project = get(tx, text(old, "id"))?;
    let mut plain = project.clone();
    plain.remove("tags");
    project.insert("extra".into(), super::extra_of(&PROJECTS, &plain));
    Ok(project)
}

fn set_tags(tx: &mut Tx<'_>, project_id: &str, tags: Option<&Value>) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_project_tags WHERE project_id = ?1",
        &params![project_id],
    )?;
    for (position, tag) in tags
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .enumerate()
    {
        tx.execute(
            "INSERT INTO identity_project_tags (project_id, name, position) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            &params![project_id, tag, position],
        )?;
    }
    Ok(())
}

/// Tag filters of a list of projects, each a comma-separated list.
#[derive(Debug, Default)]
pub struct TagFilters {
    /// All of these.
    pub tags: Option<String>,
    /// Any of these.
    pub tags_any: Option<String>,
    /// Not all of these.
    pub not_tags: Option<String>,
    /// None of these.
    pub not_tags_any: Option<String>,
}

/// A page of projects.
pub fn list(tx: &mut Tx<'_>, hints: &Hints, tags: &TagFilters) -> Result<Page> {
    let split = |list: &str| list.split(',').map(Sql::from).collect::<Vec<_>>();
    let places = |n: usize| vec!["?"; n].join(", ");
    let mut page = PROJECTS.list_from(tx, hints, PROJECTS.name, |select| {
        let all = |names: &[Sql]| {
            let distinct = names.iter().enumerate().filter(|(i, name)| !names[..*i].contains(name)).count();
            format!(
                "(SELECT COUNT(*) FROM identity_project_tags t WHERE t.project_id = identity_projects.id AND t.name IN ({})) = {distinct}",
                places(names.len())
            )
        };
        let any = |names: &[Sql]| {
            format!("EXISTS (SELECT 1 FROM identity_project_tags t WHERE t.project_id = identity_projects.id AND t.name IN ({}))", places(names.len()))
        };
        if let Some(names) = tags.tags.as_deref().map(split) {
            select.filter(&all(&names), &names);
        }
        if let Some(names) = tags.tags_any.as_deref().map(split) {
            select.filter(&any(&names), &names);
        }
        if let Some(names) = tags.not_tags.as_deref().map(split) {
            select.filter(&format!("NOT {}", all(&names)), &names);
        }
        if let Some(names) = tags.not_tags_any.as_deref().map(split) {
            select.filter(&format!("NOT {}", any(&names)), &names);
        }
    })?;
    page.refs = with_tags(tx, page.refs)?;
    Ok(page)
}

/// Projects (or domains) by id.
pub fn get_many(tx: &mut Tx<'_>, ids: &[String]) -> Result<Vec<Ref>> {
    let found = PROJECTS.get_many(tx, ids)?;
    with_tags(tx, found)
}

/// All projects of a domain.
pub fn in_domain(tx: &mut Tx<'_>, domain_id: &str) -> Result<Vec<Ref>> {
    let found = PROJECTS.find_all(tx, "domain_id = ?1", &params![domain_id])?;
    with_tags(tx, found)
}

/// The projects above, nearest first; the domain is the last.
pub fn parents(tx: &mut Tx<'_>, project: &Ref) -> Result<Vec<Ref>> {
    let mut parents = Vec::new();
    let mut next = text(project, "parent_id").to_owned();
    while !next.is_empty() {
        let parent = get(tx, &next)?;
        next = text(&parent, "parent_id").to_owned();
        parents.push(parent);
    }
    Ok(parents)
}

/// The projects directly below.
pub fn children(tx: &mut Tx<'_>, ids: &[String]) -> Result<Vec<Ref>> {
    let mut found = Vec::new();
    for ids in ids.chunks(500) {
        let places = (1..=ids.len()).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
        let ids: Vec<Sql> = ids.iter().map(Sql::from).collect();
        found.extend(PROJECTS.find_all(tx, &format!("parent_id IN ({places})"), &ids)?);
    }
    with_tags(tx, found)
}

/// All projects below, level by level.
pub fn subtree(tx: &mut Tx<'_>, id: &str) -> Result<Vec<Ref>> {
    let mut all = Vec::new();
    let mut level = vec![id.to_owned()];
    while !level.is_empty() {
        let below = children(tx, &level)?;
        level = below.iter().map(|p| text(p, "id").to_owned()).collect();
        all.extend(below);
    }
    Ok(all)
}
