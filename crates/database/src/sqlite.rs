//! SQLite: readers beside one writer, WAL, and commits that several transactions share.
//!
//! The writer holds one connection. A transaction is a savepoint inside an outer `BEGIN IMMEDIATE`; when it is done and
//! others are already waiting for their turn, it leaves the outer transaction open for them and waits, so that one fsync
//! answers the whole group. The last of a group commits.

use crate::{Change, Error, Handle, Result, Row, Tx, Value};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A committed answer survives a power cut.
    Full,
    /// For tests.
    None,
}

pub(crate) struct Sqlite {
    path: PathBuf,
    durability: Durability,
    writer: Mutex<Writer>,
    waiting: AtomicUsize,
    readers: Mutex<Vec<Connection>>,
    _folder: Option<tempfile::TempDir>,
}

struct Writer {
    connection: Connection,
    /// Transactions that are done but not committed yet share this.
    group: Option<Arc<Group>>,
    members: usize,
}

#[derive(Default)]
struct Group {
    outcome: Mutex<Option<Result<(), String>>>,
    done: Condvar,
}

/// A group is committed at this size even when more are waiting, so that the first never waits long.
const LARGEST_GROUP: usize = 64;
const STATEMENT_CACHE: usize = 512;

impl Sqlite {
    pub(crate) fn open(path: &Path, durability: Durability) -> Result<Sqlite> {
        let connection = connect(path, durability, true)?;
        Ok(Sqlite {
            path: path.into(),
            durability,
            writer: Mutex::new(Writer { connection, group: None, members: 0 }),
            waiting: AtomicUsize::new(0),
            readers: Mutex::new(Vec::new()),
            _folder: None,
        })
    }

    pub(crate) fn temporary() -> Result<Sqlite> {
        let folder = tempfile::Builder::new()
            .prefix("ferrostack-db-")
            .tempdir()
            .map_err(|e| Error::Open { url: "a temporary folder".into(), reason: e.to_string() })?;
        let mut db = Sqlite::open(&folder.path().join("test.db"), Durability::None)?;
        db._folder = Some(folder);
        Ok(db)
    }

    pub(crate) fn read<T, E: From<Error>>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let pooled = self.readers.lock().pop();
        let connection = match pooled {
            Some(c) => c,
            None => connect(&self.path, self.durability, false)?,
        };
        batch(&connection, "BEGIN")?;
        let mut tx = Tx { handle: Handle::Sqlite(&connection), changes: Vec::new(), serialization_failure: false };
        let result = f(&mut tx);
        drop(tx);
        batch(&connection, "COMMIT")?;
        self.readers.lock().push(connection);
        result
    }

    pub(crate) fn write<T, E: From<Error>>(
        &self,
        f: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<(T, usize), E> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut writer = self.writer.lock();
        self.waiting.fetch_sub(1, Ordering::SeqCst);

        if writer.group.is_none() {
            batch(&writer.connection, "BEGIN IMMEDIATE")?;
            writer.group = Some(Arc::default());
        }
        // A panic in `f` must undo its savepoint, or the next member of the group would commit half of it.
        let outcome = {
            let connection = &writer.connection;
            batch(connection, "SAVEPOINT member")?;
            let mut tx = Tx { handle: Handle::Sqlite(connection), changes: Vec::<Change>::new(), serialization_failure: false };
            let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let value = f(&mut tx)?;
                let changes = tx.write_changes()?;
                Ok::<_, E>((value, changes))
            }));
            drop(tx);
            match &run {
                Ok(Ok(_)) => batch(connection, "RELEASE SAVEPOINT member")?,
                _ => batch(connection, "ROLLBACK TO SAVEPOINT member; RELEASE SAVEPOINT member")?,
            }
            run
        };
        let succeeded = matches!(outcome, Ok(Ok(_)));
        let group = if succeeded {
            writer.members += 1;
            writer.group.clone()
        } else {
            None
        };
        let others_follow = self.waiting.load(Ordering::SeqCst) > 0 && writer.members < LARGEST_GROUP;
        if others_follow {
            drop(writer);
        } else {
            commit(&mut writer);
            drop(writer);
        }
        match outcome {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(Err(error)) => Err(error),
            Ok(Ok(value)) => {
                let Some(group) = group else { return Ok(value) };
                let mut done = group.outcome.lock();
                while done.is_none() {
                    group.done.wait(&mut done);
                }
                match done.as_ref() {
                    Some(Err(reason)) => Err(Error::Commit(reason.clone()).into()),
                    _ => Ok(value),
                }
            }
        }
    }

    pub(crate) fn check(&self) -> Result<Vec<String>> {
        self.read(|tx| {
            let mut found: Vec<String> = tx.column("PRAGMA integrity_check", &[])?;
            found.retain(|line| line != "ok");
            for row in tx.query("PRAGMA foreign_key_check", &[])? {
                let table: String = row.get(0)?;
                let parent: String = row.get(2)?;
                found.push(format!("a row of {table} points to a row of {parent} that is not there"));
            }
            Ok(found)
        })
    }
}

fn commit(writer: &mut Writer) {
    let Some(group) = writer.group.take() else { return };
    writer.members = 0;
    let outcome = batch(&writer.connection, "COMMIT").map_err(|e| {
        tracing::error!(error = %e, "a group of transactions could not be committed");
        // Nothing of the group is there; the connection must not stay in its transaction.
        let _ = batch(&writer.connection, "ROLLBACK");
        e.to_string()
    });
    *group.outcome.lock() = Some(outcome);
    group.done.notify_all();
}

fn connect(path: &Path, durability: Durability, writer: bool) -> Result<Connection> {
    let open = |reason: String| Error::Open { url: path.display().to_string(), reason };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let c = Connection::open_with_flags(path, flags).map_err(|e| open(e.to_string()))?;
    let synchronous = if durability == Durability::Full { "FULL" } else { "OFF" };
    c.execute_batch(&format!(
        "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000; PRAGMA case_sensitive_like = ON; PRAGMA mmap_size = 67108864;"
    ))
    .map_err(|e| open(e.to_string()))?;
    if !writer {
        c.execute_batch("PRAGMA query_only = ON").map_err(|e| open(e.to_string()))?;
    }
    c.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    add_regexp(&c).map_err(|e| open(e.to_string()))?;
    Ok(c)
}

/// `x REGEXP pattern`, which SQLite has a syntax for but no function.
fn add_regexp(c: &Connection) -> rusqlite::Result<()> {
    use rusqlite::functions::FunctionFlags;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    c.create_scalar_function("regexp", 2, flags, |ctx| {
        type Failure = Box<dyn std::error::Error + Send + Sync>;
        let pattern = ctx.get_or_create_aux(0, |v| -> Result<regex::Regex, Failure> { Ok(regex::Regex::new(v.as_str()?)?) })?;
        Ok(ctx.get_raw(1).as_str_or_null()?.is_some_and(|text| pattern.is_match(text)))
    })
}

fn bind(statement: &mut rusqlite::CachedStatement<'_>, params: &[Value]) -> rusqlite::Result<()> {
    for (i, value) in params.iter().enumerate() {
        match value {
            Value::Null => statement.raw_bind_parameter(i + 1, rusqlite::types::Null)?,
            Value::Int(v) => statement.raw_bind_parameter(i + 1, v)?,
            Value::Real(v) => statement.raw_bind_parameter(i + 1, v)?,
            Value::Text(v) => statement.raw_bind_parameter(i + 1, v)?,
            Value::Blob(v) => statement.raw_bind_parameter(i + 1, v)?,
        }
    }
    Ok(())
}

pub(crate) fn execute(c: &Connection, sql: &str, params: &[Value]) -> Result<u64> {
    let run = || -> rusqlite::Result<u64> {
        let mut statement = c.prepare_cached(sql)?;
        bind(&mut statement, params)?;
        Ok(statement.raw_execute()? as u64)
    };
    run().map_err(|e| Error::sqlite(sql, e))
}

pub(crate) fn query(c: &Connection, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
    use rusqlite::types::ValueRef;
    let run = || -> rusqlite::Result<Vec<Row>> {
        let mut statement = c.prepare_cached(sql)?;
        bind(&mut statement, params)?;
        let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_string).collect();
        let mut out = Vec::new();
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let mut values = Vec::with_capacity(columns.len());
            for i in 0..columns.len() {
                values.push(match row.get_ref(i)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(v) => Value::Int(v),
                    ValueRef::Real(v) => Value::Real(v),
                    ValueRef::Text(v) => Value::Text(String::from_utf8_lossy(v).into_owned()),
                    ValueRef::Blob(v) => Value::Blob(v.to_vec()),
                });
            }
            out.push(Row { columns: columns.clone(), values });
        }
        Ok(out)
    };
    run().map_err(|e| Error::sqlite(sql, e))
}

pub(crate) fn batch(c: &Connection, sql: &str) -> Result<()> {
    c.execute_batch(sql).map_err(|e| Error::sqlite(sql, e))
}
