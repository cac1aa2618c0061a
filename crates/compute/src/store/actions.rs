//! The log of what was done to a server (`os-instance-actions`).

use database::{Direction, Result, Row, Select, Tx, params};

/// An action of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// Its place in the order.
    pub number: i64,
    /// The server.
    pub server_id: String,
    /// `create`, `reboot`, …
    pub action: String,
    /// The request that asked for it.
    pub request_id: String,
    /// Who.
    pub user_id: String,
    /// As whom.
    pub project_id: String,
    /// µs since the epoch.
    pub started_at: i64,
    /// µs since the epoch.
    pub updated_at: i64,
    /// `Error`, where it failed.
    pub message: Option<String>,
}

/// A step of an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `compute__do_build_and_run_instance`, …
    pub event: String,
    /// µs since the epoch.
    pub started_at: i64,
    /// µs since the epoch.
    pub finished_at: Option<i64>,
    /// `Success` or `Error`.
    pub result: Option<String>,
    /// Why it failed.
    pub traceback: Option<String>,
    /// On which host.
    pub host: Option<String>,
    /// Why it failed, in a line.
    pub details: Option<String>,
}

const COLUMNS: &str = "number, server_id, action, request_id, user_id, project_id, started_at, updated_at, message";

fn read(row: &Row) -> Result<Action> {
    Ok(Action {
        number: row.get(0)?,
        server_id: row.get(1)?,
        action: row.get(2)?,
        request_id: row.get(3)?,
        user_id: row.get(4)?,
        project_id: row.get(5)?,
        started_at: row.get(6)?,
        updated_at: row.get(7)?,
        message: row.get(8)?,
    })
}

/// Records an action with its first step and returns its number.
pub fn begin(tx: &mut Tx<'_>, action: &Action, event: &str, host: Option<&str>) -> Result<i64> {
    let columns = [
        "server_id",
        "action",
        "request_id",
        "user_id",
        "project_id",
        "started_at",
        "updated_at",
    ];
    let a = action;
    let values = params![
        &a.server_id,
        &a.action,
        &a.request_id,
        &a.user_id,
        &a.project_id,
        a.started_at,
        a.updated_at
    ];
    let number = super::insert_numbered(tx, "instance_actions", &columns, &values)?;
    if !event.is_empty() {
        tx.execute(
            "INSERT INTO instance_action_events (action, event, started_at, host) VALUES (?1, ?2, ?3, ?4)",
            &params![number, event, action.started_at, host],
        )?;
    }
    Ok(number)
}

/// Ends the open steps of an action.
pub fn finish(tx: &mut Tx<'_>, number: i64, failure: Option<&str>, now: i64) -> Result<()> {
    let result = if failure.is_some() { "Error" } else { "Success" };
    tx.execute(
        "UPDATE instance_action_events SET finished_at = ?2, result = ?3, traceback = ?4, details = ?4
         WHERE action = ?1 AND finished_at IS NULL",
        &params![number, now, result, failure],
    )?;
    let message = failure.map(|_| "Error");
    tx.execute(
        "UPDATE instance_actions SET updated_at = ?2, message = ?3 WHERE number = ?1",
        &params![number, now, message],
    )
    .map(|_| ())
}

/// A server's actions, newest first; `None` when the marker (a request id) names none.
pub fn list(
    tx: &mut Tx<'_>,
    server: &str,
    window: (Option<i64>, Option<i64>),
    limit: Option<u64>,
    marker: Option<&str>,
) -> Result<Option<Vec<Action>>> {
    let mut select = Select::new(COLUMNS, "instance_actions");
    select.filter("server_id = ?", &params![server]);
    if let Some(since) = window.0 {
        select.filter("updated_at >= ?", &params![since]);
    }
    if let Some(before) = window.1 {
        select.filter("updated_at <= ?", &params![before]);
    }
    select.order("number", Direction::Descending);
    if let Some(marker) = marker {
        let Some(action) = find(tx, server, marker)? else {
            return Ok(None);
        };
        select.after(&params![action.number]);
    }
    if let Some(limit) = limit {
        select.limit(limit);
    }
    select.rows(tx)?.iter().map(read).collect::<Result<Vec<_>>>().map(Some)
}

/// The action of a server that a request asked for.
pub fn find(tx: &mut Tx<'_>, server: &str, request: &str) -> Result<Option<Action>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM instance_actions WHERE request_id = ?1 AND server_id = ?2 ORDER BY number LIMIT 1"
    );
    tx.query_one(&sql, &params![request, server])?
        .as_ref()
        .map(read)
        .transpose()
}

/// The steps of an action, newest first.
pub fn events(tx: &mut Tx<'_>, number: i64) -> Result<Vec<Event>> {
    let sql = "SELECT event, started_at, finished_at, result, traceback, host, details FROM instance_action_events
        WHERE action = ?1 ORDER BY number DESC";
    tx.query(sql, &params![number])?
        .iter()
        .map(|row| {
            Ok(Event {
                event: row.get(0)?,
                started_at: row.get(1)?,
                finished_at: row.get(2)?,
                result: row.get(3)?,
                traceback: row.get(4)?,
                host: row.get(5)?,
                details: row.get(6)?,
            })
        })
        .collect()
}
