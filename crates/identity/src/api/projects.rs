//! `/v3/projects` and their tags.

use super::*;
use crate::model::schemas;
use crate::store::projects::{self, TagFilters};
use crate::store::{bool_from_text, is_immutable, is_true, limits};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/projects", list).post("/v3/projects", create);
    let one = "/v3/projects/{project_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
    let tags = "/v3/projects/{project_id}/tags";
    routes
        .get(tags, list_tags)
        .put(tags, set_tags)
        .delete(tags, delete_tags);
    let tag = "/v3/projects/{project_id}/tags/{value}";
    routes.get(tag, check_tag).put(tag, add_tag).delete(tag, delete_tag);
}

pub(super) fn target(tx: &mut Tx<'_>, r: &Request) -> Result<Target> {
    Target::new().maybe("project", projects::get(tx, r.param("project_id")))
}

/// Filters and cuts projects (or domains) that were found by other means than a filtered query.
pub(super) fn filtered(mut refs: Vec<Ref>, hints: &Hints) -> Result<Page> {
    refs.retain(|object| {
        hints.filters.iter().all(|filter| {
            let has = object.get(&filter.name).unwrap_or(&Value::Null);
            let wanted = filter.value.as_deref().unwrap_or_default();
            match has {
                Value::Bool(has) => *has == bool_from_text(wanted, true),
                has => {
                    let fold = |text: &str| {
                        if filter.case_sensitive {
                            text.to_owned()
                        } else {
                            text.to_lowercase()
                        }
                    };
                    let text = has.as_str().unwrap_or_default();
                    match filter.comparator.as_str() {
                        "equals" => text == wanted,
                        "contains" => fold(text).contains(&fold(wanted)),
                        "startswith" => fold(text).starts_with(&fold(wanted)),
                        "endswith" => fold(text).ends_with(&fold(wanted)),
                        _ => true,
                    }
                }
            }
        })
    });
    let truncated = hints.limit.is_some_and(|limit| refs.len() > limit);
    refs.truncate(hints.limit.unwrap_or(usize::MAX));
    Ok(Page { refs, truncated })
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::PROJECT_QUERY)?;
    let target = domain_scope(r).map_or_else(Target::new, |domain| Target::new().with("domain_id", domain));
    s.enforce(r, "identity:list_projects", &target)?;
    let mut hints = s.hints(r, &["domain_id", "enabled", "name", "parent_id", "is_domain"], true)?;
    if !r.query.contains("is_domain") {
        hints = hints.equals("is_domain", Some("0"));
    }
    if let Some(domain) = domain_scope(r) {
        hints = hints.equals("domain_id", Some(domain));
    }
    let given = |name: &str| r.query.get(name).map(Into::into);
    let tags = TagFilters {
        tags: given("tags"),
        tags_any: given("tags-any"),
        not_tags: given("not-tags"),
        not_tags_any: given("not-tags-any"),
    };
    let limit = hints.limit;
    hints.full_is_truncated = true;
    hints.limit = limit.or(Some(s.config.max_db_limit));
    let mut page = s.read(|tx| projects::list(tx, &hints, &tags))?;
    page.truncated &= limit.is_some();
    collection(r, "projects", "projects", page, limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let project = checked(r, &schemas::PROJECT_CREATE, "project")?;
    s.enforce(
        r,
        "identity:create_project",
        &Target::new().with("project", project.clone()),
    )?;
    let mut project = with_new_id(project);
    if !is_true(&project, "is_domain") {
        project = with_domain(s, r, project);
    }
    let project = normalized(&project);
    let project = s.write(|tx| {
        s.create_project(tx, project.clone()).map_err(|error| match error {
            Error::NotFound {
                what: "domain" | "project",
                ..
            } => Error::Invalid(error.to_string()),
            other => other,
        })
    })?;
    created(r, "project", "projects", project)
}

/// `{id: {id: null}}`: nested up or down.
fn nested(children: &[Ref], id: &str) -> Value {
    let below: Map<String, Value> = children
        .iter()
        .filter(|c| text(c, "parent_id") == id)
        .map(|c| (text(c, "id").to_owned(), nested(children, text(c, "id"))))
        .collect();
    if below.is_empty() { Value::Null } else { below.into() }
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let project = s.read(|tx| {
        s.enforce(r, "identity:get_project", &target(tx, r)?)?;
        let project = projects::get(tx, r.param("project_id"))?;
        expand(s, tx, r, project)
    })?;
    ok(r, "project", "projects", project)
}

fn expand(s: &Identity, tx: &mut Tx<'_>, r: &Request, mut project: Ref) -> Result<Ref> {
    let [parents_as_list, parents_as_ids, subtree_as_list, subtree_as_ids] =
        ["parents_as_list", "parents_as_ids", "subtree_as_list", "subtree_as_ids"].map(|name| is_set(r, name));
    let both = |what: &str| {
        Err(Error::Invalid(format!(
            "Cannot use {what}_as_list and {what}_as_ids query params at the same time."
        )))
    };
    if parents_as_list && parents_as_ids {
        return both("parents");
    }
    if subtree_as_list && subtree_as_ids {
        return both("subtree");
    }
    let id = text(&project, "id").to_owned();
    // A list holds only what the caller has a role on.
    let visible = |tx: &mut Tx<'_>, refs: Vec<Ref>| -> Result<Value> {
        let (reachable, _) = s.reachable(tx, r.context().user_id())?;
        let mut shown = Vec::new();
        for mut object in refs
            .into_iter()
            .filter(|p| reachable.iter().any(|id| id == text(p, "id")))
        {
            if is_set(r, "include_limits") {
                let hints = Hints::default().equals("project_id", Some(text(&object, "id")));
                object.insert(
                    "limits".into(),
                    limits::list(tx, &hints)?
                        .refs
                        .into_iter()
                        .map(Value::Object)
                        .collect::<Vec<_>>()
                        .into(),
                );
            }
            link(r, "projects", &mut object);
            shown.push(json!({"project": object}));
        }
        Ok(shown.into())
    };
    if parents_as_list || parents_as_ids {
        let parents = projects::parents(tx, &project)?;
        let value = if parents_as_list {
            visible(tx, parents)?
        } else {
            parents
                .iter()
                .rev()
                .fold(Value::Null, |above, parent| json!({text(parent, "id"): above}))
        };
        project.insert("parents".into(), value);
    }
    if subtree_as_list || subtree_as_ids {
        let subtree = projects::subtree(tx, &id)?;
        let value = if subtree_as_list {
            visible(tx, subtree)?
        } else {
            nested(&subtree, &id)
        };
        project.insert("subtree".into(), value);
    }
    Ok(project)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::PROJECT_UPDATE, "project")?;
    let id = r.param("project_id");
    let project = s.write(|tx| {
        s.enforce(r, "identity:update_project", &target(tx, r)?)?;
        check_same_id(&changes, id)?;
        s.update_project(tx, id, changes.clone())
    })?;
    ok(r, "project", "projects", project)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    s.write(|tx| {
        s.enforce(r, "identity:delete_project", &target(tx, r)?)?;
        s.delete_project(tx, r.param("project_id"))
    })?;
    no_content()
}

fn shown_tags(r: &Request, tags: &Value) -> Result<Response> {
    // Upstream's link leaves out the path.
    let mut own = format!("{}/v3", r.base_url);
    if !r.query.is_empty() {
        own = format!("{own}?{}", r.query.raw());
    }
    Ok(Response::json(
        StatusCode::OK,
        &json!({"links": {"self": own}, "tags": tags}),
    ))
}

fn list_tags(s: &Identity, r: &Request) -> Result<Response> {
    let project = s.read(|tx| {
        s.enforce(r, "identity:list_project_tags", &target(tx, r)?)?;
        projects::get(tx, r.param("project_id"))
    })?;
    shown_tags(r, &project["tags"])
}

fn check_tags_mutable(project: &Ref, what: &str) -> Result<()> {
    if is_immutable(project) {
        return Err(Error::Refused(format!(
            "Cannot {what} project tags for {}, project is immutable. Set \"immutable\" option to false before creating project tags.",
            text(project, "id")
        )));
    }
    Ok(())
}

fn write_tags(
    s: &Identity,
    r: &Request,
    rule: &str,
    what: &str,
    change: impl Fn(Vec<String>) -> Result<Vec<String>>,
) -> Result<Value> {
    s.write(|tx| {
        s.enforce(r, rule, &target(tx, r)?)?;
        let project = projects::get(tx, r.param("project_id"))?;
        check_tags_mutable(&project, what)?;
        let tags = project["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect();
        let tags = Value::from(change(tags)?);
        s.update_project(
            tx,
            r.param("project_id"),
            Ref::from_iter([("tags".into(), tags.clone())]),
        )?;
        Ok(tags)
    })
}

fn set_tags(s: &Identity, r: &Request) -> Result<Response> {
    let body = Value::Object(body(r)?);
    schemas::check(&schemas::TAGS_UPDATE, &body)?;
    schemas::check_part(&schemas::TAGS, body.get("tags").unwrap_or(&json!({})))?;
    let new: Vec<String> = body["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|tag| tag.trim().to_owned())
        .collect();
    let tags = write_tags(s, r, "identity:update_project_tags", "update", |_| Ok(new.clone()))?;
    shown_tags(r, &tags)
}

fn delete_tags(s: &Identity, r: &Request) -> Result<Response> {
    write_tags(s, r, "identity:delete_project_tags", "update", |_| Ok(Vec::new()))?;
    no_content()
}

fn no_tag(tag: &str) -> Error {
    Error::not_found("project tag", tag)
}

fn check_tag(s: &Identity, r: &Request) -> Result<Response> {
    let tag = r.param("value");
    s.read(|tx| {
        s.enforce(r, "identity:get_project_tag", &target(tx, r)?)?;
        let project = projects::get(tx, r.param("project_id"))?;
        let has = project["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|t| t.as_str() == Some(tag));
        if has { Ok(()) } else { Err(no_tag(tag)) }
    })?;
    no_content()
}

fn add_tag(s: &Identity, r: &Request) -> Result<Response> {
    let tag = r.param("value");
    write_tags(s, r, "identity:create_project_tag", "create", |mut tags| {
        schemas::check_part(&schemas::TAG, &tag.into())?;
        tags.push(tag.into());
        schemas::check_part(&schemas::TAGS, &Value::from(tags.clone()))?;
        if let Some(last) = tags.last_mut() {
            *last = last.trim().to_owned();
        }
        Ok(tags)
    })?;
    let encoded = r.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let location = format!("{}/v3/{}/tags/{encoded}", r.base_url, r.param("project_id"));
    Ok(Response::text(StatusCode::CREATED, "text/html; charset=utf-8", "").header("location", location))
}

fn delete_tag(s: &Identity, r: &Request) -> Result<Response> {
    let tag = r.param("value");
    write_tags(s, r, "identity:delete_project_tag", "delete", |mut tags| {
        let at = tags.iter().position(|t| t == tag).ok_or_else(|| no_tag(tag))?;
        tags.remove(at);
        Ok(tags)
    })?;
    no_content()
}
