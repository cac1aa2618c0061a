//! Where ports are: binding to a node by what it reported, and what it says of the port afterwards.

use crate::api_prelude::*;

/// How a port is bound.
pub struct Binding {
    /// `ovs`, `unbound`, `binding_failed`, `distributed`.
    pub vif_type: &'static str,
    /// What Compute would have to know.
    pub vif_details: Value,
}

/// Binds a port of a network to a host: possible where the host is a known node that has the network's physical network, if it needs one.
pub fn bind(cx: &mut Cx<'_, '_>, network_id: &str, host: &str, owner: &str) -> Result<Binding> {
    let unbound = |vif_type| Ok(Binding { vif_type, vif_details: json!({}) });
    if matches!(owner, "network:router_interface" | "network:router_gateway" | "network:ha_router_replicated_interface") {
        // Every node does its own guests' share of a router.
        return unbound("distributed");
    }
    if host.is_empty() {
        return unbound("unbound");
    }
    let node = cx.tx.query_one("SELECT integration_bridge, datapath_type, bridge_mappings FROM network_nodes WHERE hostname = ?1", &params![host])?;
    let Some(node) = node else { return unbound("binding_failed") };
    let (bridge, datapath): (String, String) = (node.get(0)?, node.get(1)?);
    let mappings: Value = node.get(2)?;
    let physicals: Vec<Option<String>> =
        cx.tx.column("SELECT physical_network FROM network_segments WHERE network_id = ?1", &params![network_id])?;
    let reachable = physicals.is_empty() || physicals.iter().any(|p| p.as_ref().is_none_or(|p| mappings.get(p).is_some()));
    if !reachable {
        return unbound("binding_failed");
    }
    let vif_details = json!({
        "port_filter": true,
        "connectivity": "l2",
        "bridge_name": bridge,
        "datapath_type": datapath,
        "ovs_hybrid_plug": false,
        "bound_drivers": {"0": "openvswitch"},
    });
    Ok(Binding { vif_type: "ovs", vif_details })
}

/// A node's report of a port that is bound to it: its flows stand, or not. A port that is down by its owner's wish stays `DOWN`.
pub fn observed(cx: &mut Cx<'_, '_>, node: &str, port_id: &str, active: bool) -> Result<()> {
    let row = cx.tx.query_one("SELECT status, admin_state_up, device_owner, host_id FROM ports WHERE id = ?1", &params![port_id])?;
    let Some(row) = row else { return Ok(()) };
    let (status, up, owner, host): (String, bool, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    let new = if active && up { "ACTIVE" } else { "DOWN" };
    if super::ports::is_trusted(&owner) || host != node || status == new {
        return Ok(());
    }
    let sql = "UPDATE ports SET status = ?2, revision_number = revision_number + 1, updated_at = ?3 WHERE id = ?1";
    cx.tx.execute(sql, &params![port_id, new, database::now()])?;
    Ok(())
}
