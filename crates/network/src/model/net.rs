//! Addresses and prefixes, with the little arithmetic that subnets need.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A prefix with the address it was written with (`10.5.117.0/8` keeps its host part until [`Cidr::network`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix.
    pub prefix: u8,
}

/// The address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// The address with this number, of the family of `like`.
pub fn address(number: u128, v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(Ipv6Addr::from(number)) } else { IpAddr::V4(Ipv4Addr::from(number as u32)) }
}

/// The address as text that sorts as the number does within its family: lower-case hexadecimal of fixed length.
pub fn sort_key(number: u128, v6: bool) -> String {
    if v6 { format!("{number:032x}") } else { format!("{number:08x}") }
}

/// Reads what [`sort_key`] wrote.
pub fn from_sort_key(key: &str) -> u128 {
    u128::from_str_radix(key, 16).unwrap_or(0)
}

impl Cidr {
    /// Reads `address/length`; a bare address is a prefix of full length.
    pub fn parse(text: &str) -> Option<Cidr> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => {
                if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                (address.parse::<IpAddr>().ok()?, Some(prefix.parse::<u8>().ok()?))
            }
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Cidr { address, prefix })
    }

    /// Whether it is IPv6.
    pub fn v6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// 4 or 6.
    pub fn version(&self) -> i64 {
        if self.v6() { 6 } else { 4 }
    }

    fn host_mask(&self) -> u128 {
        let host_bits = if self.v6() { 128 } else { 32 } - u32::from(self.prefix);
        if host_bits == 128 { u128::MAX } else { (1u128 << host_bits) - 1 }
    }

    /// The number of the first address.
    pub fn first(&self) -> u128 {
        number(self.address) & !self.host_mask()
    }

    /// The number of the last address.
    pub fn last(&self) -> u128 {
        self.first() | self.host_mask()
    }

    /// The prefix without host part.
    pub fn network(&self) -> Cidr {
        Cidr { address: address(self.first(), self.v6()), prefix: self.prefix }
    }

    /// Whether the address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.v6() && (self.first()..=self.last()).contains(&number(ip))
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.v6() == other.v6() && self.first() <= other.last() && other.first() <= self.last()
    }

    /// Whether all of `other` is in it.
    pub fn covers(&self, other: &Cidr) -> bool {
        self.v6() == other.v6() && self.first() <= other.first() && other.last() <= self.last()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The EUI-64 address of a MAC in a /64 (RFC 4291, appendix A).
pub fn eui64(prefix: &Cidr, mac: &str) -> Option<IpAddr> {
    let bytes: Vec<u8> = mac.split(':').filter_map(|b| u8::from_str_radix(b, 16).ok()).collect();
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Some(address((prefix.first() & !u128::from(u64::MAX)) | u128::from(id), true))
}

/// Whether the address looks like one that [`eui64`] made.
pub fn is_eui64(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(a) if a.octets()[11] == 0xff && a.octets()[12] == 0xfe)
}

/// Merges prefixes into the shortest list that covers the same addresses, as netaddr's `IPSet.compact` does.
pub fn compact(prefixes: &[Cidr]) -> Vec<Cidr> {
    let mut ranges: Vec<(bool, u128, u128)> = prefixes.iter().map(|c| (c.v6(), c.first(), c.last())).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(bool, u128, u128)> = Vec::new();
    for (v6, first, last) in ranges {
        match merged.last_mut() {
            Some((of, _, end)) if *of == v6 && first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => merged.push((v6, first, last)),
        }
    }
    merged.into_iter().flat_map(|(v6, first, last)| range_to_prefixes(first, last, v6)).collect()
}

/// The fewest prefixes that are exactly `first..=last`.
pub fn range_to_prefixes(first: u128, last: u128, v6: bool) -> Vec<Cidr> {
    let bits: u32 = if v6 { 128 } else { 32 };
    let mut out = Vec::new();
    let mut at = first;
    loop {
        let mut host = at.trailing_zeros().min(bits);
        while host > 0 && (host == 128 && last != u128::MAX || host < 128 && at + ((1u128 << host) - 1) > last) {
            host -= 1;
        }
        out.push(Cidr { address: address(at, v6), prefix: (bits - host) as u8 });
        let size = if host == 128 { return out } else { 1u128 << host };
        match at.checked_add(size) {
            Some(next) if next <= last => at = next,
            _ => return out,
        }
    }
}

/// What is left of `prefixes` without `taken`.
pub fn difference(prefixes: &[Cidr], taken: &[Cidr]) -> Vec<Cidr> {
    let mut left: Vec<(bool, u128, u128)> = compact(prefixes).iter().map(|c| (c.v6(), c.first(), c.last())).collect();
    for cut in taken {
        let (v6, first, last) = (cut.v6(), cut.first(), cut.last());
        left = left
            .into_iter()
            .flat_map(|(of, a, b)| {
                if of != v6 || last < a || first > b {
                    return vec![(of, a, b)];
                }
                let mut parts = Vec::new();
                if first > a {
                    parts.push((of, a, first - 1));
                }
                if last < b {
                    parts.push((of, last + 1, b));
                }
                parts
            })
            .collect();
    }
    left.into_iter().flat_map(|(v6, a, b)| range_to_prefixes(a, b, v6)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c(text: &str) -> Cidr {
        Cidr::parse(text).unwrap()
    }

    #[test]
    fn the_labs_prefix_is_cut_to_its_network() {
        let lab = c("10.5.117.0/8");
        assert_eq!(lab.to_string(), "10.5.117.0/8");
        assert_eq!(lab.network().to_string(), "10.0.0.0/8");
        assert!(lab.contains("10.255.255.255".parse().unwrap()));
        assert!(Cidr::parse("10.0.0.0/255.0.0.0").is_none() && Cidr::parse("10.0.0.0/33").is_none());
        assert!(Cidr::parse("10.0.0.0/").is_none());
    }

    #[test]
    fn prefixes_are_merged_and_cut() {
        let merged = compact(&[c("10.0.0.0/25"), c("10.0.0.128/25"), c("10.0.2.0/24")]);
        assert_eq!(merged, [c("10.0.0.0/24"), c("10.0.2.0/24")]);
        let left = difference(&[c("10.0.0.0/24")], &[c("10.0.0.64/26")]);
        assert_eq!(left, [c("10.0.0.0/26"), c("10.0.0.128/25")]);
        assert_eq!(compact(&[c("::/0")]), [c("::/0")]);
    }

    #[test]
    fn eui64_flips_the_bit() {
        let ip = eui64(&c("2001:db8::/64"), "fa:16:3e:00:00:01").unwrap();
        assert_eq!(ip.to_string(), "2001:db8::f816:3eff:fe00:1");
        assert!(is_eui64(ip));
    }
}
