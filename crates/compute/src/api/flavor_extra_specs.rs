//! Extra specs of flavors.

use api::{Error, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::flavors::lookup;
use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::store::flavors;

pub(super) fn add(table: &mut Table) {
    table
        .get("/flavors/{flavor_id}/os-extra_specs", list)
        .post("/flavors/{flavor_id}/os-extra_specs", create)
        .get("/flavors/{flavor_id}/os-extra_specs/{id}", show)
        .put("/flavors/{flavor_id}/os-extra_specs/{id}", update)
        .delete("/flavors/{flavor_id}/os-extra_specs/{id}", delete);
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-flavor-extra-specs:index")?;
    let flavor = c.db.read(|tx| lookup(tx, call, call.param("flavor_id")))?;
    ok(json!({"extra_specs": flavor.extra_specs}))
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-flavor-extra-specs:show")?;
    let flavor = c.db.read(|tx| lookup(tx, call, call.param("flavor_id")))?;
    let key = call.param("id");
    match flavor.extra_specs.get(key) {
        Some(value) => ok(json!({key: value})),
        None => Err(no_key(&flavor.id, key)),
    }
}

fn no_key(flavor: &str, key: &str) -> Error {
    Error::not_found(format!("Flavor {flavor} has no extra specs with key {key}."))
}

/// Values are kept as texts, numbers among them.
fn texts(call: &Call, specs: &Value) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    for (key, value) in specs.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if call.at_least(86) {
            check_known(key, &text)?;
        }
        out.insert(key.clone(), Value::String(text));
    }
    Ok(out)
}

/// From 2.86 on, specs in the namespaces of Compute must be known, and their values fit.
fn check_known(key: &str, value: &str) -> Result<()> {
    let bad = |kind: &str| {
        Err(Error::bad_request(format!(
            "Validation failed; extra spec '{key}' has an invalid value '{value}': {kind}"
        )))
    };
    let Some((namespace, name)) = key.split_once(':') else {
        return Ok(());
    };
    match (namespace, name) {
        ("hw", "cpu_policy") if !["shared", "dedicated", "mixed"].contains(&value) => {
            bad("must be one of: dedicated,shared,mixed")
        }
        ("hw", "cpu_thread_policy") if !["prefer", "isolate", "require"].contains(&value) => {
            bad("must be one of: prefer,isolate,require")
        }
        (
            "hw",
            "numa_nodes" | "cpu_sockets" | "cpu_cores" | "cpu_threads" | "cpu_max_sockets" | "cpu_max_cores"
            | "cpu_max_threads" | "watchdog_action",
        ) => {
            if name != "watchdog_action" && value.parse::<u64>().is_err() {
                bad("must be an integer")
            } else {
                Ok(())
            }
        }
        (
            "hw",
            "mem_page_size"
            | "cpu_policy"
            | "cpu_thread_policy"
            | "hide_hypervisor_id"
            | "boot_menu"
            | "mem_encryption"
            | "pci_numa_affinity_policy"
            | "serial_port_count"
            | "vif_multiqueue_enabled"
            | "emulator_threads_policy"
            | "pmem"
            | "locked_memory"
            | "tpm_model"
            | "tpm_version"
            | "tpm_secret_security"
            | "cpu_dedicated_mask"
            | "cpu_realtime"
            | "cpu_realtime_mask"
            | "maxphysaddr_bits"
            | "maxphysaddr_mode"
            | "viommu_model"
            | "virtio_packed_ring"
            | "ephemeral_encryption"
            | "ephemeral_encryption_format",
        ) => Ok(()),
        ("hw", other) if other.starts_with("numa_cpus.") || other.starts_with("numa_mem.") => Ok(()),
        ("hw", _) => Err(Error::bad_request(format!(
            "Validation failed; extra spec '{key}' does not appear to be a valid extra spec."
        ))),
        ("trait", _) if !["required", "forbidden"].contains(&value) => bad("must be one of: required,forbidden"),
        ("resources", _) if value.parse::<u64>().is_err() => bad("must be an integer"),
        ("quota", _) if value.parse::<i64>().is_err() && !matches!(value, "low" | "normal" | "high" | "custom") => {
            bad("must be an integer")
        }
        _ => Ok(()),
    }
}

fn merge(c: &Compute, call: &Call, specs: &Map<String, Value>) -> Result<()> {
    c.db.write(|tx| {
        let flavor = lookup(tx, call, call.param("flavor_id"))?;
        let mut all = flavor.extra_specs_map();
        all.extend(specs.clone());
        flavors::set_extra_specs(tx, &flavor.id, &Value::Object(all), database::now())?;
        Ok(())
    })
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-extra-specs:create")?;
    let specs = texts(call, &call.body["extra_specs"])?;
    merge(c, call, &specs)?;
    ok(call.body.clone())
}

fn update(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-extra-specs:update")?;
    let specs = texts(call, &call.body)?;
    if !specs.contains_key(call.param("id")) {
        return Err(Error::bad_request("Request body and URI mismatch"));
    }
    merge(c, call, &specs)?;
    ok(call.body.clone())
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-extra-specs:delete")?;
    let key = call.param("id");
    c.db.write(|tx| {
        let flavor = lookup(tx, call, call.param("flavor_id"))?;
        let mut all = flavor.extra_specs_map();
        if all.remove(key).is_none() {
            return Err(no_key(&flavor.id, key));
        }
        flavors::set_extra_specs(tx, &flavor.id, &Value::Object(all), database::now())?;
        Ok(())
    })?;
    Ok(Response::empty(StatusCode::OK))
}
