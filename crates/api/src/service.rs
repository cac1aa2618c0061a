//! One service, its types erased: finds the route, the version and the caller, and runs the handler.

use crate::error::{NO_METHOD, NO_ROUTE, NO_TOKEN};
use crate::routes::Handler;
use crate::{
    AuthFailure, Authenticator, Body, BoxFuture, Error, ErrorFormat, HeaderValue, Method, Microversions, Query, Request,
    Response, Routes, StatusCode, StreamRequest, Version, metrics,
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a service is, apart from its routes.
pub struct ServiceConfig {
    /// The service type: `compute`.
    pub name: &'static str,
    /// How errors look.
    pub errors: Arc<dyn ErrorFormat>,
    /// The microversions, where it has them.
    pub microversions: Option<Microversions>,
    /// The largest body that is read into memory, in bytes. Streaming handlers have limits of their own.
    pub max_body: usize,
    /// A second header that carries the request id (`x-compute-request-id`).
    pub request_id_header: Option<&'static str>,
    /// Turns a path that older clients use into the one that the routes have (`/v2.1/PROJECT/servers`); `None` leaves it.
    pub rewrite: Option<fn(&str) -> Option<String>>,
}

/// oslo.middleware's limit of a request body, in bytes.
pub const DEFAULT_MAX_BODY: usize = 114_688;
/// How long a client may take for a body that is read into memory.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

impl ServiceConfig {
    /// A service with the defaults: no microversions, oslo's body limit.
    pub fn new(name: &'static str, errors: Arc<dyn ErrorFormat>) -> ServiceConfig {
        ServiceConfig { name, errors, microversions: None, max_body: DEFAULT_MAX_BODY, request_id_header: None, rewrite: None }
    }
}

struct Endpoint<S> {
    public: bool,
    pattern: &'static str,
    handler: Handler<S>,
}

struct Inner<S> {
    config: ServiceConfig,
    state: Arc<S>,
    router: matchit::Router<usize>,
    methods: Vec<HashMap<Method, Endpoint<S>>>,
    authenticator: Arc<dyn Authenticator>,
}

trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn handle<'a>(&'a self, head: Request, incoming: http::Request<Incoming>) -> BoxFuture<'a, Response>;
    fn call(&self, request: Request) -> Response;
}

/// A service, ready to be mounted.
#[derive(Clone)]
pub struct Service {
    inner: Arc<dyn Erased>,
}

impl Service {
    /// Puts a service together.
    ///
    /// # Panics
    /// When two routes contradict each other: a mistake in the program, found by any test that builds the service.
    pub fn new<S: Send + Sync + 'static>(
        config: ServiceConfig,
        state: Arc<S>,
        routes: Routes<S>,
        authenticator: Arc<dyn Authenticator>,
    ) -> Service {
        let mut router = matchit::Router::new();
        let mut methods: Vec<HashMap<Method, Endpoint<S>>> = Vec::new();
        let mut index: HashMap<&'static str, usize> = HashMap::new();
        for route in routes.table {
            let at = *index.entry(route.path).or_insert_with(|| {
                router.insert(route.path, methods.len()).unwrap_or_else(|e| panic!("route {}: {e}", route.path));
                methods.push(HashMap::new());
                methods.len() - 1
            });
            let endpoint = Endpoint { public: route.public, pattern: route.path, handler: route.handler };
            let before = methods[at].insert(route.method.clone(), endpoint);
            assert!(before.is_none(), "two handlers for {} {}", route.method, route.path);
        }
        Service { inner: Arc::new(Inner { config, state, router, methods, authenticator }) }
    }

    /// The service type.
    pub fn name(&self) -> &'static str {
        self.inner.name()
    }

    /// Runs a request that is in memory through routes, versions, authentication and error format, as if it had come by HTTP.
    pub fn call(&self, request: Request) -> Response {
        self.inner.call(request)
    }

    /// A request without its body, for [`Service::call`] and the server.
    pub fn head(method: Method, path: &str, query: &str, headers: http::HeaderMap, base_url: String, peer: Option<SocketAddr>) -> Request {
        Request {
            method,
            path: path.into(),
            query: Query::parse(query),
            headers,
            body: Bytes::new(),
            id: crate::request::new_id(),
            version: Version::default(),
            base_url,
            peer,
            params: Vec::new(),
            context: None,
        }
    }

    pub(crate) async fn handle(&self, head: Request, incoming: http::Request<Incoming>) -> Response {
        self.inner.handle(head, incoming).await
    }
}

impl<S: Send + Sync + 'static> Inner<S> {
    /// Everything before the body: route, version, caller.
    fn prepare(&self, head: &mut Request) -> Result<&Endpoint<S>, Error> {
        let rewritten = self.config.rewrite.and_then(|rewrite| rewrite(&head.path));
        let asked = rewritten.map(|path| std::mem::replace(&mut head.path, path));
        let found = self.router.at(&head.path).or_else(|e| {
            let trimmed = head.path.trim_end_matches('/');
            if trimmed.len() < head.path.len() && !trimmed.is_empty() { self.router.at(trimmed) } else { Err(e) }
        });
        let no_route = || Error::not_found("The resource could not be found.").kind(NO_ROUTE);
        let found = found.map_err(|_| no_route());
        let endpoint = found.and_then(|found| {
            let methods = &self.methods[*found.value];
            let endpoint = methods.get(&head.method).or_else(|| if head.method == Method::HEAD { methods.get(&Method::GET) } else { None });
            let decode = |v: &str| percent_decode_str(v).decode_utf8_lossy().into_owned();
            let params: Vec<(String, String)> = found.params.iter().map(|(n, v)| (n.into(), decode(v))).collect();
            match endpoint {
                Some(endpoint) => Ok((endpoint, params)),
                None => {
                    let mut allowed: Vec<&str> = methods.keys().map(Method::as_str).collect();
                    allowed.sort_unstable();
                    let error = Error::method_not_allowed("The method specified is not allowed for this resource.").kind(NO_METHOD);
                    let allow = HeaderValue::from_str(&allowed.join(", ")).unwrap_or(HeaderValue::from_static(""));
                    Err(error.header(http::header::ALLOW, allow))
                }
            }
        });
        let public = matches!(&endpoint, Ok((e, _)) if e.public);
        let token = head.headers.get("x-auth-token").and_then(|t| t.to_str().ok());
        match token {
            Some(token) if !token.is_empty() => match self.authenticator.authenticate(token) {
                Ok(context) => {
                    let path = asked.as_ref().unwrap_or(&head.path);
                    if !self.authenticator.admits(&context, self.config.name, &head.method, path) {
                        return Err(unauthenticated());
                    }
                    head.context = Some(context);
                }
                Err(_) if public => {}
                Err(AuthFailure::Invalid) => return Err(unauthenticated()),
                Err(AuthFailure::Unavailable(e)) => return Err(Error::unavailable("The token could not be checked.").caused_by(e)),
            },
            _ if public => {}
            _ => return Err(unauthenticated()),
        }
        if let Some(offered) = &self.config.microversions {
            match offered.negotiate(&head.headers) {
                Ok(version) => head.version = version,
                Err(_) if public => head.version = offered.min,
                Err(e) => return Err(e),
            }
        }
        let (endpoint, params) = endpoint?;
        head.params = params;
        Ok(endpoint)
    }

    fn run(&self, endpoint: &Endpoint<S>, request: &Request) -> Result<Response, Error> {
        let Handler::Sync(handler) = &endpoint.handler else {
            return Err(Error::not_implemented("This operation streams and has no in-memory form."));
        };
        std::panic::catch_unwind(AssertUnwindSafe(|| handler(&self.state, request))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Error::internal(format!("a handler panicked: {}", text.unwrap_or("without a text"))))
        })
    }

    fn finish(&self, request: &Request, result: Result<Response, Error>, pattern: &'static str, started: Instant) -> Response {
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                if error.status.is_server_error() {
                    let cause = error.source.as_ref().map(|s| chain(s.as_ref())).unwrap_or_default();
                    tracing::error!(request = %request.id, service = self.config.name, method = %request.method, path = %request.path, status = error.status.as_u16(), message = %error.message, cause, "request failed");
                }
                let mut response = self.config.errors.render(&error, request);
                for (name, value) in error.headers {
                    response.headers.insert(name, value);
                }
                response
            }
        };
        let id = HeaderValue::from_str(&request.id).unwrap_or(HeaderValue::from_static(""));
        if let Some(name) = self.config.request_id_header {
            response.headers.insert(name, id.clone());
        }
        response.headers.insert("x-openstack-request-id", id);
        if let Some(offered) = &self.config.microversions
            && request.version != Version::default()
        {
            offered.announce(request.version, &mut response.headers);
        }
        let took = started.elapsed();
        metrics::request(self.config.name, &request.method, pattern, response.status, took);
        tracing::info!(request = %request.id, service = self.config.name, method = %request.method, path = %request.path, status = response.status.as_u16(), micros = took.as_micros() as u64,
            user = request.context.as_ref().map(|c| c.user.id.as_str()), project = request.context.as_ref().and_then(|c| c.project_id()), "request");
        response
    }

    async fn read_body(&self, body: Incoming) -> Result<Bytes, Error> {
        let limit = self.config.max_body;
        let too_large = || Error::too_large("Request is too large.");
        let mut body = body;
        let mut read = BytesMut::new();
        loop {
            match body.frame().await {
                None => return Ok(read.freeze()),
                Some(Err(e)) => return Err(Error::bad_request("The request body ended too early.").caused_by(e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        if read.len() + data.len() > limit {
                            return Err(too_large());
                        }
                        read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn unauthenticated() -> Error {
    Error::unauthorized("The request you have made requires authentication.").kind(NO_TOKEN)
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl<S: Send + Sync + 'static> Erased for Inner<S> {
    fn name(&self) -> &'static str {
        self.config.name
    }

    fn handle<'a>(&'a self, mut head: Request, incoming: http::Request<Incoming>) -> BoxFuture<'a, Response> {
        Box::pin(async move {
            let started = Instant::now();
            let (pattern, result) = match self.prepare(&mut head) {
                Err(error) => ("", Err(error)),
                Ok(endpoint) => match &endpoint.handler {
                    Handler::Stream(handler) => {
                        let run = handler(self.state.clone(), StreamRequest { head: head.clone(), incoming });
                        let run = futures_util::FutureExt::catch_unwind(AssertUnwindSafe(run));
                        let result = run.await.unwrap_or_else(|_| Err(Error::internal("a streaming handler panicked")));
                        (endpoint.pattern, result)
                    }
                    Handler::Sync(_) => {
                        let body = incoming.into_body();
                        let body = match hyper::body::Body::is_end_stream(&body) {
                            true => Ok(Bytes::new()),
                            false => tokio::time::timeout(BODY_PATIENCE, self.read_body(body)).await.unwrap_or_else(|_| {
                                Err(Error::new(StatusCode::REQUEST_TIMEOUT, "The client took too long to send the request."))
                            }),
                        };
                        let result = body.and_then(|body| {
                            head.body = body;
                            self.run(endpoint, &head)
                        });
                        (endpoint.pattern, result)
                    }
                },
            };
            self.finish(&head, result, pattern, started)
        })
    }

    fn call(&self, mut request: Request) -> Response {
        let started = Instant::now();
        if request.body.len() > self.config.max_body {
            let too_large = Err(Error::too_large("Request is too large."));
            return self.finish(&request, too_large, "", started);
        }
        let (pattern, result) = match self.prepare(&mut request) {
            Ok(endpoint) => (endpoint.pattern, self.run(endpoint, &request)),
            Err(error) => ("", Err(error)),
        };
        self.finish(&request, result, pattern, started)
    }
}

impl Response {
    pub(crate) fn into_http(self, head_only: bool) -> http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>> {
        use http_body_util::{Empty, Full};
        let mut out = http::Response::new(());
        *out.status_mut() = self.status;
        *out.headers_mut() = self.headers;
        let never = |n: std::convert::Infallible| -> std::io::Error { match n {} };
        let body = match self.body {
            Body::Full(bytes) if head_only => {
                out.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
                Empty::new().map_err(never).boxed_unsync()
            }
            Body::Stream(_) if head_only => Empty::new().map_err(never).boxed_unsync(),
            Body::Empty => Empty::new().map_err(never).boxed_unsync(),
            Body::Full(bytes) => Full::new(bytes).map_err(never).boxed_unsync(),
            Body::Stream(stream) => stream,
        };
        out.map(|()| body)
    }
}
