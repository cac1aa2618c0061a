//! Which agent does what: `dhcp-networks` and `l3-routers` of agents, `dhcp-agents` of networks, `l3-agents` of routers.
//! Every node answers DHCP for its own guests and routes for them; what a binding decides is where a router's gateway is.

use super::agents::AGENT;
use super::networks::NETWORK;
use super::routers::ROUTER;
use super::{access, body};
use crate::api_prelude::*;
use ::api::{Request, Response, Routes, StatusCode};

/// One kind of scheduling.
struct Kind {
    agent_type: &'static str,
    resource: &'static Resource,
    /// `network_id` in the body.
    key: &'static str,
    /// Rules: list on agent, add, remove, list agents.
    rules: [&'static str; 4],
    no_agent: fn(&str) -> Error,
    hosted: fn(&str, &str) -> Error,
    not_hosted: fn(&str, &str) -> Error,
    paths: [&'static str; 3],
}

static DHCP: Kind = Kind {
    agent_type: "DHCP agent",
    resource: &NETWORK,
    key: "network_id",
    rules: ["get_dhcp-networks", "create_dhcp-network", "delete_dhcp-network", "get_dhcp-agents"],
    no_agent: |id| Error::InvalidDHCPAgent { id: id.into() },
    hosted: |object, agent| Error::NetworkHostedByDHCPAgent { network_id: object.into(), agent_id: agent.into() },
    not_hosted: |object, agent| Error::NetworkNotHostedByDhcpAgent { network_id: object.into(), agent_id: agent.into() },
    paths: ["/v2.0/agents/{id}/dhcp-networks", "/v2.0/agents/{id}/dhcp-networks/{object}", "/v2.0/networks/{id}/dhcp-agents"],
};

static L3: Kind = Kind {
    agent_type: "L3 agent",
    resource: &ROUTER,
    key: "router_id",
    rules: ["get_l3-routers", "create_l3-router", "delete_l3-router", "get_l3-agents"],
    no_agent: |id| Error::InvalidL3Agent { id: id.into() },
    hosted: |object, agent| Error::RouterHostedByL3Agent { router_id: object.into(), agent_id: agent.into() },
    not_hosted: |object, agent| Error::RouterNotHostedByL3Agent { router_id: object.into(), agent_id: agent.into() },
    paths: ["/v2.0/agents/{id}/l3-routers", "/v2.0/agents/{id}/l3-routers/{object}", "/v2.0/routers/{id}/l3-agents"],
};

/// Adds the routes.
pub fn mount(routes: &mut Routes<crate::Network>) {
    for kind in [&DHCP, &L3] {
        routes.get(kind.paths[0], move |n: &crate::Network, r: &Request| objects(n, kind, r));
        routes.post(kind.paths[0], move |n: &crate::Network, r: &Request| add(n, kind, r));
        routes.delete(kind.paths[1], move |n: &crate::Network, r: &Request| remove(n, kind, r));
        routes.get(kind.paths[2], move |n: &crate::Network, r: &Request| agents(n, kind, r));
    }
}

/// Schedules a network or router that nobody has yet.
fn schedule(cx: &mut Cx<'_, '_>, kind: &Kind, object: &str) -> Result<()> {
    if cx.tx.query_one("SELECT agent_id FROM agent_bindings WHERE object_id = ?1 LIMIT 1", &params![object])?.is_some() {
        return Ok(());
    }
    let least = "SELECT a.id FROM agents a LEFT JOIN agent_bindings b ON b.agent_id = a.id WHERE a.agent_type = ?1 AND a.admin_state_up = 1
         GROUP BY a.id ORDER BY COUNT(b.object_id), a.id LIMIT 1";
    if let Some(agent) = cx.tx.scalar::<String>(least, &params![kind.agent_type])? {
        let sql = "INSERT INTO agent_bindings (agent_id, object_id, kind) VALUES (?1, ?2, ?3)";
        cx.tx.execute(sql, &params![agent, object, kind.agent_type])?;
    }
    Ok(())
}

/// A network got its first subnet with DHCP.
pub fn network_wants_dhcp(cx: &mut Cx<'_, '_>, network: &str) -> Result<()> {
    schedule(cx, &DHCP, network)
}

/// A router got a gateway or an interface.
pub fn router_wants_agent(cx: &mut Cx<'_, '_>, router: &str) -> Result<()> {
    schedule(cx, &L3, router)
}

/// A network or router went.
pub fn forget(cx: &mut Cx<'_, '_>, object: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM agent_bindings WHERE object_id = ?1", &params![object])?;
    Ok(())
}

fn require(cx: &mut Cx<'_, '_>, rule: &str) -> Result<()> {
    let project = cx.caller.project().to_string();
    access::require(cx, rule, &[("project_id", project)])
}

fn shown(items: &[Item]) -> Vec<Value> {
    let one = |item: &Item| {
        let visible = item.resource.attributes.iter().zip(&item.values).filter(|(a, v)| a.visible && !(a.optional && v.is_null()));
        Value::Object(visible.map(|(a, v)| (a.name.to_string(), v.clone())).collect())
    };
    items.iter().map(one).collect()
}

fn objects(net: &crate::Network, kind: &'static Kind, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        require(cx, kind.rules[0])?;
        let condition = "t.id IN (SELECT object_id FROM agent_bindings WHERE agent_id = ?)";
        let found = item::all_with(cx, kind.resource, condition, &params![request.param("id")])?;
        let mut body = Map::new();
        body.insert(kind.resource.collection.into(), json!(shown(&found)));
        Ok(Response::json(StatusCode::OK, &Value::Object(body)))
    })
}

fn agents(net: &crate::Network, kind: &'static Kind, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        require(cx, kind.rules[3])?;
        let condition = "t.id IN (SELECT agent_id FROM agent_bindings WHERE object_id = ?)";
        let mut found = item::all_with(cx, &AGENT, condition, &params![request.param("id")])?;
        found.retain(|a| a.text("agent_type") == kind.agent_type);
        let mut body = Map::new();
        body.insert("agents".into(), json!(shown(&found)));
        Ok(Response::json(StatusCode::OK, &Value::Object(body)))
    })
}

fn add(net: &crate::Network, kind: &'static Kind, request: &Request) -> Result<Response> {
    let given = body::object(request)?;
    let Some(object) = given.get(kind.key).and_then(Value::as_str).map(str::to_string) else {
        return Err(Error::bad(format!("Missing {} in request body", kind.key)));
    };
    net.write(request, |cx| {
        require(cx, kind.rules[1])?;
        let id = request.param("id");
        let agent = item::get(cx, &AGENT, id)?;
        if agent.text("agent_type") != kind.agent_type || !agent.is("admin_state_up") {
            return Err((kind.no_agent)(id));
        }
        item::get(cx, kind.resource, &object)?;
        // A router has one place; a network may be served in several.
        let taken = "SELECT agent_id FROM agent_bindings WHERE object_id = ?1";
        let holders: Vec<String> = cx.tx.column(taken, &params![&object])?;
        if let Some(holder) = holders.iter().find(|h| *h == id || kind.key == "router_id") {
            if kind.key == "router_id" && holder == id {
                return Ok(Response::json(StatusCode::CREATED, &Value::Null));
            }
            return Err((kind.hosted)(&object, holder));
        }
        let sql = "INSERT INTO agent_bindings (agent_id, object_id, kind) VALUES (?1, ?2, ?3)";
        cx.tx.execute(sql, &params![id, &object, kind.agent_type])?;
        item::changed(cx, kind.resource, &object);
        Ok(Response::json(StatusCode::CREATED, &Value::Null))
    })
}

fn remove(net: &crate::Network, kind: &'static Kind, request: &Request) -> Result<Response> {
    net.write(request, |cx| {
        require(cx, kind.rules[2])?;
        let (id, object) = (request.param("id"), request.param("object"));
        item::get(cx, &AGENT, id)?;
        let sql = "DELETE FROM agent_bindings WHERE agent_id = ?1 AND object_id = ?2";
        if cx.tx.execute(sql, &params![id, object])? == 0 {
            return Err((kind.not_hosted)(object, id));
        }
        item::changed(cx, kind.resource, object);
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}
