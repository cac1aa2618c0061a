//! Key pairs, which belong to users.

use database::{Direction, Result, Row, Select, Tx, params};

/// A key pair.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyPair {
    /// Its number, which `GET` shows as its id.
    pub number: i64,
    /// Whose.
    pub user_id: String,
    /// Its name.
    pub name: String,
    /// `ssh` or `x509`.
    pub kind: String,
    /// The public key.
    pub public_key: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// µs since the epoch.
    pub created_at: i64,
}

const COLUMNS: &str = "number, user_id, name, type, public_key, fingerprint, created_at";

fn read(row: &Row) -> Result<KeyPair> {
    Ok(KeyPair {
        number: row.get(0)?,
        user_id: row.get(1)?,
        name: row.get(2)?,
        kind: row.get(3)?,
        public_key: row.get(4)?,
        fingerprint: row.get(5)?,
        created_at: row.get(6)?,
    })
}

/// The user's key pair of this name.
pub fn find(tx: &mut Tx<'_>, user: &str, name: &str) -> Result<Option<KeyPair>> {
    let sql = format!("SELECT {COLUMNS} FROM keypairs WHERE user_id = ?1 AND name = ?2");
    tx.query_one(&sql, &params![user, name])?.as_ref().map(read).transpose()
}

/// Adds one; the number is given by the database.
pub fn insert(tx: &mut Tx<'_>, key: &KeyPair) -> Result<i64> {
    let columns = ["user_id", "name", "type", "public_key", "fingerprint", "created_at"];
    let values = params![
        &key.user_id,
        &key.name,
        &key.kind,
        &key.public_key,
        &key.fingerprint,
        key.created_at
    ];
    super::insert_numbered(tx, "keypairs", &columns, &values)
}

/// Removes one; false where there was none.
pub fn delete(tx: &mut Tx<'_>, user: &str, name: &str) -> Result<bool> {
    Ok(tx.execute(
        "DELETE FROM keypairs WHERE user_id = ?1 AND name = ?2",
        &params![user, name],
    )? > 0)
}

/// How many a user has.
pub fn count(tx: &mut Tx<'_>, user: &str) -> Result<i64> {
    Ok(tx
        .scalar("SELECT COUNT(*) FROM keypairs WHERE user_id = ?1", &params![user])?
        .unwrap_or(0))
}

/// A user's key pairs by name; `None` when the marker names none.
pub fn list(tx: &mut Tx<'_>, user: &str, limit: Option<u64>, marker: Option<&str>) -> Result<Option<Vec<KeyPair>>> {
    let mut select = Select::new(COLUMNS, "keypairs");
    select
        .filter("user_id = ?", &params![user])
        .order("name", Direction::Ascending);
    if let Some(marker) = marker {
        if find(tx, user, marker)?.is_none() {
            return Ok(None);
        }
        select.after(&params![marker]);
    }
    if let Some(limit) = limit {
        select.limit(limit);
    }
    select.rows(tx)?.iter().map(read).collect::<Result<Vec<_>>>().map(Some)
}
