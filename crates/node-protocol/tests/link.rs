//! Controller and node over both transports: snapshot, changes, reports, questions, images, consoles, and the return after a loss.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use node_protocol::controller::{BoxError, DesiredState, ImageSource, NodeServer, ReportSink, Since, Snapshot};
use node_protocol::link::{ImageData, LinkError, Transport};
use node_protocol::message::{Change, Cursor};
use node_protocol::node::{ControllerLink, LinkEvent, QueryHandler, Reporter, unix_transport};
use node_protocol::objects::{Flavor, Object, Power, Server, Versioned, WantedPower};
use node_protocol::queries::{Answer, ConsoleKind, Query, QueryError};
use node_protocol::reports::{NodeHello, Report, Sequenced};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(20);

fn server(id: Uuid, name: &str) -> Object {
    Object::Server(Box::new(Server {
        id,
        name: name.into(),
        hostname: name.into(),
        project_id: "p".into(),
        user_id: "u".into(),
        flavor: Flavor {
            id: "1".into(),
            name: "m1.tiny".into(),
            vcpus: 1,
            ram_mib: 512,
            disk_gib: 1,
            swap_mib: 0,
            ephemeral_gib: 0,
            extra_specs: BTreeMap::new(),
        },
        image: None,
        power: Power {
            wanted: WantedPower::Running,
            generation: 1,
        },
        soft_reboot: 0,
        hard_reboot: 0,
        rebuild: 0,
        shutdown_timeout: 60,
        ports: vec![],
        config_drive: false,
        metadata: BTreeMap::new(),
        key_pair: None,
        user_data: None,
        personality: vec![],
        admin_password: Some(node_protocol::objects::Secret::new("geheim")),
        availability_zone: "nova".into(),
        reservation_id: String::new(),
        launch_index: 0,
        security_groups: vec![],
        vendor_data: None,
        posted_password: None,
    }))
}

/// A controller's database in memory: a log of changes.
#[derive(Default)]
struct Store {
    log: Mutex<Vec<Change>>,
    floor: AtomicU64,
    reports: Mutex<Vec<Sequenced>>,
    events: Mutex<Vec<String>>,
}

impl Store {
    fn add(&self, change: Change) {
        self.log.lock().push(change);
    }
}

impl DesiredState for Store {
    fn snapshot(&self, _node: &str) -> BoxFuture<'_, Result<Snapshot, BoxError>> {
        Box::pin(async move {
            let log = self.log.lock();
            let mut now = BTreeMap::new();
            for change in log.iter() {
                match change {
                    Change::Upsert(object) => now.insert(object.object.key(), object.clone()),
                    Change::Delete { key, .. } => now.remove(key),
                };
            }
            Ok(Snapshot {
                objects: now.into_values().collect(),
                cursor: Cursor(log.len() as u64),
            })
        })
    }

    fn changes_since(&self, _node: &str, cursor: Cursor) -> BoxFuture<'_, Result<Since, BoxError>> {
        Box::pin(async move {
            if cursor.0 < self.floor.load(Ordering::SeqCst) {
                return Ok(Since::TooOld);
            }
            let log = self.log.lock();
            Ok(Since::Changes(
                log[cursor.0 as usize..].to_vec(),
                Cursor(log.len() as u64),
            ))
        })
    }
}

impl ReportSink for Store {
    fn connected(&self, hello: NodeHello) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if hello.hostname == "stranger" {
                return Err("this cloud has no such node".into());
            }
            self.events.lock().push(format!("+{}", hello.hostname));
            Ok(())
        })
    }

    fn report(&self, _node: &str, reports: Vec<Sequenced>) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async move {
            self.reports.lock().extend(reports);
            Ok(())
        })
    }

    fn disconnected(&self, node: &str) -> BoxFuture<'_, ()> {
        let event = format!("-{node}");
        Box::pin(async move { self.events.lock().push(event) })
    }
}

struct Images;

impl ImageSource for Images {
    fn open(&self, _node: &str, id: Uuid) -> BoxFuture<'_, Result<Option<ImageData>, BoxError>> {
        Box::pin(async move {
            if id.is_nil() {
                return Ok(None);
            }
            let pieces = (0..64).map(|n| Ok(Bytes::from(vec![n; 10_000])));
            Ok(Some(ImageData {
                size: Some(640_000),
                stream: stream::iter(pieces).boxed(),
            }))
        })
    }
}

/// Answers as a node with one guest whose console echoes.
struct Guest {
    transport: Arc<dyn Transport>,
}

impl QueryHandler for Guest {
    fn query(&self, query: Query) -> BoxFuture<'_, Result<Answer, QueryError>> {
        Box::pin(async move {
            match query {
                Query::ConsoleLog { lines, .. } => Ok(Answer::ConsoleLog {
                    output: format!("{lines:?}"),
                }),
                Query::OpenTunnel { ticket, .. } => {
                    let failed = |e: LinkError| QueryError::Failed { message: e.to_string() };
                    let tunnel = self.transport.tunnel(ticket).await.map_err(failed)?;
                    let (mut read, mut write) = tokio::io::split(tunnel);
                    tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
                    Ok(Answer::Done)
                }
                Query::Uptime => std::future::pending().await,
                _ => Err(QueryError::NotFound),
            }
        })
    }
}

struct Node {
    events: mpsc::Receiver<LinkEvent>,
    reporter: Reporter,
}

impl Node {
    fn start(transport: Arc<dyn Transport>, name: &str) -> Self {
        let (send, events) = mpsc::channel(16);
        let reporter = Reporter::default();
        let hello = NodeHello {
            protocol_version: 1,
            hostname: name.into(),
            ..NodeHello::default()
        };
        let queries = Arc::new(Guest {
            transport: transport.clone(),
        });
        let link = ControllerLink::new(transport, watch::channel(hello).1, send, reporter.clone(), queries);
        tokio::spawn(link.run());
        Self { events, reporter }
    }

    async fn next(&mut self) -> LinkEvent {
        tokio::time::timeout(LIMIT, self.events.recv())
            .await
            .expect("an event in time")
            .expect("the link runs")
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(LIMIT, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("the condition in time");
}

fn upsert(id: Uuid, name: &str, revision: u64) -> Change {
    Change::Upsert(Versioned {
        revision,
        object: server(id, name),
    })
}

struct Cloud {
    store: Arc<Store>,
    server: NodeServer,
}

fn cloud() -> Cloud {
    let store = Arc::new(Store::default());
    let server = NodeServer::new(store.clone(), store.clone(), Arc::new(Images));
    Cloud { store, server }
}

/// Everything a link does, over the transport given.
async fn whole_story(cloud: &Cloud, transport: Arc<dyn Transport>) {
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    cloud.store.add(upsert(a, "a", 1));
    let mut node = Node::start(transport.clone(), "hv1");
    assert_eq!(node.next().await, LinkEvent::Connected);
    assert_eq!(
        node.next().await,
        LinkEvent::Snapshot(vec![Versioned {
            revision: 1,
            object: server(a, "a")
        }])
    );

    cloud.store.add(upsert(b, "b", 2));
    cloud.store.add(Change::Delete {
        key: server(a, "a").key(),
        revision: 3,
    });
    cloud.server.wake("hv1");
    let LinkEvent::Changes(changes) = node.next().await else {
        panic!("changes")
    };
    assert_eq!(
        changes,
        vec![
            upsert(b, "b", 2),
            Change::Delete {
                key: server(a, "a").key(),
                revision: 3
            }
        ]
    );

    // A feed that has been cut is answered with a new snapshot.
    cloud.store.floor.store(100, Ordering::SeqCst);
    cloud.server.wake("hv1");
    assert_eq!(
        node.next().await,
        LinkEvent::Snapshot(vec![Versioned {
            revision: 2,
            object: server(b, "b")
        }])
    );
    cloud.store.floor.store(0, Ordering::SeqCst);

    node.reporter.report(Report::ServerGone { id: a });
    until(|| {
        cloud
            .store
            .reports
            .lock()
            .iter()
            .any(|r| r.report == Report::ServerGone { id: a })
    })
    .await;

    let query = Query::ConsoleLog {
        server_id: b,
        lines: Some(3),
    };
    let answer = cloud.server.query("hv1", query, LIMIT).await;
    assert_eq!(
        answer,
        Ok(Answer::ConsoleLog {
            output: "Some(3)".into()
        })
    );
    let short = Duration::from_millis(30);
    let silent = cloud.server.query("hv1", Query::Uptime, short).await;
    assert_eq!(
        silent,
        Err(QueryError::Timeout {
            node: "hv1".into(),
            seconds: 0
        })
    );
    let nowhere = cloud.server.query("hv9", Query::Uptime, short).await;
    assert_eq!(nowhere, Err(QueryError::NotConnected { node: "hv9".into() }));

    let mut console = cloud
        .server
        .open_console("hv1", b, ConsoleKind::Vnc, LIMIT)
        .await
        .expect("a console");
    console.write_all(b"RFB 003.008\n").await.expect("written");
    let mut echo = [0; 12];
    console.read_exact(&mut echo).await.expect("read");
    assert_eq!(&echo, b"RFB 003.008\n");

    let data = transport.image("hv1", a).await.expect("an image");
    assert_eq!(data.size, Some(640_000));
    let bytes: Vec<Bytes> = data.stream.try_collect().await.expect("all of it");
    assert_eq!(bytes.iter().map(Bytes::len).sum::<usize>(), 640_000);
    assert!(matches!(
        transport.image("hv1", Uuid::nil()).await,
        Err(LinkError::NoImage { .. })
    ));

    // The same node again: the newer link takes over, and the older one's end is not the node's.
    let mut again = Node::start(transport.clone(), "hv1");
    assert_eq!(again.next().await, LinkEvent::Connected);
    drop(node);
    assert!(matches!(again.next().await, LinkEvent::Snapshot(_)));
    drop(again);
    until(|| cloud.store.events.lock().last().is_some_and(|e| e == "-hv1")).await;
    until(|| !cloud.server.is_connected("hv1")).await;

    let hello = NodeHello {
        protocol_version: 1,
        hostname: "stranger".into(),
        ..NodeHello::default()
    };
    let refused = transport.connect(hello).await.err();
    assert!(matches!(refused, Some(LinkError::Refused { reason }) if reason == "this cloud has no such node"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process() {
    let cloud = cloud();
    whole_story(&cloud, Arc::new(cloud.server.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.sock");
    let cloud = cloud();
    let listener = UnixListener::bind(&path).expect("a socket");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).expect("the socket"));
    let server = cloud.server.clone();
    tokio::spawn(async move { server.serve_unix(listener, vec![uid]).await });
    whole_story(&cloud, unix_transport(&path)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_a_controller_that_came_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.sock");
    let mut node = Node::start(unix_transport(&path), "hv1");
    for round in 1..=2 {
        let cloud = cloud();
        let id = Uuid::new_v4();
        cloud.store.add(upsert(id, "a", round));
        let listener = UnixListener::bind(&path).expect("a socket");
        let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).expect("the socket"));
        let server = cloud.server.clone();
        let serving = tokio::spawn(async move { server.serve_unix(listener, vec![uid]).await });
        assert_eq!(node.next().await, LinkEvent::Connected);
        assert_eq!(
            node.next().await,
            LinkEvent::Snapshot(vec![Versioned {
                revision: round,
                object: server_named(id)
            }])
        );
        cloud.server.close();
        assert_eq!(node.next().await, LinkEvent::Disconnected);
        serving.await.expect("ended").expect("without an error");
        std::fs::remove_file(&path).expect("removed");
    }
}

fn server_named(id: Uuid) -> Object {
    server(id, "a")
}

#[test]
fn secrets_do_not_show() {
    let Object::Server(server) = server(Uuid::nil(), "a") else {
        panic!("a server")
    };
    assert!(!format!("{server:?}").contains("geheim"));
    assert!(serde_json::to_string(&server).expect("json").contains("geheim"));
}
