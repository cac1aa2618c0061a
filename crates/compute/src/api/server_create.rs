//! Creating servers: everything in one transaction.

use std::collections::HashMap;

use api::services::ImageFacts;
use api::{Error, Response, StatusCode};
use database::Tx;
use serde_json::{Map, Value, json};

use super::server_plan::Plan;
use super::servers::located;
use crate::Compute;
use crate::call::{Call, Result, Table};
use crate::model::encoding::{json_bool, reservation_id, sanitize_hostname};
use crate::model::flavor::Flavor;
use crate::model::server::Server;
use crate::scheduler::{self, Wish};
use crate::store::{actions, aggregates, flavors, groups, hosts, keypairs, quotas, servers};

pub(super) fn add(table: &mut Table) {
    table.post("/servers", create);
}

fn create(c: &Compute, call: &Call) -> Result {
    let plan = Plan::read(c, call)?;
    let reservation = reservation_id();
    let (id, auto_disk_config) = c.db.write(|tx| {
        let made = build(c, tx, call, &plan, &reservation)?;
        let first = made.into_iter().next();
        first.ok_or_else(|| Error::internal("a request for servers made none"))
    })?;
    if json_bool(&call.body["server"]["return_reservation_id"]) == Some(true) {
        return Ok(Response::json(
            StatusCode::ACCEPTED,
            &json!({"reservation_id": reservation}),
        ));
    }
    let groups = match &call.body["server"]["security_groups"] {
        Value::Array(groups) => json!(groups),
        _ => json!([{"name": "default"}]),
    };
    let body = json!({"server": {
        "id": id,
        "links": call.links("servers", &id),
        "OS-DCF:diskConfig": if auto_disk_config { "AUTO" } else { "MANUAL" },
        "security_groups": groups,
        "adminPass": plan.password,
    }});
    Ok(located(&body, &call.request.url(&format!("/v2.1/servers/{id}"))))
}

fn build(c: &Compute, tx: &mut Tx<'_>, call: &Call, plan: &Plan, reservation: &str) -> Result<Vec<(String, bool)>> {
    let project = if call.context().is_admin() {
        None
    } else {
        Some(call.project())
    };
    let flavor = flavors::find(tx, &plan.flavor, project)?
        .ok_or_else(|| Error::bad_request(format!("Flavor {} could not be found.", plan.flavor)))?;
    let image = match &plan.image {
        Some(id) => Some(
            c.neighbours
                .images
                .find(tx, call.context(), id)?
                .ok_or_else(|| Error::bad_request("Can not find requested image"))?,
        ),
        None => None,
    };
    if let Some(zone) = &plan.zone
        && plan.forced_host.is_none()
        && !available_zones(c, tx)?.contains(zone)
    {
        return Err(Error::bad_request("The requested availability zone is not available"));
    }
    let key_pair = match &plan.key_name {
        Some(name) => Some(
            keypairs::find(tx, call.user(), name)?.ok_or_else(|| Error::bad_request("Invalid key_name provided."))?,
        ),
        None => None,
    };
    if let Some(nics) = &plan.nics {
        c.neighbours
            .ports
            .check(tx, call.context(), call.project(), nics, &plan.security_groups)
            .map_err(network_error)?;
    }
    if let Some(image) = &image {
        check_image(c, call, image, &flavor)?;
    }
    let auto_disk_config = disk_config(plan.auto_disk_config, image.as_ref())?;
    let limits = quotas::limits(tx, &c.config.quotas, call.project(), Some(call.user()))?;
    check_files(tx, plan, &limits)?;
    check_metadata(&plan.metadata, &limits)?;
    let group = requested_group(tx, call, plan)?;
    check_destination(tx, plan)?;
    let count = c.count_in_quota(tx, call, &flavor, plan.min_count, plan.max_count)?;
    let mut made = Vec::new();
    for index in 0..count {
        let server = c.draft(
            tx,
            call,
            plan,
            &flavor,
            image.as_ref(),
            key_pair.as_ref(),
            (index, count),
            reservation,
        )?;
        let server = Server {
            auto_disk_config,
            ..server
        };
        if let Some(group) = &group {
            join_group(tx, group, &server.id, &limits)?;
        }
        let server = place(c, tx, call, plan, server, group.as_deref())?;
        made.push((server.id, server.auto_disk_config));
    }
    Ok(made)
}

/// The zones that have an enabled host.
fn available_zones(c: &Compute, tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let zones = aggregates::zones(tx)?;
    let services = hosts::services(tx)?
        .into_iter()
        .filter(|s| s.binary == hosts::NODE_SERVICE && !s.disabled);
    let zone = |host: &str| zones.get(host).unwrap_or(&c.config.default_availability_zone).clone();
    Ok(services.map(|s| zone(&s.host)).collect())
}

/// Whether the image may be run on the flavor.
pub(super) fn check_image(c: &Compute, call: &Call, image: &ImageFacts, flavor: &Flavor) -> Result<()> {
    const GIB: u64 = 1 << 30;
    let bad = |text: String| Err(Error::bad_request(text));
    if image.status != "active" {
        return bad(format!("Image {} is not active.", image.id));
    }
    if let Some(option) = image
        .properties
        .get("img_config_drive")
        .filter(|o| !["optional", "mandatory"].contains(&o.as_str()))
    {
        return bad(format!("Image's config drive option '{option}' is invalid"));
    }
    if (flavor.memory_mb as u64) < image.min_ram {
        return bad("Flavor's memory is too small for requested image.".into());
    }
    let disk = flavor.root_gb as u64 * GIB;
    if disk == 0 {
        let zero = c.permits(call, "os_compute_api:servers:create:zero_disk_flavor", call.project());
        if !zero {
            return Err(Error::forbidden(
                "Only volume-backed servers are allowed for flavors with zero disk.",
            ));
        }
        return Ok(());
    }
    let size = image.size.unwrap_or(0);
    if size > disk {
        return bad(format!(
            "Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is {size} bytes."
        ));
    }
    let least = image.min_disk * GIB;
    if least > disk {
        return bad(format!(
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is {disk} bytes, minimum size is {least} bytes."
        ));
    }
    if let Some(arch) = image
        .properties
        .get("hw_architecture")
        .filter(|a| !known_architecture(a))
    {
        return bad(format!("Architecture name '{arch}' is not recognised"));
    }
    Ok(())
}

fn known_architecture(name: &str) -> bool {
    const KNOWN: &[&str] = &[
        "alpha",
        "armv6",
        "armv7l",
        "armv7b",
        "aarch64",
        "arm64",
        "cris",
        "i686",
        "i386",
        "i486",
        "i586",
        "x86",
        "ia64",
        "lm32",
        "m68k",
        "microblaze",
        "microblazeel",
        "mips",
        "mipsel",
        "mips64",
        "mips64el",
        "openrisc",
        "parisc",
        "parisc64",
        "ppc",
        "ppcle",
        "ppc64",
        "ppc64le",
        "ppcemb",
        "s390",
        "s390x",
        "sh4",
        "sh4eb",
        "sparc",
        "sparc64",
        "unicore32",
        "x86_64",
        "amd64",
        "x64",
        "xtensa",
        "xtensaeb",
    ];
    KNOWN.contains(&name.to_lowercase().as_str())
}

pub(super) fn disk_config(wanted: Option<bool>, image: Option<&ImageFacts>) -> Result<bool> {
    let of_image = image.and_then(|i| Some((i, i.properties.get("auto_disk_config")?)));
    match (wanted, of_image) {
        (Some(true), Some((image, text))) if text.eq_ignore_ascii_case("disabled") => {
            let text = format!("Requested image {} has automatic disk resize disabled.", image.id);
            Err(Error::bad_request(text))
        }
        (Some(wanted), _) => Ok(wanted),
        (None, Some((_, text))) => Ok(crate::model::encoding::parse_bool(text).unwrap_or(false)),
        (None, None) => Ok(false),
    }
}

/// nova.compute.api `_check_metadata_properties_quota`; the schema has seen to lengths.
pub(super) fn check_metadata(metadata: &Map<String, Value>, limits: &HashMap<String, i64>) -> Result<()> {
    let allowed = limits["metadata_items"];
    if allowed >= 0 && metadata.len() as i64 > allowed {
        return Err(Error::forbidden(format!(
            "Maximum number of metadata items exceeds {allowed}"
        )));
    }
    Ok(())
}

fn check_files(_tx: &mut Tx<'_>, plan: &Plan, limits: &HashMap<String, i64>) -> Result<()> {
    let over = |name: &str, value: usize| limits[name] >= 0 && value as i64 > limits[name];
    if over("injected_files", plan.personality.len()) {
        return Err(Error::forbidden("Personality file limit exceeded"));
    }
    for (path, contents) in &plan.personality {
        if over("injected_file_path_bytes", path.len()) {
            let allowed = limits["injected_file_path_bytes"];
            return Err(Error::forbidden(format!(
                "Personality file path exceeds maximum {allowed}"
            )));
        }
        if over("injected_file_content_bytes", contents.len()) {
            let allowed = limits["injected_file_content_bytes"];
            return Err(Error::forbidden(format!(
                "Personality file content exceeds maximum {allowed}"
            )));
        }
    }
    Ok(())
}

fn requested_group(tx: &mut Tx<'_>, call: &Call, plan: &Plan) -> Result<Option<String>> {
    let Some(id) = plan.hints["group"].as_str() else {
        return Ok(None);
    };
    let group = groups::find(tx, id)?.filter(|g| call.context().is_admin() || g.project_id == call.project());
    match group {
        Some(group) => Ok(Some(group.id)),
        None => Err(Error::bad_request(format!("Instance group {id} could not be found."))),
    }
}

fn join_group(tx: &mut Tx<'_>, group: &str, server: &str, limits: &HashMap<String, i64>) -> Result<()> {
    let limit = limits["server_group_members"];
    let members = groups::members(tx, None, Some(group))?
        .remove(group)
        .unwrap_or_default();
    if limit >= 0 && members.len() as i64 >= limit {
        return Err(Error::forbidden("Quota exceeded, too many servers in group"));
    }
    groups::add_member(tx, group, server)?;
    Ok(())
}

fn check_destination(tx: &mut Tx<'_>, plan: &Plan) -> Result<()> {
    let missing = |name: &str| Err(Error::bad_request(format!("Compute host {name} could not be found.")));
    if plan.requested_host.is_none() && plan.requested_node.is_none() {
        return Ok(());
    }
    let nodes = hosts::nodes(tx)?;
    if let Some(host) = &plan.requested_host
        && !nodes
            .iter()
            .any(|n| n.host == *host && plan.requested_node.as_ref().is_none_or(|w| *w == n.hypervisor_hostname))
    {
        return missing(host);
    }
    if let Some(node) = &plan.requested_node
        && !nodes.iter().any(|n| n.hypervisor_hostname == *node)
    {
        return missing(node);
    }
    Ok(())
}

impl Compute {
    /// How many of `min..=max` servers the quota lets through, counted in this transaction.
    pub(super) fn count_in_quota(
        &self,
        tx: &mut Tx<'_>,
        call: &Call,
        flavor: &Flavor,
        min: i64,
        max: i64,
    ) -> Result<i64> {
        let (project, user) = quotas::limits_of_both(tx, &self.config.quotas, call.project(), call.user())?;
        let mut checks = vec![(project, quotas::usage(tx, call.project(), None)?)];
        if let Some(user) = user {
            checks.push((user, quotas::usage(tx, call.project(), Some(call.user()))?));
        }
        let per_server = [("cores", flavor.vcpus), ("instances", 1), ("ram", flavor.memory_mb)];
        for (limits, usage) in checks {
            let over = |count: i64| -> Vec<&'static str> {
                let exceeds = |(name, each): &(&'static str, i64)| {
                    limits[*name] >= 0 && usage.of(name) + each * count > limits[*name] && each * count > 0
                };
                per_server
                    .iter()
                    .filter(|p| exceeds(p))
                    .map(|(name, _)| *name)
                    .collect()
            };
            let fits = (min..=max).rev().find(|count| over(*count).is_empty());
            match fits {
                Some(count) if count == max => {}
                Some(count) => return self.count_in_quota(tx, call, flavor, min, count),
                None => {
                    let overs = over(max);
                    let list =
                        |f: &dyn Fn(&str) -> String| overs.iter().map(|name| f(name)).collect::<Vec<_>>().join(", ");
                    let requested = list(&|name| match name {
                        "instances" if min == max => min.to_string(),
                        "instances" => format!("{min}-{max}"),
                        name => {
                            (per_server.iter().find(|(n, _)| *n == name).map_or(0, |(_, each)| *each) * max).to_string()
                        }
                    });
                    let names = overs.join(", ");
                    return Err(Error::forbidden(format!(
                        "Quota exceeded for {names}: Requested {requested}, but already used {} of {} {names}",
                        list(&|name| usage.of(name).to_string()),
                        list(&|name| limits[name].to_string()),
                    )));
                }
            }
        }
        Ok(max)
    }

    #[allow(clippy::too_many_arguments)]
    fn draft(
        &self,
        tx: &mut Tx<'_>,
        call: &Call,
        plan: &Plan,
        flavor: &Flavor,
        image: Option<&ImageFacts>,
        key: Option<&keypairs::KeyPair>,
        (index, count): (i64, i64),
        reservation: &str,
    ) -> Result<Server> {
        let id = uuid::Uuid::new_v4().to_string();
        let now = database::now();
        let suffix = if count > 1 {
            format!("-{}", index + 1)
        } else {
            String::new()
        };
        let hostname = plan
            .hostname
            .clone()
            .unwrap_or_else(|| match sanitize_hostname(&plan.name) {
                name if name.is_empty() => format!("Server-{id}"),
                name => format!("{name}{suffix}"),
            });
        let property = |name: &str| image.and_then(|i| i.properties.get(name)).cloned().unwrap_or_default();
        Ok(Server {
            number: servers::next_number(tx, &id)?,
            project_id: call.project().into(),
            user_id: call.user().into(),
            name: format!("{}{suffix}", plan.name),
            description: plan.description.clone(),
            hostname,
            reservation_id: reservation.into(),
            launch_index: index,
            vm_state: crate::model::state::BUILDING.into(),
            task_state: Some("scheduling".into()),
            power_state: 0,
            host: None,
            node: None,
            availability_zone: plan.zone.clone(),
            pinned_availability_zone: plan.zone.clone(),
            image_id: image.map(|i| i.id.clone()).unwrap_or_default(),
            image: image.map_or_else(|| json!({"properties": {}}), image_facts),
            kernel_id: property("kernel_id"),
            ramdisk_id: property("ramdisk_id"),
            flavor_id: flavor.id.clone(),
            flavor: flavor.embedded(),
            memory_mb: flavor.memory_mb,
            vcpus: flavor.vcpus,
            root_gb: flavor.root_gb,
            key_name: plan.key_name.clone(),
            key_pair: key.map(|k| json!({"name": k.name, "type": k.kind, "public_key": k.public_key})),
            user_data: plan.user_data.clone(),
            config_drive: if plan.config_drive {
                "True".into()
            } else {
                String::new()
            },
            access_ip_v4: plan.access_ip_v4.clone(),
            access_ip_v6: plan.access_ip_v6.clone(),
            auto_disk_config: false,
            progress: 0,
            root_device_name: None,
            locked_by: None,
            locked_reason: None,
            trusted_certs: plan.trusted_certs.clone(),
            scheduler_hints: plan.hints.clone(),
            personality: plan
                .personality
                .iter()
                .map(|(path, contents)| json!({"path": path, "contents": contents}))
                .collect(),
            admin_password: Some(plan.password.clone()),
            posted_password: String::new(),
            created_at: now,
            updated_at: now,
            launched_at: None,
            terminated_at: None,
            deleted_at: None,
            power_wanted: "running".into(),
            power_generation: 1,
            soft_reboot: 0,
            hard_reboot: 0,
            rebuild: 0,
            revision: 1,
            reported: 0,
            task_action: None,
            saved: json!({}),
            fault_code: None,
            fault_message: None,
            fault_details: None,
            fault_created_at: None,
            id,
        })
    }
}

/// What a server keeps of its image.
pub(super) fn image_facts(image: &ImageFacts) -> Value {
    json!({
        "name": image.name, "owner": image.owner, "disk_format": image.disk_format, "container_format": image.container_format,
        "size": image.size, "virtual_size": image.virtual_size, "min_disk": image.min_disk, "min_ram": image.min_ram,
        "checksum": image.checksum, "os_hash_algo": image.os_hash_algo, "os_hash_value": image.os_hash_value,
        "properties": image.properties,
    })
}

/// Finds a host, takes the ports and writes the server down; a server that finds none is written down in ERROR, as upstream's.
fn place(
    c: &Compute,
    tx: &mut Tx<'_>,
    call: &Call,
    plan: &Plan,
    mut server: Server,
    group: Option<&str>,
) -> Result<Server> {
    let now = database::now();
    let wish = Wish {
        server_id: server.id.clone(),
        project_id: server.project_id.clone(),
        user_id: server.user_id.clone(),
        flavor: server.flavor.clone(),
        image_properties: server.image["properties"].clone(),
        availability_zone: plan.zone.clone(),
        forced_host: plan.forced_host.clone(),
        forced_node: plan.forced_node.clone(),
        requested_host: plan.requested_host.clone(),
        requested_node: plan.requested_node.clone(),
        ignored_hosts: Vec::new(),
        hints: plan.hints.clone(),
        group: group.map(str::to_owned),
    };
    let placed = scheduler::place(tx, &*c.neighbours.capacity, &c.config, &wish, now)?;
    let mut failure = None;
    match placed {
        Some(placed) => {
            server.host = Some(placed.host);
            server.node = Some(placed.node);
            server.availability_zone = Some(placed.zone);
        }
        None => failure = Some("No valid host was found. There are not enough hosts available.".to_owned()),
    }
    server.insert(tx)?;
    for (key, value) in &plan.metadata {
        servers::set_metadata(tx, &server.id, key, value.as_str().unwrap_or_default())?;
    }
    for tag in &plan.tags {
        servers::add_tag(tx, &server.id, tag)?;
    }
    if let (Some(nics), None) = (&plan.nics, &failure) {
        let reference = c.server_ref(&server);
        let attached = tx.savepoint(|tx| {
            let attached = c
                .neighbours
                .ports
                .attach(tx, call.context(), &reference, nics, &plan.security_groups)?;
            for nic in &attached {
                servers::add_port(tx, &server.id, &nic.port_id, nic.tag.as_deref(), nic.created_by_compute)?;
            }
            Ok::<_, Error>(())
        });
        match attached {
            Ok(()) => {}
            // Upstream finds out on the node, so the server is there, in ERROR.
            Err(error) if matches!(&*error.kind, "IpAddressGenerationFailure" | "NoMoreFixedIps") => {
                c.neighbours.capacity.release(tx, &server.id)?;
                failure = Some("Failed to allocate the network(s), not rescheduling.".into());
                (server.host, server.node) = (None, None);
            }
            Err(error) => return Err(network_error(error)),
        }
    }
    let action = c.record(tx, call, &server, "create", "compute__do_build_and_run_instance")?;
    match failure {
        None => {
            server.task_action = Some(action);
            server.task_state = Some("spawning".into());
        }
        Some(why) => {
            server.fail(500, &why, "", now);
            server.power_wanted = "stopped".into();
            actions::finish(tx, action, Some(&why), now)?;
        }
    }
    server.update(tx)?;
    tx.changed("server", &server.id);
    Ok(server)
}

/// Networking's errors as the creation of a server answers them.
pub(super) fn network_error(error: Error) -> Error {
    let status = match (&*error.kind, error.status) {
        ("PortInUse" | "NetworkAmbiguous" | "NoUniqueMatch", _) => StatusCode::CONFLICT,
        ("OverQuota" | "PortLimitExceeded", _) => return Error::forbidden("Maximum number of ports exceeded"),
        ("ExternalNetworkAttachForbidden", _) | (_, StatusCode::FORBIDDEN) => StatusCode::FORBIDDEN,
        (_, status) if status.is_server_error() => return error,
        _ => StatusCode::BAD_REQUEST,
    };
    Error {
        status,
        kind: "".into(),
        ..error
    }
}
