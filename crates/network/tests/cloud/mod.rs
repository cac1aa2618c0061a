//! A Network service with two projects and an administrator, called as if by HTTP.

use api::{AuthFailure, Authenticator, Body, Context, DomainRef, Method, Principal, Scope, Service};
use database::Database;
use network::{Config, Network, VlanRange};
use serde_json::Value;
use std::sync::Arc;

pub const ADMIN: &str = "11111111111111111111111111111111";
pub const ALICE: &str = "22222222222222222222222222222222";
pub const BOB: &str = "33333333333333333333333333333333";

/// Tokens are `project:role,role`.
struct Tokens;

pub fn context(project: &str, roles: &[&str]) -> Context {
    let mut context = Context::internal_for(project);
    context.user = Principal { id: format!("user-of-{project}"), name: "user".into(), ..Principal::default() };
    context.scope = Scope::Project { id: project.into(), name: project.into(), domain: DomainRef::default(), is_domain: false };
    context.credentials.roles = roles.iter().map(|r| r.to_string()).collect();
    context.credentials.user_id = Some(context.user.id.clone());
    context.credentials.is_admin = false;
    context.roles = roles.iter().map(|r| api::RoleRef { id: r.to_string(), name: r.to_string(), domain_id: None }).collect();
    context
}

impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        let (project, roles) = token.split_once(':').ok_or(AuthFailure::Invalid)?;
        Ok(Arc::new(context(project, &roles.split(',').collect::<Vec<_>>())))
    }
}

pub struct Cloud {
    #[allow(dead_code)]
    pub network: Arc<Network>,
    service: Service,
}

/// An answer: its status and its JSON.
pub struct Answer(pub u16, pub Value);

impl Answer {
    #[track_caller]
    pub fn ok(self, key: &str) -> Value {
        assert!(self.0 < 300, "{} {}", self.0, self.1);
        self.1[key].clone()
    }

    /// The status, the type and the text of an error.
    pub fn error(&self) -> (u16, String, String) {
        let e = &self.1["NeutronError"];
        (self.0, e["type"].as_str().unwrap_or_default().into(), e["message"].as_str().unwrap_or_default().into())
    }
}

impl Cloud {
    pub fn new(db: Database) -> Cloud {
        let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).with_test_writer().try_init();
        let policy = policy::Enforcer::new(&[policy::defaults::network::RULES], None).expect("the rules compile");
        let config = Config {
            vlan_ranges: vec![VlanRange { physical_network: "extnet".into(), first: 100, last: 103 }],
            ..Config::default()
        };
        let network = Arc::new(Network::new(db, policy, config).expect("the service starts"));
        let errors = Arc::new(api::formats::Network { identity_url: String::new() });
        let service = network.clone().service(errors, Arc::new(Tokens));
        Cloud { network, service }
    }

    pub fn call_with(&self, token: &str, method: &str, path: &str, body: Option<Value>, headers: &[(&str, &str)]) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut map = api::HeaderMap::new();
        map.insert("x-auth-token", token.parse().expect("a header"));
        for (name, value) in headers {
            let name: api::HeaderName = name.parse().expect("a header name");
            map.insert(name, value.parse().expect("a header"));
        }
        let method: Method = method.parse().expect("a method");
        let mut request = Service::head(method, path, query, map, "http://cloud:9696".into(), None);
        request.body = body.map(|b| b.to_string().into()).unwrap_or_default();
        let response = self.service.call(request);
        let value = match response.body {
            Body::Full(bytes) => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        Answer(response.status.as_u16(), value)
    }

    pub fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let body = (!body.is_null()).then_some(body);
        self.call_with(token, method, path, body, &[])
    }

    pub fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, Value::Null)
    }

    pub fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, "POST", path, body)
    }

    pub fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(token, "PUT", path, body)
    }

    pub fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(token, "DELETE", path, Value::Null)
    }
}

pub fn admin() -> String {
    format!("{ADMIN}:admin,manager,member,reader")
}

pub fn alice() -> String {
    format!("{ALICE}:member,reader")
}

pub fn bob() -> String {
    format!("{BOB}:member,reader")
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").into()
}
