//! What a newcomer finds: the flavors, and (unless left out) project, user, networks, router, image and open ssh. All of it is made by
//! calls of the cloud's own API, and only what is not there yet.

use crate::client::{Client, ClientError};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// Name, id, memory (MiB), disk (GiB) and CPUs of the flavors that every OpenStack once had.
const FLAVORS: &[(&str, &str, u64, u64, u64)] = &[
    ("m1.tiny", "1", 512, 1, 1),
    ("m1.small", "2", 2048, 20, 1),
    ("m1.medium", "3", 4096, 40, 2),
    ("m1.large", "4", 8192, 80, 4),
    ("m1.xlarge", "5", 16_384, 160, 8),
];

/// The demo image's bytes.
pub enum DemoImage<'a> {
    /// A qcow2 file.
    Qcow2(&'a Path),
    /// A mebibyte of nothing, for guests that are simulated.
    Blank,
}

fn id<'a>(value: &'a Value, of: &'static str) -> Result<&'a str, ClientError> {
    value.get("id").and_then(Value::as_str).ok_or(ClientError::Shape { url: of.into(), what: "an id" })
}

fn inner(value: Value, key: &str) -> Value {
    match value {
        Value::Object(mut map) => map.remove(key).unwrap_or(Value::Null),
        other => other,
    }
}

/// Makes the flavors that are missing.
pub fn flavors(admin: &Client) -> Result<(), ClientError> {
    for (name, flavor, ram, disk, vcpus) in FLAVORS {
        admin.ensure("compute", "/v2.1/flavors?is_public=None", "flavors", name, |c| {
            let body = json!({"flavor": {"name": name, "id": flavor, "ram": ram, "disk": disk, "vcpus": vcpus}});
            c.post("compute", "/v2.1/flavors", &body)
        })?;
    }
    Ok(())
}

/// Makes project and user `demo`; returns the project's id.
pub fn project(admin: &Client, password: &str) -> Result<String, ClientError> {
    let project = admin.ensure("identity", "/v3/projects?name=demo", "projects", "demo", |c| {
        let body = json!({"project": {"name": "demo", "domain_id": "default", "description": "For a first try"}});
        c.post("identity", "/v3/projects", &body).map(|v| inner(v, "project"))
    })?;
    let project = id(&project, "project demo")?.to_string();
    let user = admin.ensure("identity", "/v3/users?name=demo", "users", "demo", |c| {
        let body = json!({"user": {"name": "demo", "domain_id": "default", "password": password, "default_project_id": project}});
        c.post("identity", "/v3/users", &body).map(|v| inner(v, "user"))
    })?;
    let user = id(&user, "user demo")?;
    let roles = admin.get("identity", "/v3/roles?name=member")?;
    let role = roles.pointer("/roles/0").cloned().unwrap_or(Value::Null);
    let role = id(&role, "role member")?;
    admin.put("identity", &format!("/v3/projects/{project}/users/{user}/roles/{role}"), &Value::Null)?;
    Ok(project)
}

/// Makes the networks, the router and the open ports of the demo project.
pub fn networks(admin: &Client, project: &str) -> Result<(), ClientError> {
    let network = |name: &str, body: Value| {
        let path = format!("/v2.0/networks?name={name}");
        admin.ensure("network", &path, "networks", name, |c| c.post("network", "/v2.0/networks", &json!({"network": body})).map(|v| inner(v, "network")))
    };
    let subnet = |name: &str, body: Value| {
        let path = format!("/v2.0/subnets?name={name}");
        admin.ensure("network", &path, "subnets", name, |c| c.post("network", "/v2.0/subnets", &json!({"subnet": body})).map(|v| inner(v, "subnet")))
    };
    let public = network(
        "public",
        json!({"name": "public", "router:external": true, "provider:network_type": "flat", "provider:physical_network": "extnet"}),
    )?;
    let public = id(&public, "network public")?.to_string();
    subnet(
        "public-subnet",
        json!({"name": "public-subnet", "network_id": public, "ip_version": 4, "cidr": "172.24.4.0/24", "gateway_ip": "172.24.4.1",
               "enable_dhcp": false, "allocation_pools": [{"start": "172.24.4.10", "end": "172.24.4.250"}]}),
    )?;
    let private = network("private", json!({"name": "private", "project_id": project}))?;
    let private = id(&private, "network private")?.to_string();
    let inside = subnet(
        "private-subnet",
        json!({"name": "private-subnet", "project_id": project, "network_id": private, "ip_version": 4, "cidr": "10.0.0.0/24"}),
    )?;
    let inside = id(&inside, "subnet private-subnet")?.to_string();
    let router = admin.ensure("network", "/v2.0/routers?name=router1", "routers", "router1", |c| {
        let body = json!({"router": {"name": "router1", "project_id": project, "external_gateway_info": {"network_id": public}}});
        c.post("network", "/v2.0/routers", &body).map(|v| inner(v, "router"))
    })?;
    let router = id(&router, "router router1")?;
    let interfaces = admin.get("network", &format!("/v2.0/ports?device_id={router}&network_id={private}"))?;
    if interfaces.get("ports").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        admin.put("network", &format!("/v2.0/routers/{router}/add_router_interface"), &json!({"subnet_id": inside}))?;
    }
    let groups = admin.get("network", &format!("/v2.0/security-groups?name=default&project_id={project}"))?;
    let group = groups.pointer("/security_groups/0").cloned().unwrap_or(Value::Null);
    let group_id = id(&group, "security group default")?;
    let there = group.get("security_group_rules").and_then(Value::as_array).cloned().unwrap_or_default();
    for (protocol, port) in [("icmp", None), ("tcp", Some(22))] {
        let same = |r: &Value| r["protocol"] == protocol && r["port_range_min"] == json!(port) && r["direction"] == "ingress";
        if !there.iter().any(same) {
            let body = json!({"security_group_rule": {"security_group_id": group_id, "direction": "ingress", "ethertype": "IPv4", "protocol": protocol,
                "port_range_min": port, "port_range_max": port, "project_id": project}});
            admin.post("network", "/v2.0/security-group-rules", &body)?;
        }
    }
    Ok(())
}

/// Uploads the demo image, where there is none called `tiny`.
pub fn image(admin: &Client, source: &DemoImage<'_>) -> Result<(), ClientError> {
    let all = admin.get("image", "/v2/images?name=tiny")?;
    let there = all.get("images").and_then(Value::as_array).cloned().unwrap_or_default();
    if there.iter().any(|i| i["status"] == "active") {
        return Ok(());
    }
    let format = if matches!(source, DemoImage::Blank) { "raw" } else { "qcow2" };
    let made = match there.into_iter().find(|i| i["status"] == "queued") {
        Some(queued) => queued,
        None => {
            let body = json!({"name": "tiny", "visibility": "public", "disk_format": format, "container_format": "bare"});
            admin.post("image", "/v2/images", &body)?
        }
    };
    let path = format!("/v2/images/{}/file", id(&made, "image tiny")?);
    match source {
        DemoImage::Blank => admin.upload("image", &path, std::io::repeat(0).take(1 << 20))?,
        DemoImage::Qcow2(file) => {
            let opened = std::fs::File::open(file).map_err(|e| ClientError::Unreachable { url: file.display().to_string(), reason: e.to_string() })?;
            admin.upload("image", &path, opened)?
        }
    };
    Ok(())
}
