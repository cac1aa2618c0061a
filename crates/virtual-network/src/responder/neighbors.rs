//! Finding out and remembering the MACs of next hops that the topology does not tell.
//!
//! The first packet to an unknown next hop comes to the controller and waits here while its MAC is asked for; meanwhile a
//! flow drops all others, so no sender can flood the controller. The answer replaces that flow by one with the MAC.

use super::frame::{Body, Ends, Frame, Transport, arp_request, solicitation};
use super::{Response, in_network};
use crate::emit::{Leg, legs, served};
use crate::pipeline::register;
use crate::state::State;
use crate::topology::{MacAddress, NetworkId, RouterId};
use openflow::{Field, Mac, PacketIn};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// How often an address is asked for before it is given up (Linux: `mcast_solicit`), a second apart.
const TRIES: u8 = 3;
/// How long packets to it are dropped then.
const GIVEN_UP: Duration = Duration::from_secs(5);
/// How long an answer is believed before it is checked.
const BELIEVED: Duration = Duration::from_secs(120);
/// Addresses that can be asked for at once; a scan of a large subnet must not fill the memory.
const WAITING: usize = 1024;
/// Packets that wait for one address.
const PACKETS: usize = 3;

enum Entry {
    /// Asked for.
    Waiting {
        router: RouterId,
        packets: Vec<Vec<u8>>,
        asked: u8,
        again: Duration,
    },
    /// Did not answer.
    GivenUp { until: Duration },
    Known {
        router: RouterId,
        mac: MacAddress,
        check: Duration,
        checks: u8,
    },
}

#[derive(Default)]
pub(super) struct Table {
    entries: HashMap<(NetworkId, IpAddr), Entry>,
}

const NOBODY: MacAddress = MacAddress::new([0; 6]);

impl Table {
    /// A packet needs the MAC of the next hop in its registers.
    pub fn resolve(
        &mut self,
        s: &State,
        router: RouterId,
        packet: &PacketIn,
        frame: &Frame<'_>,
        now: Duration,
        out: &mut Response,
    ) {
        let Some(network) = s.tags.get(&packet.reg(register::NETWORK)).copied() else {
            return;
        };
        let Body::Ip { dst, .. } = &frame.body else {
            return;
        };
        let hop = match dst {
            IpAddr::V4(_) => IpAddr::V4(packet.reg(register::NEXT_HOP).into()),
            IpAddr::V6(_) => IpAddr::V6(wide_register(packet)),
        };
        let key = (network, hop);
        if let Some(Entry::Waiting { packets, .. }) = self.entries.get_mut(&key) {
            if packets.len() < PACKETS {
                packets.push(packet.data.clone());
            }
            return;
        }
        if let Some(Entry::Known { mac, .. }) = self.entries.get(&key) {
            // It overtook the flow.
            out.neighbors.push((network, hop, Some(*mac)));
            out.packets.extend(to(s, network, *mac, packet.data.clone()));
            return;
        }
        if self.entries.len() >= WAITING && !self.entries.contains_key(&key) {
            let waiting = |e: &Entry| !matches!(e, Entry::Known { .. });
            if self.entries.values().filter(|e| waiting(e)).count() >= WAITING {
                return;
            }
        }
        let Some(request) = ask(s, router, network, hop, None) else {
            return;
        };
        out.packets.extend(in_network(s, network, request));
        out.neighbors.push((network, hop, Some(NOBODY)));
        let entry = Entry::Waiting {
            router,
            packets: vec![packet.data.clone()],
            asked: 1,
            again: now + Duration::from_secs(1),
        };
        self.entries.insert(key, entry);
    }

    /// Somebody tells where they are. Only what was asked for, or is known already, is believed.
    pub fn learn(&mut self, s: &State, network: NetworkId, frame: &Frame<'_>, now: Duration, out: &mut Response) {
        let (address, mac) = match &frame.body {
            Body::Arp { sha, spa } => (IpAddr::V4(*spa), *sha),
            Body::Ip {
                src: IpAddr::V6(_),
                transport: Transport::Icmp { kind: 136, rest },
                ..
            } => match advertised(rest, frame.eth_src) {
                Some((a, mac)) => (a.into(), mac),
                None => return,
            },
            Body::Ip { .. } => return,
        };
        if mac.0[0] & 1 == 1 || mac == Mac::ZERO {
            return;
        }
        let mac = MacAddress(mac);
        let Some(entry) = self.entries.get_mut(&(network, address)) else {
            return;
        };
        let (router, changed) = match entry {
            Entry::Waiting { router, packets, .. } => {
                for p in packets.drain(..) {
                    out.packets.extend(to(s, network, mac, p));
                }
                (*router, true)
            }
            Entry::Known { router, mac: old, .. } => (*router, *old != mac),
            Entry::GivenUp { .. } => return,
        };
        if changed {
            out.neighbors.push((network, address, Some(mac)));
        }
        *entry = Entry::Known {
            router,
            mac,
            check: now + BELIEVED,
            checks: 0,
        };
    }

    /// Asks again, gives up, checks.
    pub fn tick(&mut self, s: &State, now: Duration, out: &mut Response) {
        self.entries.retain(|(network, address), entry| {
            let mut ask = |router: &RouterId, at: Option<Mac>| {
                let request = ask(s, *router, *network, *address, at);
                let packet = request.and_then(|r| in_network(s, *network, r));
                let possible = packet.is_some();
                out.packets.extend(packet);
                possible
            };
            let keep = match entry {
                Entry::Waiting {
                    router, asked, again, ..
                } if *again <= now => {
                    if *asked < TRIES && ask(router, None) {
                        *asked += 1;
                        *again = now + Duration::from_secs(1);
                    } else {
                        *entry = Entry::GivenUp { until: now + GIVEN_UP };
                    }
                    true
                }
                Entry::Known {
                    router,
                    mac,
                    check,
                    checks,
                } if *check <= now => {
                    let asked = *checks < TRIES && ask(router, Some(mac.0));
                    *checks += 1;
                    *check = now + Duration::from_secs(1);
                    asked
                }
                Entry::GivenUp { until } => *until > now,
                Entry::Waiting { .. } | Entry::Known { .. } => true,
            };
            if !keep {
                out.neighbors.push((*network, *address, None));
            }
            keep
        });
    }
}

/// The IPv6 next hop.
fn wide_register(packet: &PacketIn) -> Ipv6Addr {
    let wide = packet.metadata.get(Field::XxReg3).map(|m| m.value());
    let narrow = || (12..16).fold(0, |n, r| n << 32 | u128::from(packet.reg(r)));
    wide.unwrap_or_else(narrow).into()
}

/// Target and MAC of a neighbour advertisement; without the option it is the sender's.
fn advertised(rest: &[u8], sender: Mac) -> Option<(Ipv6Addr, Mac)> {
    let target: [u8; 16] = rest.get(4..20)?.try_into().ok()?;
    let mut options = rest.get(20..)?;
    while let [kind, length, ..] = options
        && *length > 0
    {
        let option = options.get(..usize::from(*length) * 8)?;
        if *kind == 2 {
            return Some((target.into(), Mac(option.get(2..8)?.try_into().ok()?)));
        }
        options = &options[option.len()..];
    }
    Some((target.into(), sender))
}

/// The question where `address` is, from the router's leg in the network.
fn ask(s: &State, router: RouterId, network: NetworkId, address: IpAddr, at: Option<Mac>) -> Option<Vec<u8>> {
    let legs = legs(s, s.router(router)?);
    let near = |leg: &&Leg<'_>| {
        let mut subnets = leg.fixed_ips.iter().filter_map(|ip| s.topology.subnets.get(&ip.subnet));
        subnets.any(|n| n.cidr.contains(&address))
    };
    let mut here = legs.iter().filter(|l| l.network == network);
    let leg = here.clone().find(near).or_else(|| here.next())?;
    match address {
        IpAddr::V4(dst) => {
            let src = leg.fixed_ips.iter().find_map(|ip| match ip.address {
                IpAddr::V4(a) => Some(a),
                IpAddr::V6(_) => None,
            })?;
            arp_request(Ends {
                eth_src: leg.mac.0,
                eth_dst: at.unwrap_or(Mac::BROADCAST),
                src,
                dst,
            })
        }
        IpAddr::V6(target) => solicitation(leg.mac.0, leg.mac.link_local(), target, at),
    }
}

/// A packet that is complete but for its destination.
fn to(s: &State, network: NetworkId, mac: MacAddress, mut data: Vec<u8>) -> Option<openflow::PacketOut> {
    data.get_mut(..6)?.copy_from_slice(&mac.bytes());
    in_network(s, network, data)
}

/// What external networks are to be told: gateways and floating IPs that are here.
pub(super) fn announced(s: &State) -> HashMap<(NetworkId, IpAddr), MacAddress> {
    let gateways = s.topology.routers.keys().filter_map(|id| s.router(*id));
    let gateways = gateways.flat_map(|r| legs(s, r)).filter(|l| l.outside);
    let mut out: HashMap<(NetworkId, IpAddr), MacAddress> = HashMap::new();
    for leg in gateways {
        out.extend(leg.fixed_ips.iter().map(|ip| ((leg.network, ip.address), leg.mac)));
    }
    for f in s.topology.floating_ips.values() {
        if served(s, f).is_some() {
            out.insert((f.network, f.address.into()), f.mac);
        }
    }
    out
}
