//! What nodes say goes to every service that listens; what they fetch comes from Image.

use ::api::services::Images;
use database::blocking;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use node_protocol::controller::{BoxError, ImageSource, ReportSink};
use node_protocol::link::ImageData;
use node_protocol::reports::{NodeHello, Sequenced};
use std::sync::Arc;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// Several sinks as one: each gets everything, in order.
pub struct Sinks(pub Vec<Arc<dyn ReportSink>>);

impl ReportSink for Sinks {
    fn connected(&self, hello: NodeHello) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            for sink in &self.0 {
                sink.connected(hello.clone()).await?;
            }
            Ok(())
        })
    }

    fn report(&self, node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>> {
        let node = node.to_owned();
        Box::pin(async move {
            for sink in &self.0 {
                sink.report(&node, reports.clone()).await?;
            }
            Ok(())
        })
    }

    fn disconnected(&self, node: &str) -> BoxFuture<'_, ()> {
        let node = node.to_owned();
        Box::pin(async move {
            for sink in &self.0 {
                sink.disconnected(&node).await;
            }
        })
    }
}

/// Images' data for nodes.
pub struct ImageFiles(pub Arc<image::Images>);

impl ImageSource for ImageFiles {
    fn open(&self, _node: &str, id: Uuid) -> BoxFuture<'_, Result<Option<ImageData>, BoxError>> {
        Box::pin(async move {
            let Some(path) = blocking(|| self.0.data(&id.to_string())) else { return Ok(None) };
            let file = match tokio::fs::File::open(&path).await {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            let size = Some(file.metadata().await?.len());
            Ok(Some(ImageData { size, stream: ReaderStream::with_capacity(file, 256 * 1024).boxed() }))
        })
    }
}
