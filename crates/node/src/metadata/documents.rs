//! OpenStack's form of the metadata: a folder of JSON documents per version.

use std::collections::BTreeMap;

use base64::Engine;
use node_protocol::objects::Personality;
use serde_json::{Map, Value, json};

use super::{Subject, ec2, network_data};

const FOLSOM: &str = "2012-08-10";
const GRIZZLY: &str = "2013-04-04";
const HAVANA: &str = "2013-10-17";
const LIBERTY: &str = "2015-10-15";
const NEWTON_ONE: &str = "2016-06-30";
const NEWTON_TWO: &str = "2016-10-06";
const OCATA: &str = "2017-02-22";
const ROCKY: &str = "2018-08-27";
const VICTORIA: &str = "2020-10-14";
const EPOXY: &str = "2025-04-04";

/// The versions, oldest first; as dates they sort by age.
pub const VERSIONS: [&str; 10] = [
    FOLSOM, GRIZZLY, HAVANA, LIBERTY, NEWTON_ONE, NEWTON_TWO, OCATA, ROCKY, VICTORIA, EPOXY,
];

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// `text/plain`
    Text(Vec<u8>),
    /// `application/json`
    Json(Vec<u8>),
    /// The password: can be read, and written once.
    Password,
}

fn text(text: impl Into<String>) -> Document {
    Document::Text(text.into().into_bytes())
}

fn bytes(value: &Value) -> Vec<u8> {
    // A `Value` has string keys only, so it can always be written.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Finds what a path leads to. Without a known first part a path means EC2's form.
pub fn lookup(subject: &Subject<'_>, path: &str) -> Option<Document> {
    let mut steps: Vec<&str> = Vec::new();
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    match steps.split_first() {
        Some((&"openstack", rest)) => openstack(subject, rest),
        Some((&"ec2", rest)) => amazon(subject, rest),
        _ => amazon(subject, &steps),
    }
}

fn amazon(subject: &Subject<'_>, steps: &[&str]) -> Option<Document> {
    let Some((version, rest)) = steps.split_first() else {
        return Some(text([&ec2::VERSIONS[..], &["latest"]].concat().join("\n")));
    };
    let data = ec2::meta_data(subject, version)?;
    let user_data = subject.user_data();
    match rest {
        [] => Some(text(if user_data.is_some() {
            "meta-data/\nuser-data"
        } else {
            "meta-data/"
        })),
        ["user-data"] => user_data.map(Document::Text),
        ["meta-data", path @ ..] => ec2::find(&Value::Object(data), path).map(|found| text(ec2::print(found))),
        _ => None,
    }
}

fn openstack(subject: &Subject<'_>, steps: &[&str]) -> Option<Document> {
    let Some((version, rest)) = steps.split_first() else {
        return Some(text([&VERSIONS[..], &["latest"]].concat().join("\n")));
    };
    if *version == "content" {
        let [name] = rest else { return None };
        return content(subject).remove(*name).map(Document::Text);
    }
    let version = match *version {
        "latest" => EPOXY,
        version => VERSIONS.iter().find(|known| **known == version)?,
    };
    let since = |needed: &str| version >= needed;
    match rest {
        [] => {
            let mut list = vec!["meta_data.json"];
            let documents = [
                ("user_data", subject.server.user_data.is_some()),
                ("password", since(GRIZZLY)),
                ("vendor_data.json", since(HAVANA)),
                ("network_data.json", since(LIBERTY)),
                ("vendor_data2.json", since(NEWTON_TWO)),
            ];
            list.extend(documents.iter().filter(|(_, there)| *there).map(|(name, _)| *name));
            Some(text(list.join("\n")))
        }
        ["meta_data.json"] => Some(Document::Json(bytes(&meta_data(subject, version, false)))),
        ["user_data"] => subject.user_data().map(Document::Text),
        ["password"] if since(GRIZZLY) => Some(Document::Password),
        ["vendor_data.json"] if since(HAVANA) => Some(Document::Json(bytes(&vendor_data(subject)))),
        ["network_data.json"] => Some(Document::Text(bytes(&network_data::document(subject)))),
        ["vendor_data2.json"] if since(NEWTON_TWO) => {
            Some(Document::Json(bytes(&json!({"static": vendor_data(subject)}))))
        }
        _ => None,
    }
}

fn vendor_data(subject: &Subject<'_>) -> Value {
    subject.server.vendor_data.clone().unwrap_or_else(|| json!({}))
}

/// Injected files by the name under which `content` has them.
fn content(subject: &Subject<'_>) -> BTreeMap<String, Vec<u8>> {
    let decode = |file: &Personality| {
        base64::engine::general_purpose::STANDARD
            .decode(file.contents.expose())
            .ok()
    };
    let files = subject.server.personality.iter().enumerate();
    files
        .filter_map(|(n, file)| Some((format!("{n:04}"), decode(file)?)))
        .collect()
}

/// `meta_data.json`. The administrator's password and injected files are only on the config drive, as upstream has it.
fn meta_data(subject: &Subject<'_>, version: &str, config_drive: bool) -> Value {
    let server = subject.server;
    let since = |needed: &str| version >= needed;
    let mut data = Map::new();
    let mut put = |key: &str, value: Value| drop(data.insert(key.to_owned(), value));
    put("uuid", json!(server.id));
    if !server.metadata.is_empty() {
        put("meta", json!(server.metadata));
    }
    if config_drive {
        if !server.personality.is_empty() {
            let entry = |(n, file): (usize, &Personality)| json!({"path": file.path, "content_path": format!("/content/{n:04}")});
            put("files", server.personality.iter().enumerate().map(entry).collect());
        }
        if let Some(password) = &server.admin_password {
            put("admin_pass", json!(password.expose()));
        }
    }
    if let Some(key) = &server.key_pair {
        put("public_keys", json!({key.name.as_str(): key.public_key}));
        put(
            "keys",
            json!([{"name": key.name, "type": key.kind, "data": key.public_key}]),
        );
    }
    put("hostname", json!(subject.hostname()));
    put("name", json!(server.name));
    put("launch_index", json!(server.launch_index));
    put("availability_zone", json!(server.availability_zone));
    if since(GRIZZLY) {
        put("random_seed", json!(random_seed()));
    }
    if since(LIBERTY) {
        put("project_id", json!(server.project_id));
    }
    if since(NEWTON_ONE) {
        put("devices", Value::Array(devices(subject, version)));
    }
    if since(VICTORIA) {
        put("dedicated_cpus", json!([]));
    }
    Value::Object(data)
}

/// The interfaces that were given a tag.
fn devices(subject: &Subject<'_>, version: &str) -> Vec<Value> {
    let tagged = subject.server.ports.iter().filter_map(|port| {
        let tag = port.tag.as_ref()?;
        let mac = subject.topology.ports.get(&port.port_id.into())?.mac.to_string();
        let mut device = Map::new();
        if version >= ROCKY {
            device.insert("vf_trusted".into(), json!(false));
        }
        device.extend([
            ("type".to_owned(), json!("nic")),
            ("mac".to_owned(), json!(mac)),
            ("bus".to_owned(), json!("pci")),
            ("address".to_owned(), json!("none")),
            ("tags".to_owned(), json!([tag])),
        ]);
        Some(Value::Object(device))
    });
    tagged.collect()
}

/// 512 random bytes as base64, for the guest's own generator.
fn random_seed() -> String {
    let mut seed = [0; 512];
    if let Err(error) = getrandom::fill(&mut seed) {
        tracing::error!(%error, "the machine has no random numbers; a guest's seed is worth nothing");
    }
    base64::engine::general_purpose::STANDARD.encode(seed)
}

/// Every document of every version, by its path.
pub fn config_drive_files(subject: &Subject<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let user_data = subject.user_data();
    // Upstream leaves the older ones out (`config_drive_skip_versions`).
    for version in ["2009-04-04", "latest"] {
        if let Some(data) = ec2::meta_data(subject, version) {
            files.insert(
                format!("ec2/{version}/meta-data.json"),
                bytes(&ec2::for_config_drive(data)),
            );
        }
        if let Some(user_data) = &user_data {
            files.insert(format!("ec2/{version}/user-data"), user_data.clone());
        }
    }
    for folder in VERSIONS.into_iter().chain(["latest"]) {
        let version = if folder == "latest" { EPOXY } else { folder };
        let mut put = |name: &str, content: Vec<u8>| drop(files.insert(format!("openstack/{folder}/{name}"), content));
        put("meta_data.json", bytes(&meta_data(subject, version, true)));
        if let Some(user_data) = &user_data {
            put("user_data", user_data.clone());
        }
        if version >= HAVANA {
            put("vendor_data.json", bytes(&vendor_data(subject)));
        }
        if version >= LIBERTY {
            put("network_data.json", bytes(&network_data::document(subject)));
        }
        if version >= NEWTON_TWO {
            put("vendor_data2.json", bytes(&json!({"static": vendor_data(subject)})));
        }
    }
    for (name, content) in content(subject) {
        files.insert(format!("openstack/content/{name}"), content);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use node_protocol::objects::{KeyPair, Object, Secret, Server};
    use virtual_network::Topology;
    use virtual_network::topology::PortId;

    fn subject() -> (Server, Topology) {
        let Object::Server(mut server) = testing::server_with(1, &[9]) else {
            panic!("a server")
        };
        server.key_pair = Some(KeyPair {
            name: "mine".into(),
            kind: "ssh".into(),
            public_key: "ssh-ed25519 AAAA me".into(),
        });
        server.user_data = Some(Secret::new("IyEvYmluL3NoCmVjaG8gaGkK"));
        server.metadata = [("role".to_owned(), "web".to_owned())].into();
        server.admin_password = Some(Secret::new("geheim"));
        server.ports[0].tag = Some("front".into());
        let desired = crate::desired::Desired::open(None, Default::default()).unwrap();
        let objects = [testing::network(7), testing::subnet(8, 7), testing::port(9, 7)];
        desired.replace(objects.into_iter().map(|object| testing::upsert(1, object)).collect());
        (*server, desired.with_topology(Topology::clone))
    }

    fn get(path: &str) -> Option<String> {
        let (server, topology) = subject();
        match crate::metadata::lookup(&server, &topology, path)? {
            Document::Text(text) | Document::Json(text) => Some(String::from_utf8(text).unwrap()),
            Document::Password => Some("(password)".into()),
        }
    }

    fn json(path: &str) -> Value {
        serde_json::from_str(&get(path).unwrap()).unwrap()
    }

    #[test]
    fn ec2_is_a_tree_to_walk() {
        assert!(get("/").unwrap().starts_with("1.0\n2007-01-19\n"));
        assert!(get("").unwrap().ends_with("\nlatest"));
        assert_eq!(get("/latest").unwrap(), "meta-data/\nuser-data");
        let list = get("/latest/meta-data/").unwrap();
        assert!(list.lines().any(|line| line == "public-keys/") && list.lines().any(|line| line == "instance-id"));
        assert!(!get("/1.0/meta-data/").unwrap().contains("local-hostname"));
        assert_eq!(get("/2009-04-04/meta-data/public-keys/").unwrap(), "0=mine");
        assert_eq!(get("/latest/meta-data/public-keys/0").unwrap(), "openssh-key");
        assert_eq!(
            get("/latest/meta-data/public-keys/0/openssh-key").unwrap(),
            "ssh-ed25519 AAAA me"
        );
        assert_eq!(get("/latest/meta-data/local-ipv4").unwrap(), "10.0.0.9");
        assert_eq!(get("/latest/meta-data/hostname").unwrap(), "server-1.novalocal");
        assert_eq!(
            get("/ec2/latest/meta-data/placement/availability-zone").unwrap(),
            "nova"
        );
        assert_eq!(get("/latest/user-data").unwrap(), "#!/bin/sh\necho hi\n");
        for nothing in [
            "/2037-01-01",
            "/latest/meta-data/none",
            "/latest/meta-data/instance-id/x",
            "/latest/meta-data/public-keys/0/_name",
        ] {
            assert_eq!(get(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn openstack_has_a_folder_per_version() {
        assert!(get("/openstack").unwrap().ends_with("2025-04-04\nlatest"));
        assert_eq!(get("/openstack/2012-08-10").unwrap(), "meta_data.json\nuser_data");
        assert_eq!(
            get("/openstack/latest/").unwrap(),
            "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json"
        );
        let data = json("/openstack/latest/meta_data.json");
        assert_eq!(data["uuid"], "00000000-0000-0000-0000-000000000001");
        assert_eq!(data["hostname"], "server-1.novalocal");
        assert_eq!(data["meta"]["role"], "web");
        assert_eq!(data["public_keys"]["mine"], "ssh-ed25519 AAAA me");
        assert_eq!(data["devices"][0]["tags"][0], "front");
        assert!(data.get("admin_pass").is_none(), "passwords do not go over the wire");
        assert!(
            json("/openstack/2012-08-10/meta_data.json")
                .get("random_seed")
                .is_none()
        );
        assert_eq!(get("/openstack/latest/password").unwrap(), "(password)");
        assert_eq!(json("/openstack/latest/vendor_data2.json"), json!({"static": {}}));
        for nothing in [
            "/openstack/2012-08-10/password",
            "/openstack/2030-01-01/meta_data.json",
            "/openstack/latest/x",
            "/openstack/content",
        ] {
            assert_eq!(get(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn network_data_tells_the_interface() {
        let data = json("/openstack/latest/network_data.json");
        assert_eq!(data["links"][0]["ethernet_mac_address"], "fa:16:3e:00:00:09");
        assert_eq!(data["links"][0]["mtu"], 1450);
        assert_eq!(data["networks"][0]["type"], "ipv4_dhcp");
        assert_eq!(data["networks"][0]["link"], data["links"][0]["id"]);
        let (server, mut topology) = subject();
        topology
            .subnets
            .values_mut()
            .for_each(|subnet| subnet.enable_dhcp = false);
        let Some(Document::Text(text)) =
            crate::metadata::lookup(&server, &topology, "/openstack/latest/network_data.json")
        else {
            panic!("a document")
        };
        let data: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(data["networks"][0]["type"], "ipv4");
        assert_eq!(data["networks"][0]["ip_address"], "10.0.0.9");
        assert_eq!(data["networks"][0]["netmask"], "255.255.255.0");
        assert_eq!(data["networks"][0]["routes"][0]["gateway"], "10.0.0.1");
        assert_eq!(data["services"][0]["address"], "8.8.8.8");
    }

    #[test]
    fn the_config_drive_has_what_the_service_has_and_the_password() {
        let (server, topology) = subject();
        let files = crate::metadata::config_drive_files(&server, &topology);
        let data: Value = serde_json::from_slice(&files["openstack/latest/meta_data.json"]).unwrap();
        assert_eq!(data["admin_pass"], "geheim");
        assert_eq!(files["openstack/latest/user_data"], b"#!/bin/sh\necho hi\n");
        assert!(
            files.contains_key("openstack/latest/network_data.json") && files.contains_key("ec2/latest/meta-data.json")
        );
        assert!(!files.contains_key("openstack/2012-08-10/network_data.json"));
        assert!(topology.ports.contains_key(&PortId(uuid::Uuid::from_u128(9))));
        assert!(disk_image::config_drive::build(&files).is_ok());
    }
}
