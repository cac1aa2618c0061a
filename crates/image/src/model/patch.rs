//! `PATCH /v2/images/{id}`: JSON patches in upstream's two dialects.

use serde_json::{Map, Value};

use super::Refusal;
use super::schemas;

/// What to do with a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Sets it; in the older dialect only where it is not there yet.
    Add,
    /// Takes it away.
    Remove,
    /// Changes it.
    Replace,
}

/// One step of a patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What to do.
    pub operation: Operation,
    /// Where: a name, for locations a position too.
    pub path: Vec<String>,
    /// The new value; null for removal.
    pub value: Value,
    /// Whether an addition must not overwrite.
    pub strict_add: bool,
}

/// The dialect that a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `application/openstack-images-v2.0-json-patch`, after an early draft.
    Draft4,
    /// `application/openstack-images-v2.1-json-patch`.
    Draft10,
}

/// The media types of patches.
pub const MEDIA_TYPES: [&str; 2] = [
    "application/openstack-images-v2.0-json-patch",
    "application/openstack-images-v2.1-json-patch",
];

impl Dialect {
    /// The dialect of a media type.
    pub fn of(media: &str) -> Option<Dialect> {
        match MEDIA_TYPES.iter().position(|known| *known == media)? {
            0 => Some(Dialect::Draft4),
            _ => Some(Dialect::Draft10),
        }
    }
}

/// Attributes that nobody may change.
pub const READ_ONLY: [&str; 13] = [
    "created_at",
    "updated_at",
    "status",
    "checksum",
    "size",
    "virtual_size",
    "direct_url",
    "self",
    "file",
    "schema",
    "id",
    "os_hash_algo",
    "os_hash_value",
];

/// Names that are not for users.
pub const RESERVED: [&str; 3] = ["location", "deleted", "deleted_at"];

/// Names that begin so are not for users either.
pub const RESERVED_PREFIX: &str = "os_glance";

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(text.into()))
}

/// Reads a patch.
///
/// # Errors
/// Upstream's refusals.
pub fn parse(body: &Value, dialect: Dialect) -> Result<Vec<Change>, Refusal> {
    let Value::Array(steps) = body else {
        return invalid("Request body must be a JSON array of operation objects.");
    };
    steps
        .iter()
        .map(|step| match step {
            Value::Object(step) => change(step, dialect),
            _ => invalid("Operations must be JSON objects."),
        })
        .collect()
}

fn named(name: &str) -> Option<Operation> {
    match name {
        "add" => Some(Operation::Add),
        "remove" => Some(Operation::Remove),
        "replace" => Some(Operation::Replace),
        _ => None,
    }
}

fn change(step: &Map<String, Value>, dialect: Dialect) -> Result<Change, Refusal> {
    let (name, operation, pointer) = match dialect {
        Dialect::Draft10 => draft10(step)?,
        Dialect::Draft4 => draft4(step)?,
    };
    let path = decode(pointer)?;
    let root = path[0].as_str();
    let depth = match (root, operation) {
        ("locations", Operation::Add | Operation::Remove) => 2,
        _ => 1,
    };
    if path.len() != depth {
        return invalid(format!("Invalid JSON pointer for this resource: '/{}'", path.join("/")));
    }
    let value = if operation == Operation::Remove {
        Value::Null
    } else {
        match step.get("value") {
            Some(value) => value.clone(),
            None => return invalid(format!("Operation \"{name}\" requires a member named \"value\".")),
        }
    };
    if READ_ONLY.contains(&root) {
        return Err(Refusal::Forbidden(format!("Attribute '{root}' is read-only.")));
    }
    if RESERVED.contains(&root) || root.starts_with(RESERVED_PREFIX) {
        return Err(Refusal::Forbidden(format!("Attribute '{root}' is reserved.")));
    }
    if operation != Operation::Remove {
        let partial = if depth == 1 {
            value.clone()
        } else {
            Value::Array(vec![value.clone()])
        };
        let partial = Value::Object(Map::from_iter([(root.to_owned(), partial)]));
        schemas::check("image", &schemas::IMAGE, &partial)?;
    }
    Ok(Change {
        operation,
        path,
        value,
        strict_add: dialect == Dialect::Draft4,
    })
}

const SUPPORTED: &str = "add, remove, replace";

fn draft10(step: &Map<String, Value>) -> Result<(&str, Operation, &str), Refusal> {
    let Some(given) = step.get("op").filter(|op| !op.is_null()) else {
        return invalid(format!(
            "Unable to find `op` in JSON Schema change. It must be one of the following: {SUPPORTED}."
        ));
    };
    let Some((name, operation)) = given.as_str().and_then(|name| Some((name, named(name)?))) else {
        return invalid(format!(
            "Invalid operation: `{}`. It must be one of the following: {SUPPORTED}.",
            api::python::repr(given).trim_matches('\'')
        ));
    };
    match step.get("path").and_then(Value::as_str) {
        Some(path) => Ok((name, operation, path)),
        None => invalid("Unable to find 'path' in JSON Schema change"),
    }
}

fn draft4(step: &Map<String, Value>) -> Result<(&str, Operation, &str), Refusal> {
    let mut found = None;
    for (name, pointer) in step {
        let Some(operation) = named(name) else { continue };
        if found.is_some() {
            return invalid(
                "Operation objects must contain only one member named \"add\", \"remove\", or \"replace\".",
            );
        }
        found = Some((name.as_str(), operation, pointer.as_str().unwrap_or_default()));
    }
    match found {
        Some(found) => Ok(found),
        None => invalid("Operation objects must contain exactly one member named \"add\", \"remove\", or \"replace\"."),
    }
}

/// A JSON pointer's parts.
fn decode(pointer: &str) -> Result<Vec<String>, Refusal> {
    if !pointer.starts_with('/') {
        return invalid(format!("Pointer `{pointer}` does not start with \"/\"."));
    }
    let rest = &pointer[1..];
    let parts: Vec<&str> = rest.split('/').collect();
    let adjacent = parts.len() > 2 && parts[1..parts.len() - 1].iter().any(|part| part.trim().is_empty());
    if adjacent {
        return invalid(format!("Pointer `{pointer}` contains adjacent \"/\"."));
    }
    if pointer.len() > 1 && pointer.ends_with('/') {
        return invalid(format!("Pointer `{pointer}` end with \"/\"."));
    }
    if rest.trim() == "/" {
        return invalid(format!("Pointer `{pointer}` does not contains valid token."));
    }
    let mut chars = pointer.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '~' && !matches!(chars.peek(), Some('0' | '1')) {
            return invalid(format!(
                "Pointer `{pointer}` contains \"~\" not part of a recognized escape sequence."
            ));
        }
    }
    let rest = pointer.trim_start_matches('/');
    Ok(rest
        .split('/')
        .map(|part| part.replace("~1", "/").replace("~0", "~").trim().to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(body: Value, dialect: Dialect) -> String {
        parse(&body, dialect).expect_err("must be refused").to_string()
    }

    #[test]
    fn both_dialects_say_the_same() {
        let new = parse(
            &json!([{"op": "replace", "path": "/name", "value": "x"}]),
            Dialect::Draft10,
        )
        .unwrap();
        let old = parse(&json!([{"replace": "/name", "value": "x"}]), Dialect::Draft4).unwrap();
        assert_eq!(new[0].path, old[0].path);
        assert_eq!(
            (new[0].operation, old[0].operation),
            (Operation::Replace, Operation::Replace)
        );
        assert!(old[0].strict_add && !new[0].strict_add);
    }

    #[test]
    fn pointers_are_decoded_and_checked() {
        assert_eq!(decode("/a~1b~0c").unwrap(), ["a/b~c"]);
        for (pointer, what) in [
            ("a", "does not start"),
            ("/a//b", "adjacent"),
            ("/a/", "end with"),
            ("/a~2", "not part of"),
        ] {
            assert!(decode(pointer).unwrap_err().to_string().contains(what), "{pointer}");
        }
        let deep = json!([{"op": "add", "path": "/a/b", "value": "x"}]);
        assert_eq!(
            refused(deep, Dialect::Draft10),
            "Invalid JSON pointer for this resource: '/a/b'"
        );
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        let body = json!([{"op": "replace", "path": "/id", "value": "x"}]);
        assert_eq!(refused(body, Dialect::Draft10), "Attribute 'id' is read-only.");
        let body = json!([{"op": "add", "path": "/os_glance_x", "value": "x"}]);
        assert_eq!(refused(body, Dialect::Draft10), "Attribute 'os_glance_x' is reserved.");
        let body = json!([{"op": "add", "path": "/a"}]);
        assert_eq!(
            refused(body, Dialect::Draft10),
            "Operation \"add\" requires a member named \"value\"."
        );
        let body = json!([{"op": "move", "path": "/a"}]);
        assert!(refused(body, Dialect::Draft10).starts_with("Invalid operation: `move`."));
        let body = json!([{"op": "replace", "path": "/min_ram", "value": "x"}]);
        assert!(
            refused(body, Dialect::Draft10)
                .starts_with("Provided object does not match schema 'image': 'x' is not of type 'integer'")
        );
        assert_eq!(
            refused(json!({}), Dialect::Draft4),
            "Request body must be a JSON array of operation objects."
        );
    }
}
