//! The HTTP server: listeners, mounts, slow clients, graceful end.

use crate::{Request, Response, Service, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How long a client may take to send the head of a request, an idle connection included.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// How long requests under way may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A service and where it stands on a listener.
#[derive(Clone)]
pub struct Mount {
    /// `/compute`, or empty for the root.
    pub prefix: String,
    /// What answers there.
    pub service: Service,
}

/// Services on one listener. The longest prefix that fits a path answers it.
#[derive(Clone, Default)]
pub struct Mounts {
    mounts: Arc<Vec<Mount>>,
}

impl Mounts {
    /// The given mounts.
    pub fn new(mut mounts: Vec<Mount>) -> Mounts {
        mounts.sort_by_key(|m| std::cmp::Reverse(m.prefix.len()));
        Mounts { mounts: Arc::new(mounts) }
    }

    /// Adds a mount.
    pub fn add(&mut self, mount: Mount) {
        let mut mounts = self.mounts.to_vec();
        mounts.push(mount);
        *self = Mounts::new(mounts);
    }

    fn find<'a>(&self, path: &'a str) -> Option<(&Mount, &'a str)> {
        self.mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(mount.prefix.as_str())?;
            match rest {
                "" => Some((mount, "/")),
                r if r.starts_with('/') => Some((mount, r)),
                _ => None,
            }
        })
    }
}

/// Serves `mounts` on `listener` until `stop` becomes true, then lets requests under way end.
pub async fn serve(listener: TcpListener, mounts: Mounts, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Some clients look for names in the case that the reference services write.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_headers(200).title_case_headers(true);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: accept would fail again at once until others are closed.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let mounts = mounts.clone();
        let answer = service_fn(move |incoming| {
            let mounts = mounts.clone();
            async move { Ok::<_, Infallible>(answer(&mounts, incoming, peer).await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server ended");
    }
}

type HttpBody = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::io::Error>;

async fn answer(mounts: &Mounts, mut incoming: http::Request<Incoming>, peer: SocketAddr) -> http::Response<HttpBody> {
    let head_only = incoming.method() == http::Method::HEAD;
    let path = incoming.uri().path().to_string();
    if path == "/metrics" {
        return Response::text(StatusCode::OK, "text/plain; version=0.0.4", crate::metrics::render()).into_http(head_only);
    }
    if path == "/healthcheck" {
        return Response::text(StatusCode::OK, "text/plain", "OK").into_http(head_only);
    }
    let Some((mount, rest)) = mounts.find(&path) else {
        return Response::text(StatusCode::NOT_FOUND, "text/plain", "No service answers here.\n").into_http(head_only);
    };
    let base_url = base_url(&incoming, &mount.prefix);
    let query = incoming.uri().query().unwrap_or_default().to_string();
    let method = incoming.method().clone();
    let headers = std::mem::take(incoming.headers_mut());
    // A connection that is to be taken over needs its headers.
    if headers.contains_key(http::header::UPGRADE) {
        *incoming.headers_mut() = headers.clone();
    }
    let head: Request = Service::head(method, rest, &query, headers, base_url, Some(peer));
    mount.service.handle(head, incoming).await.into_http(head_only)
}

/// `http://` and what the client called us; a proxy in front says so in `X-Forwarded-Proto` and `X-Forwarded-Host`.
fn base_url(request: &http::Request<Incoming>, prefix: &str) -> String {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|s| matches!(*s, "http" | "https")).unwrap_or("http");
    let authority = request.uri().authority().map(|a| a.as_str());
    let host = text("x-forwarded-host").or(text("host")).or(authority).unwrap_or("localhost");
    format!("{scheme}://{host}{prefix}")
}
