//! Who asks, and the transaction it is answered in.

use crate::Network;
use api::Context;
use database::Tx;
use std::sync::Arc;

/// Who asks.
#[derive(Clone)]
pub struct Caller {
    /// The token.
    pub context: Arc<Context>,
    /// Whether it may see and do everything (upstream's `is_admin`).
    pub admin: bool,
    sees_all: bool,
}

impl Caller {
    /// The caller with this token.
    pub fn new(context: Arc<Context>) -> Caller {
        let admin = context.is_admin();
        let sees_all = admin || context.credentials.roles.iter().any(|r| matches!(r.as_str(), "service" | "advsvc"));
        Caller { context, admin, sees_all }
    }

    /// The project of the token.
    pub fn project_id(&self) -> Option<&str> {
        self.context.project_id()
    }

    /// The project of the token, or nothing that a project could be called.
    pub fn project(&self) -> &str {
        self.project_id().unwrap_or("")
    }

    /// Whether lists are not cut down to what its project may see.
    pub fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// The same caller with an administrator's sight, for what is done on its behalf.
    pub fn elevated(&self) -> Caller {
        Caller { context: self.context.clone(), admin: true, sees_all: true }
    }
}

/// What every operation has at hand.
pub struct Cx<'a, 't> {
    /// The service.
    pub net: &'a Network,
    /// The transaction.
    pub tx: &'a mut Tx<'t>,
    /// Who asks.
    pub caller: Caller,
}

impl<'t> Cx<'_, 't> {
    /// The same with an administrator's sight.
    pub fn elevated(&mut self) -> Cx<'_, 't> {
        Cx { net: self.net, tx: self.tx, caller: self.caller.elevated() }
    }
}
