//! What is encoded is decoded again, and no bytes make the decoder panic.

#![allow(clippy::unwrap_used)]

use openflow::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

fn field() -> impl Strategy<Value = Field> {
    proptest::sample::select(Field::ALL)
}

fn match_field() -> impl Strategy<Value = MatchField> {
    (field(), any::<u128>(), prop_oneof![Just(u128::MAX), any::<u128>()])
        .prop_map(|(f, v, m)| MatchField::masked(f, v, m | 1))
}

fn subfield(max: u8) -> impl Strategy<Value = Subfield> {
    (field(), any::<u8>(), any::<u8>()).prop_map(move |(f, o, n)| {
        let offset = o % f.bits();
        f.part(offset, (n % (f.bits() - offset).min(max)) + 1)
    })
}

fn nat() -> impl Strategy<Value = Nat> {
    let range = (
        any::<bool>(),
        any::<u128>(),
        any::<Option<u128>>(),
        any::<Option<(u16, u16)>>(),
    )
        .prop_map(|(v4, a, b, ports)| {
            let addr = |n: u128| {
                if v4 {
                    IpAddr::from((n as u32).to_be_bytes())
                } else {
                    IpAddr::from(n.to_be_bytes())
                }
            };
            NatRange {
                min: addr(a),
                max: b.map(addr),
                ports,
            }
        });
    prop_oneof![
        Just(Nat::Existing),
        range.clone().prop_map(Nat::Src),
        range.prop_map(Nat::Dst)
    ]
}

fn plain_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (any::<u32>(), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        (Just(port::CONTROLLER), any::<u16>()).prop_map(|(port, max_len)| Action::Output { port, max_len }),
        (subfield(64), any::<u16>()).prop_map(|(src, max_len)| Action::OutputReg { src, max_len }),
        any::<u32>().prop_map(Action::Group),
        match_field().prop_map(Action::SetField),
        (subfield(64), any::<u64>()).prop_map(|(dst, value)| Action::Load { dst, value }),
        (subfield(1), subfield(1)).prop_map(|(src, dst)| Action::Move { src, dst }),
        subfield(128).prop_map(Action::Push),
        subfield(128).prop_map(Action::Pop),
        any::<u16>().prop_map(Action::PushVlan),
        Just(Action::PopVlan),
        Just(Action::DecTtl),
        any::<u32>().prop_map(Action::SetQueue),
        (any::<Option<u16>>(), any::<Option<u8>>()).prop_map(|(port, table)| Action::Resubmit { port, table }),
        Just(Action::CtClear),
        (any::<u32>(), 1..=255u8, any::<u8>()).prop_map(|(id, clause, n)| Action::Conjunction { id, clause, n }),
        (any::<u16>(), any::<u16>(), any::<u8>(), vec(any::<u8>(), 0..40)).prop_map(
            |(max_len, id, reason, userdata)| {
                Action::Controller(Box::new(Controller {
                    max_len,
                    id,
                    reason,
                    userdata,
                }))
            }
        ),
        vec(any::<u8>(), 0..40).prop_map(Action::Note),
        (any::<u16>(), subfield(1)).prop_map(|(len, dst)| Action::CheckPktLarger { len, dst }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    plain_action().prop_recursive(3, 12, 4, |inner| {
        let zone = prop_oneof![any::<u16>().prop_map(Zone::Is), subfield(64).prop_map(Zone::In)];
        let ct = (
            any::<[bool; 2]>(),
            zone,
            any::<Option<u8>>(),
            proptest::option::of(nat()),
            vec(inner.clone(), 0..3),
            any::<u16>(),
        );
        prop_oneof![
            vec(inner, 0..4).prop_map(Action::Clone),
            ct.prop_map(|([commit, force], zone, table, nat, exec, alg)| {
                Action::Ct(Box::new(Ct {
                    commit,
                    force,
                    zone,
                    table,
                    nat,
                    exec,
                    alg,
                }))
            }),
        ]
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let actions = (vec(action(), 0..6), any::<Option<u32>>(), any::<Option<u8>>()).prop_map(|(mut a, meter, goto)| {
        a.extend(goto.map(Action::Goto));
        a.extend(meter.map(Action::Meter));
        a
    });
    (
        any::<u8>(),
        any::<u16>(),
        any::<u64>(),
        vec(match_field(), 0..8),
        actions,
    )
        .prop_map(|(table, priority, cookie, m, actions)| Flow {
            table,
            priority,
            cookie,
            matches: m.into(),
            actions,
        })
}

fn round_trip(m: &Message) -> Message {
    let mut bytes = Vec::new();
    encode(&mut bytes, 77, m);
    assert_eq!(frame_len(&bytes), Ok(Some(bytes.len())));
    let (xid, out) = decode(&bytes).unwrap_or_else(|e| panic!("{e}: {m:?}"));
    assert_eq!(xid, 77);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn flows_survive_the_wire(f in flow()) {
        let want = f.canonical();
        prop_assert_eq!(want.canonical(), want.clone());
        for change in [Change::Add(f.clone()), Change::Modify(f.clone())] {
            let back = match round_trip(&Message::BundleAdd { id: 9, change: change.clone() }) {
                Message::BundleAdd { id: 9, change: Change::Add(f) | Change::Modify(f) } => f,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(back.canonical(), want.clone());
            prop_assert!(matches!(round_trip(&Message::Change(change)), Message::Change(_)));
        }
        let delete = Change::Delete { table: f.table, priority: f.priority, matches: f.matches.clone() };
        prop_assert_eq!(round_trip(&Message::Change(delete.clone())), Message::Change(delete));
        let stats = FlowStats {
            table: f.table, priority: f.priority, cookie: f.cookie, timeouts: false, packets: 3, bytes: 200,
            matches: Some(f.matches.clone()), unread: Vec::new(), actions: Some(want.actions.clone()),
        };
        let dump = Message::Flows { flows: vec![stats.clone(), stats], more: true };
        prop_assert_eq!(round_trip(&dump), dump);
    }

    #[test]
    fn groups_and_packets_survive_the_wire(actions in vec(action(), 0..4), data in vec(any::<u8>(), 0..100),
                                           user in vec(any::<u8>(), 0..20), fields in vec(match_field(), 0..5),
                                           (id, weight, cookie) in any::<(u32, u16, u64)>(), (table, reason) in any::<(u8, u8)>()) {
        let canonical = Flow::new(0, 0, Match::new(), actions).canonical().actions;
        for kind in [GroupType::All, GroupType::Select, GroupType::Indirect] {
            let bucket = Bucket { weight, actions: canonical.clone() };
            let g = Group { id, kind, buckets: vec![bucket.clone(), bucket] };
            let m = Message::Change(Change::AddGroup(g.clone()));
            prop_assert_eq!(round_trip(&m), m);
            let m = Message::Groups { groups: vec![g], more: false };
            prop_assert_eq!(round_trip(&m), m);
        }
        let m = Message::PacketOut(PacketOut { in_port: id, actions: canonical, data: data.clone() });
        prop_assert_eq!(round_trip(&m), m);
        let m = Message::PacketIn(PacketIn { table, cookie, reason, total_len: id, userdata: user, metadata: fields.into(), data });
        prop_assert_eq!(round_trip(&m), m);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind in 0..40u8, body in vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![VERSION, kind];
        bytes.extend(((body.len() + 8) as u16).to_be_bytes());
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(body);
        let _ = decode(&bytes);
        let _ = frame_len(&bytes);
    }

    #[test]
    fn no_damage_to_a_message_makes_the_decoder_panic(f in flow(), damage in vec((any::<u16>(), any::<u8>()), 1..6), cut in any::<u16>()) {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, &Message::BundleAdd { id: 1, change: Change::Add(f.clone()) });
        let stats = FlowStats {
            table: 0, priority: 0, cookie: 0, timeouts: false, packets: 0, bytes: 0,
            matches: Some(f.matches), unread: Vec::new(), actions: Some(f.actions),
        };
        let mut dump = Vec::new();
        encode(&mut dump, 1, &Message::Flows { flows: vec![stats], more: false });
        for mut bytes in [bytes, dump] {
            for (at, value) in &damage {
                let at = 8 + usize::from(*at) % (bytes.len() - 8).max(1);
                if let Some(b) = bytes.get_mut(at) {
                    *b = *value;
                }
            }
            let _ = decode(&bytes);
            bytes.truncate(8 + usize::from(cut) % bytes.len());
            let len = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&len);
            let _ = decode(&bytes);
        }
    }
}

#[test]
fn small_messages_survive_the_wire() {
    let port = PortDesc {
        number: 7,
        name: "tap0123456789a".into(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        enabled: true,
        link: false,
    };
    let meter = Meter {
        id: 4,
        rate: 5000,
        burst: 500,
        packets: false,
    };
    for m in [
        Message::Hello { versions: 1 << 5 },
        Message::Error(SwitchError {
            kind: 2,
            code: 4,
            data: vec![1, 2, 3],
        }),
        Message::EchoRequest(vec![1]),
        Message::EchoReply(vec![]),
        Message::FeaturesRequest,
        Message::Features {
            datapath_id: 0x1234,
            tables: 254,
        },
        Message::SetConfig { miss_send_len: 128 },
        Message::PortStatus {
            reason: 1,
            port: port.clone(),
        },
        Message::Ports {
            ports: vec![port.clone(), port],
            more: false,
        },
        Message::MeterMod(MeterCommand::Modify, meter),
        Message::Meters {
            meters: vec![
                meter,
                Meter {
                    packets: true,
                    burst: 0,
                    ..meter
                },
            ],
            more: false,
        },
        Message::FlowsRequest { table: 3 },
        Message::GroupsRequest,
        Message::MetersRequest,
        Message::PortsRequest,
        Message::BarrierRequest,
        Message::BarrierReply,
        Message::SetPacketInFormat,
        Message::BundleControl {
            id: 3,
            kind: BundleKind::CommitReply,
        },
        Message::Change(Change::DeleteAll { table: 255 }),
        Message::Change(Change::DeleteGroup(9)),
        Message::Change(Change::DeleteUnread {
            table: 1,
            priority: 2,
            matches: vec![0x12, 0x34, 2, 1, 0xff],
        }),
    ] {
        assert_eq!(round_trip(&m), m);
    }
}

#[test]
fn errors_are_readable() {
    let text = |kind, code| {
        SwitchError {
            kind,
            code,
            data: vec![],
        }
        .to_string()
    };
    assert_eq!(text(2, 4), "bad action: bad output port");
    assert_eq!(text(4, 9), "bad match: a field's prerequisite is missing");
    assert_eq!(text(17, 13), "bundle failed: a message failed");
    assert_eq!(text(5, 99), "flow mod failed: code 99");
    assert_eq!(text(40, 1), "error type 40 code 1");
}
