//! Where a server goes: hosts with room, filtered, weighed, and the claim written. All of it happens in the transaction that creates
//! the server, so what was seen free is free.

mod filters;
mod weighers;

use std::collections::{BTreeMap, HashMap};

use api::services::{Capacity, Consumer, ProviderRoom};
use database::Tx;
use serde_json::Value;

use crate::config::Config;
use crate::store::{aggregates, groups, hosts, servers};

/// What a server asks of its host.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Who holds the claim.
    pub server_id: String,
    /// Owner.
    pub project_id: String,
    /// Who makes it.
    pub user_id: String,
    /// The embedded flavor.
    pub flavor: Value,
    /// The image's properties.
    pub image_properties: Value,
    /// The zone asked for.
    pub availability_zone: Option<String>,
    /// Exactly this host, past all filters (`zone:host`).
    pub forced_host: Option<String>,
    /// Exactly this node, past all filters (`zone:host:node`).
    pub forced_node: Option<String>,
    /// This host, if it passes (microversion 2.74).
    pub requested_host: Option<String>,
    /// This node, if it passes (microversion 2.74).
    pub requested_node: Option<String>,
    /// Hosts that have failed it or that it is on.
    pub ignored_hosts: Vec<String>,
    /// Scheduler hints.
    pub hints: Value,
    /// Its server group.
    pub group: Option<String>,
}

/// A host as the filters see it.
pub struct Host {
    /// Its node.
    pub node: hosts::Node,
    /// Its room.
    pub room: ProviderRoom,
    /// Its zone.
    pub zone: String,
    /// Metadata of its aggregates: key → values.
    pub aggregate_metadata: HashMap<String, Vec<String>>,
    /// Whether its service lives.
    pub up: bool,
    /// How many of the wish's group are on it.
    pub group_members: i64,
    /// How many servers are on it.
    pub servers: i64,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The host.
    pub host: String,
    /// Its hypervisor host name.
    pub node: String,
    /// Its zone.
    pub zone: String,
}

/// What the filters know beside the host.
pub struct Facts {
    /// The group's policy and the most servers per host.
    pub group: Option<(String, i64)>,
    /// Whether none of the group is on any host yet.
    pub group_is_empty: bool,
    /// Hosts of the servers named by the hints, by server.
    pub hosts_of: HashMap<String, String>,
}

/// Finds a host for the server and claims its room; `None` when no host is valid.
///
/// # Errors
/// The database's, and placement's.
pub fn place(
    tx: &mut Tx<'_>,
    capacity: &dyn Capacity,
    config: &Config,
    wish: &Wish,
    now: i64,
) -> Result<Option<Placed>, api::Error> {
    let resources = crate::model::flavor::resources(&wish.flavor);
    let mut candidates = hosts_with_room(tx, capacity, config, wish, &resources, now)?;
    let facts = facts(tx, wish)?;
    let forced = wish.forced_host.is_some() || wish.forced_node.is_some();
    candidates.retain(|host| {
        let chosen = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        let here =
            chosen(&wish.forced_host, &host.node.host) && chosen(&wish.forced_node, &host.node.hypervisor_hostname);
        here && (forced || filters::pass(host, wish, &facts))
    });
    weighers::order(&mut candidates, wish, &facts);
    let consumer = Consumer {
        uuid: wish.server_id.clone(),
        project_id: wish.project_id.clone(),
        user_id: wish.user_id.clone(),
    };
    for host in candidates {
        if capacity.claim(tx, &consumer, &host.node.id, &resources)? {
            let Host { node, zone, .. } = host;
            return Ok(Some(Placed {
                host: node.host,
                node: node.hypervisor_hostname,
                zone,
            }));
        }
    }
    Ok(None)
}

fn hosts_with_room(
    tx: &mut Tx<'_>,
    capacity: &dyn Capacity,
    config: &Config,
    wish: &Wish,
    resources: &BTreeMap<String, u64>,
    now: i64,
) -> Result<Vec<Host>, api::Error> {
    let mut rooms: HashMap<String, ProviderRoom> = capacity
        .candidates(tx, resources)?
        .into_iter()
        .map(|room| (room.uuid.clone(), room))
        .collect();
    let nodes = hosts::nodes(tx)?;
    let all = aggregates::all(tx)?;
    let members = match &wish.group {
        Some(group) => groups::hosts(tx, group)?,
        None => HashMap::new(),
    };
    // Counting every server is only worth it where there is a choice.
    let used = if nodes.len() > 1 {
        hosts::used(tx)?
    } else {
        HashMap::new()
    };
    Ok(nodes
        .into_iter()
        .filter_map(|node| {
            let room = rooms.remove(&node.id)?;
            let mut metadata: HashMap<String, Vec<String>> = HashMap::new();
            for aggregate in all.iter().filter(|a| a.hosts.contains(&node.host)) {
                for (key, value) in &aggregate.metadata {
                    metadata
                        .entry(key.clone())
                        .or_default()
                        .push(value.as_str().unwrap_or_default().to_owned());
                }
            }
            let zone = metadata
                .get("availability_zone")
                .and_then(|z| z.first())
                .unwrap_or(&config.default_availability_zone);
            Some(Host {
                zone: zone.clone(),
                up: node.service.is_up(now, config.service_down_seconds),
                group_members: members.get(&node.host).copied().unwrap_or(0),
                servers: used.get(&node.host).map_or(0, |u| u[0]),
                aggregate_metadata: metadata,
                room,
                node,
            })
        })
        .collect())
}

fn facts(tx: &mut Tx<'_>, wish: &Wish) -> Result<Facts, api::Error> {
    let group = match &wish.group {
        Some(id) => groups::find(tx, id)?.map(|g| {
            let most = g
                .rules
                .get("max_server_per_host")
                .and_then(crate::model::encoding::json_int)
                .unwrap_or(1);
            (g.policy, most)
        }),
        None => None,
    };
    let mut hosts_of = HashMap::new();
    for key in ["same_host", "different_host"] {
        for id in hinted(&wish.hints, key) {
            if let Some(server) = servers::find(tx, &id, false)?
                && let Some(host) = server.host
            {
                hosts_of.insert(id, host);
            }
        }
    }
    let group_is_empty = match &wish.group {
        Some(id) => groups::hosts(tx, id)?.is_empty(),
        None => true,
    };
    Ok(Facts {
        group,
        group_is_empty,
        hosts_of,
    })
}

/// A hint that may be one text or a list of texts.
pub(crate) fn hinted(hints: &Value, key: &str) -> Vec<String> {
    match &hints[key] {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}
