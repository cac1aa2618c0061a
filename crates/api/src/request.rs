//! A request, ready for a handler.

use crate::{Context, Error, HeaderMap, Method, Version};
use bytes::Bytes;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::sync::Arc;

/// A request whose body was read.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path below the service's mount, as it came (still percent-encoded).
    pub path: String,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; empty for streaming handlers.
    pub body: Bytes,
    /// `req-` and a UUID, in the answer and in every line of the log.
    pub id: String,
    /// The negotiated microversion.
    pub version: Version,
    /// `http://host:port` and the mount's prefix, without a slash at the end: what links begin with.
    pub base_url: String,
    /// The client's address; `None` in-process.
    pub peer: Option<SocketAddr>,
    pub(crate) params: Vec<(String, String)>,
    pub(crate) context: Option<Arc<Context>>,
}

impl Request {
    /// A request made by a program rather than by a client, for the cloud's own calls of its API's functions and for tests.
    pub fn internal(method: Method, path: &str, body: Option<&Value>, context: Arc<Context>) -> Request {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Request {
            method,
            path: path.into(),
            query: Query::parse(query),
            headers: HeaderMap::new(),
            body: body.map_or_else(Bytes::new, |b| Bytes::from(b.to_string())),
            id: new_id(),
            version: Version::default(),
            base_url: String::new(),
            peer: None,
            params: Vec::new(),
            context: Some(context),
        }
    }

    /// Adds a path parameter to an internal request.
    pub fn with_param(mut self, name: &str, value: &str) -> Request {
        self.params.push((name.into(), value.into()));
        self
    }

    /// Sets the microversion of an internal request.
    pub fn with_version(mut self, version: Version) -> Request {
        self.version = version;
        self
    }

    /// The path parameter `name`, decoded; empty where the route has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// Who asks. Every route that is not public has one.
    ///
    /// # Panics
    /// On a public route without a token: those use [`Request::optional_context`].
    pub fn context(&self) -> &Arc<Context> {
        self.context.as_ref().expect("routes that are not public are only reached with a token")
    }

    /// Who asks, on a public route where a token may have come along.
    pub fn optional_context(&self) -> Option<&Arc<Context>> {
        self.context.as_ref()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value, Error> {
        serde_json::from_slice(&self.body).map_err(|e| Error::bad_request("The server could not comply with the request since it is either malformed or otherwise incorrect.").caused_by(e))
    }

    /// The object under `key` of a JSON body: the `{...}` of `{"server": {...}}`.
    pub fn json_object(&self, key: &str) -> Result<Map<String, Value>, Error> {
        match self.json()? {
            Value::Object(mut body) => match body.remove(key) {
                Some(Value::Object(inner)) => Ok(inner),
                _ => Err(Error::bad_request(format!("The request body must have an object '{key}'."))),
            },
            _ => Err(Error::bad_request("The request body must be a JSON object.")),
        }
    }

    /// An absolute URL of this service.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }
}

pub(crate) fn new_id() -> String {
    format!("req-{}", uuid::Uuid::new_v4())
}

/// A query string: names may come more than once, and their order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    raw: String,
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses what stands behind the question mark. A name without `=` has an empty value.
    pub fn parse(raw: &str) -> Query {
        let decode = |s: &str| percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = raw.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Query { raw: raw.into(), pairs: pairs.collect() }
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The last value of `name`, which is what Python's WebOb takes.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Whether `name` is there, with or without a value.
    pub fn contains(&self, name: &str) -> bool {
        self.pairs.iter().any(|(n, _)| n == name)
    }

    /// Every pair, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// As it came.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The pairs written as a query string again, after `change` had its way with them; without the question mark.
    pub fn rewritten(&self, change: impl FnOnce(&mut Vec<(String, String)>)) -> String {
        use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
        let mut pairs = self.pairs.clone();
        change(&mut pairs);
        let encode = |s: &str| utf8_percent_encode(s, KEPT).to_string();
        pairs.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect::<Vec<_>>().join("&")
    }
}

/// A request whose body is still on the wire.
pub struct StreamRequest {
    /// Everything but the body.
    pub head: Request,
    /// The request as hyper has it; `hyper::upgrade::on` takes it for websockets.
    pub incoming: http::Request<hyper::body::Incoming>,
}

impl StreamRequest {
    /// The body, piece by piece.
    pub fn into_body(self) -> BodyStream {
        BodyStream { incoming: self.incoming.into_body(), patience: std::time::Duration::from_secs(60) }
    }
}

/// A body piece by piece.
pub struct BodyStream {
    incoming: hyper::body::Incoming,
    /// How long to wait for the next piece.
    pub patience: std::time::Duration,
}

impl BodyStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// 400 when the client breaks off, 408 when it sends nothing for [`BodyStream::patience`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.incoming.frame()).await;
            match frame.map_err(|_| Error::new(http::StatusCode::REQUEST_TIMEOUT, "The client sent nothing for too long."))? {
                None => return Ok(None),
                Some(Err(e)) => return Err(Error::bad_request("The request body ended too early.").caused_by(e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_keep_order_and_repetition() {
        let q = Query::parse("name=a%20b&name=c+d&flag&x=%");
        assert_eq!(q.get("name"), Some("a b"));
        assert_eq!(q.last("name"), Some("c d"));
        assert_eq!(q.all("name").count(), 2);
        assert_eq!(q.get("flag"), Some(""));
        assert_eq!(q.get("x"), Some("%"));
        assert_eq!(q.rewritten(|p| p.retain(|(n, _)| n == "name")), "name=a%20b&name=c%20d");
    }
}
