//! Operations that are done together or not at all (RFC 7047, section 5.2).

use crate::Error;
use crate::value::{Atom, Datum, Row, parse_row};
use serde_json::{Value, json};
use uuid::Uuid;

/// Which rows an operation is about.
#[derive(Debug, Clone)]
pub enum Condition {
    /// Every row.
    All,
    /// The row with this identity.
    Is(Uuid),
    /// Rows whose column has this value.
    Equal(String, Datum),
}

impl Condition {
    fn json(&self) -> Value {
        match self {
            Condition::All => json!([]),
            Condition::Is(u) => json!([["_uuid", "==", Atom::Uuid(*u).json()]]),
            Condition::Equal(column, value) => json!([[column, "==", value.json()]]),
        }
    }
}

/// Operations, in order.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    operations: Vec<Value>,
    names: usize,
}

impl Transaction {
    /// Without operations.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Inserts a row; the result stands for it in later operations.
    pub fn insert(&mut self, table: &str, row: &Row) -> Atom {
        self.names += 1;
        let name = format!("row{}", self.names);
        self.operations
            .push(json!({"op": "insert", "table": table, "row": row.json(), "uuid-name": name}));
        Atom::Named(name)
    }

    /// Sets columns.
    pub fn update(&mut self, table: &str, which: &Condition, row: &Row) {
        self.operations
            .push(json!({"op": "update", "table": table, "where": which.json(), "row": row.json()}));
    }

    /// Changes a column by `insert`, `delete`, `+=` and so on.
    pub fn mutate(&mut self, table: &str, which: &Condition, column: &str, mutator: &str, value: &Datum) {
        // "insert" and "delete" want a set, even of one.
        let value = match value {
            Datum::Set(atoms) if mutator == "insert" || mutator == "delete" => {
                json!(["set", atoms.iter().map(Atom::json).collect::<Vec<_>>()])
            }
            v => v.json(),
        };
        let mutations = json!([[column, mutator, value]]);
        self.operations
            .push(json!({"op": "mutate", "table": table, "where": which.json(), "mutations": mutations}));
    }

    /// Removes rows.
    pub fn delete(&mut self, table: &str, which: &Condition) {
        self.operations
            .push(json!({"op": "delete", "table": table, "where": which.json()}));
    }

    /// Reads rows; the place of the answer among the answers is returned.
    pub fn select(&mut self, table: &str, which: &Condition, columns: &[&str]) -> usize {
        self.operations
            .push(json!({"op": "select", "table": table, "where": which.json(), "columns": columns}));
        self.operations.len() - 1
    }

    /// Goes on only if the columns of these rows are (`until` "==") or are not ("!=") so at this moment.
    pub fn wait(&mut self, table: &str, which: &Condition, until: &str, row: &Row) {
        let columns: Vec<&String> = row.0.keys().collect();
        self.operations.push(
            json!({"op": "wait", "timeout": 0, "table": table, "where": which.json(),
            "columns": columns, "until": until, "rows": [row.json()]}),
        );
    }

    /// For the database's log.
    pub fn comment(&mut self, text: &str) {
        self.operations.push(json!({"op": "comment", "comment": text}));
    }

    pub(crate) fn params(self, database: &str) -> Value {
        let mut all = vec![json!(database)];
        all.extend(self.operations);
        Value::Array(all)
    }
}

/// What an operation yields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Identity of an inserted row.
    pub uuid: Option<Uuid>,
    /// How many rows were changed.
    pub count: u64,
    /// Rows that were selected.
    pub rows: Vec<Row>,
}

/// Reads the result of a transaction.
pub(crate) fn parse_answers(v: &Value) -> Result<Vec<Answer>, Error> {
    let list = v
        .as_array()
        .ok_or_else(|| Error::Protocol(format!("{v} is no list of results")))?;
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    // Operations behind the one that failed have null; one at the end can stand for the whole (a constraint).
    if let Some((error, failed)) = list.iter().find_map(|v| Some((text(v, "error")?, v))) {
        return Err(Error::Refused {
            error,
            details: text(failed, "details").unwrap_or_default(),
        });
    }
    list.iter()
        .map(|v| {
            let uuid = v.get("uuid").and_then(|u| Uuid::parse_str(u.get(1)?.as_str()?).ok());
            let count = v.get("count").and_then(Value::as_u64).unwrap_or(0);
            let rows = v
                .get("rows")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            Ok(Answer {
                uuid,
                count,
                rows: rows.iter().map(parse_row).collect::<Result<_, _>>()?,
            })
        })
        .collect()
}
