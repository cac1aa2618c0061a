//! Values of the database (RFC 7047, section 5.1).

use crate::Error;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Atom {
    /// A whole number.
    Integer(i64),
    /// Any number.
    Real(f64),
    /// Yes or no.
    Boolean(bool),
    /// Text.
    String(String),
    /// A row of some table.
    Uuid(Uuid),
    /// A row that the same transaction inserts, by the name given there.
    Named(String),
}

impl Atom {
    fn parse(v: &Value) -> Option<Atom> {
        match v {
            Value::String(s) => Some(Atom::String(s.clone())),
            Value::Bool(b) => Some(Atom::Boolean(*b)),
            Value::Number(n) => n.as_i64().map(Atom::Integer).or_else(|| n.as_f64().map(Atom::Real)),
            Value::Array(a) => match a.as_slice() {
                [Value::String(t), Value::String(u)] if t == "uuid" => Uuid::parse_str(u).ok().map(Atom::Uuid),
                [Value::String(t), Value::String(n)] if t == "named-uuid" => Some(Atom::Named(n.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    /// As it is written in JSON.
    pub fn json(&self) -> Value {
        match self {
            Atom::Integer(n) => json!(n),
            Atom::Real(n) => json!(n),
            Atom::Boolean(b) => json!(b),
            Atom::String(s) => json!(s),
            Atom::Uuid(u) => json!(["uuid", u.to_string()]),
            Atom::Named(n) => json!(["named-uuid", n]),
        }
    }
}

impl From<&str> for Atom {
    fn from(s: &str) -> Atom {
        Atom::String(s.to_owned())
    }
}
impl From<String> for Atom {
    fn from(s: String) -> Atom {
        Atom::String(s)
    }
}
impl From<i64> for Atom {
    fn from(n: i64) -> Atom {
        Atom::Integer(n)
    }
}
impl From<bool> for Atom {
    fn from(b: bool) -> Atom {
        Atom::Boolean(b)
    }
}
impl From<Uuid> for Atom {
    fn from(u: Uuid) -> Atom {
        Atom::Uuid(u)
    }
}

/// What a column holds: a set (of one value, for most columns) or a map.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// None, one or several values.
    Set(Vec<Atom>),
    /// Keys and values.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// Nothing.
    pub const EMPTY: Datum = Datum::Set(Vec::new());

    /// Several values.
    pub fn set(atoms: impl IntoIterator<Item = impl Into<Atom>>) -> Datum {
        Datum::Set(atoms.into_iter().map(Into::into).collect())
    }

    /// Keys and values of text.
    pub fn map(pairs: &BTreeMap<String, String>) -> Datum {
        Datum::Map(
            pairs
                .iter()
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect(),
        )
    }

    fn parse(v: &Value) -> Option<Datum> {
        if let Value::Array(a) = v {
            match a.as_slice() {
                [Value::String(t), Value::Array(items)] if t == "set" => {
                    return items.iter().map(Atom::parse).collect::<Option<_>>().map(Datum::Set);
                }
                [Value::String(t), Value::Array(items)] if t == "map" => {
                    let pair = |v: &Value| match v.as_array().map(Vec::as_slice) {
                        Some([k, v]) => Some((Atom::parse(k)?, Atom::parse(v)?)),
                        _ => None,
                    };
                    return items.iter().map(pair).collect::<Option<_>>().map(Datum::Map);
                }
                _ => {}
            }
        }
        Atom::parse(v).map(|a| Datum::Set(vec![a]))
    }

    /// As it is written in JSON.
    pub fn json(&self) -> Value {
        match self {
            Datum::Set(atoms) if atoms.len() == 1 => atoms[0].json(),
            Datum::Set(atoms) => json!(["set", atoms.iter().map(Atom::json).collect::<Vec<_>>()]),
            Datum::Map(pairs) => json!([
                "map",
                pairs
                    .iter()
                    .map(|(k, v)| json!([k.json(), v.json()]))
                    .collect::<Vec<_>>()
            ]),
        }
    }
}

impl<T: Into<Atom>> From<T> for Datum {
    fn from(v: T) -> Datum {
        Datum::Set(vec![v.into()])
    }
}

/// A row: what its columns hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row(pub BTreeMap<String, Datum>);

impl Row {
    /// The same with one more column.
    pub fn with(mut self, column: &str, value: impl Into<Datum>) -> Row {
        self.0.insert(column.to_owned(), value.into());
        self
    }

    fn first(&self, column: &str) -> Option<&Atom> {
        match self.0.get(column)? {
            Datum::Set(atoms) => atoms.first(),
            Datum::Map(_) => None,
        }
    }

    /// The text in a column.
    pub fn text(&self, column: &str) -> Option<&str> {
        match self.first(column)? {
            Atom::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number in a column.
    pub fn integer(&self, column: &str) -> Option<i64> {
        match self.first(column)? {
            Atom::Integer(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth in a column; absent is false.
    pub fn boolean(&self, column: &str) -> bool {
        matches!(self.first(column), Some(Atom::Boolean(true)))
    }

    /// The rows that a column points to.
    pub fn uuids(&self, column: &str) -> Vec<Uuid> {
        let Some(Datum::Set(atoms)) = self.0.get(column) else {
            return Vec::new();
        };
        atoms
            .iter()
            .filter_map(|a| if let Atom::Uuid(u) = a { Some(*u) } else { None })
            .collect()
    }

    /// The texts in a column, sorted.
    pub fn texts(&self, column: &str) -> Vec<&str> {
        let Some(Datum::Set(atoms)) = self.0.get(column) else {
            return Vec::new();
        };
        let mut out: Vec<&str> = atoms
            .iter()
            .filter_map(|a| {
                if let Atom::String(s) = a {
                    Some(s.as_str())
                } else {
                    None
                }
            })
            .collect();
        out.sort_unstable();
        out
    }

    /// The keys and values of text in a column.
    pub fn map(&self, column: &str) -> BTreeMap<String, String> {
        let Some(Datum::Map(pairs)) = self.0.get(column) else {
            return BTreeMap::new();
        };
        let text = |a: &Atom| if let Atom::String(s) = a { Some(s.clone()) } else { None };
        pairs.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect()
    }

    /// As it is written in JSON.
    pub fn json(&self) -> Value {
        Value::Object(self.0.iter().map(|(k, v)| (k.clone(), v.json())).collect())
    }
}

/// Reads a row.
///
/// # Errors
/// If it is no object of values.
pub fn parse_row(v: &Value) -> Result<Row, Error> {
    let object = v.as_object().ok_or_else(|| Error::Protocol(format!("{v} is no row")))?;
    let column = |(k, v): (&String, &Value)| Datum::parse(v).map(|d| (k.clone(), d));
    let columns: Option<BTreeMap<_, _>> = object.iter().map(column).collect();
    columns
        .map(Row)
        .ok_or_else(|| Error::Protocol(format!("{v} has a value that is none")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn atom() -> impl Strategy<Value = Atom> {
        prop_oneof![
            any::<i64>().prop_map(Atom::Integer),
            any::<bool>().prop_map(Atom::Boolean),
            any::<String>().prop_map(Atom::String),
            any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn values_survive_json(a in proptest::collection::vec(atom(), 0..4), k in atom(), v in atom()) {
            for d in [Datum::Set(a.clone()), Datum::Map(vec![(k, v)])] {
                prop_assert_eq!(Datum::parse(&d.json()), Some(d.clone()));
                let row = Row::default().with("c", Datum::EMPTY).0.into_iter().chain([("d".to_owned(), d)]).collect();
                prop_assert_eq!(parse_row(&Row(row).json()).map(|r| r.0.len()).ok(), Some(2));
            }
        }
    }

    #[test]
    fn columns_are_read_by_kind() {
        let v = serde_json::json!({"name": "br-int", "ofport": 3, "up": true, "error": ["set", []],
            "ports": ["set", [["uuid", "6c4a5a3e-0000-4000-8000-000000000001"]]], "external_ids": ["map", [["a", "b"]]]});
        let row = parse_row(&v).unwrap();
        assert_eq!(
            (row.text("name"), row.integer("ofport"), row.boolean("up")),
            (Some("br-int"), Some(3), true)
        );
        assert_eq!(
            (row.text("error"), row.integer("name"), row.boolean("gone")),
            (None, None, false)
        );
        assert_eq!(row.uuids("ports").len(), 1);
        assert_eq!(
            row.map("external_ids"),
            BTreeMap::from([("a".to_owned(), "b".to_owned())])
        );
        assert!(parse_row(&serde_json::json!({"x": {"y": 1}})).is_err());
        assert!(parse_row(&serde_json::json!([1])).is_err());
    }
}
