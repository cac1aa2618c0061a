//! JSON Schema as Python's `jsonschema` validates it, with the same choice of error and the same texts: upstream's services put
//! them into their 400s.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use crate::python::{pformat, repr, repr_str};
use crate::schema::is_uuid_like;

/// Decides whether a value has a named format; names it does not know are to be accepted.
pub type Formats = fn(format: &str, instance: &Value) -> bool;

/// A schema with its patterns compiled. Keep it in a `LazyLock`.
#[derive(Debug)]
pub struct Schema {
    document: Value,
    patterns: HashMap<String, Regex>,
    formats: Formats,
}

/// One step to a value inside a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The index in an array.
    Index(usize),
    /// The key in an object.
    Key(String),
}

impl Step {
    fn repr(&self) -> String {
        match self {
            Step::Index(index) => index.to_string(),
            Step::Key(key) => repr_str(key),
        }
    }
}

/// The best matching error, as Python's `ValidationError`; `Display` is its `str()`, with the schema and the instance.
#[derive(Debug, Clone)]
pub struct ValidationError {
    /// What is wrong, in a line.
    pub message: String,
    /// The keyword that failed.
    pub validator: &'static str,
    /// Where in the document (relative to the alternative for errors inside `anyOf` and `oneOf`).
    pub path: Vec<Step>,
    schema_path: Vec<Step>,
    schema: Value,
    instance: Value,
    context: Vec<ValidationError>,
    matches_type: bool,
}

impl std::error::Error for ValidationError {}

impl fmt::Display for ValidationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = |container: &str, steps: &[Step]| {
            if steps.is_empty() {
                return container.to_owned();
            }
            let inner: Vec<_> = steps.iter().map(Step::repr).collect();
            format!("{container}[{}]", inner.join("]["))
        };
        let indented = |value: &Value| pformat(value, 72).replace('\n', "\n    ");
        let schema_path = &self.schema_path[..self.schema_path.len().saturating_sub(1)];
        write!(
            f,
            "{}\n\nFailed validating {} in {}:\n    {}\n\nOn {}:\n    {}",
            self.message,
            repr_str(self.validator),
            index("schema", schema_path),
            indented(&self.schema),
            index("instance", &self.path),
            indented(&self.instance)
        )
    }
}

/// The formats that Python's default checker knows without further packages, as far as the services use them.
pub fn default_formats(format: &str, instance: &Value) -> bool {
    let Some(text) = instance.as_str() else { return true };
    match format {
        "uuid" => {
            uuid::Uuid::parse_str(text).is_ok()
                && [8, 13, 18, 23].iter().all(|&at| text.as_bytes().get(at) == Some(&b'-'))
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "email" => text.contains('@'),
        _ => true,
    }
}

/// [`default_formats`] with `uuid` read as [`is_uuid_like`] does, as most services set it.
pub fn lenient_uuid_formats(format: &str, instance: &Value) -> bool {
    match (format, instance) {
        ("uuid", Value::String(text)) => is_uuid_like(text),
        ("uuid", _) => false,
        _ => default_formats(format, instance),
    }
}

impl Schema {
    /// Prepares a schema. Formats are checked by [`default_formats`].
    ///
    /// # Panics
    /// If a pattern of the schema is no regular expression, which is an error in the program.
    pub fn new(document: Value) -> Schema {
        let mut patterns = HashMap::new();
        collect_patterns(&document, &mut patterns);
        Schema {
            document,
            patterns,
            formats: default_formats,
        }
    }

    /// The same schema with other formats.
    #[must_use]
    pub fn with_formats(mut self, formats: Formats) -> Schema {
        self.formats = formats;
        self
    }

    /// # Errors
    /// The error that `jsonschema.validate` would raise.
    pub fn validate(&self, instance: &Value) -> Result<(), ValidationError> {
        let mut errors = Vec::new();
        self.check(instance, &self.document, &mut errors);
        match best_match(errors) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn search(&self, pattern: &str, text: &str) -> bool {
        self.patterns.get(pattern).is_some_and(|regex| regex.is_match(text).unwrap_or(false))
    }

    fn is_valid(&self, instance: &Value, schema: &Value) -> bool {
        let mut errors = Vec::new();
        self.check(instance, schema, &mut errors);
        errors.is_empty()
    }

    fn check(&self, instance: &Value, schema: &Value, errors: &mut Vec<ValidationError>) {
        let Some(keywords) = schema.as_object() else {
            if schema == &Value::Bool(false) {
                let message = format!("False schema does not allow {}", repr(instance));
                errors.push(error(message, "", instance, schema));
            }
            return;
        };
        for (keyword, argument) in keywords {
            let from = errors.len();
            let keyword = self.keyword(keyword, argument, instance, keywords, errors);
            for error in &mut errors[from..] {
                if error.schema.is_null() {
                    error.validator = keyword;
                    error.schema = schema.clone();
                    error.instance = instance.clone();
                    error.matches_type = matches_type(instance, keywords);
                }
                if !matches!(keyword, "if" | "$ref") {
                    error.schema_path.insert(0, Step::Key(keyword.to_owned()));
                }
            }
        }
    }

    fn descend(
        &self,
        instance: &Value,
        schema: &Value,
        path: Option<Step>,
        schema_path: Option<Step>,
        errors: &mut Vec<ValidationError>,
    ) {
        let from = errors.len();
        self.check(instance, schema, errors);
        for error in &mut errors[from..] {
            if let Some(path) = &path {
                error.path.insert(0, path.clone());
            }
            if let Some(schema_path) = &schema_path {
                error.schema_path.insert(0, schema_path.clone());
            }
        }
    }

    #[allow(clippy::too_many_lines)]
    fn keyword(
        &self,
        keyword: &str,
        argument: &Value,
        instance: &Value,
        schema: &Map<String, Value>,
        errors: &mut Vec<ValidationError>,
    ) -> &'static str {
        let mut fail = |message: String| errors.push(unset(message));
        match (keyword, instance) {
            ("type", _) => {
                let types: Vec<&str> = match argument {
                    Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
                    other => other.as_str().into_iter().collect(),
                };
                if !types.iter().any(|name| is_type(instance, name)) {
                    let names: Vec<_> = types.iter().map(|name| repr_str(name)).collect();
                    fail(format!("{} is not of type {}", repr(instance), names.join(", ")));
                }
                "type"
            }
            ("properties", Value::Object(map)) => {
                for (name, sub) in argument.as_object().into_iter().flatten() {
                    if let Some(value) = map.get(name) {
                        let step = Step::Key(name.clone());
                        self.descend(value, sub, Some(step.clone()), Some(step), errors);
                    }
                }
                "properties"
            }
            ("patternProperties", Value::Object(map)) => {
                for (pattern, sub) in argument.as_object().into_iter().flatten() {
                    for (name, value) in map {
                        if self.search(pattern, name) {
                            let (at, of) = (Step::Key(name.clone()), Step::Key(pattern.clone()));
                            self.descend(value, sub, Some(at), Some(of), errors);
                        }
                    }
                }
                "patternProperties"
            }
            ("additionalProperties", Value::Object(map)) => {
                self.additional(argument, map, schema, errors);
                "additionalProperties"
            }
            ("propertyNames", Value::Object(map)) => {
                for name in map.keys() {
                    self.descend(&Value::String(name.clone()), argument, None, None, errors);
                }
                "propertyNames"
            }
            ("required", Value::Object(map)) => {
                for name in argument.as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if !map.contains_key(name) {
                        fail(format!("{} is a required property", repr_str(name)));
                    }
                }
                "required"
            }
            ("minProperties", Value::Object(map)) => {
                if (map.len() as u64) < argument.as_u64().unwrap_or(0) {
                    let how = if argument == 1 {
                        "should be non-empty"
                    } else {
                        "does not have enough properties"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "minProperties"
            }
            ("maxProperties", Value::Object(map)) => {
                if (map.len() as u64) > argument.as_u64().unwrap_or(u64::MAX) {
                    let how = if argument == 0 {
                        "is expected to be empty"
                    } else {
                        "has too many properties"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "maxProperties"
            }
            ("items", Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.descend(item, argument, Some(Step::Index(index)), None, errors);
                }
                "items"
            }
            ("minItems", Value::Array(items)) => {
                if (items.len() as u64) < argument.as_u64().unwrap_or(0) {
                    let how = if argument == 1 {
                        "should be non-empty"
                    } else {
                        "is too short"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "minItems"
            }
            ("maxItems", Value::Array(items)) => {
                if (items.len() as u64) > argument.as_u64().unwrap_or(u64::MAX) {
                    let how = if argument == 0 {
                        "is expected to be empty"
                    } else {
                        "is too long"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "maxItems"
            }
            ("uniqueItems", Value::Array(items)) => {
                let distinct = items.iter().enumerate().all(|(at, item)| !items[..at].contains(item));
                if argument == true && !distinct {
                    fail(format!("{} has non-unique elements", repr(instance)));
                }
                "uniqueItems"
            }
            ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Value::Number(number)) => {
                bounds(keyword, argument, number, &mut fail)
            }
            ("multipleOf", Value::Number(number)) => {
                let (value, step) = (number.as_f64().unwrap_or(0.0), argument.as_f64().unwrap_or(1.0));
                if (value / step).fract() != 0.0 {
                    fail(format!("{} is not a multiple of {}", repr(instance), repr(argument)));
                }
                "multipleOf"
            }
            ("minLength", Value::String(text)) => {
                if (text.chars().count() as u64) < argument.as_u64().unwrap_or(0) {
                    let how = if argument == 1 {
                        "should be non-empty"
                    } else {
                        "is too short"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "minLength"
            }
            ("maxLength", Value::String(text)) => {
                if (text.chars().count() as u64) > argument.as_u64().unwrap_or(u64::MAX) {
                    let how = if argument == 0 {
                        "is expected to be empty"
                    } else {
                        "is too long"
                    };
                    fail(format!("{} {how}", repr(instance)));
                }
                "maxLength"
            }
            ("pattern", Value::String(text)) => {
                if argument.as_str().is_some_and(|pattern| !self.search(pattern, text)) {
                    fail(format!("{} does not match {}", repr(instance), repr(argument)));
                }
                "pattern"
            }
            ("format", _) => {
                if argument
                    .as_str()
                    .is_some_and(|format| !(self.formats)(format, instance))
                {
                    fail(format!("{} is not a {}", repr(instance), repr(argument)));
                }
                "format"
            }
            ("enum", _) => {
                if !argument.as_array().is_some_and(|values| values.contains(instance)) {
                    fail(format!("{} is not one of {}", repr(instance), repr(argument)));
                }
                "enum"
            }
            ("const", _) => {
                if argument != instance {
                    fail(format!("{} was expected", repr(argument)));
                }
                "const"
            }
            ("$ref", _) => {
                let target = argument.as_str().and_then(|reference| reference.strip_prefix('#'));
                if let Some(target) = target.and_then(|pointer| self.document.pointer(pointer)) {
                    self.descend(instance, target, None, None, errors);
                }
                "$ref"
            }
            ("allOf", _) => {
                for (index, sub) in argument.as_array().into_iter().flatten().enumerate() {
                    self.descend(instance, sub, None, Some(Step::Index(index)), errors);
                }
                "allOf"
            }
            ("anyOf", _) => {
                self.alternatives(argument, instance, errors);
                "anyOf"
            }
            ("oneOf", _) => {
                if self.alternatives(argument, instance, errors) {
                    self.refuse_several(argument, instance, errors);
                }
                "oneOf"
            }
            ("not", _) => {
                if self.is_valid(instance, argument) {
                    fail(format!(
                        "{} should not be valid under {}",
                        repr(instance),
                        repr(argument)
                    ));
                }
                "not"
            }
            ("if", _) => {
                let branch = if self.is_valid(instance, argument) {
                    "then"
                } else {
                    "else"
                };
                if let Some(sub) = schema.get(branch) {
                    self.descend(instance, sub, None, Some(Step::Key(branch.to_owned())), errors);
                }
                "if"
            }
            _ => "",
        }
    }

    fn additional(
        &self,
        argument: &Value,
        map: &Map<String, Value>,
        schema: &Map<String, Value>,
        errors: &mut Vec<ValidationError>,
    ) {
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let properties = schema.get("properties").and_then(Value::as_object);
        let extras: BTreeSet<&str> = map
            .keys()
            .map(String::as_str)
            .filter(|name| !properties.is_some_and(|known| known.contains_key(*name)))
            .filter(|name| !patterns.is_some_and(|known| known.keys().any(|pattern| self.search(pattern, name))))
            .collect();
        if argument.is_object() {
            for name in extras {
                self.descend(&map[name], argument, Some(Step::Key(name.to_owned())), None, errors);
            }
        } else if argument == false && !extras.is_empty() {
            let joined = extras.iter().map(|name| repr_str(name)).collect::<Vec<_>>().join(", ");
            let one = extras.len() == 1;
            errors.push(unset(match patterns {
                Some(patterns) => {
                    let mut names: Vec<_> = patterns.keys().collect();
                    names.sort();
                    let names: Vec<_> = names.into_iter().map(|name| repr_str(name)).collect();
                    let verb = if one { "does" } else { "do" };
                    format!("{joined} {verb} not match any of the regexes: {}", names.join(", "))
                }
                None => {
                    let verb = if one { "was" } else { "were" };
                    format!("Additional properties are not allowed ({joined} {verb} unexpected)")
                }
            }));
        }
    }

    /// Whether one of the alternatives holds; if none does, the error that has all of theirs.
    fn alternatives(&self, argument: &Value, instance: &Value, errors: &mut Vec<ValidationError>) -> bool {
        let mut context = Vec::new();
        for (index, sub) in argument.as_array().into_iter().flatten().enumerate() {
            let mut inner = Vec::new();
            self.descend(instance, sub, None, Some(Step::Index(index)), &mut inner);
            if inner.is_empty() {
                return true;
            }
            context.extend(inner);
        }
        let message = format!("{} is not valid under any of the given schemas", repr(instance));
        errors.push(ValidationError {
            context,
            ..unset(message)
        });
        false
    }

    fn refuse_several(&self, argument: &Value, instance: &Value, errors: &mut Vec<ValidationError>) {
        let mut valid = argument
            .as_array()
            .into_iter()
            .flatten()
            .filter(|sub| self.is_valid(instance, sub))
            .collect::<Vec<_>>();
        if valid.len() > 1 {
            valid.rotate_left(1);
            let reprs: Vec<_> = valid.into_iter().map(repr).collect();
            errors.push(unset(format!(
                "{} is valid under each of {}",
                repr(instance),
                reprs.join(", ")
            )));
        }
    }
}

fn bounds(keyword: &str, argument: &Value, number: &serde_json::Number, fail: &mut impl FnMut(String)) -> &'static str {
    let order = compare(&Value::Number(number.clone()), argument);
    let value = Value::Number(number.clone());
    let (keyword, failed, how) = match keyword {
        "minimum" => ("minimum", order == Ordering::Less, "less than the minimum of"),
        "maximum" => ("maximum", order == Ordering::Greater, "greater than the maximum of"),
        "exclusiveMinimum" => (
            "exclusiveMinimum",
            order != Ordering::Greater,
            "less than or equal to the minimum of",
        ),
        _ => (
            "exclusiveMaximum",
            order != Ordering::Less,
            "greater than or equal to the maximum of",
        ),
    };
    if failed {
        fail(format!("{} is {how} {}", repr(&value), repr(argument)));
    }
    keyword
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn is_type(instance: &Value, name: &str) -> bool {
    match name {
        "object" => instance.is_object(),
        "array" => instance.is_array(),
        "string" => instance.is_string(),
        "boolean" => instance.is_boolean(),
        "null" => instance.is_null(),
        "number" => instance.is_number(),
        "integer" => match instance.as_f64().filter(|_| instance.is_f64()) {
            Some(float) => float.fract() == 0.0,
            None => instance.is_number(),
        },
        _ => true,
    }
}

fn matches_type(instance: &Value, schema: &Map<String, Value>) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => is_type(instance, name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .any(|name| is_type(instance, name)),
        _ => false,
    }
}

fn unset(message: String) -> ValidationError {
    ValidationError {
        message,
        validator: "",
        path: Vec::new(),
        schema_path: Vec::new(),
        schema: Value::Null,
        instance: Value::Null,
        context: Vec::new(),
        matches_type: false,
    }
}

fn error(message: String, validator: &'static str, instance: &Value, schema: &Value) -> ValidationError {
    ValidationError {
        validator,
        instance: instance.clone(),
        schema: schema.clone(),
        ..unset(message)
    }
}

/// `jsonschema.exceptions.relevance`.
fn relevance(a: &ValidationError, b: &ValidationError) -> Ordering {
    let weak = |error: &ValidationError| !matches!(error.validator, "anyOf" | "oneOf");
    b.path
        .len()
        .cmp(&a.path.len())
        .then_with(|| a.path.cmp(&b.path))
        .then_with(|| weak(a).cmp(&weak(b)))
        .then_with(|| (!a.matches_type).cmp(&!b.matches_type))
}

fn best_match(errors: Vec<ValidationError>) -> Option<ValidationError> {
    // Of equals Python's max() keeps the first, Rust's max_by the last.
    let mut best = errors.into_iter().reduce(|best, next| {
        if relevance(&next, &best) == Ordering::Greater {
            next
        } else {
            best
        }
    })?;
    while !best.context.is_empty() {
        let mut inner = std::mem::take(&mut best.context);
        inner.sort_by(relevance);
        if inner.len() > 1 && relevance(&inner[0], &inner[1]) == Ordering::Equal {
            return Some(best);
        }
        best = inner.swap_remove(0);
    }
    Some(best)
}

fn collect_patterns(schema: &Value, patterns: &mut HashMap<String, Regex>) {
    let mut add = |pattern: &str| {
        patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| match Regex::new(pattern) {
                Ok(regex) => regex,
                Err(error) => panic!("pattern {pattern} of a schema: {error}"),
            });
    };
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern") {
                add(pattern);
            }
            if let Some(Value::Object(properties)) = map.get("patternProperties") {
                properties.keys().for_each(|pattern| add(pattern));
            }
            map.values().for_each(|sub| collect_patterns(sub, patterns));
        }
        Value::Array(items) => items.iter().for_each(|sub| collect_patterns(sub, patterns)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(schema: Value, instance: Value) -> String {
        Schema::new(schema)
            .validate(&instance)
            .expect_err("must fail")
            .to_string()
    }

    #[test]
    fn the_text_is_pythons() {
        let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}},
            "required": ["name"], "additionalProperties": false});
        assert_eq!(
            text(schema.clone(), json!({"name": "abcd"})),
            "'abcd' is too long\n\nFailed validating 'maxLength' in schema['properties']['name']:\n    \
             {'type': 'string', 'maxLength': 3}\n\nOn instance['name']:\n    'abcd'"
        );
        assert_eq!(
            text(schema, json!({"x": 1, "name": "a"})),
            "Additional properties are not allowed ('x' was unexpected)\n\nFailed validating \
             'additionalProperties' in schema:\n    {'type': 'object',\n     'properties': {'name': {'type': 'string', \
             'maxLength': 3}},\n     'required': ['name'],\n     'additionalProperties': False}\n\nOn instance:\n    \
             {'x': 1, 'name': 'a'}"
        );
    }

    #[test]
    fn of_several_errors_the_shallowest_wins_and_alternatives_are_entered() {
        let schema = json!({"type": "object", "properties": {
            "a": {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]},
            "b": {"type": "object", "properties": {"c": {"type": "integer"}}}}, "required": ["z"]});
        let error = Schema::new(schema.clone())
            .validate(&json!({"b": {"c": "x"}}))
            .unwrap_err();
        assert_eq!(error.message, "'z' is a required property");
        let error = Schema::new(schema).validate(&json!({"a": "x", "z": 1})).unwrap_err();
        assert_eq!(error.message, "'x' is not a 'uuid'");
    }

    #[test]
    fn whole_floats_are_integers_and_bounds_are_named() {
        let schema = Schema::new(json!({"type": "integer", "minimum": 1, "maximum": 2147483647}));
        assert!(schema.validate(&json!(5.0)).is_ok());
        assert_eq!(
            schema.validate(&json!(0)).unwrap_err().message,
            "0 is less than the minimum of 1"
        );
        assert_eq!(
            schema.validate(&json!(true)).unwrap_err().message,
            "True is not of type 'integer'"
        );
    }
}
