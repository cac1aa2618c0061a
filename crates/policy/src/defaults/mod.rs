//! The rules OpenStack 2026.2's services register: names, checks and scopes, with the new defaults and nothing deprecated.
//! Generated from the services' own `list_rules()`.

use crate::{Rule, Scope};

pub mod compute;
pub mod identity;
pub mod image;
pub mod network;
pub mod placement;

const ANY: &[Scope] = &[];
const PROJECT: &[Scope] = &[Scope::Project];
const SYSTEM_PROJECT: &[Scope] = &[Scope::System, Scope::Project];
const ALL: &[Scope] = &[Scope::System, Scope::Domain, Scope::Project];

const fn rule(name: &'static str, check: &'static str, scopes: &'static [Scope]) -> Rule {
    Rule { name, check, scopes }
}
