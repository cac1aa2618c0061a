//! A Compute service with real storage and a real Placement; images, networks and identities are simple ones that live here.

#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::services::{Identities, ImageFacts, Images, NewImage, Nic, NicAddress, Ports, RequestedNic, ServerRef};
use api::{AuthFailure, Authenticator, Body, Context, Error, Method, Service};
use compute::nodes::Sink;
use compute::{Compute, Config, Neighbours};
use database::{Database, Tx, params};
use node_protocol::controller::ReportSink;
use node_protocol::reports::{NodeHello, PowerState, Progress, Reached, Report, Sequenced, ServerObserved};
use parking_lot::Mutex;
use policy::{Enforcer, defaults};
use serde_json::{Value, json};

pub const IMAGE: &str = "11111111-1111-4111-8111-111111111111";
pub const NETWORK: &str = "22222222-2222-4222-8222-222222222222";

/// Tokens are `user:project:role,role`.
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        let parts: Vec<&str> = token.split(':').collect();
        let [user, project, roles] = parts.as_slice() else {
            return Err(AuthFailure::Invalid);
        };
        let mut context = Context::internal_for(project);
        context.user.id = (*user).into();
        context.token = token.into();
        context.credentials.is_admin = false;
        context.credentials.user_id = Some((*user).into());
        context.credentials.roles = roles.split(',').map(str::to_owned).collect();
        Ok(Arc::new(context))
    }
}

struct OneImage;

impl Images for OneImage {
    fn find(&self, _: &mut Tx<'_>, _: &Context, id: &str) -> Result<Option<ImageFacts>, Error> {
        let facts = ImageFacts {
            id: IMAGE.into(),
            name: Some("tiny".into()),
            status: "active".into(),
            disk_format: Some("qcow2".into()),
            size: Some(1 << 20),
            ..ImageFacts::default()
        };
        Ok((id == IMAGE).then_some(facts))
    }
    fn visible(&self, _: &mut Tx<'_>, _: &Context) -> Result<Vec<ImageFacts>, Error> {
        Ok(Vec::new())
    }
    fn data(&self, _: &str) -> Option<PathBuf> {
        None
    }
    fn create(&self, _: &mut Tx<'_>, _: &Context, _: &NewImage) -> Result<String, Error> {
        Err(Error::not_implemented("not here"))
    }
    fn delete(&self, _: &mut Tx<'_>, _: &Context, _: &str) -> Result<(), Error> {
        Err(Error::not_found("not here"))
    }
    fn set_properties(
        &self,
        _: &mut Tx<'_>,
        _: &Context,
        _: &str,
        _: &BTreeMap<String, String>,
        _: bool,
    ) -> Result<(), Error> {
        Err(Error::not_found("not here"))
    }
}

/// One network per project; ports live in a table of the test's own, so that they share the caller's transaction.
struct OneNetwork;

impl OneNetwork {
    fn of(&self, tx: &mut Tx<'_>, server: &str) -> Result<Vec<Nic>, Error> {
        let rows = tx.query(
            "SELECT id, address FROM test_ports WHERE server_id = ?1 ORDER BY address",
            &params![server],
        )?;
        rows.iter()
            .map(|row| {
                let address = NicAddress {
                    address: row.get(1)?,
                    subnet_id: NETWORK.into(),
                    version: 4,
                    floating: vec![],
                };
                Ok(Nic {
                    port_id: row.get(0)?,
                    network_id: NETWORK.into(),
                    network_name: "private".into(),
                    mac_address: "fa:16:3e:00:00:01".into(),
                    addresses: vec![address],
                    status: "ACTIVE".into(),
                    created_by_compute: true,
                    security_groups: vec![("g".into(), "default".into())],
                    ..Nic::default()
                })
            })
            .collect()
    }
}

impl Ports for OneNetwork {
    fn attach(
        &self,
        tx: &mut Tx<'_>,
        _: &Context,
        server: &ServerRef,
        nics: &[RequestedNic],
        _: &[String],
    ) -> Result<Vec<Nic>, Error> {
        for _ in 0..nics.len().max(1) {
            let count: i64 = tx.scalar("SELECT COUNT(*) FROM test_ports", &[])?.unwrap_or(0);
            let id = uuid::Uuid::new_v4().to_string();
            let address = format!("10.0.{}.{}", count / 250, count % 250 + 2);
            tx.execute(
                "INSERT INTO test_ports (id, server_id, address) VALUES (?1, ?2, ?3)",
                &params![id, &server.id, address],
            )?;
        }
        self.of(tx, &server.id)
    }
    fn check(&self, _: &mut Tx<'_>, _: &Context, _: &str, nics: &[RequestedNic], _: &[String]) -> Result<u64, Error> {
        let stranger = nics
            .iter()
            .find_map(|n| n.network_id.as_deref().filter(|n| *n != NETWORK));
        match stranger {
            Some(id) => Err(Error::not_found(format!("Network {id} could not be found.")).kind("NetworkNotFound")),
            None => Ok(1),
        }
    }
    fn detach(&self, tx: &mut Tx<'_>, _: &Context, _: &str, port: &str) -> Result<(), Error> {
        tx.execute("DELETE FROM test_ports WHERE id = ?1", &params![port])?;
        Ok(())
    }
    fn detach_all(&self, tx: &mut Tx<'_>, server: &str) -> Result<(), Error> {
        tx.execute("DELETE FROM test_ports WHERE server_id = ?1", &params![server])?;
        Ok(())
    }
    fn nics(&self, tx: &mut Tx<'_>, ids: &[String]) -> Result<HashMap<String, Vec<Nic>>, Error> {
        ids.iter().map(|id| Ok((id.clone(), self.of(tx, id)?))).collect()
    }
    fn servers_with_address(
        &self,
        tx: &mut Tx<'_>,
        _: Option<&str>,
        _: u8,
        pattern: &str,
    ) -> Result<Vec<String>, Error> {
        Ok(tx.column(
            "SELECT server_id FROM test_ports WHERE address REGEXP ?1",
            &params![pattern],
        )?)
    }
    fn bind(&self, _: &mut Tx<'_>, _: &str, _: Option<&str>) -> Result<(), Error> {
        Ok(())
    }
    fn rename(&self, _: &mut Tx<'_>, _: &str, _: &str) -> Result<(), Error> {
        Ok(())
    }
    fn change_security_group(&self, _: &mut Tx<'_>, _: &Context, _: &ServerRef, _: &str, _: bool) -> Result<(), Error> {
        Ok(())
    }
    fn network_data(&self, _: &mut Tx<'_>, _: &str) -> Result<Value, Error> {
        Ok(json!({}))
    }
}

struct Everybody;

impl Identities for Everybody {
    fn project_exists(&self, _: &mut Tx<'_>, id: &str) -> Result<bool, Error> {
        Ok(id != "nowhere")
    }
    fn user_exists(&self, _: &mut Tx<'_>, _: &str) -> Result<bool, Error> {
        Ok(true)
    }
}

/// The cloud under test.
pub struct Cloud {
    pub db: Database,
    pub compute: Arc<Compute>,
    pub service: Service,
    sequence: AtomicU64,
    flavor: Mutex<Option<String>>,
}

pub const ADMIN: &str = "root:admin:admin,manager,member,reader";
pub const MEMBER: &str = "alice:blue:member,reader";
pub const READER: &str = "rita:blue:reader";
pub const STRANGER: &str = "mallory:red:member,reader";

/// A fresh cloud on this database, with one node and the flavor `1`.
pub fn cloud(db: Database, vcpus: u32) -> Cloud {
    // The cause of a 500 is in the log alone.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("error")
        .with_test_writer()
        .try_init();
    db.write(|tx| {
        tx.batch("CREATE TABLE test_ports (id TEXT PRIMARY KEY, server_id TEXT NOT NULL, address TEXT NOT NULL)")
    })
    .unwrap();
    let policy = Enforcer::new(&[defaults::compute::RULES], None).unwrap();
    let placement = placement::Placement::new(db.clone(), None).unwrap();
    let neighbours = Neighbours {
        images: Arc::new(OneImage),
        ports: Arc::new(OneNetwork),
        capacity: placement,
        identities: Arc::new(Everybody),
    };
    let config = Config {
        cpu_allocation_ratio: 1.0,
        reserved_host_memory_mb: 0,
        ..Config::default()
    };
    let compute = Arc::new(Compute::new(db.clone(), policy, neighbours, config));
    let service = compute.service(Arc::new(Tokens), "http://identity");
    let cloud = Cloud {
        db,
        compute,
        service,
        sequence: AtomicU64::new(1),
        flavor: Mutex::default(),
    };
    cloud.hello("node-1", vcpus);
    let flavor = json!({"flavor": {"id": "1", "name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
    cloud.ok(ADMIN, "POST", "/v2.1/flavors", Some(flavor));
    cloud
}

/// What databases of these tests are made of.
pub fn on_both(test: impl Fn(Database)) {
    database::testing::on_both(&[placement::MIGRATIONS, compute::MIGRATIONS], test);
}

fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap()
        .block_on(future)
}

impl Cloud {
    pub fn hello(&self, name: &str, vcpus: u32) {
        let hello = NodeHello {
            hostname: name.into(),
            hypervisor_hostname: format!("{name}.example"),
            hypervisor_type: "QEMU".into(),
            vcpus,
            memory_mib: 64 * 1024,
            disk_gib: 1000,
            ..NodeHello::default()
        };
        now(Sink(self.compute.clone()).connected(hello)).unwrap();
    }

    pub fn report(&self, node: &str, report: Report) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        now(Sink(self.compute.clone()).report(node, vec![Sequenced { sequence, report }])).unwrap();
    }

    /// The node says that it has brought about all that is wanted of the server, and what the guest does.
    pub fn settle(&self, id: &str, power: PowerState) {
        self.observe(id, power, None);
    }

    /// The node says that it cannot bring about what is wanted.
    pub fn fault(&self, id: &str, why: &str) {
        let fault = node_protocol::reports::Fault {
            code: 500,
            message: why.into(),
            details: String::new(),
        };
        self.observe(id, PowerState::NoState, Some(fault));
    }

    fn observe(&self, id: &str, power: PowerState, fault: Option<node_protocol::reports::Fault>) {
        let server = self
            .db
            .read(|tx| compute::store::servers::find(tx, id, false))
            .unwrap()
            .unwrap();
        let reached = Reached {
            power: server.power_generation as u64,
            soft_reboot: server.soft_reboot as u64,
            hard_reboot: server.hard_reboot as u64,
            rebuild: server.rebuild as u64,
        };
        let seen = ServerObserved {
            id: id.parse().unwrap(),
            revision: server.revision as u64,
            power_state: power,
            progress: Progress::Settled,
            reached,
            fault,
            launched_at: None,
            vnc_port: None,
            vnc_host: None,
            plugged_ports: vec![],
            root_device_name: "/dev/vda".into(),
        };
        self.report("node-1", Report::Server(seen));
    }

    /// A request at a microversion; the status and the body.
    pub fn at(&self, version: &str, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut headers = api::HeaderMap::new();
        if !token.is_empty() {
            headers.insert("x-auth-token", token.parse().unwrap());
        }
        headers.insert("openstack-api-version", format!("compute {version}").parse().unwrap());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut request = Service::head(
            Method::from_bytes(method.as_bytes()).unwrap(),
            path,
            query,
            headers,
            "http://c".into(),
            None,
        );
        if let Some(body) = body {
            request.body = body.to_string().into();
        }
        let response = self.service.call(request);
        let value = match &response.body {
            Body::Full(bytes) => serde_json::from_slice(bytes).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        (response.status.as_u16(), value)
    }

    /// A request at 2.1 that must succeed.
    pub fn ok(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, value) = self.at("2.1", token, method, path, body);
        assert!(status < 300, "{method} {path}: {status} {value}");
        value
    }

    /// A request at 2.1 that must fail: the status and the message.
    pub fn fails(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, value) = self.at("2.1", token, method, path, body);
        assert!(status >= 400, "{method} {path}: {status} {value}");
        let message = value
            .as_object()
            .and_then(|o| o.values().next())
            .map_or("", |v| v["message"].as_str().unwrap_or_default());
        (status, message.to_owned())
    }

    /// The body of a plain creation.
    pub fn body(&self, name: &str) -> Value {
        json!({"server": {"name": name, "imageRef": IMAGE, "flavorRef": "1"}})
    }

    /// Creates a server and returns its id.
    pub fn create(&self, token: &str, name: &str) -> String {
        let body = self.ok(token, "POST", "/v2.1/servers", Some(self.body(name)));
        body["server"]["id"].as_str().unwrap().to_owned()
    }

    pub fn status(&self, id: &str) -> String {
        self.ok(ADMIN, "GET", &format!("/v2.1/servers/{id}"), None)["server"]["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}
