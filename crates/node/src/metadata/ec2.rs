//! EC2's form of the metadata: a tree whose folders are listed and whose leaves are text.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Subject;

/// The versions, oldest first.
pub const VERSIONS: [&str; 9] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

/// The key under which a folder hides the name it is listed by.
const LISTED_AS: &str = "_name";

/// EC2's short form of an id.
fn short(prefix: &str, id: Uuid) -> String {
    format!("{prefix}-{:08x}", id.as_fields().0)
}

/// `meta-data` of a version; `None` where there is no such version.
pub fn meta_data(subject: &Subject<'_>, version: &str) -> Option<Map<String, Value>> {
    let wanted = match version {
        "latest" => VERSIONS.len() - 1,
        version => VERSIONS.iter().position(|v| *v == version)?,
    };
    let since = |version: &str| VERSIONS.iter().position(|v| *v == version).is_some_and(|v| wanted >= v);
    let server = subject.server;
    let fixed = subject
        .ports()
        .flat_map(|(_, port)| &port.fixed_ips)
        .find_map(|ip| match ip.address {
            IpAddr::V4(address) => Some(address.to_string()),
            IpAddr::V6(_) => None,
        });
    let floating = subject.ports().find_map(|(id, _)| {
        let floating = subject
            .topology
            .floating_ips
            .values()
            .find(|floating| floating.port == id)?;
        Some(floating.address.to_string())
    });
    let hostname = subject.hostname();
    let image = server.image.as_ref().map_or(Uuid::nil(), |image| image.id);
    let mut data = Map::new();
    let mut put = |key: &str, value: Value| drop(data.insert(key.to_owned(), value));
    put("ami-id", json!(short("ami", image)));
    put("ami-launch-index", json!(server.launch_index));
    put("ami-manifest-path", json!("FIXME"));
    put("instance-id", json!(short("i", server.id)));
    put("hostname", json!(hostname));
    put("local-ipv4", json!(fixed.unwrap_or_default()));
    put("reservation-id", json!(server.reservation_id));
    put("security-groups", json!(server.security_groups));
    if let Some(key) = &server.key_pair {
        let listed = format!("0={}", key.name);
        put(
            "public-keys",
            json!({"0": {LISTED_AS: listed, "openssh-key": key.public_key}}),
        );
    }
    if since("2007-01-19") {
        put("local-hostname", json!(hostname));
        put("public-hostname", json!(hostname));
        put("public-ipv4", json!(floating.unwrap_or_default()));
    }
    if since("2007-08-29") {
        put("instance-type", json!(server.flavor.name));
    }
    if since("2007-12-15") {
        let mut mapping = json!({"ami": "vda", "root": "/dev/vda"});
        let mut next = b'b';
        for (name, there) in [
            ("ephemeral0", server.flavor.ephemeral_gib > 0),
            ("swap", server.flavor.swap_mib > 0),
        ] {
            if there {
                mapping[name] = json!(format!("/dev/vd{}", next as char));
                next += 1;
            }
        }
        put("block-device-mapping", mapping);
    }
    if since("2008-02-01") {
        put("placement", json!({"availability-zone": server.availability_zone}));
    }
    if since("2008-09-01") {
        put("instance-action", json!("none"));
    }
    Some(data)
}

/// As `meta-data` on the config drive: without the hidden names.
pub fn for_config_drive(mut data: Map<String, Value>) -> Value {
    if let Some(key) = data
        .get_mut("public-keys")
        .and_then(|keys| keys.get_mut("0"))
        .and_then(Value::as_object_mut)
    {
        key.remove(LISTED_AS);
    }
    Value::Object(data)
}

/// What is under a path of the tree.
pub fn find<'a>(tree: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |at, step| match at {
        Value::Object(folder) if *step != LISTED_AS => folder.get(*step),
        _ => None,
    })
}

/// A value as text: a folder as the list of what is in it, with `/` after folders.
pub fn print(value: &Value) -> String {
    match value {
        Value::Object(folder) => {
            let mut keys: Vec<&String> = folder.keys().filter(|key| *key != LISTED_AS).collect();
            keys.sort_unstable();
            let name = |key: &String| match &folder[key] {
                Value::Object(inner) => match inner.get(LISTED_AS).and_then(Value::as_str) {
                    Some(listed) => listed.to_owned(),
                    None => format!("{key}/"),
                },
                _ => key.clone(),
            };
            keys.into_iter().map(name).collect::<Vec<_>>().join("\n")
        }
        Value::Array(list) => list.iter().map(print).collect::<Vec<_>>().join("\n"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
