//! Host aggregates.

use api::{Error, Method, Response, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, ok};
use crate::store::aggregates::{self, Aggregate};
use crate::store::{hosts, servers};

const ACTION: &str = "/os-aggregates/{id}/action";

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-aggregates", list)
        .post("/os-aggregates", create)
        .get("/os-aggregates/{id}", show)
        .put("/os-aggregates/{id}", update)
        .delete("/os-aggregates/{id}", delete)
        .action(ACTION, "add_host", (1, NEWEST), add_host)
        .action(ACTION, "remove_host", (1, NEWEST), remove_host)
        .action(ACTION, "set_metadata", (1, NEWEST), set_metadata)
        .between(Method::POST, "/os-aggregates/{id}/images", (81, NEWEST), cache_images);
}

fn view(call: &Call, a: &Aggregate, whole: bool) -> Value {
    let mut view = json!({
        "name": a.name, "availability_zone": a.availability_zone(), "id": a.number, "deleted": false, "deleted_at": null,
        "created_at": api::time::naive_micros(a.created_at), "updated_at": a.updated_at.map(api::time::naive_micros),
    });
    if call.at_least(41) {
        view["uuid"] = json!(a.id);
    }
    if whole {
        view["hosts"] = json!(a.hosts);
        view["metadata"] = Value::Object(a.metadata.clone());
    }
    view
}

fn number(call: &Call) -> Result<i64> {
    let text = call.param("id");
    text.parse()
        .map_err(|_| Error::bad_request("Invalid input received: id must be an integer"))
}

fn find(tx: &mut Tx<'_>, number: i64) -> Result<Aggregate> {
    aggregates::find(tx, number)?.ok_or_else(|| Error::not_found(format!("Aggregate {number} could not be found.")))
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:index")?;
    let all = c.db.read(aggregates::all)?;
    let views: Vec<Value> = all.iter().map(|a| view(call, a, true)).collect();
    ok(json!({"aggregates": views}))
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:show")?;
    let number = number(call)?;
    let found = c.db.read(|tx| find(tx, number))?;
    ok(json!({"aggregate": view(call, &found, true)}))
}

fn free_name(tx: &mut Tx<'_>, name: &str, own: Option<i64>) -> Result<()> {
    if aggregates::all(tx)?
        .iter()
        .any(|a| a.name == name && Some(a.number) != own)
    {
        return Err(Error::conflict(format!("Aggregate {name} already exists.")));
    }
    Ok(())
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:create")?;
    let wanted = &call.body["aggregate"];
    let name = wanted["name"].as_str().unwrap_or_default().trim();
    let zone = wanted["availability_zone"]
        .as_str()
        .map(str::trim)
        .filter(|z| !z.is_empty());
    let id = uuid::Uuid::new_v4().to_string();
    let made = c.db.write(|tx| {
        free_name(tx, name, None)?;
        let number = aggregates::insert(tx, &id, name, database::now())?;
        if let Some(zone) = zone {
            aggregates::set_metadata(tx, number, "availability_zone", Some(zone))?;
        }
        find(tx, number)
    })?;
    ok(json!({"aggregate": view(call, &made, false)}))
}

/// Whether `zone` may become the aggregate's: its hosts are in no other zone and carry no servers that would move.
fn check_zone(tx: &mut Tx<'_>, a: &Aggregate, zone: &str, hosts: &[String], what: &str) -> Result<()> {
    let refuse = |reason: String| {
        Err(Error::bad_request(format!(
            "Cannot {what} aggregate {}. Reason: {reason}.",
            a.number
        )))
    };
    if zone.is_empty() {
        return refuse(format!(
            "Aggregate {} does not support empty named availability zone",
            a.name
        ));
    }
    let others = aggregates::all(tx)?;
    let conflicting: Vec<Value> = others
        .iter()
        .filter(|o| o.number != a.number && o.hosts.iter().any(|h| hosts.contains(h)))
        .filter_map(|o| o.availability_zone().filter(|z| *z != zone).map(|z| json!(z)))
        .collect();
    if !conflicting.is_empty() {
        let list = api::schema::python_repr(&Value::Array(conflicting));
        return refuse(format!("One or more hosts already in availability zone(s) {list}"));
    }
    if what != "add host to" && a.availability_zone() != Some(zone) {
        for host in hosts {
            if !servers::on_host(tx, host)?.is_empty() {
                return refuse("One or more hosts contain instances in this zone".into());
            }
        }
    }
    Ok(())
}

fn merge(tx: &mut Tx<'_>, a: &Aggregate, metadata: &Map<String, Value>) -> Result<()> {
    for (key, value) in metadata {
        aggregates::set_metadata(tx, a.number, key, value.as_str())?;
    }
    Ok(())
}

fn update(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:update")?;
    let number = number(call)?;
    let wanted = &call.body["aggregate"];
    let changed = c.db.write(|tx| {
        let a = find(tx, number)?;
        let name = wanted["name"].as_str().map_or(a.name.as_str(), str::trim).to_owned();
        free_name(tx, &name, Some(number))?;
        if let Some(zone) = wanted.get("availability_zone") {
            check_zone(tx, &a, zone.as_str().unwrap_or_default(), &a.hosts, "update")?;
            aggregates::set_metadata(tx, number, "availability_zone", zone.as_str())?;
        }
        aggregates::rename(tx, number, &name, database::now())?;
        find(tx, number)
    })?;
    ok(json!({"aggregate": view(call, &changed, true)}))
}

fn set_metadata(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:set_metadata")?;
    let number = number(call)?;
    let metadata = call.body["set_metadata"]["metadata"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let changed = c.db.write(|tx| {
        let a = find(tx, number)?;
        if let Some(zone) = metadata.get("availability_zone") {
            check_zone(
                tx,
                &a,
                zone.as_str().unwrap_or_default(),
                &a.hosts,
                "update metadata of",
            )?;
        }
        merge(tx, &a, &metadata)?;
        aggregates::rename(tx, number, &a.name, database::now())?;
        find(tx, number)
    })?;
    ok(json!({"aggregate": view(call, &changed, true)}))
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:delete")?;
    let number = number(call)?;
    c.db.write(|tx| {
        let a = find(tx, number)?;
        if !a.hosts.is_empty() {
            let text = format!("Cannot remove host from aggregate {number}. Reason: Host aggregate is not empty.");
            return Err(Error::bad_request(text));
        }
        aggregates::delete(tx, number)?;
        Ok(())
    })?;
    Ok(Response::empty(StatusCode::OK))
}

/// Tells Placement which aggregates a host is in.
fn mirror(c: &Compute, tx: &mut Tx<'_>, host: &str) -> Result<()> {
    let ids: Vec<String> = aggregates::all(tx)?
        .into_iter()
        .filter(|a| a.hosts.iter().any(|h| h == host))
        .map(|a| a.id)
        .collect();
    if let Some(node) = hosts::nodes(tx)?.into_iter().find(|n| n.host == host) {
        c.neighbours.capacity.set_aggregates(tx, &node.id, &ids)?;
    }
    Ok(())
}

fn moving(tx: &mut Tx<'_>, host: &str, from: Option<&str>, to: Option<&str>) -> Result<Option<String>> {
    let count = servers::on_host(tx, host)?.len();
    if count == 0 || from == to {
        return Ok(None);
    }
    let name = |zone: Option<&str>| zone.unwrap_or("None").to_owned();
    Ok(Some(format!(
        "the availability zone of the host would change from '{}' to '{}' but the host already has {count} instance(s). Changing the AZ of an existing instance is not supported by this action. Move the instances away from this host then try again. If you need to move the instances between AZs then you can use shelve_offload and unshelve to achieve this.",
        name(from),
        name(to)
    )))
}

fn add_host(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:add_host")?;
    let number = number(call)?;
    let host = call.body["add_host"]["host"].as_str().unwrap_or_default();
    let changed = c.db.write(|tx| {
        if hosts::service(tx, host, hosts::NODE_SERVICE)?.is_none() {
            return Err(Error::not_found(format!("Compute host {host} could not be found.")));
        }
        let a = find(tx, number)?;
        if let Some(zone) = a.availability_zone() {
            let conflict = check_zone(tx, &a, zone, &[host.to_owned()], "add host to");
            conflict.map_err(|e| Error {
                status: StatusCode::CONFLICT,
                ..e
            })?;
            let current = aggregates::zones(tx)?.remove(host);
            if let Some(why) = moving(tx, host, current.as_deref(), Some(zone))? {
                return Err(Error::conflict(format!(
                    "Cannot add host to aggregate {number}. Reason: The host cannot be added to the aggregate as {why}."
                )));
            }
        }
        if a.hosts.iter().any(|h| h == host) {
            return Err(Error::conflict(format!("Aggregate {number} already has host {host}.")));
        }
        aggregates::add_host(tx, number, host, database::now())?;
        mirror(c, tx, host)?;
        find(tx, number)
    })?;
    ok(json!({"aggregate": view(call, &changed, true)}))
}

fn remove_host(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-aggregates:remove_host")?;
    let number = number(call)?;
    let host = call.body["remove_host"]["host"].as_str().unwrap_or_default();
    let changed = c.db.write(|tx| {
        let missing = || Error::not_found(format!("Cannot remove host {host} in aggregate {number}"));
        let a = aggregates::find(tx, number)?.ok_or_else(missing)?;
        if !a.hosts.iter().any(|h| h == host) {
            return Err(missing());
        }
        if let Some(zone) = a.availability_zone() {
            let all = aggregates::all(tx)?;
            let others = all.iter().filter(|o| o.number != number && o.hosts.iter().any(|h| h == host));
            let next = others.filter_map(Aggregate::availability_zone).next();
            if let Some(why) = moving(tx, host, Some(zone), next)? {
                return Err(Error::conflict(format!(
                    "Cannot remove host from aggregate {number}. Reason: The host cannot be removed from the aggregate as {why}."
                )));
            }
        }
        aggregates::remove_host(tx, number, host)?;
        mirror(c, tx, host)?;
        find(tx, number)
    })?;
    ok(json!({"aggregate": view(call, &changed, true)}))
}

/// Nodes fetch an image when the first guest needs it; asking for it earlier is accepted and changes nothing.
fn cache_images(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "compute:aggregates:images")?;
    let number = number(call)?;
    let ids: Vec<&str> = call.body["cache"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|i| i["id"].as_str())
        .collect();
    if ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id)) {
        return Err(Error::bad_request("Duplicate images in request"));
    }
    c.db.read(|tx| {
        find(tx, number)?;
        for id in &ids {
            if c.neighbours.images.find(tx, call.context(), id)?.is_none() {
                return Err(Error::bad_request(format!("Image {id} could not be found.")));
            }
        }
        Ok(())
    })?;
    Ok(Response::empty(StatusCode::ACCEPTED))
}
