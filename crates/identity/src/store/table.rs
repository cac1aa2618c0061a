//! One description of a table gives its reads and writes: Identity keeps whatever attributes a client sends, so its objects are maps, the
//! known attributes being columns and the rest one JSON document.

use crate::{Error, Result};
use database::{Direction, Row, Select, Tx, Value as Sql};
use serde_json::{Map, Value};

/// An object as the API shows it.
pub type Ref = Map<String, Value>;

/// How an attribute is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text of at most so many characters; 0 is no limit.
    Text(usize),
    /// As `Text`, but null is stored as the empty string, so that unique constraints see it.
    Root(usize),
    /// A boolean.
    Bool,
    /// An integer.
    Int,
    /// A JSON document.
    Json,
}

/// A table and how its rows are shown.
#[derive(Debug)]
pub struct Table {
    /// Its name in the database.
    pub name: &'static str,
    /// What upstream calls an object of it in a conflict.
    pub kind: &'static str,
    /// What upstream calls it when it is not there; with the id.
    pub missing: fn(&str) -> Error,
    /// The attributes; the first is the key.
    pub columns: &'static [(&'static str, Kind)],
    /// Whether unknown attributes are kept.
    pub extra: bool,
}

/// One filter of a list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The attribute.
    pub name: String,
    /// What it is compared with; `None` is null.
    pub value: Option<String>,
    /// `equals`, `contains`, `startswith`, `endswith`; others match everything.
    pub comparator: String,
    /// Whether case counts, for all but `equals`.
    pub case_sensitive: bool,
}

/// What a list should hold.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// All must match.
    pub filters: Vec<Filter>,
    /// The id after which to begin.
    pub marker: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Upstream's lists of users, groups and projects say `truncated` already when exactly `limit` were found.
    pub full_is_truncated: bool,
}

impl Hints {
    /// Adds an exact filter.
    pub fn equals(mut self, name: &str, value: Option<&str>) -> Hints {
        self.filters.push(Filter {
            name: name.into(),
            value: value.map(Into::into),
            comparator: "equals".into(),
            case_sensitive: false,
        });
        self
    }

    /// Whether there is an exact filter on this attribute.
    pub fn has(&self, name: &str) -> bool {
        self.filters.iter().any(|f| f.name == name && f.comparator == "equals")
    }
}

/// A list, perhaps cut off.
#[derive(Debug, Default)]
pub struct Page {
    /// The objects.
    pub refs: Vec<Ref>,
    /// Whether there are more.
    pub truncated: bool,
}

/// oslo.utils' `bool_from_string`: what is neither yes nor no counts as `default`.
pub fn bool_from_text(text: &str, default: bool) -> bool {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => true,
        "0" | "f" | "false" | "off" | "n" | "no" => false,
        _ => default,
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Bool(b) => *b,
        Value::String(text) => bool_from_text(text, true),
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::Null => false,
        Value::Array(_) | Value::Object(_) => true,
    }
}

impl Table {
    fn key(&self) -> &'static str {
        self.columns[0].0
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns
            .iter()
            .map(|(name, _)| *name)
            .chain(self.extra.then_some("extra"))
    }

    /// The select list.
    pub fn select_list(&self) -> String {
        self.names()
            .map(|name| format!("{}.{name}", self.name))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The object in a row that begins with [`Table::select_list`].
    pub fn read(&self, row: &Row) -> Result<Ref> {
        let mut object = match self.extra.then(|| row.get::<Value>(self.columns.len())).transpose()? {
            Some(Value::Object(extra)) => extra,
            _ => Map::new(),
        };
        for (i, (name, kind)) in self.columns.iter().enumerate() {
            let value = match kind {
                Kind::Text(_) => row.get::<Option<String>>(i)?.into(),
                Kind::Root(_) => row.get::<Option<String>>(i)?.filter(|text| !text.is_empty()).into(),
                Kind::Bool => row.get::<Option<bool>>(i)?.into(),
                Kind::Int => row.get::<Option<i64>>(i)?.into(),
                Kind::Json => row.get::<Value>(i)?,
            };
            object.insert((*name).into(), value);
        }
        Ok(object)
    }

    fn values(&self, object: &Ref) -> Result<Vec<Sql>> {
        let mut values = Vec::with_capacity(self.columns.len() + 1);
        for (name, kind) in self.columns {
            let value = object.get(*name).unwrap_or(&Value::Null);
            values.push(match kind {
                Kind::Text(limit) | Kind::Root(limit) => match value {
                    Value::Null if matches!(kind, Kind::Root(_)) => Sql::Text(String::new()),
                    Value::Null => Sql::Null,
                    other => {
                        let text = api::schema::python_str(other);
                        if *limit > 0 && text.chars().count() > *limit {
                            return Err(Error::Invalid(format!(
                                "String length exceeded. The length of string '{text}' exceeds the limit of column {name}(CHAR({limit}))."
                            )));
                        }
                        Sql::Text(text)
                    }
                },
                Kind::Bool if value.is_null() => Sql::Null,
                Kind::Bool => Sql::Int(truth(value).into()),
                Kind::Int => value.as_i64().into(),
                Kind::Json => Sql::Text(value.to_string()),
            });
        }
        if self.extra {
            let known = |name: &str| self.columns.iter().any(|(column, _)| *column == name);
            let extra: Map<String, Value> = object
                .iter()
                .filter(|(name, _)| !known(name) && *name != "extra")
                .map(|(n, v)| (n.clone(), v.clone()))
                .collect();
            values.push(Sql::Text(Value::Object(extra).to_string()));
        }
        Ok(values)
    }

    /// Adds a row, with further columns that are not shown.
    pub fn insert_with(&self, tx: &mut Tx<'_>, object: &Ref, hidden: &[(&'static str, Sql)]) -> Result<()> {
        let names: Vec<&str> = self.names().chain(hidden.iter().map(|(name, _)| *name)).collect();
        let mut values = self.values(object)?;
        values.extend(hidden.iter().map(|(_, value)| value.clone()));
        let places = (1..=names.len())
            .map(|n| format!("?{n}"))
            .collect::<Vec<_>>()
            .join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({places})", self.name, names.join(", "));
        tx.execute(&sql, &values).map_err(|e| self.conflict(e, object))?;
        Ok(())
    }

    /// Adds a row.
    pub fn insert(&self, tx: &mut Tx<'_>, object: &Ref) -> Result<()> {
        self.insert_with(tx, object, &[])
    }

    /// Writes every shown column of the row with the object's key.
    pub fn update(&self, tx: &mut Tx<'_>, object: &Ref) -> Result<()> {
        let sets = self
            .names()
            .enumerate()
            .skip(1)
            .map(|(i, name)| format!("{name} = ?{}", i + 1))
            .collect::<Vec<_>>()
            .join(", ");
        let sql = format!("UPDATE {} SET {sets} WHERE {} = ?1", self.name, self.key());
        let values = self.values(object)?;
        tx.execute(&sql, &values).map_err(|e| self.conflict(e, object))?;
        Ok(())
    }

    /// Upstream's text names the attributes of the object that was to be stored, not the constraint.
    fn conflict(&self, error: database::Error, object: &Ref) -> Error {
        if !matches!(error, database::Error::Unique { .. }) {
            return error.into();
        }
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let named = text("name")
            .map(|name| ("name", name))
            .or_else(|| text("id").map(|id| ("ID", id)));
        let details = match (named, text("domain_id")) {
            (Some((field, name)), Some(domain)) => {
                format!("Duplicate entry found with {field} {name} at domain ID {domain}")
            }
            (Some((field, name)), None) => format!("Duplicate entry found with {field} {name}"),
            (None, Some(domain)) => format!("Duplicate entry at domain ID {domain}"),
            (None, None) => "Duplicate entry".into(),
        };
        Error::Conflict {
            what: self.kind,
            details,
        }
    }

    /// The object with this key.
    pub fn get(&self, tx: &mut Tx<'_>, key: &str) -> Result<Ref> {
        self.find(tx, &format!("{} = ?1", self.key()), &[key.into()])?
            .ok_or_else(|| (self.missing)(key))
    }

    /// The first object that meets a condition on the table.
    pub fn find(&self, tx: &mut Tx<'_>, condition: &str, params: &[Sql]) -> Result<Option<Ref>> {
        let sql = format!("SELECT {} FROM {} WHERE {condition}", self.select_list(), self.name);
        tx.query_one(&sql, params)?
            .as_ref()
            .map(|row| self.read(row))
            .transpose()
    }

    /// All objects that meet a condition on the table, by key.
    pub fn find_all(&self, tx: &mut Tx<'_>, condition: &str, params: &[Sql]) -> Result<Vec<Ref>> {
        let sql = format!(
            "SELECT {} FROM {} WHERE {condition} ORDER BY {}",
            self.select_list(),
            self.name,
            self.key()
        );
        tx.query(&sql, params)?.iter().map(|row| self.read(row)).collect()
    }

    /// The objects with these keys, by key.
    pub fn get_many(&self, tx: &mut Tx<'_>, keys: &[String]) -> Result<Vec<Ref>> {
        let mut refs = Vec::new();
        // SQLite takes 32,766 parameters, and a plan per length is wasteful beyond that anyway.
        for keys in keys.chunks(500) {
            let values: Vec<Sql> = keys.iter().map(Sql::from).collect();
            let mut select = Select::new(self.select_list(), self.name);
            select
                .filter_in(self.key(), &values)
                .order(self.key(), Direction::Ascending);
            for row in select.rows(tx)? {
                refs.push(self.read(&row)?);
            }
        }
        Ok(refs)
    }

    /// Removes the row with this key.
    pub fn delete(&self, tx: &mut Tx<'_>, key: &str) -> Result<()> {
        let removed = tx.execute(
            &format!("DELETE FROM {} WHERE {} = ?1", self.name, self.key()),
            &[key.into()],
        )?;
        if removed == 0 { Err((self.missing)(key)) } else { Ok(()) }
    }

    /// A page by key, with the filters on columns applied; others are left to the caller.
    pub fn list(&self, tx: &mut Tx<'_>, hints: &Hints) -> Result<Page> {
        self.list_from(tx, hints, self.name, |_| {})
    }

    /// [`Table::list`] from joined tables and with further conditions.
    pub fn list_from(
        &self,
        tx: &mut Tx<'_>,
        hints: &Hints,
        from: &str,
        refine: impl FnOnce(&mut Select),
    ) -> Result<Page> {
        let mut select = Select::new(self.select_list(), from);
        for filter in &hints.filters {
            self.filter(&mut select, filter);
        }
        refine(&mut select);
        let key = format!("{}.{}", self.name, self.key());
        select.order(&key, Direction::Ascending);
        if let Some(marker) = &hints.marker {
            let known: Option<i64> = tx.scalar(
                &format!("SELECT 1 FROM {} WHERE {} = ?1", self.name, self.key()),
                &[marker.into()],
            )?;
            if known.is_none() {
                return Err(Error::Missing(format!("Marker {marker} could not be found.")));
            }
            select.after(&[marker.into()]);
        }
        if let Some(limit) = hints.limit {
            select.limit(limit as u64 + 1);
        }
        let mut refs = select
            .rows(tx)?
            .iter()
            .map(|row| self.read(row))
            .collect::<Result<Vec<_>>>()?;
        let truncated = hints
            .limit
            .is_some_and(|limit| refs.len() > limit || (hints.full_is_truncated && refs.len() == limit));
        if let Some(limit) = hints.limit {
            refs.truncate(limit);
        }
        Ok(Page { refs, truncated })
    }

    fn filter(&self, select: &mut Select, filter: &Filter) {
        let Some((name, kind)) = self.columns.iter().find(|(name, _)| *name == filter.name) else {
            return;
        };
        let column = format!("{}.{name}", self.name);
        let Some(value) = &filter.value else {
            match kind {
                Kind::Root(_) => select.filter(&format!("{column} = ''"), &[]),
                _ => select.filter(&format!("{column} IS NULL"), &[]),
            };
            return;
        };
        if filter.comparator == "equals" {
            let value = match kind {
                Kind::Bool => Sql::Int(bool_from_text(value, true).into()),
                Kind::Int => value.parse::<i64>().map_or(Sql::Null, Sql::Int),
                _ => Sql::Text(value.clone()),
            };
            select.filter(&format!("{column} = ?"), &[value]);
            return;
        }
        if !matches!(kind, Kind::Text(_) | Kind::Root(_)) {
            return;
        }
        let escaped = value.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = match filter.comparator.as_str() {
            "contains" => format!("%{escaped}%"),
            "startswith" => format!("{escaped}%"),
            "endswith" => format!("%{escaped}"),
            _ => return,
        };
        if filter.case_sensitive {
            select.filter(&format!("{column} LIKE ? ESCAPE '\\'"), &[pattern.into()]);
        } else {
            select.filter(&format!("LOWER({column}) LIKE LOWER(?) ESCAPE '\\'"), &[pattern.into()]);
        }
    }
}
