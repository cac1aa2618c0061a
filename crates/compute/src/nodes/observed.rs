//! From what a node sees of a server to the server's states.
//!
//! ```text
//! building --(reached, running)--> active --(shut down from inside)--> stopped
//!     \--(fault)--> error <--(fault)-- any
//! ```
//! A node says which generations of the wishes it has brought about. Only when all of them are does an action end; until then
//! a report tells no more than how far things are.

use node_protocol::reports::{PowerState, Progress, ServerObserved};

use crate::model::server::Server;
use crate::model::state;

/// What a report has brought about beside the new row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing has ended.
    UnderWay,
    /// The action that was under way has ended well.
    Reached,
    /// It has failed.
    Failed(String),
}

/// Takes a report into the row.
pub(super) fn apply(server: &mut Server, seen: &ServerObserved, now: i64) -> Outcome {
    let before = server.clone();
    server.power_state = seen.power_state.number();
    if let Some(at) = seen.launched_at
        && server.launched_at.is_none()
    {
        server.launched_at = Some(at.saturating_mul(1_000_000));
    }
    if !seen.root_device_name.is_empty() {
        server.root_device_name = Some(seen.root_device_name.clone());
    }
    let outcome = judge(server, seen, now);
    if *server != before {
        server.updated_at = now;
    }
    outcome
}

fn judge(server: &mut Server, seen: &ServerObserved, now: i64) -> Outcome {
    let current = seen.revision >= server.revision.max(0) as u64;
    if let Some(fault) = &seen.fault {
        // A fault of something that has been asked anew meanwhile says nothing any more.
        if !current || already_failed(server) {
            return Outcome::UnderWay;
        }
        server.fail(i64::from(fault.code), &fault.message, &fault.details, now);
        return Outcome::Failed(fault.message.clone());
    }
    if server.power_wanted == "deleted" {
        return Outcome::UnderWay;
    }
    let reached = seen.reached.power >= server.power_generation.max(0) as u64
        && seen.reached.soft_reboot >= server.soft_reboot.max(0) as u64
        && seen.reached.hard_reboot >= server.hard_reboot.max(0) as u64
        && seen.reached.rebuild >= server.rebuild.max(0) as u64;
    if !reached || seen.progress != Progress::Settled {
        if server.vm_state == state::BUILDING {
            let task = match seen.progress {
                Progress::Networking => "networking",
                Progress::BlockDeviceMapping => "block_device_mapping",
                Progress::Spawning | Progress::Settled => "spawning",
            };
            server.task_state = Some(task.into());
        }
        return Outcome::UnderWay;
    }
    let Some(vm_state) = vm_state(server, seen.power_state) else {
        return Outcome::UnderWay;
    };
    // Something that Compute does by itself is not ended by a node's report.
    let own_task = matches!(
        server.task_state.as_deref(),
        Some("image_snapshot" | "image_uploading" | "image_pending_upload" | "image_snapshot_pending")
    );
    if own_task {
        return Outcome::UnderWay;
    }
    let was_under_way = server.task_state.take().is_some() || server.vm_state == state::BUILDING;
    if server.vm_state != state::ERROR || was_under_way {
        server.vm_state = vm_state.into();
        server.progress = if vm_state == state::ACTIVE {
            100
        } else {
            server.progress
        };
    }
    if server.launched_at.is_none() && vm_state != state::ERROR {
        server.launched_at = Some(now);
    }
    Outcome::Reached
}

fn already_failed(server: &Server) -> bool {
    server.vm_state == state::ERROR && server.task_state.is_none()
}

/// The state a settled server is in; `None` while the node sees nothing of it.
fn vm_state(server: &Server, power: PowerState) -> Option<&'static str> {
    let task = server.task_state.as_deref();
    if task == Some("resize_prep") {
        return Some(state::RESIZED);
    }
    let kept = [state::RESIZED, state::RESCUED, state::SHELVED];
    if let Some(kept) = kept
        .into_iter()
        .find(|k| *k == server.vm_state && task != Some("resize_reverting"))
    {
        return Some(kept);
    }
    Some(match (server.power_wanted.as_str(), power) {
        ("suspended", PowerState::Shutdown | PowerState::Suspended | PowerState::NoState) => state::SUSPENDED,
        ("stopped", PowerState::NoState) => state::STOPPED,
        (_, PowerState::Running) => state::ACTIVE,
        (_, PowerState::Paused) => state::PAUSED,
        (_, PowerState::Shutdown | PowerState::Crashed) => state::STOPPED,
        (_, PowerState::Suspended) => state::SUSPENDED,
        (_, PowerState::NoState) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::server;
    use node_protocol::reports::{Fault, Reached};

    fn seen(power: PowerState, progress: Progress, generation: u64) -> ServerObserved {
        ServerObserved {
            id: uuid::Uuid::nil(),
            revision: 1,
            power_state: power,
            progress,
            reached: Reached {
                power: generation,
                ..Reached::default()
            },
            fault: None,
            launched_at: None,
            vnc_port: None,
            vnc_host: None,
            plugged_ports: vec![],
            root_device_name: String::new(),
        }
    }

    #[test]
    fn a_server_becomes_active_only_when_all_is_reached() {
        let mut s = server("a", "p");
        assert_eq!(
            apply(&mut s, &seen(PowerState::NoState, Progress::Networking, 0), 5),
            Outcome::UnderWay
        );
        assert_eq!((s.status(), s.task_state.as_deref()), ("BUILD", Some("networking")));
        assert_eq!(
            apply(&mut s, &seen(PowerState::Running, Progress::Settled, 1), 6),
            Outcome::Reached
        );
        assert_eq!(
            (s.status(), s.task_state.as_deref(), s.launched_at),
            ("ACTIVE", None, Some(6))
        );
        s.want("stopped");
        s.task_state = Some("powering-off".into());
        assert_eq!(
            apply(&mut s, &seen(PowerState::Running, Progress::Settled, 1), 7),
            Outcome::UnderWay
        );
        assert_eq!(s.task_state.as_deref(), Some("powering-off"));
        assert_eq!(
            apply(&mut s, &seen(PowerState::Shutdown, Progress::Settled, 2), 8),
            Outcome::Reached
        );
        assert_eq!(s.status(), "SHUTOFF");
    }

    #[test]
    fn a_guest_that_shuts_itself_down_is_stopped() {
        let mut s = server("a", "p");
        apply(&mut s, &seen(PowerState::Running, Progress::Settled, 1), 1);
        apply(&mut s, &seen(PowerState::Shutdown, Progress::Settled, 1), 2);
        assert_eq!((s.status(), s.power_state), ("SHUTOFF", 4));
    }

    #[test]
    fn a_fault_is_an_error_until_something_is_asked_anew() {
        let mut s = server("a", "p");
        let mut report = seen(PowerState::NoState, Progress::Settled, 0);
        report.fault = Some(Fault {
            code: 500,
            message: "no disk".into(),
            details: String::new(),
        });
        assert_eq!(apply(&mut s, &report, 3), Outcome::Failed("no disk".into()));
        assert_eq!((s.status(), s.fault_message.as_deref()), ("ERROR", Some("no disk")));
        s.hard_reboot += 1;
        s.touch(4);
        s.task_state = Some("rebooting_hard".into());
        assert_eq!(apply(&mut s, &report, 5), Outcome::UnderWay);
        let mut good = seen(PowerState::Running, Progress::Settled, 1);
        good.reached.hard_reboot = 1;
        good.revision = 2;
        assert_eq!(apply(&mut s, &good, 6), Outcome::Reached);
        assert_eq!(s.status(), "ACTIVE");
    }
}
