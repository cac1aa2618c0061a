//! Frames: what is read of them, and how they are made. Nothing here trusts a length.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, SlicedPacket};
use etherparse::{NetSlice, TransportSlice};
use openflow::Mac;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame, as far as it was understood.
pub(crate) struct Frame<'a> {
    pub eth_src: Mac,
    pub eth_dst: Mac,
    pub body: Body<'a>,
}

pub(crate) enum Body<'a> {
    Arp {
        sha: Mac,
        spa: Ipv4Addr,
    },
    Ip {
        src: IpAddr,
        dst: IpAddr,
        /// Not the first fragment.
        later_fragment: bool,
        transport: Transport<'a>,
        /// From the IP header to the end of the IP packet.
        packet: &'a [u8],
    },
}

pub(crate) enum Transport<'a> {
    Udp {
        payload: &'a [u8],
    },
    /// ICMPv4 or ICMPv6, by the addresses.
    Icmp {
        kind: u8,
        /// After the type, the code and the checksum.
        rest: &'a [u8],
    },
    Other,
}

fn mac_at(data: &[u8], at: usize) -> Option<Mac> {
    Some(Mac(data.get(at..at + 6)?.try_into().ok()?))
}

impl<'a> Frame<'a> {
    /// Reads an Ethernet frame; none if it is no ARP or IP that makes sense.
    pub(crate) fn read(data: &'a [u8]) -> Option<Frame<'a>> {
        let (eth_dst, eth_src) = (mac_at(data, 0)?, mac_at(data, 6)?);
        let sliced = SlicedPacket::from_ethernet(data).ok()?;
        let body = match sliced.net? {
            NetSlice::Arp(arp) => {
                let arp = arp.to_packet().try_eth_ipv4().ok()?;
                Body::Arp {
                    sha: Mac(arp.sender_mac),
                    spa: arp.sender_ipv4.into(),
                }
            }
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                Body::Ip {
                    src: header.source_addr().into(),
                    dst: header.destination_addr().into(),
                    later_fragment: header.fragments_offset().value() > 0,
                    transport: transport(&sliced.transport),
                    packet: data.get(14..14 + usize::from(header.total_len()))?,
                }
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let length = 40 + usize::from(header.payload_length());
                Body::Ip {
                    src: header.source_addr().into(),
                    dst: header.destination_addr().into(),
                    later_fragment: ip.is_payload_fragmented(),
                    transport: transport(&sliced.transport),
                    packet: data.get(14..14 + length)?,
                }
            }
        };
        Some(Frame { eth_src, eth_dst, body })
    }
}

fn transport<'a>(t: &Option<TransportSlice<'a>>) -> Transport<'a> {
    match t {
        Some(TransportSlice::Udp(udp)) => Transport::Udp { payload: udp.payload() },
        Some(TransportSlice::Icmpv4(icmp)) => Transport::Icmp {
            kind: icmp.type_u8(),
            rest: icmp.slice().get(4..).unwrap_or_default(),
        },
        Some(TransportSlice::Icmpv6(icmp)) => Transport::Icmp {
            kind: icmp.type_u8(),
            rest: icmp.slice().get(4..).unwrap_or_default(),
        },
        _ => Transport::Other,
    }
}

/// Where a frame goes from and to.
#[derive(Clone, Copy)]
pub(crate) struct Ends<A> {
    pub eth_src: Mac,
    pub eth_dst: Mac,
    pub src: A,
    pub dst: A,
}

/// UDP in a frame. None if the addresses are of two families or the payload does not fit.
pub(crate) fn udp(ends: Ends<IpAddr>, ports: (u16, u16), payload: &[u8]) -> Option<Vec<u8>> {
    let eth = PacketBuilder::ethernet2(ends.eth_src.0, ends.eth_dst.0);
    let ip = match (ends.src, ends.dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => eth.ipv4(s.octets(), d.octets(), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => eth.ipv6(s.octets(), d.octets(), 64),
        _ => return None,
    };
    let mut out = Vec::with_capacity(payload.len() + 64);
    ip.udp(ports.0, ports.1).write(&mut out, payload).ok()?;
    Some(out)
}

/// ICMP or ICMPv6 in a frame.
pub(crate) fn icmp(ends: Ends<IpAddr>, ttl: u8, kind: u8, code: u8, word: [u8; 4], payload: &[u8]) -> Option<Vec<u8>> {
    let eth = PacketBuilder::ethernet2(ends.eth_src.0, ends.eth_dst.0);
    let mut out = Vec::with_capacity(payload.len() + 64);
    match (ends.src, ends.dst) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let ip = eth.ipv4(s.octets(), d.octets(), ttl);
            ip.icmpv4_raw(kind, code, word).write(&mut out, payload).ok()?;
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let ip = eth.ipv6(s.octets(), d.octets(), ttl);
            ip.icmpv6_raw(kind, code, word).write(&mut out, payload).ok()?;
        }
        _ => return None,
    }
    Some(out)
}

/// An ARP request for `dst`, to everyone or, to see whether it is still there, to one.
pub(crate) fn arp_request(ends: Ends<Ipv4Addr>) -> Option<Vec<u8>> {
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &ends.eth_src.0,
        &ends.src.octets(),
        &[0; 6],
        &ends.dst.octets(),
    )
    .ok()?;
    let mut out = Vec::with_capacity(42);
    let frame = PacketBuilder::ethernet2(ends.eth_src.0, ends.eth_dst.0).arp(arp);
    frame.write(&mut out).ok()?;
    Some(out)
}

/// Tells everyone that `address` is at `mac` (RFC 5227: an ARP request for oneself; RFC 4861, 7.2.6).
pub(crate) fn announcement(address: IpAddr, mac: Mac) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(a) => arp_request(Ends {
            eth_src: mac,
            eth_dst: Mac::BROADCAST,
            src: a,
            dst: a,
        }),
        IpAddr::V6(a) => {
            let ends = Ends {
                eth_src: mac,
                eth_dst: ALL_NODES_MAC,
                src: address,
                dst: ALL_NODES.into(),
            };
            let mut body = a.octets().to_vec();
            body.extend([2, 1]);
            body.extend(mac.0);
            // Router and override.
            icmp(ends, 255, 136, 0, [0xa0, 0, 0, 0], &body)
        }
    }
}

/// A neighbour solicitation for `target`.
pub(crate) fn solicitation(mac: Mac, src: Ipv6Addr, target: Ipv6Addr, at: Option<Mac>) -> Option<Vec<u8>> {
    let t = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15]]);
    let ends = Ends {
        eth_src: mac,
        eth_dst: at.unwrap_or(Mac([0x33, 0x33, 0xff, t[13], t[14], t[15]])),
        src: src.into(),
        dst: if at.is_some() { target } else { group }.into(),
    };
    let mut body = t.to_vec();
    body.extend([1, 1]);
    body.extend(mac.0);
    icmp(ends, 255, 135, 0, [0; 4], &body)
}

/// ff02::1
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
