//! Rebuild and resize.
//!
//! A resize happens on the server's own host:
//! ```text
//! active, stopped --resize--> task resize_prep --(reached)--> resized --confirmResize--> active, stopped
//!                                                                \--revertResize--> task resize_reverting --(reached)--> active, stopped
//! ```

use std::collections::BTreeMap;

use api::services::Consumer;
use api::{Error, Response, StatusCode};
use database::Tx;
use serde_json::{Value, json};

use super::server_create::{check_image, check_metadata, disk_config, image_facts};
use super::server_plan::flavor_id;
use super::server_power::{finished, has_host};
use super::servers::located;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, accepted, no_content};
use crate::model::encoding::{canonical_address, generate_password};
use crate::model::flavor::{Flavor, resources};
use crate::model::server::{HostStatusShown, Server, Shown};
use crate::model::state::{self, Action};
use crate::store::moves::{self, Move};
use crate::store::{flavors, hosts, keypairs, quotas, servers};

const ACTION: &str = "/servers/{id}/action";

pub(super) fn add(table: &mut Table) {
    let all = (1, NEWEST);
    table
        .action(ACTION, "rebuild", all, rebuild)
        .action(ACTION, "resize", all, resize)
        .action(ACTION, "confirmResize", all, confirm)
        .action(ACTION, "revertResize", all, revert);
}

fn rebuild(c: &Compute, call: &Call) -> Result {
    let wanted = &call.body["rebuild"];
    let text = |key: &str| wanted[key].as_str().map(str::to_owned);
    let password = text("adminPass").unwrap_or_else(generate_password);
    let (mut body, id) = c.db.write(|tx| {
        let rule = "os_compute_api:servers:rebuild";
        let mut server = c.server(tx, call, rule)?;
        if call.at_least(63) && wanted.get("trusted_image_certificates").is_some() {
            c.allow(
                call,
                &format!("{rule}:trusted_certs"),
                &server.project_id,
                Some(&server.user_id),
            )?;
            server.trusted_certs = Some(wanted["trusted_image_certificates"].clone()).filter(|v| !v.is_null());
        }
        c.open_for(call, &server, &Action::REBUILD)?;
        has_host(&server)?;
        let image_id = text("imageRef").unwrap_or_default();
        let image = c.neighbours.images.find(tx, call.context(), &image_id)?;
        let image = image.ok_or_else(|| Error::bad_request("Cannot find image for rebuild"))?;
        check_image(c, call, &image, &flavor_of(&server))?;
        server.auto_disk_config = disk_config(text("OS-DCF:diskConfig").map(|d| d == "AUTO"), Some(&image))?;
        if call.at_least(54)
            && let Some(key) = wanted.get("key_name")
        {
            set_key(tx, call, &mut server, key.as_str())?;
        }
        if call.at_least(57) && wanted.get("user_data").is_some() {
            server.user_data = text("user_data");
        }
        if let Some(hostname) = text("hostname") {
            server.hostname = hostname;
            c.neighbours.ports.rename(tx, &server.id, &server.hostname)?;
        }
        if let Some(name) = text("name") {
            server.name = name.trim().to_owned();
        }
        if wanted.get("description").is_some() {
            server.description = text("description");
        }
        for (key, slot) in [
            ("accessIPv4", &mut server.access_ip_v4),
            ("accessIPv6", &mut server.access_ip_v6),
        ] {
            if let Some(address) = wanted.get(key) {
                *slot = canonical_address(address);
            }
        }
        if let Some(metadata) = wanted["metadata"].as_object() {
            check_metadata(
                metadata,
                &quotas::limits(tx, &c.config.quotas, call.project(), Some(call.user()))?,
            )?;
            servers::remove_metadata(tx, &server.id, None)?;
            for (key, value) in metadata {
                servers::set_metadata(tx, &server.id, key, value.as_str().unwrap_or_default())?;
            }
        }
        if let Some(files) = wanted["personality"].as_array() {
            server.personality = Value::Array(files.clone());
        }
        server.image_id = image.id.clone();
        server.image = image_facts(&image);
        server.admin_password = Some(password.clone());
        server.progress = 0;
        server.rebuild += 1;
        if server.vm_state == state::ERROR {
            server.want("running");
        }
        server.task_state = Some("rebuilding".into());
        server.task_action = Some(c.record(tx, call, &server, "rebuild", "compute_rebuild_instance")?);
        c.save(tx, &mut server)?;
        let shown = c.shown(call, &server.project_id);
        let all = call.at_least(75);
        let shown = Shown {
            groups: true,
            whole: all,
            extended: shown.extended && all,
            host_status: if all { shown.host_status } else { HostStatusShown::No },
            user_data: false,
            ..shown
        };
        let mut body = c.detail(tx, call, &server, &shown)?;
        if call.at_least(54) {
            body["key_name"] = json!(server.key_name);
        }
        if call.at_least(57) {
            body["user_data"] = json!(server.user_data);
        }
        Ok::<_, Error>((body, server.id))
    })?;
    body["adminPass"] = json!(password);
    Ok(located(
        &json!({"server": body}),
        &call.request.url(&format!("/v2.1/servers/{id}")),
    ))
}

fn set_key(tx: &mut Tx<'_>, call: &Call, server: &mut Server, name: Option<&str>) -> Result<()> {
    let key = match name {
        Some(name) => {
            let found = keypairs::find(tx, call.user(), name)?;
            Some(found.ok_or_else(|| Error::bad_request("Invalid key_name provided."))?)
        }
        None => None,
    };
    server.key_name = key.as_ref().map(|k| k.name.clone());
    server.key_pair = key.map(|k| json!({"name": k.name, "type": k.kind, "public_key": k.public_key}));
    Ok(())
}

/// The flavor a server has, as a flavor.
fn flavor_of(server: &Server) -> Flavor {
    let number = |key: &str| server.flavor[key].as_i64().unwrap_or(0);
    Flavor {
        id: server.flavor_id.clone(),
        name: server.flavor["name"].as_str().unwrap_or_default().to_owned(),
        memory_mb: number("memory_mb"),
        vcpus: number("vcpus"),
        root_gb: number("root_gb"),
        ephemeral_gb: number("ephemeral_gb"),
        swap: number("swap"),
        rxtx_factor: 1.0,
        disabled: false,
        is_public: true,
        description: None,
        extra_specs: server.flavor["extra_specs"].clone(),
        number: number("number"),
        created_at: 0,
        updated_at: None,
    }
}

/// Puts the server on another flavor, with its claim.
fn change_flavor(c: &Compute, tx: &mut Tx<'_>, server: &mut Server, flavor: &Value) -> Result<()> {
    let host = server.host.clone().unwrap_or_default();
    let provider = hosts::nodes(tx)?
        .into_iter()
        .find(|n| n.host == host)
        .map(|n| n.id)
        .unwrap_or_default();
    let consumer = Consumer {
        uuid: server.id.clone(),
        project_id: server.project_id.clone(),
        user_id: server.user_id.clone(),
    };
    let wanted: BTreeMap<String, u64> = resources(flavor);
    c.neighbours.capacity.release(tx, &server.id)?;
    if !c.neighbours.capacity.claim(tx, &consumer, &provider, &wanted)? {
        return Err(Error::bad_request(
            "No valid host was found. No valid host found for resize",
        ));
    }
    let number = |key: &str| flavor[key].as_i64().unwrap_or(0);
    server.flavor_id = flavor["id"].as_str().unwrap_or_default().to_owned();
    (server.memory_mb, server.vcpus, server.root_gb) = (number("memory_mb"), number("vcpus"), number("root_gb"));
    server.flavor = flavor.clone();
    Ok(())
}

/// Lets the guest begin anew with what is wanted of it now, where it runs.
fn restart(server: &mut Server) {
    if server.power_wanted == "running" {
        server.hard_reboot += 1;
    }
    let wanted = server.power_wanted.clone();
    server.want(&wanted);
}

fn resize(c: &Compute, call: &Call) -> Result {
    let id = flavor_id(&call.body["resize"]["flavorRef"]);
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:servers:resize")?;
        c.open_for(call, &server, &Action::RESIZE)?;
        has_host(&server)?;
        let project = if call.context().is_admin() {
            None
        } else {
            Some(call.project())
        };
        let new = flavors::find(tx, &id, project)?;
        let new = new.ok_or_else(|| Error::bad_request(format!("Flavor {id} could not be found.")))?;
        if new.root_gb == 0 && server.root_gb != 0 {
            let text = "Server disk was unable to be resized because: Resize to zero disk flavor is not allowed.";
            return Err(Error::bad_request(text));
        }
        if new.root_gb != 0 && new.root_gb < server.root_gb {
            return Err(Error::bad_request(
                "Server disk was unable to be resized because: Resize disk down is not allowed.",
            ));
        }
        if new.id == server.flavor_id {
            return Err(Error::bad_request("When resizing, instances must change flavor!"));
        }
        grow_in_quota(c, tx, call, &server, &new)?;
        let old = server.flavor.clone();
        let embedded = new.embedded();
        let step = Move {
            server: &server,
            kind: "resize",
            status: "migrating",
            old_flavor: &old,
            new_flavor: &embedded,
            user_id: call.user(),
            project_id: call.project(),
        };
        moves::record(tx, &step, database::now())?;
        server.saved["old_flavor"] = old;
        if let Some(config) = call.body["resize"]["OS-DCF:diskConfig"].as_str() {
            server.auto_disk_config = config == "AUTO";
        }
        change_flavor(c, tx, &mut server, &embedded)?;
        server.progress = 0;
        server.task_state = Some("resize_prep".into());
        server.task_action = Some(c.record(tx, call, &server, "resize", "compute_prep_resize")?);
        restart(&mut server);
        c.save(tx, &mut server)
    })?;
    accepted()
}

fn grow_in_quota(c: &Compute, tx: &mut Tx<'_>, call: &Call, server: &Server, new: &Flavor) -> Result<()> {
    let limits = quotas::limits(tx, &c.config.quotas, &server.project_id, Some(call.user()))?;
    let usage = quotas::usage(tx, &server.project_id, None)?;
    let deltas = [
        ("cores", new.vcpus - server.vcpus),
        ("ram", new.memory_mb - server.memory_mb),
    ];
    let over: Vec<(&str, i64)> = deltas
        .into_iter()
        .filter(|(name, more)| *more > 0 && limits[*name] >= 0 && usage.of(name) + more > limits[*name])
        .collect();
    if over.is_empty() {
        return Ok(());
    }
    let list = |f: &dyn Fn(&(&str, i64)) -> String| over.iter().map(f).collect::<Vec<_>>().join(", ");
    let names = list(&|(name, _)| (*name).to_owned());
    Err(Error::forbidden(format!(
        "Quota exceeded for {names}: Requested {}, but already used {} of {} {names}",
        list(&|(_, more)| more.to_string()),
        list(&|(name, _)| usage.of(name).to_string()),
        list(&|(name, _)| limits[*name].to_string()),
    )))
}

/// The state after a resize, by what the guest does.
fn settled(server: &Server) -> &'static str {
    if server.power_wanted == "stopped" || server.power_state == 4 {
        state::STOPPED
    } else {
        state::ACTIVE
    }
}

fn confirm(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:servers:confirm_resize")?;
        c.open_for(call, &server, &Action::CONFIRM_RESIZE)?;
        moves::set_status(tx, &server.id, "confirmed")?;
        server.vm_state = settled(&server).into();
        server.saved["old_flavor"] = Value::Null;
        finished(c, tx, call, &server, "confirmResize")?;
        c.save(tx, &mut server)
    })?;
    no_content()
}

fn revert(c: &Compute, call: &Call) -> Result {
    c.db.write(|tx| {
        let mut server = c.server(tx, call, "os_compute_api:servers:revert_resize")?;
        c.open_for(call, &server, &Action::REVERT_RESIZE)?;
        let old = server.saved["old_flavor"].take();
        if old.is_null() {
            return Err(Error::bad_request("Instance has not been resized."));
        }
        moves::set_status(tx, &server.id, "reverted")?;
        change_flavor(c, tx, &mut server, &old)?;
        server.task_state = Some("resize_reverting".into());
        server.task_action = Some(c.record(tx, call, &server, "revertResize", "compute_revert_resize")?);
        restart(&mut server);
        c.save(tx, &mut server)
    })?;
    Ok(Response::empty(StatusCode::ACCEPTED))
}
