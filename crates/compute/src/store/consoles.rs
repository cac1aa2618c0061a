//! Tokens that open a console; only their hashes are kept.

use database::{Result, Tx, params};

database::record! {
    /// What a console token leads to.
    pub struct ConsoleToken in "console_tokens" {
        /// See [`crate::model::encoding::token_hash`].
        pub token_hash: String,
        /// Whose console.
        pub server_id: String,
        /// Where its server listens.
        pub host: String,
        /// And on which port.
        pub port: i64,
        /// `novnc`, `serial`.
        pub console_type: String,
        /// A path inside of the console's server.
        pub access_path: Option<String>,
        /// µs since the epoch.
        pub expires_at: i64,
    }
}

/// The token, where it is still good.
pub fn find(tx: &mut Tx<'_>, hash: &str, now: i64) -> Result<Option<ConsoleToken>> {
    Ok(ConsoleToken::get(tx, hash)?.filter(|token| token.expires_at > now))
}

/// Removes what has expired.
pub fn expire(tx: &mut Tx<'_>, now: i64) -> Result<()> {
    tx.execute("DELETE FROM console_tokens WHERE expires_at <= ?1", &params![now])
        .map(|_| ())
}

/// Removes a token that was used.
pub fn spend(tx: &mut Tx<'_>, hash: &str) -> Result<()> {
    ConsoleToken::delete(tx, hash).map(|_| ())
}

/// Removes the tokens of a server.
pub fn forget(tx: &mut Tx<'_>, server: &str) -> Result<()> {
    tx.execute("DELETE FROM console_tokens WHERE server_id = ?1", &params![server])
        .map(|_| ())
}
