//! Console tokens are Compute's; the page that takes them is the program's.

use crate::console::{Redeem, Target};
use node_protocol::queries::ConsoleKind;
use std::sync::Arc;

/// Redeems Compute's tokens.
pub struct Tokens(pub Arc<compute::Compute>);

impl Redeem for Tokens {
    fn redeem(&self, token: &str) -> Result<Option<Target>, ::api::Error> {
        let Some(console) = self.0.redeem_console(token)? else { return Ok(None) };
        let Ok(server_id) = console.server_id.parse() else { return Ok(None) };
        let kind = if console.console_type == "serial" { ConsoleKind::Serial } else { ConsoleKind::Vnc };
        Ok(Some(Target { node: console.host, server_id, kind }))
    }
}
