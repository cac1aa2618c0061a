//! What is: nodes' reports, written down.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::services::ClassRoom;
use database::Tx;
use futures_util::future::BoxFuture;
use node_protocol::controller::{BoxError, ReportSink};
use node_protocol::reports::{NodeHello, Report, Sequenced, ServerObserved};

use super::observed::{self, Outcome};
use crate::Compute;
use crate::model::server::Server;
use crate::store::{actions, hosts, moves, servers};

/// Takes reports of nodes for Compute. Reports of ports are Networking's and are passed over here.
pub struct Sink(pub Arc<Compute>);

impl ReportSink for Sink {
    fn connected(&self, hello: NodeHello) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let now = database::now();
            let written = self.0.db.write(|tx| introduce(tx, &self.0, &hello, now));
            written.map_err(|error| {
                tracing::error!(node = hello.hostname, error = %error, "a node's hello could not be written down");
                "the controller could not write its hello down".to_owned()
            })
        })
    }

    fn report(&self, node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let now = database::now();
            let concerns_us = |r: &&Sequenced| !matches!(r.report, Report::Port(_));
            if reports.iter().filter(concerns_us).count() == 0 {
                return Ok(());
            }
            self.0.db.write(|tx| {
                for report in &reports {
                    take(tx, &self.0, &node, report, now)?;
                }
                Ok::<_, api::Error>(())
            })?;
            Ok(())
        })
    }

    fn disconnected(&self, node: &str) -> BoxFuture<'_, ()> {
        tracing::info!(node, "node is away; its service goes down unless it comes back");
        Box::pin(async {})
    }
}

fn introduce(tx: &mut Tx<'_>, compute: &Compute, hello: &NodeHello, now: i64) -> Result<(), api::Error> {
    hosts::ensure_service(tx, &hello.hostname, hosts::NODE_SERVICE, now)?;
    hosts::beat(tx, &hello.hostname, now)?;
    let id = hosts::ensure_node(tx, hello, now)?;
    let config = &compute.config;
    let room = |total: u64, reserved: u64, ratio: f64| ClassRoom {
        total,
        reserved: reserved.min(total.saturating_sub(1)),
        allocation_ratio: ratio,
        used: 0,
        max_unit: total,
    };
    let inventory: BTreeMap<String, ClassRoom> = [
        ("VCPU", room(u64::from(hello.vcpus), 0, config.cpu_allocation_ratio)),
        (
            "MEMORY_MB",
            room(
                hello.memory_mib,
                config.reserved_host_memory_mb,
                config.ram_allocation_ratio,
            ),
        ),
        (
            "DISK_GB",
            room(
                hello.disk_gib,
                config.reserved_host_disk_gb,
                config.disk_allocation_ratio,
            ),
        ),
    ]
    .into_iter()
    .map(|(class, room)| (class.to_owned(), room))
    .collect();
    let name = if hello.hypervisor_hostname.is_empty() {
        &hello.hostname
    } else {
        &hello.hypervisor_hostname
    };
    compute
        .neighbours
        .capacity
        .ensure_provider(tx, &id, name, &inventory, &traits(hello))
}

/// The standard traits that follow from what a node says of itself.
fn traits(hello: &NodeHello) -> Vec<String> {
    let mut out = vec![
        "COMPUTE_NODE".to_owned(),
        "COMPUTE_ACCELERATORS".to_owned(),
        "COMPUTE_DEVICE_TAGGING".to_owned(),
        "COMPUTE_NET_ATTACH_INTERFACE".to_owned(),
        "COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG".to_owned(),
        "COMPUTE_IMAGE_TYPE_QCOW2".to_owned(),
        "COMPUTE_IMAGE_TYPE_RAW".to_owned(),
    ];
    for (feature, name) in [
        ("aes", "HW_CPU_X86_AESNI"),
        ("avx", "HW_CPU_X86_AVX"),
        ("avx2", "HW_CPU_X86_AVX2"),
        ("vmx", "HW_CPU_X86_VMX"),
    ] {
        if hello.cpu.features.iter().any(|f| f == feature) {
            out.push(name.to_owned());
        }
    }
    out
}

fn take(tx: &mut Tx<'_>, compute: &Compute, node: &str, report: &Sequenced, now: i64) -> Result<(), api::Error> {
    let sequence = report.sequence.min(i64::MAX as u64) as i64;
    match &report.report {
        Report::Node(hello) => introduce(tx, compute, hello, now)?,
        Report::Heartbeat(beat) => {
            hosts::beat(tx, node, now)?;
            hosts::set_heartbeat(tx, node, beat, now)?;
        }
        Report::Server(seen) => observe(tx, compute, node, seen, sequence, now)?,
        Report::ServerGone { id } => {
            if let Some(server) = current(tx, node, &id.to_string(), sequence)? {
                gone(tx, compute, server, sequence, now)?;
            }
        }
        Report::ServerPassword { id, password } => {
            if let Some(mut server) = servers::find(tx, &id.to_string(), false)? {
                server.posted_password = password.expose().chars().take(1020).collect();
                server.touch(now);
                server.update(tx)?;
                tx.changed("server", &server.id);
            }
        }
        Report::Inventory { servers: seen, .. } => {
            hosts::beat(tx, node, now)?;
            for one in seen {
                observe(tx, compute, node, one, sequence, now)?;
            }
            let there: HashSet<String> = seen.iter().map(|s| s.id.to_string()).collect();
            for server in servers::on_host(tx, node)? {
                if server.power_wanted == "deleted" && !there.contains(&server.id) && server.reported < sequence {
                    gone(tx, compute, server, sequence, now)?;
                }
            }
        }
        Report::Port(_) => {}
    }
    Ok(())
}

/// The server, where it belongs on the node and the report is newer than what is known.
fn current(tx: &mut Tx<'_>, node: &str, id: &str, sequence: i64) -> Result<Option<Server>, api::Error> {
    let server = servers::find(tx, id, false)?;
    Ok(server.filter(|s| s.host.as_deref() == Some(node) && s.reported < sequence))
}

fn observe(
    tx: &mut Tx<'_>,
    _compute: &Compute,
    node: &str,
    seen: &ServerObserved,
    sequence: i64,
    now: i64,
) -> Result<(), api::Error> {
    let Some(mut server) = current(tx, node, &seen.id.to_string(), sequence)? else {
        return Ok(());
    };
    let was_resizing = server.task_state.as_deref() == Some("resize_prep");
    let outcome = observed::apply(&mut server, seen, now);
    if was_resizing && outcome != Outcome::UnderWay {
        let status = if outcome == Outcome::Reached {
            "finished"
        } else {
            "error"
        };
        moves::set_status(tx, &server.id, status)?;
    }
    server.reported = sequence;
    if outcome == Outcome::Reached {
        // The guest has it now; nobody else needs it.
        server.admin_password = None;
    }
    let failure = match &outcome {
        Outcome::UnderWay => None,
        Outcome::Reached => Some(None),
        Outcome::Failed(why) => Some(Some(why.as_str())),
    };
    if let Some(failure) = failure
        && let Some(action) = server.task_action.take()
    {
        actions::finish(tx, action, failure, now)?;
    }
    server.update(tx)?;
    Ok(())
}

fn gone(tx: &mut Tx<'_>, compute: &Compute, mut server: Server, sequence: i64, now: i64) -> Result<(), api::Error> {
    server.reported = sequence;
    if server.power_wanted == "deleted" {
        compute.destroy(tx, server, now)?;
    } else {
        server.update(tx)?;
    }
    Ok(())
}
