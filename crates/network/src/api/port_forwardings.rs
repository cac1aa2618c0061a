//! Port forwardings of floating IPs.

use crate::api_prelude::*;
use std::collections::HashMap;

/// Fills in `port_forwardings` of floating IPs.
pub fn extend_floatingips(cx: &mut Cx<'_, '_>, items: &mut [Item]) -> Result<()> {
    let ids: Vec<String> = items.iter().map(|i| i.id().to_string()).collect();
    let columns = "floatingip_id, id, protocol, internal_ip_address, internal_port, external_port, internal_port_id";
    let mut found: HashMap<String, Vec<Value>> = HashMap::new();
    for row in super::networks::rows_for(cx, columns, "port_forwardings", "floatingip_id", &ids, None, &["id"])? {
        let shown = json!({
            "id": row.get::<String>(1)?,
            "protocol": row.get::<String>(2)?,
            "internal_ip_address": row.get::<String>(3)?,
            "internal_port": row.get::<i64>(4)?,
            "external_port": row.get::<i64>(5)?,
            "internal_port_id": row.get::<String>(6)?,
        });
        found.entry(row.get(0)?).or_default().push(shown);
    }
    for item in items {
        let own = found.remove(item.id()).unwrap_or_default();
        item.set("port_forwardings", own);
    }
    Ok(())
}

/// A floating IP with forwardings cannot be associated with a port as a whole.
pub fn check_associable(cx: &mut Cx<'_, '_>, fip: &Item, body: &Body) -> Result<()> {
    let associates = body.get("port_id").is_some_and(|v| !v.is_null());
    if associates && cx.tx.query_one("SELECT id FROM port_forwardings WHERE floatingip_id = ?1 LIMIT 1", &params![fip.id()])?.is_some() {
        return Err(Error::FipInUseByPortForwarding { id: fip.id().into() });
    }
    Ok(())
}

/// A floating IP goes, and its forwardings with it.
pub fn forget(cx: &mut Cx<'_, '_>, fip: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM port_forwardings WHERE floatingip_id = ?1", &params![fip])?;
    Ok(())
}

/// A port goes, and what was forwarded to it.
pub fn forget_port(cx: &mut Cx<'_, '_>, port: &str) -> Result<()> {
    cx.tx.execute("DELETE FROM port_forwardings WHERE internal_port_id = ?1", &params![port])?;
    Ok(())
}
