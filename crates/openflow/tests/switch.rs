//! What this crate says is understood by the real Open vSwitch, and the other way round.
//!
//! The switch is started with its dummy datapath in a temporary folder; neither root nor a namespace is needed.

#![allow(clippy::unwrap_used)]

use openflow::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Switch {
    dir: tempfile::TempDir,
}

impl Switch {
    /// None if Open vSwitch is not installed; with CI set that is a failure.
    fn start() -> Option<Switch> {
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        if !Path::new(schema).exists() {
            assert!(std::env::var_os("CI").is_none(), "Open vSwitch is not installed");
            eprintln!("skipped: Open vSwitch is not installed");
            return None;
        }
        let s = Switch {
            dir: tempfile::tempdir().unwrap(),
        };
        let (db, sock) = (s.path("conf.db"), s.path("db.sock"));
        s.run("ovsdb-tool", &["create", &db, schema]);
        let common = ["--detach", "--no-chdir", "-vconsole:off", "-vsyslog:off", "-vfile:off"];
        let with = |args: &[&str]| args.iter().chain(&common).map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let remote = format!("--remote=punix:{sock}");
        let (pid, ctl) = (
            format!("--pidfile={}", s.path("ovsdb.pid")),
            format!("--unixctl={}", s.path("ovsdb.ctl")),
        );
        s.run(
            "ovsdb-server",
            &with(&[&db, &remote, &pid, &ctl])
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        s.vsctl(&["--no-wait", "init"]);
        let (pid, ctl) = (
            format!("--pidfile={}", s.path("vswitchd.pid")),
            format!("--unixctl={}", s.path("vswitchd.ctl")),
        );
        let remote = format!("unix:{sock}");
        s.run(
            "ovs-vswitchd",
            &with(&[&remote, "--enable-dummy", "--disable-system", &pid, &ctl])
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        );
        s.vsctl(&[
            "add-br",
            "br",
            "--",
            "set",
            "bridge",
            "br",
            "datapath_type=dummy",
            "fail_mode=secure",
            "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15",
        ]);
        for i in 1..=4 {
            let name = format!("p{i}");
            s.vsctl(&[
                "add-port",
                "br",
                &name,
                "--",
                "set",
                "interface",
                &name,
                "type=dummy",
                &format!("ofport_request={i}"),
            ]);
        }
        Some(s)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let out = Command::new(program)
            .args(args)
            .env("OVS_RUNDIR", self.dir.path())
            .env("OVS_LOGDIR", self.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(
            out.status.success(),
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock"));
        self.run("ovs-vsctl", &[&[db.as_str()], args].concat())
    }

    fn ofctl(&self, args: &[&str]) -> String {
        self.run("ovs-ofctl", &[&["-OOpenFlow15"], args].concat())
    }

    async fn connect(&self) -> (Connection, tokio::sync::mpsc::Receiver<Event>) {
        let stream = tokio::net::UnixStream::connect(self.path("br.mgmt")).await.unwrap();
        Connection::establish(stream).await.unwrap()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in ["vswitchd.pid", "ovsdb.pid"] {
            if let Ok(pid) = std::fs::read_to_string(self.path(name)) {
                let _ = Command::new("kill").arg(pid.trim()).status();
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// One flow for each thing that flows can say.
fn flows() -> Vec<Flow> {
    let zone = Zone::In(Field::reg(6).part(0, 16));
    let v4 = Ipv4Addr::new(192, 168, 5, 11);
    let v6: Ipv6Addr = "fd00::11".parse().unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let m = Match::new;
    let matches = vec![
        m(),
        m().in_port(1).eth_src(mac).eth_dst(Mac::BROADCAST),
        m().in_port(port::LOCAL),
        m().eth_multicast(),
        m().eth_unicast(),
        m().vlan(100).with(Field::VlanPcp, 3u8),
        m().untagged(),
        m().with_masked(Field::VlanVid, 0x1000u16, 0x1000),
        m().ip()
            .ipv4_src(v4, 32)
            .ipv4_dst(v4, 24)
            .with(Field::IpDscp, 46u8)
            .with(Field::IpTtl, 1u8),
        m().ip().with(Field::IpEcn, 1u8),
        m().ip().with(Field::IpFrag, 3u8),
        m().tcp()
            .with(Field::TcpSrc, 1u16)
            .with_masked(Field::TcpDst, 0x1f40, 0xfff8u16),
        m().tcp().with_masked(Field::TcpFlags, 2u16, 0x12),
        m().udp().with(Field::UdpSrc, 68u16).with(Field::UdpDst, 67u16),
        m().ip()
            .ip_proto(ip_proto::SCTP)
            .with(Field::SctpSrc, 5u16)
            .with(Field::SctpDst, 6u16),
        m().icmp().with(Field::Icmpv4Type, 8u8).with(Field::Icmpv4Code, 0u8),
        m().arp()
            .with(Field::ArpOp, 1u16)
            .with(Field::ArpSpa, v4)
            .with_prefix(Field::ArpTpa, v4, 24),
        m().arp().with(Field::ArpSha, mac).with(Field::ArpTha, mac),
        m().ipv6()
            .ipv6_src(v6, 64)
            .ipv6_dst(v6, 128)
            .with(Field::Ipv6Label, 5u32),
        m().tcp6().with(Field::TcpDst, 22u16),
        m().udp6().with(Field::UdpDst, 547u16),
        m().icmpv6_type(135)
            .with(Field::Icmpv6Code, 0u8)
            .with(Field::NdTarget, v6)
            .with(Field::NdSll, mac),
        m().icmpv6_type(136).with(Field::NdTll, mac),
        m().icmpv6_type(134)
            .with(Field::Icmpv6Code, 0u8)
            .with_masked(Field::IpTtl, 255u8, 255),
        m().tun_id(70001)
            .with(Field::TunSrc, v4)
            .with_prefix(Field::TunDst, v4, 24),
        m().metadata(5).with(Field::PktMark, 7u32),
        (0..16).fold(m(), |a, n| {
            if n < 8 {
                a.reg(n, u32::from(n))
            } else {
                a.reg_masked(n, 0x30, 0xf0)
            }
        }),
        m().with(Field::XxReg1, u128::from(v6)),
        m().with_masked(Field::Metadata, 0x100u64, 0xff00),
        m().ct_state(ct_state::NEW | ct_state::TRK, ct_state::EST)
            .ip()
            .with(Field::CtZone, 5u16)
            .with(Field::CtMark, 1u32),
        m().with_masked(Field::CtLabel, 1u128 << 100, 1u128 << 100),
        m().ct_state(ct_state::TRK | ct_state::EST, 0)
            .ip()
            .with(Field::CtNwSrc, v4)
            .with(Field::CtNwProto, 6u8)
            .with(Field::CtTpDst, 80u16),
        m().ip().with(Field::ConjId, 7u32),
    ];
    let mut out: Vec<Flow> = matches
        .into_iter()
        .enumerate()
        .map(|(i, m)| Flow::new(1, i as u16, m, vec![Action::output(1)]).cookie(0x100 + i as u64))
        .collect();
    let arp = || m().arp();
    let ip = || m().ip();
    let actions = vec![
        (m(), vec![]),
        (m(), vec![Action::output(port::NORMAL)]),
        (
            m(),
            vec![
                Action::output(port::IN_PORT),
                Action::output(port::LOCAL),
                Action::output(port::FLOOD),
                Action::output(2),
            ],
        ),
        (
            m(),
            vec![
                Action::output(port::CONTROLLER),
                Action::Output {
                    port: port::CONTROLLER,
                    max_len: 128,
                },
            ],
        ),
        (
            m(),
            vec![
                Action::output_reg(Field::reg(7).all()),
                Action::output_reg(Field::reg(7).part(16, 16)),
            ],
        ),
        (m(), vec![Action::Group(1)]),
        (m(), vec![Action::SetQueue(3), Action::output(1)]),
        (
            m(),
            vec![
                Action::set(Field::EthSrc, mac),
                Action::set(Field::EthDst, mac),
                Action::set(Field::TunId, 70001u64),
                Action::set(Field::TunDst, v4),
            ],
        ),
        (
            m(),
            vec![
                Action::SetField(MatchField::masked(Field::EthSrc, mac, Mac([0xff, 0xff, 0xff, 0, 0, 0]))),
                Action::SetField(MatchField::masked(Field::reg(2), 3u32, 0x0f0fu32)),
            ],
        ),
        (
            m(),
            vec![
                Action::load(Field::reg(5).all(), 7),
                Action::load(Field::reg(6).part(4, 8), 0xff),
                Action::load(Field::InPort16.all(), 0),
                Action::load(Field::Metadata.part(0, 32), 9),
            ],
        ),
        (
            m(),
            vec![
                Action::set(Field::reg(1), 7u32),
                Action::set(Field::Metadata, 7u64),
                Action::set(Field::XxReg0, u128::from(v6)),
                Action::set(Field::PktMark, 3u32),
            ],
        ),
        (
            arp(),
            vec![
                Action::copy(Field::EthSrc, Field::EthDst),
                Action::set(Field::ArpOp, 2u16),
                Action::copy(Field::ArpSha, Field::ArpTha),
                Action::set(Field::ArpSha, mac),
                Action::copy(Field::ArpSpa, Field::ArpTpa),
                Action::set(Field::ArpSpa, v4),
                Action::output(port::IN_PORT),
            ],
        ),
        (
            m().icmp().with(Field::Icmpv4Type, 8u8),
            vec![
                Action::Push(Field::Ipv4Src.all()),
                Action::Push(Field::Ipv4Dst.all()),
                Action::Pop(Field::Ipv4Src.all()),
                Action::Pop(Field::Ipv4Dst.all()),
                Action::set(Field::IpTtl, 255u8),
                Action::set(Field::Icmpv4Type, 0u8),
                Action::resubmit(9),
            ],
        ),
        (
            m().icmpv6_type(135)
                .with(Field::Icmpv6Code, 0u8)
                .with(Field::NdTarget, v6),
            vec![
                Action::copy(Field::Ipv6Src, Field::Ipv6Dst),
                Action::set(Field::Ipv6Src, v6),
                Action::set(Field::Icmpv6Type, 136u8),
                Action::set(Field::NdOptionsType, 2u8),
                Action::set(Field::NdReserved, 0xe000_0000u32),
                Action::resubmit(11),
            ],
        ),
        (
            m().icmpv6_type(136).with(Field::Icmpv6Code, 0u8),
            vec![Action::set(Field::NdTll, mac), Action::output(port::IN_PORT)],
        ),
        (
            m(),
            vec![
                Action::PushVlan(0x8100),
                Action::set(Field::VlanVid, 0x1064u16),
                Action::output(1),
            ],
        ),
        (m().vlan(100), vec![Action::PopVlan, Action::output(1)]),
        (
            ip(),
            vec![
                Action::DecTtl,
                Action::set(Field::IpDscp, 46u8),
                Action::Resubmit {
                    port: Some(3),
                    table: Some(4),
                },
                Action::Resubmit {
                    port: Some(2),
                    table: None,
                },
                Action::Resubmit {
                    port: None,
                    table: Some(8),
                },
            ],
        ),
        (ip(), vec![Ct::track(zone, 72).action()]),
        (
            ip(),
            vec![Ct::commit(zone).action(), Action::output_reg(Field::reg(7).all())],
        ),
        (
            ip(),
            vec![
                Ct {
                    force: true,
                    exec: vec![
                        Action::set(Field::CtMark, 1u32),
                        Action::load(Field::CtLabel.part(0, 32), 5),
                    ],
                    ..Ct::commit(Zone::Is(5))
                }
                .action(),
            ],
        ),
        (ip(), vec![Ct::track(Zone::Is(100), 10).nat(Nat::Existing).action()]),
        (
            ip(),
            vec![Ct::commit(Zone::Is(100)).table(30).nat(Nat::src(v4)).action()],
        ),
        (
            ip(),
            vec![
                Ct::commit(Zone::Is(100))
                    .table(30)
                    .nat(Nat::dst(v4).ports(80, 80))
                    .action(),
            ],
        ),
        (
            ip(),
            vec![
                Ct {
                    exec: vec![Action::set(Field::CtMark, 9u32)],
                    ..Ct::commit(zone).table(30).nat(Nat::src(v4).ports(1024, 65535))
                }
                .action(),
            ],
        ),
        (
            ip(),
            vec![
                Ct::commit(Zone::Is(7))
                    .nat(Nat::Src(NatRange {
                        min: v4.into(),
                        max: Some(Ipv4Addr::new(192, 168, 5, 20).into()),
                        ports: None,
                    }))
                    .action(),
            ],
        ),
        (
            m().ipv6(),
            vec![
                Ct::commit(Zone::Is(7))
                    .nat(Nat::Dst(NatRange {
                        min: v6.into(),
                        max: Some("fd00::20".parse().unwrap()),
                        ports: Some((5, 6)),
                    }))
                    .action(),
            ],
        ),
        (
            m().tcp(),
            vec![
                Ct {
                    alg: 21,
                    ..Ct::commit(Zone::Is(0))
                }
                .action(),
                Action::CtClear,
            ],
        ),
        (
            ip(),
            vec![
                Action::Conjunction { id: 7, clause: 1, n: 2 },
                Action::Conjunction { id: 8, clause: 3, n: 3 },
            ],
        ),
        (m(), vec![Action::controller(*b"dhcp")]),
        (
            m(),
            vec![Action::Controller(Box::new(Controller {
                max_len: 128,
                id: 3,
                reason: reason::INVALID_TTL,
                userdata: vec![1, 2, 3, 4, 5],
            }))],
        ),
        (m(), vec![Action::Note(b"who made this".to_vec())]),
        (
            m(),
            vec![
                Action::Clone(vec![Action::set(Field::EthDst, mac), Action::output(2)]),
                Action::output(3),
            ],
        ),
        (
            m(),
            vec![Action::CheckPktLarger {
                len: 1514,
                dst: Field::reg(0).part(3, 1),
            }],
        ),
        (m(), vec![Action::Meter(1), Action::output(1)]),
        (m(), vec![Action::output(1), Action::Goto(12)]),
        (m(), vec![Action::output(1), Action::Goto(12), Action::Meter(1)]),
    ];
    out.extend(
        actions
            .into_iter()
            .enumerate()
            .map(|(i, (m, a))| Flow::new(3, 100 + i as u16, m, a)),
    );
    out
}

/// Sorted, for comparing.
fn reported(stats: Vec<FlowStats>) -> Vec<Flow> {
    let mut out: Vec<Flow> = stats
        .into_iter()
        .map(|s| Flow {
            table: s.table,
            priority: s.priority,
            cookie: s.cookie,
            matches: s
                .matches
                .clone()
                .unwrap_or_else(|| panic!("match not understood: {:x?}", s.unread)),
            actions: s
                .actions
                .clone()
                .unwrap_or_else(|| panic!("actions not understood: {s:?}")),
        })
        .collect();
    out.sort();
    out
}

fn assert_same(got: &[Flow], want: &[Flow], how: &str) {
    for (g, w) in got.iter().zip(want) {
        assert_eq!(g, w, "{how}");
    }
    assert_eq!(got.len(), want.len(), "{how}");
}

#[test]
fn the_switch_holds_what_it_was_given() {
    let Some(switch) = Switch::start() else { return };
    runtime().block_on(async {
        let (c, _events) = switch.connect().await;
        let meter = Meter { id: 1, rate: 5000, burst: 500, packets: false };
        c.meter(MeterCommand::Add, meter).await.unwrap();
        assert_eq!(c.meters().await.unwrap(), [meter]);
        assert!(matches!(c.meter(MeterCommand::Add, meter).await, Err(ConnectionError::Refused(e)) if e.to_string() == "meter mod failed: meter exists"));
        let bucket = |port, weight| Bucket { weight, actions: vec![Action::output(port)] };
        let groups = vec![
            Group { id: 1, kind: GroupType::All, buckets: vec![bucket(1, 0), bucket(2, 0)] },
            Group { id: 2, kind: GroupType::Select, buckets: vec![bucket(1, 50), bucket(2, 100)] },
            Group { id: 3, kind: GroupType::Indirect, buckets: vec![bucket(1, 0)] },
        ];
        let want: Vec<Flow> = flows();
        let changes: Vec<Change> = groups.iter().cloned().map(Change::AddGroup).chain(want.iter().cloned().map(Change::Add)).collect();
        if let Err(e) = c.bundle(&changes).await {
            if let BundleError::Rejected(list) = &e {
                list.iter().for_each(|(i, e)| eprintln!("{e}: {:?}", changes[*i]));
            }
            panic!("{e}");
        }
        let mut got_groups = c.groups().await.unwrap();
        got_groups.sort();
        assert_eq!(got_groups, groups);
        let mut want: Vec<Flow> = want.iter().map(Flow::canonical).collect();
        want.sort();
        assert_same(&reported(c.flows().await.unwrap()), &want, "as we sent them");

        // The same from the text that we print, by way of ovs-ofctl.
        c.bundle(&[Change::DeleteAll { table: 0xff }]).await.unwrap();
        assert!(c.flows().await.unwrap().is_empty());
        let mut text = String::new();
        want.iter().for_each(|f| text += &format!("{f}\n"));
        std::fs::write(switch.path("flows"), &text).unwrap();
        switch.ofctl(&["add-flows", "br", &switch.path("flows")]);
        // ovs-ofctl's own encoding of some actions differs (it writes the 16-bit port, the shorter controller action);
        // what it means is compared by the switch's words.
        let dump = |s: String| {
            let mut lines: Vec<String> = s.lines().skip(1).map(|l| l.split(", n_bytes").nth(1).unwrap_or(l).split_once(' ').unwrap_or(("", l)).1.to_owned()).collect();
            lines.sort();
            lines
        };
        let by_text = dump(switch.ofctl(&["dump-flows", "br"]));
        c.bundle(&[Change::DeleteAll { table: 0xff }]).await.unwrap();
        c.bundle(&want.iter().cloned().map(Change::Add).collect::<Vec<_>>()).await.unwrap();
        let by_codec = dump(switch.ofctl(&["dump-flows", "br"]));
        for (t, c) in by_text.iter().zip(&by_codec) {
            assert_eq!(t, c);
        }
        assert_eq!(by_text.len(), want.len());

        // Deleting one leaves the others; deleting a group takes its flow along.
        let gone = want.remove(5);
        c.bundle(&[Change::Delete { table: gone.table, priority: gone.priority, matches: gone.matches }]).await.unwrap();
        assert_same(&reported(c.flows().await.unwrap()), &want, "after a delete");
        c.bundle(&[Change::DeleteGroup(1)]).await.unwrap();
        want.retain(|f| !f.actions.contains(&Action::Group(1)));
        assert_same(&reported(c.flows().await.unwrap()), &want, "after the group went");
        c.meter(MeterCommand::Delete, meter).await.unwrap();
        assert!(c.meters().await.unwrap().is_empty());
    });
}

#[test]
fn a_bundle_is_applied_whole_or_not_at_all() {
    let Some(switch) = Switch::start() else { return };
    runtime().block_on(async {
        let (c, _events) = switch.connect().await;
        let flow = |n: u16, action| Change::Add(Flow::new(0, n, Match::new(), vec![action]));
        c.bundle(&[flow(1, Action::output(1))]).await.unwrap();
        let bad = vec![
            flow(2, Action::output(1)),
            flow(3, Action::output(0xffff_fff0)),
            flow(4, Action::Group(99)),
            Change::DeleteAll { table: 0 },
        ];
        match c.bundle(&bad).await {
            Err(BundleError::Rejected(list)) => {
                assert_eq!(list.iter().map(|r| r.0).collect::<Vec<_>>(), [1]);
                assert_eq!(list[0].1.to_string(), "bad action: bad output port");
            }
            other => panic!("{other:?}"),
        }
        let left = reported(c.flows().await.unwrap());
        assert_eq!(left.iter().map(|f| f.priority).collect::<Vec<_>>(), [1]);
        // A missing group is noticed only at the commit.
        match c
            .bundle(&[
                flow(2, Action::output(1)),
                flow(4, Action::Group(99)),
                Change::DeleteAll { table: 0 },
            ])
            .await
        {
            Err(BundleError::Rejected(list)) => assert_eq!(
                (list.len(), list[0].0, list[0].1.to_string().as_str()),
                (1, 1, "bad action: bad output group")
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(c.flows().await.unwrap().len(), 1);
        let long = flow(9, Action::Note(vec![0; 70_000]));
        assert!(
            matches!(c.bundle(&[flow(5, Action::output(1)), long]).await, Err(BundleError::Rejected(l)) if l[0].0 == 1)
        );
        assert_eq!(c.flows().await.unwrap().len(), 1);

        let many: Vec<Change> = (0..5000u32)
            .map(|i| Change::Add(Flow::new(10, 1, Match::new().reg(1, i), vec![Action::output(1)])))
            .collect();
        let start = Instant::now();
        c.bundle(&many).await.unwrap();
        eprintln!("5000 flows in one bundle: {:?}", start.elapsed());
        assert_eq!(c.flows().await.unwrap().len(), 5001);
        let mut times: Vec<Duration> = Vec::new();
        for i in 0..50u32 {
            let start = Instant::now();
            c.bundle(&[Change::Add(Flow::new(
                10,
                2,
                Match::new().reg(1, i),
                vec![Action::output(1)],
            ))])
            .await
            .unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        eprintln!("one flow in a bundle, median: {:?}", times[25]);
    });
}

#[test]
fn packets_come_in_with_what_was_known_of_them_and_go_out() {
    let Some(switch) = Switch::start() else { return };
    runtime().block_on(async {
        let (c, mut events) = switch.connect().await;
        let to_us = Flow::new(
            0,
            10,
            Match::new().in_port(2),
            vec![
                Action::load(Field::reg(3).all(), 0x1234),
                Action::load(Field::reg(4).all(), 7),
                Action::load(Field::Metadata.all(), 99),
                Action::controller(*b"hello"),
            ],
        )
        .cookie(0xabcd);
        let onward = Flow::new(0, 10, Match::new().in_port(3), vec![Action::output(port::CONTROLLER)]);
        c.bundle(&[Change::Add(to_us), Change::Add(onward)]).await.unwrap();
        let frame: Vec<u8> = [[0xff; 6].as_slice(), &[2, 0, 0, 0, 0, 9], &[0x12, 0x34], &[7; 46]].concat();
        let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        switch.run(
            "ovs-appctl",
            &["-t", &switch.path("vswitchd.ctl"), "netdev-dummy/receive", "p2", &hex],
        );
        let next = |events: &mut tokio::sync::mpsc::Receiver<Event>| {
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                match events.try_recv() {
                    Ok(Event::PacketIn(p)) => break p,
                    Ok(_) => {}
                    Err(_) if Instant::now() < deadline => std::thread::yield_now(),
                    Err(e) => panic!("no packet-in: {e}"),
                }
            }
        };
        let p = next(&mut events);
        assert_eq!(
            (p.in_port(), p.cookie, p.userdata.as_slice(), p.table, p.reason),
            (Some(2), 0xabcd, b"hello".as_slice(), 0, reason::ACTION)
        );
        assert_eq!((p.reg(3), p.reg(4), p.reg(5), p.metadata()), (0x1234, 7, 0, 99));
        assert_eq!(
            (p.data.as_slice(), p.total_len as usize),
            (frame.as_slice(), frame.len())
        );
        // A packet that we send through the tables as if it came by port 3 comes back.
        c.packet_out(PacketOut {
            in_port: 3,
            actions: vec![Action::output(port::TABLE)],
            data: frame.clone(),
        })
        .unwrap();
        let p = next(&mut events);
        assert_eq!((p.in_port(), p.data), (Some(3), frame));
        let names: Vec<String> = c.ports().await.unwrap().into_iter().map(|p| p.name).collect();
        assert!(
            ["p1", "p2", "p3", "p4"].iter().all(|n| names.iter().any(|x| x == n)),
            "{names:?}"
        );
        switch.vsctl(&["del-port", "br", "p4"]);
        loop {
            match tokio::time::timeout(Duration::from_secs(10), events.recv())
                .await
                .unwrap()
                .unwrap()
            {
                Event::PortStatus { reason: 1, port } if port.name == "p4" => break,
                _ => {}
            }
        }
        // The end of the switch is noticed.
        let pid = std::fs::read_to_string(switch.path("vswitchd.pid")).unwrap();
        Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
        while tokio::time::timeout(Duration::from_secs(10), events.recv())
            .await
            .unwrap()
            .is_some()
        {}
        assert!(c.is_closed());
        assert!(matches!(c.barrier().await, Err(ConnectionError::Closed)));
    });
}
