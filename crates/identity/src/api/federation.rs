//! `/v3/OS-FEDERATION`: identity providers, protocols, mappings, service providers.

use super::*;
use crate::model::schemas;
use crate::store::federation::{self as store, MAPPINGS, SERVICE_PROVIDERS};

const PROVIDERS_PATH: &str = "OS-FEDERATION/identity_providers";
const MAPPINGS_PATH: &str = "OS-FEDERATION/mappings";
const SERVICE_PROVIDERS_PATH: &str = "OS-FEDERATION/service_providers";

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/OS-FEDERATION/identity_providers", list_providers);
    let provider = "/v3/OS-FEDERATION/identity_providers/{idp_id}";
    routes
        .get(provider, show_provider)
        .put(provider, create_provider)
        .patch(provider, update_provider)
        .delete(provider, delete_provider);
    routes.get(
        "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols",
        list_protocols,
    );
    let protocol = "/v3/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}";
    routes
        .get(protocol, show_protocol)
        .put(protocol, create_protocol)
        .patch(protocol, update_protocol)
        .delete(protocol, delete_protocol);
    routes.get("/v3/OS-FEDERATION/mappings", list_mappings);
    let mapping = "/v3/OS-FEDERATION/mappings/{mapping_id}";
    routes
        .get(mapping, show_mapping)
        .put(mapping, create_mapping)
        .patch(mapping, update_mapping)
        .delete(mapping, delete_mapping);
    routes.get("/v3/OS-FEDERATION/service_providers", list_service_providers);
    let sp = "/v3/OS-FEDERATION/service_providers/{service_provider_id}";
    routes
        .get(sp, show_service_provider)
        .put(sp, create_service_provider)
        .patch(sp, update_service_provider)
        .delete(sp, delete_service_provider);
}

/// A provider with its links.
fn shown_provider(r: &Request, mut provider: Ref) -> Ref {
    link(r, PROVIDERS_PATH, &mut provider);
    let protocols = url(r, &format!("{PROVIDERS_PATH}/{}/protocols", text(&provider, "id")));
    set_link(&mut provider, "protocols", protocols);
    provider
}

fn provider_response(r: &Request, status: StatusCode, provider: Ref) -> Result<Response> {
    Ok(Response::json(
        status,
        &json!({"identity_provider": shown_provider(r, provider)}),
    ))
}

fn list_providers(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_identity_providers", &Target::new())?;
    let hints = s.hints(r, &["id", "enabled"], false)?;
    let mut page = s.read(|tx| store::list_providers(tx, &hints))?;
    page.refs = page
        .refs
        .into_iter()
        .map(|provider| shown_provider(r, provider))
        .collect();
    Ok(Response::json(
        StatusCode::OK,
        &linked(r, "identity_providers", page, hints.limit),
    ))
}

fn show_provider(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_identity_provider", &Target::new())?;
    let provider = s.read(|tx| store::provider_by_id(tx, r.param("idp_id")))?;
    provider_response(r, StatusCode::OK, provider)
}

fn create_provider(s: &Identity, r: &Request) -> Result<Response> {
    let provider = checked(r, &schemas::IDENTITY_PROVIDER_CREATE, "identity_provider")?;
    s.enforce(r, "identity:create_identity_provider", &Target::new())?;
    let mut provider = normalized(&provider);
    provider.entry("enabled").or_insert(false.into());
    provider.insert("id".into(), r.param("idp_id").into());
    let provider = s.write(|tx| s.create_identity_provider(tx, provider.clone()))?;
    provider_response(r, StatusCode::CREATED, provider)
}

fn update_provider(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::IDENTITY_PROVIDER_UPDATE, "identity_provider")?;
    s.enforce(r, "identity:update_identity_provider", &Target::new())?;
    let provider = s.write(|tx| store::update_provider(tx, r.param("idp_id"), &changes))?;
    provider_response(r, StatusCode::OK, provider)
}

fn delete_provider(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_identity_provider", &Target::new())?;
    s.write(|tx| store::delete_provider(tx, r.param("idp_id")))?;
    no_content()
}

/// A protocol with its links; single ones leave out the provider.
fn shown_protocol(r: &Request, mut protocol: Ref, single: bool) -> Ref {
    let provider = url(r, text(&protocol, "idp_id"));
    // Upstream's links of protocols do not name the provider's collection.
    link(r, "protocols", &mut protocol);
    set_link(&mut protocol, "identity_provider", provider);
    if single {
        protocol.remove("idp_id");
        protocol.remove("remote_id_attribute");
    }
    protocol
}

fn list_protocols(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_protocols", &Target::new())?;
    let found = s.read(|tx| store::protocols(tx, r.param("idp_id")))?;
    let shown = found
        .into_iter()
        .map(|protocol| shown_protocol(r, protocol, false))
        .collect();
    Ok(Response::json(
        StatusCode::OK,
        &linked(r, "protocols", all(shown), None),
    ))
}

fn protocol_response(r: &Request, status: StatusCode, protocol: Ref) -> Result<Response> {
    Ok(Response::json(
        status,
        &json!({"protocol": shown_protocol(r, protocol, true)}),
    ))
}

fn show_protocol(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_protocol", &Target::new())?;
    let protocol = s.read(|tx| store::protocol(tx, r.param("idp_id"), r.param("protocol_id")))?;
    protocol_response(r, StatusCode::OK, protocol)
}

fn create_protocol(s: &Identity, r: &Request) -> Result<Response> {
    let protocol = checked(r, &schemas::PROTOCOL_CREATE, "protocol")?;
    s.enforce(r, "identity:create_protocol", &Target::new())?;
    let mut protocol = normalized(&protocol);
    protocol.insert("id".into(), r.param("protocol_id").into());
    protocol.insert("idp_id".into(), r.param("idp_id").into());
    let protocol = s.write(|tx| {
        s.check_mapping(tx, text(&protocol, "mapping_id"))?;
        store::PROVIDERS.get(tx, r.param("idp_id"))?;
        store::insert_protocol(tx, &protocol)
    })?;
    protocol_response(r, StatusCode::CREATED, protocol)
}

fn update_protocol(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::PROTOCOL_UPDATE, "protocol")?;
    s.enforce(r, "identity:update_protocol", &Target::new())?;
    let protocol = s.write(|tx| {
        s.check_mapping(tx, text(&changes, "mapping_id"))?;
        store::update_protocol(tx, r.param("idp_id"), r.param("protocol_id"), &changes)
    })?;
    protocol_response(r, StatusCode::OK, protocol)
}

fn delete_protocol(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_protocol", &Target::new())?;
    s.write(|tx| store::delete_protocol(tx, r.param("idp_id"), r.param("protocol_id")))?;
    no_content()
}

fn list_mappings(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_mappings", &Target::new())?;
    let found = s.read(|tx| MAPPINGS.find_all(tx, "1 = 1", &[]))?;
    collection(r, "mappings", MAPPINGS_PATH, all(found), None)
}

fn show_mapping(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_mapping", &Target::new())?;
    let mapping = s.read(|tx| MAPPINGS.get(tx, r.param("mapping_id")))?;
    ok(r, "mapping", MAPPINGS_PATH, mapping)
}

/// The mapping of the body, of a version that is known.
fn mapping(r: &Request) -> Result<Ref> {
    let mut mapping = normalized(&part(r, "mapping")?);
    if text(&mapping, "schema_version").is_empty() {
        mapping.insert("schema_version".into(), "1.0".into());
    }
    let schema = match text(&mapping, "schema_version") {
        "2.0" => &schemas::MAPPING_2,
        "3.0" => &schemas::MAPPING_3,
        _ => &schemas::MAPPING_1,
    };
    // Upstream lists what is wrong, a line each, without saying where.
    schema
        .validate(&mapping.clone().into())
        .map_err(|violation| Error::Invalid(format!("{}\n", violation.message)))?;
    mapping.insert("id".into(), r.param("mapping_id").into());
    mapping.retain(|name, _| matches!(name.as_str(), "id" | "rules" | "schema_version"));
    Ok(mapping)
}

fn create_mapping(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:create_mapping", &Target::new())?;
    let mapping = mapping(r)?;
    let mapping = s.write(|tx| {
        MAPPINGS.insert(tx, &mapping)?;
        MAPPINGS.get(tx, text(&mapping, "id"))
    })?;
    created(r, "mapping", MAPPINGS_PATH, mapping)
}

fn update_mapping(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:update_mapping", &Target::new())?;
    let changes = mapping(r)?;
    let mapping = s.write(|tx| {
        MAPPINGS.get(tx, text(&changes, "id"))?;
        MAPPINGS.update(tx, &changes)?;
        MAPPINGS.get(tx, text(&changes, "id"))
    })?;
    ok(r, "mapping", MAPPINGS_PATH, mapping)
}

fn delete_mapping(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_mapping", &Target::new())?;
    s.write(|tx| MAPPINGS.delete(tx, r.param("mapping_id")))?;
    no_content()
}

fn list_service_providers(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:list_service_providers", &Target::new())?;
    let hints = s.hints(r, &["id", "enabled"], false)?;
    let page = s.read(|tx| SERVICE_PROVIDERS.list(tx, &hints))?;
    collection(r, "service_providers", SERVICE_PROVIDERS_PATH, page, hints.limit)
}

fn show_service_provider(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_service_provider", &Target::new())?;
    let sp = s.read(|tx| SERVICE_PROVIDERS.get(tx, r.param("service_provider_id")))?;
    ok(r, "service_provider", SERVICE_PROVIDERS_PATH, sp)
}

fn create_service_provider(s: &Identity, r: &Request) -> Result<Response> {
    let sp = checked(r, &schemas::SERVICE_PROVIDER_CREATE, "service_provider")?;
    s.enforce(r, "identity:create_service_provider", &Target::new())?;
    let mut sp = normalized(&sp);
    sp.entry("enabled").or_insert(false.into());
    if sp.get("relay_state_prefix").is_none_or(Value::is_null) {
        sp.insert("relay_state_prefix".into(), s.config.relay_state_prefix.clone().into());
    }
    sp.insert("id".into(), r.param("service_provider_id").into());
    let sp = s.write(|tx| {
        SERVICE_PROVIDERS.insert(tx, &sp)?;
        SERVICE_PROVIDERS.get(tx, text(&sp, "id"))
    })?;
    created(r, "service_provider", SERVICE_PROVIDERS_PATH, sp)
}

fn update_service_provider(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::SERVICE_PROVIDER_UPDATE, "service_provider")?;
    s.enforce(r, "identity:update_service_provider", &Target::new())?;
    let id = r.param("service_provider_id");
    let sp = s.write(|tx| {
        let mut sp = SERVICE_PROVIDERS.get(tx, id)?;
        sp.extend(changes.clone());
        SERVICE_PROVIDERS.update(tx, &sp)?;
        SERVICE_PROVIDERS.get(tx, id)
    })?;
    ok(r, "service_provider", SERVICE_PROVIDERS_PATH, sp)
}

fn delete_service_provider(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_service_provider", &Target::new())?;
    s.write(|tx| SERVICE_PROVIDERS.delete(tx, r.param("service_provider_id")))?;
    no_content()
}
