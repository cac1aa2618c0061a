//! The JSON schemas of the API: what clients can ask for under `/v2/schemas`, and what bodies are checked against.
//!
//! `schemas.json` holds those of single objects; collections are made of them.

use std::sync::LazyLock;

use api::json_schema::Schema;
use serde_json::{Value, json};

use super::Refusal;

static DOCUMENTS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).expect("schemas.json is part of the program"));

/// An image.
pub static IMAGE: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["image"].clone()));
/// A location that is to be added.
pub static LOCATION: LazyLock<Schema> = LazyLock::new(|| {
    let validation = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "os_hash_algo": {"type": "string", "maxLength": 64, "enum": ["sha1", "sha256", "sha512", "md5"]},
            "os_hash_value": {"type": "string", "maxLength": 128},
        },
    });
    let location = json!({
        "type": "object",
        "properties": {"url": {"type": "string"}, "validation_data": validation},
        "required": ["url"],
    });
    Schema::new(json!({"name": "location", "properties": {"add_location": location}}))
});
/// A task.
pub static TASK: LazyLock<Schema> = LazyLock::new(|| {
    let mut document = DOCUMENTS["task"].clone();
    document["additionalProperties"] = json!(false);
    Schema::new(document)
});
/// A namespace of metadata definitions.
pub static NAMESPACE: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["metadef_namespace"].clone()));
/// A definition of an object.
pub static OBJECT: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["metadef_object"].clone()));
/// A definition of a property.
pub static PROPERTY: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["metadef_property"].clone()));
/// A definition of a property whose name stands elsewhere.
pub static NAMELESS_PROPERTY: LazyLock<Schema> = LazyLock::new(|| {
    let mut document = DOCUMENTS["metadef_property"].clone();
    document["required"] = json!(["type", "title"]);
    Schema::new(document)
});
/// A type of resource that a namespace is for.
pub static RESOURCE_TYPE: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["metadef_resource_type"].clone()));
/// A tag of a namespace.
pub static TAG: LazyLock<Schema> = LazyLock::new(|| Schema::new(DOCUMENTS["metadef_tag"].clone()));
/// The tags of a namespace.
pub static TAGS: LazyLock<Schema> = LazyLock::new(|| {
    let name = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": false});
    let properties = json!({"tags": {"type": "array", "items": name}});
    Schema::new(json!({"name": "tags", "properties": properties, "additionalProperties": false}))
});

/// Checks a body.
///
/// # Errors
/// Upstream's text, with the schema's `name`.
pub fn check(name: &str, schema: &Schema, body: &Value) -> Result<(), Refusal> {
    schema
        .validate(body)
        .map_err(|error| Refusal::Invalid(format!("Provided object does not match schema '{name}': {error}")))
}

/// The names under `/v2/schemas` and what they show.
pub const NAMES: [&str; 16] = [
    "image",
    "images",
    "member",
    "members",
    "task",
    "tasks",
    "metadefs/namespace",
    "metadefs/namespaces",
    "metadefs/resource_type",
    "metadefs/resource_types",
    "metadefs/property",
    "metadefs/properties",
    "metadefs/object",
    "metadefs/objects",
    "metadefs/tag",
    "metadefs/tags",
];

/// The document of one of [`NAMES`].
pub fn document(name: &str) -> Option<Value> {
    let single = |name: &str| DOCUMENTS[name].clone();
    Some(match name {
        "image" | "member" | "task" => single(name),
        "images" => collection("images", single("image"), true, false),
        "members" => collection("members", single("member"), false, false),
        "tasks" => {
            let mut item = single("task");
            if let Some(properties) = item["properties"].as_object_mut() {
                for detail in ["input", "result", "message"] {
                    properties.shift_remove(detail);
                }
            }
            collection("tasks", item, false, false)
        }
        "metadefs/namespace" => single("metadef_namespace"),
        "metadefs/namespaces" => collection("namespaces", single("metadef_namespace"), true, false),
        "metadefs/resource_type" => single("metadef_resource_type"),
        "metadefs/resource_types" => collection(
            "resource_type_associations",
            single("metadef_resource_type"),
            true,
            false,
        ),
        "metadefs/property" => single("metadef_property"),
        "metadefs/properties" => collection("properties", single("metadef_property"), true, true),
        "metadefs/object" => single("metadef_object"),
        "metadefs/objects" => collection("objects", single("metadef_object"), true, false),
        "metadefs/tag" => single("metadef_tag"),
        "metadefs/tags" => collection("tags", single("metadef_tag"), true, false),
        _ => return None,
    })
}

fn collection(name: &str, mut item: Value, paged: bool, by_name: bool) -> Value {
    let definitions = item.as_object_mut().and_then(|item| item.shift_remove("definitions"));
    let items = if by_name {
        json!({"type": "object", "additionalProperties": item})
    } else {
        json!({"type": "array", "items": item})
    };
    let mut properties = json!({name: items});
    let mut links = Vec::new();
    if paged {
        properties["first"] = json!({"type": "string"});
        properties["next"] = json!({"type": "string"});
        links.push(json!({"rel": "first", "href": "{first}"}));
        links.push(json!({"rel": "next", "href": "{next}"}));
    }
    properties["schema"] = json!({"type": "string"});
    links.push(json!({"rel": "describedby", "href": "{schema}"}));
    let mut document = json!({"name": name, "properties": properties, "links": links});
    if let Some(definitions) = definitions {
        document["definitions"] = definitions;
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_document() {
        for name in NAMES {
            let document = document(name).unwrap();
            assert!(document["properties"].is_object(), "{name}");
        }
        assert_eq!(
            document("images").unwrap()["properties"]["images"]["items"]["name"],
            "image"
        );
        assert_eq!(
            document("metadefs/properties").unwrap()["definitions"].is_object(),
            true
        );
    }

    #[test]
    fn properties_of_users_are_texts() {
        assert!(check("image", &IMAGE, &json!({"name": "a", "hw_x": "y", "min_ram": 1})).is_ok());
        assert!(check("image", &IMAGE, &json!({"hw_x": 1})).is_err());
        assert!(check("image", &IMAGE, &json!({"visibility": "secret"})).is_err());
    }
}
