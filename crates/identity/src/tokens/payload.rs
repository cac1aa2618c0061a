//! What a Fernet token carries: upstream's payloads, as MessagePack.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rmpv::Value;
use uuid::Uuid;

/// The authentication methods in the order that gives them their bits.
pub const METHODS: &[&str] = &[
    "external",
    "password",
    "token",
    "oauth1",
    "mapped",
    "application_credential",
    "ec2credential",
];

/// What a token is for, as far as its payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadScope {
    /// Nothing but getting another token.
    Unscoped,
    /// A domain.
    Domain(String),
    /// A project.
    Project(String),
    /// The system.
    System,
    /// A project, through a trust.
    Trust {
        /// The project.
        project_id: String,
        /// The trust.
        trust_id: String,
    },
    /// A project, through an OAuth access token.
    OAuth {
        /// The project.
        project_id: String,
        /// The access token.
        access_token_id: String,
    },
    /// A project, through an application credential.
    ApplicationCredential {
        /// The project.
        project_id: String,
        /// The credential.
        application_credential_id: String,
    },
}

/// The content of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// Whose it is.
    pub user_id: String,
    /// How it was obtained.
    pub methods: Vec<String>,
    /// What it is for.
    pub scope: PayloadScope,
    /// µs since the epoch.
    pub expires_at: i64,
    /// Its audit id, then its parent's.
    pub audit_ids: Vec<String>,
}

/// UUIDs travel as their 16 bytes with a mark, anything else as text.
fn pack_id(id: &str) -> Value {
    match Uuid::parse_str(id) {
        Ok(uuid) => Value::Array(vec![true.into(), Value::Binary(uuid.as_bytes().to_vec())]),
        Err(_) => Value::Array(vec![false.into(), id.into()]),
    }
}

fn unpack_id(value: &Value) -> Option<String> {
    let [marked, id] = value.as_array()?.as_slice() else {
        return None;
    };
    if marked.as_bool()? { uuid_of(id) } else { text_of(id) }
}

fn uuid_of(value: &Value) -> Option<String> {
    Some(Uuid::from_slice(value.as_slice()?).ok()?.simple().to_string())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.as_str().map(Into::into),
        Value::Binary(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    }
}

/// Only the default domain's id is no UUID.
fn pack_domain(id: &str) -> Value {
    Uuid::parse_str(id).map_or_else(|_| id.into(), |uuid| Value::Binary(uuid.as_bytes().to_vec()))
}

fn unpack_domain(value: &Value) -> Option<String> {
    uuid_of(value).or_else(|| text_of(value))
}

fn pack_methods(methods: &[String]) -> Value {
    let bits: u64 = METHODS
        .iter()
        .enumerate()
        .filter(|(_, name)| methods.iter().any(|m| m == *name))
        .map(|(i, _)| 1 << i)
        .sum();
    bits.into()
}

fn unpack_methods(value: &Value) -> Option<Vec<String>> {
    let bits = value.as_u64()?;
    // Upstream lists the highest bit first.
    Some(
        METHODS
            .iter()
            .enumerate()
            .rev()
            .filter(|(i, _)| bits & (1 << i) != 0)
            .map(|(_, name)| (*name).to_owned())
            .collect(),
    )
}

impl Payload {
    /// The MessagePack form.
    pub fn pack(&self) -> Vec<u8> {
        let user = pack_id(&self.user_id);
        let methods = pack_methods(&self.methods);
        let expires = Value::F64(self.expires_at as f64 / 1e6);
        let audit_ids = self
            .audit_ids
            .iter()
            .map(|id| Value::Binary(URL_SAFE_NO_PAD.decode(id).unwrap_or_default()))
            .collect();
        let audit = Value::Array(audit_ids);
        let fields = match &self.scope {
            PayloadScope::Unscoped => vec![0.into(), user, methods, expires, audit],
            PayloadScope::Domain(id) => vec![1.into(), user, methods, pack_domain(id), expires, audit],
            PayloadScope::Project(id) => vec![2.into(), user, methods, pack_id(id), expires, audit],
            PayloadScope::Trust { project_id, trust_id } => {
                let trust =
                    Uuid::parse_str(trust_id).map_or(Value::Nil, |uuid| Value::Binary(uuid.as_bytes().to_vec()));
                let project = if project_id.is_empty() {
                    Value::Array(vec![false.into(), Value::Nil])
                } else {
                    pack_id(project_id)
                };
                vec![3.into(), user, methods, project, expires, audit, trust]
            }
            PayloadScope::OAuth {
                project_id,
                access_token_id,
            } => {
                vec![
                    7.into(),
                    user,
                    methods,
                    pack_id(project_id),
                    pack_id(access_token_id),
                    expires,
                    audit,
                ]
            }
            PayloadScope::System => vec![8.into(), user, methods, "all".into(), expires, audit],
            PayloadScope::ApplicationCredential {
                project_id,
                application_credential_id,
            } => {
                vec![
                    9.into(),
                    user,
                    methods,
                    pack_id(project_id),
                    expires,
                    audit,
                    pack_id(application_credential_id),
                ]
            }
        };
        let mut out = Vec::new();
        // Writing into a vector cannot fail.
        let _ = rmpv::encode::write_value(&mut out, &Value::Array(fields));
        out
    }

    /// Reads the MessagePack form; `None` for what is none of the kinds.
    pub fn unpack(bytes: &[u8]) -> Option<Payload> {
        let value = rmpv::decode::read_value(&mut &bytes[..]).ok()?;
        let (version, fields) = value.as_array()?.split_first()?;
        let at = |i: usize| fields.get(i);
        let (scope, expires, audit) = match version.as_u64()? {
            0 => (PayloadScope::Unscoped, 2, 3),
            1 => (PayloadScope::Domain(unpack_domain(at(2)?)?), 3, 4),
            2 => (PayloadScope::Project(unpack_id(at(2)?)?), 3, 4),
            3 => (
                PayloadScope::Trust {
                    project_id: unpack_id(at(2)?).unwrap_or_default(),
                    trust_id: uuid_of(at(5)?)?,
                },
                3,
                4,
            ),
            7 => (
                PayloadScope::OAuth {
                    project_id: unpack_id(at(2)?)?,
                    access_token_id: unpack_id(at(3)?)?,
                },
                4,
                5,
            ),
            8 => (PayloadScope::System, 3, 4),
            9 => {
                let application_credential_id = unpack_id(at(5)?)?;
                (
                    PayloadScope::ApplicationCredential {
                        project_id: unpack_id(at(2)?)?,
                        application_credential_id,
                    },
                    3,
                    4,
                )
            }
            _ => return None,
        };
        let audit_ids = at(audit)?
            .as_array()?
            .iter()
            .map(|id| Some(URL_SAFE_NO_PAD.encode(id.as_slice()?)))
            .collect::<Option<Vec<_>>>()?;
        Some(Payload {
            user_id: unpack_id(at(0)?)?,
            methods: unpack_methods(at(1)?)?,
            scope,
            expires_at: (at(expires)?.as_f64()? * 1e6) as i64,
            audit_ids,
        })
    }

    /// The project, where it is for one.
    pub fn project_id(&self) -> Option<&str> {
        match &self.scope {
            PayloadScope::Project(project_id)
            | PayloadScope::OAuth { project_id, .. }
            | PayloadScope::ApplicationCredential { project_id, .. }
            | PayloadScope::Trust { project_id, .. } => Some(project_id.as_str()).filter(|id| !id.is_empty()),
            _ => None,
        }
    }
}

/// A new audit id: 22 characters that name a token without being it.
pub fn new_audit_id() -> String {
    URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_comes_back() {
        let id = || Uuid::new_v4().simple().to_string();
        let scopes = [
            PayloadScope::Unscoped,
            PayloadScope::Domain("default".into()),
            PayloadScope::Domain(id()),
            PayloadScope::Project(id()),
            PayloadScope::System,
            PayloadScope::Trust {
                project_id: id(),
                trust_id: id(),
            },
            PayloadScope::Trust {
                project_id: String::new(),
                trust_id: id(),
            },
            PayloadScope::OAuth {
                project_id: id(),
                access_token_id: id(),
            },
            PayloadScope::ApplicationCredential {
                project_id: id(),
                application_credential_id: id(),
            },
        ];
        for scope in scopes {
            let payload = Payload {
                user_id: id(),
                methods: vec!["token".into(), "password".into()],
                scope,
                expires_at: 1_795_379_460_000_000,
                audit_ids: vec![new_audit_id(), new_audit_id()],
            };
            assert_eq!(Payload::unpack(&payload.pack()), Some(payload));
        }
    }

    #[test]
    fn a_token_of_the_reference_implementation_is_read() {
        // msgpack.packb((2, (True, bytes(range(16))), 2, (False, "admin-project"), 1795379460.0, [bytes(16)]))
        let mut bytes = vec![0x96, 2, 0x92, 0xc3, 0xc4, 16];
        bytes.extend(0..16u8);
        bytes.extend([2, 0x92, 0xc2, 0xad]);
        bytes.extend(b"admin-project");
        bytes.push(0xcb);
        bytes.extend(1_795_379_460.0f64.to_be_bytes());
        bytes.extend([0x91, 0xc4, 16]);
        bytes.extend([0; 16]);
        let payload = Payload::unpack(&bytes).unwrap();
        assert_eq!(payload.user_id, "000102030405060708090a0b0c0d0e0f");
        assert_eq!(payload.methods, ["password"]);
        assert_eq!(payload.scope, PayloadScope::Project("admin-project".into()));
        assert_eq!(payload.expires_at, 1_795_379_460_000_000);
        assert_eq!(payload.pack(), bytes);
    }

    #[test]
    fn garbage_is_no_payload() {
        for bytes in [&b""[..], &[0xc0], &[0x91, 2], &[0x92, 99, 1], &[0xff; 40]] {
            assert_eq!(Payload::unpack(bytes), None);
        }
    }
}
