//! Volumes and shares of servers: what can be said of them as long as there are none.

use api::{Error, Method};
use serde_json::json;

use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, ok};

pub(super) fn add(table: &mut Table) {
    table
        .get("/servers/{server_id}/os-volume_attachments", |c, call| {
            c.db.read(|tx| c.server(tx, call, "os_compute_api:os-volumes-attachments:index"))?;
            ok(json!({"volumeAttachments": []}))
        })
        .post("/servers/{server_id}/os-volume_attachments", attach)
        .get("/servers/{server_id}/os-volume_attachments/{id}", |c, call| {
            none(c, call, "show")
        })
        .put("/servers/{server_id}/os-volume_attachments/{id}", |c, call| {
            none(c, call, "update")
        })
        .delete("/servers/{server_id}/os-volume_attachments/{id}", |c, call| {
            none(c, call, "delete")
        })
        .between(Method::GET, "/servers/{server_id}/shares", (97, NEWEST), |c, call| {
            c.db.read(|tx| c.server(tx, call, "os_compute_api:os-server-shares:index"))?;
            ok(json!({"shares": []}))
        })
        .between(
            Method::GET,
            "/servers/{server_id}/shares/{id}",
            (97, NEWEST),
            |c, call| {
                let server =
                    c.db.read(|tx| c.server(tx, call, "os_compute_api:os-server-shares:show"))?;
                let id = call.param("id");
                Err(Error::not_found(format!(
                    "Instance {} does not have share {id} mapped.",
                    server.id
                )))
            },
        );
}

fn attach(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| c.server(tx, call, "os_compute_api:os-volumes-attachments:create"))?;
    let id = call.body["volumeAttachment"]["volumeId"].as_str().unwrap_or_default();
    Err(Error::not_found(format!("Volume {id} could not be found.")))
}

fn none(c: &Compute, call: &Call, rule: &str) -> Result {
    let rule = format!("os_compute_api:os-volumes-attachments:{rule}");
    let server = c.db.read(|tx| c.server(tx, call, &rule))?;
    let id = call.param("id");
    Err(Error::not_found(match rule.rsplit(':').next() {
        Some("show") => format!("Instance {} is not attached to volume {id}", server.id),
        _ => format!("volume_id not found: {id}"),
    }))
}
