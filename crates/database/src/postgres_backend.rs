//! PostgreSQL through the synchronous client: a small pool, SERIALIZABLE writers, statements prepared once per connection.

use crate::{Error, Handle, Result, Row, Tx, Value};
use parking_lot::{Condvar, Mutex};
use postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, IsolationLevel, NoTls, Statement};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) struct Postgres {
    config: postgres::Config,
    shown: String,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Connection>,
    open: usize,
}

struct Connection {
    client: Client,
    statements: HashMap<String, (Statement, Arc<[String]>)>,
}

/// Connections of one process. PostgreSQL's own default limit is 100 for all.
const LARGEST_POOL: usize = 16;
/// How often a transaction that lost against another is run again before it fails.
const RETRIES: u32 = 50;
/// Writers that have lost against another queue up for their next attempt, so that a crowd goes through one by one
/// instead of in ever new collisions. Readers of the table are not held up.
const QUEUE: &str = "LOCK TABLE schema_migrations IN EXCLUSIVE MODE";

pub(crate) struct Transaction<'a> {
    inner: postgres::Transaction<'a>,
    statements: &'a mut HashMap<String, (Statement, Arc<[String]>)>,
}

impl Postgres {
    pub(crate) fn open(url: &str) -> Result<Postgres> {
        let shown = url.rsplit_once('@').map_or(url, |(_, host)| host).to_string();
        let config: postgres::Config =
            url.parse().map_err(|e: postgres::Error| Error::Open { url: shown.clone(), reason: e.to_string() })?;
        let db = Postgres { config, shown, pool: Mutex::default(), returned: Condvar::new() };
        let first = crate::blocking(|| db.connect())?;
        let mut pool = db.pool.lock();
        pool.idle.push(first);
        pool.open = 1;
        drop(pool);
        Ok(db)
    }

    fn connect(&self) -> Result<Connection> {
        use std::error::Error as _;
        let client = self.config.connect(NoTls).map_err(|e| Error::Open {
            url: self.shown.clone(),
            reason: e.source().map_or_else(|| e.to_string(), |cause| format!("{e}: {cause}")),
        })?;
        Ok(Connection { client, statements: HashMap::new() })
    }

    fn take(&self) -> Result<Connection> {
        let mut pool = self.pool.lock();
        loop {
            while let Some(c) = pool.idle.pop() {
                if !c.client.is_closed() {
                    return Ok(c);
                }
                pool.open -= 1;
            }
            if pool.open < LARGEST_POOL {
                pool.open += 1;
                drop(pool);
                return self.connect().inspect_err(|_| self.pool.lock().open -= 1);
            }
            self.returned.wait(&mut pool);
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut pool = self.pool.lock();
        if connection.client.is_closed() {
            pool.open -= 1;
        } else {
            pool.idle.push(connection);
        }
        self.returned.notify_one();
    }

    fn run<T, E: From<Error>>(
        &self,
        connection: &mut Connection,
        read_only: bool,
        queued: bool,
        f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Attempt<T, E> {
        let level = if read_only { IsolationLevel::RepeatableRead } else { IsolationLevel::Serializable };
        let Connection { client, statements } = connection;
        let begun = client.build_transaction().isolation_level(level).read_only(read_only).start();
        let mut inner = match begun {
            Ok(inner) => inner,
            Err(e) => return Attempt::Failed(Error::postgres("BEGIN", e).into()),
        };
        // Taken before the first statement, so that the snapshot is made when the turn has come.
        if queued && let Err(e) = inner.batch_execute(QUEUE) {
            return match Error::postgres(QUEUE, e) {
                Error::Serialization => Attempt::Again(Error::Serialization.into()),
                e => Attempt::Failed(e.into()),
            };
        }
        let handle = Handle::Postgres(Transaction { inner, statements });
        let mut tx = Tx { handle, changes: Vec::new(), serialization_failure: false };
        let value = f(&mut tx).and_then(|value| Ok((value, tx.write_changes()?)));
        let lost = tx.serialization_failure;
        let Handle::Postgres(Transaction { inner, .. }) = tx.handle else { unreachable!("made above") };
        match value {
            Ok(value) => match inner.commit().map_err(|e| Error::postgres("COMMIT", e)) {
                Ok(()) => Attempt::Done(value),
                Err(Error::Serialization) => Attempt::Again(Error::Serialization.into()),
                Err(e) => Attempt::Failed(e.into()),
            },
            Err(e) => {
                if let Err(e) = inner.rollback() {
                    tracing::warn!(error = %e, "a transaction could not be rolled back");
                }
                if lost { Attempt::Again(e) } else { Attempt::Failed(e) }
            }
        }
    }

    pub(crate) fn read<T, E: From<Error>>(&self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut connection = self.take()?;
        let outcome = self.run(&mut connection, true, false, f);
        self.give_back(connection);
        match outcome {
            Attempt::Done((value, _)) => Ok(value),
            Attempt::Again(e) | Attempt::Failed(e) => Err(e),
        }
    }

    pub(crate) fn write<T, E: From<Error>>(
        &self,
        f: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<(T, usize), E> {
        let mut connection = self.take()?;
        let mut attempt = 0;
        let outcome = loop {
            attempt += 1;
            match self.run(&mut connection, false, attempt > 1, &mut *f) {
                Attempt::Again(_) if attempt < RETRIES => continue,
                other => break other,
            }
        };
        self.give_back(connection);
        match outcome {
            Attempt::Done(done) => Ok(done),
            Attempt::Again(e) | Attempt::Failed(e) => Err(e),
        }
    }
}

enum Attempt<T, E> {
    Done((T, usize)),
    Again(E),
    Failed(E),
}

impl Transaction<'_> {
    fn statement(&mut self, sql: &str) -> Result<(Statement, Arc<[String]>)> {
        if let Some(found) = self.statements.get(sql) {
            return Ok(found.clone());
        }
        let prepared = self.inner.prepare(&translate(sql)).map_err(|e| Error::postgres(sql, e))?;
        let columns: Arc<[String]> = prepared.columns().iter().map(|c| c.name().to_string()).collect();
        self.statements.insert(sql.to_string(), (prepared.clone(), columns.clone()));
        Ok((prepared, columns))
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let (statement, _) = self.statement(sql)?;
        self.inner.execute(&statement, &borrowed(params)).map_err(|e| Error::postgres(sql, e))
    }

    pub(crate) fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let (statement, columns) = self.statement(sql)?;
        let rows = self.inner.query(&statement, &borrowed(params)).map_err(|e| Error::postgres(sql, e))?;
        rows.iter()
            .map(|row| {
                let values = (0..columns.len())
                    .map(|i| row.try_get::<_, Value>(i).map_err(|e| Error::postgres(sql, e)))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Row { columns: columns.clone(), values })
            })
            .collect()
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        self.inner.batch_execute(&translate(sql)).map_err(|e| Error::postgres(sql, e))
    }
}

fn borrowed(params: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|v| v as &(dyn ToSql + Sync)).collect()
}

/// `?n` becomes `$n`, `REGEXP` becomes `~`; what stands in quotes stays.
fn translate(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut quoted = false;
    for c in sql.chars() {
        if c == '\'' {
            quoted = !quoted;
        }
        out.push(if c == '?' && !quoted { '$' } else { c });
    }
    if out.contains(" REGEXP ") { out.replace(" REGEXP ", " ~ ") } else { out }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(v) => match *ty {
                Type::INT4 => i32::try_from(*v)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*v)?.to_sql(ty, out),
                Type::FLOAT8 => (*v as f64).to_sql(ty, out),
                Type::BOOL => (*v != 0).to_sql(ty, out),
                Type::TEXT | Type::VARCHAR => v.to_string().to_sql(ty, out),
                _ => v.to_sql(ty, out),
            },
            Value::Real(v) => v.to_sql(ty, out),
            Value::Text(v) => v.to_sql(ty, out),
            Value::Blob(v) => v.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        Ok(match *ty {
            Type::INT8 => Value::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Value::Int(i32::from_sql(ty, raw)?.into()),
            Type::INT2 => Value::Int(i16::from_sql(ty, raw)?.into()),
            Type::BOOL => Value::Int(bool::from_sql(ty, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(ty, raw)?),
            Type::FLOAT4 => Value::Real(f32::from_sql(ty, raw)?.into()),
            Type::BYTEA => Value::Blob(raw.to_vec()),
            Type::VOID => Value::Null,
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN => Value::Text(<&str>::from_sql(ty, raw)?.to_string()),
            ref other => return Err(format!("no conversion from the PostgreSQL type {other}").into()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Value::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
