//! Checks of single values (neutron-lib's `validators`) with their texts.

use super::convert::{as_int, canonical_mac, is_boolean};
use super::net::Cidr;
use super::python::{repr_list, show};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// What is wrong with a value, if anything. An `Err` is answered as it is, a text is put into
/// `Invalid input for NAME. Reason: TEXT.`
pub type Verdict = Result<Option<String>>;

/// A check.
#[derive(Clone, Copy)]
pub enum Check {
    /// Anything goes.
    Any,
    /// A UUID.
    Uuid,
    /// A UUID or null.
    UuidOrNone,
    /// Text of at most so many characters.
    Text(usize),
    /// The same or null.
    TextOrNone(usize),
    /// Printable text.
    Name(usize),
    /// The same or null.
    NameOrNone(usize),
    /// Printable text that is not blank.
    NonEmptyName,
    /// One of these texts.
    Values(&'static [&'static str]),
    /// One of these texts, or null.
    ValuesOrNone(&'static [&'static str]),
    /// One of these numbers.
    Numbers(&'static [i64]),
    /// From, to.
    Range(i64, i64),
    /// Zero or more.
    NonNegative,
    /// A rule of its own.
    Rule(fn(&Value) -> Verdict),
}

fn wrong(text: String) -> Verdict {
    Ok(Some(text))
}

const FINE: Verdict = Ok(None);

impl Check {
    /// Checks a value.
    pub fn check(&self, value: &Value) -> Verdict {
        match self {
            Check::Any => FINE,
            Check::UuidOrNone | Check::TextOrNone(_) | Check::NameOrNone(_) | Check::ValuesOrNone(_) if value.is_null() => FINE,
            Check::Uuid | Check::UuidOrNone => uuid(value),
            Check::Text(max) | Check::TextOrNone(max) => text(value, *max),
            Check::Name(max) | Check::NameOrNone(max) => name(value, *max),
            Check::NonEmptyName => match text(value, usize::MAX)? {
                Some(problem) => wrong(problem),
                None if show(value).trim().is_empty() => wrong(format!("'{}' Blank strings are not permitted", show(value))),
                None => name(value, usize::MAX),
            },
            Check::Values(allowed) if value.as_str().is_some_and(|v| allowed.contains(&v)) => FINE,
            Check::ValuesOrNone(allowed) if value.as_str().is_some_and(|v| allowed.contains(&v)) => FINE,
            Check::Values(allowed) => wrong(format!("{} is not in {}", show(value), repr_list(allowed))),
            Check::ValuesOrNone(allowed) => {
                let mut list = repr_list(allowed);
                list.insert_str(list.len() - 1, ", None");
                wrong(format!("{} is not in {list}", show(value)))
            }
            Check::Numbers(allowed) => match value.as_i64() {
                Some(n) if allowed.contains(&n) => FINE,
                _ => {
                    let list = allowed.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
                    wrong(format!("{} is not in [{list}]", show(value)))
                }
            },
            Check::Range(min, max) => range(value, *min, *max),
            Check::NonNegative => match as_int(value) {
                None => wrong(format!("'{}' is not an integer", show(value))),
                Some(n) if n < 0 => wrong(format!("'{}' should be non-negative", show(value))),
                Some(_) => FINE,
            },
            Check::Rule(rule) => rule(value),
        }
    }
}

/// Whether Python's `uuid.UUID` reads it.
pub fn is_uuid(text: &str) -> bool {
    let plain: String = text.replace("urn:", "").replace("uuid:", "").trim_matches(['{', '}']).replace('-', "");
    plain.len() == 32 && plain.bytes().all(|b| b.is_ascii_hexdigit())
}

fn uuid(value: &Value) -> Verdict {
    if value.as_str().is_some_and(is_uuid) { FINE } else { wrong(format!("'{}' is not a valid UUID", show(value))) }
}

/// Text of at most `max` characters.
pub fn text(value: &Value, max: usize) -> Verdict {
    match value.as_str() {
        None => wrong(format!("'{}' is not a valid string", show(value))),
        Some(t) if t.chars().count() > max => wrong(format!("'{t}' exceeds maximum length of {max}")),
        Some(_) => FINE,
    }
}

fn name(value: &Value, max: usize) -> Verdict {
    if let Some(problem) = text(value, max)? {
        return wrong(problem);
    }
    let name = value.as_str().unwrap_or_default();
    // Python's categories C* and Zl, Zp are refused everywhere, blanks at either end.
    let printable = name.chars().all(|c| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}'));
    if printable && name.trim() == name { FINE } else { wrong(format!("'{name}' is not a valid string")) }
}

fn range(value: &Value, min: i64, max: i64) -> Verdict {
    match as_int(value) {
        None => wrong(format!("'{}' is not an integer", show(value))),
        Some(n) if n < min => wrong(format!("'{n}' is too small - must be at least '{min}'")),
        Some(n) if n > max => wrong(format!("'{n}' is too large - must be no larger than '{max}'")),
        Some(_) => FINE,
    }
}

/// A MAC that a port can have.
pub fn mac(value: &Value) -> Verdict {
    match value.as_str().and_then(canonical_mac) {
        Some(mac) if mac != "00:00:00:00:00:00" => FINE,
        _ => wrong(format!("'{}' is not a valid MAC address", show(value))),
    }
}

/// An address.
pub fn ip(value: &Value) -> Verdict {
    let shown = show(value);
    let invalid = || wrong(format!("'{shown}' is not a valid IP address"));
    let Some(text) = value.as_str() else { return invalid() };
    match text.parse::<IpAddr>() {
        Ok(_) => FINE,
        // Leading zeros are read, but not accepted.
        Err(_) if text.split('.').count() == 4 => {
            let octets: Option<Vec<u8>> =
                text.split('.').map(|o| o.bytes().all(|b| b.is_ascii_digit()).then(|| o.parse().ok()).flatten()).collect();
            match octets {
                Some(o) => {
                    let fixed = o.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
                    wrong(format!("'{text}' is not an accepted IP address, '{fixed}' is recommended"))
                }
                None => invalid(),
            }
        }
        Err(_) => invalid(),
    }
}

/// An address or null.
pub fn ip_or_none(value: &Value) -> Verdict {
    if value.is_null() { FINE } else { ip(value) }
}

/// A prefix with its length.
pub fn subnet(value: &Value) -> Verdict {
    let fine = value.as_str().is_some_and(|text| {
        text.contains('/') && Cidr::parse(text).is_some_and(|c| c.v6() || c.to_string() == text)
    });
    if fine { FINE } else { wrong(format!("'{}' is not a valid IP subnet", show(value))) }
}

/// A prefix or null.
pub fn subnet_or_none(value: &Value) -> Verdict {
    if value.is_null() { FINE } else { subnet(value) }
}

fn duplicates(items: &[Value]) -> Option<String> {
    let mut dups: Vec<&Value> = Vec::new();
    for (i, item) in items.iter().enumerate() {
        if items[..i].contains(item) && !dups.contains(&item) {
            dups.push(item);
        }
    }
    let shown: Vec<String> = dups.iter().map(|d| show(d)).collect();
    (!shown.is_empty()).then(|| format!("Duplicate items in the list: '{}'", shown.join(", ")))
}

fn list(value: &Value, check: impl Fn(&Value) -> Verdict) -> Verdict {
    let Some(items) = value.as_array() else { return wrong(format!("'{}' is not a list", show(value))) };
    if let Some(problem) = duplicates(items) {
        return wrong(problem);
    }
    for item in items {
        if let Some(problem) = check(item)? {
            return wrong(problem);
        }
    }
    FINE
}

/// Different UUIDs.
pub fn uuids(value: &Value) -> Verdict {
    list(value, uuid)
}

/// Different prefixes.
pub fn subnets(value: &Value) -> Verdict {
    list(value, subnet)
}

/// Different texts of at most 255 characters.
pub fn tags(value: &Value) -> Verdict {
    list(value, |item| text(item, 255))
}

/// Different texts.
pub fn unique_texts(value: &Value) -> Verdict {
    list(value, |item| text(item, usize::MAX))
}

/// Hints of availability zones fit a column of 255 characters as JSON.
pub fn zone_hints(value: &Value) -> Verdict {
    if let Some(problem) = unique_texts(value)? {
        return wrong(problem);
    }
    let length = value.as_array().map_or(0, |a| a.iter().map(|v| show(v).len() + 4).sum());
    if length > 255 { Err(Error::input("Too many availability_zone_hints specified")) } else { FINE }
}

/// An object that has exactly these keys.
fn keys(value: &Value, expected: [&str; 2]) -> Option<String> {
    let Some(map) = value.as_object() else {
        return Some(format!("Invalid input. '{}' must be a dictionary with keys: {}", show(value), repr_list(&expected)));
    };
    let same = map.len() == 2 && expected.iter().all(|k| map.contains_key(*k));
    let set = |names: Vec<&str>| format!("{{{}}}", names.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", "));
    (!same).then(|| {
        let provided = if map.is_empty() { "set()".into() } else { set(map.keys().map(String::as_str).collect()) };
        format!("Validation of dictionary's keys failed. Expected keys: {} Provided keys: {provided}", set(expected.to_vec()))
    })
}

/// Pools of addresses.
pub fn pools(value: &Value) -> Verdict {
    let Some(pools) = value.as_array() else { return wrong(format!("Invalid data format for IP pool: '{}'", show(value))) };
    for pool in pools {
        if let Some(problem) = keys(pool, ["start", "end"]) {
            return wrong(problem);
        }
        for key in ["start", "end"] {
            if let Some(problem) = ip(&pool[key])? {
                return wrong(problem);
            }
        }
    }
    FINE
}

/// Name servers.
pub fn nameservers(value: &Value) -> Verdict {
    let hosts = match value {
        Value::Array(hosts) => hosts.clone(),
        Value::String(text) => text.chars().map(|c| Value::String(c.to_string())).collect(),
        other => return wrong(format!("Invalid data format for nameserver: '{}'", show(other))),
    };
    for (i, host) in hosts.iter().enumerate() {
        if let Some(problem) = ip(host)? {
            return wrong(format!("'{}' is not a valid nameserver. {problem}", show(host)));
        }
        if hosts[..i].contains(host) {
            return wrong(format!("Duplicate nameserver '{}'", show(host)));
        }
    }
    FINE
}

/// Routes.
pub fn routes(value: &Value) -> Verdict {
    let Some(routes) = value.as_array() else { return wrong(format!("Invalid data format for hostroute: '{}'", show(value))) };
    for (i, route) in routes.iter().enumerate() {
        if let Some(problem) = keys(route, ["destination", "nexthop"]) {
            return wrong(problem);
        }
        let destination = show(&route["destination"]);
        match Cidr::parse(&destination) {
            Some(c) if destination.contains('/') && c.network() == c => {
                let loopback = if c.v6() { c.prefix == 128 && c.address.is_loopback() } else { c.first() >> 24 == 127 };
                if loopback {
                    return wrong(format!("'{destination}' is not a routable CIDR"));
                }
            }
            _ => return wrong(format!("'{destination}' is not a valid CIDR")),
        }
        if let Some(problem) = ip(&route["nexthop"])? {
            return wrong(problem);
        }
        if routes[..i].contains(route) {
            return wrong(format!("Duplicate hostroute '{}'", show(route)));
        }
    }
    FINE
}

/// Fixed IPs of a port.
pub fn fixed_ips(value: &Value) -> Verdict {
    let invalid = |v: &Value| wrong(format!("Invalid data format for fixed IP: '{}'", show(v)));
    let Some(ips) = value.as_array() else { return invalid(value) };
    let mut seen: Vec<&Value> = Vec::new();
    for fixed in ips {
        let Some(map) = fixed.as_object() else { return invalid(fixed) };
        if let Some(address) = map.get("ip_address") {
            if seen.contains(&address) {
                return wrong(format!("Duplicate IP address '{}'", show(address)));
            }
            if let Some(problem) = ip(address)? {
                return wrong(problem);
            }
            seen.push(address);
        }
        if let Some(subnet) = map.get("subnet_id")
            && let Some(problem) = uuid(subnet)?
        {
            return wrong(problem);
        }
    }
    FINE
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("'{}' is not a dictionary", show(value)))
}

/// An object or null.
pub fn object_or_none(value: &Value) -> Verdict {
    if value.is_null() { FINE } else { Ok(object(value).err()) }
}

/// `external_gateway_info`.
pub fn gateway_info(value: &Value) -> Verdict {
    let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty) || value == false || value == "";
    if empty {
        return FINE;
    }
    let map = match object(value) {
        Ok(map) => map,
        Err(problem) => return wrong(problem),
    };
    if !map.contains_key("network_id") {
        let provided: Vec<String> = map.keys().map(|k| format!("'{k}'")).collect();
        return wrong(format!(
            "Validation of dictionary's keys failed. Expected keys: {{'network_id'}} Provided keys: {{{}}}",
            provided.join(", ")
        ));
    }
    let unexpected: Vec<&str> =
        map.keys().map(String::as_str).filter(|k| !["network_id", "external_fixed_ips", "enable_snat"].contains(k)).collect();
    if !unexpected.is_empty() {
        return wrong(format!("Unexpected keys supplied: {}", unexpected.join(", ")));
    }
    if let Some(problem) = uuid(&map["network_id"])? {
        return wrong(problem);
    }
    if let Some(snat) = map.get("enable_snat")
        && !is_boolean(snat)
    {
        return Err(Error::input(format!("'{}' cannot be converted to boolean", show(snat))));
    }
    map.get("external_fixed_ips").map_or(FINE, fixed_ips)
}

/// `extra_dhcp_opts`.
pub fn dhcp_options(value: &Value) -> Verdict {
    if value.is_null() {
        return FINE;
    }
    let Some(options) = value.as_array() else { return Err(Error::input(format!("'{}' is not a list", show(value)))) };
    if let Some(problem) = duplicates(options) {
        return Err(Error::input(problem));
    }
    for option in options {
        let unmatched = || Error::input(format!("No valid key specs matched for: {}", show(option)));
        let map = option.as_object().ok_or_else(unmatched)?;
        let known = map.keys().all(|k| ["opt_name", "opt_value", "ip_version"].contains(&k.as_str()));
        let (Some(name), Some(content)) = (map.get("opt_name"), map.get("opt_value")) else { return Err(unmatched()) };
        let name = name.as_str().unwrap_or_default();
        let line = |text: &str, max: usize| !text.trim().is_empty() && text.lines().count() <= 1 && text.chars().count() <= max;
        let blank_allowed = matches!(name, "router" | "classless-static-route");
        let value_fine = match content {
            Value::Null => true,
            Value::String(text) => blank_allowed && text.len() <= 255 || line(text, 255),
            _ => false,
        };
        let version_fine = map.get("ip_version").is_none_or(|v| matches!(as_int(v), Some(4 | 6)));
        if !(known && line(name, 64) && value_fine && version_fine) {
            return Err(unmatched());
        }
    }
    FINE
}

fn multicast(ip: IpAddr) -> bool {
    ip.is_multicast()
}

/// `allowed_address_pairs`.
pub fn address_pairs(value: &Value) -> Verdict {
    const MOST: usize = 10;
    let Some(pairs) = value.as_array() else { return Err(Error::bad("Allowed address pairs must be a list.")) };
    if pairs.len() > MOST {
        return Err(Error::AllowedAddressPairExhausted { quota: MOST.to_string() });
    }
    let mut seen = Vec::new();
    for pair in pairs {
        let map = match object(pair) {
            Ok(map) => map,
            Err(problem) => return wrong(problem),
        };
        if let Some(problem) = map.get("mac_address").map_or(FINE, mac)? {
            return Err(Error::bad(problem));
        }
        let Some(ip_value) = map.get("ip_address") else { return Err(Error::AllowedAddressPairsMissingIP {}) };
        let key = (map.get("mac_address"), ip_value);
        if seen.contains(&key) {
            return Err(Error::DuplicateAddressPairInRequest {
                mac_address: key.0.map_or_else(|| "None".into(), show),
                ip_address: show(ip_value),
            });
        }
        seen.push(key);
        let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|k| !["mac_address", "ip_address"].contains(k)).collect();
        if !unknown.is_empty() {
            return Err(Error::bad(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
        }
        let text = show(ip_value);
        let problem = if text.contains('/') { subnet(ip_value)? } else { ip(ip_value)? };
        if let Some(problem) = problem {
            return Err(Error::bad(problem));
        }
        if let Some(c) = Cidr::parse(&text) {
            let group = Cidr::parse(if c.v6() { "ff00::/8" } else { "224.0.0.0/4" });
            if text.contains('/') {
                if let Some(group) = group
                    && c.prefix > 0
                    && (group.covers(&c) || c.covers(&group) && c.network().address == group.address)
                {
                    return Err(Error::bad(format!("Subnet {c} overlaps with multicast range {group}, which is not supported.")));
                }
            } else if multicast(c.address) {
                return Err(Error::bad(format!("IP {text} is a multicast address, which is not supported.")));
            }
        }
        if let Some(mac) = map.get("mac_address").and_then(Value::as_str)
            && canonical_mac(mac).is_some_and(|m| u8::from_str_radix(&m[..2], 16).is_ok_and(|b| b & 1 == 1))
        {
            return Err(Error::bad(format!("MAC address {mac} is a multicast address, which is not supported.")));
        }
    }
    FINE
}

/// Service types of a subnet.
pub fn service_types(value: &Value) -> Verdict {
    let Some(types) = value.as_array() else {
        return if value.is_null() { FINE } else { Err(Error::bad("Subnet service types must be a list.")) };
    };
    for kind in types {
        let Some(text) = kind.as_str() else {
            return Err(Error::InvalidInputSubnetServiceType { service_type: show(kind) });
        };
        // Upstream adds the letters of "compute:" one by one to its list of prefixes, hence the last condition.
        let known = ["network:", "compute:", "baremetal:"].iter().any(|p| text.starts_with(p)) || text.starts_with(['c', 'o', 'm', 'p', 'u', 't', 'e', ':']);
        if !known {
            return Err(Error::InvalidSubnetServiceType { service_type: text.into() });
        }
    }
    FINE
}

const FQDN: usize = 255;

fn dns_format(data: &str) -> Option<String> {
    let trimmed = data.strip_suffix('.').unwrap_or(data);
    let reason = if trimmed.len() > FQDN {
        Some(format!("'{trimmed}' exceeds the {FQDN} character FQDN limit"))
    } else {
        let labels: Vec<&str> = trimmed.split('.').collect();
        labels
            .iter()
            .find_map(|label| {
                let fits = (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                if label.is_empty() {
                    Some("Encountered an empty component".into())
                } else if label.starts_with('-') || label.ends_with('-') {
                    Some(format!("Name '{label}' must not start or end with a hyphen"))
                } else if !fits {
                    Some(format!("Name '{label}' must be 1-63 characters long, each of which can only be alphanumeric or a hyphen"))
                } else {
                    None
                }
            })
            .or_else(|| {
                let last = labels.last()?;
                (labels.len() > 1 && last.bytes().all(|b| b.is_ascii_digit())).then(|| format!("TLD '{last}' must not be all numeric"))
            })
    };
    reason.map(|reason| format!("'{data}' not a valid PQDN or FQDN. Reason: {reason}"))
}

/// `dns_name` of a port.
pub fn dns_name(value: &Value) -> Verdict {
    match value.as_str() {
        Some("") => FINE,
        Some(name) => Ok(dns_format(name)),
        None => wrong(format!("'{}' is not a valid string", show(value))),
    }
}

/// `dns_name` of a floating IP.
pub fn relative_dns_name(value: &Value) -> Verdict {
    match value.as_str() {
        None => wrong(format!("'{}' is not a valid string", show(value))),
        Some("") => FINE,
        Some(name) if name.ends_with('.') => wrong(format!("'{name}' is a FQDN. It should be a relative domain name")),
        Some(name) => Ok(dns_format(name)),
    }
}

/// `dns_domain`.
pub fn dns_domain(value: &Value) -> Verdict {
    match value.as_str() {
        None => wrong(format!("'{}' is not a valid string", show(value))),
        Some("") => FINE,
        Some(name) if !name.ends_with('.') => wrong(format!("'{name}' is not a FQDN")),
        Some(name) => {
            // Keywords such as <project_id> stand for what is filled in later.
            let plain = ["<project_id>", "<project_name>", "<user_id>", "<user_name>"].iter().fold(name.to_string(), |n, k| n.replace(k, "x"));
            Ok(dns_format(&plain).map(|problem| problem.replace(&plain, name)))
        }
    }
}

/// The name of a security group.
pub fn group_name(value: &Value) -> Verdict {
    match text(value, 255)? {
        Some(problem) => wrong(problem),
        None if show(value).to_lowercase() == "default" => Err(Error::SecurityGroupDefaultAlreadyExists {}),
        None => FINE,
    }
}

/// The id of a subnet pool or null; `prefix_delegation` stands for a pool too.
pub fn subnetpool_id(value: &Value) -> Verdict {
    if value.is_null() || value == "prefix_delegation" { FINE } else { uuid(value) }
}

/// `segments` of a network.
pub fn segments(value: &Value) -> Verdict {
    let Some(segments) = value.as_array() else { return FINE };
    for segment in segments {
        let Some(map) = segment.as_object() else { return Err(Error::bad("Body contains invalid data")) };
        let names = ["provider:network_type", "provider:physical_network", "provider:segmentation_id"];
        let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|k| !names.contains(k)).collect();
        if !unknown.is_empty() {
            return Err(Error::bad(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))));
        }
        if let Some(id) = map.get(names[2])
            && !id.is_null()
            && as_int(id).is_none()
        {
            return Err(Error::input(format!("'{}' is not an integer", show(id))));
        }
    }
    FINE
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn say(check: Check, value: Value) -> Option<String> {
        check.check(&value).unwrap()
    }

    #[test]
    fn the_texts_are_upstreams() {
        assert_eq!(say(Check::Uuid, json!("abc")).unwrap(), "'abc' is not a valid UUID");
        assert_eq!(say(Check::Text(3), json!("abcd")).unwrap(), "'abcd' exceeds maximum length of 3");
        assert_eq!(say(Check::Values(&["a", "b"]), json!("c")).unwrap(), "c is not in ['a', 'b']");
        assert_eq!(say(Check::ValuesOrNone(&["a"]), json!("c")).unwrap(), "c is not in ['a', None]");
        assert_eq!(say(Check::Range(1, 5), json!(9)).unwrap(), "'9' is too large - must be no larger than '5'");
        assert_eq!(ip(&json!("10.0.0.01")).unwrap().unwrap(), "'10.0.0.01' is not an accepted IP address, '10.0.0.1' is recommended");
        assert_eq!(ip(&json!("10.0.0")).unwrap().unwrap(), "'10.0.0' is not a valid IP address");
        assert_eq!(nameservers(&json!(["8.8.8.8", "8.8.8.8"])).unwrap().unwrap(), "Duplicate nameserver '8.8.8.8'");
        assert_eq!(say(Check::Name(255), json!(" x")).unwrap(), "' x' is not a valid string");
        assert!(name(&json!("Grüße an alle"), 255).unwrap().is_none());
    }

    #[test]
    fn structures_are_checked_inside() {
        assert!(pools(&json!([{"start": "10.0.0.2", "end": "10.0.0.9"}])).unwrap().is_none());
        assert!(pools(&json!([{"start": "10.0.0.2"}])).unwrap().unwrap().starts_with("Validation of dictionary's keys failed."));
        assert!(fixed_ips(&json!([{"ip_address": "1.1.1.1"}, {"ip_address": "1.1.1.1"}])).unwrap().is_some());
        assert!(gateway_info(&json!({"network_id": "x"})).unwrap().is_some());
        assert!(gateway_info(&json!({})).unwrap().is_none());
        assert!(matches!(address_pairs(&json!([{"mac_address": "fa:16:3e:00:00:01"}])), Err(Error::AllowedAddressPairsMissingIP {})));
        assert!(dhcp_options(&json!([{"opt_name": "bootfile-name", "opt_value": "pxelinux.0"}])).unwrap().is_none());
        assert!(dhcp_options(&json!([{"opt_name": "x"}])).is_err());
    }
}
