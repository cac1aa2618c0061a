//! Fragmenting what may be fragmented (RFC 791, section 3.2), which the switch cannot.

use crate::pipeline::{flag, load, load_flag, register, table};
use crate::state::State;
use etherparse::{Ipv4Header, Ipv4HeaderSlice};
use openflow::{Action, PacketIn, PacketOut, port};

/// Pieces of an IPv4 packet in a frame that fit into `mtu`. None if it must not be fragmented, or is no IPv4.
fn pieces(frame: &[u8], mtu: u16) -> Option<Vec<Vec<u8>>> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    let header: Ipv4Header = Ipv4HeaderSlice::from_slice(ip).ok()?.to_header();
    if ethernet[12..] != [8, 0] || header.dont_fragment {
        return None;
    }
    let payload = ip.get(header.header_len()..usize::from(header.total_len))?;
    let room = usize::from(mtu).checked_sub(header.header_len())? & !7;
    if room == 0 {
        return None;
    }
    let count = payload.len().div_ceil(room);
    let mut out = Vec::with_capacity(count);
    for (i, part) in payload.chunks(room).enumerate() {
        let mut h = header.clone();
        let offset = usize::from(header.fragment_offset.value()) + i * room / 8;
        h.fragment_offset = u16::try_from(offset).ok()?.try_into().ok()?;
        h.more_fragments = header.more_fragments || i + 1 < count;
        if i > 0 {
            // Later ones carry only the options that ask for it; those of guests do not matter to anyone.
            h.options = Default::default();
        }
        h.set_payload_len(part.len()).ok()?;
        h.header_checksum = h.calc_header_checksum();
        let mut piece = ethernet.to_vec();
        h.write(&mut piece).ok()?;
        piece.extend_from_slice(part);
        out.push(piece);
    }
    Some(out)
}

/// Sends a packet that was too large on its way in pieces. None if it must not be fragmented.
pub(super) fn forward(s: &State, packet: &PacketIn) -> Option<Vec<PacketOut>> {
    let tag = packet.reg(register::NETWORK);
    let mtu = s.network(*s.tags.get(&tag)?)?.mtu;
    let outside = packet.reg(register::FLAGS) >> flag::TO_OUTSIDE & 1 == 1;
    let actions = vec![
        load(register::NETWORK, tag),
        load(register::ROUTER, packet.reg(register::ROUTER)),
        load(register::NEXT_HOP, packet.reg(register::NEXT_HOP)),
        load_flag(flag::ROUTED, true),
        load_flag(flag::TO_OUTSIDE, outside),
        Action::resubmit(table::OVERSIZE),
    ];
    let send = |data| PacketOut {
        in_port: port::CONTROLLER,
        actions: actions.clone(),
        data,
    };
    Some(pieces(&packet.data, mtu)?.into_iter().map(send).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use etherparse::IpFragOffset;

    #[test]
    fn the_pieces_are_the_whole() {
        let payload: Vec<u8> = (0..1400).map(|i| i as u8).collect();
        let mut frame = Vec::new();
        let mut ip = Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        ip.dont_fragment = false;
        ip.more_fragments = true;
        ip.fragment_offset = IpFragOffset::try_new(100).unwrap();
        ip.set_payload_len(payload.len()).unwrap();
        frame.extend([4u8; 6]);
        frame.extend([2u8; 6]);
        frame.extend([8, 0]);
        ip.header_checksum = ip.calc_header_checksum();
        ip.write(&mut frame).unwrap();
        frame.extend(&payload);

        let mut whole = Vec::new();
        for piece in pieces(&frame, 600).unwrap() {
            assert!(piece.len() <= 614 && piece[..14] == frame[..14]);
            let h = Ipv4HeaderSlice::from_slice(&piece[14..]).unwrap().to_header();
            assert_eq!(h.header_checksum, h.calc_header_checksum());
            assert_eq!(usize::from(h.fragment_offset.value()), 100 + whole.len() / 8);
            assert!(h.more_fragments, "the whole was not the last one either");
            whole.extend_from_slice(&piece[34..]);
        }
        assert_eq!(whole, payload);
        ip.dont_fragment = true;
        frame.truncate(14);
        ip.header_checksum = ip.calc_header_checksum();
        ip.write(&mut frame).unwrap();
        frame.extend(&payload);
        assert_eq!(pieces(&frame, 600), None);
    }
}
