//! QEMU's machine protocol: one JSON document per line over a Unix socket, commands with answers, and events.

use std::collections::HashMap;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{HypervisorError, Result};

/// A longer line ends the connection; QEMU's longest answers (schemas) are below this.
const MAX_LINE: usize = 8 * 1024 * 1024;
/// QEMU's main loop answers in milliseconds; a machine that swaps takes longer.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Something QEMU says by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `SHUTDOWN`, `RESET`, `DEVICE_DELETED`, …
    pub name: String,
    /// Its data.
    pub data: Value,
}

/// A line from QEMU.
#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Answer {
        id: u64,
        result: std::result::Result<Value, Refusal>,
    },
    Event(Event),
    Other,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Refusal {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

/// Reads a line; whatever it is, the answer is a message or an error, never a panic.
fn parse(line: &[u8]) -> Result<Message> {
    let mut value: Value = serde_json::from_slice(line).map_err(|error| HypervisorError::Protocol {
        what: format!("not JSON ({error})"),
    })?;
    let Some(object) = value.as_object_mut() else {
        return Err(HypervisorError::Protocol {
            what: "not an object".into(),
        });
    };
    if object.contains_key("QMP") {
        return Ok(Message::Greeting);
    }
    if let Some(name) = object.get("event").and_then(Value::as_str) {
        let name = name.to_owned();
        let data = object.remove("data").unwrap_or(Value::Null);
        return Ok(Message::Event(Event { name, data }));
    }
    let Some(id) = object.get("id").and_then(Value::as_u64) else {
        // An error without id answers something that was not JSON for QEMU; we do not send such.
        return Ok(Message::Other);
    };
    if let Some(error) = object.remove("error") {
        let refusal = serde_json::from_value(error).unwrap_or_else(|_| Refusal {
            class: String::new(),
            desc: "an error without description".into(),
        });
        return Ok(Message::Answer {
            id,
            result: Err(refusal),
        });
    }
    match object.remove("return") {
        Some(value) => Ok(Message::Answer { id, result: Ok(value) }),
        None => Ok(Message::Other),
    }
}

type Pending = Mutex<Option<HashMap<u64, oneshot::Sender<std::result::Result<Value, Refusal>>>>>;

/// A connection to one guest's monitor. It is a plain handle; the connection closes when the last one is dropped.
pub struct Qmp {
    stream: Arc<UnixStream>,
    writing: tokio::sync::Mutex<()>,
    pending: Arc<Pending>,
    next_id: AtomicU64,
    closed: watch::Receiver<bool>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Qmp {
    /// Takes over a connected socket: hears the greeting and negotiates. Events go to `events` until it is closed.
    pub async fn handshake(stream: UnixStream, events: mpsc::UnboundedSender<Event>) -> Result<Self> {
        let stream = Arc::new(stream);
        let pending: Arc<Pending> = Arc::new(Mutex::new(Some(HashMap::new())));
        let (close, closed) = watch::channel(false);
        let (greet, greeted) = oneshot::channel();
        let reader = tokio::spawn({
            let (stream, pending) = (stream.clone(), pending.clone());
            async move {
                if let Err(error) = read(&stream, &pending, events, greet).await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a monitor's connection ended");
                }
                // Those who wait learn of it by their channel's end.
                pending.lock().take();
                close.send_replace(true);
            }
        });
        let qmp = Self {
            stream,
            writing: tokio::sync::Mutex::new(()),
            pending,
            next_id: AtomicU64::new(1),
            closed,
            reader,
        };
        match tokio::time::timeout(LIMIT, greeted).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(HypervisorError::Closed),
            Err(_) => {
                return Err(HypervisorError::Timeout {
                    doing: "greeting",
                    seconds: LIMIT.as_secs(),
                });
            }
        }
        qmp.execute("qmp_capabilities", Value::Null).await?;
        Ok(qmp)
    }

    /// Whether QEMU still holds its end.
    pub fn is_open(&self) -> bool {
        !*self.closed.borrow()
    }

    /// Waits until QEMU closes its end: as a rule, until it has ended.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means the reader is gone, which is the same.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// The process at the other end.
    pub fn peer_pid(&self) -> Option<u32> {
        self.stream.peer_cred().ok()?.pid()?.try_into().ok()
    }

    /// Executes a command.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_with_fd(command, arguments, None).await
    }

    /// Executes a command and passes a file descriptor along (for `getfd`).
    pub async fn execute_with_fd(&self, command: &str, arguments: Value, fd: Option<BorrowedFd<'_>>) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({"execute": command, "id": id});
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        let (answer, answered) = oneshot::channel();
        match self.pending.lock().as_mut() {
            Some(pending) => pending.insert(id, answer),
            None => return Err(HypervisorError::Closed),
        };
        let asked = async {
            self.write(&line, fd).await?;
            answered.await.map_err(|_| HypervisorError::Closed)
        };
        let result = tokio::time::timeout(LIMIT, asked).await;
        if let Some(pending) = self.pending.lock().as_mut() {
            pending.remove(&id);
        }
        match result {
            Err(_) => Err(HypervisorError::Timeout {
                doing: "executing a command",
                seconds: LIMIT.as_secs(),
            }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(refusal))) => Err(HypervisorError::Refused {
                command: command.to_owned(),
                class: refusal.class,
                description: refusal.desc,
            }),
        }
    }

    async fn write(&self, line: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let _turn = self.writing.lock().await;
        let mut rest = line;
        let mut fd = fd;
        while !rest.is_empty() {
            let sent = self
                .stream
                .async_io(Interest::WRITABLE, || {
                    let fds = fd.map(|fd| [fd.as_raw_fd()]);
                    let control = fds.as_ref().map(|fds| ControlMessage::ScmRights(fds));
                    let control = control.as_slice();
                    // Without the signal: a guest that has just ended is an error like any other.
                    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                    sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(rest)], control, flags, None)
                        .map_err(std::io::Error::from)
                })
                .await
                .map_err(HypervisorError::io("write to the guest's monitor"))?;
            fd = None;
            rest = &rest[sent..];
        }
        Ok(())
    }
}

async fn read(
    stream: &UnixStream,
    pending: &Pending,
    events: mpsc::UnboundedSender<Event>,
    greet: oneshot::Sender<()>,
) -> Result<()> {
    let failed = || HypervisorError::io("read from the guest's monitor");
    let mut greet = Some(greet);
    let mut buffer: Vec<u8> = Vec::new();
    let mut scanned = 0;
    loop {
        stream.readable().await.map_err(failed())?;
        let mut piece = [0; 16 * 1024];
        match stream.try_read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(n) => buffer.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(failed()(error)),
        }
        while let Some(end) = buffer[scanned..].iter().position(|b| *b == b'\n').map(|p| p + scanned) {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            scanned = 0;
            match parse(&line)? {
                Message::Greeting => {
                    if let Some(greet) = greet.take() {
                        // Whoever connected may have given up.
                        let _ = greet.send(());
                    }
                }
                Message::Answer { id, result } => {
                    if let Some(answer) = pending.lock().as_mut().and_then(|p| p.remove(&id)) {
                        let _ = answer.send(result);
                    }
                }
                // Nobody may be interested in events.
                Message::Event(event) => drop(events.send(event)),
                Message::Other => {}
            }
        }
        scanned = buffer.len();
        if scanned > MAX_LINE {
            return Err(HypervisorError::Protocol {
                what: format!("a line of more than {MAX_LINE} bytes"),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn whatever_qemu_says_is_read_without_panic() {
        assert_eq!(
            parse(br#"{"QMP": {"version": {}, "capabilities": []}}"#).unwrap(),
            Message::Greeting
        );
        assert!(
            matches!(parse(br#"{"event": "STOP", "timestamp": {}}"#).unwrap(), Message::Event(e) if e.name == "STOP")
        );
        assert!(matches!(
            parse(br#"{"id": 3, "return": {}}"#).unwrap(),
            Message::Answer { id: 3, result: Ok(_) }
        ));
        assert!(matches!(
            parse(br#"{"id": 3, "error": {"class": "X", "desc": "no"}}"#).unwrap(),
            Message::Answer {
                id: 3,
                result: Err(Refusal { .. })
            }
        ));
        for odd in [
            &b"{}"[..],
            br#"{"id":"x","return":{}}"#,
            br#"{"id":1}"#,
            br#"{"event":1}"#,
            br#"{"error":7}"#,
        ] {
            assert_eq!(parse(odd).unwrap(), Message::Other);
        }
        for bad in [&b"[]"[..], b"", b"\xff\xfe", b"1"] {
            assert!(parse(bad).is_err());
        }
    }

    #[tokio::test]
    async fn commands_answers_and_events_find_their_way() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qemu = tokio::spawn(async move {
            theirs.write_all(b"{\"QMP\": {}}\r\n").await.unwrap();
            let mut buffer = vec![0; 4096];
            let mut answers = vec![
                "{\"return\": {}, \"id\": 1}\r\n{\"event\": \"RESUME\", \"data\": {\"a\": 1}}\r\n",
                "{\"id\": 2, \"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"Device 'x' not found\"}}\r\n",
            ]
            .into_iter();
            while let Some(answer) = answers.next() {
                assert!(theirs.read(&mut buffer).await.unwrap() > 0);
                theirs.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let (send, mut events) = mpsc::unbounded_channel();
        let qmp = Qmp::handshake(ours, send).await.unwrap();
        let refused = qmp.execute("device_del", json!({"id": "x"})).await.unwrap_err();
        assert!(matches!(refused, HypervisorError::Refused { class, .. } if class == "DeviceNotFound"));
        assert_eq!(
            events.recv().await.unwrap(),
            Event {
                name: "RESUME".into(),
                data: json!({"a": 1})
            }
        );
        qemu.await.unwrap();
        qmp.closed().await;
        assert!(!qmp.is_open());
        assert!(matches!(
            qmp.execute("query-status", Value::Null).await,
            Err(HypervisorError::Closed)
        ));
    }
}
