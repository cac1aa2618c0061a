//! Open vSwitch as the node's [`Switch`]: the driver in [`crate::switch`] with the node's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use openflow::{PacketIn, PacketOut};
use ovsdb::PortSpec;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use virtual_network::topology::NetworkType;
use virtual_network::{Bridge, Connections, FlowDiff, Flows, Patch, PortNumbers};

use crate::datapath::{Plug, Switch, SwitchError, SwitchInfo};
use crate::network::describe;
use crate::switch::{self, Ovs, Program, TapOwner};

/// Packets under way from the switch to the node; more are dropped, and their senders ask again.
const PACKETS: usize = 1024;
const TUNNELS: [(NetworkType, &str); 3] = [
    (NetworkType::Vxlan, "vxlan"),
    (NetworkType::Gre, "gre"),
    (NetworkType::Geneve, "geneve"),
];

/// Open vSwitch.
pub struct OvsSwitch {
    ovs: Ovs,
    info: SwitchInfo,
    numbers: watch::Receiver<PortNumbers>,
    connections: watch::Sender<u64>,
    packets: Mutex<Option<mpsc::Receiver<(Bridge, PacketIn)>>>,
    findings: Vec<String>,
}

impl OvsSwitch {
    /// Over a switch that runs. `tunnels` is the node's end of its tunnels; `metadata` an interface to be plugged in.
    pub async fn new(ovs: Ovs, tunnels: Option<IpAddr>, metadata: Option<&str>) -> Result<Arc<Self>, SwitchError> {
        let mut findings = Vec::new();
        let mut kinds = Vec::new();
        for (_, name) in TUNNELS {
            let Some(local) = tunnels else { continue };
            match ovs.ensure_tunnel(name, local).await {
                Ok(_) => kinds.push(name.to_owned()),
                Err(error) => findings.push(format!("no {name} tunnels: {}", describe(&error))),
            }
        }
        let integration = ovs.config().integration_bridge.clone();
        if let Some(interface) = metadata {
            // An interface of the same name that was there before is another one to the kernel, but not to the switch.
            ovs.remove_ports(&[interface])
                .await
                .map_err(SwitchError::new("replace the metadata service's port"))?;
            let made = ovs.ensure_port(&integration, PortSpec::new(interface, "")).await;
            made.map_err(SwitchError::new("plug the metadata service into the switch"))?;
        }
        let info = SwitchInfo {
            driver: "openvswitch".into(),
            datapath_type: ovs.datapath(),
            version: ovs.version().unwrap_or_default(),
            integration_bridge: integration,
            tunnel_types: kinds,
            offload: ovs.datapath() == "system",
        };
        let (send, packets) = mpsc::channel(PACKETS);
        let integration = info.integration_bridge.clone();
        ovs.on_packet_in(Arc::new(move |bridge, packet| {
            let bridge = match bridge == integration {
                true => Bridge::Integration,
                false => Bridge::Physical(bridge.into()),
            };
            if send.try_send((bridge, packet)).is_err() {
                tracing::debug!("too many packets for the controller; one was dropped");
            }
            Box::pin(async { Vec::new() })
        }));
        let metadata = metadata.map(str::to_owned);
        let (numbers, seen) = watch::channel(numbers_of(&ovs, metadata.as_deref()));
        tokio::spawn(watch_numbers(ovs.clone(), metadata, numbers));
        Ok(Arc::new(Self {
            ovs,
            info,
            numbers: seen,
            connections: watch::channel(1).0,
            packets: Mutex::new(Some(packets)),
            findings,
        }))
    }

    fn bridge<'a>(&'a self, bridge: &'a Bridge) -> &'a str {
        match bridge {
            Bridge::Integration => &self.info.integration_bridge,
            Bridge::Physical(name) => name,
        }
    }

    fn look_at(&self, bridge: &Bridge, applied: &switch::Applied) -> Result<(), SwitchError> {
        for (flow, why) in &applied.refused {
            tracing::error!(%bridge, %flow, why, "the switch refused a flow");
        }
        match applied.pending {
            true => Err(SwitchError::new(format!("bring the flows of {bridge} about"))(
                "it is not connected",
            )),
            false => Ok(()),
        }
    }

    async fn forget(&self, which: switch::Connections) {
        if let Err(error) = self.ovs.forget_connections(&which).await {
            // Old connections then live until they time out: worth a word, not the flows of everybody.
            tracing::warn!(
                zone = which.zone,
                error = describe(&error),
                "the switch cannot forget connections"
            );
        }
    }
}

fn numbers_of(ovs: &Ovs, metadata: Option<&str>) -> PortNumbers {
    let plugged = ovs.plugged().into_iter();
    let patches: BTreeMap<String, Patch> = ovs
        .patches()
        .into_values()
        .map(|(bridge, integration, physical)| (bridge, Patch { integration, physical }))
        .collect();
    let tunnel = |(kind, name): (NetworkType, &str)| Some((kind, ovs.port_number(&format!("{name}-tun"))?));
    PortNumbers {
        interfaces: plugged
            .filter_map(|plugged| Some((plugged.interface, plugged.number?)))
            .collect(),
        patches,
        tunnels: TUNNELS.into_iter().filter_map(tunnel).collect(),
        metadata: metadata.and_then(|name| ovs.port_number(name)),
    }
}

/// Keeps the numbers up to date until nobody looks at them any more.
async fn watch_numbers(ovs: Ovs, metadata: Option<String>, numbers: watch::Sender<PortNumbers>) {
    let mut changes = ovs.changes();
    loop {
        changes.borrow_and_update();
        let now = numbers_of(&ovs, metadata.as_deref());
        numbers.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = numbers.closed() => return,
        }
    }
}

impl Switch for OvsSwitch {
    fn info(&self) -> SwitchInfo {
        self.info.clone()
    }

    fn plug<'a>(&'a self, plug: &'a Plug) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            let doing = format!("plug {} into the switch", plug.tap);
            let wanted = switch::Plug {
                interface: plug.tap.clone(),
                port_id: plug.port_id.to_string(),
                mac: plug.mac.parse().map_err(SwitchError::new(doing.clone()))?,
                server_id: Some(plug.server_id.to_string()),
                // The node opens it and hands it to QEMU, which needs no right to it.
                tap: Some(TapOwner::Privileged),
                mtu: Some(plug.mtu),
            };
            self.ovs.plug(&wanted).await.map(drop).map_err(SwitchError::new(doing))
        })
    }

    fn unplug<'a>(&'a self, tap: &'a str) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            self.ovs
                .unplug(tap)
                .await
                .map_err(SwitchError::new(format!("unplug {tap} from the switch")))
        })
    }

    fn plugged(&self) -> BoxFuture<'_, Result<Vec<String>, SwitchError>> {
        Box::pin(async move {
            Ok(self
                .ovs
                .plugged()
                .into_iter()
                .map(|plugged| plugged.interface)
                .collect())
        })
    }

    fn port_numbers(&self) -> watch::Receiver<PortNumbers> {
        self.numbers.clone()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        // The driver brings a bridge that connects anew up to date by itself.
        self.connections.subscribe()
    }

    fn apply<'a>(&'a self, diff: &'a FlowDiff) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            for zone in &diff.flush_zones {
                self.forget(switch::Connections::of_zone(*zone)).await;
            }
            for (bridge, diff) in &diff.bridges {
                let applied = self.ovs.update(self.bridge(bridge), &diff.remove, &diff.add).await;
                let applied = applied.map_err(SwitchError::new(format!("change the flows of {bridge}")))?;
                self.look_at(bridge, &applied)?;
            }
            for connections in &diff.flush_connections {
                self.forget(match *connections {
                    Connections::To { zone, address } => switch::Connections {
                        zone,
                        destination: Some(address),
                        ..Default::default()
                    },
                    Connections::From { zone, address } => switch::Connections {
                        zone,
                        source: Some(address),
                        ..Default::default()
                    },
                })
                .await;
            }
            Ok(())
        })
    }

    fn replace<'a>(&'a self, flows: &'a Flows) -> BoxFuture<'a, Result<usize, SwitchError>> {
        Box::pin(async move {
            let mut changed = 0;
            for (bridge, flows) in flows {
                let program: Program = flows.iter().cloned().collect();
                let applied = self.ovs.apply(self.bridge(bridge), program).await;
                let applied = applied.map_err(SwitchError::new(format!("write the flows of {bridge}")))?;
                self.look_at(bridge, &applied)?;
                changed += applied.added + applied.removed;
            }
            Ok(changed)
        })
    }

    fn packet_out<'a>(&'a self, bridge: &'a Bridge, packet: PacketOut) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            self.ovs
                .packet_out(self.bridge(bridge), packet)
                .map_err(SwitchError::new("send a packet"))
        })
    }

    fn take_packets(&self) -> Option<mpsc::Receiver<(Bridge, PacketIn)>> {
        self.packets.lock().take()
    }

    fn findings(&self) -> Vec<String> {
        let mut findings = self.findings.clone();
        if !self.ovs.is_healthy() {
            findings.push("a bridge of Open vSwitch is not connected to this node".into());
        }
        let physical: BTreeSet<&String> = self.ovs.config().physical.values().collect();
        let there: BTreeSet<String> = self.ovs.patches().into_values().map(|(bridge, ..)| bridge).collect();
        let missing = physical.into_iter().filter(|bridge| !there.contains(*bridge));
        findings.extend(missing.map(|bridge| format!("the bridge {bridge} of a physical network is not there")));
        findings
    }
}
