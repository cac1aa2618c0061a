//! A cloud that has only Identity, spoken to as a client would, without the network.
#![allow(dead_code)] // Not every test file uses all of it.

use api::{Body, Context, HeaderMap, HeaderName, HeaderValue, Method, Request, Service};
use database::Database;
use identity::{Bootstrap, Config, Identity};
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Cloud {
    pub identity: Arc<Identity>,
    service: Service,
    _folder: tempfile::TempDir,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub headers: HeaderMap,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    pub fn text(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

pub const PASSWORD: &str = "correct horse";

impl Cloud {
    pub fn new(db: Database) -> Cloud {
        Cloud::with(db, |_| {})
    }

    pub fn with(db: Database, change: impl FnOnce(&mut Config)) -> Cloud {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            fernet_key_repository: folder.path().join("fernet"),
            credential_key_repository: folder.path().join("credential"),
            password_hash_rounds: 4,
            ..Config::default()
        };
        change(&mut config);
        let identity = Identity::new(db, config, None).unwrap();
        assert!(identity.bootstrap(&Cloud::plan()).unwrap().changed);
        Cloud {
            service: identity.service(),
            identity,
            _folder: folder,
        }
    }

    pub fn plan() -> Bootstrap {
        Bootstrap {
            admin_user: "admin".into(),
            admin_password: PASSWORD.into(),
            admin_project: "admin".into(),
            region: "RegionOne".into(),
            services: vec![identity::bootstrap::CatalogService {
                kind: "identity".into(),
                name: "keystone".into(),
                public_url: "http://cloud/v3".into(),
                internal_url: "http://cloud/v3".into(),
                admin_url: "http://cloud/v3".into(),
            }],
        }
    }

    pub fn call_with(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Answer {
        let mut request = Request::internal(method, path, body.as_ref(), Arc::new(Context::internal()));
        request.base_url = "http://cloud".into();
        for (name, value) in headers {
            request.headers.insert(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let response = self.service.call(request);
        let bytes = match &response.body {
            Body::Full(bytes) => bytes.clone(),
            _ => bytes::Bytes::new(),
        };
        Answer {
            status: response.status.as_u16(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            headers: response.headers,
        }
    }

    pub fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, &[("x-auth-token", token)], body)
    }

    pub fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, None)
    }

    /// Creates and returns the object under `key`.
    #[track_caller]
    pub fn create(&self, path: &str, token: &str, key: &str, object: Value) -> Value {
        self.call(Method::POST, path, token, Some(json!({key: object})))
            .expect(201)[key]
            .clone()
    }

    #[track_caller]
    pub fn put(&self, path: &str, token: &str) {
        self.call(Method::PUT, path, token, None).expect(204);
    }

    pub fn login(&self, user: &str, password: &str, scope: Value) -> Answer {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": {
            "name": user, "domain": {"id": "default"}, "password": password,
        }}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.call_with(Method::POST, "/v3/auth/tokens", &[], Some(json!({"auth": auth})))
    }

    #[track_caller]
    pub fn token(&self, user: &str, password: &str, scope: Value) -> String {
        let answer = self.login(user, password, scope);
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.headers["x-subject-token"].to_str().unwrap().to_owned()
    }

    pub fn admin(&self) -> String {
        self.token(
            "admin",
            PASSWORD,
            json!({"project": {"name": "admin", "domain": {"id": "default"}}}),
        )
    }

    pub fn validate(&self, token: &str, subject: &str) -> Answer {
        self.call_with(
            Method::GET,
            "/v3/auth/tokens",
            &[("x-auth-token", token), ("x-subject-token", subject)],
            None,
        )
    }

    pub fn role(&self, token: &str, name: &str) -> String {
        let roles = self.get(&format!("/v3/roles?name={name}"), token).expect(200);
        roles["roles"][0]["id"].as_str().unwrap().to_owned()
    }
}

pub fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

pub fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|object| object["name"].as_str().unwrap())
        .collect()
}
