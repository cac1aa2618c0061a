//! Values and rows, the same for both engines.

use crate::{Error, Result};
use std::sync::Arc;

/// One value of a column or parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// `BIGINT`; booleans are 0 and 1.
    Int(i64),
    /// `DOUBLE PRECISION`.
    Real(f64),
    /// `TEXT`.
    Text(String),
    /// `BLOB` / `BYTEA`.
    Blob(Vec<u8>),
}

impl Value {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Int(_) => "an integer",
            Value::Real(_) => "a float",
            Value::Text(_) => "text",
            Value::Blob(_) => "bytes",
        }
    }
}

macro_rules! int_value {
    ($($t:ty),*) => {$(
        impl From<$t> for Value { fn from(v: $t) -> Value { Value::Int(v as i64) } }
        impl FromValue for $t {
            fn from_value(v: &Value) -> Option<Self> {
                match v { Value::Int(i) => <$t>::try_from(*i).ok(), Value::Real(f) if f.fract() == 0.0 => Some(*f as $t), _ => None }
            }
        }
    )*};
}
int_value!(i64, i32, u32, u16, u8, u64, usize);

impl From<bool> for Value {
    fn from(v: bool) -> Value {
        Value::Int(v as i64)
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Value {
        Value::Real(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Text(v.to_string())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Value {
        Value::Text(v)
    }
}
impl From<&String> for Value {
    fn from(v: &String) -> Value {
        Value::Text(v.clone())
    }
}
impl From<Vec<u8>> for Value {
    fn from(v: Vec<u8>) -> Value {
        Value::Blob(v)
    }
}
impl From<serde_json::Value> for Value {
    fn from(v: serde_json::Value) -> Value {
        Value::Text(v.to_string())
    }
}
impl From<&serde_json::Value> for Value {
    fn from(v: &serde_json::Value) -> Value {
        Value::Text(v.to_string())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Value {
        v.map_or(Value::Null, Into::into)
    }
}
impl<T: Clone + Into<Value>> From<&Option<T>> for Value {
    fn from(v: &Option<T>) -> Value {
        v.clone().map_or(Value::Null, Into::into)
    }
}

/// What a column can be read as.
pub trait FromValue: Sized {
    /// `None` where the value is of another kind.
    fn from_value(v: &Value) -> Option<Self>;
}
impl FromValue for Value {
    fn from_value(v: &Value) -> Option<Self> {
        Some(v.clone())
    }
}
impl FromValue for bool {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Int(i) => Some(*i != 0),
            _ => None,
        }
    }
}
impl FromValue for f64 {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Real(f) => Some(*f),
            Value::Int(i) => Some(*i as f64),
            _ => None,
        }
    }
}
impl FromValue for String {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Text(s) => Some(s.clone()),
            _ => None,
        }
    }
}
impl FromValue for Vec<u8> {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Blob(b) => Some(b.clone()),
            _ => None,
        }
    }
}
impl FromValue for serde_json::Value {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Text(s) => serde_json::from_str(s).ok(),
            Value::Null => Some(serde_json::Value::Null),
            _ => None,
        }
    }
}
impl<T: FromValue> FromValue for Option<T> {
    fn from_value(v: &Value) -> Option<Self> {
        match v {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

/// One row of an answer.
#[derive(Clone, Debug)]
pub struct Row {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Vec<Value>,
}

impl Row {
    /// The value of the column at `index`, counted from 0.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T> {
        let value = self.values.get(index).unwrap_or(&Value::Null);
        T::from_value(value).ok_or_else(|| Error::Decode {
            column: self.columns.get(index).cloned().unwrap_or_else(|| index.to_string()),
            expected: std::any::type_name::<T>(),
            found: value.kind(),
        })
    }

    /// The value of the column called `name`.
    pub fn named<T: FromValue>(&self, name: &str) -> Result<T> {
        match self.columns.iter().position(|c| c == name) {
            Some(index) => self.get(index),
            None => Err(Error::Decode { column: name.into(), expected: std::any::type_name::<T>(), found: "no such column" }),
        }
    }

    /// The raw value at `index`.
    pub fn value(&self, index: usize) -> &Value {
        self.values.get(index).unwrap_or(&Value::Null)
    }

    /// Moves the values out, in column order.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }
}

/// `params![a, b, c]`: a list of [`Value`]s from anything convertible.
#[macro_export]
macro_rules! params {
    ($($x:expr),* $(,)?) => { [$($crate::Value::from($x)),*] };
}
