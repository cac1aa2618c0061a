//! A small client of the cloud's own API, for what `up` makes and for health checks. It does nothing that a user could not.

use serde_json::{Value, json};
use std::time::Duration;

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing answered.
    #[error("{url} does not answer: {reason}")]
    Unreachable {
        /// What was called.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The answer was an error.
    #[error("{method} {url} was answered with {status}: {text}")]
    Status {
        /// The method.
        method: &'static str,
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The service's text.
        text: String,
    },
    /// The answer was not what the API promises.
    #[error("{url} answered without {what}")]
    Shape {
        /// What was called.
        url: String,
        /// What was missing.
        what: &'static str,
    },
}

/// A caller with a token for a project.
pub struct Client {
    agent: ureq::Agent,
    token: String,
    base: Box<dyn Fn(&str) -> String + Send + Sync>,
}

/// Asks `url` without a token; the HTTP status of the answer.
pub fn ping(url: &str) -> Result<u16, ClientError> {
    let answer = agent(Duration::from_secs(5)).get(url).call();
    answer.map(|a| a.status().as_u16()).map_err(|e| ClientError::Unreachable { url: url.into(), reason: e.to_string() })
}

fn agent(limit: Duration) -> ureq::Agent {
    // A proxy of the environment is for the world outside, not for the cloud's own services.
    ureq::Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).max_redirects(0).max_redirects_will_error(false).proxy(None).build().into()
}

impl Client {
    /// Signs in with a password. `base` gives the URL of a service type.
    pub fn sign_in(base: impl Fn(&str) -> String + Send + Sync + 'static, user: &str, password: &str, project: &str) -> Result<Client, ClientError> {
        let agent = agent(Duration::from_secs(600));
        let url = format!("{}/v3/auth/tokens", base("identity"));
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": user, "domain": domain, "password": password}}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let mut answer = agent
            .post(&url)
            .header("content-type", "application/json")
            .send(body.to_string().as_bytes())
            .map_err(|e| ClientError::Unreachable { url: url.clone(), reason: e.to_string() })?;
        let status = answer.status().as_u16();
        if status != 201 {
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            return Err(ClientError::Status { method: "POST", url, status, text });
        }
        let token = answer.headers().get("x-subject-token").and_then(|t| t.to_str().ok()).map(String::from);
        let token = token.ok_or(ClientError::Shape { url, what: "a token" })?;
        Ok(Client { agent, token, base: Box::new(base) })
    }

    fn finish(method: &'static str, url: String, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, ClientError> {
        let mut answer = answer.map_err(|e| ClientError::Unreachable { url: url.clone(), reason: e.to_string() })?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        if !(200..300).contains(&status) {
            return Err(ClientError::Status { method, url, status, text });
        }
        Ok(if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    /// GET.
    pub fn get(&self, service: &str, path: &str) -> Result<Value, ClientError> {
        let url = format!("{}{path}", (self.base)(service));
        Self::finish("GET", url.clone(), self.agent.get(&url).header("x-auth-token", &self.token).call())
    }

    /// POST with a JSON body.
    pub fn post(&self, service: &str, path: &str, body: &Value) -> Result<Value, ClientError> {
        let url = format!("{}{path}", (self.base)(service));
        let request = self.agent.post(&url).header("x-auth-token", &self.token).header("content-type", "application/json");
        Self::finish("POST", url, request.send(body.to_string().as_bytes()))
    }

    /// PUT with a JSON body.
    pub fn put(&self, service: &str, path: &str, body: &Value) -> Result<Value, ClientError> {
        let url = format!("{}{path}", (self.base)(service));
        let request = self.agent.put(&url).header("x-auth-token", &self.token).header("content-type", "application/json");
        Self::finish("PUT", url, request.send(body.to_string().as_bytes()))
    }

    /// PUT with the bytes of a file or buffer.
    pub fn upload(&self, service: &str, path: &str, bytes: impl std::io::Read) -> Result<Value, ClientError> {
        let url = format!("{}{path}", (self.base)(service));
        let request = self.agent.put(&url).header("x-auth-token", &self.token).header("content-type", "application/octet-stream");
        let mut bytes = bytes;
        Self::finish("PUT", url, request.send(ureq::SendBody::from_reader(&mut bytes)))
    }

    /// The first object called `name` of a list, or else what `make` makes. `list` is the path of the list, `key` the list's key.
    pub fn ensure(&self, service: &str, list: &str, key: &str, name: &str, make: impl FnOnce(&Client) -> Result<Value, ClientError>) -> Result<Value, ClientError> {
        let all = self.get(service, list)?;
        let found = all.get(key).and_then(Value::as_array).into_iter().flatten().find(|o| o.get("name").and_then(Value::as_str) == Some(name));
        match found {
            Some(found) => Ok(found.clone()),
            None => make(self),
        }
    }
}
