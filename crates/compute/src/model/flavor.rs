//! Flavors.

use serde_json::{Map, Value, json};

database::record! {
    /// A flavor.
    pub struct Flavor in "compute_flavors" {
        /// The id that clients name, any text.
        pub id: String,
        /// Its name, unique.
        pub name: String,
        /// MiB of memory.
        pub memory_mb: i64,
        /// Virtual CPUs.
        pub vcpus: i64,
        /// GiB of root disk; 0 means the image's size.
        pub root_gb: i64,
        /// GiB of a second disk.
        pub ephemeral_gb: i64,
        /// MiB of swap disk.
        pub swap: i64,
        /// A factor of old networking that is only shown.
        pub rxtx_factor: f64,
        /// Always false; upstream has no way to set it.
        pub disabled: bool,
        /// Whether every project may use it.
        pub is_public: bool,
        /// A text for people.
        pub description: Option<String>,
        /// Further properties, a JSON object of texts.
        pub extra_specs: Value,
        /// Its place in the order of creation.
        pub number: i64,
        /// µs since the epoch.
        pub created_at: i64,
        /// µs since the epoch.
        pub updated_at: Option<i64>,
    }
}

impl Flavor {
    /// The copy that a server keeps.
    pub fn embedded(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "memory_mb": self.memory_mb, "vcpus": self.vcpus, "root_gb": self.root_gb,
            "ephemeral_gb": self.ephemeral_gb, "swap": self.swap, "extra_specs": self.extra_specs, "number": self.number,
        })
    }

    /// One extra spec.
    pub fn extra_spec(&self, key: &str) -> Option<&str> {
        self.extra_specs.get(key)?.as_str()
    }

    /// All extra specs.
    pub fn extra_specs_map(&self) -> Map<String, Value> {
        self.extra_specs.as_object().cloned().unwrap_or_default()
    }
}

/// What a server on this (embedded) flavor takes of a host, by resource class.
pub fn resources(flavor: &Value) -> std::collections::BTreeMap<String, u64> {
    let number = |key: &str| flavor[key].as_u64().unwrap_or(0);
    // The swap disk counts as disk, rounded up to whole GiB.
    let disk = number("root_gb") + number("ephemeral_gb") + number("swap").div_ceil(1024);
    let mut out: std::collections::BTreeMap<String, u64> = [
        ("VCPU", number("vcpus")),
        ("MEMORY_MB", number("memory_mb")),
        ("DISK_GB", disk),
    ]
    .into_iter()
    .map(|(class, amount)| (class.to_owned(), amount))
    .collect();
    for (key, value) in flavor["extra_specs"].as_object().into_iter().flatten() {
        if let (Some(class), Some(amount)) = (
            key.strip_prefix("resources:"),
            value.as_str().and_then(|v| v.parse().ok()),
        ) {
            out.insert(class.to_owned(), amount);
        }
    }
    out.retain(|_, amount| *amount > 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_follow_the_flavor_and_its_overrides() {
        let flavor = json!({"vcpus": 2, "memory_mb": 512, "root_gb": 1, "ephemeral_gb": 0, "swap": 1500,
            "extra_specs": {"resources:VCPU": "0", "resources:CUSTOM_FPGA": "3", "hw:cpu_policy": "shared"}});
        let wanted = resources(&flavor);
        assert_eq!(wanted.get("VCPU"), None);
        assert_eq!(wanted["MEMORY_MB"], 512);
        assert_eq!(wanted["DISK_GB"], 3);
        assert_eq!(wanted["CUSTOM_FPGA"], 3);
    }
}
