//! Match fields of Open vSwitch: their names, widths and OXM/NXM numbers, and one typed value of them.
//!
//! Numbers are those of OpenFlow 1.4 (OXM class 0x8000, section 7.2.3) and of Open vSwitch (`ovs-fields(7)`).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// 00:00:00:00:00:00
    pub const ZERO: Mac = Mac([0; 6]);

    /// The EUI-64 link-local address that SLAAC derives from this address (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let m = self.0;
        Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            m[0] ^ 2,
            m[1],
            m[2],
            0xff,
            0xfe,
            m[3],
            m[4],
            m[5],
        ])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(
            f,
            "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
            m[0], m[1], m[2], m[3], m[4], m[5]
        )
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not six pairs of hexadecimal digits separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;
    fn from_str(s: &str) -> Result<Mac, NotAMac> {
        let mut out = [0u8; 6];
        let mut parts = s.split(':');
        for slot in &mut out {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *slot = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| NotAMac(s.to_owned()))?;
        }
        if parts.next().is_some() {
            Err(NotAMac(s.to_owned()))
        } else {
            Ok(Mac(out))
        }
    }
}

impl From<[u8; 6]> for Mac {
    fn from(m: [u8; 6]) -> Mac {
        Mac(m)
    }
}

/// What can be the value of a field: numbers, addresses.
pub trait FieldValue: Copy {
    /// The value as the number that its network-order bytes spell.
    fn raw(self) -> u128;
}

macro_rules! number_values {
    ($($t:ty),*) => {$(impl FieldValue for $t { fn raw(self) -> u128 { self as u128 } })*};
}
number_values!(u8, u16, u32, u64, u128);

impl FieldValue for Ipv4Addr {
    fn raw(self) -> u128 {
        u128::from(u32::from(self))
    }
}
impl FieldValue for Ipv6Addr {
    fn raw(self) -> u128 {
        u128::from(self)
    }
}
impl FieldValue for Mac {
    fn raw(self) -> u128 {
        self.0.iter().fold(0, |n, b| n << 8 | u128::from(*b))
    }
}
impl FieldValue for [u8; 6] {
    fn raw(self) -> u128 {
        Mac(self).raw()
    }
}

/// How `ovs-ofctl` writes a field's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Decimal,
    Hex,
    Mac,
    Ipv4,
    Ipv6,
    Port,
    CtState,
    Vlan,
    Fragment,
}

pub(crate) struct Info {
    pub name: &'static str,
    pub nxm_name: &'static str,
    pub bits: u8,
    pub form: Form,
    /// Class and number used when sending.
    pub header: (u16, u8),
    /// Other class and number by which the switch may name the same field.
    #[cfg(test)]
    pub alias: Option<(u16, u8)>,
}

const OXM: u16 = 0x8000;
const NX: u16 = 1;
const NXM0: u16 = 0;
const PKT_REG: u16 = 0x8001;
const ERICSSON: u16 = 0x1000;

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident $name:literal $nxm:literal $bits:literal $form:ident ($class:ident, $num:literal) $(($class2:ident, $num2:literal))?;)*) => {
        /// A field of a packet or of its metadata. The order is the order on the wire, in which every field comes
        /// after those that it presupposes (OpenFlow 1.4, section 7.2.3.8).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* $variant,)* }

        impl Field {
            /// Every field there is.
            pub const ALL: &'static [Field] = &[$(Field::$variant),*];

            pub(crate) fn info(self) -> &'static Info {
                const TABLE: &[Info] = &[$(Info {
                    name: $name, nxm_name: $nxm, bits: $bits, form: Form::$form, header: ($class, $num),
                    #[cfg(test)]
                    alias: { #[allow(unused_mut, unused_assignments)] let mut a = None; $(a = Some(($class2, $num2));)? a },
                }),*];
                &TABLE[self as usize]
            }

            pub(crate) fn from_header(class: u16, number: u8) -> Option<Field> {
                match (class, number) {
                    $(($class, $num) => Some(Field::$variant), $(($class2, $num2) => Some(Field::$variant),)?)*
                    _ => None,
                }
            }
        }
    };
}

fields! {
    /// Port by which the packet came in (32 bits, OXM).
    InPort "in_port" "OXM_OF_IN_PORT" 32 Port (OXM, 0);
    /// The same with 16 bits: for loads, moves and the stack (`load:0->NXM_OF_IN_PORT[]` allows sending back).
    InPort16 "in_port" "NXM_OF_IN_PORT" 16 Port (NXM0, 0);
    /// 64 bits that travel between tables.
    Metadata "metadata" "OXM_OF_METADATA" 64 Hex (OXM, 2);
    /// Destination address of the frame.
    EthDst "eth_dst" "NXM_OF_ETH_DST" 48 Mac (OXM, 3) (NXM0, 1);
    /// Source address of the frame.
    EthSrc "eth_src" "NXM_OF_ETH_SRC" 48 Mac (OXM, 4) (NXM0, 2);
    /// EtherType.
    EthType "eth_type" "NXM_OF_ETH_TYPE" 16 Hex (OXM, 5) (NXM0, 3);
    /// VLAN id with 0x1000 for "there is a tag"; 0 is untagged.
    VlanVid "vlan_vid" "OXM_OF_VLAN_VID" 13 Vlan (OXM, 6);
    /// VLAN priority.
    VlanPcp "vlan_pcp" "OXM_OF_VLAN_PCP" 3 Decimal (OXM, 7);
    /// The whole tag control word; for loads and moves.
    VlanTci "vlan_tci" "NXM_OF_VLAN_TCI" 16 Hex (NXM0, 4);
    /// IP differentiated services code point (6 bits).
    IpDscp "ip_dscp" "OXM_OF_IP_DSCP" 6 Decimal (OXM, 8);
    /// IP explicit congestion notification.
    IpEcn "nw_ecn" "NXM_NX_IP_ECN" 2 Decimal (OXM, 9) (NX, 28);
    /// IP protocol.
    IpProto "nw_proto" "NXM_OF_IP_PROTO" 8 Decimal (OXM, 10) (NXM0, 6);
    /// TTL or hop limit.
    IpTtl "nw_ttl" "NXM_NX_IP_TTL" 8 Decimal (NX, 29);
    /// Fragment bits: 1 is any fragment, 3 a later one.
    IpFrag "ip_frag" "NXM_NX_IP_FRAG" 2 Fragment (NX, 26);
    /// IPv4 source.
    Ipv4Src "nw_src" "NXM_OF_IP_SRC" 32 Ipv4 (OXM, 11) (NXM0, 7);
    /// IPv4 destination.
    Ipv4Dst "nw_dst" "NXM_OF_IP_DST" 32 Ipv4 (OXM, 12) (NXM0, 8);
    /// TCP source port.
    TcpSrc "tcp_src" "NXM_OF_TCP_SRC" 16 Decimal (OXM, 13) (NXM0, 9);
    /// TCP destination port.
    TcpDst "tcp_dst" "NXM_OF_TCP_DST" 16 Decimal (OXM, 14) (NXM0, 10);
    /// TCP flags.
    TcpFlags "tcp_flags" "NXM_NX_TCP_FLAGS" 12 Hex (NX, 34) (OXM, 42);
    /// UDP source port.
    UdpSrc "udp_src" "NXM_OF_UDP_SRC" 16 Decimal (OXM, 15) (NXM0, 11);
    /// UDP destination port.
    UdpDst "udp_dst" "NXM_OF_UDP_DST" 16 Decimal (OXM, 16) (NXM0, 12);
    /// SCTP source port.
    SctpSrc "sctp_src" "OXM_OF_SCTP_SRC" 16 Decimal (OXM, 17);
    /// SCTP destination port.
    SctpDst "sctp_dst" "OXM_OF_SCTP_DST" 16 Decimal (OXM, 18);
    /// ICMP type.
    Icmpv4Type "icmp_type" "NXM_OF_ICMP_TYPE" 8 Decimal (OXM, 19) (NXM0, 13);
    /// ICMP code.
    Icmpv4Code "icmp_code" "NXM_OF_ICMP_CODE" 8 Decimal (OXM, 20) (NXM0, 14);
    /// ARP operation.
    ArpOp "arp_op" "NXM_OF_ARP_OP" 16 Decimal (OXM, 21) (NXM0, 15);
    /// ARP sender protocol address.
    ArpSpa "arp_spa" "NXM_OF_ARP_SPA" 32 Ipv4 (OXM, 22) (NXM0, 16);
    /// ARP target protocol address.
    ArpTpa "arp_tpa" "NXM_OF_ARP_TPA" 32 Ipv4 (OXM, 23) (NXM0, 17);
    /// ARP sender hardware address.
    ArpSha "arp_sha" "NXM_NX_ARP_SHA" 48 Mac (OXM, 24) (NX, 17);
    /// ARP target hardware address.
    ArpTha "arp_tha" "NXM_NX_ARP_THA" 48 Mac (OXM, 25) (NX, 18);
    /// IPv6 source.
    Ipv6Src "ipv6_src" "NXM_NX_IPV6_SRC" 128 Ipv6 (OXM, 26) (NX, 19);
    /// IPv6 destination.
    Ipv6Dst "ipv6_dst" "NXM_NX_IPV6_DST" 128 Ipv6 (OXM, 27) (NX, 20);
    /// IPv6 flow label.
    Ipv6Label "ipv6_label" "NXM_NX_IPV6_LABEL" 20 Hex (OXM, 28) (NX, 27);
    /// ICMPv6 type.
    Icmpv6Type "icmpv6_type" "NXM_NX_ICMPV6_TYPE" 8 Decimal (OXM, 29) (NX, 21);
    /// ICMPv6 code.
    Icmpv6Code "icmpv6_code" "NXM_NX_ICMPV6_CODE" 8 Decimal (OXM, 30) (NX, 22);
    /// Target of a neighbour solicitation or advertisement.
    NdTarget "nd_target" "NXM_NX_ND_TARGET" 128 Ipv6 (OXM, 31) (NX, 23);
    /// Source link-layer address option (needs a match on type 135).
    NdSll "nd_sll" "NXM_NX_ND_SLL" 48 Mac (OXM, 32) (NX, 24);
    /// Target link-layer address option (needs a match on type 136).
    NdTll "nd_tll" "NXM_NX_ND_TLL" 48 Mac (OXM, 33) (NX, 25);
    /// Reserved word of a neighbour message: the R, S and O flags are its three highest bits.
    NdReserved "nd_reserved" "ERICOXM_OF_ICMPV6_ND_RESERVED" 32 Hex (ERICSSON, 1);
    /// Type of the first neighbour discovery option (1 source, 2 target).
    NdOptionsType "nd_options_type" "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE" 8 Decimal (ERICSSON, 2);
    /// Tunnel key: VNI of VXLAN and Geneve, key of GRE.
    TunId "tun_id" "NXM_NX_TUN_ID" 64 Hex (OXM, 38) (NX, 16);
    /// Outer IPv4 source.
    TunSrc "tun_src" "NXM_NX_TUN_IPV4_SRC" 32 Ipv4 (NX, 31);
    /// Outer IPv4 destination.
    TunDst "tun_dst" "NXM_NX_TUN_IPV4_DST" 32 Ipv4 (NX, 32);
    /// Outer IPv6 source.
    TunIpv6Src "tun_ipv6_src" "NXM_NX_TUN_IPV6_SRC" 128 Ipv6 (NX, 109);
    /// Outer IPv6 destination.
    TunIpv6Dst "tun_ipv6_dst" "NXM_NX_TUN_IPV6_DST" 128 Ipv6 (NX, 110);
    /// Mark of the packet in the kernel (skb mark).
    PktMark "pkt_mark" "NXM_NX_PKT_MARK" 32 Hex (NX, 33);
    /// Result of a conjunction.
    ConjId "conj_id" "NXM_NX_CONJ_ID" 32 Decimal (NX, 37);
    /// Connection state; see [`ct_state`](crate::ct_state).
    CtState "ct_state" "NXM_NX_CT_STATE" 32 CtState (NX, 105);
    /// Connection tracking zone.
    CtZone "ct_zone" "NXM_NX_CT_ZONE" 16 Decimal (NX, 106);
    /// Mark of the connection.
    CtMark "ct_mark" "NXM_NX_CT_MARK" 32 Hex (NX, 107);
    /// Label of the connection.
    CtLabel "ct_label" "NXM_NX_CT_LABEL" 128 Hex (NX, 108);
    /// Protocol of the connection's original direction.
    CtNwProto "ct_nw_proto" "NXM_NX_CT_NW_PROTO" 8 Decimal (NX, 119);
    /// IPv4 source of the connection's original direction.
    CtNwSrc "ct_nw_src" "NXM_NX_CT_NW_SRC" 32 Ipv4 (NX, 120);
    /// IPv4 destination of the connection's original direction.
    CtNwDst "ct_nw_dst" "NXM_NX_CT_NW_DST" 32 Ipv4 (NX, 121);
    /// IPv6 source of the connection's original direction.
    CtIpv6Src "ct_ipv6_src" "NXM_NX_CT_IPV6_SRC" 128 Ipv6 (NX, 122);
    /// IPv6 destination of the connection's original direction.
    CtIpv6Dst "ct_ipv6_dst" "NXM_NX_CT_IPV6_DST" 128 Ipv6 (NX, 123);
    /// Source port of the connection's original direction.
    CtTpSrc "ct_tp_src" "NXM_NX_CT_TP_SRC" 16 Decimal (NX, 124);
    /// Destination port of the connection's original direction.
    CtTpDst "ct_tp_dst" "NXM_NX_CT_TP_DST" 16 Decimal (NX, 125);
    /// Register 0.
    Reg0 "reg0" "NXM_NX_REG0" 32 Hex (NX, 0);
    /// Register 1.
    Reg1 "reg1" "NXM_NX_REG1" 32 Hex (NX, 1);
    /// Register 2.
    Reg2 "reg2" "NXM_NX_REG2" 32 Hex (NX, 2);
    /// Register 3.
    Reg3 "reg3" "NXM_NX_REG3" 32 Hex (NX, 3);
    /// Register 4.
    Reg4 "reg4" "NXM_NX_REG4" 32 Hex (NX, 4);
    /// Register 5.
    Reg5 "reg5" "NXM_NX_REG5" 32 Hex (NX, 5);
    /// Register 6.
    Reg6 "reg6" "NXM_NX_REG6" 32 Hex (NX, 6);
    /// Register 7.
    Reg7 "reg7" "NXM_NX_REG7" 32 Hex (NX, 7);
    /// Register 8.
    Reg8 "reg8" "NXM_NX_REG8" 32 Hex (NX, 8);
    /// Register 9.
    Reg9 "reg9" "NXM_NX_REG9" 32 Hex (NX, 9);
    /// Register 10.
    Reg10 "reg10" "NXM_NX_REG10" 32 Hex (NX, 10);
    /// Register 11.
    Reg11 "reg11" "NXM_NX_REG11" 32 Hex (NX, 11);
    /// Register 12.
    Reg12 "reg12" "NXM_NX_REG12" 32 Hex (NX, 12);
    /// Register 13.
    Reg13 "reg13" "NXM_NX_REG13" 32 Hex (NX, 13);
    /// Register 14.
    Reg14 "reg14" "NXM_NX_REG14" 32 Hex (NX, 14);
    /// Register 15.
    Reg15 "reg15" "NXM_NX_REG15" 32 Hex (NX, 15);
    /// Registers 0 and 1 as one of 64 bits.
    XReg0 "xreg0" "OXM_OF_PKT_REG0" 64 Hex (PKT_REG, 0);
    /// Registers 2 and 3.
    XReg1 "xreg1" "OXM_OF_PKT_REG1" 64 Hex (PKT_REG, 1);
    /// Registers 4 and 5.
    XReg2 "xreg2" "OXM_OF_PKT_REG2" 64 Hex (PKT_REG, 2);
    /// Registers 6 and 7.
    XReg3 "xreg3" "OXM_OF_PKT_REG3" 64 Hex (PKT_REG, 3);
    /// Registers 8 and 9.
    XReg4 "xreg4" "OXM_OF_PKT_REG4" 64 Hex (PKT_REG, 4);
    /// Registers 10 and 11.
    XReg5 "xreg5" "OXM_OF_PKT_REG5" 64 Hex (PKT_REG, 5);
    /// Registers 12 and 13.
    XReg6 "xreg6" "OXM_OF_PKT_REG6" 64 Hex (PKT_REG, 6);
    /// Registers 14 and 15.
    XReg7 "xreg7" "OXM_OF_PKT_REG7" 64 Hex (PKT_REG, 7);
    /// Registers 0 to 3 as one of 128 bits.
    XxReg0 "xxreg0" "NXM_NX_XXREG0" 128 Hex (NX, 111);
    /// Registers 4 to 7.
    XxReg1 "xxreg1" "NXM_NX_XXREG1" 128 Hex (NX, 112);
    /// Registers 8 to 11.
    XxReg2 "xxreg2" "NXM_NX_XXREG2" 128 Hex (NX, 113);
    /// Registers 12 to 15.
    XxReg3 "xxreg3" "NXM_NX_XXREG3" 128 Hex (NX, 114);
}

impl Field {
    /// Register `n` of 32 bits.
    ///
    /// # Panics
    /// If there is no such register (there are 0 to 15).
    pub fn reg(n: u8) -> Field {
        assert!(n < 16, "there are registers 0 to 15, not {n}");
        Field::ALL[Field::Reg0 as usize + usize::from(n)]
    }

    /// Width in bits.
    pub fn bits(self) -> u8 {
        self.info().bits
    }

    /// The name `ovs-ofctl` knows it by.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Bytes on the wire.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Field::Ipv6Label => 4,
            f => usize::from(f.bits()).div_ceil(8),
        }
    }

    pub(crate) fn full_mask(self) -> u128 {
        u128::MAX >> (128 - u32::from(self.bits()))
    }

    /// The whole field as source or destination of an action.
    pub fn all(self) -> Subfield {
        Subfield {
            field: self,
            offset: 0,
            bits: self.bits(),
        }
    }

    /// `bits` bits from bit `offset` on (0 is the lowest).
    ///
    /// # Panics
    /// If the field has no such bits.
    pub fn part(self, offset: u8, bits: u8) -> Subfield {
        assert!(
            bits > 0 && offset.checked_add(bits).is_some_and(|end| end <= self.bits()),
            "{self:?} has {} bits",
            self.bits()
        );
        Subfield {
            field: self,
            offset,
            bits,
        }
    }
}

/// Some or all bits of a field.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subfield {
    /// The field.
    pub field: Field,
    /// Lowest bit.
    pub offset: u8,
    /// How many.
    pub bits: u8,
}

impl fmt::Display for Subfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.field.info().nxm_name;
        match (self.offset, self.bits) {
            (0, b) if b == self.field.bits() => write!(f, "{name}[]"),
            (o, 1) => write!(f, "{name}[{o}]"),
            (o, b) => write!(f, "{name}[{o}..{}]", u16::from(o) + u16::from(b) - 1),
        }
    }
}

/// A field and what it must be: a condition of a match, or the value that an action sets.
/// Bits outside the mask are zero, so equal conditions compare equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MatchField {
    pub(crate) field: Field,
    pub(crate) value: u128,
    pub(crate) mask: u128,
}

impl MatchField {
    /// `field` is `value`. Bits that the field does not have are dropped.
    pub fn exact(field: Field, value: impl FieldValue) -> MatchField {
        Self::raw(field, value.raw(), u128::MAX)
    }

    /// The bits of `field` that are set in `mask` are those of `value`.
    pub fn masked<V: FieldValue>(field: Field, value: V, mask: V) -> MatchField {
        Self::raw(field, value.raw(), mask.raw())
    }

    pub(crate) fn raw(field: Field, value: u128, mask: u128) -> MatchField {
        let mask = mask & field.full_mask();
        MatchField {
            field,
            value: value & mask,
            mask,
        }
    }

    /// The first `length` bits of `field` are those of `value`.
    pub fn prefix(field: Field, value: impl FieldValue, length: u8) -> MatchField {
        let (bits, full) = (u32::from(field.bits()), field.full_mask());
        let length = u32::from(length).min(bits);
        let mask = if length == 0 { 0 } else { full << (bits - length) & full };
        Self::raw(field, value.raw(), mask)
    }

    /// The field.
    pub fn field(&self) -> Field {
        self.field
    }

    /// The value as a number.
    pub fn value(&self) -> u128 {
        self.value
    }

    /// The bits that matter.
    pub fn mask(&self) -> u128 {
        self.mask
    }

    /// Whether every bit matters.
    pub fn is_exact(&self) -> bool {
        self.mask == self.field.full_mask()
    }
}

impl fmt::Debug for MatchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names of the bits of `ct_state`, lowest first.
pub(crate) const CT_STATE_NAMES: [&str; 8] = ["new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"];

/// Writes only the value (with its mask), as after `name=` in a match or before `->` in `set_field`.
pub(crate) struct ValueOf<'a>(pub &'a MatchField);

impl fmt::Display for ValueOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v, m, exact) = (self.0.value, self.0.mask, self.0.is_exact());
        let mac = |n: u128| {
            let b = n.to_be_bytes();
            Mac([b[10], b[11], b[12], b[13], b[14], b[15]])
        };
        match self.0.field.info().form {
            Form::Mac if exact => write!(f, "{}", mac(v)),
            Form::Mac => write!(f, "{}/{}", mac(v), mac(m)),
            Form::Ipv4 => {
                write!(f, "{}", Ipv4Addr::from(v as u32))?;
                let m = m as u32;
                match m.leading_ones() {
                    32 => Ok(()),
                    n if m.count_ones() == n => write!(f, "/{n}"),
                    _ => write!(f, "/{}", Ipv4Addr::from(m)),
                }
            }
            Form::Ipv6 => {
                write!(f, "{}", Ipv6Addr::from(v))?;
                match m.leading_ones() {
                    128 => Ok(()),
                    n if m.count_ones() == n => write!(f, "/{n}"),
                    _ => write!(f, "/{}", Ipv6Addr::from(m)),
                }
            }
            Form::Port if exact => crate::action::write_port(f, v as u32),
            Form::CtState if m < 256 && m != 0 => {
                for (i, name) in CT_STATE_NAMES.iter().enumerate().filter(|(i, _)| m >> i & 1 == 1) {
                    write!(f, "{}{name}", if v >> i & 1 == 1 { '+' } else { '-' })?;
                }
                Ok(())
            }
            Form::Decimal if exact => write!(f, "{v}"),
            _ if exact => write!(f, "{v:#x}"),
            _ => write!(f, "{v:#x}/{m:#x}"),
        }
    }
}

impl fmt::Display for MatchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.field.name();
        match self.field.info().form {
            Form::Vlan if self.is_exact() && self.value & 0x1000 != 0 => write!(f, "dl_vlan={}", self.value & 0xfff),
            Form::Vlan => write!(f, "vlan_tci={:#06x}/{:#06x}", self.value, self.mask),
            Form::Fragment => f.write_str(match (self.value, self.mask) {
                (0, 3) => "ip_frag=no",
                (1, 3) => "ip_frag=first",
                (3, 3) => "ip_frag=later",
                (0, 2) => "ip_frag=not_later",
                (1, 1) => "ip_frag=yes",
                _ => "ip_frag=no",
            }),
            _ => write!(f, "{name}={}", ValueOf(self)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_they_should_be() {
        for n in 0..16 {
            assert_eq!(Field::reg(n).name(), format!("reg{n}"));
            assert_eq!(Field::reg(n).info().header, (NX, n));
        }
    }

    #[test]
    fn no_two_fields_share_a_number() {
        let mut seen = std::collections::HashSet::new();
        for f in Field::ALL {
            assert!(seen.insert(f.info().header), "{f:?}");
            if let Some(alias) = f.info().alias {
                assert!(seen.insert(alias), "{f:?}");
                assert_eq!(Field::from_header(alias.0, alias.1), Some(*f));
            }
            assert_eq!(Field::from_header(f.info().header.0, f.info().header.1), Some(*f));
        }
    }

    #[test]
    fn values_print_as_ovs_ofctl_writes_them() {
        let show = |m: MatchField| m.to_string();
        assert_eq!(
            show(MatchField::exact(Field::EthSrc, [2, 0, 0, 0, 0xff, 1])),
            "eth_src=02:00:00:00:ff:01"
        );
        assert_eq!(
            show(MatchField::prefix(Field::Ipv4Dst, Ipv4Addr::new(10, 1, 2, 3), 8)),
            "nw_dst=10.0.0.0/8"
        );
        assert_eq!(
            show(MatchField::prefix(
                Field::Ipv6Dst,
                "fe80::1".parse::<Ipv6Addr>().unwrap(),
                10
            )),
            "ipv6_dst=fe80::/10"
        );
        assert_eq!(show(MatchField::exact(Field::VlanVid, 0x1064u16)), "dl_vlan=100");
        assert_eq!(show(MatchField::exact(Field::VlanVid, 0u16)), "vlan_tci=0x0000/0x1fff");
        assert_eq!(
            show(MatchField::masked(Field::CtState, 0x21u32, 0x23u32)),
            "ct_state=+new-est+trk"
        );
        assert_eq!(
            show(MatchField::masked(Field::reg(3), 0x1ffu32, 0xffu32)),
            "reg3=0xff/0xff"
        );
        assert_eq!(show(MatchField::exact(Field::InPort, 0xffff_fffeu32)), "in_port=LOCAL");
    }

    #[test]
    fn addresses_are_read_strictly() {
        assert_eq!(
            "fa:16:3e:00:00:01".parse::<Mac>().unwrap(),
            Mac([0xfa, 0x16, 0x3e, 0, 0, 1])
        );
        for bad in [
            "",
            "fa:16:3e:00:00",
            "fa:16:3e:00:00:1",
            "fa:16:3e:00:00:01:02",
            "fa:16:3e:00:00:+1",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
