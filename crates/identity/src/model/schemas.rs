//! The JSON schemas of requests, and what upstream says when they are not met.

use crate::{Error, Result};
use api::schema::{Schema, Violation, is_uuid_like, python_str};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// Checks a body (or a query as an object), with the text of upstream's validated operations.
pub fn check(schema: &Schema, value: &Value) -> Result<()> {
    schema.validate(value).map_err(|violation| match violation.path.last() {
        Some(last) => Error::Invalid(format!(
            "Invalid input for field/attribute {last}. Value: {}. {}",
            python_str(&violation.value),
            violation.message
        )),
        None => Error::Invalid(violation.message.clone()),
    })
}

/// Checks a part of a body, with the text of upstream's older operations.
pub fn check_part(schema: &Schema, value: &Value) -> Result<()> {
    schema
        .validate(value)
        .map_err(|violation: Box<Violation>| match violation.path.is_empty() {
            false => Error::Invalid(format!(
                "Invalid input for field '{}': {}",
                violation.path.join("/"),
                violation.message
            )),
            true => Error::Invalid(violation.message.clone()),
        })
}

fn boolean() -> Value {
    json!({"type": ["boolean", "string", "null"], "enum": [
        true, "True", "TRUE", "true", false, "False", "FALSE", "false", "", "1", "0", "y", "Y", "n", "N", "on", "ON", "off", "OFF", "yes", "no"
    ]})
}

fn name(limit: u32) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": limit, "pattern": "[\\S]+"})
}

fn id() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-]+$"})
}

fn or_null(mut schema: Value) -> Value {
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn text_or_null() -> Value {
    json!({"type": ["string", "null"]})
}

fn description() -> Value {
    json!({"type": ["string", "null"], "maxLength": 255})
}

fn region() -> Value {
    json!({"type": ["string", "null"], "minLength": 1, "maxLength": 255})
}

fn url() -> Value {
    json!({"type": "string", "minLength": 0, "maxLength": 225, "pattern": "^[a-zA-Z0-9+.-]+:.+"})
}

fn tag() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$"})
}

fn tags() -> Value {
    json!({"type": "array", "items": tag(), "maxItems": 80, "uniqueItems": true})
}

fn immutable() -> Value {
    json!({"type": "object", "properties": {"immutable": {"type": ["boolean", "null"], "enum": [true, false, null]}}, "additionalProperties": false})
}

fn user_options() -> Value {
    let flag = || json!({"type": ["boolean", "null"], "enum": [true, false, null]});
    json!({"type": "object", "additionalProperties": false, "properties": {
        "ignore_change_password_upon_first_use": flag(),
        "ignore_password_expiry": flag(),
        "ignore_lockout_failure_attempts": flag(),
        "lock_password": flag(),
        "ignore_user_inactivity": flag(),
        "multi_factor_auth_rules": {"type": ["array", "null"], "uniqueItems": true,
            "items": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": true}},
        "multi_factor_auth_enabled": flag(),
    }})
}

/// `{key: {…}}` with nothing beside it.
fn wrapped(key: &str, inner: Value, required: bool) -> Value {
    let needed: Vec<&str> = required.then_some(key).into_iter().collect();
    json!({"type": "object", "properties": {key: inner}, "required": needed, "additionalProperties": false})
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": true})
}

fn changed(properties: Value) -> Value {
    json!({"type": "object", "properties": properties, "minProperties": 1, "additionalProperties": true})
}

fn closed(mut schema: Value) -> Value {
    schema["additionalProperties"] = false.into();
    schema
}

fn merged(mut a: Value, b: Value) -> Value {
    if let (Some(a), Value::Object(b)) = (a.as_object_mut(), b) {
        a.extend(b);
    }
    a
}

fn uuid_format(value: &Value) -> std::result::Result<(), Option<String>> {
    match value.as_str() {
        Some(text) if !is_uuid_like(text) => Err(None),
        _ => Ok(()),
    }
}

fn compiled(schema: Value) -> Schema {
    Schema::with_formats(&schema, &[("uuid", uuid_format)])
}

macro_rules! schemas {
    ($($(#[$meta:meta])* $name:ident = $schema:expr;)*) => {$(
        $(#[$meta])*
        pub static $name: LazyLock<Schema> = LazyLock::new(|| compiled($schema));
    )*};
}

fn user() -> Value {
    json!({
        "default_project_id": text_or_null(),
        "description": text_or_null(),
        "domain_id": id(),
        "enabled": boolean(),
        "federated": {"type": "array", "items": {"type": "object", "required": ["idp_id", "protocols"], "properties": {
            "idp_id": {"type": "string"},
            "protocols": {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["protocol_id", "unique_id"],
                "properties": {"protocol_id": {"type": "string"}, "unique_id": {"type": "string"}}}},
        }}},
        "name": name(255),
        "password": text_or_null(),
        "options": user_options(),
    })
}

fn project() -> Value {
    json!({
        "description": text_or_null(),
        "domain_id": or_null(id()),
        "enabled": boolean(),
        "is_domain": boolean(),
        "parent_id": or_null(id()),
        "name": name(64),
        "tags": tags(),
        "options": immutable(),
    })
}

fn domain() -> Value {
    json!({"description": description(), "enabled": boolean(), "name": name(64), "options": immutable(), "tags": tags()})
}

fn role() -> Value {
    json!({"name": name(255), "description": text_or_null(), "domain_id": or_null(id()), "options": immutable()})
}

fn service() -> Value {
    json!({
        "enabled": {"type": "boolean"},
        "type": {"type": "string", "minLength": 1, "maxLength": 255},
        "name": {"type": "string", "minLength": 1, "maxLength": 255},
    })
}

fn interface() -> Value {
    json!({"type": "string", "enum": ["admin", "internal", "public"]})
}

fn endpoint() -> Value {
    json!({
        "enabled": {"type": "boolean"},
        "interface": interface(),
        "region_id": text_or_null(),
        "region": text_or_null(),
        "service_id": {"type": "string"},
        "url": url(),
        "name": {"type": "string"},
        "description": text_or_null(),
    })
}

fn endpoint_group() -> Value {
    json!({
        "description": text_or_null(),
        "filters": {"type": "object", "properties": {
            "interface": interface(), "service_id": {"type": "string"}, "region_id": text_or_null(), "enabled": {"type": "boolean"},
        }},
        "name": name(255),
    })
}

fn role_by_id_or_name() -> Value {
    json!({"type": "object", "properties": {"id": id(), "name": name(255)}, "minProperties": 1, "maxProperties": 1, "additionalProperties": false})
}

fn limit_value() -> Value {
    json!({"type": "integer", "minimum": -1, "maximum": 2_147_483_647})
}

fn uuid() -> Value {
    json!({"type": "string", "format": "uuid"})
}

fn registered_limit() -> Value {
    json!({
        "service_id": uuid(), "region_id": region(), "resource_name": name(255), "default_limit": limit_value(), "description": description(),
    })
}

fn service_provider() -> Value {
    json!({
        "auth_url": url(), "sp_url": url(), "description": text_or_null(), "enabled": boolean(), "relay_state_prefix": text_or_null(),
    })
}

fn remote_id() -> Value {
    json!({"type": "string", "maxLength": 64})
}

fn identity_provider() -> Value {
    json!({
        "enabled": boolean(),
        "description": text_or_null(),
        "authorization_ttl": {"type": ["integer", "null"], "minimum": 0},
        "remote_ids": {"type": ["array", "null"], "items": remote_id(), "uniqueItems": true},
    })
}

schemas! {
    /// `auth` of `POST /v3/auth/tokens`.
    TOKEN = {
        let domain = json!({"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}});
        json!({"type": "object", "required": ["identity"], "properties": {
            "identity": {"type": "object", "required": ["methods"], "properties": {
                "methods": {"type": "array", "items": {"type": "string"}},
                "password": {"type": "object", "properties": {"user": {"type": "object", "properties": {
                    "id": {"type": "string"}, "name": {"type": "string"}, "password": {"type": "string"}, "domain": domain,
                }}}},
                "token": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
            }},
            "scope": {"type": ["object", "string"], "properties": {
                "project": {"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "string"}, "domain": domain}},
                "domain": domain,
                "OS-TRUST:trust": {"type": "object", "properties": {"id": {"type": "string"}}},
                "system": {"type": "object", "properties": {"all": {"type": "boolean", "enum": [true, false]}}},
            }},
        }})
    };
    /// Queries of lists of users.
    USER_QUERY = json!({"type": "object", "properties": {
        "domain_id": id(), "enabled": boolean(), "name": name(255), "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
    }});
    /// `POST /v3/users`.
    USER_CREATE = wrapped("user", object(user(), &["name"]), true);
    /// `PATCH /v3/users/{id}`.
    USER_UPDATE = wrapped("user", changed(user()), true);
    /// `user` of `POST /v3/users/{id}/password`.
    PASSWORD = closed(object(json!({"original_password": {"type": "string"}, "password": {"type": "string"}}), &["original_password", "password"]));
    /// Queries of lists of groups.
    GROUP_QUERY = json!({"type": "object", "properties": {"domain_id": id(), "name": name(255), "sort_dir": {"type": "string", "enum": ["asc", "desc"]}}});
    /// `POST /v3/groups`.
    GROUP_CREATE = wrapped("group", object(json!({"domain_id": id(), "description": text_or_null(), "name": name(255)}), &["name"]), true);
    /// `PATCH /v3/groups/{id}`.
    GROUP_UPDATE = wrapped("group", changed(json!({"description": text_or_null(), "name": name(255)})), true);
    /// Queries of lists of projects.
    PROJECT_QUERY = json!({"type": "object", "properties": {
        "domain_id": id(), "enabled": boolean(), "name": name(64), "parent_id": uuid(), "is_domain": boolean(),
    }});
    /// `POST /v3/projects`.
    PROJECT_CREATE = wrapped("project", object(project(), &["name"]), false);
    /// `PATCH /v3/projects/{id}`.
    PROJECT_UPDATE = wrapped("project", object(json!({
        "description": text_or_null(), "enabled": boolean(), "name": name(64), "options": immutable(), "tags": tags(),
    }), &[]), false);
    /// `PUT /v3/projects/{id}/tags`.
    TAGS_UPDATE = wrapped("tags", json!({"type": "array", "items": tag()}), false);
    /// All tags of a project.
    TAGS = tags();
    /// One tag.
    TAG = tag();
    /// Queries of lists of domains.
    DOMAIN_QUERY = json!({"type": "object", "properties": {"enabled": boolean(), "name": name(64)}});
    /// `POST /v3/domains`.
    DOMAIN_CREATE = wrapped("domain", object(merged(domain(), json!({"explicit_domain_id": id()})), &["name"]), true);
    /// `PATCH /v3/domains/{id}`.
    DOMAIN_UPDATE = wrapped("domain", changed(domain()), true);
    /// Queries of lists of roles.
    ROLE_QUERY = json!({"type": "object", "properties": {"name": name(255), "domain_id": id()}});
    /// `POST /v3/roles`.
    ROLE_CREATE = wrapped("role", object(role(), &["name"]), true);
    /// `PATCH /v3/roles/{id}`.
    ROLE_UPDATE = wrapped("role", changed(role()), true);
    /// Queries of lists of role assignments.
    ASSIGNMENT_QUERY = json!({"type": "object", "properties": {
        "group.id": id(), "role.id": id(), "scope.domain.id": id(), "scope.project.id": id(), "user.id": {"type": "string"},
    }});
    /// Queries of lists of regions.
    REGION_QUERY = closed(json!({"type": "object", "properties": {"parent_region_id": region()}}));
    /// `POST /v3/regions`.
    REGION_CREATE = json!({"type": "object", "required": ["region"], "properties": {"region": object(json!({
        "description": description(), "id": {"type": ["string", "null"], "minLength": 0, "maxLength": 255}, "parent_region_id": region(),
    }), &[])}});
    /// `PATCH /v3/regions/{id}`.
    REGION_UPDATE = wrapped("region", changed(json!({"description": description(), "id": region(), "parent_region_id": region()})), true);
    /// `POST /v3/services`.
    SERVICE_CREATE = json!({"type": "object", "required": ["service"], "properties": {"service": object(service(), &["type"])}});
    /// `PATCH /v3/services/{id}`.
    SERVICE_UPDATE = json!({"type": "object", "required": ["service"], "properties": {"service": changed(service())}});
    /// Queries of lists of endpoints.
    ENDPOINT_QUERY = json!({"type": "object", "properties": {"interface": interface(), "region_id": text_or_null(), "service_id": {"type": "string"}}});
    /// `POST /v3/endpoints`.
    ENDPOINT_CREATE = wrapped("endpoint", object(merged(json!({"id": {"type": "string"}}), endpoint()), &["interface", "service_id", "url"]), true);
    /// `PATCH /v3/endpoints/{id}`.
    ENDPOINT_UPDATE = wrapped("endpoint", changed(endpoint()), true);
    /// Queries of lists of endpoint groups.
    ENDPOINT_GROUP_QUERY = closed(json!({"type": "object", "properties": {"name": name(255)}}));
    /// `POST /v3/OS-EP-FILTER/endpoint_groups`.
    ENDPOINT_GROUP_CREATE = wrapped("endpoint_group", closed(object(endpoint_group(), &["name", "filters"])), false);
    /// `PATCH /v3/OS-EP-FILTER/endpoint_groups/{id}`.
    ENDPOINT_GROUP_UPDATE = wrapped("endpoint_group", closed(changed(endpoint_group())), true);
    /// `policy` of `POST /v3/policies`.
    POLICY_CREATE = object(json!({"blob": {"type": "string"}, "type": {"type": "string", "maxLength": 255}}), &["blob", "type"]);
    /// `policy` of `PATCH /v3/policies/{id}`.
    POLICY_UPDATE = changed(json!({"blob": {"type": "string"}, "type": {"type": "string", "maxLength": 255}}));
    /// `POST /v3/credentials`.
    CREDENTIAL_CREATE = json!({"type": "object", "required": ["credential"], "properties": {"credential": object(json!({
        "id": {"type": "string"}, "blob": {"type": "string"}, "project_id": text_or_null(), "type": {"type": "string"}, "user_id": {"type": "string"},
    }), &["blob", "type", "user_id"])}});
    /// `PATCH /v3/credentials/{id}`.
    CREDENTIAL_UPDATE = json!({"type": "object", "required": ["credential"], "properties": {
        "credential": closed(object(json!({"blob": {"type": "string"}}), &["blob"])),
    }});
    /// `POST /v3/OS-TRUST/trusts`.
    TRUST_CREATE = wrapped("trust", object(json!({
        "trustor_user_id": {"type": "string"},
        "trustee_user_id": {"type": "string"},
        "impersonation": {"type": "boolean"},
        "project_id": text_or_null(),
        "remaining_uses": {"type": ["integer", "null"], "minimum": 1},
        "expires_at": text_or_null(),
        "allow_redelegation": {"type": ["boolean", "null"]},
        "redelegation_count": {"type": ["integer", "null"], "minimum": 0},
        "redelegated_trust_id": text_or_null(),
        "roles": {"type": "array", "items": role_by_id_or_name()},
    }), &["trustor_user_id", "trustee_user_id", "impersonation"]), true);
    /// `POST /v3/users/{id}/application_credentials`.
    APPLICATION_CREDENTIAL_CREATE = wrapped("application_credential", closed(object(json!({
        "id": {"type": "string"},
        "secret": text_or_null(),
        "name": name(255),
        "description": text_or_null(),
        "expires_at": text_or_null(),
        "project_id": {"type": "string"},
        "access_rules": {"type": "array", "items": {"type": "object", "properties": {
            "id": id(),
            "path": {"type": "string", "minLength": 0, "maxLength": 225, "pattern": "^/\\.*"},
            "service": id(),
            "method": {"type": "string", "enum": ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]},
        }}},
        "unrestricted": {"type": ["boolean", "null"]},
        "system": text_or_null(),
        "roles": {"type": "array", "items": role_by_id_or_name()},
    }), &["name"])), true);
    /// `consumer` of `POST /v3/OS-OAUTH1/consumers`.
    CONSUMER_CREATE = object(json!({"description": text_or_null()}), &[]);
    /// `consumer` of `PATCH /v3/OS-OAUTH1/consumers/{id}`.
    CONSUMER_UPDATE = merged(changed(json!({"description": text_or_null()})), json!({"not": {"required": ["secret"]}}));
    /// `roles` of `PUT /v3/OS-OAUTH1/authorize/{id}`.
    AUTHORIZE = json!({"type": "array", "items": role_by_id_or_name()});
    /// `POST /v3/registered_limits`.
    REGISTERED_LIMITS_CREATE = wrapped("registered_limits", json!({"type": "array", "minItems": 1,
        "items": closed(object(registered_limit(), &["service_id", "resource_name", "default_limit"]))}), true);
    /// `PATCH /v3/registered_limits/{id}`.
    REGISTERED_LIMIT_UPDATE = wrapped("registered_limit", closed(object(registered_limit(), &[])), true);
    /// Queries of lists of registered limits.
    REGISTERED_LIMIT_QUERY = json!({"type": "object", "properties": {"service_id": uuid(), "region_id": region(), "resource_name": name(255)}});
    /// `POST /v3/limits`.
    LIMITS_CREATE = {
        let needed = ["service_id", "resource_name", "resource_limit"];
        let with = |owner: &str| json!({"required": [needed[0], needed[1], needed[2], owner]});
        let limit = closed(object(json!({
            "project_id": or_null(id()), "domain_id": or_null(id()), "resource_name": name(255), "region_id": region(), "service_id": uuid(),
            "resource_limit": limit_value(), "description": description(),
        }), &needed));
        let limit = merged(limit, json!({"oneOf": [with("domain_id"), with("project_id")]}));
        wrapped("limits", json!({"type": "array", "minItems": 1, "items": limit}), true)
    };
    /// `PATCH /v3/limits/{id}`.
    LIMIT_UPDATE = wrapped("limit", closed(object(json!({"resource_limit": limit_value(), "description": description()}), &[])), true);
    /// Queries of lists of limits.
    LIMIT_QUERY = json!({"type": "object", "properties": {
        "service_id": uuid(), "region_id": region(), "resource_name": name(255), "project_id": id(), "domain_id": id(),
    }});
    /// `PUT /v3/OS-FEDERATION/identity_providers/{id}`.
    IDENTITY_PROVIDER_CREATE = wrapped("identity_provider", closed(object(merged(identity_provider(), json!({"domain_id": or_null(id())})), &[])), false);
    /// `PATCH /v3/OS-FEDERATION/identity_providers/{id}`.
    IDENTITY_PROVIDER_UPDATE = json!({"type": "object", "required": ["identity_provider"], "properties": {
        "identity_provider": closed(changed(identity_provider())),
    }});
    /// `PUT …/protocols/{id}`.
    PROTOCOL_CREATE = wrapped("protocol", closed(object(json!({
        "mapping_id": {"type": "string", "minLength": 1, "maxLength": 64}, "remote_id_attribute": or_null(remote_id()),
    }), &["mapping_id"])), true);
    /// `PATCH …/protocols/{id}`.
    PROTOCOL_UPDATE = wrapped("protocol", merged(closed(changed(json!({
        "mapping_id": {"type": "string", "minLength": 1, "maxLength": 64}, "remote_id_attribute": remote_id(),
    }))), json!({"required": ["mapping_id"]})), true);
    /// `PUT /v3/OS-FEDERATION/service_providers/{id}`.
    SERVICE_PROVIDER_CREATE = wrapped("service_provider", closed(object(service_provider(), &["auth_url", "sp_url"])), true);
    /// `PATCH /v3/OS-FEDERATION/service_providers/{id}`.
    SERVICE_PROVIDER_UPDATE = wrapped("service_provider", closed(changed(service_provider())), true);
    /// An attribute mapping of version 1.0.
    MAPPING_1 = mapping(1);
    /// An attribute mapping of version 2.0: projects may name their domain.
    MAPPING_2 = mapping(2);
    /// An attribute mapping of version 3.0: projects may come as JSON.
    MAPPING_3 = mapping(3);
}

fn mapping(version: u32) -> Value {
    let text = || json!({"type": "string"});
    let domain = json!({"type": "object", "properties": {"id": text(), "name": text()}, "additionalProperties": false});
    let roles = json!({"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": text()}, "additionalProperties": false}});
    let mut projects = json!({"type": "array", "items": {"type": "object", "required": ["name", "roles"], "additionalProperties": false,
        "properties": {"name": text(), "roles": roles}}});
    if version >= 2 {
        projects["items"]["properties"]["domain"] = domain.clone();
    }
    let mut local = json!({
        "user": {"type": "object", "additionalProperties": false, "properties": {
            "id": text(), "name": text(), "email": text(), "domain": domain, "type": {"type": "string", "enum": ["ephemeral", "local"]},
        }},
        "projects": projects,
        "group": {"type": "object", "oneOf": [
            {"type": "object", "properties": {"id": text()}, "additionalProperties": false, "required": ["id"]},
            {"type": "object", "properties": {"name": text(), "domain": domain}, "additionalProperties": false, "required": ["name", "domain"]},
        ]},
        "groups": text(),
        "group_ids": text(),
        "domain": domain,
    });
    if version >= 3 {
        local["projects_json"] = text();
    }
    let rule = |kind: &str| {
        json!({"type": "object", "additionalProperties": false, "required": ["type", kind], "properties": {
            "type": text(), kind: {"type": "array"}, "regex": {"type": "boolean"},
        }})
    };
    json!({"type": "object", "required": ["rules"], "properties": {
        "rules": {"minItems": 1, "type": "array", "items": {"type": "object", "required": ["local", "remote"], "additionalProperties": false, "properties": {
            "local": {"type": "array", "items": {"type": "object", "additionalProperties": false, "properties": local}},
            "remote": {"minItems": 1, "type": "array", "items": {"type": "object", "oneOf": [
                {"type": "object", "required": ["type"], "properties": {"type": text()}, "additionalProperties": false},
                rule("any_one_of"), rule("not_any_of"), rule("blacklist"), rule("whitelist"),
            ]}},
        }}},
        "schema_version": text(),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_upstreams() {
        let long = "x".repeat(256);
        let error = check(&USER_CREATE, &json!({"user": {"name": ""}})).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("Invalid input for field/attribute name. Value: . '' "),
            "{error}"
        );
        let error = check(&USER_CREATE, &json!({"user": {"name": long}})).unwrap_err();
        assert!(error.to_string().ends_with("is too long"), "{error}");
        let error = check(&USER_CREATE, &json!({})).unwrap_err();
        assert_eq!(error.to_string(), "'user' is a required property");
    }

    #[test]
    fn mappings_know_their_version() {
        let projects = |domain: bool| {
            let mut project = json!({"name": "p", "roles": [{"name": "member"}]});
            if domain {
                project["domain"] = json!({"name": "d"});
            }
            json!({"rules": [{"local": [{"projects": [project]}], "remote": [{"type": "A"}]}]})
        };
        check(&MAPPING_1, &projects(false)).unwrap();
        assert!(check(&MAPPING_1, &projects(true)).is_err());
        check(&MAPPING_2, &projects(true)).unwrap();
    }
}
