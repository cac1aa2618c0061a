//! What a rule is about: the object's attributes, found by name, many of them only when a rule asks.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};

/// The attributes of what is acted on. A key that is absent fails the check that needs it; a key that is null reads as `None`.
///
/// Implemented for `()` (nothing known), JSON objects, maps, and arrays of pairs; [`Lookup`] adds values computed on demand.
pub trait Target {
    /// The attribute's value.
    fn get(&self, key: &str) -> Option<Value>;

    /// The attribute as Python's `str()` shows it, which is what rules compare. Override where it can be lent.
    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).map(|value| Cow::Owned(python_str(&value).into_owned()))
    }
}

/// A target whose missing keys a closure resolves, for attributes that cost a query: Networking's `network:project_id`,
/// `ext_parent:project_id`, `security_group:project_id` and `network:shared` (the network of a port or subnet).
pub struct Lookup<T, F> {
    /// Asked first.
    pub target: T,
    /// Asked for what `target` does not have.
    pub lookup: F,
}

impl<T: Target, F: Fn(&str) -> Option<Value>> Target for Lookup<T, F> {
    fn get(&self, key: &str) -> Option<Value> {
        self.target.get(key).or_else(|| (self.lookup)(key))
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.target
            .text(key)
            .or_else(|| (self.lookup)(key).map(|value| Cow::Owned(python_str(&value).into_owned())))
    }
}

impl<T: Target + ?Sized> Target for &T {
    fn get(&self, key: &str) -> Option<Value> {
        (**self).get(key)
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        (**self).text(key)
    }
}

impl Target for () {
    fn get(&self, _key: &str) -> Option<Value> {
        None
    }
}

/// `target.user.domain_id` is looked up whole first, then by its parts, so both flat and nested objects serve Identity's rules.
fn find<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    if let Some(value) = map.get(key) {
        return Some(value);
    }
    key.match_indices('.')
        .find_map(|(dot, _)| find(map.get(&key[..dot])?.as_object()?, &key[dot + 1..]))
}

impl Target for Map<String, Value> {
    fn get(&self, key: &str) -> Option<Value> {
        find(self, key).cloned()
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        find(self, key).map(python_str)
    }
}

impl Target for Value {
    fn get(&self, key: &str) -> Option<Value> {
        find(self.as_object()?, key).cloned()
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        find(self.as_object()?, key).map(python_str)
    }
}

impl<S: std::hash::BuildHasher> Target for HashMap<String, Value, S> {
    fn get(&self, key: &str) -> Option<Value> {
        HashMap::get(self, key).cloned()
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        HashMap::get(self, key).map(python_str)
    }
}

macro_rules! pairs {
    ($($container:ty, [$($generics:tt)*], $value:ty);* $(;)?) => {$(
        impl<$($generics)*> Target for $container {
            fn get(&self, key: &str) -> Option<Value> {
                self.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_value())
            }

            fn text(&self, key: &str) -> Option<Cow<'_, str>> {
                self.iter().find(|(name, _)| *name == key).map(|(_, value)| value.to_text())
            }
        }
    )*};
}

pairs! {
    [(&str, &str); N], [const N: usize], &str;
    [(&str, String); N], [const N: usize], String;
    [(&str, Option<&str>); N], [const N: usize], Option<&str>;
    [(&str, Value); N], [const N: usize], Value;
    &[(&str, &str)], [], &str;
    &[(&str, Option<&str>)], [], Option<&str>;
    &[(&str, Value)], [], Value;
    Vec<(&str, &str)>, [], &str;
    Vec<(&str, String)>, [], String;
    Vec<(&str, Value)>, [], Value;
}

trait Attribute {
    fn to_value(&self) -> Value;
    fn to_text(&self) -> Cow<'_, str>;
}

impl Attribute for &str {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn to_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Attribute for String {
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }

    fn to_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

impl Attribute for Option<&str> {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn to_text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.unwrap_or("None"))
    }
}

impl Attribute for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }

    fn to_text(&self) -> Cow<'_, str> {
        python_str(self)
    }
}

/// A value as Python's `str()` writes it: rules compare these texts.
pub(crate) fn python_str(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => python_repr(other),
    }
}

fn python_repr(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed("None"),
        Value::Bool(true) => Cow::Borrowed("True"),
        Value::Bool(false) => Cow::Borrowed("False"),
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') {
                '"'
            } else {
                '\''
            };
            Cow::Owned(format!("{quote}{text}{quote}"))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(python_repr).collect();
            Cow::Owned(format!("[{}]", items.join(", ")))
        }
        Value::Object(map) => {
            let items: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("'{key}': {}", python_repr(value)))
                .collect();
            Cow::Owned(format!("{{{}}}", items.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_and_flat_keys_are_both_found() {
        let nested = json!({"target": {"user": {"domain_id": "d", "options": null}}});
        assert_eq!(nested.text("target.user.domain_id").unwrap(), "d");
        assert_eq!(nested.text("target.user.options").unwrap(), "None");
        assert!(nested.text("target.user.name").is_none());
        let flat = json!({"target.user.domain_id": "e"});
        assert_eq!(flat.text("target.user.domain_id").unwrap(), "e");
    }

    #[test]
    fn missing_keys_are_resolved_by_the_closure_only_when_asked() {
        let asked = std::cell::RefCell::new(Vec::new());
        let target = Lookup {
            target: [("project_id", "p")],
            lookup: |key: &str| {
                asked.borrow_mut().push(key.to_owned());
                (key == "network:project_id").then(|| json!("q"))
            },
        };
        assert_eq!(target.text("project_id").unwrap(), "p");
        assert!(asked.borrow().is_empty());
        assert_eq!(target.text("network:project_id").unwrap(), "q");
        assert_eq!(*asked.borrow(), ["network:project_id"]);
    }
}
