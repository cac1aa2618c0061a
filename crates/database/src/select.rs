//! Lists: filters, sort keys and markers put together without writing numbers by hand.

use crate::{Result, Row, Tx, Value};

/// The direction of one sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// A SELECT under construction. Conditions are written with bare `?`, which are numbered as they come.
#[derive(Clone, Debug)]
pub struct Select {
    columns: String,
    from: String,
    conditions: Vec<String>,
    params: Vec<Value>,
    order: Vec<(String, Direction)>,
    limit: Option<u64>,
    offset: Option<u64>,
}

impl Select {
    /// `SELECT columns FROM from`, `from` being a table with its joins.
    pub fn new(columns: impl Into<String>, from: impl Into<String>) -> Select {
        Select {
            columns: columns.into(),
            from: from.into(),
            conditions: Vec::new(),
            params: Vec::new(),
            order: Vec::new(),
            limit: None,
            offset: None,
        }
    }

    /// A condition that must hold too; each `?` in it takes the next of `params`.
    pub fn filter(&mut self, condition: &str, params: &[Value]) -> &mut Select {
        debug_assert_eq!(condition.matches('?').count(), params.len(), "placeholders of {condition}");
        let numbered = self.number(condition);
        self.conditions.push(numbered);
        self.params.extend_from_slice(params);
        self
    }

    fn number(&self, condition: &str) -> String {
        let mut out = String::with_capacity(condition.len() + 8);
        let mut next = self.params.len();
        for c in condition.chars() {
            out.push(c);
            if c == '?' {
                next += 1;
                out.push_str(&next.to_string());
            }
        }
        out
    }

    /// `column` is one of `values`; nothing is, where the list is empty.
    pub fn filter_in(&mut self, column: &str, values: &[Value]) -> &mut Select {
        if values.is_empty() {
            self.conditions.push("1 = 0".into());
            return self;
        }
        if let [one] = values {
            return self.filter(&format!("{column} = ?"), std::slice::from_ref(one));
        }
        let places = vec!["?"; values.len()].join(", ");
        self.filter(&format!("{column} IN ({places})"), values)
    }

    /// Adds a sort key (NULLs sort as smallest on both engines).
    pub fn order(&mut self, column: &str, direction: Direction) -> &mut Select {
        self.order.push((column.into(), direction));
        self
    }

    /// Only what comes after the row whose sort keys have these values, in the order of the [`Select::order`] calls.
    /// Together the keys must be unique. NULL counts as smaller than any value.
    pub fn after(&mut self, marker: &[Value]) -> &mut Select {
        let keys: Vec<(String, Direction)> = self.order.iter().take(marker.len()).cloned().collect();
        let mut alternatives = Vec::new();
        let mut params = Vec::new();
        for (i, ((column, direction), value)) in keys.iter().zip(marker).enumerate() {
            let beyond = match (direction, value) {
                (Direction::Ascending, Value::Null) => format!("{column} IS NOT NULL"),
                (Direction::Descending, Value::Null) => continue,
                (Direction::Ascending, _) => format!("{column} > ?"),
                (Direction::Descending, _) => format!("({column} < ? OR {column} IS NULL)"),
            };
            let mut terms = Vec::new();
            for ((column, _), value) in keys.iter().zip(marker).take(i) {
                if matches!(value, Value::Null) {
                    terms.push(format!("{column} IS NULL"));
                } else {
                    terms.push(format!("{column} = ?"));
                    params.push(value.clone());
                }
            }
            if !matches!(value, Value::Null) {
                params.push(value.clone());
            }
            terms.push(beyond);
            alternatives.push(format!("({})", terms.join(" AND ")));
        }
        if alternatives.is_empty() {
            self.conditions.push("1 = 0".into());
            return self;
        }
        self.filter(&format!("({})", alternatives.join(" OR ")), &params)
    }

    /// At most this many rows.
    pub fn limit(&mut self, limit: u64) -> &mut Select {
        self.limit = Some(limit);
        self
    }

    /// Leaves out the first rows.
    pub fn offset(&mut self, offset: u64) -> &mut Select {
        self.offset = Some(offset);
        self
    }

    /// The statement as it would run.
    pub fn sql(&self, tx: &Tx<'_>) -> String {
        let mut sql = format!("SELECT {} FROM {}", self.columns, self.from);
        if !self.conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&self.conditions.join(" AND "));
        }
        for (i, (column, direction)) in self.order.iter().enumerate() {
            sql.push_str(if i == 0 { " ORDER BY " } else { ", " });
            sql.push_str(column);
            let postgres = matches!(tx.handle, crate::Handle::Postgres(_));
            sql.push_str(match (direction, postgres) {
                (Direction::Ascending, false) => "",
                (Direction::Descending, false) => " DESC",
                (Direction::Ascending, true) => " NULLS FIRST",
                (Direction::Descending, true) => " DESC NULLS LAST",
            });
        }
        if let Some(limit) = self.limit {
            sql.push_str(&format!(" LIMIT {limit}"));
        } else if self.offset.is_some() && matches!(tx.handle, crate::Handle::Sqlite(_)) {
            sql.push_str(" LIMIT -1");
        }
        if let Some(offset) = self.offset {
            sql.push_str(&format!(" OFFSET {offset}"));
        }
        sql
    }

    /// The rows.
    pub fn rows(&self, tx: &mut Tx<'_>) -> Result<Vec<Row>> {
        let sql = self.sql(tx);
        tx.query(&sql, &self.params)
    }

    /// How many rows there are without limit and offset.
    pub fn count(&self, tx: &mut Tx<'_>) -> Result<i64> {
        let mut sql = format!("SELECT COUNT(*) FROM {}", self.from);
        if !self.conditions.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&self.conditions.join(" AND "));
        }
        Ok(tx.scalar(&sql, &self.params)?.unwrap_or(0))
    }
}
