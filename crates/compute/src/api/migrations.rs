//! Migrations: the record of servers' moves and resizes.

use api::{Error, Method};
use database::{Direction, Row, Select, Tx, params};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, ok};

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-migrations", list)
        .between(
            Method::GET,
            "/servers/{server_id}/migrations",
            (23, NEWEST),
            in_progress,
        )
        .between(Method::GET, "/servers/{server_id}/migrations/{id}", (23, NEWEST), show)
        .between(
            Method::DELETE,
            "/servers/{server_id}/migrations/{id}",
            (24, NEWEST),
            |c, call| refuse(c, call, "os_compute_api:servers:migrations:delete"),
        )
        .action(
            "/servers/{server_id}/migrations/{id}/action",
            "force_complete",
            (22, NEWEST),
            |c, call| refuse(c, call, "os_compute_api:servers:migrations:force_complete"),
        );
}

const COLUMNS: &str = "number, id, server_id, source_compute, source_node, dest_compute, dest_node, dest_host, status, \
    migration_type, old_flavor, new_flavor, user_id, project_id, created_at, updated_at";

fn view(call: &Call, row: &Row, hosts: bool) -> Result<Value> {
    let text = |i: usize| row.get::<Option<String>>(i);
    let host = |i: usize| -> Result<Value> { Ok(if hosts { json!(text(i)?) } else { Value::Null }) };
    let mut view = json!({
        "id": row.get::<i64>(0)?, "instance_uuid": text(2)?, "source_compute": host(3)?, "source_node": host(4)?,
        "dest_compute": host(5)?, "dest_node": host(6)?, "dest_host": host(7)?, "status": text(8)?,
        "old_instance_type_id": row.get::<Value>(10)?["number"], "new_instance_type_id": row.get::<Value>(11)?["number"],
        "created_at": api::time::naive_micros(row.get(14)?), "updated_at": row.get::<Option<i64>>(15)?.map(api::time::naive_micros),
    });
    if call.at_least(23) {
        view["migration_type"] = json!(text(9)?);
    }
    if call.at_least(59) {
        view["uuid"] = json!(text(1)?);
    }
    if call.at_least(80) {
        view["user_id"] = json!(text(12)?);
        view["project_id"] = json!(text(13)?);
    }
    Ok(view)
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-migrations:index")?;
    let project = call.query("project_id").filter(|p| !p.is_empty());
    if project != Some(call.project()) {
        c.allow_own(call, "os_compute_api:os-migrations:index:all_projects")?;
    }
    let hosts = c.permits(call, "os_compute_api:os-migrations:index:host", call.project());
    let mut select = Select::new(COLUMNS, "server_migrations");
    for (filter, column) in [
        ("status", "status"),
        ("migration_type", "migration_type"),
        ("instance_uuid", "server_id"),
        ("source_compute", "source_compute"),
        ("user_id", "user_id"),
        ("project_id", "project_id"),
    ] {
        if let Some(value) = call.query(filter) {
            select.filter(&format!("{column} = ?"), &params![value]);
        }
    }
    if let Some(host) = call.query("host") {
        select.filter("(source_compute = ? OR dest_compute = ?)", &params![host, host]);
    }
    let time = |name: &str| call.query(name).and_then(api::time::parse);
    let since = time("changes-since").filter(|_| call.at_least(59));
    let before = time("changes-before").filter(|_| call.at_least(66));
    if let (Some(since), Some(before)) = (since, before)
        && before < since
    {
        return Err(Error::bad_request(
            "The value of changes-since must be less than or equal to changes-before.",
        ));
    }
    if let Some(since) = since {
        select.filter("COALESCE(updated_at, created_at) >= ?", &params![since]);
    }
    if let Some(before) = before {
        select.filter("COALESCE(updated_at, created_at) <= ?", &params![before]);
    }
    let paged = call.at_least(59);
    let views = c.db.read(|tx| {
        if paged {
            let (limit, marker) = call.paging()?;
            select.order("number", Direction::Descending).limit(limit);
            if let Some(marker) = marker {
                let number: Option<i64> =
                    tx.scalar("SELECT number FROM server_migrations WHERE id = ?1", &params![marker])?;
                let number =
                    number.ok_or_else(|| Error::bad_request(format!("Marker {marker} could not be found.")))?;
                select.after(&params![number]);
            }
        } else {
            select.order("number", Direction::Ascending);
        }
        select
            .rows(tx)?
            .iter()
            .map(|row| view(call, row, hosts))
            .collect::<Result<Vec<Value>>>()
    })?;
    let last = views.last().and_then(|v| v["uuid"].as_str()).map(str::to_owned);
    let mut body = json!({"migrations": views});
    if paged
        && let Some(links) = call.next_link(
            "os-migrations",
            body["migrations"].as_array().map_or(0, Vec::len),
            last.as_deref(),
        )?
    {
        body["migrations_links"] = links;
    }
    ok(body)
}

/// Live migrations under way; servers do not move while they run yet, so there are none.
fn in_progress(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| c.server(tx, call, "os_compute_api:servers:migrations:index"))?;
    ok(json!({"migrations": []}))
}

fn known(tx: &mut Tx<'_>, server: &str, id: &str) -> Result<bool> {
    let number: i64 = id.parse().unwrap_or(-1);
    let sql = "SELECT 1 FROM server_migrations WHERE number = ?1 AND server_id = ?2";
    Ok(tx.query_one(sql, &params![number, server])?.is_some())
}

fn show(c: &Compute, call: &Call) -> Result {
    let id = call.param("id");
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:servers:migrations:show")?;
        let server = &server.id;
        Err(Error::not_found(if known(tx, server, id)? {
            format!("Migration {id} for server {server} is not live-migration.")
        } else {
            format!("In-progress live migration {id} is not found for server {server}.")
        }))
    })
}

fn refuse(c: &Compute, call: &Call, rule: &str) -> Result {
    let id = call.param("id");
    c.db.read(|tx| {
        let server = c.server(tx, call, rule)?;
        let text = format!("Migration {id} not found for instance {}", server.id);
        Err(if call.request.method == Method::DELETE {
            Error::not_found(text)
        } else {
            Error::bad_request(text)
        })
    })
}
