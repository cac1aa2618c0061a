//! The controller: services joined over one database, listeners, and the door for nodes.

mod consoles;
mod sinks;

use crate::Failure;
use crate::config::Config;
use crate::listeners::{self, SERVICES};
use ::api::Service;
use ::api::server::{Mount, Mounts, serve};
use database::Database;
use node_protocol::controller::{Combined, NodeServer};
use policy::Enforcer;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Every schema, in the order in which they refer to each other.
pub const MIGRATIONS: &[&[database::Migration]] =
    &[identity::MIGRATIONS, image::MIGRATIONS, placement::MIGRATIONS, network::MIGRATIONS, compute::MIGRATIONS];

/// A controller, put together.
pub struct Controller {
    /// What answers clients.
    pub services: Vec<Service>,
    /// The noVNC page.
    pub novnc: Service,
    /// Where nodes connect.
    pub nodes: NodeServer,
    /// The database.
    pub db: Database,
}

/// The operator's `policy.yaml` for a service, beside the configuration: `policy/SERVICE.yaml`.
fn policy_file(config_file: &Path, service: &str) -> Result<Option<String>, Failure> {
    let path = config_file.parent().unwrap_or(Path::new(".")).join("policy").join(format!("{service}.yaml"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("the policy {} cannot be read: {e}", path.display()).into()),
    }
}

impl Controller {
    /// Opens the database, brings its schema up, makes the first administrator and the catalog, and joins the services.
    pub fn build(config: &Config, config_file: &Path, admin_password: &str) -> Result<Controller, Failure> {
        let db = Database::open(&config.database_url())?;
        db.migrate(MIGRATIONS)?;
        let identity_url = listeners::base_url(&config.api, "identity");
        let overrides = |service| policy_file(config_file, service);

        let identity = identity::Identity::new(db.clone(), identity_config(config), overrides("identity")?.as_deref())?;
        bootstrap(config, &identity, admin_password)?;
        let authenticator: Arc<dyn ::api::Authenticator> = identity.clone();

        let image = image::Images::new(db.clone(), image_config(config), overrides("image")?.as_deref())?;
        let placement = placement::Placement::new(db.clone(), overrides("placement")?.as_deref())?;
        let network_policy = Enforcer::new(&[policy::defaults::network::RULES], overrides("network")?.as_deref())?;
        let network = Arc::new(network::Network::new(db.clone(), network_policy, network_config(config))?);
        let compute_policy = Enforcer::new(&[policy::defaults::compute::RULES], overrides("compute")?.as_deref())?;
        let neighbours = compute::Neighbours {
            images: image.clone(),
            ports: network.clone(),
            capacity: placement.clone(),
            identities: identity.clone(),
        };
        let compute = Arc::new(compute::Compute::new(db.clone(), compute_policy, neighbours, compute_config(config)));

        let desired = Combined(vec![Arc::new(compute::nodes::Desired(compute.clone())), network.desired_state()]);
        let sinks = sinks::Sinks(vec![Arc::new(compute::nodes::Sink(compute.clone())), network.report_sink()]);
        let nodes = NodeServer::new(Arc::new(desired), Arc::new(sinks), Arc::new(sinks::ImageFiles(image.clone())));
        compute.connect_nodes(nodes.clone());

        let novnc = crate::console::service(consoles::Tokens(compute.clone()), nodes.clone());
        let network_errors = Arc::new(::api::formats::Network { identity_url: identity_url.clone() });
        let services = vec![
            identity.service(),
            image.service(authenticator.clone(), &identity_url),
            placement.service(authenticator.clone(), &identity_url),
            network.service(network_errors, authenticator.clone()),
            compute.service(authenticator, &identity_url),
        ];
        compute.announce()?;
        if let Some(network) = services.iter().find(|s| s.name() == "network") {
            compute.connect_network(network.clone());
        }
        debug_assert!(SERVICES.iter().all(|(name, _, _)| services.iter().any(|s| s.name() == *name)));
        Ok(Controller { services, novnc, nodes, db })
    }

    /// Listens and answers until `stop`.
    pub async fn run(self, config: &Config, stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let mut all = listeners::listeners(&config.api, &self.services)?;
        let mount = |prefix: &str| Mount { prefix: prefix.into(), service: self.novnc.clone() };
        if config.api.single_port == 0 {
            let ip = config.api.listen.parse().map_err(|_| format!("api.listen must be an IP address, and {} is none", config.api.listen))?;
            all.push((std::net::SocketAddr::new(ip, config.api.novnc_port), Mounts::new(vec![mount("")])));
        } else if let Some((_, mounts)) = all.first_mut() {
            mounts.add(mount("/novnc"));
        }
        let mut tasks = JoinSet::new();
        for (address, mounts) in all {
            let listener = TcpListener::bind(address).await.map_err(|e| match e.kind() {
                std::io::ErrorKind::AddrInUse => format!("port {} is taken by another program: stop it, or choose another port", address.port()),
                std::io::ErrorKind::PermissionDenied => format!("port {} needs privileges: choose one above 1023", address.port()),
                _ => format!("cannot listen on {address}: {e}"),
            })?;
            tasks.spawn(serve(listener, mounts, stop.clone()));
        }
        tasks.spawn(wake_nodes(self.db.clone(), self.nodes.clone(), stop));
        while tasks.join_next().await.is_some() {}
        self.nodes.close();
        Ok(())
    }
}

/// Every commit that recorded changes makes the nodes' streams look at the feed.
async fn wake_nodes(db: Database, nodes: NodeServer, mut stop: watch::Receiver<bool>) {
    let mut changed = db.feed().subscribe();
    loop {
        tokio::select! {
            woken = changed.changed() => if woken.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        nodes.wake_all();
    }
}

fn bootstrap(config: &Config, identity: &identity::Identity, admin_password: &str) -> Result<(), Failure> {
    let services = SERVICES.iter().map(|(service, _, _)| {
        let url = listeners::catalog_url(&config.api, service);
        identity::bootstrap::CatalogService {
            kind: (*service).into(),
            name: listeners::service_name(service).into(),
            public_url: url.clone(),
            internal_url: url.clone(),
            admin_url: url,
        }
    });
    identity.bootstrap(&identity::Bootstrap {
        admin_user: "admin".into(),
        admin_password: admin_password.into(),
        admin_project: "admin".into(),
        region: config.general.region.clone(),
        services: services.collect(),
    })?;
    Ok(())
}

fn identity_config(config: &Config) -> identity::Config {
    let own = &config.identity;
    let some = |n: u32| (n > 0).then_some(i64::from(n));
    let text = |s: &String| (!s.is_empty()).then(|| s.clone());
    identity::Config {
        fernet_key_repository: config.fernet_keys(),
        credential_key_repository: config.controller_dir().join("credential-keys"),
        token_expiration: own.token_expiration.into(),
        password_hash_rounds: own.password_hash_rounds,
        security_compliance: identity::config::SecurityCompliance {
            lockout_failure_attempts: some(own.lockout_failure_attempts),
            lockout_duration: own.lockout_duration.into(),
            unique_last_password_count: own.unique_last_password_count.into(),
            password_expires_days: some(own.password_expires_days),
            minimum_password_age: own.minimum_password_age.into(),
            password_regex: text(&own.password_regex),
            password_regex_description: text(&own.password_regex_description),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn image_config(config: &Config) -> image::Config {
    image::Config { folder: config.image_folder(), size_cap: config.image.size_cap, image_count_total: config.image.image_count_total, ..Default::default() }
}

fn network_config(config: &Config) -> network::Config {
    let own = &config.network;
    let tunnel = {
        let (first, last) = own.tunnel_ids.split_once(':').unwrap_or(("1", "16777215"));
        network::SegmentRange { first: first.parse().unwrap_or(1), last: last.parse().unwrap_or(16_777_215) }
    };
    let vlans = own.vlan_ranges.iter().map(|range| {
        let mut parts = range.split(':');
        let physical_network = parts.next().unwrap_or_default().to_string();
        let mut number = || parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        network::VlanRange { physical_network, first: number(), last: number() }
    });
    network::Config {
        project_network_types: vec![own.tenant_network_type.clone()],
        flat_networks: own.flat_networks.clone(),
        vlan_ranges: vlans.collect(),
        vxlan_range: tunnel.clone(),
        gre_range: tunnel.clone(),
        geneve_range: tunnel,
        physical_mtu: own.physical_mtu,
        dns_domain: format!("{}.", own.dns_domain.trim_end_matches('.')),
        agent_down_time: config.compute.service_down_time,
        availability_zone: config.compute.default_availability_zone.clone(),
        ..Default::default()
    }
}

fn compute_quotas(own: &crate::config::Quota) -> std::collections::BTreeMap<String, i64> {
    [
        ("instances", own.instances),
        ("cores", own.cores),
        ("ram", own.ram),
        ("metadata_items", own.metadata_items),
        ("key_pairs", own.key_pairs),
        ("server_groups", own.server_groups),
        ("server_group_members", own.server_group_members),
    ]
    .into_iter()
    .map(|(name, limit)| (name.to_owned(), limit))
    .collect()
}

fn compute_config(config: &Config) -> compute::Config {
    let own = &config.compute;
    let novnc_url = if config.api.single_port == 0 {
        format!("http://{}:{}", listeners::public_host(&config.api), config.api.novnc_port)
    } else {
        listeners::base_url(&config.api, "novnc")
    };
    compute::Config {
        novnc_url,
        default_availability_zone: own.default_availability_zone.clone(),
        service_down_seconds: own.service_down_time.into(),
        cpu_allocation_ratio: own.cpu_allocation_ratio,
        ram_allocation_ratio: own.ram_allocation_ratio,
        disk_allocation_ratio: own.disk_allocation_ratio,
        reserved_host_memory_mb: own.reserved_host_memory_mib,
        controller_host: crate::serve::node_name(config),
        quotas: compute_quotas(&config.quota),
        ..Default::default()
    }
}
