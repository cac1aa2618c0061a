//! `/v3/services`, `/v3/endpoints`, `/v3/regions`.

use super::*;
use crate::model::schemas;
use crate::store::catalog::{self, ENDPOINTS, REGIONS, SERVICES};
use crate::store::{endpoint_filter, endpoint_policy};
use database::Tx;

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes
        .get("/v3/services", list_services)
        .post("/v3/services", create_service);
    let service = "/v3/services/{service_id}";
    routes
        .get(service, show_service)
        .patch(service, update_service)
        .delete(service, delete_service);
    routes
        .get("/v3/endpoints", list_endpoints)
        .post("/v3/endpoints", create_endpoint);
    let endpoint = "/v3/endpoints/{endpoint_id}";
    routes
        .get(endpoint, show_endpoint)
        .patch(endpoint, update_endpoint)
        .delete(endpoint, delete_endpoint);
    routes
        .get("/v3/regions", list_regions)
        .post("/v3/regions", create_region);
    let region = "/v3/regions/{region_id}";
    routes
        .get(region, show_region)
        .put(region, put_region)
        .patch(region, update_region)
        .delete(region, delete_region);
}

fn list_services(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_services", &Target::new())?;
    let hints = s.hints(r, &["type", "name"], false)?;
    let page = s.read(|tx| SERVICES.list(tx, &hints))?;
    collection(r, "services", "services", page, hints.limit)
}

fn create_service(s: &Identity, r: &Request) -> Result<Response> {
    let service = checked(r, &schemas::SERVICE_CREATE, "service")?;
    s.enforce(r, "identity:create_service", &Target::new())?;
    let service = with_new_id(normalized(&service));
    let service = s.write(|tx| s.create_service(tx, service.clone()))?;
    created(r, "service", "services", service)
}

fn show_service(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_service", &Target::new())?;
    let service = s.read(|tx| SERVICES.get(tx, r.param("service_id")))?;
    ok(r, "service", "services", service)
}

fn update_service(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::SERVICE_UPDATE, "service")?;
    s.enforce(r, "identity:update_service", &Target::new())?;
    let id = r.param("service_id");
    check_same_id(&changes, id)?;
    let service = s.write(|tx| {
        let mut service = SERVICES.get(tx, id)?;
        service.extend(changes.clone());
        SERVICES.update(tx, &service)?;
        SERVICES.get(tx, id)
    })?;
    ok(r, "service", "services", service)
}

fn delete_service(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_service", &Target::new())?;
    let id = r.param("service_id");
    s.write(|tx| {
        SERVICES.get(tx, id)?;
        let registered: Option<i64> = tx.scalar(
            "SELECT 1 FROM identity_registered_limits WHERE service_id = ?1 LIMIT 1",
            &[id.into()],
        )?;
        if registered.is_some() {
            return Err(Error::Refused(format!(
                "Unable to delete service {id} because it has registered limits."
            )));
        }
        endpoint_policy::forget(tx, "service_id", id)?;
        SERVICES.delete(tx, id)
    })?;
    no_content()
}

fn list_endpoints(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::ENDPOINT_QUERY)?;
    s.enforce(r, "identity:list_endpoints", &Target::new())?;
    let hints = s.hints(r, &["interface", "service_id", "region_id"], false)?;
    let mut page = s.read(|tx| ENDPOINTS.list(tx, &hints))?;
    page.refs = page.refs.into_iter().map(endpoint_filter::shown).collect();
    collection(r, "endpoints", "endpoints", page, hints.limit)
}

/// An endpoint that names its region by the old attribute gets it by the new one; the region is made where it is not there.
fn with_region(s: &Identity, tx: &mut Tx<'_>, mut endpoint: Ref) -> Result<Ref> {
    if endpoint.get("region_id").is_none_or(Value::is_null)
        && let Some(region) = endpoint.remove("region").filter(|region| !region.is_null())
    {
        let id = region.as_str().unwrap_or_default().to_owned();
        if REGIONS.find(tx, "id = ?1", &[(&id).into()])?.is_none() {
            s.create_region(tx, Ref::from_iter([("id".into(), id.into())]))?;
        }
        endpoint.insert("region_id".into(), region);
    }
    endpoint.remove("region");
    Ok(endpoint)
}

fn create_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    let endpoint = checked(r, &schemas::ENDPOINT_CREATE, "endpoint")?;
    s.enforce(r, "identity:create_endpoint", &Target::new())?;
    let address = text(&endpoint, "url");
    if !catalog::is_valid_url(address) {
        return Err(Error::Invalid(format!(
            "Cannot create an endpoint with an invalid URL: {address}."
        )));
    }
    let endpoint = with_new_id(normalized(&endpoint));
    let endpoint = s.write(|tx| {
        let endpoint = with_region(s, tx, endpoint.clone())?;
        s.create_endpoint(tx, endpoint)
    })?;
    created(r, "endpoint", "endpoints", endpoint_filter::shown(endpoint))
}

fn show_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_endpoint", &Target::new())?;
    let endpoint = s.read(|tx| ENDPOINTS.get(tx, r.param("endpoint_id")))?;
    ok(r, "endpoint", "endpoints", endpoint_filter::shown(endpoint))
}

fn update_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::ENDPOINT_UPDATE, "endpoint")?;
    s.enforce(r, "identity:update_endpoint", &Target::new())?;
    let id = r.param("endpoint_id");
    check_same_id(&changes, id)?;
    let endpoint = s.write(|tx| {
        let changes = with_region(s, tx, changes.clone())?;
        s.update_endpoint(tx, id, changes)
    })?;
    ok(r, "endpoint", "endpoints", endpoint_filter::shown(endpoint))
}

fn delete_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_endpoint", &Target::new())?;
    let id = r.param("endpoint_id");
    s.write(|tx| {
        endpoint_policy::forget(tx, "endpoint_id", id)?;
        ENDPOINTS.delete(tx, id)
    })?;
    no_content()
}

fn list_regions(s: &Identity, r: &Request) -> Result<Response> {
    check_query(r, &schemas::REGION_QUERY)?;
    s.enforce(r, "identity:list_regions", &Target::new())?;
    let hints = s.hints(r, &["parent_region_id"], false)?;
    let page = s.read(|tx| REGIONS.list(tx, &hints))?;
    collection(r, "regions", "regions", page, hints.limit)
}

fn create_region(s: &Identity, r: &Request) -> Result<Response> {
    let region = checked(r, &schemas::REGION_CREATE, "region")?;
    s.enforce(r, "identity:create_region", &Target::new())?;
    let mut region = normalized(&region);
    if text(&region, "id").is_empty() {
        region = with_new_id(region);
    }
    let region = s.write(|tx| s.create_region(tx, region.clone()))?;
    created(r, "region", "regions", region)
}

fn show_region(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_region", &Target::new())?;
    let region = s.read(|tx| REGIONS.get(tx, r.param("region_id")))?;
    ok(r, "region", "regions", region)
}

fn put_region(s: &Identity, r: &Request) -> Result<Response> {
    let region = checked(r, &schemas::REGION_CREATE, "region")?;
    s.enforce(r, "identity:create_region", &Target::new())?;
    let mut region = normalized(&region);
    let id = r.param("region_id");
    match region.get("id").and_then(Value::as_str) {
        Some(other) if other != id => {
            return Err(Error::Invalid(format!(
                "Conflicting region IDs specified: \"{id}\" != \"{other}\""
            )));
        }
        _ => region.insert("id".into(), id.into()),
    };
    let region = s.write(|tx| s.create_region(tx, region.clone()))?;
    created(r, "region", "regions", region)
}

fn update_region(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::REGION_UPDATE, "region")?;
    s.enforce(r, "identity:update_region", &Target::new())?;
    let id = r.param("region_id");
    check_same_id(&changes, id)?;
    let region = s.write(|tx| s.update_region(tx, id, changes.clone()))?;
    ok(r, "region", "regions", region)
}

fn delete_region(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_region", &Target::new())?;
    s.write(|tx| s.delete_region(tx, r.param("region_id")))?;
    no_content()
}
