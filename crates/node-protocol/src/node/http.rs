//! The way to a controller over HTTP.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyDataStream, BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::SILENCE_LIMIT;
use crate::link::{CHANNEL_DEPTH, Connection, Duplex, ImageData, LinkError, Transport};
use crate::message::{Decoder, ToController, ToNode, encode};
use crate::reports::NodeHello;
use crate::wire::{LINK, NODE_HEADER, TUNNEL, read_all, read_message, write_all};

/// Opens a stream to the controller.
pub trait Connector: Send + Sync + 'static {
    /// Connects.
    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>>;
    /// Where to, for messages.
    fn describe(&self) -> String;
}

struct UnixConnector(PathBuf);

impl Connector for UnixConnector {
    fn open(&self) -> BoxFuture<'_, io::Result<Box<dyn Duplex>>> {
        Box::pin(async move { Ok(Box::new(UnixStream::connect(&self.0).await?) as Box<dyn Duplex>) })
    }

    fn describe(&self) -> String {
        self.0.display().to_string()
    }
}

/// The way over a Unix socket.
pub fn unix_transport(path: impl Into<PathBuf>) -> Arc<dyn Transport> {
    Arc::new(HttpTransport::new(Arc::new(UnixConnector(path.into()))))
}

/// Speaks HTTP/1.1 over the streams of a [`Connector`].
pub struct HttpTransport {
    connector: Arc<dyn Connector>,
}

fn http_error(source: impl std::error::Error + Send + Sync + 'static) -> LinkError {
    LinkError::Http {
        source: Box::new(source),
    }
}

impl HttpTransport {
    /// A transport over `connector`.
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, LinkError> {
        let stream = tokio::time::timeout(SILENCE_LIMIT, self.connector.open())
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| LinkError::Connect {
                address: self.connector.describe(),
                source,
            })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(http_error)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the controller ended");
            }
        });
        tokio::time::timeout(SILENCE_LIMIT, sender.send_request(request))
            .await
            .map_err(|_| LinkError::Silent {
                seconds: SILENCE_LIMIT.as_secs(),
            })?
            .map_err(http_error)
    }

    async fn upgrade(
        &self,
        path: &str,
        protocol: &'static str,
    ) -> Result<TokioIo<hyper::upgrade::Upgraded>, LinkError> {
        let request = request(Method::POST, path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol)
            .body(Full::default())
            .map_err(http_error)?;
        let mut response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(status_error(response).await);
        }
        Ok(TokioIo::new(
            hyper::upgrade::on(&mut response).await.map_err(http_error)?,
        ))
    }
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "controller")
}

async fn status_error(response: Response<Incoming>) -> LinkError {
    let status = response.status().as_u16();
    let text = match Limited::new(response.into_body(), 4096).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    LinkError::Status { status, text }
}

impl Transport for HttpTransport {
    fn connect(&self, hello: NodeHello) -> BoxFuture<'_, Result<Connection, LinkError>> {
        Box::pin(async move {
            let stream = self.upgrade("/v1/link", LINK).await?;
            let (mut read, mut write) = tokio::io::split(stream);
            write.write_all(&encode(&ToController::Hello(Box::new(hello)))?).await?;
            let mut decoder = Decoder::default();
            let first = tokio::time::timeout(SILENCE_LIMIT, read_message::<ToNode, _>(&mut read, &mut decoder))
                .await
                .map_err(|_| LinkError::Silent {
                    seconds: SILENCE_LIMIT.as_secs(),
                })??;
            match first {
                Some(ToNode::Welcome {
                    protocol_version,
                    version,
                }) => {
                    tracing::debug!(protocol_version, version, "welcomed by the controller");
                }
                Some(ToNode::Refused { reason }) => return Err(LinkError::Refused { reason }),
                Some(_) => return Err(LinkError::OutOfTurn),
                None => return Err(LinkError::Closed),
            }
            let (heard, incoming) = mpsc::channel(CHANNEL_DEPTH);
            let (outgoing, messages) = mpsc::channel(CHANNEL_DEPTH);
            tokio::spawn(async move {
                let ended = tokio::select! {
                    ended = read_all(read, decoder, heard) => ended,
                    ended = write_all(write, messages) => ended,
                };
                if let Err(error) = ended {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the link's stream ended");
                }
            });
            Ok(Connection { incoming, outgoing })
        })
    }

    fn image(&self, node: &str, id: Uuid) -> BoxFuture<'_, Result<ImageData, LinkError>> {
        let node = node.to_owned();
        Box::pin(async move {
            let request = request(Method::GET, &format!("/v1/images/{id}/data"))
                .header(NODE_HEADER, node)
                .body(Full::default())
                .map_err(http_error)?;
            let response = self.send(request).await?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Err(LinkError::NoImage { id }),
                _ => return Err(status_error(response).await),
            }
            let size = response
                .headers()
                .get(header::CONTENT_LENGTH)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| value.parse().ok());
            let stream = BodyDataStream::new(response.into_body())
                .map_err(io::Error::other)
                .boxed();
            Ok(ImageData { size, stream })
        })
    }

    fn tunnel(&self, ticket: Uuid) -> BoxFuture<'_, Result<Box<dyn Duplex>, LinkError>> {
        Box::pin(async move {
            let stream = self.upgrade(&format!("/v1/tunnels/{ticket}"), TUNNEL).await?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        })
    }

    fn describe(&self) -> String {
        self.connector.describe()
    }
}
