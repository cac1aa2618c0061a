//! Actions that need more of a node than nodes can do so far: moving a guest, saving its disk or memory, a rescue disk.
//!
//! Who asks, for which server and in which state is checked as for every action, so that their refusals are upstream's; where
//! upstream would begin, this answers as upstream does with a hypervisor that cannot do it.

use api::{Error, StatusCode};

use super::server_power::has_host;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table};
use crate::model::state::Action;
use crate::store::hosts;

const ACTION: &str = "/servers/{id}/action";

pub(super) fn add(table: &mut Table) {
    let all = (1, NEWEST);
    table
        .action(ACTION, "suspend", all, |c, call| {
            cannot(c, call, "os-suspend-server:suspend", &Action::SUSPEND)
        })
        .action(ACTION, "resume", all, |c, call| {
            cannot(c, call, "os-suspend-server:resume", &Action::RESUME)
        })
        .action(ACTION, "rescue", all, |c, call| {
            cannot(c, call, "os-rescue", &Action::RESCUE)
        })
        .action(ACTION, "unrescue", all, |c, call| {
            cannot(c, call, "os-unrescue", &Action::UNRESCUE)
        })
        .action(ACTION, "shelve", all, |c, call| {
            cannot(c, call, "os-shelve:shelve", &Action::SHELVE)
        })
        .action(ACTION, "shelveOffload", all, |c, call| {
            cannot(c, call, "os-shelve:shelve_offload", &Action::SHELVE_OFFLOAD)
        })
        .action(ACTION, "unshelve", all, |c, call| {
            cannot(c, call, "os-shelve:unshelve", &Action::UNSHELVE)
        })
        .action(ACTION, "createImage", all, |c, call| {
            cannot(c, call, "servers:create_image", &Action::SNAPSHOT)
        })
        .action(ACTION, "createBackup", all, |c, call| {
            cannot(c, call, "os-create-backup", &Action::BACKUP)
        })
        .action(ACTION, "migrate", all, |c, call| {
            elsewhere(
                c,
                call,
                "os-migrate-server:migrate",
                &Action::MIGRATE,
                "No valid host found for cold migrate",
            )
        })
        .action(ACTION, "os-migrateLive", all, |c, call| {
            elsewhere(
                c,
                call,
                "os-migrate-server:migrate_live",
                &Action::LIVE_MIGRATE,
                "There are not enough hosts available.",
            )
        })
        .action(ACTION, "evacuate", all, evacuate);
}

fn unsupported() -> Error {
    Error::new(
        StatusCode::NOT_IMPLEMENTED,
        "The requested functionality is not supported.",
    )
}

fn cannot(c: &Compute, call: &Call, rule: &str, action: &Action) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, &format!("os_compute_api:{rule}"))?;
        c.open_for(call, &server, action)?;
        has_host(&server)?;
        Err(unsupported())
    })
}

/// Moves: with a single node there is nowhere to go.
fn elsewhere(c: &Compute, call: &Call, rule: &str, action: &Action, why: &str) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, &format!("os_compute_api:{rule}"))?;
        c.open_for(call, &server, action)?;
        has_host(&server)?;
        let others = hosts::nodes(tx)?
            .into_iter()
            .filter(|n| Some(&n.host) != server.host.as_ref());
        match others.count() {
            0 => Err(Error::bad_request(format!("No valid host was found. {why}"))),
            _ => Err(unsupported()),
        }
    })
}

fn evacuate(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-evacuate")?;
        if let Some(host) = call.body["evacuate"]["host"].as_str()
            && hosts::service(tx, host, hosts::NODE_SERVICE)?.is_none()
        {
            return Err(Error::not_found(format!("Compute host {host} not found.")));
        }
        c.open_for(call, &server, &Action::EVACUATE)?;
        let host = server.host.clone().unwrap_or_default();
        let service = hosts::service(tx, &host, hosts::NODE_SERVICE)?;
        if service.is_some_and(|s| s.is_up(database::now(), c.config.service_down_seconds)) {
            return Err(Error::bad_request(format!(
                "Compute service of {host} is still in use."
            )));
        }
        Err(unsupported())
    })
}
