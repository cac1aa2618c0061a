//! The door for nodes: HTTP on a Unix socket, or on any stream whose peer is known.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{NodeServer, closed};
use crate::SILENCE_LIMIT;
use crate::link::{CHANNEL_DEPTH, LinkError};
use crate::message::{Decoder, ToController, ToNode, encode};
use crate::wire::{LINK, NODE_HEADER, TUNNEL, read_all, read_message, write_all};

/// Who is at the other end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, known by the credentials of its socket. It may speak for any node.
    Local {
        /// Its user.
        uid: u32,
    },
    /// A machine that has shown a certificate for this name. It speaks for that node alone.
    Node {
        /// The name in the certificate.
        name: String,
    },
}

impl Peer {
    fn may_be(&self, node: &str) -> bool {
        match self {
            Peer::Local { .. } => true,
            Peer::Node { name } => name == node,
        }
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

impl NodeServer {
    /// Serves nodes on a Unix socket until [`NodeServer::close`]. Only processes of the `allowed` users (and of root) are let in.
    pub async fn serve_unix(&self, listener: UnixListener, allowed: Vec<u32>) -> io::Result<()> {
        let mut closing = self.inner.closing.subscribe();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = closed(&mut closing) => return Ok(()),
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                // Out of file descriptors, or the peer is gone already: neither ends the service.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a node's connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let uid = match stream.peer_cred() {
                Ok(credentials) => credentials.uid(),
                Err(error) => {
                    tracing::warn!(%error, "a peer without credentials");
                    continue;
                }
            };
            if uid != 0 && !allowed.contains(&uid) {
                tracing::warn!(uid, "a process of another user asked to be a node");
                continue;
            }
            let server = self.clone();
            tokio::spawn(async move { server.serve_stream(stream, Peer::Local { uid }).await });
        }
    }

    /// Serves one connection of a peer that is already known (a Unix socket's, or the inside of a TLS session).
    pub async fn serve_stream<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let peer = Arc::new(peer);
        let service = service_fn(move |request| {
            let (server, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, std::convert::Infallible>(server.answer(request, &peer).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SILENCE_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a node's connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::POST, ["v1", "link"]) => self.link(request, peer),
            (&Method::GET, ["v1", "images", id, "data"]) => self.image_data(id, request.headers(), peer).await,
            (&Method::POST, ["v1", "tunnels", ticket]) => self.tunnel_request(ticket, request),
            _ => text(StatusCode::NOT_FOUND, "nothing here"),
        }
    }

    fn link(&self, mut request: Request<Incoming>, peer: &Peer) -> Response<Body> {
        if !asks_for(&request, LINK) {
            return text(StatusCode::UPGRADE_REQUIRED, "a link is an upgraded connection");
        }
        let (server, peer) = (self.clone(), peer.clone());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(stream) => {
                    if let Err(error) = server.link_over(TokioIo::new(stream), &peer).await {
                        tracing::debug!(error = &error as &dyn std::error::Error, "a node's link ended");
                    }
                }
                Err(error) => tracing::debug!(%error, "a node's link did not come about"),
            }
        });
        switching(LINK)
    }

    async fn link_over<S>(&self, stream: S, peer: &Peer) -> Result<(), LinkError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut decoder = Decoder::default();
        let hello = tokio::time::timeout(SILENCE_LIMIT, read_message::<ToController, _>(&mut read, &mut decoder))
            .await
            .map_err(|_| LinkError::Silent {
                seconds: SILENCE_LIMIT.as_secs(),
            })??;
        let Some(ToController::Hello(hello)) = hello else {
            return Err(LinkError::OutOfTurn);
        };
        let accepted = if peer.may_be(&hello.hostname) {
            self.accept(&hello).await
        } else {
            Err(format!("its certificate is not that of {}", hello.hostname))
        };
        let protocol_version = match accepted {
            Ok(version) => version,
            Err(reason) => {
                tracing::warn!(node = hello.hostname, reason, "a node was refused");
                write
                    .write_all(&encode(&ToNode::Refused { reason: reason.clone() })?)
                    .await?;
                write.shutdown().await?;
                return Err(LinkError::Refused { reason });
            }
        };
        let welcome = ToNode::Welcome {
            protocol_version,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        write.write_all(&encode(&welcome)?).await?;

        let (to_node, messages) = mpsc::channel(CHANNEL_DEPTH);
        let (heard, from_node) = mpsc::channel(CHANNEL_DEPTH);
        let stream = async {
            tokio::select! {
                ended = read_all(read, decoder, heard) => ended,
                ended = write_all(write, messages) => ended,
            }
        };
        // Either one's end closes the other's channels; `run` must come to its own end to say that the node is gone.
        let ((), ended) = tokio::join!(self.run(*hello, to_node, from_node), stream);
        ended
    }

    async fn image_data(&self, id: &str, headers: &http::HeaderMap, peer: &Peer) -> Response<Body> {
        let node = headers
            .get(NODE_HEADER)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if !peer.may_be(node) {
            return text(StatusCode::FORBIDDEN, "the certificate is another node's");
        }
        let Ok(id) = Uuid::parse_str(id) else {
            return text(StatusCode::NOT_FOUND, "no such image");
        };
        match self.inner.images.open(node, id).await {
            Ok(Some(data)) => {
                let body = StreamBody::new(data.stream.map_ok(Frame::data));
                let mut response = Response::new(body.boxed_unsync());
                if let Some(size) = data.size {
                    response
                        .headers_mut()
                        .insert(header::CONTENT_LENGTH, HeaderValue::from(size));
                }
                response
            }
            Ok(None) => text(StatusCode::NOT_FOUND, "no such image"),
            Err(error) => {
                tracing::error!(error = &*error as &dyn std::error::Error, image = %id, "cannot open an image's data");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the image's data cannot be opened")
            }
        }
    }

    fn tunnel_request(&self, ticket: &str, mut request: Request<Incoming>) -> Response<Body> {
        let ticket = match Uuid::parse_str(ticket) {
            Ok(ticket) if self.expects_tunnel(ticket) => ticket,
            _ => return text(StatusCode::NOT_FOUND, "nobody waits for this tunnel"),
        };
        if !asks_for(&request, TUNNEL) {
            return text(StatusCode::UPGRADE_REQUIRED, "a tunnel is an upgraded connection");
        }
        let server = self.clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(stream) => {
                    server.deliver_tunnel(ticket, Box::new(TokioIo::new(stream)));
                }
                Err(error) => tracing::debug!(%error, "a tunnel did not come about"),
            }
        });
        switching(TUNNEL)
    }
}

fn asks_for(request: &Request<Incoming>, protocol: &str) -> bool {
    request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value == protocol)
}

fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(
        Full::new(Bytes::from_static(text.as_bytes()))
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = status;
    response
}
