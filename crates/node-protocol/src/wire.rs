//! Reading and writing messages on a stream; shared by both sides.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::SILENCE_LIMIT;
use crate::link::LinkError;
use crate::message::{Decoder, encode};

pub(crate) const LINK: &str = "ferrostack-link";
pub(crate) const TUNNEL: &str = "ferrostack-tunnel";
pub(crate) const NODE_HEADER: &str = "x-ferrostack-node";

/// The next message, or none at the stream's end.
pub(crate) async fn read_message<M, R>(read: &mut R, decoder: &mut Decoder) -> Result<Option<M>, LinkError>
where
    M: serde::de::DeserializeOwned,
    R: AsyncRead + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some(message) = decoder.message()? {
            return Ok(Some(message));
        }
        match read.read(&mut buffer).await? {
            0 => return Ok(None),
            n => decoder.push(&buffer[..n]),
        }
    }
}

/// Passes on all messages of a stream until it ends.
pub(crate) async fn read_all<M, S>(
    mut read: ReadHalf<S>,
    mut decoder: Decoder,
    messages: mpsc::Sender<M>,
) -> Result<(), LinkError>
where
    M: serde::de::DeserializeOwned,
    S: AsyncRead,
{
    loop {
        let next = tokio::time::timeout(SILENCE_LIMIT, read_message(&mut read, &mut decoder)).await;
        match next.map_err(|_| LinkError::Silent {
            seconds: SILENCE_LIMIT.as_secs(),
        })?? {
            Some(message) => messages.send(message).await.map_err(|_| LinkError::Closed)?,
            None => return Err(LinkError::Closed),
        }
    }
}

/// Writes all messages to a stream; those that have piled up go in one write.
pub(crate) async fn write_all<M, S>(mut write: WriteHalf<S>, mut messages: mpsc::Receiver<M>) -> Result<(), LinkError>
where
    M: serde::Serialize,
    S: AsyncWrite,
{
    while let Some(message) = messages.recv().await {
        let mut bytes = encode(&message)?;
        while bytes.len() < 64 * 1024
            && let Ok(message) = messages.try_recv()
        {
            bytes.extend(encode(&message)?);
        }
        tokio::time::timeout(SILENCE_LIMIT, write.write_all(&bytes))
            .await
            .map_err(|_| LinkError::Silent {
                seconds: SILENCE_LIMIT.as_secs(),
            })??;
    }
    Err(LinkError::Closed)
}
