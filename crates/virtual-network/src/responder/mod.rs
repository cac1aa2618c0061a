//! Answers to the packets that flows cannot answer: DHCP, router advertisements, ICMP errors, and finding out the MACs of
//! next hops. Nothing here waits, reads a clock or does I/O; packets come in, packets and neighbours go out.

mod advertisement;
mod dhcp4;
mod dhcp6;
mod fragment;
mod frame;
mod icmp;
mod neighbors;
mod options;

use crate::compiler::Compiler;
use crate::numbers::ZoneOwner;
use crate::pipeline::{Trap, flag, load, load_flag, register, table};
use crate::state::{LocalPort, State};
use crate::topology::{MacAddress, NetworkId, RouterId};
use frame::Frame;
use openflow::{Action, PacketIn, PacketOut, port};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// What a packet or the passing of time leads to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Response {
    /// To be sent at the integration bridge.
    pub packets: Vec<PacketOut>,
    /// To be told to [`Compiler::set_neighbors`], and its flows applied.
    pub neighbors: Vec<Neighbor>,
}

/// What became known of a neighbour: its MAC, [`openflow::Mac::ZERO`] while it does not answer (packets to it are dropped), or
/// nothing any more (`None`: the next packet to it asks again).
pub type Neighbor = (NetworkId, IpAddr, Option<MacAddress>);

/// How much of something one sender can cause: per second, and at once.
#[derive(Clone, Copy)]
struct Limit(f64, f64);

/// ICMP errors.
const ERRORS: Limit = Limit(10.0, 20.0);
/// Packets to be fragmented.
const FRAGMENTED: Limit = Limit(500.0, 500.0);
/// Senders that are remembered for that.
const SENDERS: usize = 4096;

/// Answers packets. Keeps what it is waiting for: MACs it asked for and the packets that need them.
#[derive(Default)]
pub struct Responder {
    neighbors: neighbors::Table,
    /// Sender (port, or network if it is none of ours) and what -> when, and how much of it it may still cause.
    budget: HashMap<(u32, u32, bool), (Duration, f64)>,
    announced: HashMap<(NetworkId, IpAddr), MacAddress>,
    advertised: HashMap<(NetworkId, MacAddress), Vec<u8>>,
    /// The state of routing that the two are of.
    routing: Option<u64>,
}

impl Responder {
    /// One that waits for nothing.
    pub fn new() -> Responder {
        Responder::default()
    }

    /// Answers a packet. `now` is the time since any fixed moment, and never goes back.
    pub fn respond(&mut self, compiler: &Compiler, packet: &PacketIn, now: Duration) -> Response {
        let mut out = Response::default();
        let (Some(trap), Some(frame)) = (Trap::from_userdata(&packet.userdata), Frame::read(&packet.data)) else {
            return out;
        };
        let s = &compiler.state;
        match trap {
            Trap::Dhcp4 => {
                if let Some(p) = sender(s, packet) {
                    let answer = dhcp4::answer(s, &p, &frame);
                    out.packets.extend(answer.map(|a| PacketOut::to_port(p.number, a)));
                }
            }
            Trap::Dhcp6 => {
                if let Some(p) = sender(s, packet) {
                    let answer = dhcp6::answer(s, &p, &frame);
                    out.packets.extend(answer.map(|a| PacketOut::to_port(p.number, a)));
                }
            }
            Trap::RouterSolicitation => {
                if let Some(p) = sender(s, packet) {
                    let answers = advertisement::solicited(s, &p, &frame);
                    out.packets
                        .extend(answers.into_iter().map(|a| PacketOut::to_port(p.number, a)));
                }
            }
            Trap::TimeExceeded | Trap::PortUnreachable | Trap::NoRoute | Trap::TooBig => {
                let pieces = if trap == Trap::TooBig {
                    fragment::forward(s, packet)
                } else {
                    None
                };
                if let Some(pieces) = pieces {
                    if self.may(packet, FRAGMENTED, true, now) {
                        out.packets.extend(pieces);
                    }
                } else if let Some(router) = router(s, packet)
                    && self.may(packet, ERRORS, false, now)
                {
                    out.packets.extend(icmp::error(s, trap, router, packet, &frame));
                }
            }
            Trap::Resolve => {
                if let Some(router) = router(s, packet) {
                    self.neighbors.resolve(s, router, packet, &frame, now, &mut out);
                }
            }
            Trap::Learn => {
                if let Some(network) = s.tags.get(&packet.reg(register::NETWORK)) {
                    self.neighbors.learn(s, *network, &frame, now, &mut out);
                }
            }
        }
        out
    }

    /// What the passing of time leads to: to be asked about once a second.
    pub fn tick(&mut self, compiler: &Compiler, now: Duration) -> Response {
        let mut out = Response::default();
        self.neighbors.tick(&compiler.state, now, &mut out);
        self.budget
            .retain(|_, (at, _)| now.saturating_sub(*at) < Duration::from_secs(10));
        out
    }

    /// Router advertisements nobody asked for: to be sent every [`ADVERTISE_EVERY`](Responder::ADVERTISE_EVERY).
    pub fn advertise(&self, compiler: &Compiler) -> Vec<PacketOut> {
        let all = advertisement::unsolicited(&compiler.state);
        all.into_iter().map(|(_, packet)| packet).collect()
    }

    /// Neutron's agents advertise every 30 to 100 seconds.
    pub const ADVERTISE_EVERY: Duration = Duration::from_secs(60);

    /// To be called after the flows of a change are applied. Tells external networks of the gateways and floating IPs that are
    /// new here, so that nobody sends to where they were before, and guests of routers that advertise something new.
    pub fn announce(&mut self, compiler: &Compiler) -> Vec<PacketOut> {
        let s = &compiler.state;
        let mut out = Vec::new();
        if self.routing.replace(s.routing) == Some(s.routing) {
            return out;
        }
        let here = neighbors::announced(s);
        self.announced.retain(|k, mac| here.get(k) == Some(mac));
        for ((network, address), mac) in here {
            if self.announced.insert((network, address), mac) != Some(mac)
                && let Some(frame) = frame::announcement(address, mac.0)
            {
                out.extend(in_network(s, network, frame));
            }
        }
        let mut advertised = HashMap::new();
        for (from, packet) in advertisement::unsolicited(s) {
            if self.advertised.get(&from) != Some(&packet.data) {
                out.push(packet.clone());
            }
            advertised.insert(from, packet.data);
        }
        self.advertised = advertised;
        out
    }

    fn may(&mut self, packet: &PacketIn, limit: Limit, what: bool, now: Duration) -> bool {
        let sender = (packet.reg(register::SOURCE), packet.reg(register::NETWORK), what);
        if self.budget.len() >= SENDERS && !self.budget.contains_key(&sender) {
            return false;
        }
        let (at, left) = self.budget.entry(sender).or_insert((now, limit.1));
        let earned = now.saturating_sub(*at).as_secs_f64() * limit.0;
        (*at, *left) = (now, (*left + earned).min(limit.1));
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// The local port that sent a packet.
fn sender<'a>(s: &'a State, packet: &PacketIn) -> Option<LocalPort<'a>> {
    match s.owners.get(&packet.reg(register::SOURCE))? {
        ZoneOwner::Port(id) => s.local(*id),
        ZoneOwner::Router(_) => None,
    }
}

/// The router that had a packet.
fn router(s: &State, packet: &PacketIn) -> Option<RouterId> {
    match s.owners.get(&packet.reg(register::ROUTER))? {
        ZoneOwner::Router(id) => Some(*id),
        ZoneOwner::Port(_) => None,
    }
}

/// Sends a frame into a network, as a router there would.
fn in_network(s: &State, network: NetworkId, data: Vec<u8>) -> Option<PacketOut> {
    Some(PacketOut {
        in_port: port::CONTROLLER,
        actions: vec![
            load(register::NETWORK, s.tag(network)?),
            load_flag(flag::ROUTED, true),
            Action::resubmit(table::L2),
        ],
        data,
    })
}

#[cfg(test)]
mod tests;
