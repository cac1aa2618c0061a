//! JSON Schema (draft 4) with the wording of Python's jsonschema, which is what clients of OpenStack read.
//!
//! As `Validator.validate` does, the first violation is reported, in the order in which the schema lists its keywords and properties.

use fancy_regex::Regex;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Checks a value of some named format. `Err` may carry a text that replaces the usual one.
pub type FormatCheck = fn(&Value) -> Result<(), Option<String>>;

/// A compiled schema.
pub struct Schema {
    root: Value,
    patterns: HashMap<String, Regex>,
    formats: HashMap<String, FormatCheck>,
    numeric_strings: bool,
}

/// The first thing that is wrong with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Where: property names and list indexes from the outside in.
    pub path: Vec<String>,
    /// What stands there.
    pub value: Value,
    /// What is wrong, in jsonschema's words.
    pub message: String,
    /// The schema keyword that refused it.
    pub keyword: String,
    /// A format's own explanation, where it has one.
    pub cause: Option<String>,
}

impl Schema {
    /// Compiles a schema with the formats that all services know.
    ///
    /// # Panics
    /// When a pattern is no regular expression: schemas are part of the program.
    pub fn compile(schema: &Value) -> Schema {
        Schema::with_formats(schema, &[])
    }

    /// The same with further formats, which go before the usual ones.
    pub fn with_formats(schema: &Value, formats: &[(&str, FormatCheck)]) -> Schema {
        let mut patterns = HashMap::new();
        collect_patterns(schema, &mut patterns);
        let mut known: HashMap<String, FormatCheck> = HashMap::new();
        for (name, check) in usual_formats().iter().chain(formats) {
            known.insert((*name).to_string(), *check);
        }
        Schema { root: schema.clone(), patterns, formats: known, numeric_strings: false }
    }

    /// Lets `minimum` and `maximum` hold for strings that are numbers too, as Compute's validator does.
    #[must_use]
    pub fn with_numeric_strings(mut self) -> Schema {
        self.numeric_strings = true;
        self
    }

    /// Checks `value`.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn validate(&self, value: &Value) -> Result<(), Box<Violation>> {
        self.check(&self.root, value, &mut Vec::new())
    }

    fn check(&self, schema: &Value, value: &Value, path: &mut Vec<String>) -> Result<(), Box<Violation>> {
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => return Err(violation(path, value, "", format!("False schema does not allow {}", python_repr(value)))),
            _ => return Ok(()),
        };
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Ok(()), |target| self.check(target, value, path));
        }
        for (keyword, rule) in schema {
            self.keyword(schema, keyword, rule, value, path)?;
        }
        Ok(())
    }

    fn holds(&self, schema: &Value, value: &Value) -> bool {
        self.check(schema, value, &mut Vec::new()).is_ok()
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        self.patterns.get(pattern).is_some_and(|p| p.is_match(text).unwrap_or(false))
    }

    fn keyword(&self, schema: &Map<String, Value>, keyword: &str, rule: &Value, value: &Value, path: &mut Vec<String>) -> Result<(), Box<Violation>> {
        let repr = || python_repr(value);
        let fail = |path: &[String], text: String| Err(violation(path, value, keyword, text));
        match (keyword, value) {
            ("type", _) => {
                let names: Vec<&str> = match rule {
                    Value::String(one) => vec![one],
                    Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
                    _ => return Ok(()),
                };
                if names.iter().any(|name| is_type(value, name)) {
                    return Ok(());
                }
                let names: Vec<String> = names.iter().map(|n| format!("'{n}'")).collect();
                fail(path, format!("{} is not of type {}", repr(), names.join(", ")))
            }
            ("enum", _) => {
                let allowed = rule.as_array().is_some_and(|all| all.iter().any(|a| equal(a, value)));
                if allowed { Ok(()) } else { fail(path, format!("{} is not one of {}", repr(), python_repr(rule))) }
            }
            ("const", _) if !equal(rule, value) => fail(path, format!("{} was expected", python_repr(rule))),
            ("properties", Value::Object(object)) => {
                for (name, inner) in rule.as_object().into_iter().flatten() {
                    if let Some(found) = object.get(name) {
                        path.push(name.clone());
                        self.check(inner, found, path)?;
                        path.pop();
                    }
                }
                Ok(())
            }
            ("patternProperties", Value::Object(object)) => {
                for (pattern, inner) in rule.as_object().into_iter().flatten() {
                    for (name, found) in object.iter().filter(|(name, _)| self.matches(pattern, name)) {
                        path.push(name.clone());
                        self.check(inner, found, path)?;
                        path.pop();
                    }
                }
                Ok(())
            }
            ("additionalProperties", Value::Object(object)) => self.additional(schema, rule, value, object, path),
            ("required", Value::Object(object)) => {
                for name in rule.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !object.contains_key(name) {
                        return fail(path, format!("{} is a required property", python_repr(&name.into())));
                    }
                }
                Ok(())
            }
            ("dependencies" | "dependentRequired", Value::Object(object)) => {
                for (name, needs) in rule.as_object().into_iter().flatten().filter(|(name, _)| object.contains_key(*name)) {
                    match needs {
                        Value::Array(needs) => {
                            for need in needs.iter().filter_map(Value::as_str).filter(|n| !object.contains_key(*n)) {
                                return fail(path, format!("'{need}' is a dependency of '{name}'"));
                            }
                        }
                        inner => self.check(inner, value, path)?,
                    }
                }
                Ok(())
            }
            ("minProperties", Value::Object(object)) if (object.len() as u64) < number(rule) => {
                let what = if number(rule) == 1 { "should be non-empty" } else { "does not have enough properties" };
                fail(path, format!("{} {what}", repr()))
            }
            ("maxProperties", Value::Object(object)) if (object.len() as u64) > number(rule) => fail(path, format!("{} has too many properties", repr())),
            ("items", Value::Array(list)) => {
                for (i, item) in list.iter().enumerate() {
                    let inner = match rule {
                        Value::Array(each) => match each.get(i) {
                            Some(inner) => inner,
                            None => break,
                        },
                        one => one,
                    };
                    path.push(i.to_string());
                    self.check(inner, item, path)?;
                    path.pop();
                }
                Ok(())
            }
            ("minItems", Value::Array(list)) if (list.len() as u64) < number(rule) => fail(path, format!("{} {}", repr(), too_short(rule))),
            ("maxItems", Value::Array(list)) if (list.len() as u64) > number(rule) => fail(path, format!("{} {}", repr(), too_long(rule))),
            ("uniqueItems", Value::Array(list)) if rule == &Value::Bool(true) => {
                let twice = list.iter().enumerate().any(|(i, a)| list[..i].iter().any(|b| equal(a, b)));
                if twice { fail(path, format!("{} has non-unique elements", repr())) } else { Ok(()) }
            }
            ("minLength", Value::String(text)) if (text.chars().count() as u64) < number(rule) => fail(path, format!("{} {}", repr(), too_short(rule))),
            ("maxLength", Value::String(text)) if (text.chars().count() as u64) > number(rule) => fail(path, format!("{} {}", repr(), too_long(rule))),
            ("pattern", Value::String(text)) => match rule.as_str() {
                Some(pattern) if !self.matches(pattern, text) => fail(path, format!("{} does not match {}", repr(), python_repr(rule))),
                _ => Ok(()),
            },
            ("format", _) => {
                let Some(check) = rule.as_str().and_then(|name| self.formats.get(name)) else { return Ok(()) };
                check(value).map_err(|cause| {
                    let mut v = violation(path, value, keyword, format!("{} is not a {}", repr(), python_repr(rule)));
                    v.cause = cause;
                    v
                })
            }
            ("minimum" | "maximum", Value::String(text)) if self.numeric_strings => {
                let text = text.trim();
                let number = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from));
                number.map_or(Ok(()), |number| self.keyword(schema, keyword, rule, &number, path))
            }
            ("minimum", Value::Number(_)) => {
                let exclusive = schema.get("exclusiveMinimum") == Some(&Value::Bool(true));
                match compare(value, rule) {
                    Some(std::cmp::Ordering::Less) if !exclusive => fail(path, format!("{} is less than the minimum of {}", repr(), python_repr(rule))),
                    Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal) if exclusive => {
                        fail(path, format!("{} is less than or equal to the minimum of {}", repr(), python_repr(rule)))
                    }
                    _ => Ok(()),
                }
            }
            ("maximum", Value::Number(_)) => {
                let exclusive = schema.get("exclusiveMaximum") == Some(&Value::Bool(true));
                match compare(value, rule) {
                    Some(std::cmp::Ordering::Greater) if !exclusive => {
                        fail(path, format!("{} is greater than the maximum of {}", repr(), python_repr(rule)))
                    }
                    Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal) if exclusive => {
                        fail(path, format!("{} is greater than or equal to the maximum of {}", repr(), python_repr(rule)))
                    }
                    _ => Ok(()),
                }
            }
            ("multipleOf", Value::Number(n)) => {
                let whole = n.as_f64().zip(rule.as_f64()).is_none_or(|(n, d)| d == 0.0 || (n / d).fract() == 0.0);
                if whole { Ok(()) } else { fail(path, format!("{} is not a multiple of {}", repr(), python_repr(rule))) }
            }
            ("allOf", _) => rule.as_array().into_iter().flatten().try_for_each(|inner| self.check(inner, value, path)),
            ("anyOf", _) => {
                let any = rule.as_array().is_some_and(|all| all.iter().any(|inner| self.holds(inner, value)));
                if any { Ok(()) } else { fail(path, format!("{} is not valid under any of the given schemas", repr())) }
            }
            ("oneOf", _) => {
                let valid: Vec<&Value> = rule.as_array().into_iter().flatten().filter(|inner| self.holds(inner, value)).collect();
                match valid.as_slice() {
                    [] => fail(path, format!("{} is not valid under any of the given schemas", repr())),
                    [_] => Ok(()),
                    more => {
                        let shown: Vec<String> = more.iter().map(|v| python_repr(v)).collect();
                        fail(path, format!("{} is valid under each of {}", repr(), shown.join(", ")))
                    }
                }
            }
            ("not", _) if self.holds(rule, value) => fail(path, format!("{} should not be valid under {}", repr(), python_repr(rule))),
            _ => Ok(()),
        }
    }

    fn additional(&self, schema: &Map<String, Value>, rule: &Value, value: &Value, object: &Map<String, Value>, path: &mut Vec<String>) -> Result<(), Box<Violation>> {
        let named = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let extra = |name: &str| {
            !named.is_some_and(|n| n.contains_key(name)) && !patterns.is_some_and(|p| p.keys().any(|pattern| self.matches(pattern, name)))
        };
        let mut extras: Vec<&String> = object.keys().filter(|name| extra(name)).collect();
        match rule {
            Value::Bool(false) if !extras.is_empty() => {
                let quote = |all: &[&String]| all.iter().map(|n| python_repr(&Value::String((*n).clone()))).collect::<Vec<_>>().join(", ");
                extras.sort();
                let text = match patterns {
                    Some(patterns) if !patterns.is_empty() => {
                        let mut patterns: Vec<&String> = patterns.keys().collect();
                        patterns.sort();
                        let verb = if extras.len() == 1 { "does" } else { "do" };
                        format!("{} {verb} not match any of the regexes: {}", quote(&extras), quote(&patterns))
                    }
                    _ => {
                        let verb = if extras.len() == 1 { "was" } else { "were" };
                        format!("Additional properties are not allowed ({} {verb} unexpected)", quote(&extras))
                    }
                };
                Err(violation(path, value, "additionalProperties", text))
            }
            Value::Object(_) => {
                for name in extras {
                    path.push(name.clone());
                    self.check(rule, &object[name], path)?;
                    path.pop();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn violation(path: &[String], value: &Value, keyword: &str, message: String) -> Box<Violation> {
    Box::new(Violation { path: path.to_vec(), value: value.clone(), message, keyword: keyword.into(), cause: None })
}

fn too_short(rule: &Value) -> &'static str {
    if number(rule) == 1 { "should be non-empty" } else { "is too short" }
}

fn too_long(rule: &Value) -> &'static str {
    if number(rule) == 0 { "is expected to be empty" } else { "is too long" }
}

fn number(rule: &Value) -> u64 {
    rule.as_u64().unwrap_or(0)
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// JSON equality as jsonschema has it: 1 and 1.0 are equal, 1 and true are not.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => compare(a, b) == Some(std::cmp::Ordering::Equal),
        _ => a == b,
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    }
}

fn collect_patterns(schema: &Value, patterns: &mut HashMap<String, Regex>) {
    let mut add = |pattern: &str| {
        if !patterns.contains_key(pattern) {
            let compiled = Regex::new(pattern).unwrap_or_else(|e| panic!("the pattern {pattern} of a schema: {e}"));
            patterns.insert(pattern.to_string(), compiled);
        }
    };
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(pattern)) = object.get("pattern") {
                add(pattern);
            }
            if let Some(Value::Object(by_pattern)) = object.get("patternProperties") {
                by_pattern.keys().for_each(|pattern| add(pattern));
            }
            object.values().for_each(|inner| collect_patterns(inner, patterns));
        }
        Value::Array(list) => list.iter().for_each(|inner| collect_patterns(inner, patterns)),
        _ => {}
    }
}

/// Formats that mean the same in every service. Values that are no strings are left to `type`.
fn usual_formats() -> &'static [(&'static str, FormatCheck)] {
    fn on_text(value: &Value, ok: impl Fn(&str) -> bool) -> Result<(), Option<String>> {
        match value {
            Value::String(text) if !ok(text) => Err(None),
            _ => Ok(()),
        }
    }
    &[
        ("uuid", |v| on_text(v, is_uuid_like)),
        ("date-time", |v| on_text(v, |t| crate::time::parse(t).is_some() && t.len() > 10)),
        ("ipv4", |v| on_text(v, |t| t.parse::<std::net::Ipv4Addr>().is_ok())),
        ("ipv6", |v| on_text(v, |t| t.parse::<std::net::Ipv6Addr>().is_ok())),
        ("base64", |v| on_text(v, |t| {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(t.replace(['\n', '\r'], "")).is_ok()
        })),
        ("mac-address", |v| on_text(v, is_mac)),
        ("mac_address", |v| on_text(v, is_mac)),
        ("regex", |v| on_text(v, |t| Regex::new(t).is_ok())),
    ]
}

/// oslo.utils' idea of a UUID: 32 hexadecimal digits once dashes, braces and `urn:uuid:` are gone.
pub fn is_uuid_like(text: &str) -> bool {
    let plain = text.replace("urn:", "").replace("uuid:", "");
    let plain: String = plain.trim_matches(['{', '}']).replace('-', "");
    plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// A value as Python's `repr` shows it.
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(n) => python_number(n),
        Value::String(text) => python_string(text),
        Value::Array(list) => format!("[{}]", list.iter().map(python_repr).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{}: {}", python_string(k), python_repr(v))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

/// A value as Python's `str` shows it: a string bare, everything else as [`python_repr`].
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

fn python_number(n: &serde_json::Number) -> String {
    match n.as_f64() {
        Some(f) if n.is_f64() && f.fract() == 0.0 && f.abs() < 1e16 => format!("{f:.1}"),
        _ => n.to_string(),
    }
}

fn python_string(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(schema: Value, value: Value) -> String {
        Schema::compile(&schema).validate(&value).map_or_else(|v| format!("{}|{}", v.path.join("."), v.message), |()| "valid".into())
    }

    #[test]
    fn violations_read_as_python_writes_them() {
        let server = json!({"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 3, "pattern": "^(?! )[a-z]+$"},
            "n": {"type": ["integer", "string"], "minimum": 1}}, "required": ["name"], "additionalProperties": false});
        assert_eq!(message(server.clone(), json!({"name": ""})), "name|'' should be non-empty");
        assert_eq!(message(server.clone(), json!({"name": "abcd"})), "name|'abcd' is too long");
        assert_eq!(message(server.clone(), json!({"name": " b"})), "name|' b' does not match '^(?! )[a-z]+$'");
        assert_eq!(message(server.clone(), json!({"name": 1})), "name|1 is not of type 'string'");
        assert_eq!(message(server.clone(), json!({"name": "a", "n": null})), "n|None is not of type 'integer', 'string'");
        assert_eq!(message(server.clone(), json!({"name": "a", "n": true})), "n|True is not of type 'integer', 'string'");
        assert_eq!(message(server.clone(), json!({"name": "a", "n": 0})), "n|0 is less than the minimum of 1");
        assert_eq!(message(server.clone(), json!({})), "|'name' is a required property");
        assert_eq!(message(server.clone(), json!({"name": "a", "x": {}})), "|Additional properties are not allowed ('x' was unexpected)");
        assert_eq!(message(server, json!({"name": "a", "n": 1})), "valid");
        assert_eq!(message(json!({"oneOf": [{"type": "string"}, {"maxLength": 2}]}), json!("a")), "|'a' is valid under each of {'type': 'string'}, {'maxLength': 2}");
        assert_eq!(message(json!({"enum": ["a", null, 1.5]}), json!("it's")), "|\"it's\" is not one of ['a', None, 1.5]");
        assert_eq!(message(json!({"items": {"format": "uuid"}}), json!(["x"])), "0|'x' is not a 'uuid'");
        assert_eq!(message(json!({"patternProperties": {"^a": {}}, "additionalProperties": false}), json!({"b": 1})), "|'b' does not match any of the regexes: '^a'");
    }
}
