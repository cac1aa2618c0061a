//! `/v2.0/auto-allocated-topology`: a network with a way out, made for a project that asks for one.

use super::controller::create_internal;
use super::{access, body, networks, router_interfaces, routers, subnets};
use crate::api_prelude::*;
use ::api::{Request, Response, StatusCode};

fn project(cx: &Cx<'_, '_>, request: &Request) -> Result<String> {
    let asked = request.param("id");
    let own = cx.caller.project();
    let project = if asked == "None" { own } else { asked };
    if !cx.caller.admin && project != own {
        return Err(Error::NotAuthorized {});
    }
    Ok(project.into())
}

fn default_external(cx: &mut Cx<'_, '_>) -> Result<String> {
    let found = cx.tx.scalar("SELECT id FROM networks WHERE is_default = 1 AND external = 1 ORDER BY id LIMIT 1", &[])?;
    found.ok_or_else(|| Error::AutoAllocationFailure { reason: "No default router:external network".into() })
}

fn default_pools(cx: &mut Cx<'_, '_>) -> Result<Vec<(String, i64)>> {
    let rows = cx.tx.query("SELECT id, ip_version FROM subnetpools WHERE is_default = 1 ORDER BY ip_version", &[])?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

fn answer(id: &str, project: &str) -> Response {
    let topology = json!({"id": id, "project_id": project, "tenant_id": project});
    Response::json(StatusCode::OK, &json!({"auto_allocated_topology": topology}))
}

/// GET, which makes what is not there yet.
pub fn show(net: &crate::Network, request: &Request) -> Result<Response> {
    let fields: Vec<&str> = request.query.all("fields").filter(|f| !f.is_empty()).collect();
    net.write(request, |cx| {
        let project = project(cx, request)?;
        access::require(cx, "get_auto_allocated_topology", &[("project_id", project.clone())])?;
        if fields.contains(&"dry-run") {
            default_external(cx)?;
            if default_pools(cx)?.is_empty() {
                return Err(Error::AutoAllocationFailure { reason: "No default subnetpools defined".into() });
            }
            return Ok(answer("dry-run=pass", &project));
        }
        if fields.iter().any(|f| !matches!(*f, "id" | "project_id" | "tenant_id")) {
            return Err(Error::request("auto_allocate", "Unrecognized field"));
        }
        let known = "SELECT network_id FROM auto_allocated_topologies WHERE project_id = ?1";
        if let Some(network) = cx.tx.scalar::<String>(known, &params![&project])? {
            return Ok(answer(&network, &project));
        }
        let external = default_external(cx)?;
        let mut cx = cx.elevated();
        let network = build(&mut cx, &project, &external)?;
        Ok(answer(&network, &project))
    })
}

fn build(cx: &mut Cx<'_, '_>, project: &str, external: &str) -> Result<String> {
    let pools = default_pools(cx)?;
    if pools.is_empty() {
        return Err(Error::AutoAllocationFailure { reason: "Unable to provide project private network".into() });
    }
    let network = create_internal(cx, &networks::NETWORK, json!({"name": "auto_allocated_network", "project_id": project}))?;
    let router = json!({"name": "auto_allocated_router", "project_id": project, "external_gateway_info": {"network_id": external}});
    let router = create_internal(cx, &routers::ROUTER, router)?;
    for (pool, version) in pools {
        let subnet = json!({
            "name": format!("auto_allocated_subnet_v{version}"), "network_id": network.id(), "project_id": project,
            "ip_version": version, "subnetpool_id": pool,
        });
        let subnet = create_internal(cx, &subnets::SUBNET, subnet)?;
        let mut body = Map::new();
        body.insert("subnet_id".into(), json!(subnet.id()));
        router_interfaces::attach(cx, &router, &body)?;
    }
    let sql = "INSERT INTO auto_allocated_topologies (project_id, network_id, router_id) VALUES (?1, ?2, ?3)";
    cx.tx.execute(sql, &params![project, network.id(), router.id()])?;
    Ok(network.id().into())
}

/// DELETE.
pub fn delete(net: &crate::Network, request: &Request) -> Result<Response> {
    body::object(request)?;
    net.write(request, |cx| {
        let project = project(cx, request)?;
        access::require(cx, "delete_auto_allocated_topology", &[("project_id", project.clone())])?;
        let row = cx.tx.query_one("SELECT network_id, router_id FROM auto_allocated_topologies WHERE project_id = ?1", &params![&project])?;
        let Some(row) = row else { return Ok(Response::empty(StatusCode::NO_CONTENT)) };
        let (network, router): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let mut cx = cx.elevated();
        if let Some(router) = router {
            let ports = "SELECT port_id FROM router_ports WHERE router_id = ?1 AND port_type = 'network:router_interface'";
            for port in cx.tx.column::<String>(ports, &params![&router])? {
                super::ports::remove(&mut cx, &port)?;
            }
            let router = item::get(&mut cx, &routers::ROUTER, &router)?;
            if let Some(delete) = routers::ROUTER.delete {
                delete(&mut cx, &router)?;
            }
        }
        let network = item::get(&mut cx, &networks::NETWORK, &network)?;
        if let Some(delete) = networks::NETWORK.delete {
            delete(&mut cx, &network)?;
        }
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}
