//! Forgetting connections, as when a security group no longer allows them.

use std::fmt;
use std::net::IpAddr;

/// Which connections of a zone; what is not given is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connections {
    /// Zone.
    pub zone: u16,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// Source of the first packet.
    pub source: Option<IpAddr>,
    /// Destination of the first packet.
    pub destination: Option<IpAddr>,
    /// Source port, or ICMP id; needs a protocol.
    pub source_port: Option<u16>,
    /// Destination port; needs a protocol.
    pub destination_port: Option<u16>,
}

impl Connections {
    /// All of a zone.
    pub fn of_zone(zone: u16) -> Connections {
        Connections {
            zone,
            ..Connections::default()
        }
    }

    pub(super) fn has_tuple(&self) -> bool {
        *self != Connections::of_zone(self.zone)
    }

    fn is_v6(&self) -> bool {
        self.source.or(self.destination).is_some_and(|a| a.is_ipv6())
    }
}

/// As `ovs-appctl dpctl/flush-conntrack` takes the tuple.
impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (src, dst) = if self.is_v6() {
            ("ct_ipv6_src", "ct_ipv6_dst")
        } else {
            ("ct_nw_src", "ct_nw_dst")
        };
        let mut parts = Vec::new();
        if let Some(a) = self.source {
            parts.push(format!("{src}={a}"));
        }
        if let Some(a) = self.destination {
            parts.push(format!("{dst}={a}"));
        }
        if let Some(p) = self.protocol {
            parts.push(format!("ct_nw_proto={p}"));
        }
        let icmp = matches!(self.protocol, Some(1 | 58));
        if let Some(p) = self.source_port {
            parts.push(format!("{}={p}", if icmp { "icmp_id" } else { "ct_tp_src" }));
        }
        if let Some(p) = self.destination_port.filter(|_| !icmp) {
            parts.push(format!("ct_tp_dst={p}"));
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_written_as_the_switch_reads_them() {
        let c = Connections {
            protocol: Some(6),
            destination_port: Some(80),
            ..Connections::of_zone(5)
        };
        assert_eq!(
            (c.to_string().as_str(), c.has_tuple()),
            ("ct_nw_proto=6,ct_tp_dst=80", true)
        );
        let c = Connections {
            source: Some("fd00::1".parse().unwrap()),
            ..Connections::of_zone(5)
        };
        assert_eq!(c.to_string(), "ct_ipv6_src=fd00::1");
        assert!(!Connections::of_zone(9).has_tuple());
    }
}
