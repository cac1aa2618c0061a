//! Credentials of other systems that users keep here (EC2 keys, TOTP secrets); their content is encrypted.

use super::{Kind, Table};
use crate::{Error, Result};
use database::{Tx, params};

/// The table of credentials.
pub const CREDENTIALS: Table = Table {
    name: "identity_credentials",
    kind: "credential",
    missing: |id| Error::not_found("credential", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("user_id", Kind::Text(64)),
        ("project_id", Kind::Text(64)),
        ("type", Kind::Text(255)),
        ("encrypted_blob", Kind::Text(0)),
    ],
    extra: true,
};

/// Removes a user's credentials.
pub fn forget_user(tx: &mut Tx<'_>, user_id: &str) -> Result<()> {
    tx.execute("DELETE FROM identity_credentials WHERE user_id = ?1", &params![user_id])?;
    Ok(())
}

/// Removes a project's credentials.
pub fn forget_project(tx: &mut Tx<'_>, project_id: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_credentials WHERE project_id = ?1",
        &params![project_id],
    )?;
    Ok(())
}

/// How many a user has.
pub fn count(tx: &mut Tx<'_>, user_id: &str) -> Result<i64> {
    Ok(tx
        .scalar(
            "SELECT COUNT(*) FROM identity_credentials WHERE user_id = ?1",
            &params![user_id],
        )?
        .unwrap_or(0))
}
