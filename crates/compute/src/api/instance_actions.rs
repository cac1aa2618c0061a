//! The log of what was done to a server.

use api::Error;
use serde_json::{Value, json};

use super::servers::lookup_any;
use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::encoding::host_id;
use crate::model::server::Server;
use crate::store::actions::{self, Action, Event};

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers/{server_id}/os-instance-actions", list)
        .get("/servers/{server_id}/os-instance-actions/{id}", show);
}

/// The server; from 2.21 on a deleted one too.
fn server(c: &Compute, tx: &mut database::Tx<'_>, call: &Call, rule: &str) -> Result<Server> {
    let server = lookup_any(tx, call, call.param("server_id"), call.at_least(21))?;
    c.allow(call, rule, &server.project_id, Some(&server.user_id))?;
    Ok(server)
}

fn view(call: &Call, action: &Action) -> Value {
    let mut view = json!({
        "action": action.action, "instance_uuid": action.server_id, "request_id": action.request_id, "user_id": action.user_id,
        "project_id": action.project_id, "start_time": api::time::naive_micros(action.started_at), "message": action.message,
    });
    if call.at_least(58) {
        view["updated_at"] = json!(api::time::naive_micros(action.updated_at));
    }
    view
}

fn list(c: &Compute, call: &Call) -> Result {
    let mut window = (None, None);
    let mut paging = (None, None);
    if call.at_least(58) {
        let time = |name: &str| call.query(name).and_then(api::time::parse);
        window = (
            time("changes-since"),
            if call.at_least(66) {
                time("changes-before")
            } else {
                None
            },
        );
        if let (Some(since), Some(before)) = window
            && before < since
        {
            return Err(Error::bad_request(
                "The value of changes-since must be less than or equal to changes-before.",
            ));
        }
        let (limit, marker) = call.paging()?;
        paging = (Some(limit), marker);
    }
    let (server, page) = c.db.read(|tx| {
        let server = server(c, tx, call, "os_compute_api:os-instance-actions:list")?;
        let page = actions::list(tx, &server.id, window, paging.0, paging.1)?;
        let none = || Error::bad_request(format!("Marker {} could not be found.", paging.1.unwrap_or_default()));
        Ok::<_, Error>((server, page.ok_or_else(none)?))
    })?;
    let views: Vec<Value> = page.iter().map(|a| view(call, a)).collect();
    let mut body = json!({"instanceActions": views});
    if call.at_least(58) {
        let collection = format!("servers/{}/os-instance-actions", server.id);
        if let Some(links) = call.next_link(&collection, page.len(), page.last().map(|a| a.request_id.as_str()))? {
            body["links"] = links;
        }
    }
    ok(body)
}

fn show(c: &Compute, call: &Call) -> Result {
    let id = call.param("id");
    let (server, action, events) = c.db.read(|tx| {
        let server = server(c, tx, call, "os_compute_api:os-instance-actions:show")?;
        let action =
            actions::find(tx, &server.id, id)?.ok_or_else(|| Error::not_found(format!("Action {id} not found")))?;
        let events = actions::events(tx, action.number)?;
        Ok::<_, Error>((server, action, events))
    })?;
    let mut body = view(call, &action);
    let all = c.permits(call, "os_compute_api:os-instance-actions:events", &server.project_id);
    if all || call.at_least(51) {
        let details = call.at_least(84)
            && c.permits(
                call,
                "os_compute_api:os-instance-actions:events:details",
                &server.project_id,
            );
        let views: Vec<Value> = events
            .iter()
            .map(|e| event_view(call, e, &action.project_id, all, details))
            .collect();
        body["events"] = Value::Array(views);
    }
    ok(json!({"instanceAction": body}))
}

fn event_view(call: &Call, event: &Event, project: &str, all: bool, details: bool) -> Value {
    let mut view = json!({
        "event": event.event, "start_time": api::time::naive_micros(event.started_at),
        "finish_time": event.finished_at.map(api::time::naive_micros), "result": event.result,
    });
    if all {
        view["traceback"] = json!(event.traceback);
    }
    if call.at_least(62) {
        if all {
            view["host"] = json!(event.host);
        }
        view["hostId"] = json!(host_id(event.host.as_deref(), project));
    }
    if details {
        view["details"] = json!(event.details);
    }
    view
}
