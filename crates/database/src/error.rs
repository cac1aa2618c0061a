//! What can go wrong with the database.

/// An error of the database, told apart where callers act on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A unique constraint or primary key refused a row. `what` names the table (and on SQLite the columns, on PostgreSQL the constraint).
    #[error("a row with the same unique key exists in {what}")]
    Unique {
        /// `table.column, table.column` or `table: constraint`.
        what: String,
    },
    /// A foreign key refused a change.
    #[error("a foreign key forbids the change: {what}")]
    ForeignKey {
        /// What the engine says of it.
        what: String,
    },
    /// A CHECK or NOT NULL constraint refused a row.
    #[error("a constraint forbids the change: {what}")]
    Check {
        /// What the engine says of it.
        what: String,
    },
    /// Another transaction went first; [`crate::Database::write`] runs the closure again.
    #[error("another transaction went first")]
    Serialization,
    /// The disk is full.
    #[error("the disk that holds the database is full")]
    Full,
    /// The database could not be opened or reached.
    #[error("cannot open the database {url}: {reason}")]
    Open {
        /// Where, without credentials.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A migration failed.
    #[error("migration {name} failed: {reason}")]
    Migration {
        /// `service/version_name`.
        name: String,
        /// Why.
        reason: String,
    },
    /// A column did not hold what was expected of it.
    #[error("column {column} holds {found}, not {expected}")]
    Decode {
        /// Number or name of the column.
        column: String,
        /// The Rust type wanted.
        expected: &'static str,
        /// The kind of value found.
        found: &'static str,
    },
    /// SQLite's own error.
    #[error("SQLite: {source} in {}", head(sql))]
    Sqlite {
        /// The statement.
        sql: String,
        /// The cause.
        source: rusqlite::Error,
    },
    /// PostgreSQL's own error.
    #[error("PostgreSQL: {source} in {}", head(sql))]
    Postgres {
        /// The statement.
        sql: String,
        /// The cause.
        source: postgres::Error,
    },
    /// The group of transactions this one was committed with could not be written.
    #[error("the commit failed: {0}")]
    Commit(String),
}

/// The beginning of a statement, on one line.
fn head(sql: &str) -> String {
    sql.split_whitespace().flat_map(|word| [word, " "]).collect::<String>().chars().take(200).collect()
}

impl Error {
    /// Whether a unique constraint of `table` refused the row.
    pub fn is_unique(&self, table: &str) -> bool {
        matches!(self, Error::Unique { what } if what.split([',', ':', ' ']).any(|part| part.trim().split('.').next() == Some(table)))
    }

    pub(crate) fn sqlite(sql: &str, source: rusqlite::Error) -> Error {
        use rusqlite::ffi;
        if let rusqlite::Error::SqliteFailure(code, message) = &source {
            let what = message.clone().unwrap_or_default();
            let what = what.split_once("failed: ").map_or(what.as_str(), |(_, rest)| rest).to_string();
            match code.extended_code {
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => return Error::Unique { what },
                ffi::SQLITE_CONSTRAINT_FOREIGNKEY => return Error::ForeignKey { what },
                ffi::SQLITE_CONSTRAINT_CHECK | ffi::SQLITE_CONSTRAINT_NOTNULL => return Error::Check { what },
                _ => {}
            }
            if code.code == rusqlite::ErrorCode::DiskFull {
                return Error::Full;
            }
        }
        Error::Sqlite { sql: sql.into(), source }
    }

    pub(crate) fn postgres(sql: &str, source: postgres::Error) -> Error {
        use postgres::error::SqlState;
        if let Some(db) = source.as_db_error() {
            let what = format!("{}: {}", db.table().unwrap_or_default(), db.constraint().unwrap_or(db.message()));
            match db.code() {
                c if *c == SqlState::UNIQUE_VIOLATION => return Error::Unique { what },
                c if *c == SqlState::FOREIGN_KEY_VIOLATION => return Error::ForeignKey { what },
                c if *c == SqlState::CHECK_VIOLATION || *c == SqlState::NOT_NULL_VIOLATION => return Error::Check { what },
                c if *c == SqlState::T_R_SERIALIZATION_FAILURE || *c == SqlState::T_R_DEADLOCK_DETECTED => return Error::Serialization,
                c if *c == SqlState::DISK_FULL => return Error::Full,
                _ => {}
            }
        }
        Error::Postgres { sql: sql.into(), source }
    }
}
