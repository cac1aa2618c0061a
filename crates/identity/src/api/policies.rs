//! `/v3/policies` and OS-ENDPOINT-POLICY.

use super::*;
use crate::model::schemas;
use crate::store::catalog::{ENDPOINTS, REGIONS, SERVICES};
use crate::store::endpoint_filter;
use crate::store::endpoint_policy::{self, Association, POLICIES};

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/policies", list).post("/v3/policies", create);
    let one = "/v3/policies/{policy_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
    routes.get("/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints", list_endpoints);
    routes.get(
        "/v3/endpoints/{endpoint_id}/OS-ENDPOINT-POLICY/policy",
        show_for_endpoint,
    );
    for path in [
        "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/endpoints/{endpoint_id}",
        "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}",
        "/v3/policies/{policy_id}/OS-ENDPOINT-POLICY/services/{service_id}/regions/{region_id}",
    ] {
        routes.get(path, check).put(path, associate).delete(path, dissociate);
    }
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_policies", &Target::new())?;
    let hints = s.hints(r, &["type"], false)?;
    let page = s.read(|tx| POLICIES.list(tx, &hints))?;
    collection(r, "policies", "policies", page, hints.limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:create_policy", &Target::new())?;
    let policy = part(r, "policy")?;
    schemas::check_part(&schemas::POLICY_CREATE, &policy.clone().into())?;
    let policy = with_new_id(normalized(&policy));
    let policy = s.write(|tx| {
        POLICIES.insert(tx, &policy)?;
        POLICIES.get(tx, text(&policy, "id"))
    })?;
    created(r, "policy", "policies", policy)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_policy", &Target::new())?;
    let policy = s.read(|tx| POLICIES.get(tx, r.param("policy_id")))?;
    ok(r, "policy", "policies", policy)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:update_policy", &Target::new())?;
    let changes = part(r, "policy")?;
    schemas::check_part(&schemas::POLICY_UPDATE, &changes.clone().into())?;
    let id = r.param("policy_id");
    if changes.get("id").is_some_and(|other| other.as_str() != Some(id)) {
        return Err(Error::Invalid("Cannot change policy ID".into()));
    }
    let policy = s.write(|tx| {
        let mut policy = POLICIES.get(tx, id)?;
        policy.extend(changes.clone());
        POLICIES.update(tx, &policy)?;
        POLICIES.get(tx, id)
    })?;
    ok(r, "policy", "policies", policy)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_policy", &Target::new())?;
    let id = r.param("policy_id");
    s.write(|tx| {
        endpoint_policy::forget(tx, "policy_id", id)?;
        POLICIES.delete(tx, id)
    })?;
    no_content()
}

fn list_endpoints(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_endpoints_for_policy", &Target::new())?;
    let id = r.param("policy_id");
    let found = s.read(|tx| {
        POLICIES.get(tx, id)?;
        endpoint_policy::endpoints_of(tx, id)
    })?;
    collection(r, "endpoints", "endpoints", all(found), None)
}

fn show_for_endpoint(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_policy_for_endpoint", &Target::new())?;
    let policy = s.read(|tx| {
        let endpoint = ENDPOINTS.get(tx, r.param("endpoint_id"))?;
        endpoint_policy::policy_for(tx, &endpoint_filter::shown(endpoint))
    })?;
    ok(r, "policy", "endpoints", policy)
}

/// What the path associates, once the caller may do this and all of it is there.
fn with_association(
    s: &Identity,
    r: &Request,
    action: &str,
    then: impl Fn(&mut database::Tx<'_>, &str, Association<'_>) -> Result<()>,
) -> Result<Response> {
    let with = Association {
        endpoint_id: r.param("endpoint_id"),
        service_id: r.param("service_id"),
        region_id: r.param("region_id"),
    };
    let kind = match with {
        Association { endpoint_id, .. } if !endpoint_id.is_empty() => "endpoint",
        Association { region_id, .. } if !region_id.is_empty() => "region_and_service",
        _ => "service",
    };
    s.enforce(
        r,
        &format!("identity:{action}_policy_association_for_{kind}"),
        &Target::new(),
    )?;
    let policy = r.param("policy_id");
    let work = |tx: &mut database::Tx<'_>| {
        POLICIES.get(tx, policy)?;
        for (table, id) in [
            (&ENDPOINTS, with.endpoint_id),
            (&SERVICES, with.service_id),
            (&REGIONS, with.region_id),
        ] {
            if !id.is_empty() {
                table.get(tx, id)?;
            }
        }
        then(tx, policy, with)
    };
    if action == "check" {
        s.read(work)?
    } else {
        s.write(work)?
    };
    no_content()
}

fn check(s: &Identity, r: &Request) -> Result<Response> {
    with_association(s, r, "check", endpoint_policy::check)
}

fn associate(s: &Identity, r: &Request) -> Result<Response> {
    with_association(s, r, "create", endpoint_policy::associate)
}

fn dissociate(s: &Identity, r: &Request) -> Result<Response> {
    with_association(s, r, "delete", endpoint_policy::dissociate)
}
