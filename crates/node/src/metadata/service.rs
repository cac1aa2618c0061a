//! The metadata service: HTTP, and who asks is known by the address the switch has given the packet.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use node_protocol::node::Reporter;
use node_protocol::objects::Secret;
use node_protocol::reports::Report;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use virtual_network::topology::PortId;

use super::{Document, lookup};
use crate::desired::Desired;
use crate::network::stopped;

/// A password posted by a guest has at most so many bytes (Nova keeps four pieces of 255).
const MAX_PASSWORD: usize = 1020;
/// Requests under way; more wait.
const AT_ONCE: usize = 256;
/// A connection of a guest, with all its requests, may take so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Says which port is behind a client's address.
pub trait Client: Send + Sync + 'static {
    /// The port, if the address is one of a guest's.
    fn port(&self, address: IpAddr) -> Option<PortId>;
}

impl Client for crate::network::Network {
    fn port(&self, address: IpAddr) -> Option<PortId> {
        self.metadata_client(address).map(|(port, _)| port)
    }
}

/// Serves guests their own metadata.
pub struct Service {
    desired: Arc<Desired>,
    clients: Arc<dyn Client>,
    reporter: Reporter,
}

type Answer = Response<Full<Bytes>>;

impl Service {
    /// A service for the guests of this node.
    pub fn new(desired: Arc<Desired>, clients: Arc<dyn Client>, reporter: Reporter) -> Arc<Self> {
        Arc::new(Self {
            desired,
            clients,
            reporter,
        })
    }

    /// Serves until the node stops.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut stop) => return,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the metadata service cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let service = self.clone();
            tokio::spawn(async move {
                let _place = place;
                let answer = service_fn(|request| {
                    let service = service.clone();
                    async move { Ok::<_, Infallible>(service.answer(client, request).await) }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .max_buf_size(16 * 1024);
                let served =
                    tokio::time::timeout(PATIENCE, server.serve_connection(TokioIo::new(stream), answer)).await;
                if let Ok(Err(error)) = served {
                    tracing::debug!(%client, %error, "a guest's connection to the metadata service ended");
                }
            });
        }
    }

    async fn answer(&self, client: SocketAddr, request: Request<Incoming>) -> Answer {
        let address = client.ip().to_canonical();
        // Who asks is told by the address alone: whatever headers a guest sends name nobody.
        let server = self
            .clients
            .port(address)
            .and_then(|port| self.desired.owner(port))
            .map(|wanted| wanted.server);
        let path = request.uri().path().to_owned();
        let Some(server) = server else {
            return page(StatusCode::NOT_FOUND, "The resource could not be found.");
        };
        let found = self.desired.with_topology(|topology| lookup(&server, topology, &path));
        match (found, request.method()) {
            (None, _) => page(StatusCode::NOT_FOUND, "The resource could not be found."),
            (Some(Document::Password), &Method::POST) => {
                if server
                    .posted_password
                    .as_ref()
                    .is_some_and(|password| !password.is_empty())
                {
                    return page(
                        StatusCode::CONFLICT,
                        "There was a conflict when trying to complete your request.",
                    );
                }
                let body = match Limited::new(request.into_body(), MAX_PASSWORD).collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) if error.is::<LengthLimitError>() => {
                        return page(StatusCode::BAD_REQUEST, "Request is too large.");
                    }
                    Err(_) => return page(StatusCode::BAD_REQUEST, "The request was cut short."),
                };
                let password = Secret::new(String::from_utf8_lossy(&body));
                self.reporter.report(Report::ServerPassword {
                    id: server.id,
                    password,
                });
                text(Vec::new(), "text/plain; charset=UTF-8")
            }
            (Some(Document::Password), &Method::GET) => text(
                server.posted_password.clone().unwrap_or_default().into_bytes(),
                "text/plain; charset=UTF-8",
            ),
            (Some(Document::Password), _) => page(StatusCode::BAD_REQUEST, "GET and POST only are supported."),
            (Some(Document::Text(content)), _) => text(content, "text/plain; charset=UTF-8"),
            (Some(Document::Json(content)), _) => text(content, "application/json"),
        }
    }
}

fn text(content: Vec<u8>, kind: &'static str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(content)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An error as a page, which is what WebOb answers to who does not ask for JSON.
fn page(status: StatusCode, explanation: &str) -> Answer {
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let body = format!(
        "<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n  {explanation}<br /><br />\n\n\n\n </body>\n</html>"
    );
    let mut response = text(body.into_bytes(), "text/html; charset=UTF-8");
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use uuid::Uuid;

    /// 127.0.0.1 is port 9, 127.0.0.2 is port 10, others nobody.
    struct Loopback;

    impl Client for Loopback {
        fn port(&self, address: IpAddr) -> Option<PortId> {
            match address.to_string().as_str() {
                "127.0.0.1" => Some(PortId(Uuid::from_u128(9))),
                "127.0.0.2" => Some(PortId(Uuid::from_u128(10))),
                _ => None,
            }
        }
    }

    async fn ask(address: SocketAddr, from: &str, request: &str) -> String {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_guest_gets_its_own_and_nobody_elses() {
        let desired = Arc::new(Desired::open(None, Default::default()).unwrap());
        let objects = [
            testing::server_with(1, &[9]),
            testing::server_with(2, &[10]),
            testing::network(7),
        ];
        desired.replace(objects.into_iter().map(|object| testing::upsert(1, object)).collect());
        let reporter = Reporter::default();
        let service = Service::new(desired, Arc::new(Loopback), reporter.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_keep, stop) = watch::channel(false);
        tokio::spawn(service.serve(listener, stop));
        let get = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.2\r\nX-Instance-ID: {}\r\nConnection: close\r\n\r\n",
                Uuid::from_u128(2)
            )
        };
        let first = ask(address, "127.0.0.1", &get("/latest/meta-data/hostname")).await;
        assert!(
            first.starts_with("HTTP/1.1 200") && first.ends_with("server-1.novalocal"),
            "{first}"
        );
        let second = ask(address, "127.0.0.2", &get("/openstack/latest/meta_data.json")).await;
        assert!(
            second.contains("application/json") && second.contains("server-2.novalocal"),
            "{second}"
        );
        let stranger = ask(address, "127.0.0.3", &get("/latest/meta-data/hostname")).await;
        assert!(stranger.starts_with("HTTP/1.1 404"), "{stranger}");
        let post = |length: usize| {
            let body = "p".repeat(length);
            format!(
                "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        assert!(ask(address, "127.0.0.1", &post(2000)).await.starts_with("HTTP/1.1 400"));
        assert!(ask(address, "127.0.0.1", &post(5)).await.starts_with("HTTP/1.1 200"));
        let expected = Report::ServerPassword {
            id: Uuid::from_u128(1),
            password: Secret::new("ppppp"),
        };
        assert_eq!(reporter.next().await.report, expected);
    }
}
