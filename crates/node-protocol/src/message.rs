//! The messages of a link and their encoding: one JSON document per line, in both directions.

use bytes::{Buf, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::MAX_MESSAGE_BYTES;
use crate::link::LinkError;
use crate::objects::{ObjectKey, Versioned};
use crate::queries::{Answer, Query, QueryError};
use crate::reports::{NodeHello, Sequenced};

/// A position in the controller's change feed. Only the controller reads anything into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub u64);

/// A change of what should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// The object is (now) so.
    Upsert(Versioned),
    /// The object concerns the node no longer.
    Delete {
        /// Which.
        key: ObjectKey,
        /// The revision at which it went.
        revision: u64,
    },
}

/// What the controller says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum ToNode {
    /// The first message: the node is accepted.
    Welcome {
        /// The version both speak from here on.
        protocol_version: u32,
        /// The controller program's version.
        version: String,
    },
    /// The first message, and the last: the node is not accepted.
    Refused {
        /// Why, for the node's log.
        reason: String,
    },
    /// A part of everything that concerns the node. The first part begins the snapshot, `complete` ends it; what is not in it is not desired.
    Snapshot {
        /// Whether this part begins the snapshot.
        first: bool,
        /// The objects.
        objects: Vec<Versioned>,
        /// The end marker.
        complete: bool,
    },
    /// What one or more transactions have changed. All of it is to be taken over before any of it is acted on.
    Changes {
        /// In order.
        changes: Vec<Change>,
    },
    /// A question.
    Query {
        /// Returned in the answer.
        id: u64,
        /// The question.
        query: Query,
    },
    /// Nothing to say.
    KeepAlive,
}

/// What the node says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum ToController {
    /// The first message.
    Hello(Box<NodeHello>),
    /// What was observed.
    Report(Sequenced),
    /// The answer to a question.
    Answer {
        /// Of the question.
        id: u64,
        /// What is answered.
        result: Result<Answer, QueryError>,
    },
    /// Nothing to say.
    KeepAlive,
}

/// Encodes a message as a line.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, LinkError> {
    let mut line = serde_json::to_vec(message).map_err(|source| LinkError::Encode { source })?;
    if line.len() > MAX_MESSAGE_BYTES {
        return Err(LinkError::TooLong {
            limit: MAX_MESSAGE_BYTES,
        });
    }
    line.push(b'\n');
    Ok(line)
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    /// Bytes of the buffer already known to hold no line end.
    scanned: usize,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or none as long as its end has not come.
    pub fn message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, LinkError> {
        loop {
            let Some(end) = self.buffer[self.scanned..]
                .iter()
                .position(|b| *b == b'\n')
                .map(|p| p + self.scanned)
            else {
                self.scanned = self.buffer.len();
                if self.scanned > MAX_MESSAGE_BYTES {
                    return Err(LinkError::TooLong {
                        limit: MAX_MESSAGE_BYTES,
                    });
                }
                return Ok(None);
            };
            if end > MAX_MESSAGE_BYTES {
                return Err(LinkError::TooLong {
                    limit: MAX_MESSAGE_BYTES,
                });
            }
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            self.scanned = 0;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|source| LinkError::Decode { source });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_cut_of_the_stream() {
        let sent = [
            ToNode::KeepAlive,
            ToNode::Query {
                id: 7,
                query: Query::Uptime,
            },
            ToNode::Snapshot {
                first: true,
                objects: vec![],
                complete: true,
            },
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|m| encode(m).unwrap()).collect();
        for step in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(message) = decoder.message::<ToNode>().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for line in [
            "{}",
            "[]",
            "nul",
            "{\"message\":\"nothing_known\"}",
            "\u{fffd}",
            "{\"message\":\"query\",\"id\":-1}",
        ] {
            let mut decoder = Decoder::default();
            decoder.push(line.as_bytes());
            decoder.push(b"\n");
            assert!(
                matches!(decoder.message::<ToNode>(), Err(LinkError::Decode { .. })),
                "{line}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 1 << 20];
        let mut refused = false;
        for _ in 0..20 {
            decoder.push(&piece);
            if decoder.message::<ToNode>().is_err() {
                refused = true;
                break;
            }
        }
        assert!(refused);
    }
}
