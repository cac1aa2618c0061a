//! Regions, services and endpoints.

use crate::store::catalog::{ENDPOINTS, REGIONS, SERVICES, region_tree};
use crate::store::{Ref, endpoint_policy, text};
use crate::{Error, Identity, Result};
use database::{Tx, params};
use serde_json::Value;

fn set_missing(object: &mut Ref, name: &str, value: impl Into<Value>) {
    if object.get(name).is_none_or(Value::is_null) {
        object.insert(name.into(), value.into());
    }
}

impl Identity {
    /// Adds a region.
    pub(crate) fn create_region(&self, tx: &mut Tx<'_>, mut region: Ref) -> Result<Ref> {
        let id = text(&region, "id").to_owned();
        if REGIONS.find(tx, "id = ?1", &params![&id])?.is_some() {
            return Err(Error::Conflict {
                what: "region",
                details: format!("Duplicate ID, {id}."),
            });
        }
        set_missing(&mut region, "description", "");
        let parent = text(&region, "parent_region_id");
        if !parent.is_empty() {
            REGIONS.get(tx, parent)?;
        }
        REGIONS.insert(tx, &region)?;
        REGIONS.get(tx, &id)
    }

    /// Changes a region.
    pub(crate) fn update_region(&self, tx: &mut Tx<'_>, id: &str, changes: Ref) -> Result<Ref> {
        let parent = text(&changes, "parent_region_id").to_owned();
        if !parent.is_empty() {
            REGIONS.get(tx, &parent)?;
        }
        let mut region = REGIONS.get(tx, id)?;
        region.extend(changes);
        region.insert("id".into(), id.into());
        set_missing(&mut region, "description", "");
        if region_tree(tx, id)?.contains(&parent) {
            return Err(Error::Invalid(format!(
                "The specified parent region {id} would create a circular region hierarchy."
            )));
        }
        REGIONS.update(tx, &region)?;
        REGIONS.get(tx, id)
    }

    /// Removes a region and those below it, if none has endpoints.
    pub(crate) fn delete_region(&self, tx: &mut Tx<'_>, id: &str) -> Result<()> {
        REGIONS.get(tx, id)?;
        let tree = region_tree(tx, id)?;
        for region in &tree {
            let used: Option<i64> = tx.scalar(
                "SELECT 1 FROM identity_endpoints WHERE region_id = ?1 LIMIT 1",
                &params![region],
            )?;
            if used.is_some() {
                return Err(Error::Refused(format!(
                    "Unable to delete region {id} because it or its child regions have associated endpoints."
                )));
            }
            let limited: Option<i64> = tx.scalar(
                "SELECT 1 FROM identity_registered_limits WHERE region_id = ?1 LIMIT 1",
                &params![region],
            )?;
            if limited.is_some() {
                return Err(Error::Refused(format!(
                    "Unable to delete region {id} because it has registered limits."
                )));
            }
        }
        for region in tree.iter().rev() {
            endpoint_policy::forget(tx, "region_id", region)?;
            REGIONS.delete(tx, region)?;
        }
        Ok(())
    }

    /// Adds a service.
    pub(crate) fn create_service(&self, tx: &mut Tx<'_>, mut service: Ref) -> Result<Ref> {
        set_missing(&mut service, "enabled", true);
        set_missing(&mut service, "name", "");
        SERVICES.insert(tx, &service)?;
        SERVICES.get(tx, text(&service, "id"))
    }

    fn check_endpoint(&self, tx: &mut Tx<'_>, endpoint: &Ref) -> Result<()> {
        let region = text(endpoint, "region_id");
        if !region.is_empty() && REGIONS.find(tx, "id = ?1", &params![region])?.is_none() {
            return Err(Error::expecting("endpoint region_id", "region table"));
        }
        let service = text(endpoint, "service_id");
        if endpoint.contains_key("service_id") && SERVICES.find(tx, "id = ?1", &params![service])?.is_none() {
            return Err(Error::expecting("endpoint service_id", "service table"));
        }
        Ok(())
    }

    /// Adds an endpoint.
    pub(crate) fn create_endpoint(&self, tx: &mut Tx<'_>, mut endpoint: Ref) -> Result<Ref> {
        self.check_endpoint(tx, &endpoint)?;
        set_missing(&mut endpoint, "enabled", true);
        ENDPOINTS.insert(tx, &endpoint)?;
        ENDPOINTS.get(tx, text(&endpoint, "id"))
    }

    /// Changes an endpoint.
    pub(crate) fn update_endpoint(&self, tx: &mut Tx<'_>, id: &str, changes: Ref) -> Result<Ref> {
        self.check_endpoint(tx, &changes)?;
        let mut endpoint = ENDPOINTS.get(tx, id)?;
        endpoint.extend(changes);
        endpoint.insert("id".into(), id.into());
        set_missing(&mut endpoint, "enabled", true);
        ENDPOINTS.update(tx, &endpoint)?;
        ENDPOINTS.get(tx, id)
    }
}
