//! Which projects may use a private flavor.

use api::Error;
use database::Tx;
use serde_json::json;

use super::flavors::lookup;
use crate::Compute;
use crate::call::{Call, NEWEST, Result, Table, ok};
use crate::model::flavor::Flavor;
use crate::store::flavors;

pub(super) fn add(table: &mut Table) {
    table
        .get("/flavors/{flavor_id}/os-flavor-access", list)
        .action("/flavors/{id}/action", "addTenantAccess", (1, NEWEST), grant)
        .action("/flavors/{id}/action", "removeTenantAccess", (1, NEWEST), revoke);
}

fn view(tx: &mut Tx<'_>, flavor: &Flavor) -> Result<serde_json::Value> {
    let projects = flavors::projects(tx, &flavor.id)?;
    let access: Vec<_> = projects
        .iter()
        .map(|p| json!({"flavor_id": flavor.id, "tenant_id": p}))
        .collect();
    Ok(json!({"flavor_access": access}))
}

fn list(c: &Compute, call: &Call) -> Result {
    c.allow_own(call, "os_compute_api:os-flavor-access")?;
    let body = c.db.read(|tx| {
        let flavor = lookup(tx, call, call.param("flavor_id"))?;
        if flavor.is_public {
            return Err(Error::not_found("Access list not available for public flavors."));
        }
        view(tx, &flavor)
    })?;
    ok(body)
}

fn grant(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-access:add_tenant_access")?;
    let project = call.body["addTenantAccess"]["tenant"].as_str().unwrap_or_default();
    let body = c.db.write(|tx| {
        c.known_project(tx, project)?;
        let flavor = lookup(tx, call, call.param("id"))?;
        if call.at_least(7) && flavor.is_public {
            return Err(Error::conflict("Can not add access to a public flavor."));
        }
        if flavors::has_access(tx, &flavor.id, project)? {
            let id = &flavor.id;
            let text = format!("Flavor access already exists for flavor {id} and project {project} combination.");
            return Err(Error::conflict(text));
        }
        flavors::grant(tx, &flavor.id, project)?;
        view(tx, &flavor)
    })?;
    ok(body)
}

fn revoke(c: &Compute, call: &Call) -> Result {
    c.allow_bare(call, "os_compute_api:os-flavor-access:remove_tenant_access")?;
    let project = call.body["removeTenantAccess"]["tenant"].as_str().unwrap_or_default();
    let body = c.db.write(|tx| {
        let flavor = lookup(tx, call, call.param("id"))?;
        if !flavors::revoke(tx, &flavor.id, project)? {
            let id = &flavor.id;
            return Err(Error::not_found(format!(
                "Flavor access not found for {id} / {project} combination."
            )));
        }
        view(tx, &flavor)
    })?;
    ok(body)
}

impl Compute {
    /// Upstream's check of a project in the path or body.
    pub(crate) fn known_project(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        if self.neighbours.identities.project_exists(tx, id)? {
            return Ok(());
        }
        Err(Error::bad_request(format!("Project ID {id} is not a valid project.")))
    }
}
