//! The configuration: one TOML file whose every key is declared here once, with its default and its description, from which the
//! generated sample, the environment variables (`FERROSTACK_<SECTION>_<KEY>`) and the checks follow.

use std::path::{Path, PathBuf};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("the configuration {path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key or a value that means nothing.
    #[error("the configuration {path} has a mistake: {message}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
    /// An environment variable does not fit its key.
    #[error("the environment variable {name} must be {expected}")]
    Environment {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
}

/// What can stand behind a key.
trait Setting: Sized {
    /// In words, for errors.
    const EXPECTED: &'static str;
    /// As TOML.
    fn toml(&self) -> String;
    /// From an environment variable.
    fn from_text(text: &str) -> Option<Self>;
}

impl Setting for String {
    const EXPECTED: &'static str = "a text";
    fn toml(&self) -> String {
        toml::Value::from(self.as_str()).to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.into())
    }
}
impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
    fn toml(&self) -> String {
        self.to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}
macro_rules! number_settings {
    ($($t:ty),*) => {$(impl Setting for $t {
        const EXPECTED: &'static str = "a number";
        fn toml(&self) -> String { format!("{self:?}") }
        fn from_text(text: &str) -> Option<Self> { text.parse().ok() }
    })*};
}
number_settings!(u16, u32, i64, u64, f64);
impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list with commas";
    fn toml(&self) -> String {
        toml::Value::from(self.clone()).to_string()
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(String::from).collect())
    }
}

macro_rules! settings {
    ($($(#[doc = $sdoc:literal])* $section:ident: $type:ident { $($(#[doc = $doc:literal])* $key:ident: $ty:ty = $default:expr;)* })*) => {
        $(
            $(#[doc = $sdoc])*
            #[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $type { $($(#[doc = $doc])* pub $key: $ty,)* }
            impl Default for $type {
                fn default() -> Self { $type { $($key: $default,)* } }
            }
        )*

        /// The whole configuration.
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Config { $($(#[doc = $sdoc])* pub $section: $type,)* }

        impl Config {
            /// A file with every key, its description and its default, each key commented out.
            pub fn sample() -> String {
                Config::default().to_file()
            }

            /// This configuration as such a file: what differs from the defaults is not commented out.
            pub fn to_file(&self) -> String {
                let mut out = String::from("# Ferrostack's configuration. Every key stands here with its default; a flag or FERROSTACK_<SECTION>_<KEY> overrides it.\n");
                $(
                    out.push('\n');
                    $(out.push_str(concat!("#", $sdoc, "\n"));)*
                    out.push_str(concat!("[", stringify!($section), "]\n"));
                    let defaults = $type::default();
                    $(
                        $(out.push_str(concat!("#", $doc, "\n"));)*
                        let mark = if self.$section.$key == defaults.$key { "#" } else { "" };
                        out.push_str(&format!("{mark}{} = {}\n", stringify!($key), Setting::toml(&self.$section.$key)));
                    )*
                )*
                out
            }

            /// Takes over what the environment says, found with `look_up`.
            fn take_environment(&mut self, look_up: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
                $($(
                    let name = concat!("FERROSTACK_", stringify!($section), "_", stringify!($key)).to_uppercase();
                    if let Some(text) = look_up(&name) {
                        self.$section.$key = <$ty as Setting>::from_text(&text)
                            .ok_or(ConfigError::Environment { name, expected: <$ty as Setting>::EXPECTED })?;
                    }
                )*)*
                Ok(())
            }
        }
    };
}

settings! {
    /// The program as a whole.
    general: General {
        /// The region's name in the catalog.
        region: String = "RegionOne".into();
        /// Where everything is kept: database, images, guests, keys.
        state_dir: String = "/var/lib/ferrostack".into();
        /// Where sockets and pid files are; empty means `run` inside of state_dir.
        run_dir: String = String::new();
        /// Whether guests and network are simulated: the complete API as an ordinary user.
        simulate: bool = false;
        /// Whether newcomers find a demo project, user, networks and image.
        demo: bool = true;
        /// What is logged: `warn`, `info`, `debug`, or tracing's filter syntax.
        log: String = "info".into();
        /// Whether the log is written as JSON.
        log_json: bool = false;
    }
    /// Where the APIs listen.
    api: Api {
        /// The address to listen on.
        listen: String = "0.0.0.0".into();
        /// The name or address under which clients reach this machine; empty means the address of the default route, or 127.0.0.1.
        public_host: String = String::new();
        /// All services under this one port, with the paths /identity, /image, /compute, /placement, /network; 0 gives each its own port.
        single_port: u16 = 0;
        /// Identity's port.
        identity_port: u16 = 5000;
        /// Image's port.
        image_port: u16 = 9292;
        /// Compute's port.
        compute_port: u16 = 8774;
        /// Placement's port.
        placement_port: u16 = 8778;
        /// Network's port.
        network_port: u16 = 9696;
        /// The port of the page that shows guests' screens.
        novnc_port: u16 = 6080;
        /// Threads that serve requests; 0 means one per CPU, two at least.
        threads: u32 = 0;
    }
    /// Where the cloud's state is.
    database: Database {
        /// `sqlite:PATH` or `postgresql://USER:PASSWORD@HOST/NAME`; empty means an SQLite file in state_dir.
        url: String = String::new();
    }
    /// Users, tokens and passwords.
    identity: Identity {
        /// Seconds until a token expires.
        token_expiration: u32 = 3600;
        /// bcrypt's cost: the work of checking a password doubles with each step (4 to 31).
        password_hash_rounds: u32 = 12;
        /// Failed passwords in a row after which a user is locked out; 0 never locks out.
        lockout_failure_attempts: u32 = 0;
        /// Seconds that a lockout lasts.
        lockout_duration: u32 = 1800;
        /// How many passwords of a user must differ, the present one included; 0 lets old ones come again.
        unique_last_password_count: u32 = 0;
        /// Days until a password must be changed; 0 never.
        password_expires_days: u32 = 0;
        /// Days before a user may change a new password again.
        minimum_password_age: u32 = 0;
        /// A regular expression that new passwords must match; empty allows all.
        password_regex: String = String::new();
        /// What to tell a user whose password does not match it.
        password_regex_description: String = String::new();
    }
    /// Images.
    image: Image {
        /// Where their data is; empty means `images` inside of state_dir.
        folder: String = String::new();
        /// The largest image, in bytes.
        size_cap: u64 = 1 << 40;
        /// Images a project may have; 0 means any number.
        image_count_total: u64 = 0;
    }
    /// Networks.
    network: Network {
        /// The type of a network that its project makes without saying one: vxlan, gre, geneve, vlan or local.
        tenant_network_type: String = "vxlan".into();
        /// The physical networks on which flat networks may be made; `*` means any.
        flat_networks: Vec<String> = vec!["*".into()];
        /// VLAN ids for projects' networks, as `physical:first:last`; a bare name lets administrators choose any id.
        vlan_ranges: Vec<String> = vec!["public".into(), "extnet".into()];
        /// Segment ids of vxlan, gre and geneve networks, as `first:last`.
        tunnel_ids: String = "1:16777215".into();
        /// The largest packet of the physical networks, in bytes.
        physical_mtu: u32 = 1500;
        /// The domain of the names that ports and servers get.
        dns_domain: String = "openstacklocal".into();
        /// The resolvers given to guests on subnets that name none.
        dns_servers: Vec<String> = Vec::new();
    }
    /// Servers and where they go.
    compute: Compute {
        /// How many virtual CPUs each CPU of a node may serve.
        cpu_allocation_ratio: f64 = 4.0;
        /// How much of a node's memory may be given out, as a factor.
        ram_allocation_ratio: f64 = 1.0;
        /// How much of a node's disk may be given out, as a factor.
        disk_allocation_ratio: f64 = 1.0;
        /// Memory of each node that guests do not get, in MiB.
        reserved_host_memory_mib: u64 = 512;
        /// The availability zone of nodes that are in none.
        default_availability_zone: String = "nova".into();
        /// Seconds without a word after which a node counts as down.
        service_down_time: u32 = 60;
    }
    /// What a project may have, where nobody set another limit; -1 is without limit.
    quota: Quota {
        /// Servers.
        instances: i64 = 10;
        /// Virtual CPUs.
        cores: i64 = 20;
        /// Memory in MiB.
        ram: i64 = 51_200;
        /// Metadata items of a server.
        metadata_items: i64 = 128;
        /// Key pairs of a user.
        key_pairs: i64 = 100;
        /// Server groups.
        server_groups: i64 = 10;
        /// Servers of a group.
        server_group_members: i64 = 10;
        /// Networks.
        networks: i64 = 100;
        /// Subnets.
        subnets: i64 = 100;
        /// Ports.
        ports: i64 = 500;
        /// Routers.
        routers: i64 = 10;
        /// Floating IPs.
        floating_ips: i64 = 50;
        /// Security groups.
        security_groups: i64 = 10;
        /// Security group rules.
        security_group_rules: i64 = 100;
    }
    /// What a node is and does.
    node: Node {
        /// Its name; empty means the host name.
        name: String = String::new();
        /// The socket on which the controller meets its own machine's node; empty means `node.sock` in run_dir.
        controller_socket: String = String::new();
        /// The socket of an Open vSwitch that runs already; empty means the machine's own where one runs, else one that Ferrostack starts itself.
        ovsdb_socket: String = String::new();
        /// The integration bridge.
        integration_bridge: String = "br-int".into();
        /// Physical networks and their bridges, as `physical:bridge`.
        bridge_mappings: Vec<String> = vec!["extnet:br-ex".into()];
        /// Addresses that the machine itself has on those bridges, as `bridge=address/prefix`; what leaves such a network by another way is translated.
        bridge_addresses: Vec<String> = Vec::new();
        /// Where the node listens for the switch's OpenFlow connections.
        openflow_listen: String = "127.0.0.1:6633".into();
        /// The address on which guests' screens can be reached with a VNC viewer (no password: a trusted network only).
        vnc_listen: String = "127.0.0.1".into();
        /// The first of the ports of guests' screens.
        vnc_first_port: u16 = 5900;
        /// The hypervisor: `auto` takes KVM where the CPU has it, `kvm`, `tcg`, or `simulated`.
        hypervisor: String = "auto".into();
        /// The largest sum of cached images, in GiB.
        image_cache_gib: u64 = 20;
        /// The largest console log kept of a guest, in KiB.
        console_log_kib: u64 = 1024;
        /// Seconds that a guest has to shut down by itself.
        shutdown_timeout: u32 = 60;
        /// The node's end of tunnels; empty means the public host's address.
        tunnel_ip: String = String::new();
    }
    /// The cloud without machines.
    simulate: Simulate {
        /// CPUs of each simulated node.
        vcpus: u32 = 64;
        /// Memory of each simulated node in MiB.
        memory_mib: u64 = 262_144;
        /// Disk of each simulated node in GiB.
        disk_gib: u64 = 4096;
        /// How many nodes there are.
        nodes: u32 = 1;
        /// Milliseconds that a guest takes to boot.
        boot_millis: u32 = 0;
    }
}

impl Config {
    /// The configuration of `file` (which must exist), or else of `fallback` where that exists, with the environment over it.
    pub fn load(file: Option<&Path>, fallback: &Path) -> Result<Config, ConfigError> {
        let path = match file {
            Some(path) => Some(path),
            None => fallback.exists().then_some(fallback),
        };
        let mut config = match path {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
                toml::from_str(&text).map_err(|e| ConfigError::Syntax { path: path.into(), message: e.to_string() })?
            }
        };
        config.take_environment(|name| std::env::var(name).ok())?;
        Ok(config)
    }

    /// Where everything is kept.
    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(&self.general.state_dir)
    }

    /// What the controller keeps: database, keys, image data.
    pub fn controller_dir(&self) -> PathBuf {
        self.state_dir().join("controller")
    }

    /// The keys that sign tokens.
    pub fn fernet_keys(&self) -> PathBuf {
        self.controller_dir().join("fernet-keys")
    }

    /// What a node keeps: guests, cached images, its own Open vSwitch.
    pub fn node_dir(&self) -> PathBuf {
        self.state_dir().join("node")
    }

    /// Where sockets and pid files are.
    pub fn run_dir(&self) -> PathBuf {
        if self.general.run_dir.is_empty() { self.state_dir().join("run") } else { PathBuf::from(&self.general.run_dir) }
    }

    /// The database's URL.
    pub fn database_url(&self) -> String {
        if self.database.url.is_empty() {
            format!("sqlite:{}", self.controller_dir().join("ferrostack.db").display())
        } else {
            self.database.url.clone()
        }
    }

    /// Where images' data is.
    pub fn image_folder(&self) -> PathBuf {
        if self.image.folder.is_empty() { self.controller_dir().join("images") } else { PathBuf::from(&self.image.folder) }
    }

    /// The socket between controller and node.
    pub fn node_socket(&self) -> PathBuf {
        if self.node.controller_socket.is_empty() { self.run_dir().join("node.sock") } else { PathBuf::from(&self.node.controller_socket) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_with_all_comments_removed_is_the_default() {
        let sample = Config::sample();
        let live: String = sample.lines().map(|l| if l.starts_with('#') && !l.starts_with("# ") { format!("{}\n", &l[1..]) } else { format!("{l}\n") }).collect();
        let parsed: Config = toml::from_str(&live).expect("the sample is TOML");
        assert_eq!(parsed, Config::default());
        assert!(sample.contains("#token_expiration = 3600"));
    }

    #[test]
    fn the_environment_overrides_the_file_and_is_checked() {
        let mut config: Config = toml::from_str("[api]\nidentity_port = 5001").unwrap();
        config.take_environment(|name| (name == "FERROSTACK_API_IDENTITY_PORT").then(|| "5002".into())).unwrap();
        assert_eq!(config.api.identity_port, 5002);
        let wrong = config.take_environment(|name| (name == "FERROSTACK_API_SINGLE_PORT").then(|| "many".into())).unwrap_err();
        assert_eq!(wrong.to_string(), "the environment variable FERROSTACK_API_SINGLE_PORT must be a number");
    }

    #[test]
    fn an_unknown_key_is_a_mistake() {
        assert!(toml::from_str::<Config>("[api]\nport = 1").unwrap_err().to_string().contains("unknown field `port`"));
    }
}
