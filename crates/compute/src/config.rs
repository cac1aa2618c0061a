//! What an operator can set.

/// Settings of the Compute service; the defaults are upstream's.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where browsers reach the noVNC page: `http://HOST:6080`, without a trailing slash.
    pub novnc_url: String,
    /// The zone of hosts that are in no aggregate with one.
    pub default_availability_zone: String,
    /// The zone that the services of the controller show.
    pub internal_availability_zone: String,
    /// After so many seconds without a beat a service is `down`.
    pub service_down_seconds: i64,
    /// How often virtual CPUs are given out.
    pub cpu_allocation_ratio: f64,
    /// How often memory is given out.
    pub ram_allocation_ratio: f64,
    /// How often disk space is given out.
    pub disk_allocation_ratio: f64,
    /// MiB of memory kept for the host.
    pub reserved_host_memory_mb: u64,
    /// GiB of disk kept for the host.
    pub reserved_host_disk_gb: u64,
    /// How long a console token is good for, in seconds.
    pub console_token_seconds: i64,
    /// Limits that differ from upstream's, by resource (`cores`, `instances`, …).
    pub quotas: std::collections::BTreeMap<String, i64>,
    /// The host name of the controller, for its own services.
    pub controller_host: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            novnc_url: "http://127.0.0.1:6080".into(),
            default_availability_zone: "nova".into(),
            internal_availability_zone: "internal".into(),
            service_down_seconds: 60,
            cpu_allocation_ratio: 4.0,
            ram_allocation_ratio: 1.0,
            disk_allocation_ratio: 1.0,
            reserved_host_memory_mb: 512,
            reserved_host_disk_gb: 0,
            console_token_seconds: 600,
            quotas: std::collections::BTreeMap::new(),
            controller_host: "controller".into(),
        }
    }
}
