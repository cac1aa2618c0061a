//! The change feed: what was changed, in commit order, for those who keep something in line with the database.

use crate::{Result, Tx, params};
use tokio::sync::watch;

/// One recorded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its place in commit order; larger is later.
    pub sequence: i64,
    /// The kind of object, for example `port`.
    pub topic: String,
    /// Which object, by id.
    pub key: String,
}

/// Wakes who waits for changes. The changes themselves are read with [`Feed::since`].
pub struct Feed {
    sender: watch::Sender<u64>,
}

/// How many changes are kept; who is further behind reads everything anew.
const KEPT: i64 = 100_000;

/// PostgreSQL's advisory lock that makes sequence order commit order.
const FEED_LOCK: i64 = 0x6665_7272_6f66_6565;

impl Feed {
    pub(crate) fn new() -> Feed {
        Feed { sender: watch::Sender::new(0) }
    }

    pub(crate) fn wake(&self) {
        self.sender.send_modify(|n| *n += 1);
    }

    /// A receiver whose `changed()` returns after commits that recorded changes in this process.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.sender.subscribe()
    }

    /// The newest sequence number, 0 where nothing was ever recorded.
    pub fn latest(tx: &mut Tx<'_>) -> Result<i64> {
        Ok(tx.scalar::<Option<i64>>("SELECT MAX(sequence) FROM changes", &[])?.flatten().unwrap_or(0))
    }

    /// The changes after `sequence`, oldest first; `None` where they are no longer all kept.
    pub fn since(tx: &mut Tx<'_>, sequence: i64) -> Result<Option<Vec<Change>>> {
        let oldest = tx.scalar::<Option<i64>>("SELECT MIN(sequence) FROM changes", &[])?.flatten();
        if oldest.is_some_and(|oldest| oldest > sequence + 1 && sequence > 0) && oldest.is_some_and(|o| o > 1) {
            return Ok(None);
        }
        tx.query("SELECT sequence, topic, key FROM changes WHERE sequence > ?1 ORDER BY sequence", &params![sequence])?
            .iter()
            .map(|row| Ok(Change { sequence: row.get(0)?, topic: row.get(1)?, key: row.get(2)? }))
            .collect::<Result<Vec<_>>>()
            .map(Some)
    }
}

pub(crate) fn record(tx: &mut Tx<'_>, changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    if let crate::Handle::Postgres(_) = tx.handle {
        tx.query("SELECT pg_advisory_xact_lock(?1)", &params![FEED_LOCK])?;
    }
    let mut newest = 0;
    for change in changes {
        newest = tx
            .scalar::<i64>("INSERT INTO changes (topic, key) VALUES (?1, ?2) RETURNING sequence", &params![&change.topic, &change.key])?
            .unwrap_or(0);
    }
    if newest % 1000 < changes.len() as i64 {
        tx.execute("DELETE FROM changes WHERE sequence < ?1", &params![newest - KEPT])?;
    }
    Ok(())
}
