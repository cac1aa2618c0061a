//! JSON schemas of bodies and queries, by microversion.

use std::sync::LazyLock;

use api::json_schema::{Schema, default_formats, lenient_uuid_formats};
use api::{Error, Request, Version};
use serde_json::{Map, Value, json};

use crate::model::MAX_INT;

const UUID: &str = "^[0-9a-fA-F-]{36}$";
const NAME: &str = "^[A-Z0-9_]+$";
const CUSTOM: &str = "^CUSTOM_[A-Z0-9_]+$";
const GROUP: &str = "[1-9][0-9]*";
const GROUP_1_33: &str = "[a-zA-Z0-9_-]{1,64}";

/// A schema of a body.
pub type Body = LazyLock<Schema>;

fn body(schema: Value) -> Schema {
    Schema::new(schema).with_formats(lenient_uuid_formats)
}

fn object(properties: Value, required: &[&str]) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema["additionalProperties"] = json!(false);
    schema
}

fn set(mut schema: Value, path: &str, value: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(Value::Object(map)) = schema.pointer_mut(parent) {
        map.insert(key.to_owned(), value);
    }
    schema
}

fn require(mut schema: Value, name: &str) -> Value {
    if let Some(Value::Array(names)) = schema.get_mut("required") {
        names.push(json!(name));
    }
    schema
}

/// The body as JSON that obeys the schema.
pub fn read(request: &Request, schema: &Schema) -> Result<Value, Error> {
    let value: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Error::bad_request(format!("Malformed JSON: {error}")))?;
    schema
        .validate(&value)
        .map_err(|error| Error::bad_request(format!("JSON does not validate: {error}")))?;
    Ok(value)
}

/// Checks the query: of repeated parameters the last counts.
pub fn check_query(request: &Request, schema: &Schema) -> Result<(), Error> {
    let mut map = Map::new();
    for (name, value) in request.query.iter() {
        map.insert(name.to_owned(), json!(value));
    }
    schema
        .validate(&Value::Object(map))
        .map_err(|error| Error::bad_request(format!("Invalid query string parameters: {error}")))
}

/// Schemas from the newest to the oldest, each with the version it begins at.
pub struct Versions(Vec<(Version, Schema)>);

impl Versions {
    /// The schema of a version.
    pub fn of(&self, version: Version) -> &Schema {
        let found = self.0.iter().find(|(from, _)| *from <= version).or(self.0.last());
        &found.expect("a table of schemas is not empty").1
    }

    fn bodies(oldest_first: Vec<(u16, Value)>) -> Versions {
        Versions(
            oldest_first
                .into_iter()
                .rev()
                .map(|(minor, schema)| (Version(1, minor), body(schema)))
                .collect(),
        )
    }

    fn queries(oldest_first: Vec<(u16, Value)>) -> Versions {
        let query = |schema| Schema::new(schema).with_formats(default_formats);
        Versions(
            oldest_first
                .into_iter()
                .rev()
                .map(|(minor, schema)| (Version(1, minor), query(schema)))
                .collect(),
        )
    }
}

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn parent() -> Value {
    json!({"anyOf": [uuid(), {"type": "null"}]})
}

/// `POST /resource_providers`.
pub static CREATE_PROVIDER: LazyLock<Versions> = LazyLock::new(|| {
    let first = object(
        json!({"name": {"type": "string", "maxLength": 200}, "uuid": uuid()}),
        &["name"],
    );
    let nested = set(first.clone(), "/properties/parent_provider_uuid", parent());
    Versions::bodies(vec![(0, first), (14, nested)])
});

/// `PUT /resource_providers/{uuid}`.
pub static UPDATE_PROVIDER: LazyLock<Versions> = LazyLock::new(|| {
    let first = object(json!({"name": {"type": "string", "maxLength": 200}}), &["name"]);
    let nested = set(first.clone(), "/properties/parent_provider_uuid", parent());
    Versions::bodies(vec![(0, first), (14, nested)])
});

/// `GET /resource_providers`.
pub static LIST_PROVIDERS: LazyLock<Versions> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let first = object(json!({"name": text(), "uuid": uuid()}), &[]);
    let aggregates = set(first.clone(), "/properties/member_of", text());
    let resources = set(aggregates.clone(), "/properties/resources", text());
    let tree = set(resources.clone(), "/properties/in_tree", uuid());
    let traits = set(tree.clone(), "/properties/required", text());
    Versions::queries(vec![
        (0, first),
        (3, aggregates),
        (4, resources),
        (14, tree),
        (18, traits),
    ])
});

fn inventory() -> Value {
    let integer = |minimum: i64| json!({"type": "integer", "maximum": MAX_INT, "minimum": minimum});
    json!({
        "resource_provider_generation": {"type": "integer"},
        "total": integer(1),
        "reserved": integer(0),
        "min_unit": integer(1),
        "max_unit": integer(1),
        "step_size": integer(1),
        "allocation_ratio": {"type": "number", "maximum": 3.40282e+38},
    })
}

/// `PUT /resource_providers/{uuid}/inventories/{resource_class}`.
pub static UPDATE_INVENTORY: Body =
    LazyLock::new(|| body(object(inventory(), &["total", "resource_provider_generation"])));

/// `POST /resource_providers/{uuid}/inventories`.
pub static CREATE_INVENTORY: Body = LazyLock::new(|| {
    let schema = object(inventory(), &["total", "resource_class"]);
    body(set(
        schema,
        "/properties/resource_class",
        json!({"type": "string", "pattern": NAME}),
    ))
});

fn inventories() -> Value {
    let record = object(inventory(), &["total"]);
    object(
        json!({
            "resource_provider_generation": {"type": "integer"},
            "inventories": {"type": "object", "patternProperties": {NAME: record}},
        }),
        &["resource_provider_generation", "inventories"],
    )
}

/// `PUT /resource_providers/{uuid}/inventories`.
pub static SET_INVENTORIES: Body = LazyLock::new(|| body(inventories()));

/// `PUT /resource_providers/{uuid}/aggregates`.
pub static SET_AGGREGATES: LazyLock<Versions> = LazyLock::new(|| {
    let list = json!({"type": "array", "items": uuid(), "uniqueItems": true});
    let with_generation = object(
        json!({"aggregates": list, "resource_provider_generation": {"type": "integer"}}),
        &["aggregates", "resource_provider_generation"],
    );
    Versions::bodies(vec![(1, list), (19, with_generation)])
});

/// `PUT /resource_providers/{uuid}/traits`.
pub static SET_TRAITS: Body = LazyLock::new(|| {
    let name = json!({"type": "string", "minLength": 1, "maxLength": 255});
    body(object(
        json!({
            "traits": {"type": "array", "items": name},
            "resource_provider_generation": {"type": "integer"},
        }),
        &["traits", "resource_provider_generation"],
    ))
});

/// The name in `PUT /traits/{name}`.
pub static CUSTOM_TRAIT: Body =
    LazyLock::new(|| body(json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": CUSTOM})));

/// `GET /traits`.
pub static LIST_TRAITS: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(object(
        json!({"name": {"type": "string"}, "associated": {"type": "string"}}),
        &[],
    ))
});

/// `POST /resource_classes` and `PUT /resource_classes/{name}`.
pub static RESOURCE_CLASS: Body = LazyLock::new(|| {
    body(object(
        json!({"name": {"type": "string", "pattern": CUSTOM, "maxLength": 255}}),
        &["name"],
    ))
});

/// `GET /usages`.
pub static USAGES: LazyLock<Versions> = LazyLock::new(|| {
    let text = || json!({"type": "string", "minLength": 1, "maxLength": 255});
    let first = object(json!({"project_id": text(), "user_id": text()}), &["project_id"]);
    let pattern = format!("{NAME}|^all|^unknown$");
    let by_type = set(
        first.clone(),
        "/properties/consumer_type",
        json!({"type": "string", "pattern": pattern, "minLength": 1, "maxLength": 255}),
    );
    Versions::queries(vec![(9, first), (38, by_type)])
});

/// `GET /allocation_candidates`.
pub static CANDIDATES: LazyLock<Versions> = LazyLock::new(|| {
    let text = || json!({"type": "string"});
    let list = || json!({"type": ["string"]});
    let v10 = object(json!({"resources": text()}), &["resources"]);
    let limit = json!({"type": ["integer", "string"], "pattern": "^[1-9][0-9]*$", "minimum": 1, "minLength": 1});
    let v16 = set(v10.clone(), "/properties/limit", limit.clone());
    let v17 = set(v16.clone(), "/properties/required", list());
    let v21 = set(v17.clone(), "/properties/member_of", list());
    let groups = |suffix: &str, names: &[&str]| {
        let pairs = names.iter().map(|name| (format!("^{name}({suffix})?$"), text()));
        Value::Object(pairs.collect())
    };
    let mut v25 = json!({"type": "object", "properties": {"limit": limit}, "additionalProperties": false});
    v25 = set(
        v25,
        "/patternProperties",
        groups(GROUP, &["resources", "required", "member_of"]),
    );
    v25 = set(
        v25,
        "/properties/group_policy",
        json!({"type": "string", "enum": ["none", "isolate"]}),
    );
    let tree = groups(GROUP, &["resources", "required", "member_of", "in_tree"]);
    let v31 = set(v25.clone(), "/patternProperties", tree);
    let named = groups(GROUP_1_33, &["resources", "required", "member_of", "in_tree"]);
    let v33 = set(v31.clone(), "/patternProperties", named);
    let v35 = set(v33.clone(), "/properties/root_required", list());
    let v36 = set(v35.clone(), "/properties/same_subtree", list());
    Versions::queries(vec![
        (10, v10),
        (16, v16),
        (17, v17),
        (21, v21),
        (25, v25),
        (31, v31),
        (33, v33),
        (35, v35),
        (36, v36),
    ])
});

fn resources() -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "patternProperties": {NAME: {"type": "integer", "minimum": 1}},
        "additionalProperties": false,
    })
}

fn owner() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255})
}

fn allocation_1_12() -> Value {
    let per_provider = object(
        json!({"generation": {"type": "integer"}, "resources": resources()}),
        &["resources"],
    );
    json!({
        "type": "object",
        "properties": {
            "allocations": {
                "type": "object",
                "minProperties": 1,
                "patternProperties": {UUID: per_provider},
                "additionalProperties": false,
            },
            "project_id": owner(),
            "user_id": owner(),
        },
        "additionalProperties": false,
        "required": ["allocations", "project_id", "user_id"],
    })
}

fn deletable() -> Value {
    set(allocation_1_12(), "/properties/allocations/minProperties", json!(0))
}

fn allocation_1_28() -> Value {
    let generation = json!({"type": ["integer", "null"], "additionalProperties": false});
    require(
        set(deletable(), "/properties/consumer_generation", generation),
        "consumer_generation",
    )
}

fn allocation_1_34() -> Value {
    let mappings = json!({
        "type": "object",
        "minProperties": 1,
        "patternProperties": {GROUP_1_33: {"type": "array", "minItems": 1, "items": uuid()}},
    });
    set(allocation_1_28(), "/properties/mappings", mappings)
}

fn allocation_1_38() -> Value {
    let kind = json!({"type": "string", "pattern": NAME, "minLength": 1, "maxLength": 255});
    require(
        set(allocation_1_34(), "/properties/consumer_type", kind),
        "consumer_type",
    )
}

/// `PUT /allocations/{consumer_uuid}`.
pub static SET_ALLOCATIONS: LazyLock<Versions> = LazyLock::new(|| {
    let provider = object(json!({"uuid": uuid()}), &["uuid"]);
    let item = object(
        json!({"resource_provider": provider, "resources": resources()}),
        &["resource_provider", "resources"],
    );
    let list = json!({"type": "array", "minItems": 1, "items": item});
    let v0 = object(json!({"allocations": list}), &["allocations"]);
    let mut v8 = set(
        set(v0.clone(), "/properties/project_id", owner()),
        "/properties/user_id",
        owner(),
    );
    v8 = require(require(v8, "project_id"), "user_id");
    Versions::bodies(vec![
        (0, v0),
        (8, v8),
        (12, allocation_1_12()),
        (28, allocation_1_28()),
        (34, allocation_1_34()),
        (38, allocation_1_38()),
    ])
});

fn by_consumer(allocation: Value, least: u64) -> Value {
    json!({
        "type": "object",
        "minProperties": least,
        "additionalProperties": false,
        "patternProperties": {UUID: allocation},
    })
}

/// `POST /allocations`.
pub static MANAGE_ALLOCATIONS: LazyLock<Versions> = LazyLock::new(|| {
    Versions::bodies(vec![
        (13, by_consumer(deletable(), 1)),
        (28, by_consumer(allocation_1_28(), 1)),
        (34, by_consumer(allocation_1_34(), 1)),
        (38, by_consumer(allocation_1_38(), 1)),
    ])
});

/// `POST /reshaper`.
pub static RESHAPER: LazyLock<Versions> = LazyLock::new(|| {
    let schema = |allocation: Value| {
        object(
            json!({
                "inventories": {
                    "type": "object",
                    "patternProperties": {UUID: inventories()},
                    "minProperties": 1,
                    "additionalProperties": false,
                },
                "allocations": by_consumer(allocation, 0),
            }),
            &["inventories", "allocations"],
        )
    };
    Versions::bodies(vec![
        (30, schema(allocation_1_28())),
        (34, schema(allocation_1_34())),
        (38, schema(allocation_1_38())),
    ])
});
