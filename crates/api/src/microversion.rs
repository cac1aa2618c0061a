//! Microversions: which shape of the API a client asks for.

use crate::{Error, HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// A microversion, for example `Version(2, 90)`. Services without microversions have `Version(0, 0)` throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// `2.90`; both numbers without sign or leading zero, as upstream's pattern wants.
    pub fn parse(text: &str) -> Option<Version> {
        let (major, minor) = text.split_once('.')?;
        let number = |s: &str| (!s.is_empty() && s.len() <= 4 && s.bytes().all(|b| b.is_ascii_digit()) && (s == "0" || !s.starts_with('0'))).then(|| s.parse().ok()).flatten();
        Some(Version(number(major)?, number(minor)?))
    }
}

/// What a service offers.
#[derive(Clone, Copy, Debug)]
pub struct Microversions {
    /// The word before the number in `OpenStack-API-Version`, for example `compute`.
    pub service: &'static str,
    /// A header of its own that the service also takes (`x-openstack-nova-api-version`).
    pub legacy_header: Option<&'static str>,
    /// The oldest, which is also what a client gets that asks for none.
    pub min: Version,
    /// The newest, which `latest` means.
    pub max: Version,
    /// The error for a text that is no version.
    pub malformed: fn(text: &str) -> Error,
    /// The error for a version outside of the range.
    pub unsupported: fn(version: Version, offered: &Microversions) -> Error,
}

impl Microversions {
    /// The version that these headers ask for.
    pub fn negotiate(&self, headers: &HeaderMap) -> Result<Version, Error> {
        let Some(text) = self.requested(headers) else { return Ok(self.min) };
        if text == "latest" {
            return Ok(self.max);
        }
        let version = Version::parse(&text).ok_or_else(|| (self.malformed)(&text))?;
        if version < self.min || version > self.max {
            return Err((self.unsupported)(version, self));
        }
        Ok(version)
    }

    /// `OpenStack-API-Version: compute 2.90, volume 3.1` goes before the service's own header.
    fn requested(&self, headers: &HeaderMap) -> Option<String> {
        let mut found = None;
        for value in headers.get_all("openstack-api-version") {
            for part in value.to_str().unwrap_or_default().split(',') {
                let mut words = part.split_whitespace();
                if words.next().is_some_and(|w| w.eq_ignore_ascii_case(self.service)) {
                    found = Some(words.next().unwrap_or_default().to_string());
                }
            }
        }
        let legacy = || headers.get(self.legacy_header?)?.to_str().ok().map(|t| t.trim().to_string());
        found.or_else(legacy).map(|t| if t.eq_ignore_ascii_case("latest") { "latest".into() } else { t })
    }

    /// Says in the answer's headers which version it is in.
    pub fn announce(&self, version: Version, headers: &mut HeaderMap) {
        let vary = HeaderName::from_static("vary");
        let put = |headers: &mut HeaderMap, name: HeaderName, text: String| {
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(name, value);
            }
        };
        let header = HeaderName::from_static("openstack-api-version");
        put(headers, header, format!("{} {version}", self.service));
        // Services on the microversion_parse library, which have no header of their own, write it small.
        let standard = if self.legacy_header.is_some() { "OpenStack-API-Version" } else { "openstack-api-version" };
        headers.append(vary.clone(), HeaderValue::from_static(standard));
        if let Some(legacy) = self.legacy_header {
            put(headers, HeaderName::from_static(legacy), version.to_string());
            headers.append(vary, HeaderValue::from_static(legacy));
        }
    }
}
