//! What is watched, as it is in the database.

use crate::Error;
use crate::value::{Row, parse_row};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Rows of a table.
pub type Table = HashMap<Uuid, Row>;

/// Watched tables with their watched columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replica(BTreeMap<String, Table>);

/// For each table and row: what the row is now, or that it is gone.
pub type Updates = Vec<(String, Uuid, Option<Row>)>;

/// Reads `<table-updates>` of RFC 7047, section 4.1.6.
///
/// # Errors
/// If the value has another shape.
pub fn parse_updates(v: &Value) -> Result<Updates, Error> {
    let object = |v: &Value| {
        v.as_object()
            .cloned()
            .ok_or_else(|| Error::Protocol(format!("{v} is no table of updates")))
    };
    let mut out = Vec::new();
    for (table, rows) in object(v)? {
        for (uuid, update) in object(&rows)? {
            let uuid = Uuid::parse_str(&uuid).map_err(|e| Error::Protocol(format!("{uuid}: {e}")))?;
            // A row that changed comes whole in "new"; one that went has only "old".
            let new = object(&update)?.get("new").map(parse_row).transpose()?;
            out.push((table.clone(), uuid, new));
        }
    }
    Ok(out)
}

static NO_ROWS: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);

impl Replica {
    pub(crate) fn apply(&mut self, updates: Updates) {
        for (table, uuid, row) in updates {
            let rows = self.0.entry(table).or_default();
            match row {
                Some(row) => {
                    rows.insert(uuid, row);
                }
                None => {
                    rows.remove(&uuid);
                }
            }
        }
    }

    /// Rows of a table.
    pub fn table(&self, name: &str) -> &Table {
        self.0.get(name).unwrap_or(&NO_ROWS)
    }

    /// A row by its identity.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.table(table).get(&uuid)
    }

    /// A row by the text in one of its columns.
    pub fn find(&self, table: &str, column: &str, text: &str) -> Option<(Uuid, &Row)> {
        self.table(table)
            .iter()
            .find(|(_, r)| r.text(column) == Some(text))
            .map(|(u, r)| (*u, r))
    }
}
