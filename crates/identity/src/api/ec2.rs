//! `/v3/ec2tokens` and `/v3/s3tokens`: a request signed with an EC2 credential, turned into a token.

use super::credentials::{ec2_blob, hashed, opened};
use super::*;
use crate::store::credentials::CREDENTIALS;
use crate::store::{application_credentials, assignments, is_true, projects, trusts, users};
use crate::tokens::payload::PayloadScope;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use database::now;
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.post("/v3/ec2tokens", |s: &Identity, r: &Request| {
        exchange(s, r, "identity:ec2tokens_validate", check_ec2, true)
    });
    routes.post("/v3/s3tokens", |s: &Identity, r: &Request| {
        exchange(s, r, "identity:s3tokens_validate", check_s3, false)
    });
}

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn quote(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn hmac256(key: &[u8], data: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn hmac1(key: &[u8], data: &[u8]) -> Vec<u8> {
    Hmac::<Sha1>::new_from_slice(key)
        .map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

/// Compares without telling by its time where the difference is.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

fn refuse(why: &str) -> Error {
    Error::Unauthorized(why.into())
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn sorted_query(params: &Value) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut pairs: Vec<(String, String)> = params
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, v)| (n.clone(), shown(v)))
        .collect();
    pairs.sort();
    pairs
        .iter()
        .map(|(n, v)| format!("{}={}", quote(n), quote(v)))
        .collect::<Vec<_>>()
        .join("&")
}

/// AWS signature version 4's key for a day, region and service.
fn v4_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let key = hmac256(format!("AWS4{secret}").as_bytes(), date.as_bytes());
    let key = hmac256(&key, region.as_bytes());
    let key = hmac256(&key, service.as_bytes());
    hmac256(&key, b"aws4_request")
}

/// The signature a request should have, by AWS signature version 2 or 4.
fn ec2_signature(secret: &str, request: &Value) -> Option<String> {
    let (params, headers) = (&request["params"], &request["headers"]);
    let header = |name: &str| {
        headers
            .as_object()
            .into_iter()
            .flatten()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .and_then(|(_, v)| v.as_str())
            .unwrap_or_default()
    };
    if params["SignatureVersion"].as_str() == Some("2") {
        let query = sorted_query(params);
        let text = format!(
            "{}\n{}\n{}\n{query}",
            text_of(request, "verb"),
            text_of(request, "host"),
            text_of(request, "path")
        );
        let digest = match params["SignatureMethod"].as_str() {
            Some("HmacSHA1") => hmac1(secret.as_bytes(), text.as_bytes()),
            _ => hmac256(secret.as_bytes(), text.as_bytes()),
        };
        return Some(STANDARD.encode(digest));
    }
    // Version 4: what was signed stands in the header or in the query.
    let authorization = header("authorization");
    let named = |name: &str, param: &str| {
        let from_header = authorization
            .split([' ', ','])
            .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        from_header
            .map(str::to_owned)
            .or_else(|| params[param].as_str().map(Into::into))
    };
    let credential = named("Credential", "X-Amz-Credential")?;
    let signed = named("SignedHeaders", "X-Amz-SignedHeaders")?;
    let scope: Vec<&str> = credential.split('/').skip(1).collect();
    let [date, region, service, _] = scope[..] else {
        return None;
    };
    let mut canonical_headers = String::new();
    for name in signed.split(';') {
        let value = if name == "host" {
            text_of(request, "host")
        } else {
            header(name)
        };
        canonical_headers.push_str(&format!(
            "{name}:{}\n",
            value.split_whitespace().collect::<Vec<_>>().join(" ")
        ));
    }
    let mut query = params.clone();
    if let Some(query) = query.as_object_mut() {
        query.remove("X-Amz-Signature");
    }
    let query = if text_of(request, "verb") == "POST" {
        String::new()
    } else {
        sorted_query(&query)
    };
    let body_hash = text_of(request, "body_hash");
    let canonical = format!(
        "{}\n{}\n{query}\n{canonical_headers}\n{signed}\n{body_hash}",
        text_of(request, "verb"),
        text_of(request, "path")
    );
    let stamp = match header("x-amz-date") {
        "" => text_of(params, "X-Amz-Date"),
        stamp => stamp,
    };
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{}\n{}",
        scope.join("/"),
        hex::encode(Sha256::digest(canonical.as_bytes()))
    );
    Some(hex::encode(hmac256(
        &v4_key(secret, date, region, service),
        to_sign.as_bytes(),
    )))
}

fn check_ec2(secret: &str, request: &Value) -> Result<()> {
    let given = text_of(request, "signature");
    if given.is_empty() {
        return Err(refuse("EC2 signature not supplied."));
    }
    let fits = |request: &Value| ec2_signature(secret, request).is_some_and(|right| same(given, &right));
    if fits(request) {
        return Ok(());
    }
    // Some clients sign the host without its port.
    if let Some((host, _)) = text_of(request, "host").rsplit_once(':') {
        let mut without_port = request.clone();
        without_port["host"] = host.into();
        if fits(&without_port) {
            return Ok(());
        }
    }
    Err(refuse("Invalid EC2 signature."))
}

fn check_s3(secret: &str, request: &Value) -> Result<()> {
    let signed = URL_SAFE
        .decode(text_of(request, "token"))
        .map_err(|_| refuse("Invalid EC2 signature."))?;
    let right = if signed.starts_with(b"AWS4") {
        let text = String::from_utf8_lossy(&signed);
        let lines: Vec<&str> = text.split('\n').collect();
        let scope: Vec<&str> = lines.get(2).map(|line| line.split('/').collect()).unwrap_or_default();
        let ([_, _, _, _], [date, region, service, "aws4_request"]) = (&lines[..], &scope[..]) else {
            return Err(refuse("Invalid EC2 signature."));
        };
        if lines[0] != "AWS4-HMAC-SHA256" || !["s3", "iam", "sts"].contains(service) {
            return Err(refuse("Invalid EC2 signature."));
        }
        hex::encode(hmac256(&v4_key(secret, date, region, service), &signed))
    } else {
        STANDARD.encode(hmac1(secret.as_bytes(), &signed))
    };
    if same(text_of(request, "signature"), &right) {
        Ok(())
    } else {
        Err(refuse("Credential signature mismatch"))
    }
}

fn exchange(
    s: &Identity,
    r: &Request,
    rule: &str,
    check: fn(&str, &Value) -> Result<()>,
    with_id: bool,
) -> Result<Response> {
    s.enforce(r, rule, &Target::new())?;
    let body = body(r)?;
    if body.is_empty() {
        return Err(Error::Invalid("request must include a request body".into()));
    }
    let signed = ["credentials", "credential", "ec2Credentials"]
        .into_iter()
        .find_map(|key| body.get(key))
        .cloned()
        .unwrap_or_default();
    if signed.get("access").is_none() {
        return Err(refuse("EC2 Signature not supplied"));
    }
    let absent = || Error::Missing("EC2 access key not found.".into());
    let credential = s.read(|tx| CREDENTIALS.get(tx, &hashed(text_of(&signed, "access"))));
    let credential = credential.map_err(|error| if error.is_not_found() { absent() } else { error })?;
    if text(&credential, "type") != "ec2" {
        return Err(absent());
    }
    let credential = opened(s, credential)?;
    let blob = Value::Object(ec2_blob(&credential)?);
    check(text_of(&blob, "secret"), &signed)?;
    check_age(s, &signed)?;
    let (user_id, scope) = s.read(|tx| {
        let user = users::get(tx, text(&credential, "user_id"), &s.config.security_compliance)?;
        let project = projects::get(tx, text(&credential, "project_id"))?;
        if !is_true(&user, "enabled") || !projects::is_enabled(tx, &project)? {
            return Err(refuse("the user or project is disabled"));
        }
        let project_id = text(&project, "id").to_owned();
        let mut user_id = text(&user, "id").to_owned();
        let id = |key: &str| blob[key].as_str().map(str::to_owned);
        let scope = if let Some(trust_id) = id("trust_id") {
            let trust = trusts::get(tx, &trust_id)?;
            if is_true(&trust, "impersonation") {
                user_id = text(&trust, "trustee_user_id").to_owned();
            }
            PayloadScope::Trust { project_id, trust_id }
        } else if let Some(application_credential_id) = id("app_cred_id") {
            let by = application_credentials::get(tx, &application_credential_id)?;
            if text(&by, "project_id") != project_id {
                return Err(refuse(
                    "EC2 credential project does not match the application credential project.",
                ));
            }
            PayloadScope::ApplicationCredential {
                project_id,
                application_credential_id,
            }
        } else if let Some(access_token_id) = id("access_token_id") {
            let by = crate::store::oauth1::ACCESS_TOKENS.get(tx, &access_token_id)?;
            if text(&by, "project_id") != project_id {
                return Err(refuse(
                    "EC2 credential project does not match the OAuth1 access token project.",
                ));
            }
            PayloadScope::OAuth {
                project_id,
                access_token_id,
            }
        } else {
            let place = assignments::Target::Project(project_id.clone());
            if assignments::effective_roles(tx, &user_id, &place, false)?.is_empty() {
                return Err(refuse("User not valid for project."));
            }
            PayloadScope::Project(project_id)
        };
        Ok((user_id, scope))
    })?;
    let token = s.issue_for(&user_id, "ec2credential", scope)?;
    let response = Response::bytes(StatusCode::OK, "application/json", token.render(&s.db, true)?);
    Ok(if with_id {
        response.header("x-subject-token", &token.id)
    } else {
        response
    })
}

/// A signed request is good for some minutes.
fn check_age(s: &Identity, signed: &Value) -> Result<()> {
    let stamp = [
        &signed["params"]["Timestamp"],
        &signed["headers"]["X-Amz-Date"],
        &signed["params"]["X-Amz-Date"],
    ];
    let Some(stamp) = stamp
        .into_iter()
        .find_map(|value| value.as_str().filter(|text| !text.is_empty()))
    else {
        return Ok(());
    };
    // 20261122T203100Z
    let basic = stamp.len() == 16 && stamp.is_ascii() && stamp.as_bytes()[8] == b'T';
    let stamp = match basic {
        true => format!(
            "{}-{}-{}T{}:{}:{}Z",
            &stamp[..4],
            &stamp[4..6],
            &stamp[6..8],
            &stamp[9..11],
            &stamp[11..13],
            &stamp[13..15]
        ),
        false => stamp.to_owned(),
    };
    let at = ::api::time::parse(&stamp).ok_or_else(|| refuse("Credential timestamp is invalid"))?;
    if now() > at + s.config.ec2_auth_ttl * 60_000_000 {
        return Err(refuse("Credential is expired"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_and_4_signatures_are_those_of_amazon() {
        // Amazon's own example of version 4 (AWS General Reference, "Signature Version 4 signing process").
        let request = json!({
            "verb": "POST",
            "host": "iam.amazonaws.com",
            "path": "/",
            "params": {},
            "headers": {
                "Content-type": "application/x-www-form-urlencoded; charset=utf-8",
                "X-Amz-Date": "20110909T233600Z",
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20110909/us-east-1/iam/aws4_request,SignedHeaders=content-type;host;x-amz-date,Signature=ced6826de92d2bdeed8f846f0bf508e8559e98e4b0199114b84c54174deb456c",
            },
            "body_hash": "b6359072c78d70ebee1e81adcbab4f01bf2c23245fa365ef83fe8f1f955085e2",
        });
        let right = ec2_signature("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", &request);
        assert_eq!(
            right.as_deref(),
            Some("ced6826de92d2bdeed8f846f0bf508e8559e98e4b0199114b84c54174deb456c")
        );
        let old = json!({"verb": "GET", "host": "h", "path": "/", "params": {"SignatureVersion": "2", "SignatureMethod": "HmacSHA256"}});
        assert!(ec2_signature("s", &old).is_some());
        assert!(
            check_ec2("s", &old).is_err(),
            "a request without a signature is refused"
        );
    }
}
