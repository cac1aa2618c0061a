//! The one way to the cloud's state: SQLite (WAL, durable commits) by default, PostgreSQL by a URL, one code path for both.
//!
//! All calls are synchronous. A read on SQLite takes microseconds and runs where it is called; whatever may wait
//! (the writer's turn, a commit's fsync, PostgreSQL) is wrapped in [`tokio::task::block_in_place`], so that a handler
//! can be plain code without holding up its runtime.
//!
//! ```
//! # fn main() -> Result<(), database::Error> {
//! use database::{Database, params};
//! let db = Database::temporary()?;
//! db.write(|tx| tx.execute("CREATE TABLE pets (name TEXT PRIMARY KEY, legs BIGINT)", &[]))?;
//! db.write(|tx| tx.execute("INSERT INTO pets (name, legs) VALUES (?1, ?2)", &params!["ant", 6]))?;
//! let legs: Option<i64> = db.read(|tx| tx.scalar("SELECT legs FROM pets WHERE name = ?1", &params!["ant"]))?;
//! assert_eq!(legs, Some(6));
//! # Ok(()) }
//! ```
//!
//! # Writing SQL for both
//! * Placeholders are `?1`, `?2`, … in text order of first use or not: the number decides (PostgreSQL gets `$1`).
//! * Column types are `TEXT`, `BIGINT`, `DOUBLE PRECISION` and `BLOB` only; booleans are `BIGINT` 0/1; times are `BIGINT` microseconds since
//!   the epoch (UTC); documents are `TEXT` holding JSON. `{{serial}}` in a migration is an automatically numbered key.
//! * `LIKE` is case-sensitive on both; `x REGEXP ?1` works on both. Cast sums: `CAST(SUM(x) AS BIGINT)`.
//! * A statement that fails inside a PostgreSQL transaction poisons it: code that goes on after a failure
//!   (a unique violation that leads to another try) wraps the attempt in [`Tx::savepoint`].
//! * Writers on PostgreSQL run SERIALIZABLE and are run again after a serialization failure, so a closure given
//!   to [`Database::write`] must do nothing but SQL and computing.

mod error;
mod feed;
mod migrations;
mod postgres_backend;
mod record;
mod select;
mod sqlite;
pub mod testing;
mod value;

pub use error::Error;
pub use feed::{Change, Feed};
pub use migrations::Migration;
pub use select::{Direction, Select};
pub use value::{FromValue, Row, Value};

use std::path::Path;
use std::sync::Arc;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    feed: Feed,
}

enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres_backend::Postgres),
}

/// Which engine holds the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Embedded, one writer, group commit.
    Sqlite,
    /// PostgreSQL, or what speaks its protocol.
    Postgres,
}

/// A transaction. Dropped without [`Database::write`]'s commit it leaves nothing behind.
pub struct Tx<'a> {
    handle: Handle<'a>,
    changes: Vec<Change>,
    /// PostgreSQL refused a statement because another transaction went first; the closure is run again.
    serialization_failure: bool,
}

enum Handle<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(postgres_backend::Transaction<'a>),
}

impl Database {
    /// Opens `sqlite:PATH` (or a bare path) or `postgresql://…`. Creates an SQLite file that is not there.
    ///
    /// # Errors
    /// [`Error::Open`] with the reason.
    pub fn open(url: &str) -> Result<Database> {
        let backend = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Backend::Postgres(postgres_backend::Postgres::open(url)?)
        } else {
            let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
            Backend::Sqlite(sqlite::Sqlite::open(Path::new(path), sqlite::Durability::Full)?)
        };
        Ok(Self::with_backend(backend))
    }

    /// An SQLite database in a temporary folder that goes away with the last handle; commits are not durable.
    pub fn temporary() -> Result<Database> {
        let backend = Backend::Sqlite(sqlite::Sqlite::temporary()?);
        Ok(Self::with_backend(backend))
    }

    fn with_backend(backend: Backend) -> Database {
        Database { inner: Arc::new(Inner { backend, feed: Feed::new() }) }
    }

    /// The engine behind this handle.
    pub fn engine(&self) -> Engine {
        match &self.inner.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// Applies the migrations that have not run yet, each in its own transaction, in the order given.
    ///
    /// # Errors
    /// [`Error::Migration`] where one fails, or where one that ran has changed since.
    pub fn migrate(&self, sets: &[&[Migration]]) -> Result<()> {
        migrations::migrate(self, sets)
    }

    /// Runs `f` over one snapshot. Writing in it fails.
    pub fn read<T, E: From<Error>>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        match &self.inner.backend {
            Backend::Sqlite(s) => s.read(f),
            Backend::Postgres(p) => blocking(|| p.read(f)),
        }
    }

    /// Runs `f` in one transaction; when this returns `Ok`, the commit is durable. An `Err` of `f` rolls everything back.
    /// `f` may run more than once (PostgreSQL's serialization failures), so it must only do SQL and compute.
    pub fn write<T, E: From<Error>>(&self, mut f: impl FnMut(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let (value, changes) = blocking(|| match &self.inner.backend {
            Backend::Sqlite(s) => s.write(&mut f),
            Backend::Postgres(p) => p.write(&mut f),
        })?;
        if changes > 0 {
            self.inner.feed.wake();
        }
        Ok(value)
    }

    /// The change feed: what [`Tx::changed`] recorded, in commit order.
    pub fn feed(&self) -> &Feed {
        &self.inner.feed
    }

    /// Checks the engine's own consistency (`PRAGMA integrity_check` and foreign keys on SQLite; a round trip on PostgreSQL).
    /// Returns what it found, a sentence each.
    pub fn check(&self) -> Result<Vec<String>> {
        match &self.inner.backend {
            Backend::Sqlite(s) => s.check(),
            Backend::Postgres(_) => self.read(|tx| tx.scalar::<i64>("SELECT CAST(1 AS BIGINT)", &[])).map(|_| Vec::new()),
        }
    }
}

impl Tx<'_> {
    /// Runs a statement; returns the number of rows it touched.
    pub fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let done = match &mut self.handle {
            Handle::Sqlite(c) => sqlite::execute(c, sql, params),
            Handle::Postgres(t) => t.execute(sql, params),
        };
        self.note(done)
    }

    /// Runs a query (or a statement with `RETURNING`) and returns its rows.
    pub fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let done = match &mut self.handle {
            Handle::Sqlite(c) => sqlite::query(c, sql, params),
            Handle::Postgres(t) => t.query(sql, params),
        };
        self.note(done)
    }

    /// The first row of a query.
    pub fn query_one(&mut self, sql: &str, params: &[Value]) -> Result<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// The first column of the first row; `None` where there is no row.
    pub fn scalar<T: FromValue>(&mut self, sql: &str, params: &[Value]) -> Result<Option<T>> {
        self.query_one(sql, params)?.map(|row| row.get(0)).transpose()
    }

    /// The first column of every row.
    pub fn column<T: FromValue>(&mut self, sql: &str, params: &[Value]) -> Result<Vec<T>> {
        self.query(sql, params)?.iter().map(|row| row.get(0)).collect()
    }

    /// Several statements without parameters, for migrations.
    pub fn batch(&mut self, sql: &str) -> Result<()> {
        let done = match &mut self.handle {
            Handle::Sqlite(c) => sqlite::batch(c, sql),
            Handle::Postgres(t) => t.batch(sql),
        };
        self.note(done)
    }

    /// Runs `f` so that its failure undoes only what it did, and the transaction goes on.
    pub fn savepoint<T, E: From<Error>>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.batch("SAVEPOINT attempt")?;
        let changes = self.changes.len();
        match f(self) {
            Ok(value) => {
                self.batch("RELEASE SAVEPOINT attempt")?;
                Ok(value)
            }
            Err(error) => {
                self.changes.truncate(changes);
                self.batch("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt")?;
                Err(error)
            }
        }
    }

    /// Records that the object `key` of the kind `topic` is not what it was; the nodes and caches that follow
    /// [`Database::feed`] see it once the transaction is committed. The same pair twice counts once.
    pub fn changed(&mut self, topic: &'static str, key: &str) {
        if !self.changes.iter().any(|c| c.topic == topic && c.key == key) {
            self.changes.push(Change { sequence: 0, topic: topic.into(), key: key.into() });
        }
    }

    fn note<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(Error::Serialization) = &done {
            self.serialization_failure = true;
        }
        done
    }

    fn write_changes(&mut self) -> Result<usize> {
        let changes = std::mem::take(&mut self.changes);
        feed::record(self, &changes)?;
        Ok(changes.len())
    }
}

/// Microseconds since the epoch, now: the unit of every time in the database.
pub fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Runs what may wait without holding up a tokio worker. Outside a multi-threaded runtime it is a plain call.
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current() {
        Ok(h) if h.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(f),
        _ => f(),
    }
}
