//! The network that upstream keeps per project for its HA routers, with its name and its subnet. Routers here move between nodes
//! without talking to each other over it, so that it carries nothing and has no ports.

use super::networks::NETWORK;
use super::subnets::SUBNET;
use crate::api_prelude::*;
use crate::rest::body;

fn find(cx: &mut Cx<'_, '_>, project: &str) -> Result<Option<String>> {
    let sql = "SELECT id FROM networks WHERE name = ?1 AND project_id = '' ORDER BY id LIMIT 1";
    Ok(cx.tx.scalar(sql, &params![format!("HA network project {project}")])?)
}

/// A router of this project has become highly available: the project has a network for such.
pub fn ensure(cx: &mut Cx<'_, '_>, project: &str) -> Result<()> {
    if find(cx, project)?.is_some() {
        return Ok(());
    }
    let mut cx = cx.elevated();
    let wanted = json!({"name": format!("HA network project {project}"), "project_id": "", "shared": false});
    let whole = body::internal(&NETWORK, &cx.caller, wanted)?;
    let Some(make) = NETWORK.create else { return Ok(()) };
    let network = make(&mut cx, whole)?;
    let subnet = json!({
        "name": format!("HA subnet project {project}"), "project_id": "", "network_id": network,
        "ip_version": 4, "cidr": "169.254.192.0/18", "enable_dhcp": false, "gateway_ip": null,
    });
    let whole = body::internal(&SUBNET, &cx.caller, subnet)?;
    let Some(make) = SUBNET.create else { return Ok(()) };
    make(&mut cx, whole).map(|_| ())
}

/// A router of this project is no longer highly available, or is gone: with the last one the network goes.
pub fn forget(cx: &mut Cx<'_, '_>, project: &str) -> Result<()> {
    let left = "SELECT id FROM routers WHERE project_id = ?1 AND ha = 1 LIMIT 1";
    if cx.tx.query_one(left, &params![project])?.is_some() {
        return Ok(());
    }
    if let (Some(network), Some(delete)) = (find(cx, project)?, NETWORK.delete) {
        let network = item::get_any(cx, &NETWORK, &network)?;
        match delete(&mut cx.elevated(), &network) {
            // An administrator has put a port into it, and keeps it.
            Err(Error::NetworkInUse { .. }) => {}
            other => other?,
        }
    }
    Ok(())
}
