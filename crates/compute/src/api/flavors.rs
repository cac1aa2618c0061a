//! Flavors.

use api::{Error, Response, StatusCode};
use database::{Direction, Tx};
use serde_json::{Map, Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::encoding::{json_bool, json_int, parse_bool};
use crate::model::flavor::Flavor;
use crate::store::flavors::{self, Filter};

pub(super) fn add(table: &mut Table) {
    table
        .get("/flavors", |c, call| list(c, call, false))
        .get("/flavors/detail", |c, call| list(c, call, true))
        .post("/flavors", create)
        .get("/flavors/{id}", show)
        .delete("/flavors/{id}", delete)
        .between(api::Method::PUT, "/flavors/{id}", (55, crate::call::NEWEST), update);
}

pub(super) fn missing(id: &str) -> Error {
    Error::not_found(format!("Flavor {id} could not be found."))
}

/// The flavor that the call names, where the caller may see it.
pub(super) fn lookup(tx: &mut Tx<'_>, call: &Call, id: &str) -> Result<Flavor> {
    let project = if call.context().is_admin() {
        None
    } else {
        Some(call.project())
    };
    flavors::find(tx, id, project)?.ok_or_else(|| missing(id))
}

fn shows_extra_specs(c: &Compute, call: &Call) -> bool {
    call.at_least(61) && c.permits(call, "os_compute_api:os-flavor-extra-specs:index", call.project())
}

fn basic(call: &Call, flavor: &Flavor) -> Map<String, Value> {
    let mut view = Map::new();
    view.insert("id".into(), json!(flavor.id));
    view.insert("name".into(), json!(flavor.name));
    view.insert("links".into(), call.links("flavors", &flavor.id));
    if call.at_least(55) {
        view.insert("description".into(), json!(flavor.description));
    }
    view
}

fn detail(call: &Call, flavor: &Flavor, extra_specs: bool) -> Value {
    let mut view = basic(call, flavor);
    let mut put = |key: &str, value: Value| view.insert(key.to_owned(), value);
    put("ram", json!(flavor.memory_mb));
    put("disk", json!(flavor.root_gb));
    put(
        "swap",
        if flavor.swap == 0 && !call.at_least(75) {
            json!("")
        } else {
            json!(flavor.swap)
        },
    );
    put("OS-FLV-EXT-DATA:ephemeral", json!(flavor.ephemeral_gb));
    put("vcpus", json!(flavor.vcpus));
    put("os-flavor-access:is_public", json!(flavor.is_public));
    if !call.at_least(102) {
        put("OS-FLV-DISABLED:disabled", json!(flavor.disabled));
        put(
            "rxtx_factor",
            if flavor.rxtx_factor == 0.0 {
                json!("")
            } else {
                json!(flavor.rxtx_factor)
            },
        );
    }
    if extra_specs {
        put("extra_specs", flavor.extra_specs.clone());
    }
    Value::Object(view)
}

fn list(c: &Compute, call: &Call, detailed: bool) -> Result {
    let (limit, marker) = call.paging()?;
    let number = |name: &str| -> Result<Option<i64>> {
        let Some(text) = call.query(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Error::bad_request(format!("Invalid {name} filter [{text}]")))
    };
    let mut filter = Filter {
        min_ram: number("minRam")?,
        min_disk: number("minDisk")?,
        name: call.query("name").map(str::to_owned),
        ..Filter::default()
    };
    if call.context().is_admin() {
        filter.is_public = match call.query("is_public") {
            None => Some(true),
            Some(text) if text.eq_ignore_ascii_case("none") => None,
            Some(text) => {
                Some(parse_bool(text).ok_or_else(|| Error::bad_request(format!("Invalid is_public filter [{text}]")))?)
            }
        };
        if filter.is_public == Some(true) {
            // Public ones come with those that the own project has been given.
            filter.is_public = None;
            filter.visible_to = Some(call.project().to_owned());
        }
    } else {
        filter.visible_to = Some(call.project().to_owned());
    }
    let key = call
        .query("sort_key")
        .filter(|k| !k.is_empty())
        .unwrap_or("flavorid")
        .to_owned();
    let direction = if call.query("sort_dir") == Some("desc") {
        Direction::Descending
    } else {
        Direction::Ascending
    };
    let page =
        c.db.read(|tx| flavors::list(tx, &filter, (&key, direction), limit, marker))?;
    let page = page.ok_or_else(|| Error::bad_request(format!("marker [{}] not found", marker.unwrap_or_default())))?;
    let extra_specs = detailed && shows_extra_specs(c, call);
    let views: Vec<Value> = page
        .iter()
        .map(|flavor| {
            if detailed {
                detail(call, flavor, extra_specs)
            } else {
                Value::Object(basic(call, flavor))
            }
        })
        .collect();
    let mut body = json!({"flavors": views});
    let collection = if detailed { "flavors/detail" } else { "flavors" };
    if let Some(links) = call.next_link(collection, page.len(), page.last().map(|f| f.id.as_str()))? {
        body["flavors_links"] = links;
    }
    ok(body)
}

fn show(c: &Compute, call: &Call) -> Result {
    let flavor = c.db.read(|tx| lookup(tx, call, call.param("id")))?;
    ok(json!({"flavor": detail(call, &flavor, shows_extra_specs(c, call))}))
}

fn create(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-manage:create")?;
    let wanted = &call.body["flavor"];
    let number = |key: &str| json_int(&wanted[key]).unwrap_or(0);
    let id = match &wanted["id"] {
        Value::String(text) if !text.is_empty() && text != "auto" => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => uuid::Uuid::new_v4().to_string(),
    };
    let rxtx = &wanted["rxtx_factor"];
    let now = database::now();
    let mut flavor = Flavor {
        id,
        name: wanted["name"].as_str().unwrap_or_default().trim().to_owned(),
        memory_mb: number("ram"),
        vcpus: number("vcpus"),
        root_gb: number("disk"),
        ephemeral_gb: number("OS-FLV-EXT-DATA:ephemeral"),
        swap: number("swap"),
        rxtx_factor: rxtx.as_f64().or_else(|| rxtx.as_str()?.parse().ok()).unwrap_or(1.0),
        disabled: false,
        is_public: json_bool(&wanted["os-flavor-access:is_public"]).unwrap_or(true),
        description: if call.at_least(55) {
            wanted["description"].as_str().map(str::to_owned)
        } else {
            None
        },
        extra_specs: json!({}),
        number: 0,
        created_at: now,
        updated_at: None,
    };
    c.db.write(|tx| {
        if flavors::name_taken(tx, &flavor.name)? {
            return Err(Error::conflict(format!(
                "Flavor with name {} already exists.",
                flavor.name
            )));
        }
        if Flavor::get(tx, &flavor.id)?.is_some() {
            return Err(Error::conflict(format!("Flavor with ID {} already exists.", flavor.id)));
        }
        flavor.number = flavors::next_number(tx)?;
        flavor.insert(tx)?;
        Ok(())
    })?;
    ok(json!({"flavor": detail(call, &flavor, shows_extra_specs(c, call))}))
}

fn update(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-manage:update")?;
    let flavor = c.db.write(|tx| {
        let mut flavor = lookup(tx, call, call.param("id"))?;
        flavor.description = call.body["flavor"]["description"].as_str().map(str::to_owned);
        flavor.updated_at = Some(database::now());
        flavor.update(tx)?;
        Ok::<_, Error>(flavor)
    })?;
    ok(json!({"flavor": detail(call, &flavor, shows_extra_specs(c, call))}))
}

fn delete(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-manage:delete")?;
    let id = call.param("id");
    c.db.write(|tx| {
        if Flavor::delete(tx, id)? {
            Ok(())
        } else {
            Err(missing(id))
        }
    })?;
    Ok(Response::empty(StatusCode::ACCEPTED))
}
