//! Objects for tests.

use node_protocol::objects::{Flavor, ImageRef, Object, Power, Server, ServerPort, Versioned, WantedPower};
use serde_json::json;
use uuid::Uuid;

pub fn server(n: u128) -> Object {
    server_with(n, &[])
}

pub fn server_with(n: u128, ports: &[u128]) -> Object {
    Object::Server(Box::new(Server {
        id: Uuid::from_u128(n),
        name: format!("server {n}"),
        hostname: format!("server-{n}"),
        project_id: "p".into(),
        user_id: "u".into(),
        flavor: Flavor {
            id: "1".into(),
            name: "m1.tiny".into(),
            vcpus: 1,
            ram_mib: 64,
            disk_gib: 1,
            swap_mib: 0,
            ephemeral_gib: 0,
            extra_specs: Default::default(),
        },
        image: Some(ImageRef {
            id: Uuid::from_u128(1000),
            name: "tiny".into(),
            disk_format: "qcow2".into(),
            size: 1,
            checksum: None,
            os_hash_algo: None,
            os_hash_value: None,
            properties: Default::default(),
        }),
        power: Power {
            wanted: WantedPower::Running,
            generation: 1,
        },
        soft_reboot: 0,
        hard_reboot: 0,
        rebuild: 0,
        shutdown_timeout: 1,
        ports: ports
            .iter()
            .map(|port| ServerPort {
                port_id: Uuid::from_u128(*port),
                tag: None,
            })
            .collect(),
        config_drive: false,
        metadata: Default::default(),
        key_pair: None,
        user_data: None,
        personality: vec![],
        admin_password: None,
        availability_zone: "nova".into(),
        reservation_id: "r-12345678".into(),
        launch_index: 0,
        security_groups: vec!["default".into()],
        vendor_data: None,
        posted_password: None,
    }))
}

pub fn upsert(revision: u64, object: Object) -> Versioned {
    Versioned { revision, object }
}

fn parse<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a test's object")
}

pub fn network(n: u128) -> Object {
    Object::Network(
        Uuid::from_u128(n).into(),
        parse(json!({"type": "vxlan", "segmentation_id": n, "mtu": 1450})),
    )
}

pub fn subnet(n: u128, network: u128) -> Object {
    let value = json!({"network": Uuid::from_u128(network), "cidr": "10.0.0.0/24", "gateway": "10.0.0.1",
        "dns_nameservers": ["8.8.8.8"]});
    Object::Subnet(Uuid::from_u128(n).into(), parse(value))
}

pub fn port(n: u128, network: u128) -> Object {
    let value = json!({
        "network": Uuid::from_u128(network),
        "mac": format!("fa:16:3e:00:00:{n:02x}"),
        "fixed_ips": [{"subnet": Uuid::from_u128(network + 1), "address": format!("10.0.0.{n}")}],
        "device_owner": "compute:nova",
        "binding": {"local": {"interface": ""}},
    });
    Object::Port(Uuid::from_u128(n).into(), Box::new(parse(value)))
}
