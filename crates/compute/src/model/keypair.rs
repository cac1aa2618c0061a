//! Key pairs: fingerprints and, below microversion 2.92, generation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::traits::PublicKeyParts;

/// Why a key cannot be used, in upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The public key could not be read.
    #[error("Keypair data is invalid: failed to generate fingerprint")]
    Fingerprint,
    /// An X.509 certificate could not be read.
    #[error("Keypair data is invalid: failed to generate X509 fingerprint. Error message: {0}")]
    Certificate(String),
    /// No key could be made.
    #[error("Keypair data is invalid: {0}")]
    Generate(String),
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(":")
}

/// The MD5 fingerprint of an OpenSSH public key, as the API shows it.
pub fn ssh_fingerprint(public_key: &str) -> Result<String, KeyError> {
    let mut words = public_key.split_whitespace();
    let blob = words.nth(1).ok_or(KeyError::Fingerprint)?;
    let kind = public_key.split_whitespace().next().unwrap_or_default();
    let bytes = STANDARD.decode(blob).map_err(|_| KeyError::Fingerprint)?;
    // The blob begins with the length and name of the algorithm, which must be the one outside.
    let length = bytes
        .get(..4)
        .and_then(|l| l.try_into().ok())
        .map(u32::from_be_bytes)
        .ok_or(KeyError::Fingerprint)?;
    let inner = bytes
        .get(4..4usize.saturating_add(length as usize))
        .ok_or(KeyError::Fingerprint)?;
    if inner != kind.as_bytes() || bytes.len() <= 4 + inner.len() {
        return Err(KeyError::Fingerprint);
    }
    Ok(colons(&Md5::digest(&bytes)))
}

/// The SHA-1-like fingerprint that X.509 key pairs show, over the certificate's DER.
pub fn x509_fingerprint(certificate: &str) -> Result<String, KeyError> {
    let bad = |text: &str| KeyError::Certificate(text.to_owned());
    let body: String = certificate
        .lines()
        .map(str::trim)
        .filter(|l| !l.starts_with("-----"))
        .collect();
    if !certificate.contains("-----BEGIN CERTIFICATE-----") {
        return Err(bad("Unable to load PEM file"));
    }
    let der = STANDARD.decode(body).map_err(|_| bad("Unable to load PEM file"))?;
    use sha1::Digest as _;
    Ok(colons(&sha1::Sha1::digest(&der)))
}

/// Makes an RSA key pair of 2048 bits: the private key in PEM (PKCS#1), the public key as a line.
pub fn generate() -> Result<(String, String), KeyError> {
    let failed = |e: &dyn std::fmt::Display| KeyError::Generate(e.to_string());
    let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).map_err(|e| failed(&e))?;
    let private = key.to_pkcs1_pem(LineEnding::LF).map_err(|e| failed(&e))?;
    let mut blob = Vec::new();
    for part in [
        b"ssh-rsa".to_vec(),
        mpint(&key.e().to_bytes_be()),
        mpint(&key.n().to_bytes_be()),
    ] {
        blob.extend((part.len() as u32).to_be_bytes());
        blob.extend(part);
    }
    Ok((
        private.to_string(),
        format!("ssh-rsa {} Generated-by-Nova", STANDARD.encode(blob)),
    ))
}

/// A positive number as RFC 4251 writes it: a zero byte first where the top bit is set.
fn mpint(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.first().is_some_and(|b| b & 0x80 != 0) {
        out.insert(0, 0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_has_a_fingerprint_and_rubbish_has_none() {
        let (private, public) = generate().unwrap();
        assert!(private.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
        let print = ssh_fingerprint(&public).unwrap();
        assert_eq!(print.split(':').count(), 16);
        for bad in [
            "",
            "ssh-rsa",
            "ssh-rsa JUNK",
            "ssh-rsa AAAAB3NzaC1yc2E=",
            "ssh-dss AAAAB3NzaC1yc2EAAA==",
        ] {
            assert_eq!(ssh_fingerprint(bad), Err(KeyError::Fingerprint), "{bad}");
        }
    }
}
