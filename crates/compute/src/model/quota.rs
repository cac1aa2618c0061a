//! Quotas: which resources there are, their defaults, and which microversions show them.

/// A resource with a limit.
pub struct Resource {
    /// Its name in quota sets.
    pub name: &'static str,
    /// Upstream's default limit; -1 is none.
    pub default: i64,
}

macro_rules! resources {
    ($($name:literal: $default:literal),* $(,)?) => { &[$(Resource { name: $name, default: $default }),*] };
}

/// All resources, in the order in which quota sets list them.
pub const RESOURCES: &[Resource] = resources! {
    "instances": 10,
    "cores": 20,
    "ram": 51200,
    "security_groups": -1,
    "floating_ips": -1,
    "fixed_ips": -1,
    "metadata_items": 128,
    "injected_files": 5,
    "injected_file_content_bytes": 10240,
    "injected_file_path_bytes": 255,
    "security_group_rules": -1,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
};

const NETWORK: &[&str] = &["fixed_ips", "floating_ips", "security_group_rules", "security_groups"];
const FILES: &[&str] = &[
    "injected_files",
    "injected_file_content_bytes",
    "injected_file_path_bytes",
];

/// The resources that quota sets of 2.`minor` show. `since` is the first that leaves networking out: 36 for sets, 50 for classes.
pub fn shown(minor: u16, since: u16) -> impl Iterator<Item = &'static Resource> {
    RESOURCES
        .iter()
        .filter(move |r| !(minor >= since && NETWORK.contains(&r.name) || minor >= 57 && FILES.contains(&r.name)))
}

/// The default limit of a resource.
pub fn default_limit(name: &str) -> i64 {
    RESOURCES.iter().find(|r| r.name == name).map_or(-1, |r| r.default)
}
