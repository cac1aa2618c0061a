//! Servers, and how each microversion shows them.

use database::Row;
use serde_json::{Map, Value, json};

use super::state;

database::record! {
    /// A server.
    pub struct Server in "servers" {
        /// UUID.
        pub id: String,
        /// Its place in the order of creation, and its number in `instance-0000002a`.
        pub number: i64,
        /// Owner.
        pub project_id: String,
        /// Who made it.
        pub user_id: String,
        /// Display name.
        pub name: String,
        /// A text for people.
        pub description: Option<String>,
        /// The guest's host name.
        pub hostname: String,
        /// `r-…` of the request that made it.
        pub reservation_id: String,
        /// Its number among the servers of that request.
        pub launch_index: i64,
        /// See [`state`].
        pub vm_state: String,
        /// What is being done to it.
        pub task_state: Option<String>,
        /// What its node saw last: 0 nothing, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended.
        pub power_state: i64,
        /// The node it belongs on.
        pub host: Option<String>,
        /// That node's hypervisor host name.
        pub node: Option<String>,
        /// The zone of its host.
        pub availability_zone: Option<String>,
        /// The zone it was asked for in.
        pub pinned_availability_zone: Option<String>,
        /// Its image; empty when it boots from a volume.
        pub image_id: String,
        /// Facts of the image as it was then.
        pub image: Value,
        /// Kernel image of old image kinds.
        pub kernel_id: String,
        /// Ramdisk image of old image kinds.
        pub ramdisk_id: String,
        /// Its flavor's id.
        pub flavor_id: String,
        /// The flavor as it was then.
        pub flavor: Value,
        /// MiB of memory.
        pub memory_mb: i64,
        /// Virtual CPUs.
        pub vcpus: i64,
        /// GiB of root disk.
        pub root_gb: i64,
        /// Name of its key pair.
        pub key_name: Option<String>,
        /// The key pair as it was then.
        pub key_pair: Option<Value>,
        /// User data, base64.
        pub user_data: Option<String>,
        /// `True` or empty.
        pub config_drive: String,
        /// What the user says it is reached at.
        pub access_ip_v4: Option<String>,
        /// What the user says it is reached at.
        pub access_ip_v6: Option<String>,
        /// `OS-DCF:diskConfig`: true is AUTO.
        pub auto_disk_config: bool,
        /// Percent.
        pub progress: i64,
        /// `/dev/vda`.
        pub root_device_name: Option<String>,
        /// `admin` or `owner`.
        pub locked_by: Option<String>,
        /// Why it is locked.
        pub locked_reason: Option<String>,
        /// Trusted image certificates.
        pub trusted_certs: Option<Value>,
        /// Scheduler hints as they were given.
        pub scheduler_hints: Value,
        /// Files to inject.
        pub personality: Value,
        /// The administrator's password, for the guest.
        pub admin_password: Option<String>,
        /// The encrypted password the guest has posted.
        pub posted_password: String,
        /// µs since the epoch.
        pub created_at: i64,
        /// µs since the epoch.
        pub updated_at: i64,
        /// When it first ran.
        pub launched_at: Option<i64>,
        /// When it was deleted, as far as billing goes.
        pub terminated_at: Option<i64>,
        /// When it was deleted; the row stays for `deleted` lists.
        pub deleted_at: Option<i64>,
        /// What its power should be: `running`, `stopped`, `paused`, `suspended`, `deleted`.
        pub power_wanted: String,
        /// Counts requests for a power state.
        pub power_generation: i64,
        /// Counts soft reboots.
        pub soft_reboot: i64,
        /// Counts hard reboots.
        pub hard_reboot: i64,
        /// Counts rebuilds.
        pub rebuild: i64,
        /// Counts changes of what should be.
        pub revision: i64,
        /// The last report of its node that was taken in.
        pub reported: i64,
        /// The action that is under way.
        pub task_action: Option<i64>,
        /// What later steps need: the flavor before a resize, the image before a rescue.
        pub saved: Value,
        /// HTTP code of the fault.
        pub fault_code: Option<i64>,
        /// What went wrong.
        pub fault_message: Option<String>,
        /// More of it, for administrators.
        pub fault_details: Option<String>,
        /// When.
        pub fault_created_at: Option<i64>,
    }
}

impl Server {
    /// The name of the guest on its host.
    pub fn instance_name(&self) -> String {
        format!("instance-{:08x}", self.number)
    }

    /// The status clients see.
    pub fn status(&self) -> &'static str {
        if self.deleted_at.is_some() {
            "DELETED"
        } else {
            state::status(&self.vm_state, self.task_state.as_deref())
        }
    }

    /// Whether the lock keeps this caller out.
    pub fn is_locked_for(&self, admin: bool) -> bool {
        self.locked_by.is_some() && !admin
    }

    /// Something of what should be has changed.
    pub fn touch(&mut self, now: i64) {
        self.revision += 1;
        self.updated_at = now;
    }

    /// Asks for a power state.
    pub fn want(&mut self, power: &str) {
        self.power_wanted = power.into();
        self.power_generation += 1;
    }

    /// Puts it into ERROR and says why.
    pub fn fail(&mut self, code: i64, message: &str, details: &str, now: i64) {
        self.vm_state = state::ERROR.into();
        self.task_state = None;
        self.fault_code = Some(code);
        self.fault_message = Some(message.chars().take(255).collect());
        self.fault_details = Some(details.to_owned());
        self.fault_created_at = Some(now);
        self.updated_at = now;
    }

    /// Reads a row and what follows it.
    pub fn with_rest(row: &Row) -> database::Result<(Server, usize)> {
        Ok((Server::from_row(row)?, Server::FIELDS.len()))
    }
}

/// An address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// 4 or 6.
    pub version: u8,
    /// The address.
    pub address: String,
    /// `fixed` or `floating`.
    pub kind: &'static str,
    /// The hardware address of its interface.
    pub mac: String,
}

/// What a view shows beside the server's own row.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Its metadata.
    pub metadata: Map<String, Value>,
    /// Its tags, in order.
    pub tags: Vec<String>,
    /// Its `addresses`, by network name.
    pub addresses: Vec<(String, Vec<Address>)>,
    /// Names of its security groups.
    pub security_groups: Vec<String>,
    /// `UP`, `DOWN`, `MAINTENANCE`, `UNKNOWN` or empty.
    pub host_status: String,
    /// Its server group.
    pub group: Option<String>,
}

/// What the caller may see, and which parts an operation shows.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// The microversion's second number.
    pub minor: u16,
    /// Whether extended attributes are allowed (and asked for).
    pub extended: bool,
    /// Whether the host's status is allowed: all of it, only UNKNOWN, or nothing.
    pub host_status: HostStatusShown,
    /// Whether the flavor's extra specs are allowed.
    pub extra_specs: bool,
    /// Whether the caller is an administrator (details of faults).
    pub admin: bool,
    /// `server_groups`, which only show, update and rebuild have.
    pub groups: bool,
    /// All of what `GET` shows; update and rebuild of old microversions leave parts out.
    pub whole: bool,
    /// `OS-EXT-SRV-ATTR:user_data`, which rebuild shows itself.
    pub user_data: bool,
}

/// How much of a host's status a caller may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostStatusShown {
    /// Nothing.
    No,
    /// Only that it is not known.
    UnknownOnly,
    /// Everything.
    Yes,
}

const PROGRESS: &[&str] = &["ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"];

/// The detailed view of a server. `links` makes (links, bookmark) for a collection and id.
pub fn view(
    server: &Server,
    around: &Surroundings,
    shown: &Shown,
    links: &dyn Fn(&str, &str) -> Value,
    bookmark: &dyn Fn(&str, &str) -> String,
) -> Value {
    let minor = shown.minor;
    let mut out = Map::with_capacity(48);
    let mut put = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    let status = server.status();
    put("id", json!(server.id));
    put("name", json!(server.name));
    put("status", json!(status));
    put("tenant_id", json!(server.project_id));
    put("user_id", json!(server.user_id));
    put("metadata", Value::Object(around.metadata.clone()));
    put(
        "hostId",
        json!(super::encoding::host_id(server.host.as_deref(), &server.project_id)),
    );
    put("image", image_view(server, minor, bookmark));
    put("flavor", flavor_view(server, shown, bookmark));
    put("created", json!(api::time::iso8601_z(server.created_at)));
    put("updated", json!(api::time::iso8601_z(server.updated_at)));
    put("addresses", addresses_view(server, around, shown.whole));
    put("accessIPv4", json!(server.access_ip_v4.as_deref().unwrap_or_default()));
    put("accessIPv6", json!(server.access_ip_v6.as_deref().unwrap_or_default()));
    put("links", links("servers", &server.id));
    put(
        "OS-DCF:diskConfig",
        json!(if server.auto_disk_config { "AUTO" } else { "MANUAL" }),
    );
    if matches!(status, "ERROR" | "DELETED")
        && let Some(fault) = fault_view(server, shown.admin)
    {
        put("fault", fault);
    }
    if PROGRESS.contains(&status) {
        put("progress", json!(server.progress));
    }
    if shown.whole {
        put(
            "OS-EXT-AZ:availability_zone",
            json!(server.availability_zone.as_deref().unwrap_or_default()),
        );
        put("config_drive", json!(server.config_drive));
        put("key_name", json!(server.key_name));
        put(
            "OS-SRV-USG:launched_at",
            json!(server.launched_at.map(api::time::naive_micros)),
        );
        put(
            "OS-SRV-USG:terminated_at",
            json!(server.terminated_at.map(api::time::naive_micros)),
        );
        if !around.security_groups.is_empty() {
            let groups: Vec<Value> = around
                .security_groups
                .iter()
                .map(|name| json!({"name": name}))
                .collect();
            put("security_groups", Value::Array(groups));
        }
        put("OS-EXT-STS:task_state", json!(server.task_state));
        put("OS-EXT-STS:vm_state", json!(server.vm_state));
        put("OS-EXT-STS:power_state", json!(server.power_state));
        put("os-extended-volumes:volumes_attached", json!([]));
    }
    if shown.extended {
        put("OS-EXT-SRV-ATTR:host", json!(server.host));
        put("OS-EXT-SRV-ATTR:instance_name", json!(server.instance_name()));
        put("OS-EXT-SRV-ATTR:hypervisor_hostname", json!(server.node));
        if minor >= 3 {
            put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
            put("OS-EXT-SRV-ATTR:kernel_id", json!(server.kernel_id));
            put("OS-EXT-SRV-ATTR:launch_index", json!(server.launch_index));
            put("OS-EXT-SRV-ATTR:ramdisk_id", json!(server.ramdisk_id));
            put("OS-EXT-SRV-ATTR:reservation_id", json!(server.reservation_id));
            put("OS-EXT-SRV-ATTR:root_device_name", json!(server.root_device_name));
            if shown.user_data {
                put("OS-EXT-SRV-ATTR:user_data", json!(server.user_data));
            }
        }
    } else if minor >= 90 {
        put("OS-EXT-SRV-ATTR:hostname", json!(server.hostname));
    }
    if minor >= 9 {
        put("locked", json!(server.locked_by.is_some()));
    }
    if minor >= 16 {
        match shown.host_status {
            HostStatusShown::Yes => put("host_status", json!(around.host_status)),
            HostStatusShown::UnknownOnly if around.host_status == "UNKNOWN" => put("host_status", json!("UNKNOWN")),
            _ => {}
        }
    }
    if minor >= 19 {
        put("description", json!(server.description));
    }
    if minor >= 26 {
        put("tags", json!(around.tags));
    }
    if minor >= 63 {
        put(
            "trusted_image_certificates",
            server.trusted_certs.clone().unwrap_or(Value::Null),
        );
    }
    if shown.groups && minor >= 71 {
        put("server_groups", json!(around.group.iter().collect::<Vec<_>>()));
    }
    if minor >= 73 {
        put("locked_reason", json!(server.locked_reason));
    }
    if minor >= 96 && shown.whole {
        put("pinned_availability_zone", json!(server.pinned_availability_zone));
    }
    if minor >= 100 {
        put("scheduler_hints", server.scheduler_hints.clone());
    }
    Value::Object(out)
}

/// `addresses`: nothing while the server is being made.
pub fn addresses_view(server: &Server, around: &Surroundings, extended: bool) -> Value {
    if server.vm_state == state::BUILDING {
        return json!({});
    }
    networks_view(around, extended)
}

/// The addresses by network, as `GET …/ips` has them.
pub fn networks_view(around: &Surroundings, extended: bool) -> Value {
    let networks = around.addresses.iter().map(|(label, addresses)| {
        let list = addresses.iter().map(|Address { version, address, kind, mac }| {
            if extended {
                json!({"version": version, "addr": address, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": mac})
            } else {
                json!({"version": version, "addr": address})
            }
        });
        (label.clone(), Value::Array(list.collect()))
    });
    Value::Object(networks.collect())
}

fn image_view(server: &Server, minor: u16, bookmark: &dyn Fn(&str, &str) -> String) -> Value {
    if server.image_id.is_empty() {
        return json!("");
    }
    let mut image =
        json!({"id": server.image_id, "links": [{"rel": "bookmark", "href": bookmark("images", &server.image_id)}]});
    if minor >= 98 {
        image["properties"] = known_image_properties(&server.image["properties"]);
    }
    image
}

/// The image properties that mean something to Compute, by their prefixes and names (nova.objects.ImageMetaProps).
fn known_image_properties(properties: &Value) -> Value {
    const PREFIXES: &[&str] = &["hw_", "os_", "img_", "trait:", "vmware_"];
    const NAMES: &[&str] = &[
        "hypervisor_type",
        "auto_disk_config",
        "cache_in_nova",
        "bittorrent",
        "architecture",
        "owner_specified_shim",
    ];
    let all = properties.as_object().into_iter().flatten();
    let known =
        all.filter(|(k, v)| (PREFIXES.iter().any(|p| k.starts_with(p)) || NAMES.contains(&k.as_str())) && !v.is_null());
    Value::Object(known.map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn flavor_view(server: &Server, shown: &Shown, bookmark: &dyn Fn(&str, &str) -> String) -> Value {
    let flavor = &server.flavor;
    if shown.minor < 47 {
        return json!({"id": server.flavor_id, "links": [{"rel": "bookmark", "href": bookmark("flavors", &server.flavor_id)}]});
    }
    let mut view = json!({
        "vcpus": flavor["vcpus"], "ram": flavor["memory_mb"], "disk": flavor["root_gb"], "ephemeral": flavor["ephemeral_gb"],
        "swap": flavor["swap"], "original_name": flavor["name"],
    });
    if shown.extra_specs {
        view["extra_specs"] = flavor["extra_specs"].clone();
    }
    view
}

fn fault_view(server: &Server, admin: bool) -> Option<Value> {
    let code = server.fault_code?;
    let mut fault = json!({
        "code": code,
        "created": api::time::iso8601_z(server.fault_created_at.unwrap_or_default()),
        "message": server.fault_message.as_deref().unwrap_or_default(),
    });
    if let Some(details) = server
        .fault_details
        .as_deref()
        .filter(|d| !d.is_empty() && (admin || code != 500))
    {
        fault["details"] = json!(details);
    }
    Some(fault)
}
