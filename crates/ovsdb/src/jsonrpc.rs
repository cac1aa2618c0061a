//! JSON-RPC 1.0 as OVSDB uses it: JSON values one after the other on a stream, in both directions (RFC 7047, section 4).

use crate::Error;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// A peer that says nothing for this long is asked whether it is there.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// No message of a switch's database comes near this.
const LARGEST: usize = 256 << 20;

/// Cuts a stream of JSON objects into objects.
#[derive(Default)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Up to here the buffer has been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole object.
    ///
    /// # Errors
    /// If the bytes are no JSON object; the stream cannot be followed any more.
    pub fn next_object(&mut self) -> Result<Option<Value>, Error> {
        while let Some(b) = self.buffer.get(self.seen) {
            self.seen += 1;
            match b {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 1 => {
                    self.depth = 0;
                    let value = serde_json::from_slice(&self.buffer[..self.seen]);
                    self.buffer.drain(..self.seen);
                    self.seen = 0;
                    return match value {
                        Ok(v @ Value::Object(_)) => Ok(Some(v)),
                        Ok(v) => Err(Error::Protocol(format!("{v} is no object"))),
                        Err(e) => Err(Error::Protocol(e.to_string())),
                    };
                }
                b'}' | b']' if self.depth > 1 => self.depth -= 1,
                b if self.depth == 0 && !b.is_ascii_whitespace() => {
                    return Err(Error::Protocol("text outside of an object".to_owned()));
                }
                _ => {}
            }
        }
        if self.buffer.len() > LARGEST {
            return Err(Error::Protocol("a message that does not end".to_owned()));
        }
        Ok(None)
    }
}

type Answer = oneshot::Sender<Result<Value, Value>>;

#[derive(Default)]
struct Pending {
    closed: bool,
    next: u64,
    by_id: HashMap<u64, Answer>,
}

/// A peer. Clones share the connection, which ends with the last of them.
#[derive(Clone)]
pub struct Rpc {
    pending: Arc<Mutex<Pending>>,
    out: mpsc::UnboundedSender<Value>,
    ended: watch::Receiver<bool>,
}

fn lock(p: &Mutex<Pending>) -> std::sync::MutexGuard<'_, Pending> {
    p.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rpc {
    /// Speaks JSON-RPC over the stream. What the peer says unasked goes to `notify`, in order with the answers: a notification that
    /// came before an answer has been handled when the call returns.
    pub fn new<S>(stream: S, notify: impl FnMut(&str, Value) + Send + 'static) -> Rpc
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, mut write) = tokio::io::split(stream);
        let (out, mut queue) = mpsc::unbounded_channel::<Value>();
        let (end, ended) = watch::channel(false);
        let pending = Arc::new(Mutex::new(Pending::default()));
        let mut writer_end = end.subscribe();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    m = queue.recv() => m,
                    _ = writer_end.wait_for(|e| *e) => None,
                };
                let Some(message) = message else { break };
                if write.write_all(message.to_string().as_bytes()).await.is_err() {
                    break;
                }
            }
            let _ = write.shutdown().await;
        });
        let (state, replies) = (pending.clone(), out.downgrade());
        tokio::spawn(async move {
            let error = read_all(read, &state, &replies, notify).await;
            tracing::debug!("JSON-RPC connection ended: {error}");
            let mut p = lock(&state);
            p.closed = true;
            p.by_id.clear();
            drop(p);
            end.send_replace(true);
        });
        Rpc { pending, out, ended }
    }

    /// Calls a method and awaits its result.
    ///
    /// # Errors
    /// If the peer answers with an error, or not at all.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value, Error> {
        let (tx, rx) = oneshot::channel();
        let id = {
            let mut p = lock(&self.pending);
            if p.closed {
                return Err(Error::Disconnected);
            }
            p.next += 1;
            let id = p.next;
            p.by_id.insert(id, tx);
            id
        };
        let sent = self.out.send(json!({"method": method, "params": params, "id": id}));
        sent.map_err(|_| Error::Disconnected)?;
        match timeout(ANSWER_WITHIN, rx).await {
            Ok(Ok(Ok(v))) => Ok(v),
            Ok(Ok(Err(e))) => Err(Error::Method {
                method: method.to_owned(),
                message: readable(&e),
            }),
            Ok(Err(_)) => Err(Error::Disconnected),
            Err(_) => {
                lock(&self.pending).by_id.remove(&id);
                Err(Error::Timeout(method.to_owned()))
            }
        }
    }

    /// Returns when the connection has ended.
    pub async fn ended(&self) {
        let _ = self.ended.clone().wait_for(|e| *e).await;
    }
}

/// Errors are text or objects with `error` and `details`.
fn readable(e: &Value) -> String {
    match e {
        Value::String(s) => s.trim_end().to_owned(),
        Value::Object(o) => ["error", "details"]
            .iter()
            .filter_map(|k| o.get(*k)?.as_str())
            .collect::<Vec<_>>()
            .join(": "),
        other => other.to_string(),
    }
}

async fn read_all<R: AsyncRead + Unpin>(
    mut read: R,
    pending: &Mutex<Pending>,
    replies: &mpsc::WeakUnboundedSender<Value>,
    mut notify: impl FnMut(&str, Value),
) -> Error {
    let mut splitter = Splitter::default();
    let mut bytes = vec![0; 64 * 1024];
    let mut probed = false;
    let send = |v: Value| replies.upgrade().is_some_and(|s| s.send(v).is_ok());
    loop {
        let n = match timeout(if probed { ANSWER_WITHIN } else { PROBE_AFTER }, read.read(&mut bytes)).await {
            Ok(Ok(0)) => return Error::Io(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(n)) => n,
            Ok(Err(e)) => return Error::Io(e),
            Err(_) if probed => return Error::Timeout("echo".to_owned()),
            Err(_) => {
                probed = true;
                if !send(json!({"method": "echo", "params": [], "id": "echo"})) {
                    return Error::Disconnected;
                }
                continue;
            }
        };
        probed = false;
        splitter.push(&bytes[..n]);
        loop {
            let mut message = match splitter.next_object() {
                Ok(Some(Value::Object(m))) => m,
                Ok(_) => break,
                Err(e) => return e,
            };
            let id = message.get("id").cloned().unwrap_or(Value::Null);
            let method = message.get("method").and_then(Value::as_str).map(str::to_owned);
            match method.as_deref() {
                Some("echo") if !id.is_null() => {
                    let params = message.remove("params").unwrap_or(Value::Null);
                    send(json!({"result": params, "error": null, "id": id}));
                }
                Some(_) if !id.is_null() => {
                    send(json!({"result": null, "error": "unknown method", "id": id}));
                }
                Some(method) => notify(method, message.remove("params").unwrap_or(Value::Null)),
                None => {
                    let waiting = id.as_u64().and_then(|id| lock(pending).by_id.remove(&id));
                    let Some(waiting) = waiting else { continue };
                    let error = message.remove("error").filter(|e| !e.is_null());
                    let result = message.remove("result").unwrap_or(Value::Null);
                    let _ = waiting.send(error.map_or(Ok(result), Err));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn objects_are_found_wherever_the_stream_is_cut() {
        let text = r#"{"a":"}\"{[","b":[1,{"c":"\\"}]} {"id":2}
            {}"#;
        for size in 1..text.len() {
            let mut s = Splitter::default();
            let mut out = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                s.push(piece);
                while let Some(v) = s.next_object().unwrap() {
                    out.push(v);
                }
            }
            assert_eq!(
                out,
                [
                    json!({"a": "}\"{[", "b": [1, {"c": "\\"}]}),
                    json!({"id": 2}),
                    json!({})
                ]
            );
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in ["nonsense", "[1]", "{a}", "{\"a\":1]", "]"] {
            let mut s = Splitter::default();
            s.push(bad.as_bytes());
            s.push(b"}");
            assert!(s.next_object().is_err(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\"\\a1:, ".to_vec()), 0..60)) {
            let mut s = Splitter::default();
            s.push(&bytes);
            while let Ok(Some(v)) = s.next_object() {
                let _ = crate::parse_row(&v);
                let _ = crate::parse_updates(&v);
            }
        }
    }

    #[tokio::test]
    async fn calls_are_answered_and_notifications_come_before_later_answers() {
        let (ours, theirs) = tokio::io::duplex(4096);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = seen.clone();
        let rpc = Rpc::new(ours, move |m, p| notes.lock().unwrap().push((m.to_owned(), p)));
        let server = tokio::spawn(async move {
            let (mut r, mut w) = tokio::io::split(theirs);
            let mut s = Splitter::default();
            let mut bytes = [0; 512];
            let mut requests = Vec::new();
            while requests.len() < 2 {
                let n = r.read(&mut bytes).await.unwrap();
                s.push(&bytes[..n]);
                while let Some(v) = s.next_object().unwrap() {
                    requests.push(v);
                }
            }
            let answer = format!(
                r#"{{"method":"update","params":[1],"id":null}}{{"id":{},"result":null,"error":"no"}}{{"id":{},"result":5,"error":null}}"#,
                requests[1]["id"], requests[0]["id"]
            );
            w.write_all(answer.as_bytes()).await.unwrap();
        });
        let (a, b) = tokio::join!(rpc.call("one", json!([])), rpc.call("two", json!([])));
        assert_eq!(a.unwrap(), json!(5));
        assert_eq!(b.unwrap_err().to_string(), "two failed: no");
        assert_eq!(*seen.lock().unwrap(), [("update".to_owned(), json!([1]))]);
        server.await.unwrap();
        rpc.ended().await;
        assert!(matches!(rpc.call("three", json!([])).await, Err(Error::Disconnected)));
    }
}
