//! `/v2/tasks`.

use api::schema::is_uuid_like;
use api::time::iso8601_z;
use api::{Error, HeaderValue, Request, Response, Result, Routes, StatusCode};
use database::Direction;
use serde_json::{Value, json};

use super::{body, page_query, rules, urlencode};
use crate::Images;
use crate::model::schemas;
use crate::store::tasks::{self, Listing, Task};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/tasks", list)
        .post("/v2/tasks", create)
        .get("/v2/tasks/{task_id}", show)
        .delete("/v2/tasks/{task_id}", delete);
}

fn stub(task: &Task) -> Value {
    let mut view = json!({
        "id": task.id,
        "type": task.kind,
        "status": task.status,
        "owner": task.owner,
        "created_at": iso8601_z(task.created_at),
        "updated_at": iso8601_z(task.updated_at),
        "self": format!("/v2/tasks/{}", task.id),
        "schema": "/v2/schemas/task",
    });
    if let Some(at) = task.expires_at {
        view["expires_at"] = json!(iso8601_z(at));
    }
    view
}

/// A task as clients see it.
pub(super) fn view(task: &Task) -> Value {
    let mut view = stub(task);
    view["input"] = task.input.clone();
    view["result"] = task.result.clone();
    view["message"] = json!(task.message);
    for (name, value) in [
        ("image_id", &task.image_id),
        ("request_id", &task.request_id),
        ("user_id", &task.user_id),
    ] {
        if let Some(value) = value {
            view[name] = json!(value);
        }
    }
    view
}

fn authorize(service: &Images, request: &Request) -> Result<()> {
    rules::check(service, service.caller(request), "tasks_api_access", &())
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    authorize(service, request)?;
    let body = body(request)?;
    for name in ["type", "input"] {
        if body.get(name).is_none() {
            return Err(Error::bad_request(format!("Task '{name}' is required")));
        }
    }
    schemas::check("task", &schemas::TASK, &body)?;
    let from = body["input"]["import_from"].as_str().unwrap_or_default();
    Err(Error::bad_request(format!(
        "URI for web-download does not pass filtering: {from}"
    )))
}

const SORT_KEYS: [&str; 6] = ["id", "kind", "status", "created_at", "updated_at", "expires_at"];

fn list(service: &Images, request: &Request) -> Result<Response> {
    authorize(service, request)?;
    let caller = service.caller(request);
    let query = &request.query;
    let direction = match query.last("sort_dir").unwrap_or("desc") {
        "asc" => Direction::Ascending,
        "desc" => Direction::Descending,
        other => return Err(Error::bad_request(format!("Invalid sort direction: {other}"))),
    };
    let mut filters = Vec::new();
    if let Some(status) = query.last("status").filter(|status| !status.is_empty()) {
        if !["pending", "processing", "success", "failure"].contains(&status) {
            return Err(Error::bad_request(format!("Invalid status value: {status}")));
        }
        filters.push(("status", status.to_owned()));
    }
    if let Some(kind) = query.last("type").filter(|kind| !kind.is_empty()) {
        if kind != "import" {
            return Err(Error::bad_request(format!("Invalid type value: {kind}")));
        }
        filters.push(("kind", kind.to_owned()));
    }
    let marker = query.last("marker").filter(|marker| !marker.is_empty());
    if marker.is_some_and(|marker| !is_uuid_like(marker)) {
        return Err(Error::bad_request("Invalid marker format"));
    }
    let limit = match query.last("limit").map(|limit| limit.trim().parse::<i64>()) {
        None => service.limits.page,
        Some(Ok(limit)) if limit >= 0 => limit.unsigned_abs(),
        Some(Ok(_)) => return Err(Error::bad_request("limit param must be positive")),
        Some(Err(_)) => return Err(Error::bad_request("limit param must be an integer")),
    };
    let limit = limit.min(service.limits.page_max);
    let wanted = query.last("sort_key").unwrap_or("created_at");
    let wanted = if wanted == "type" { "kind" } else { wanted };
    let sort_key = SORT_KEYS.into_iter().find(|key| *key == wanted);
    let sort_key = sort_key.ok_or_else(|| Error::bad_request("Sort key supplied was not valid."))?;
    let found = service.database.read(|tx| {
        let marker = match marker {
            None => None,
            Some(id) => {
                let found = Task::get(tx, id)?.filter(|task| tasks::is_visible(caller.viewer, task));
                let missing = || Error::bad_request(format!("No task found with ID {id}"));
                Some(found.ok_or_else(missing)?)
            }
        };
        let listing = Listing {
            filters: filters.clone(),
            sort_key,
            direction,
            marker,
            limit,
        };
        Ok::<_, Error>(tasks::list(tx, caller.viewer, &listing)?)
    })?;
    let mut pairs = page_query(request);
    let mut page = json!({"tasks": found.iter().map(stub).collect::<Vec<_>>()});
    page["first"] = json!(match pairs.is_empty() {
        true => "/v2/tasks".to_owned(),
        false => format!("/v2/tasks?{}", urlencode(&pairs)),
    });
    page["schema"] = json!("/v2/schemas/tasks");
    if let Some(last) = found.last().filter(|_| found.len() as u64 == limit) {
        pairs.push(("marker".to_owned(), last.id.clone()));
        page["next"] = json!(format!("/v2/tasks?{}", urlencode(&pairs)));
    }
    Ok(Response::json(StatusCode::OK, &page))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    authorize(service, request)?;
    let caller = service.caller(request);
    let id = request.param("task_id");
    let found = service.database.read(|tx| Task::get(tx, id))?;
    match found.filter(|task| tasks::is_visible(caller.viewer, task)) {
        Some(task) => Ok(Response::json(StatusCode::OK, &view(&task))),
        None => Err(Error::not_found(format!("Could not find task {id}"))),
    }
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    authorize(service, request)?;
    let text = "This operation is currently not permitted on Glance Tasks. They are auto deleted after reaching the time \
                based on their expires_at property.";
    Err(Error::method_not_allowed(text).header(api::HeaderName::from_static("allow"), HeaderValue::from_static("GET")))
}
