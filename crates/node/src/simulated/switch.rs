//! A switch that carries nothing, but keeps its books.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use openflow::{Flow, Match, PacketIn, PacketOut};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use virtual_network::topology::NetworkType;
use virtual_network::{Bridge, FlowDiff, Flows, Patch, PortNumbers};

use crate::datapath::{self, Plug, SwitchError, SwitchInfo};

type Key = (u8, u16, Match);
type Table = HashMap<Bridge, HashMap<Key, Flow>>;

fn key(flow: &Flow) -> Key {
    let key = flow.key();
    (key.table, key.priority, key.matches.clone())
}

/// Plays a switch in memory. Hand the same one to the next node, and it is a restart.
pub struct Switch {
    numbers: watch::Sender<PortNumbers>,
    connections: watch::Sender<u64>,
    flows: Mutex<Table>,
    broken: AtomicBool,
}

impl Switch {
    /// With patches to these physical bridges.
    pub fn new<'a>(physical_bridges: impl IntoIterator<Item = &'a String>) -> Arc<Self> {
        let patches = physical_bridges.into_iter().zip(1000..);
        let numbers = PortNumbers {
            patches: patches
                .map(|(bridge, n)| {
                    (
                        bridge.clone(),
                        Patch {
                            integration: n,
                            physical: 1,
                        },
                    )
                })
                .collect(),
            tunnels: [
                (NetworkType::Vxlan, 2000),
                (NetworkType::Gre, 2001),
                (NetworkType::Geneve, 2002),
            ]
            .into(),
            metadata: Some(3000),
            ..PortNumbers::default()
        };
        Arc::new(Self {
            numbers: watch::channel(numbers).0,
            connections: watch::channel(1).0,
            flows: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    /// How many flows it has.
    pub fn flow_count(&self) -> usize {
        self.flows.lock().values().map(HashMap::len).sum()
    }

    /// All its flows.
    pub fn flows(&self) -> Flows {
        let flows = self.flows.lock();
        flows
            .iter()
            .map(|(bridge, flows)| (bridge.clone(), flows.values().cloned().collect()))
            .collect()
    }

    /// It restarts: the ports stay, the flows are gone.
    pub fn restart(&self) {
        self.flows.lock().clear();
        self.connections.send_modify(|n| *n += 1);
    }

    /// Somebody deletes a tap.
    pub fn lose(&self, tap: &str) {
        self.numbers.send_modify(|numbers| {
            numbers.interfaces.remove(tap);
        });
    }

    /// It refuses everything, or no longer.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    fn check(&self, doing: &str) -> Result<(), SwitchError> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(SwitchError::new(doing)("the simulated switch is broken")),
            false => Ok(()),
        }
    }
}

impl datapath::Switch for Switch {
    fn info(&self) -> SwitchInfo {
        SwitchInfo {
            driver: "simulated".into(),
            datapath_type: "simulated".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            integration_bridge: "br-int".into(),
            tunnel_types: vec!["vxlan".into(), "gre".into(), "geneve".into()],
            offload: false,
        }
    }

    fn plug<'a>(&'a self, plug: &'a Plug) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            self.check("plug a tap")?;
            self.numbers.send_if_modified(|numbers| {
                if numbers.interfaces.contains_key(&plug.tap) {
                    return false;
                }
                let taken: BTreeSet<u32> = numbers.interfaces.values().copied().collect();
                // The lowest that is free, as Open vSwitch does for a while at least.
                let mut number = 1;
                for n in taken {
                    if n != number {
                        break;
                    }
                    number += 1;
                }
                numbers.interfaces.insert(plug.tap.clone(), number);
                true
            });
            Ok(())
        })
    }

    fn unplug<'a>(&'a self, tap: &'a str) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            self.check("unplug a tap")?;
            self.numbers
                .send_if_modified(|numbers| numbers.interfaces.remove(tap).is_some());
            Ok(())
        })
    }

    fn plugged(&self) -> BoxFuture<'_, Result<Vec<String>, SwitchError>> {
        Box::pin(async move {
            self.check("list its ports")?;
            Ok(self.numbers.borrow().interfaces.keys().cloned().collect())
        })
    }

    fn port_numbers(&self) -> watch::Receiver<PortNumbers> {
        self.numbers.subscribe()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    fn apply<'a>(&'a self, diff: &'a FlowDiff) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async move {
            self.check("apply flows")?;
            let mut flows = self.flows.lock();
            for (bridge, diff) in &diff.bridges {
                let flows = flows.entry(bridge.clone()).or_default();
                for flow in &diff.remove {
                    flows.remove(&key(flow));
                }
                flows.extend(diff.add.iter().map(|flow| (key(flow), flow.clone())));
            }
            Ok(())
        })
    }

    fn replace<'a>(&'a self, flows: &'a Flows) -> BoxFuture<'a, Result<usize, SwitchError>> {
        Box::pin(async move {
            self.check("read its flows")?;
            let table = |flows: &Vec<Flow>| flows.iter().map(|flow| (key(flow), flow.clone())).collect();
            let wanted: Table = flows
                .iter()
                .map(|(bridge, flows)| (bridge.clone(), table(flows)))
                .collect();
            let mut has = self.flows.lock();
            let none = HashMap::new();
            let different = wanted
                .iter()
                .map(|(bridge, wanted)| {
                    let has = has.get(bridge).unwrap_or(&none);
                    let missing = wanted.iter().filter(|(key, flow)| has.get(*key) != Some(*flow)).count();
                    missing + has.keys().filter(|key| !wanted.contains_key(*key)).count()
                })
                .sum();
            *has = wanted;
            Ok(different)
        })
    }

    fn packet_out<'a>(&'a self, _bridge: &'a Bridge, _packet: PacketOut) -> BoxFuture<'a, Result<(), SwitchError>> {
        Box::pin(async { Ok(()) })
    }

    fn take_packets(&self) -> Option<mpsc::Receiver<(Bridge, PacketIn)>> {
        None
    }

    fn findings(&self) -> Vec<String> {
        Vec::new()
    }
}
