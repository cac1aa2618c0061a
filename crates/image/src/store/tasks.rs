//! Tasks: work on images that goes on after the answer.

use database::{Direction, Select, Tx, Value as Cell, now, params};
use serde_json::Value;

use super::images::Viewer;
use crate::error::Result;

database::record! {
    /// A task.
    pub struct Task in "image_tasks" {
        /// UUID.
        pub id: String,
        /// `api_image_import`, …
        pub kind: String,
        /// `pending`, `processing`, `success` or `failure`.
        pub status: String,
        /// The project that asked.
        pub owner: Option<String>,
        /// The image it is about.
        pub image_id: Option<String>,
        /// The request that asked.
        pub request_id: Option<String>,
        /// The user who asked.
        pub user_id: Option<String>,
        /// What to do.
        pub input: Value,
        /// What came of it; null before.
        pub result: Value,
        /// Why it failed, or empty.
        pub message: String,
        /// When it is forgotten, in microseconds since the epoch; only for tasks that ended.
        pub expires_at: Option<i64>,
        /// Microseconds since the epoch.
        pub created_at: i64,
        /// Microseconds since the epoch.
        pub updated_at: i64,
    }
}

/// How long an ended task is kept, in microseconds: upstream's 48 hours.
const LIFETIME: i64 = 48 * 3600 * 1_000_000;

/// What a list can be narrowed and ordered by.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Columns and the values they must have.
    pub filters: Vec<(&'static str, String)>,
    /// A column.
    pub sort_key: &'static str,
    /// Its direction.
    pub direction: Direction,
    /// The task after which the page begins.
    pub marker: Option<Task>,
    /// Length of the page.
    pub limit: u64,
}

/// Whether the viewer may see the task.
pub fn is_visible(viewer: Viewer<'_>, task: &Task) -> bool {
    viewer.admin || task.owner.is_none() || task.owner.as_deref() == viewer.project
}

/// One page of the tasks that the viewer may see. Tasks whose time is over are not there any more.
pub fn list(tx: &mut Tx<'_>, viewer: Viewer<'_>, listing: &Listing) -> Result<Vec<Task>> {
    let mut select = Select::new(Task::columns(""), Task::TABLE);
    select.filter("(expires_at IS NULL OR expires_at > ?)", &params![now()]);
    if !viewer.admin {
        select.filter("owner = ?", &params![viewer.project]);
    }
    for (column, value) in &listing.filters {
        select.filter(&format!("{column} = ?"), &params![value]);
    }
    let mut keys = vec![listing.sort_key];
    keys.extend(["created_at", "id"].into_iter().filter(|key| *key != listing.sort_key));
    for key in &keys {
        select.order(key, listing.direction);
    }
    if let Some(marker) = &listing.marker {
        let cell = |key: &&str| match *key {
            "kind" => Cell::from(&marker.kind),
            "status" => Cell::from(&marker.status),
            "updated_at" => marker.updated_at.into(),
            "expires_at" => marker.expires_at.into(),
            "created_at" => marker.created_at.into(),
            _ => Cell::from(&marker.id),
        };
        select.after(&keys.iter().map(cell).collect::<Vec<_>>());
    }
    select.limit(listing.limit);
    select.rows(tx)?.iter().map(|row| Ok(Task::from_row(row)?)).collect()
}

/// Tasks about an image, the oldest first.
pub fn of_image(tx: &mut Tx<'_>, image: &str) -> Result<Vec<Task>> {
    Ok(Task::select(
        tx,
        "WHERE image_id = ?1 ORDER BY created_at, id",
        &params![image],
    )?)
}

/// Tasks that have not ended.
pub fn unfinished(tx: &mut Tx<'_>) -> Result<Vec<Task>> {
    Ok(Task::select(
        tx,
        "WHERE status IN ('pending', 'processing') ORDER BY created_at, id",
        &[],
    )?)
}

/// Ends a task, and forgets those whose time is over.
pub fn finish(tx: &mut Tx<'_>, id: &str, status: &str, result: &Value, message: &str) -> Result<()> {
    let at = now();
    tx.execute(
        "UPDATE image_tasks SET status = ?2, result = ?3, message = ?4, updated_at = ?5, expires_at = ?6 WHERE id = ?1",
        &params![id, status, result, message, at, at + LIFETIME],
    )?;
    tx.execute("DELETE FROM image_tasks WHERE expires_at < ?1", &params![at])?;
    Ok(())
}
