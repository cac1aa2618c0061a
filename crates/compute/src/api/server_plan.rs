//! What the body of a creation asks for, read and checked as far as that goes without the database.

use api::Error;
use api::services::RequestedNic;
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result};
use crate::model::encoding::{canonical_address, decode_base64, generate_password, json_bool, json_int};

/// What the body asks for, read and checked as far as that goes without the database.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) password: String,
    pub(super) flavor: String,
    pub(super) image: Option<String>,
    pub(super) min_count: i64,
    pub(super) max_count: i64,
    pub(super) zone: Option<String>,
    pub(super) forced_host: Option<String>,
    pub(super) forced_node: Option<String>,
    pub(super) requested_host: Option<String>,
    pub(super) requested_node: Option<String>,
    /// `None`: the server gets no network at all.
    pub(super) nics: Option<Vec<RequestedNic>>,
    pub(super) security_groups: Vec<String>,
    pub(super) key_name: Option<String>,
    pub(super) user_data: Option<String>,
    pub(super) config_drive: bool,
    pub(super) metadata: Map<String, Value>,
    pub(super) tags: Vec<String>,
    pub(super) trusted_certs: Option<Value>,
    pub(super) hints: Value,
    pub(super) access_ip_v4: Option<String>,
    pub(super) access_ip_v6: Option<String>,
    pub(super) auto_disk_config: Option<bool>,
    pub(super) personality: Vec<(String, String)>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Plan {
    pub(super) fn read(c: &Compute, call: &Call) -> Result<Plan> {
        let body = &call.body["server"];
        let name = body["name"].as_str().unwrap_or_default().trim().to_owned();
        let description = if call.at_least(19) {
            text(&body["description"])
        } else {
            Some(name.clone())
        };
        let min_count = json_int(&body["min_count"]).unwrap_or(1);
        let max_count = json_int(&body["max_count"]).unwrap_or(min_count);
        if min_count > max_count {
            return Err(Error::bad_request("min_count must be <= max_count"));
        }
        let hints = [
            &call.body["os:scheduler_hints"],
            &call.body["OS-SCH-HNT:scheduler_hints"],
        ];
        let hints = hints
            .into_iter()
            .find(|h| h.is_object())
            .cloned()
            .unwrap_or_else(|| json!({}));
        c.allow_own(call, "os_compute_api:servers:create")?;
        let trusted_certs = body["trusted_image_certificates"].as_array().filter(|c| !c.is_empty());
        if trusted_certs.is_some() {
            c.allow_own(call, "os_compute_api:servers:create:trusted_certs")?;
        }
        let (zone, forced_host, forced_node) = parse_zone(body["availability_zone"].as_str())?;
        if forced_host.is_some() || forced_node.is_some() {
            c.allow_own(call, "os_compute_api:servers:create:forced_host")?;
        }
        let (requested_host, requested_node) = (text(&body["host"]), text(&body["hypervisor_hostname"]));
        if requested_host.is_some() || requested_node.is_some() {
            c.allow_own(call, "compute:servers:create:requested_destination")?;
            if forced_host.is_some() || forced_node.is_some() {
                let text = "One mechanism with host and/or hypervisor_hostname and another mechanism with zone:host:node are mutually exclusive.";
                return Err(Error::bad_request(text));
            }
        }
        let has_mapping = block_devices(c, call, body)?;
        let image = match text(&body["imageRef"]).filter(|i| !i.is_empty()) {
            Some(image) => Some(image),
            None if has_mapping => None,
            None => return Err(Error::bad_request("Missing imageRef attribute")),
        };
        let mut nics = requested_nics(&body["networks"])?;
        if body["networks"] == "auto"
            && let Some(network_id) = c.auto_allocate(call)?
        {
            nics = Some(vec![RequestedNic {
                network_id: Some(network_id),
                ..RequestedNic::default()
            }]);
        }
        if nics.as_ref().is_some_and(|n| !n.is_empty()) {
            c.allow_own(call, "os_compute_api:servers:create:attach_network")?;
        }
        let hostname = if call.at_least(90) {
            text(&body["hostname"])
        } else {
            None
        };
        if max_count > 1 {
            let nics = nics.iter().flatten();
            let reason = nics
                .clone()
                .any(|n| n.network_id.is_some() && n.fixed_ip.is_some())
                .then_some("max_count cannot be greater than 1 if an fixed_ip is specified.");
            let reason = reason.or(nics.clone().any(|n| n.port_id.is_some()).then_some(
                "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.",
            ));
            if let Some(reason) = reason {
                return Err(Error::bad_request(format!("Failed to launch instances: {reason}")));
            }
            if hostname.is_some() {
                return Err(Error::bad_request(
                    "Unable to allocate a single hostname to multiple instances",
                ));
            }
        }
        let user_data = text(&body["user_data"]);
        if user_data.as_deref().is_some_and(|data| decode_base64(data).is_none()) {
            return Err(Error::bad_request("User data needs to be valid base 64."));
        }
        let mut security_groups: Vec<String> = Vec::new();
        for group in body["security_groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|g| text(&g["name"]))
        {
            if !security_groups.contains(&group) {
                security_groups.push(group);
            }
        }
        let files = body["personality"].as_array().into_iter().flatten();
        let files = files.map(|f| {
            (
                text(&f["path"]).unwrap_or_default(),
                text(&f["contents"]).unwrap_or_default(),
            )
        });
        Ok(Plan {
            description,
            hostname,
            password: text(&body["adminPass"]).unwrap_or_else(generate_password),
            flavor: flavor_id(&body["flavorRef"]),
            image,
            min_count,
            max_count,
            zone,
            forced_host,
            forced_node,
            requested_host,
            requested_node,
            nics,
            security_groups,
            key_name: text(&body["key_name"]),
            user_data,
            config_drive: json_bool(&body["config_drive"]).unwrap_or(false),
            metadata: body["metadata"].as_object().cloned().unwrap_or_default(),
            tags: if call.at_least(52) {
                body["tags"].as_array().into_iter().flatten().filter_map(text).collect()
            } else {
                Vec::new()
            },
            trusted_certs: trusted_certs.map(|c| Value::Array(c.clone())),
            hints,
            access_ip_v4: canonical_address(&body["accessIPv4"]),
            access_ip_v6: canonical_address(&body["accessIPv6"]),
            auto_disk_config: text(&body["OS-DCF:diskConfig"]).map(|d| d == "AUTO"),
            personality: files.collect(),
            name,
        })
    }
}

/// `flavorRef` may be an id or a URL that ends in one.
pub(super) fn flavor_id(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.rsplit('/').next().unwrap_or_default().to_owned()
}

/// `zone`, `zone:host`, `zone:host:node` or `zone::node`.
fn parse_zone(text: Option<&str>) -> Result<(Option<String>, Option<String>, Option<String>)> {
    let parts: Vec<&str> = text.unwrap_or_default().split(':').collect();
    let some = |part: &str| Some(part.to_owned()).filter(|p| !p.is_empty());
    match parts.as_slice() {
        [zone] => Ok((some(zone), None, None)),
        [zone, host] => Ok((some(zone), some(host), None)),
        [zone, host, node] => Ok((some(zone), some(host), some(node))),
        _ => Err(Error::bad_request(
            "Invalid input received: Unable to parse availability_zone",
        )),
    }
}

/// `networks`: absent and `auto` let Networking choose (an empty list), `none` is `None`.
fn requested_nics(networks: &Value) -> Result<Option<Vec<RequestedNic>>> {
    let list = match networks {
        Value::String(word) if word == "none" => return Ok(None),
        Value::Array(list) => list,
        _ => return Ok(Some(Vec::new())),
    };
    let mut nics: Vec<RequestedNic> = Vec::new();
    for one in list {
        let mut nic = RequestedNic {
            port_id: text(&one["port"]),
            fixed_ip: text(&one["fixed_ip"]),
            tag: text(&one["tag"]),
            network_id: None,
        };
        match &nic.port_id {
            Some(port) => {
                if nics.iter().any(|n| n.port_id.as_ref() == Some(port)) {
                    let text =
                        format!("Port ID '{port}' was specified twice: you cannot attach a port multiple times.");
                    return Err(Error::bad_request(text));
                }
                if let Some(address) = &nic.fixed_ip {
                    let text = format!(
                        "Specified Fixed IP '{address}' cannot be used with port '{port}': the two cannot be specified together."
                    );
                    return Err(Error::bad_request(text));
                }
            }
            None => match text(&one["uuid"]) {
                None => return Err(Error::bad_request("Bad network format: missing 'uuid'")),
                Some(id) if !api::schema::is_uuid_like(&id) => {
                    return Err(Error::bad_request(format!(
                        "Bad networks format: network uuid is not in proper format ({id})"
                    )));
                }
                Some(id) => nic.network_id = Some(id),
            },
        }
        nics.push(nic);
    }
    Ok(Some(nics))
}

/// Checks block device mappings. Those that only say again what image and flavor say are let pass; volumes are answered as where
/// there are none. Whether there was a mapping at all.
fn block_devices(c: &Compute, call: &Call, body: &Value) -> Result<bool> {
    let list = |key: &str| {
        body[key]
            .as_array()
            .filter(|l| !l.is_empty())
            .cloned()
            .unwrap_or_default()
    };
    let (old, new) = (list("block_device_mapping"), list("block_device_mapping_v2"));
    if !old.is_empty() && !new.is_empty() {
        return Err(Error::bad_request(
            "Using different block_device_mapping syntaxes is not allowed in the same request.",
        ));
    }
    let image_given = body["imageRef"].as_str().is_some_and(|i| !i.is_empty());
    let invalid = |details: &str| {
        Err(Error::bad_request(format!(
            "Block Device Mapping is Invalid: {details}"
        )))
    };
    for device in new.iter().filter(|d| d["no_device"] != true) {
        let field = |key: &str| device[key].as_str().unwrap_or_default();
        let boot = json_int(&device["boot_index"]).unwrap_or(-1);
        match (field("source_type"), field("uuid").is_empty()) {
            ("blank", false) => return invalid("Invalid device UUID."),
            ("blank", true) => {}
            (_, true) => return invalid("Missing device UUID."),
            _ => {}
        }
        if field("source_type") == "image" && field("destination_type") == "local" && !(image_given && boot == 0) {
            return invalid("Mapping image to local is not supported.");
        }
        if field("destination_type") == "local" && !device["volume_type"].is_null() {
            return invalid("Specifying a volume_type with destination_type=local is not supported.");
        }
    }
    if old.is_empty() && new.is_empty() {
        return Ok(false);
    }
    c.allow_own(call, "os_compute_api:servers:create:attach_volume")?;
    let volume = old.iter().find_map(|d| text(&d["volume_id"]));
    let volume = volume.or_else(|| {
        new.iter()
            .find(|d| d["source_type"] == "volume")
            .and_then(|d| text(&d["uuid"]))
    });
    if let Some(id) = volume {
        return invalid(&format!("failed to get volume {id}."));
    }
    if let Some(id) = new
        .iter()
        .find(|d| d["source_type"] == "snapshot")
        .and_then(|d| text(&d["uuid"]))
    {
        return invalid(&format!("failed to get snapshot {id}."));
    }
    if new.iter().any(|d| d["destination_type"] == "volume") {
        return invalid("there is no volume service to make a volume with.");
    }
    let boots = new.iter().filter(|d| json_int(&d["boot_index"]) == Some(0)).count();
    if boots != 1 && !(boots == 0 && image_given) {
        return invalid("Boot sequence for the instance and image/block device mapping combination is not valid.");
    }
    Ok(true)
}
