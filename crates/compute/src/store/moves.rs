//! Moves and resizes of servers, written down (`os-migrations`).

use database::{Result, Tx, params};
use serde_json::Value;

use crate::model::server::Server;

/// A move or resize.
pub struct Move<'a> {
    /// Of which server.
    pub server: &'a Server,
    /// `resize`, `migration`, …
    pub kind: &'a str,
    /// `migrating`, …
    pub status: &'a str,
    /// The (embedded) flavor before.
    pub old_flavor: &'a Value,
    /// The flavor after.
    pub new_flavor: &'a Value,
    /// Who asked for it.
    pub user_id: &'a str,
    /// As whom.
    pub project_id: &'a str,
}

/// Records a move that stays on the server's own host.
pub fn record(tx: &mut Tx<'_>, m: &Move<'_>, now: i64) -> Result<i64> {
    let columns = [
        "id",
        "server_id",
        "source_compute",
        "source_node",
        "dest_compute",
        "dest_node",
        "dest_host",
        "status",
        "migration_type",
        "old_flavor",
        "new_flavor",
        "user_id",
        "project_id",
        "created_at",
        "updated_at",
    ];
    let (host, node) = (&m.server.host, &m.server.node);
    let values = params![
        uuid::Uuid::new_v4().to_string(),
        &m.server.id,
        host,
        node,
        host,
        node,
        host,
        m.status,
        m.kind,
        m.old_flavor,
        m.new_flavor,
        m.user_id,
        m.project_id,
        now,
        now
    ];
    super::insert_numbered(tx, "server_migrations", &columns, &values)
}

/// Moves the newest record of a server on.
pub fn set_status(tx: &mut Tx<'_>, server: &str, status: &str) -> Result<()> {
    tx.execute(
        "UPDATE server_migrations SET status = ?2, updated_at = ?3
         WHERE number = (SELECT MAX(number) FROM server_migrations WHERE server_id = ?1)",
        &params![server, status, database::now()],
    )
    .map(|_| ())
}
