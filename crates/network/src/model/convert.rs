//! Conversions of what clients send into what is stored (neutron-lib's `converters`).

use super::net::Cidr;
use super::python::show;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::net::IpAddr;

/// A conversion.
pub type Convert = fn(Value) -> Result<Value>;

fn lenient_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(_) | Value::Number(_) => match show(value).trim().to_lowercase().as_str() {
            "t" | "true" | "on" | "y" | "yes" | "1" => Some(true),
            "f" | "false" | "off" | "n" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Whatever oslo takes for a boolean.
pub fn boolean(value: Value) -> Result<Value> {
    lenient_bool(&value)
        .map(Value::Bool)
        .ok_or_else(|| Error::input(format!("'{}' cannot be converted to boolean", show(&value))))
}

/// The same, or null.
pub fn boolean_or_none(value: Value) -> Result<Value> {
    if value.is_null() { Ok(value) } else { boolean(value) }
}

/// Whether oslo takes it for a boolean at all.
pub fn is_boolean(value: &Value) -> bool {
    lenient_bool(value).is_some()
}

/// Python's `int()`.
pub fn as_int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f.trunc() as i64)),
        Value::String(text) => text.trim().replace('_', "").parse().ok(),
        Value::Bool(b) => Some(i64::from(*b)),
        _ => None,
    }
}

/// A number, also as text.
pub fn int(value: Value) -> Result<Value> {
    as_int(&value).map(Value::from).ok_or_else(|| Error::input(format!("'{}' is not an integer", show(&value))))
}

/// Null becomes an empty list.
pub fn none_to_list(value: Value) -> Result<Value> {
    Ok(if value.is_null() { json!([]) } else { value })
}

/// Text in lower case.
pub fn lower(value: Value) -> Result<Value> {
    match value {
        Value::String(text) => Ok(Value::String(text.to_lowercase())),
        other => Err(Error::input(format!("Input value {} must be string type", show(&other)))),
    }
}

/// IPv6 addresses in their short form; anything else as it is.
pub fn ip(value: Value) -> Result<Value> {
    Ok(match value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
        Some(ip) if ip.is_ipv6() => Value::String(ip.to_string()),
        _ => value,
    })
}

/// A prefix in its short form.
pub fn cidr(value: Value) -> Result<Value> {
    if value.is_null() {
        return Err(Error::input("None is not in a CIDR format"));
    }
    match value.as_str().and_then(Cidr::parse) {
        Some(cidr) => Ok(Value::String(cidr.to_string())),
        None => Err(Error::input(format!("{} is not in a CIDR format", show(&value)))),
    }
}

/// The addresses of pools in their short form.
pub fn pools(value: Value) -> Result<Value> {
    let wrong = || Error::input("Invalid data format for allocation pools");
    match value {
        Value::Null => Ok(json!([])),
        Value::Array(pools) => pools
            .into_iter()
            .map(|pool| match pool {
                Value::Object(map) => {
                    map.into_iter().map(|(k, v)| Ok((k, ip(v)?))).collect::<Result<serde_json::Map<_, _>>>().map(Value::Object)
                }
                _ => Err(wrong()),
            })
            .collect::<Result<Vec<_>>>()
            .map(Value::Array),
        _ => Err(wrong()),
    }
}

/// A MAC in lower case with colons; null asks for a new one.
pub fn mac(value: Value) -> Result<Value> {
    match value {
        Value::Null => Ok(Value::String(random_mac())),
        Value::String(text) => Ok(Value::String(canonical_mac(&text).unwrap_or(text))),
        other => Ok(other),
    }
}

/// The canonical form of any usual spelling (`aa:bb:…`, `aa-bb-…`, `aabb.ccdd.eeff`, `aabbccddeeff`).
pub fn canonical_mac(text: &str) -> Option<String> {
    let digits: String = match text.chars().find(|c| matches!(c, ':' | '-' | '.')) {
        Some(separator) => {
            let groups: Vec<&str> = text.split(separator).collect();
            let width = match groups.len() {
                6 => 2,
                3 => 4,
                _ => return None,
            };
            if groups.iter().any(|g| g.is_empty() || g.len() > width) {
                return None;
            }
            groups.iter().map(|g| format!("{g:0>width$}")).collect()
        }
        None => text.into(),
    };
    if digits.len() != 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let digits = digits.to_ascii_lowercase();
    Some((0..6).map(|i| &digits[2 * i..2 * i + 2]).collect::<Vec<_>>().join(":"))
}

/// A MAC of the cloud's own range.
pub fn random_mac() -> String {
    let [a, b, c]: [u8; 3] = rand::random();
    format!("fa:16:3e:{a:02x}:{b:02x}:{c:02x}")
}

/// Protocol names that rules of security groups know, with their numbers.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51), ("dccp", 33), ("egp", 8), ("esp", 50), ("gre", 47), ("icmp", 1), ("igmp", 2), ("ipip", 4),
    ("ipv6-encap", 41), ("ipv6-frag", 44), ("ipv6-icmp", 58), ("icmpv6", 58), ("ipv6-nonxt", 59), ("ipv6-opts", 60),
    ("ipv6-route", 43), ("ospf", 89), ("pgm", 113), ("rsvp", 46), ("sctp", 132), ("tcp", 6), ("udp", 17),
    ("udplite", 136), ("vrrp", 112),
];

/// A protocol of a security group rule: a name, a number as text, or null for every one.
pub fn protocol(value: Value) -> Result<Value> {
    let text = match &value {
        Value::Null => return Ok(Value::Null),
        Value::String(text) if matches!(text.as_str(), "any" | "0") => return Ok(Value::Null),
        Value::Number(n) if n.as_i64() == Some(0) => return Ok(Value::Null),
        other => show(other),
    };
    let refused = || {
        let mut names = vec!["None".to_string(), "'any'".into(), "0".into(), "'0'".into()];
        names.extend(PROTOCOLS.iter().map(|(name, _)| format!("'{name}'")));
        Error::SecurityGroupRuleInvalidProtocol { protocol: text.clone(), values: format!("({})", names.join(", ")) }
    };
    if let Ok(number) = text.parse::<i64>() {
        return if (0..=255).contains(&number) { Ok(Value::String(text)) } else { Err(refused()) };
    }
    let lower = text.to_lowercase();
    match value {
        Value::String(_) if lower == "any" => Ok(Value::Null),
        Value::String(_) if PROTOCOLS.iter().any(|(name, _)| *name == lower) => Ok(Value::String(lower)),
        _ => Err(refused()),
    }
}

/// `IPv4` or `IPv6` in any case.
pub fn ethertype(value: Value) -> Result<Value> {
    match value.as_str().map(str::to_lowercase).as_deref() {
        Some("ipv4") => Ok(json!("IPv4")),
        Some("ipv6") => Ok(json!("IPv6")),
        _ => Err(Error::SecurityGroupRuleInvalidEtherType { ethertype: show(&value), values: "['IPv4', 'IPv6']".into() }),
    }
}

/// A port number, or null.
pub fn port(value: Value) -> Result<Value> {
    if value.is_null() {
        return Ok(value);
    }
    match as_int(&value) {
        Some(port) if (0..=65535).contains(&port) && !value.is_boolean() => Ok(Value::from(port)),
        _ => Err(Error::SecurityGroupInvalidPortValue { port: show(&value) }),
    }
}

/// A prefix of a rule as netaddr writes it, host part kept.
pub fn ip_prefix(value: Value) -> Result<Value> {
    match &value {
        Value::Null => Ok(Value::Null),
        Value::String(text) if text.is_empty() => Ok(Value::Null),
        Value::String(text) => match Cidr::parse(text) {
            Some(cidr) => Ok(Value::String(cidr.to_string())),
            None => Err(Error::InvalidCIDR { input: text.clone() }),
        },
        other => Err(Error::InvalidCIDR { input: show(other) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_and_protocols_are_read_as_upstream_reads_them() {
        assert_eq!(boolean(json!("TRUE")).unwrap(), json!(true));
        assert_eq!(boolean(json!("maybe")).unwrap_err().to_string(), "Invalid input for operation: 'maybe' cannot be converted to boolean.");
        assert_eq!(protocol(json!(6)).unwrap(), json!("6"));
        assert_eq!(protocol(json!("TCP")).unwrap(), json!("tcp"));
        assert_eq!(protocol(json!("any")).unwrap(), Value::Null);
        assert!(protocol(json!("bad_protocol_name")).is_err() && protocol(json!(256)).is_err());
    }

    #[test]
    fn macs_of_any_spelling_become_one() {
        for text in ["FA:16:3E:00:0a:1b", "fa-16-3e-0-a-1b", "fa16.3e00.0a1b", "fa163e000a1b"] {
            assert_eq!(canonical_mac(text).as_deref(), Some("fa:16:3e:00:0a:1b"), "{text}");
        }
        assert!(canonical_mac("fa:16").is_none() && canonical_mac("zz:16:3e:00:0a:1b").is_none());
    }
}
