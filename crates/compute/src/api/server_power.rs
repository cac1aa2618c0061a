//! Actions on a server's power, its lock and its state.

use api::{Error, StatusCode};
use database::Tx;

use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, accepted};
use crate::model::server::Server;
use crate::model::state::{self, Action, REBOOTING, invalid_state};
use crate::store::actions;

const ACTION: &str = "/servers/{id}/action";

pub(super) fn add(table: &mut Table) {
    let all = (1, NEWEST);
    table
        .action(ACTION, "os-start", all, start)
        .action(ACTION, "os-stop", all, stop)
        .action(ACTION, "reboot", all, reboot)
        .action(ACTION, "pause", all, pause)
        .action(ACTION, "unpause", all, unpause)
        .action(ACTION, "lock", all, lock)
        .action(ACTION, "unlock", all, unlock)
        .action(ACTION, "os-resetState", all, reset_state)
        .action(ACTION, "injectNetworkInfo", all, inject_network_info)
        .action(ACTION, "resetNetwork", all, |_, _| {
            Err(Error::new(StatusCode::GONE, ""))
        })
        .action(ACTION, "forceDelete", all, force_delete)
        .action(ACTION, "restore", all, restore)
        .action(ACTION, "changePassword", all, change_password)
        .action(ACTION, "trigger_crash_dump", (17, NEWEST), trigger_crash_dump);
}

/// An action whose end a node reports.
struct Step {
    rule: &'static str,
    action: Action,
    /// Its name in the log of actions.
    log: &'static str,
    /// Its first event there.
    event: &'static str,
}

impl Compute {
    /// Runs an action: looks the server up, checks policy, lock and state, records it, and lets `change` say what should be.
    fn step(&self, call: &Call, step: &Step, change: impl Fn(&mut Tx<'_>, &mut Server) -> Result<()>) -> Result {
        self.db.write(|tx| {
            let mut server = self.server(tx, call, step.rule)?;
            self.open_for(call, &server, &step.action)?;
            has_host(&server)?;
            change(tx, &mut server)?;
            server.task_action = Some(self.record(tx, call, &server, step.log, step.event)?);
            self.save(tx, &mut server)
        })?;
        accepted()
    }
}

pub(super) fn has_host(server: &Server) -> Result<()> {
    if server.host.is_none() {
        return Err(Error::conflict(format!("Instance {} is not ready", server.id)));
    }
    Ok(())
}

fn power(c: &Compute, call: &Call, step: &Step, wanted: &str, task: &str) -> Result {
    c.step(call, step, |_, server| {
        server.want(wanted);
        server.task_state = Some(task.into());
        Ok(())
    })
}

fn start(c: &Compute, call: &Call) -> Result {
    let step = Step {
        rule: "os_compute_api:servers:start",
        action: Action::START,
        log: "start",
        event: "compute_start_instance",
    };
    power(c, call, &step, "running", "powering-on")
}

fn stop(c: &Compute, call: &Call) -> Result {
    let step = Step {
        rule: "os_compute_api:servers:stop",
        action: Action::STOP,
        log: "stop",
        event: "compute_stop_instance",
    };
    power(c, call, &step, "stopped", "powering-off")
}

fn pause(c: &Compute, call: &Call) -> Result {
    let step = Step {
        rule: "os_compute_api:os-pause-server:pause",
        action: Action::PAUSE,
        log: "pause",
        event: "compute_pause_instance",
    };
    power(c, call, &step, "paused", "pausing")
}

fn unpause(c: &Compute, call: &Call) -> Result {
    let step = Step {
        rule: "os_compute_api:os-pause-server:unpause",
        action: Action::UNPAUSE,
        log: "unpause",
        event: "compute_unpause_instance",
    };
    power(c, call, &step, "running", "unpausing")
}

fn reboot(c: &Compute, call: &Call) -> Result {
    let hard = call.body["reboot"]["type"]
        .as_str()
        .is_some_and(|t| t.eq_ignore_ascii_case("hard"));
    let action = if hard { Action::HARD_REBOOT } else { Action::SOFT_REBOOT };
    let step = Step {
        rule: "os_compute_api:servers:reboot",
        action,
        log: "reboot",
        event: "compute_reboot_instance",
    };
    c.step(call, &step, |_, server| {
        let task = server.task_state.as_deref();
        let may = match task {
            None => true,
            // A hard reboot may follow any reboot, and the end of other things that hang.
            Some(task) => {
                hard && (REBOOTING.contains(&task)
                    || matches!(task, "pausing" | "unpausing" | "resuming" | "suspending"))
            }
        };
        if !may {
            return Err(invalid_state("reboot", &server.id, "task_state", task));
        }
        if hard {
            server.hard_reboot += 1;
            server.want("running");
            server.task_state = Some("rebooting_hard".into());
        } else {
            server.soft_reboot += 1;
            server.task_state = Some("rebooting".into());
        }
        Ok(())
    })
}

fn lock(c: &Compute, call: &Call) -> Result {
    let reason = if call.at_least(73) {
        call.body["lock"]["locked_reason"].as_str()
    } else {
        None
    };
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-lock-server:lock")?;
        let is_owner = server.project_id == call.project();
        if server.locked_by.is_some() && is_owner {
            return Ok(());
        }
        server.locked_by = Some(if is_owner { "owner" } else { "admin" }.into());
        server.locked_reason = reason.map(str::to_owned).or(server.locked_reason);
        finished(c, tx, call, &server, "lock")?;
        server.updated_at = database::now();
        server.update(tx)?;
        Ok::<_, Error>(())
    })?;
    accepted()
}

fn unlock(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-lock-server:unlock")?;
        let is_owner = server.project_id == call.project();
        let expected = if is_owner { "owner" } else { "admin" };
        if server.locked_by.as_deref().is_some_and(|by| by != expected) {
            let rule = "os_compute_api:os-lock-server:unlock:unlock_override";
            c.allow(call, rule, &server.project_id, Some(&server.user_id))?;
        }
        server.locked_by = None;
        server.locked_reason = None;
        finished(c, tx, call, &server, "unlock")?;
        server.updated_at = database::now();
        server.update(tx)?;
        Ok::<_, Error>(())
    })?;
    accepted()
}

/// Records an action that has ended with the request.
pub(super) fn finished(c: &Compute, tx: &mut Tx<'_>, call: &Call, server: &Server, log: &str) -> Result<()> {
    let number = c.record(tx, call, server, log, "")?;
    actions::finish(tx, number, None, database::now())?;
    Ok(())
}

fn reset_state(c: &Compute, call: &Call) -> Result {
    let to_error = call.body["os-resetState"]["state"] == "error";
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-admin-actions:reset_state")?;
        server.vm_state = if to_error { state::ERROR } else { state::ACTIVE }.into();
        server.task_state = None;
        finished(c, tx, call, &server, "resetState")?;
        c.save(tx, &mut server)
    })?;
    accepted()
}

/// The node's flows always follow what should be, so there is nothing to inject; the checks are upstream's.
fn inject_network_info(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:os-admin-actions:inject_network_info")?;
        c.open_for(
            call,
            &server,
            &Action {
                launched: false,
                ..Action::FORCE_DELETE
            },
        )?;
        has_host(&server)?;
        finished(c, tx, call, &server, "injectNetworkInfo")?;
        c.save(tx, &mut server)
    })?;
    accepted()
}

fn force_delete(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-deferred-delete:force")?;
        c.open_for(
            call,
            &server,
            &Action {
                idle: true,
                ..Action::FORCE_DELETE
            },
        )?;
        c.begin_delete(tx, call, server)
    })?;
    accepted()
}

/// Deletions are not deferred, so there is never a server to restore.
fn restore(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-deferred-delete:restore")?;
        c.open_for(call, &server, &Action::RESTORE)
    })?;
    accepted()
}

fn change_password(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:os-admin-password")?;
        c.open_for(call, &server, &Action::CHANGE_PASSWORD)
    })?;
    // Needs an agent in the guest; without one upstream answers just so.
    Err(Error::conflict("Unable to set password on instance"))
}

fn trigger_crash_dump(c: &Compute, call: &Call) -> Result {
    c.db.read(|tx| {
        let server = c.server(tx, call, "os_compute_api:servers:trigger_crash_dump")?;
        c.open_for(call, &server, &Action::TRIGGER_CRASH_DUMP)?;
        has_host(&server)
    })?;
    Err(Error::bad_request("Driver does not support trigger_crash_dump."))
}
