//! Small encodings: base64 as Python reads it, host ids, names made into host names.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use rand::Rng;
use sha2::{Digest, Sha224, Sha256};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// Python's `base64.b64decode`: line ends and other foreign characters are skipped.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let kept: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))
        .collect();
    LENIENT.decode(kept).ok()
}

/// `hostId`: tells a project's hosts apart without naming them.
pub fn host_id(host: Option<&str>, project_id: &str) -> String {
    match host {
        Some(host) if !host.is_empty() => hex::encode(Sha224::digest(format!("{project_id}{host}"))),
        _ => String::new(),
    }
}

/// The key under which a console token is kept: `sha256$` and its SHA-256.
pub fn token_hash(token: &str) -> String {
    format!("sha256${}", hex::encode(Sha256::digest(token)))
}

/// A host name made of a display name (nova.utils.sanitize_hostname); empty where nothing of it can stand in one.
pub fn sanitize_hostname(name: &str) -> String {
    let ascii = name.chars().filter(char::is_ascii);
    let swapped = ascii.map(|c| if c == ' ' || c == '_' || c == '.' { '-' } else { c });
    let kept: String = swapped
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_')
        .collect();
    let lower = kept.to_lowercase();
    let mut out: String = lower.trim_matches(|c| c == '.' || c == '-').into();
    out.truncate(63);
    out.trim_end_matches('-').into()
}

/// `r-` and eight characters.
pub fn reservation_id() -> String {
    const CHARS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut rng = rand::rng();
    let random: String = (0..8)
        .map(|_| char::from(CHARS[rng.random_range(0..CHARS.len())]))
        .collect();
    format!("r-{random}")
}

/// A password of 12 characters with at least one of each easily read kind (nova.utils.generate_password).
pub fn generate_password() -> String {
    const KINDS: [&[u8]; 3] = [b"23456789", b"ABCDEFGHJKLMNPQRSTUVWXYZ", b"abcdefghijkmnopqrstuvwxyz"];
    let mut rng = rand::rng();
    let mut pick = |kind: &[u8]| char::from(kind[rng.random_range(0..kind.len())]);
    let mut out: Vec<char> = KINDS.iter().map(|kind| pick(kind)).collect();
    let all = KINDS.concat();
    while out.len() < 12 {
        out.push(pick(&all));
    }
    for i in (1..out.len()).rev() {
        out.swap(i, rng.random_range(0..=i));
    }
    out.into_iter().collect()
}

/// oslo.utils' `bool_from_string`, strict: what counts as yes and no, case and surrounding space aside.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Some(false),
        _ => None,
    }
}

/// [`parse_bool`] of a JSON value.
pub fn json_bool(value: &serde_json::Value) -> Option<bool> {
    value.as_bool().or_else(|| parse_bool(value.as_str()?))
}

/// oslo.utils' text for what [`parse_bool`] does not know.
pub fn not_a_bool(text: &str) -> String {
    format!(
        "Unrecognized value '{text}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', 'on', 't', 'true', 'y', 'yes'"
    )
}

/// An IP address in its shortest spelling, as the API shows it; `None` for what is empty or none.
pub fn canonical_address(value: &serde_json::Value) -> Option<String> {
    value
        .as_str()?
        .parse::<std::net::IpAddr>()
        .ok()
        .map(|ip| ip.to_string())
}

/// A JSON number, or a string that is one, as schemas of Compute accept them.
pub fn json_int(value: &serde_json::Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64))
        .or_else(|| value.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_made_as_upstream_makes_them() {
        assert_eq!(sanitize_hostname("My Server_1.example"), "my-server-1-example");
        assert_eq!(sanitize_hostname("-weird-"), "weird");
        assert_eq!(sanitize_hostname("測試"), "");
        assert_eq!(sanitize_hostname(&"a".repeat(80)).len(), 63);
    }

    #[test]
    fn base64_is_read_as_python_reads_it() {
        assert_eq!(decode_base64("aGVs\nbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(decode_base64("aGVsbG8"), None);
    }

    #[test]
    fn a_host_is_hidden_behind_its_id() {
        assert_eq!(host_id(None, "p"), "");
        let id = host_id(Some("node"), "p");
        assert_eq!(id.len(), 56);
        assert_ne!(id, host_id(Some("node"), "q"));
    }
}
