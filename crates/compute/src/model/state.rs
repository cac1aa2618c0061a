//! The states of a server and what they mean.
//!
//! A server has three: `vm_state` (what it is, as far as the API is concerned), `task_state` (what is being done to it) and
//! `power_state` (what its node last saw). `status` is derived from the first two. Actions are open only in some states; [`Action`]
//! has upstream's table of that.

use api::Error;

/// The server is being made.
pub const BUILDING: &str = "building";
/// It runs.
pub const ACTIVE: &str = "active";
/// It is shut down.
pub const STOPPED: &str = "stopped";
/// It is in memory and does not run.
pub const PAUSED: &str = "paused";
/// Its memory is on disk.
pub const SUSPENDED: &str = "suspended";
/// It runs from a rescue image.
pub const RESCUED: &str = "rescued";
/// It has a new flavor that waits for confirmation.
pub const RESIZED: &str = "resized";
/// Something failed.
pub const ERROR: &str = "error";
/// It is gone.
pub const DELETED: &str = "deleted";
/// It is gone and can be restored.
pub const SOFT_DELETED: &str = "soft-delete";
/// It is an image, and still has its host.
pub const SHELVED: &str = "shelved";
/// It is an image, without a host.
pub const SHELVED_OFFLOADED: &str = "shelved_offloaded";

/// What each task_state makes of a vm_state; `None` is no task, or any other.
type ByTask = &'static [(Option<&'static str>, &'static str)];

const STATUSES: &[(&str, ByTask)] = &[
    (
        ACTIVE,
        &[
            (None, "ACTIVE"),
            (Some("rebooting"), "REBOOT"),
            (Some("reboot_pending"), "REBOOT"),
            (Some("reboot_started"), "REBOOT"),
            (Some("rebooting_hard"), "HARD_REBOOT"),
            (Some("reboot_pending_hard"), "HARD_REBOOT"),
            (Some("reboot_started_hard"), "HARD_REBOOT"),
            (Some("updating_password"), "PASSWORD"),
            (Some("rebuilding"), "REBUILD"),
            (Some("rebuild_block_device_mapping"), "REBUILD"),
            (Some("rebuild_spawning"), "REBUILD"),
            (Some("migrating"), "MIGRATING"),
            (Some("resize_prep"), "RESIZE"),
            (Some("resize_migrating"), "RESIZE"),
            (Some("resize_migrated"), "RESIZE"),
            (Some("resize_finish"), "RESIZE"),
        ],
    ),
    (BUILDING, &[(None, "BUILD")]),
    (
        STOPPED,
        &[
            (None, "SHUTOFF"),
            (Some("resize_prep"), "RESIZE"),
            (Some("resize_migrating"), "RESIZE"),
            (Some("resize_migrated"), "RESIZE"),
            (Some("resize_finish"), "RESIZE"),
            (Some("rebuilding"), "REBUILD"),
            (Some("rebuild_block_device_mapping"), "REBUILD"),
            (Some("rebuild_spawning"), "REBUILD"),
        ],
    ),
    (
        RESIZED,
        &[(None, "VERIFY_RESIZE"), (Some("resize_reverting"), "REVERT_RESIZE")],
    ),
    (PAUSED, &[(None, "PAUSED"), (Some("migrating"), "MIGRATING")]),
    (SUSPENDED, &[(None, "SUSPENDED")]),
    (RESCUED, &[(None, "RESCUE")]),
    (
        ERROR,
        &[
            (None, "ERROR"),
            (Some("rebuilding"), "REBUILD"),
            (Some("rebuild_block_device_mapping"), "REBUILD"),
            (Some("rebuild_spawning"), "REBUILD"),
        ],
    ),
    (DELETED, &[(None, "DELETED")]),
    (SOFT_DELETED, &[(None, "SOFT_DELETED")]),
    (SHELVED, &[(None, "SHELVED")]),
    (SHELVED_OFFLOADED, &[(None, "SHELVED_OFFLOADED")]),
];

/// The `status` a client sees.
pub fn status(vm_state: &str, task_state: Option<&str>) -> &'static str {
    let Some((_, tasks)) = STATUSES.iter().find(|(state, _)| *state == vm_state) else {
        return "UNKNOWN";
    };
    tasks
        .iter()
        .find(|(task, _)| *task == task_state)
        .or(tasks.first())
        .map_or("UNKNOWN", |(_, status)| status)
}

/// The vm_states and task_states (`None`: any) that `status` filters mean.
pub fn states_of(statuses: &[&str]) -> (Vec<&'static str>, Vec<Option<&'static str>>) {
    let (mut vm_states, mut task_states) = (Vec::new(), Vec::new());
    for (vm_state, tasks) in STATUSES {
        for (task, status) in *tasks {
            if statuses.iter().any(|wanted| wanted.eq_ignore_ascii_case(status)) {
                if !vm_states.contains(vm_state) {
                    vm_states.push(*vm_state);
                }
                if !task_states.contains(task) {
                    task_states.push(*task);
                }
            }
        }
    }
    (vm_states, task_states)
}

/// What an action asks of a server's state.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    /// The name in messages (`Cannot 'stop' instance …`).
    pub name: &'static str,
    /// The vm_states it is open in; empty means all.
    pub vm_states: &'static [&'static str],
    /// Whether nothing else may be under way.
    pub idle: bool,
    /// Whether the server must have run at least once.
    pub launched: bool,
    /// Whether a lock forbids it to others than administrators.
    pub lockable: bool,
}

macro_rules! actions {
    ($($(#[$meta:meta])* $constant:ident = $name:literal in [$($state:ident),*] $(, idle: $idle:literal)? $(, launched: $launched:literal)? $(, lockable: $lock:literal)?;)*) => {
        impl Action {$(
            $(#[$meta])*
            pub const $constant: Action = Action {
                name: $name,
                vm_states: &[$($state),*],
                idle: true $(&& $idle)?,
                launched: true $(&& $launched)?,
                lockable: true $(&& $lock)?,
            };
        )*}
    };
}

actions! {
    /// Start.
    START = "start" in [STOPPED];
    /// Stop.
    STOP = "stop" in [ACTIVE, ERROR];
    /// Hard reboot; any of the reboots may be under way.
    HARD_REBOOT = "reboot" in [ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR], idle: false;
    /// Soft reboot.
    SOFT_REBOOT = "reboot" in [ACTIVE], idle: false;
    /// Delete.
    DELETE = "delete" in [], idle: false, launched: false;
    /// Delete at once.
    FORCE_DELETE = "forceDelete" in [], idle: false, launched: false;
    /// Undo a soft delete.
    RESTORE = "restore" in [SOFT_DELETED];
    /// Pause.
    PAUSE = "pause" in [ACTIVE];
    /// Unpause.
    UNPAUSE = "unpause" in [PAUSED];
    /// Suspend.
    SUSPEND = "suspend" in [ACTIVE];
    /// Resume.
    RESUME = "resume" in [SUSPENDED];
    /// Rescue.
    RESCUE = "rescue" in [ACTIVE, STOPPED, ERROR];
    /// Unrescue.
    UNRESCUE = "unrescue" in [RESCUED];
    /// Rebuild.
    REBUILD = "rebuild" in [ACTIVE, STOPPED, ERROR];
    /// Resize.
    RESIZE = "resize" in [ACTIVE, STOPPED];
    /// Migrate, which is a resize to the same flavor.
    MIGRATE = "migrate" in [ACTIVE, STOPPED];
    /// Confirm a resize.
    CONFIRM_RESIZE = "confirmResize" in [RESIZED];
    /// Revert a resize.
    REVERT_RESIZE = "revertResize" in [RESIZED];
    /// Shelve.
    SHELVE = "shelve" in [ACTIVE, STOPPED, PAUSED, SUSPENDED];
    /// Give a shelved server's host back.
    SHELVE_OFFLOAD = "shelveOffload" in [SHELVED];
    /// Unshelve.
    UNSHELVE = "unshelve" in [SHELVED, SHELVED_OFFLOADED];
    /// Make an image.
    SNAPSHOT = "createImage" in [ACTIVE, STOPPED, PAUSED, SUSPENDED], lockable: false;
    /// Make an image that replaces older ones.
    BACKUP = "createBackup" in [ACTIVE, STOPPED, PAUSED, SUSPENDED], lockable: false;
    /// Set the administrator's password.
    CHANGE_PASSWORD = "changePassword" in [ACTIVE];
    /// Crash the guest.
    TRIGGER_CRASH_DUMP = "trigger_crash_dump" in [ACTIVE, PAUSED, RESCUED, RESIZED, ERROR];
    /// Plug an interface.
    ATTACH_INTERFACE = "attach_interface" in [ACTIVE, PAUSED, STOPPED];
    /// Unplug an interface.
    DETACH_INTERFACE = "detach_interface" in [ACTIVE, PAUSED, STOPPED];
    /// Change metadata.
    UPDATE_METADATA = "update metadata" in [ACTIVE, PAUSED, SUSPENDED, STOPPED], launched: false;
    /// Remove metadata.
    DELETE_METADATA = "delete metadata" in [ACTIVE, PAUSED, SUSPENDED, STOPPED], launched: false;
    /// Move while running.
    LIVE_MIGRATE = "os-migrateLive" in [ACTIVE, PAUSED];
    /// Make anew on another host.
    EVACUATE = "evacuate" in [ACTIVE, STOPPED, ERROR], launched: false, lockable: false;
}

/// nova.exception.InstanceInvalidState as the API answers it.
pub fn invalid_state(action: &str, server_id: &str, attribute: &str, state: Option<&str>) -> Error {
    match state {
        Some(state) => Error::conflict(format!(
            "Cannot '{action}' instance {server_id} while it is in {attribute} {state}"
        )),
        None => Error::conflict(format!("Instance {server_id} is in an invalid state for '{action}'")),
    }
}

/// The reboot task states.
pub const REBOOTING: &[&str] = &[
    "rebooting",
    "reboot_pending",
    "reboot_started",
    "rebooting_hard",
    "reboot_pending_hard",
    "reboot_started_hard",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_come_from_both_states() {
        assert_eq!(status(ACTIVE, None), "ACTIVE");
        assert_eq!(status(ACTIVE, Some("rebooting_hard")), "HARD_REBOOT");
        assert_eq!(status(ACTIVE, Some("powering-off")), "ACTIVE");
        assert_eq!(status(STOPPED, None), "SHUTOFF");
        assert_eq!(status("gone fishing", None), "UNKNOWN");
        assert_eq!(states_of(&["shutoff"]), (vec![STOPPED], vec![None]));
        assert_eq!(states_of(&["nonsense"]), (vec![], vec![]));
        let (vm, tasks) = states_of(&["REBOOT"]);
        assert_eq!((vm, tasks.len()), (vec![ACTIVE], 3));
    }
}
