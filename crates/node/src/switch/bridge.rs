//! One bridge: what it should hold, its OpenFlow connection, and how the two are brought together.

use super::error::Error;
use super::program::{Accepted, Difference, Key, Program, Reported, delta, difference, repair};
use openflow::{Action, BundleError, Change, Connection, ConnectionError, Flow, MeterCommand, PacketOut, SwitchError};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

/// A switch names only the first bad change of those that it notices at the commit, so each of these costs a round.
const ROUNDS: usize = 100;

/// What came of a change to a bridge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Flows that were added or changed.
    pub added: usize,
    /// Flows that went.
    pub removed: usize,
    /// Flows that the switch would not take, and why. The others are in force.
    pub refused: Vec<(Flow, String)>,
    /// The bridge is not connected; everything is brought up to date as soon as it is.
    pub pending: bool,
}

#[derive(Default)]
struct State {
    /// None until somebody has said it; the switch then keeps what it has, so that guests go on while a node's daemon is replaced.
    want: Option<Program>,
    /// The switch is known to hold what is wanted.
    synced: bool,
    /// Not tried again until the next verification: what they lacked may be there then.
    refused: HashSet<Flow>,
    /// Those whose refusal has been logged.
    complained: HashSet<Flow>,
    /// Actions that the switch reported in place of ours, and which were then put right.
    suspects: HashMap<Key, Vec<Action>>,
    accepted: Accepted,
}

pub(super) struct Bridge {
    pub name: String,
    state: Mutex<State>,
    connection: watch::Sender<Option<Connection>>,
}

impl Bridge {
    pub fn new(name: &str, want: Option<Program>) -> Bridge {
        let state = Mutex::new(State {
            want,
            ..State::default()
        });
        Bridge {
            name: name.to_owned(),
            state,
            connection: watch::channel(None).0,
        }
    }

    /// The connection, if there is one that lives.
    pub fn connection(&self) -> Option<Connection> {
        self.connection.borrow().clone().filter(|c| !c.is_closed())
    }

    /// Waits for a connection.
    pub async fn connected(&self) -> Connection {
        let mut receiver = self.connection.subscribe();
        loop {
            // The sender lives as long as `self`.
            let found = receiver.wait_for(|c| c.as_ref().is_some_and(|c| !c.is_closed())).await;
            if let Some(c) = found.ok().and_then(|c| c.clone()) {
                return c;
            }
        }
    }

    /// Takes over a new connection: brings the switch up to date, whatever it holds.
    pub async fn take(&self, connection: Connection) {
        let mut state = self.state.lock().await;
        if let Some(old) = self.connection.send_replace(Some(connection)) {
            old.close();
        }
        state.synced = false;
        state.suspects.clear();
        if let Err(e) = self.bring_up_to_date(&mut state).await {
            tracing::warn!(bridge = self.name, "bringing the flows up to date: {e}");
        }
    }

    /// Forgets a connection that has ended, if it is still the one in use.
    pub fn lose(&self, ended: &Connection) {
        self.connection.send_if_modified(|current| {
            let is_it = current.as_ref().is_some_and(|c| c.same(ended));
            if is_it {
                *current = None;
            }
            is_it
        });
    }

    /// Makes the bridge hold exactly this.
    pub async fn apply(&self, program: Program) -> Result<Applied, Error> {
        let mut state = self.state.lock().await;
        let change = match &state.want {
            Some(old) if state.synced => difference(old, &program),
            _ => Difference::default(),
        };
        state.refused.retain(|f| program.flows.contains(f));
        state.complained.retain(|f| program.flows.contains(f));
        state.want = Some(program);
        self.change(&mut state, change).await
    }

    /// Makes the bridge hold these and no longer those.
    pub async fn update(&self, remove: &[Flow], add: &[Flow]) -> Result<Applied, Error> {
        let mut state = self.state.lock().await;
        let want = state.want.get_or_insert_default();
        let (gone, come) = want.update(remove, add);
        for f in &gone {
            state.refused.remove(f);
            state.complained.remove(f);
        }
        let change = delta(&gone, &come);
        self.change(&mut state, change).await
    }

    async fn change(&self, state: &mut State, change: Difference) -> Result<Applied, Error> {
        let Some(connection) = self.connection() else {
            state.synced = false;
            return Ok(Applied {
                pending: true,
                ..Applied::default()
            });
        };
        let result = if state.synced {
            self.send(state, &connection, change).await
        } else {
            self.bring_up_to_date(state).await
        };
        match result {
            Ok(applied) => Ok(applied),
            // It comes back, and then everything is compared.
            Err(ConnectionError::Closed | ConnectionError::Io(_)) => {
                state.synced = false;
                Ok(Applied {
                    pending: true,
                    ..Applied::default()
                })
            }
            Err(source) => {
                state.synced = false;
                Err(Error::OpenFlow {
                    bridge: self.name.clone(),
                    source,
                })
            }
        }
    }

    /// Compares what the switch holds with what it should hold, and puts it right. Returns how long that took, or none
    /// if there was nothing to compare.
    pub async fn verify(&self) -> Option<Duration> {
        let mut state = self.state.lock().await;
        self.connection()?;
        state.want.as_ref()?;
        state.refused.clear();
        let start = Instant::now();
        match self.bring_up_to_date(&mut state).await {
            Ok(a) if a.added + a.removed > 0 => {
                tracing::warn!(
                    bridge = self.name,
                    added = a.added,
                    removed = a.removed,
                    "the switch did not hold what it should; repaired"
                );
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(bridge = self.name, "verifying the flows: {e}"),
        }
        Some(start.elapsed())
    }

    async fn bring_up_to_date(&self, state: &mut State) -> Result<Applied, ConnectionError> {
        let Some(connection) = self.connection() else {
            return Err(ConnectionError::Closed);
        };
        let Some(want) = &state.want else {
            return Ok(Applied::default());
        };
        let (flows, groups, meters) = tokio::try_join!(connection.flows(), connection.groups(), connection.meters())?;
        let reported = Reported { flows, groups, meters };
        let (change, differing) = repair(reported, want, &state.refused, &state.accepted);
        for (key, actions) in differing.iter() {
            if state.suspects.get(key) == Some(actions) {
                // Written the same way twice, and reported differently twice: the switch has its own way to say it.
                tracing::warn!(bridge = self.name, flow = ?key, reported = ?actions, "the switch reports other actions than it was given");
                state.accepted.insert(key.clone(), actions.clone());
            }
        }
        state.suspects = differing.into_iter().collect();
        let applied = self.send(state, &connection, change).await?;
        state.synced = true;
        Ok(applied)
    }

    /// Sends a difference. Changes that the switch refuses are left out, and the rest is sent again.
    async fn send(&self, state: &mut State, c: &Connection, change: Difference) -> Result<Applied, ConnectionError> {
        let mut applied = Applied::default();
        if change.is_empty() {
            return Ok(applied);
        }
        (applied.added, applied.removed) = change.counts();
        let Difference {
            meters_first,
            mut bundle,
            meters_last,
        } = change;
        for (command, meter) in meters_first {
            self.note_refusal(c.meter(command, meter).await, &meter)?;
        }
        for round in 1.. {
            match c.bundle(&bundle).await {
                Ok(()) => break,
                Err(BundleError::Connection(e)) => return Err(e),
                Err(BundleError::Rejected(mut list)) => {
                    if round == ROUNDS {
                        let error = list.pop().map_or(
                            SwitchError {
                                kind: 17,
                                code: 0,
                                data: Vec::new(),
                            },
                            |l| l.1,
                        );
                        return Err(ConnectionError::Refused(error));
                    }
                    list.sort_by_key(|l| std::cmp::Reverse(l.0));
                    list.dedup_by_key(|l| l.0);
                    for (index, error) in list {
                        let change = bundle.remove(index);
                        let mut again = false;
                        if let Change::Add(flow) = &change {
                            applied.added -= 1;
                            // Remembered as it was asked for, not in its canonical form.
                            let same = |f: &&Flow| f.table == flow.table && f.canonical() == *flow;
                            let asked = state
                                .want
                                .as_ref()
                                .and_then(|w| w.flows.iter().find(same))
                                .unwrap_or(flow)
                                .clone();
                            again = !state.complained.insert(asked.clone());
                            state.refused.insert(asked);
                        }
                        if again {
                            tracing::debug!(
                                bridge = self.name,
                                ?change,
                                "the switch still refuses a change: {error}"
                            );
                        } else {
                            tracing::error!(bridge = self.name, ?change, "the switch refused a change: {error}");
                        }
                        if let Change::Add(flow) = change {
                            applied.refused.push((flow, error.to_string()));
                        }
                    }
                }
            }
        }
        for meter in meters_last {
            self.note_refusal(c.meter(MeterCommand::Delete, meter).await, &meter)?;
        }
        Ok(applied)
    }

    /// A meter that is refused does not stop the flows; those that need it are refused in turn, and said so.
    fn note_refusal(
        &self,
        result: Result<(), ConnectionError>,
        meter: &openflow::Meter,
    ) -> Result<(), ConnectionError> {
        match result {
            Err(ConnectionError::Refused(e)) => {
                tracing::error!(bridge = self.name, %meter, "the switch refused a meter: {e}");
                Ok(())
            }
            other => other,
        }
    }

    /// Sends a packet out of the bridge.
    pub fn packet_out(&self, packet: PacketOut) -> Result<(), Error> {
        let c = self
            .connection()
            .ok_or_else(|| Error::NotConnected(self.name.clone()))?;
        c.packet_out(packet).map_err(|source| Error::OpenFlow {
            bridge: self.name.clone(),
            source,
        })
    }
}
