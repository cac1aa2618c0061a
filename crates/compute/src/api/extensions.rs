//! The extensions of old, which are all part of the API now.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, no_such_version, ok};

/// Alias and name of each.
static EXTENSIONS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let list: Vec<(String, String)> =
        serde_json::from_str(include_str!("../../schemas/extensions.json")).unwrap_or_default();
    let one = |(alias, name): (String, String)| {
        json!({
            "alias": alias, "name": name, "description": format!("{name}."), "links": [],
            "namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z",
        })
    };
    list.into_iter().map(one).collect()
});

pub(super) fn add(table: &mut Table) {
    table.get("/extensions", list).get("/extensions/{id}", show);
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:extensions")?;
    ok(json!({"extensions": *EXTENSIONS}))
}

fn show(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:extensions")?;
    match EXTENSIONS.iter().find(|e| e["alias"] == call.param("id")) {
        Some(extension) => ok(json!({"extension": extension})),
        None => Err(no_such_version()),
    }
}
