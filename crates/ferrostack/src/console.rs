//! Guests' screens in a browser: the noVNC page, and a websocket that leads through the node's link to the guest.
//! A console token opens one connection, once.

use api::{Error, HeaderValue, Method, Request, Response, Routes, Service, ServiceConfig, StatusCode, StreamRequest};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use node_protocol::controller::NodeServer;
use node_protocol::link::Duplex;
use node_protocol::queries::ConsoleKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

#[derive(rust_embed::RustEmbed)]
#[folder = "novnc/"]
struct Page;

/// Where a console token leads.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The node the guest is on.
    pub node: String,
    /// The guest.
    pub server_id: uuid::Uuid,
    /// Screen or serial port.
    pub kind: ConsoleKind,
}

/// Takes a token and says where it leads; the same token a second time leads nowhere.
pub trait Redeem: Send + Sync + 'static {
    /// `None` where the token is unknown, expired or was used.
    fn redeem(&self, token: &str) -> Result<Option<Target>, Error>;
}

struct Consoles {
    redeem: Box<dyn Redeem>,
    nodes: NodeServer,
}

/// How long a node may take to open a console.
const PATIENCE: Duration = Duration::from_secs(10);
/// RFB sends rectangles; a longer message from a browser is no RFB.
const LARGEST_MESSAGE: usize = 1 << 20;

struct NoTokens;
impl api::Authenticator for NoTokens {
    fn authenticate(&self, _: &str) -> Result<Arc<api::Context>, api::AuthFailure> {
        Err(api::AuthFailure::Invalid)
    }
}

/// The service on the noVNC port.
pub fn service(redeem: impl Redeem, nodes: NodeServer) -> Service {
    let mut routes = Routes::new();
    routes.public(Method::GET, "/vnc_lite.html", |_: &Consoles, _| file("vnc_lite.html"));
    routes.public(Method::GET, "/vnc_auto.html", |_: &Consoles, _| file("vnc_lite.html"));
    routes.public(Method::GET, "/core/{*path}", |_: &Consoles, r: &Request| file(&format!("core/{}", r.param("path"))));
    routes.public(Method::GET, "/vendor/{*path}", |_: &Consoles, r: &Request| file(&format!("vendor/{}", r.param("path"))));
    for path in ["/", "/websockify"] {
        routes.public_stream(Method::GET, path, |s, r| Box::pin(connect(s, r)));
    }
    let config = ServiceConfig::new("novnc", Arc::new(api::formats::Image { identity_url: String::new() }));
    Service::new(config, Arc::new(Consoles { redeem: Box::new(redeem), nodes }), routes, Arc::new(NoTokens))
}

fn file(path: &str) -> Result<Response, Error> {
    let found = Page::get(path).ok_or_else(|| Error::not_found("The page does not exist."))?;
    let kind = match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "application/octet-stream",
    };
    Ok(Response::bytes(StatusCode::OK, kind, found.data.into_owned()).header("x-content-type-options", "nosniff"))
}

async fn connect(consoles: Arc<Consoles>, request: StreamRequest) -> Result<Response, Error> {
    let key = request.head.headers.get("sec-websocket-key").cloned();
    let key = key.ok_or_else(|| Error::bad_request("A websocket is expected here."))?;
    let cookie = request.head.header("cookie").and_then(|c| c.split(';').find_map(|c| c.trim().strip_prefix("token=").map(String::from)));
    let token = request.head.query.get("token").map(String::from).or(cookie);
    // Refused without a word and with the connection's end: what follows a failed upgrade is taken for frames.
    let refused = || Ok(Response::empty(StatusCode::FORBIDDEN).header("connection", "close"));
    let Some(token) = token else { return refused() };
    let Some(target) = database::blocking(|| consoles.redeem.redeem(&token))? else { return refused() };
    let guest = consoles.nodes.open_console(&target.node, target.server_id, target.kind, PATIENCE).await;
    let guest = guest.map_err(|e| Error::unavailable("The guest's console cannot be reached.").caused_by(e))?;

    let mut incoming = request.incoming;
    let upgrade = hyper::upgrade::on(&mut incoming);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default().max_message_size(Some(LARGEST_MESSAGE)).max_frame_size(Some(LARGEST_MESSAGE));
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
                if let Err(error) = join(socket, guest).await {
                    tracing::debug!(%error, server = %target.server_id, "a console connection ended");
                }
            }
            Err(error) => tracing::debug!(%error, "a console connection was not taken over"),
        }
    });
    let mut response = Response::empty(StatusCode::SWITCHING_PROTOCOLS)
        .header("upgrade", "websocket")
        .header("connection", "Upgrade")
        // Clients of the service that noVNC usually stands in front of look for its name.
        .header("server", "WebSockify")
        .header("sec-websocket-accept", derive_accept_key(key.as_bytes()));
    let offered = request.head.header("sec-websocket-protocol").unwrap_or_default();
    if offered.split(',').any(|p| p.trim() == "binary") {
        response.headers.insert("sec-websocket-protocol", HeaderValue::from_static("binary"));
    }
    Ok(response)
}

/// Carries bytes both ways until either side ends.
async fn join(
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    guest: Box<dyn Duplex>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (mut to_browser, mut from_browser) = socket.split();
    let (mut from_guest, mut to_guest) = tokio::io::split(guest);
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from_guest.read(&mut buffer).await?;
            if n == 0 {
                to_browser.close().await?;
                return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(());
            }
            to_browser.send(Message::binary(buffer[..n].to_vec())).await?;
        }
    };
    let up = async {
        while let Some(message) = from_browser.next().await {
            match message? {
                Message::Binary(bytes) => to_guest.write_all(&bytes).await?,
                Message::Text(text) => to_guest.write_all(text.as_bytes()).await?,
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    tokio::select! { ended = down => ended, ended = up => ended }
}
