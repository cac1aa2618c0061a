//! OAuth 1.0a (RFC 5849): headers and signatures.

use crate::store::oauth1::{ACCESS_TOKENS, CONSUMERS, REQUEST_TOKENS};
use crate::store::{Ref, text};
use crate::{Error, Identity, Result};
use api::Request;
use base64::Engine;
use database::now;
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha1::Sha1;
use sha2::Sha256;

/// RFC 3986's unreserved characters stay as they are (RFC 5849, 3.6).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How far a request's timestamp may be off, in seconds (oauthlib's lifetime).
const LIFETIME: i64 = 600;

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The parameters of an `Authorization: OAuth …` header.
#[derive(Debug, Default)]
pub(crate) struct Header {
    parameters: Vec<(String, String)>,
}

impl Header {
    /// Reads the header of a request.
    pub(crate) fn of(request: &Request) -> Result<Header> {
        let value = request.header("authorization").unwrap_or_default();
        let Some(rest) = value.strip_prefix("OAuth ") else {
            return Err(Error::expecting("OAuth parameters", "Authorization header"));
        };
        let parameter = |part: &str| {
            let (name, value) = part.trim().split_once('=')?;
            Some((decode(name), decode(value.trim_matches('"'))))
        };
        Ok(Header {
            parameters: rest
                .split(',')
                .filter_map(parameter)
                .filter(|(name, _)| name != "realm")
                .collect(),
        })
    }

    /// One of them, where it is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// One of them, or upstream's 400.
    pub(crate) fn need(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| Error::expecting(name, "request"))
    }

    /// # Errors
    /// 401 where the request is not signed with these secrets, or too old.
    pub(crate) fn check_signature(&self, request: &Request, consumer_secret: &str, token_secret: &str) -> Result<()> {
        let wrong = || Error::Unauthorized("Invalid signature".into());
        let at: i64 = self
            .get("oauth_timestamp")
            .and_then(|t| t.parse().ok())
            .ok_or_else(wrong)?;
        if (now() / 1_000_000 - at).abs() > LIFETIME {
            return Err(wrong());
        }
        let given = base64::engine::general_purpose::STANDARD
            .decode(self.get("oauth_signature").ok_or_else(wrong)?)
            .map_err(|_| wrong())?;
        let base = self.base_string(request);
        let key = format!("{}&{}", encode(consumer_secret), encode(token_secret));
        let right = match self.get("oauth_signature_method") {
            Some("HMAC-SHA1") => Hmac::<Sha1>::new_from_slice(key.as_bytes())
                .is_ok_and(|mac| mac.chain_update(&base).verify_slice(&given).is_ok()),
            Some("HMAC-SHA256") => Hmac::<Sha256>::new_from_slice(key.as_bytes())
                .is_ok_and(|mac| mac.chain_update(&base).verify_slice(&given).is_ok()),
            _ => false,
        };
        if right { Ok(()) } else { Err(wrong()) }
    }

    /// RFC 5849, 3.4.1.
    fn base_string(&self, request: &Request) -> String {
        let own = self
            .parameters
            .iter()
            .filter(|(name, _)| name != "oauth_signature")
            .map(|(n, v)| (encode(n), encode(v)));
        let mut pairs: Vec<(String, String)> = own
            .chain(request.query.iter().map(|(n, v)| (encode(n), encode(v))))
            .collect();
        pairs.sort();
        let parameters = pairs
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect::<Vec<_>>()
            .join("&");
        let url = request.url(&request.path);
        let url = match url.split_once("://") {
            Some((scheme, rest)) => {
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let standard = if scheme.eq_ignore_ascii_case("https") {
                    ":443"
                } else {
                    ":80"
                };
                let host = host.to_ascii_lowercase();
                format!(
                    "{}://{}{path}",
                    scheme.to_ascii_lowercase(),
                    host.strip_suffix(standard).unwrap_or(&host)
                )
            }
            None => url,
        };
        format!("{}&{}&{}", request.method, encode(&url), encode(&parameters))
    }
}

/// The access token that signed a request, for the authentication method `oauth1`.
pub(crate) fn access_token(identity: &Identity, request: &Request) -> Result<Ref> {
    let header = Header::of(request)?;
    let id = header.need("oauth_token")?;
    let (token, consumer) = identity.db.read(|tx| {
        let token = ACCESS_TOKENS.get(tx, id)?;
        let consumer = CONSUMERS.get(tx, text(&token, "consumer_id"))?;
        Ok::<_, Error>((token, consumer))
    })?;
    if token["expires_at"].as_i64().is_some_and(|at| now() > at) {
        return Err(Error::Unauthorized("Access token is expired".into()));
    }
    header.check_signature(request, text(&consumer, "secret"), text(&token, "access_secret"))?;
    Ok(token)
}

/// A request token that is not too old.
pub(crate) fn request_token(tx: &mut database::Tx<'_>, id: &str) -> Result<Ref> {
    let token = REQUEST_TOKENS.get(tx, id)?;
    if token["expires_at"].as_i64().is_some_and(|at| now() > at) {
        return Err(Error::Unauthorized("Request token is expired".into()));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Context, Method};
    use std::sync::Arc;

    #[test]
    fn the_base_string_is_that_of_the_rfc() {
        // RFC 5849, 3.4.1.1, without its form body.
        let mut request = Request::internal(
            Method::POST,
            "/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b",
            None,
            Arc::new(Context::internal()),
        );
        request.base_url = "HTTP://EXAMPLE.COM:80".into();
        let names = [
            ("oauth_consumer_key", "9djdj82h48djs9d2"),
            ("oauth_token", "kkk9d7dh3k39sjv7"),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", "137131201"),
            ("oauth_nonce", "7d8f3e4a"),
            ("oauth_signature", "ignored"),
        ];
        let header = Header {
            parameters: names.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        };
        assert_eq!(
            header.base_string(&request),
            "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26oauth_consumer_key%3D9djdj82h48djs9d2%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7"
        );
    }
}
