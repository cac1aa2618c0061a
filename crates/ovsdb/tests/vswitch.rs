//! The client against the real ovsdb-server and ovs-vswitchd (with its dummy datapath: neither root nor a namespace is needed).

#![allow(clippy::unwrap_used)]

use ovsdb::{BridgeSpec, Endpoint, Error, PortSpec, Row, Transaction, Vswitch, unixctl};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Daemons {
    dir: tempfile::TempDir,
}

const LONG: Duration = Duration::from_secs(15);

impl Daemons {
    /// None if Open vSwitch is not installed; with CI set that is a failure.
    fn start() -> Option<Daemons> {
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        if !Path::new(schema).exists() {
            assert!(std::env::var_os("CI").is_none(), "Open vSwitch is not installed");
            eprintln!("skipped: Open vSwitch is not installed");
            return None;
        }
        let d = Daemons {
            dir: tempfile::tempdir().unwrap(),
        };
        d.run("ovsdb-tool", &["create", &d.text("conf.db"), schema]);
        d.start_database();
        d.start_switch();
        Some(d)
    }

    fn start_database(&self) {
        let remote = format!("--remote=punix:{}", self.text("db.sock"));
        self.daemon("ovsdb-server", "ovsdb", &[&self.text("conf.db"), &remote]);
    }

    fn start_switch(&self) {
        let db = format!("unix:{}", self.text("db.sock"));
        self.daemon("ovs-vswitchd", "vswitchd", &[&db, "--enable-dummy", "--disable-system"]);
    }

    fn daemon(&self, program: &str, name: &str, args: &[&str]) {
        let pid = format!("--pidfile={}", self.text(&format!("{name}.pid")));
        let ctl = format!("--unixctl={}", self.text(&format!("{name}.ctl")));
        let common = [
            &pid,
            &ctl,
            "--detach",
            "--no-chdir",
            "-vconsole:off",
            "-vsyslog:off",
            "-vfile:off",
        ];
        self.run(program, &[args, &common].concat());
    }

    fn kill(&self, name: &str) {
        if let Ok(pid) = std::fs::read_to_string(self.path(&format!("{name}.pid"))) {
            let _ = Command::new("kill").args(["-9", pid.trim()]).status();
            while Path::new(&format!("/proc/{}", pid.trim())).exists() {
                std::thread::yield_now();
            }
            let _ = std::fs::remove_file(self.path(&format!("{name}.pid")));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        let command = command.args(args).stdin(Stdio::null());
        let out = command
            .env("OVS_RUNDIR", self.dir.path())
            .env("OVS_LOGDIR", self.dir.path())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.text("db.sock"));
        self.run("ovs-vsctl", &[&[db.as_str()], args].concat())
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path("db.sock"))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        self.kill("vswitchd");
        self.kill("ovsdb");
    }
}

fn bridge(name: &str) -> BridgeSpec {
    BridgeSpec {
        name: name.to_owned(),
        datapath_type: Some("dummy".to_owned()),
        secure: true,
        protocols: vec!["OpenFlow13".to_owned(), "OpenFlow14".to_owned()],
        controllers: vec!["tcp:127.0.0.1:1".to_owned()],
        external_ids: BTreeMap::from([("made-by".to_owned(), "test".to_owned())]),
    }
}

#[tokio::test]
async fn bridges_and_ports_are_made_as_they_should_be() {
    let Some(d) = Daemons::start() else { return };
    let v = Vswitch::connect(d.endpoint()).await.unwrap();
    assert_eq!(v.database().list().await.unwrap(), ["Open_vSwitch", "_Server"]);
    assert_eq!(v.database().schema().await.unwrap()["name"], "Open_vSwitch");
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    v.ensure_bridge(&bridge("br1")).await.unwrap();
    assert_eq!(v.bridges(), ["br0", "br1"]);
    assert!(v.datapath_id("br0").is_some());
    assert_eq!(v.controllers("br0"), [("tcp:127.0.0.1:1".to_owned(), false)]);
    let show = d.vsctl(&["show"]);
    for line in [
        "Bridge br0",
        "Controller \"tcp:127.0.0.1:1\"",
        "fail_mode: secure",
        "datapath_type: dummy",
    ] {
        assert!(show.contains(line), "{line} in {show}");
    }

    v.ensure_ports(
        "br0",
        &[
            PortSpec::patch("a", "b"),
            PortSpec::new("tap0", "dummy").external_id("iface-id", "p0"),
        ],
    )
    .await
    .unwrap();
    v.ensure_ports("br1", &[PortSpec::patch("b", "a")]).await.unwrap();
    let number = v.ofport("tap0", LONG).await.unwrap();
    let (on, port) = v.port("tap0").unwrap();
    assert_eq!(
        (on.as_str(), port.ofport, port.kind.as_str()),
        ("br0", Some(number), "dummy")
    );
    assert_eq!(
        port.external_ids,
        BTreeMap::from([("iface-id".to_owned(), "p0".to_owned())])
    );
    let names = |b: &str| v.ports(b).into_iter().map(|p| p.name).collect::<Vec<_>>();
    assert_eq!(names("br0"), ["a", "br0", "tap0"]);

    // Again, nothing changes: the switch is not even asked to look.
    let config = || {
        v.database().read(|r| {
            r.table("Open_vSwitch")
                .values()
                .next()
                .and_then(|r| r.integer("next_cfg"))
        })
    };
    let before = config();
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    v.ensure_ports("br0", &[PortSpec::new("tap0", "dummy").external_id("iface-id", "p0")])
        .await
        .unwrap();
    assert_eq!(config(), before);

    // What somebody changed is put right; what others noted stays.
    d.vsctl(&["set", "bridge", "br0", "fail_mode=standalone", "external_ids:other=x"]);
    d.vsctl(&["set-controller", "br0", "tcp:10.0.0.1:9"]);
    d.vsctl(&[
        "set",
        "interface",
        "tap0",
        "external_ids:iface-id=wrong",
        "external_ids:mine=1",
    ]);
    let changed =
        |r: &ovsdb::Replica| (r.find("Interface", "name", "tap0")?.1.map("external_ids").len() == 2).then_some(());
    v.database().wait_for("the change", LONG, changed).await.unwrap();
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    v.ensure_ports("br0", &[PortSpec::new("tap0", "dummy").external_id("iface-id", "p0")])
        .await
        .unwrap();
    assert_eq!(d.vsctl(&["get-fail-mode", "br0"]).trim(), "secure");
    assert_eq!(d.vsctl(&["get-controller", "br0"]).trim(), "tcp:127.0.0.1:1");
    assert_eq!(
        d.vsctl(&["get", "bridge", "br0", "external_ids"]).trim(),
        "{made-by=test, other=x}"
    );
    assert_eq!(
        d.vsctl(&["get", "interface", "tap0", "external_ids"]).trim(),
        "{iface-id=p0, mine=\"1\"}"
    );

    // A port moves to another bridge, and goes.
    v.ensure_ports("br1", &[PortSpec::new("tap0", "dummy")]).await.unwrap();
    assert_eq!(
        (names("br0"), names("br1")),
        (
            vec!["a".to_owned(), "br0".to_owned()],
            vec!["b".to_owned(), "br1".to_owned(), "tap0".to_owned()]
        )
    );
    v.delete_ports(&["tap0", "a", "never-there"]).await.unwrap();
    assert_eq!((names("br0"), v.port("tap0")), (vec!["br0".to_owned()], None));
    v.delete_bridge("br1").await.unwrap();
    v.delete_bridge("br1").await.unwrap();
    assert_eq!(v.bridges(), ["br0"]);
}

#[tokio::test]
async fn errors_say_what_is_wrong() {
    let Some(d) = Daemons::start() else { return };
    let v = Vswitch::connect(d.endpoint()).await.unwrap();
    let e = v.ensure_ports("nowhere", &[PortSpec::new("x", "")]).await.unwrap_err();
    assert_eq!(
        e.to_string(),
        "Open vSwitch cannot use nowhere: there is no such bridge"
    );
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    v.ensure_ports("br0", &[PortSpec::new("nosuch0", "")]).await.unwrap();
    let e = v.ofport("nosuch0", LONG).await.unwrap_err();
    assert!(matches!(&e, Error::Switch { name, .. } if name == "nosuch0"), "{e}");
    let mut t = Transaction::new();
    t.insert("Bridge", &Row::default().with("nosuch", 1));
    assert!(matches!(v.database().transact(t).await, Err(Error::Refused { .. })));
    let ctl = d.path("vswitchd.ctl");
    assert!(
        unixctl::call(&ctl, "version", &[])
            .await
            .unwrap()
            .starts_with("ovs-vswitchd (Open vSwitch)")
    );
    let e = unixctl::call(&ctl, "nonsense", &["a"]).await.unwrap_err();
    assert!(e.to_string().contains("\"nonsense\" is not a valid command"), "{e}");
    assert!(matches!(
        unixctl::call(&d.path("none"), "version", &[]).await,
        Err(Error::Connect { .. })
    ));
    assert!(matches!(
        Vswitch::connect(Endpoint::Unix(d.path("none"))).await,
        Err(Error::Connect { .. })
    ));
}

#[tokio::test]
async fn the_connection_comes_back_with_what_changed_meanwhile() {
    let Some(d) = Daemons::start() else { return };
    let v = Vswitch::connect(d.endpoint()).await.unwrap();
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    d.kill("ovsdb");
    let mut changes = v.database().changes();
    while v.database().is_connected() {
        tokio::time::timeout(LONG, changes.changed()).await.unwrap().unwrap();
    }
    assert!(matches!(
        v.ensure_bridge(&bridge("br1")).await,
        Err(Error::Disconnected)
    ));
    // Somebody adds a port meanwhile.
    let _ = std::fs::remove_file(d.path("db.sock"));
    d.start_database();
    d.vsctl(&[
        "--no-wait",
        "add-port",
        "br0",
        "meanwhile",
        "--",
        "set",
        "interface",
        "meanwhile",
        "type=dummy",
    ]);
    let seen = |r: &ovsdb::Replica| r.find("Port", "name", "meanwhile").map(drop);
    v.database().wait_for("the port", LONG, seen).await.unwrap();
    // Without waiting for the switch, which tries to connect again only after a while.
    v.ensure_ports("br0", &[PortSpec::new("later", "dummy")]).await.unwrap();
    assert!(d.vsctl(&["list-ports", "br0"]).contains("later"));
}

#[tokio::test]
async fn a_port_is_usable_within_milliseconds() {
    let Some(d) = Daemons::start() else { return };
    let v = Vswitch::connect(d.endpoint()).await.unwrap();
    v.ensure_bridge(&bridge("br0")).await.unwrap();
    let mut times = Vec::new();
    for i in 0..20 {
        let name = format!("tap{i}");
        let start = Instant::now();
        v.ensure_ports("br0", &[PortSpec::new(&name, "dummy")]).await.unwrap();
        v.ofport(&name, LONG).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort();
    eprintln!("add a port until its number is known, median: {:?}", times[10]);
}
