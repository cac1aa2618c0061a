//! `/v2.0/flavors` and `/v2.0/service_profiles`

use crate::api_prelude::*;

/// A router's flavor is there, enabled, and one for routers.
pub fn check_for_router(cx: &mut Cx<'_, '_>, id: &str) -> Result<()> {
    let row = cx.tx.query_one("SELECT service_type, enabled FROM service_flavors WHERE id = ?1", &params![id])?;
    let Some(row) = row else { return Err(Error::FlavorNotFound { id: id.into() }) };
    let (kind, enabled): (String, bool) = (row.get(0)?, row.get(1)?);
    if kind != "L3_ROUTER_NAT" {
        return Err(Error::InvalidServiceType { service_type: kind });
    }
    if enabled { Ok(()) } else { Err(Error::FlavorDisabled {}) }
}
