//! A database that is watched, and connected to again when the connection breaks.

use crate::Error;
use crate::jsonrpc::Rpc;
use crate::replica::{Replica, parse_updates};
use crate::transaction::{Answer, Transaction, parse_answers};
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where a database listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(p) => write!(f, "unix:{}", p.display()),
            Endpoint::Tcp(a) => write!(f, "tcp:{a}"),
        }
    }
}

impl Endpoint {
    async fn open(&self, notify: impl FnMut(&str, Value) + Send + 'static) -> Result<Rpc, Error> {
        let failed = |source| Error::Connect {
            endpoint: self.to_string(),
            source,
        };
        match self {
            Endpoint::Unix(p) => Ok(Rpc::new(UnixStream::connect(p).await.map_err(failed)?, notify)),
            Endpoint::Tcp(a) => Ok(Rpc::new(TcpStream::connect(a).await.map_err(failed)?, notify)),
        }
    }
}

struct Inner {
    endpoint: Endpoint,
    name: String,
    monitor: Value,
    replica: RwLock<Replica>,
    rpc: Mutex<Option<Rpc>>,
    /// Counts changes of the replica and of the connection.
    changed: watch::Sender<u64>,
}

impl Inner {
    fn rpc(&self) -> Result<Rpc, Error> {
        self.rpc
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or(Error::Disconnected)
    }

    fn set_rpc(&self, rpc: Option<Rpc>) {
        *self.rpc.lock().unwrap_or_else(PoisonError::into_inner) = rpc;
        self.changed.send_modify(|n| *n += 1);
    }

    /// Connects, watches, and takes over what is there in place of what was known.
    async fn connect(self: &Arc<Inner>) -> Result<Rpc, Error> {
        // Updates can come before the answer to "monitor" has been taken over; they wait here.
        let early: Arc<Mutex<Option<Vec<Value>>>> = Arc::new(Mutex::new(Some(Vec::new())));
        let (weak, before) = (Arc::downgrade(self), early.clone());
        let rpc = self
            .endpoint
            .open(move |method, params| {
                if method != "update" {
                    return;
                }
                let Some(update) = params.get(1) else { return };
                match before.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                    Some(waiting) => waiting.push(update.clone()),
                    None => apply(&weak, update),
                }
            })
            .await?;
        let all = rpc.call("monitor", json!([self.name, "replica", self.monitor])).await?;
        let mut fresh = Replica::default();
        fresh.apply(parse_updates(&all)?);
        let mut waiting = early.lock().unwrap_or_else(PoisonError::into_inner);
        for update in waiting.take().unwrap_or_default() {
            fresh.apply(parse_updates(&update)?);
        }
        *self.replica.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        drop(waiting);
        self.set_rpc(Some(rpc.clone()));
        Ok(rpc)
    }
}

fn apply(inner: &Weak<Inner>, update: &Value) {
    let Some(inner) = inner.upgrade() else { return };
    match parse_updates(update) {
        Ok(updates) => {
            inner
                .replica
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .apply(updates);
            inner.changed.send_modify(|n| *n += 1);
        }
        Err(e) => tracing::warn!("skipping an update of the database: {e}"),
    }
}

/// Ends the task when the last handle goes.
struct Task(tokio::task::AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A database, with a replica of what is watched. Clones share both.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
    _task: Arc<Task>,
}

impl Database {
    /// Connects, and watches these columns of these tables. When the connection breaks later it is made again in the background.
    ///
    /// # Errors
    /// If the first connection fails.
    pub async fn connect(endpoint: Endpoint, name: &str, watched: &[(&str, &[&str])]) -> Result<Database, Error> {
        let monitor = watched
            .iter()
            .map(|(t, c)| ((*t).to_owned(), json!({"columns": c})))
            .collect();
        let inner = Arc::new(Inner {
            endpoint,
            name: name.to_owned(),
            monitor: Value::Object(monitor),
            replica: RwLock::default(),
            rpc: Mutex::default(),
            changed: watch::channel(0).0,
        });
        let rpc = inner.connect().await?;
        let task = tokio::spawn(keep_connected(Arc::downgrade(&inner), rpc));
        Ok(Database {
            inner,
            _task: Arc::new(Task(task.abort_handle())),
        })
    }

    /// Names of the databases of the server.
    ///
    /// # Errors
    /// If the server cannot be talked to.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let v = self.inner.rpc()?.call("list_dbs", json!([])).await?;
        let names = v
            .as_array()
            .map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        names.ok_or_else(|| Error::Protocol(format!("{v} is no list of databases")))
    }

    /// The schema, as the server writes it.
    ///
    /// # Errors
    /// If the server cannot be talked to.
    pub async fn schema(&self) -> Result<Value, Error> {
        self.inner.rpc()?.call("get_schema", json!([self.inner.name])).await
    }

    /// Does the operations, all or none. What they changed is in the replica when this returns.
    ///
    /// # Errors
    /// If the database refuses, or there is no connection. When the connection breaks meanwhile, whether they were done is not known.
    pub async fn transact(&self, t: Transaction) -> Result<Vec<Answer>, Error> {
        let v = self.inner.rpc()?.call("transact", t.params(&self.inner.name)).await?;
        parse_answers(&v)
    }

    /// Looks at the replica.
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.inner.replica.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a connection at the moment.
    pub fn is_connected(&self) -> bool {
        self.inner.rpc().is_ok()
    }

    /// Counts changes of the replica and of the connection.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Looks at the replica, now and after every change, until there is something to see.
    ///
    /// # Errors
    /// If that takes longer than `within`; `what` is for the message.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut(&Replica) -> Option<T>,
    ) -> Result<T, Error> {
        let mut changes = self.changes();
        let search = async {
            loop {
                changes.mark_unchanged();
                if let Some(found) = self.read(&mut look) {
                    return found;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(within, search)
            .await
            .map_err(|_| Error::Timeout(what.to_owned()))
    }
}

async fn keep_connected(inner: Weak<Inner>, mut rpc: Rpc) {
    loop {
        rpc.ended().await;
        match inner.upgrade() {
            Some(inner) => inner.set_rpc(None),
            None => return,
        }
        let mut pause = FIRST_PAUSE;
        rpc = loop {
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let Some(inner) = inner.upgrade() else { return };
            match inner.connect().await {
                Ok(rpc) => break rpc,
                Err(e) => tracing::debug!("{e}"),
            }
        };
    }
}
