//! `extra_dhcp_opts`: options by the names that dnsmasq (so Neutron's users) knows, or by number.

use ipnet::Ipv4Net;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How an option's value is written.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    Addresses,
    U8,
    U16,
    U32,
    Text,
    Domains,
    Routes,
    /// As what the text looks like, as dnsmasq does with options it does not know.
    Guess,
}

/// DHCPv4 options (IANA's registry), dnsmasq's names.
const V4: &[(&str, u8, Form)] = &[
    ("netmask", 1, Form::Addresses),
    ("time-offset", 2, Form::U32),
    ("router", 3, Form::Addresses),
    ("dns-server", 6, Form::Addresses),
    ("log-server", 7, Form::Addresses),
    ("lpr-server", 9, Form::Addresses),
    ("hostname", 12, Form::Text),
    ("boot-file-size", 13, Form::U16),
    ("domain-name", 15, Form::Text),
    ("swap-server", 16, Form::Addresses),
    ("root-path", 17, Form::Text),
    ("extension-path", 18, Form::Text),
    ("ip-forward-enable", 19, Form::U8),
    ("non-local-source-routing", 20, Form::U8),
    ("policy-filter", 21, Form::Addresses),
    ("max-datagram-reassembly", 22, Form::U16),
    ("default-ttl", 23, Form::U8),
    ("mtu", 26, Form::U16),
    ("all-subnets-local", 27, Form::U8),
    ("broadcast", 28, Form::Addresses),
    ("router-discovery", 31, Form::U8),
    ("router-solicitation", 32, Form::Addresses),
    ("static-route", 33, Form::Addresses),
    ("trailer-encapsulation", 34, Form::U8),
    ("arp-timeout", 35, Form::U32),
    ("ethernet-encap", 36, Form::U8),
    ("tcp-ttl", 37, Form::U8),
    ("tcp-keepalive", 38, Form::U32),
    ("nis-domain", 40, Form::Text),
    ("nis-server", 41, Form::Addresses),
    ("ntp-server", 42, Form::Addresses),
    ("vendor-encap", 43, Form::Guess),
    ("netbios-ns", 44, Form::Addresses),
    ("netbios-dd", 45, Form::Addresses),
    ("netbios-nodetype", 46, Form::U8),
    ("netbios-scope", 47, Form::Text),
    ("x-windows-fs", 48, Form::Addresses),
    ("x-windows-dm", 49, Form::Addresses),
    ("lease-time", 51, Form::U32),
    ("server-identifier", 54, Form::Addresses),
    ("T1", 58, Form::U32),
    ("T2", 59, Form::U32),
    ("vendor-class", 60, Form::Text),
    ("nis+-domain", 64, Form::Text),
    ("nis+-server", 65, Form::Addresses),
    ("tftp-server", 66, Form::Text),
    ("tftp-server-name", 66, Form::Text),
    ("bootfile-name", 67, Form::Text),
    ("mobile-ip-home", 68, Form::Addresses),
    ("smtp-server", 69, Form::Addresses),
    ("pop3-server", 70, Form::Addresses),
    ("nntp-server", 71, Form::Addresses),
    ("irc-server", 74, Form::Addresses),
    ("user-class", 77, Form::Text),
    ("posix-timezone", 100, Form::Text),
    ("tzdb-timezone", 101, Form::Text),
    ("domain-search", 119, Form::Domains),
    ("classless-static-route", 121, Form::Routes),
    ("wpad", 252, Form::Text),
    ("tftp-server-address", 150, Form::Addresses),
    ("path-prefix", 210, Form::Text),
];

/// DHCPv6 options, dnsmasq's names.
const V6: &[(&str, u16, Form)] = &[
    ("dns-server", 23, Form::Addresses),
    ("domain-search", 24, Form::Domains),
    ("nis-server", 27, Form::Addresses),
    ("nis+-server", 28, Form::Addresses),
    ("nis-domain", 29, Form::Domains),
    ("nis+-domain", 30, Form::Domains),
    ("sntp-server", 31, Form::Addresses),
    ("information-refresh-time", 32, Form::U32),
    ("ntp-server", 56, Form::Addresses),
    ("bootfile-url", 59, Form::Text),
    ("bootfile-param", 60, Form::Text),
];

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|s| !s.is_empty())
}

/// Domain names as in DNS (RFC 1035, 3.1). None if one is none.
pub(super) fn domains<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for name in names {
        for label in name.trim_end_matches('.').split('.') {
            out.push(u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?);
            out.extend(label.as_bytes());
        }
        out.push(0);
    }
    Some(out)
}

/// Routes as in option 121 (RFC 3442).
pub(super) fn routes(routes: &[(Ipv4Net, Ipv4Addr)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (net, via) in routes {
        out.push(net.prefix_len());
        let significant = usize::from(net.prefix_len()).div_ceil(8);
        out.extend(&net.network().octets()[..significant]);
        out.extend(via.octets());
    }
    out
}

fn number(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

/// `01:02:0a` as bytes.
fn colons(value: &str) -> Option<Vec<u8>> {
    let parts = value.contains(':').then(|| value.split(':'))?;
    parts
        .map(|p| u8::from_str_radix(p, 16).ok().filter(|_| p.len() <= 2))
        .collect()
}

fn write(form: Form, value: &str, v4: bool) -> Option<Vec<u8>> {
    let addresses = || -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for item in items(value) {
            if v4 {
                out.extend(item.parse::<Ipv4Addr>().ok()?.octets());
            } else {
                let item = item.trim_start_matches('[').trim_end_matches(']');
                out.extend(item.parse::<Ipv6Addr>().ok()?.octets());
            }
        }
        (!out.is_empty()).then_some(out)
    };
    match form {
        Form::Addresses => addresses(),
        Form::U8 => Some(vec![u8::try_from(number(value)?).ok()?]),
        Form::U16 => Some(u16::try_from(number(value)?).ok()?.to_be_bytes().to_vec()),
        Form::U32 => Some(u32::try_from(number(value)?).ok()?.to_be_bytes().to_vec()),
        Form::Text => Some(value.as_bytes().to_vec()),
        Form::Domains => domains(items(value)),
        Form::Routes => {
            let parts: Vec<&str> = items(value).collect();
            let mut out = Vec::new();
            for pair in parts.chunks(2) {
                let [net, via] = pair else { return None };
                let net = match net.contains('/') {
                    true => net.parse().ok()?,
                    false => Ipv4Net::from(net.parse::<Ipv4Addr>().ok()?),
                };
                out.push((net, via.parse().ok()?));
            }
            Some(routes(&out))
        }
        Form::Guess => addresses().or_else(|| colons(value)).or_else(|| {
            let n = number(value);
            match n.map(|n| (u8::try_from(n), u16::try_from(n), u32::try_from(n))) {
                Some((Ok(n), _, _)) => Some(vec![n]),
                Some((_, Ok(n), _)) => Some(n.to_be_bytes().to_vec()),
                Some((_, _, Ok(n))) => Some(n.to_be_bytes().to_vec()),
                _ => Some(value.as_bytes().to_vec()),
            }
        }),
    }
}

/// A DHCPv4 option. None if nobody knows the name or the value is not of its kind.
pub(super) fn v4(name: &str, value: &str) -> Option<(u8, Vec<u8>)> {
    let name = name.strip_prefix("option:").unwrap_or(name);
    let known = match name.parse::<u8>() {
        // Padding and end are no options.
        Ok(0 | 255) => return None,
        Ok(n) => V4.iter().find(|o| o.1 == n).copied().unwrap_or(("", n, Form::Guess)),
        Err(_) => *V4.iter().find(|o| o.0.eq_ignore_ascii_case(name))?,
    };
    Some((known.1, write(known.2, value, true)?))
}

/// A DHCPv6 option.
pub(super) fn v6(name: &str, value: &str) -> Option<(u16, Vec<u8>)> {
    let name = name.strip_prefix("option6:").unwrap_or(name);
    let known = match name.parse::<u16>() {
        Ok(n) => V6.iter().find(|o| o.1 == n).copied().unwrap_or(("", n, Form::Guess)),
        Err(_) => *V6.iter().find(|o| o.0.eq_ignore_ascii_case(name))?,
    };
    Some((known.1, write(known.2, value, false)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_by_name_and_by_number() {
        assert_eq!(v4("mtu", "1400"), Some((26, vec![5, 120])));
        assert_eq!(v4("26", "1400"), Some((26, vec![5, 120])));
        assert_eq!(
            v4("dns-server", "1.1.1.1, 8.8.8.8"),
            Some((6, vec![1, 1, 1, 1, 8, 8, 8, 8]))
        );
        assert_eq!(v4("bootfile-name", "pxe.0"), Some((67, b"pxe.0".to_vec())));
        assert_eq!(
            v4("classless-static-route", "10.0.0.0/8,1.2.3.4"),
            Some((121, vec![8, 10, 1, 2, 3, 4]))
        );
        assert_eq!(v4("domain-search", "a.bc"), Some((119, b"\x01a\x02bc\0".to_vec())));
        assert_eq!(v4("224", "01:ff"), Some((224, vec![1, 255])));
        assert_eq!(v4("224", "hello"), Some((224, b"hello".to_vec())));
        assert_eq!(v4("nonsense", "1"), None);
        assert_eq!(v4("mtu", "many"), None);
        assert_eq!(v4("255", "1"), None);
        assert_eq!(
            v6("dns-server", "[2001:db8::1]").map(|o| (o.0, o.1.len())),
            Some((23, 16))
        );
    }
}
