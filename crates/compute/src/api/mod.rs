//! The operations of the API, one file per resource.

mod aggregates;
pub(crate) mod consoles;
mod extensions;
mod flavor_access;
mod flavor_extra_specs;
mod flavors;
mod hypervisors;
mod instance_actions;
mod interfaces;
mod keypairs;
mod migrations;
mod proxies;
mod quotas;
mod server_create;
mod server_groups;
mod server_list;
mod server_moves;
mod server_parts;
mod server_plan;
mod server_power;
mod server_rebuild;
mod servers;
mod services;
mod usage;
mod versions;

use crate::Compute;
use crate::call::Table;

/// All operations.
pub(crate) fn routes() -> api::Routes<Compute> {
    let mut table = Table::new();
    for add in [
        versions::add,
        extensions::add,
        flavors::add,
        flavor_access::add,
        flavor_extra_specs::add,
        keypairs::add,
        servers::add,
        server_list::add,
        server_create::add,
        server_power::add,
        server_moves::add,
        server_rebuild::add,
        server_parts::add,
        interfaces::add,
        consoles::add,
        instance_actions::add,
        quotas::add,
        services::add,
        hypervisors::add,
        aggregates::add,
        server_groups::add,
        migrations::add,
        usage::add,
        proxies::add,
    ] {
        add(&mut table);
    }
    table.finish()
}

/// Older spellings of a path: the API's root `/v2`, and the project's id after the root.
pub(crate) fn rewrite(path: &str) -> Option<String> {
    // Only the root has a slash at its end; elsewhere an id is missing.
    let is_root = path.trim_matches('/').split('/').count() == 1;
    if path.ends_with('/') && !is_root {
        let ids_project = rewrite(path.trim_end_matches('/')).is_some_and(|root| root == "/v2.1/");
        return Some(if ids_project { "/v2.1/" } else { "/nowhere" }.into());
    }
    let (root, rest) = match path.strip_prefix("/v2.1/") {
        Some(rest) => ("/v2.1", rest),
        None => ("/v2", path.strip_prefix("/v2/")?),
    };
    let (first, after) = rest.split_once('/').unwrap_or((rest, ""));
    let is_project = first.len() >= 32 && first.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match (root, is_project) {
        (_, true) if after.is_empty() => Some("/v2.1/".into()),
        (_, true) => Some(format!("/v2.1/{after}")),
        ("/v2", false) if !rest.is_empty() => Some(format!("/v2.1/{rest}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn older_paths_lead_to_the_same_operations() {
        let project = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            rewrite(&format!("/v2.1/{project}/servers/detail")).as_deref(),
            Some("/v2.1/servers/detail")
        );
        assert_eq!(
            rewrite(&format!("/v2/{project}/servers")).as_deref(),
            Some("/v2.1/servers")
        );
        assert_eq!(rewrite("/v2/servers").as_deref(), Some("/v2.1/servers"));
        assert_eq!(rewrite("/v2.1/servers"), None);
        assert_eq!(rewrite("/v2/"), None);
        assert_eq!(rewrite(&format!("/v2.1/{project}/")).as_deref(), Some("/v2.1/"));
        assert_eq!(rewrite("/v2.1/os-simple-tenant-usage/").as_deref(), Some("/nowhere"));
    }
}
