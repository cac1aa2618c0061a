//! The whole node over a simulated machine: what is asked for comes about, whatever dies in between.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{Cloud, LIMIT, NODE, network, port, port_id, server, subnet, until, want};
use hypervisor::Hypervisor;
use hypervisor::simulated::SimulatedConfig;
use node::datapath::Switch;
use node::{Capacity, Node, SimulatedMachine};
use node_protocol::controller::NodeServer;
use node_protocol::objects::{Object, Server, WantedPower};
use node_protocol::queries::{Answer, ConsoleKind, Query};
use node_protocol::reports::{PowerState, ServerObserved};
use tokio::io::AsyncReadExt;
use uuid::Uuid;

struct World {
    cloud: Arc<Cloud>,
    server: NodeServer,
    machine: SimulatedMachine,
    node: Option<Node>,
}

const CAPACITY: Capacity = Capacity {
    vcpus: 64,
    memory_mib: 65_536,
    disk_gib: 1000,
};

impl World {
    fn new(guests: SimulatedConfig) -> Self {
        let cloud = Arc::new(Cloud::default());
        cloud.put(network());
        cloud.put(subnet());
        let server = NodeServer::new(cloud.clone(), cloud.clone(), cloud.clone());
        let machine = SimulatedMachine::new(NODE, CAPACITY, guests);
        let mut world = Self {
            cloud,
            server,
            machine,
            node: None,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.node = Some(self.machine.start(Arc::new(self.server.clone())).expect("a node"));
    }

    /// The node is killed: nothing of it runs on.
    async fn kill(&mut self) {
        drop(self.node.take());
        tokio::task::yield_now().await;
    }

    fn put(&self, object: Object) -> u64 {
        let revision = self.cloud.put(object);
        self.server.wake(NODE);
        revision
    }

    fn ask(&self, server: &Server) -> u64 {
        self.put(Object::Server(Box::new(server.clone())))
    }

    /// What is seen of a server once the node has acted on this revision.
    async fn settled(&self, id: Uuid, revision: u64) -> ServerObserved {
        let mut seen = None;
        until("the server to settle", || {
            seen = self.cloud.settled(id, revision);
            seen.is_some()
        })
        .await;
        seen.expect("it was there")
    }

    async fn power(&self, id: Uuid) -> Option<PowerState> {
        self.machine
            .hypervisor
            .inspect(id)
            .await
            .expect("a look")
            .map(|guest| guest.power_state)
    }

    async fn taps(&self) -> Vec<String> {
        self.machine.switch.plugged().await.expect("a list")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_server() {
    let world = World::new(SimulatedConfig::default());
    world.put(port(1));
    world.put(port(2));
    let mut one = server(1, &[1]);
    one.config_drive = true;
    let seen = world.settled(one.id, world.ask(&one)).await;
    assert_eq!(
        (seen.power_state, seen.fault, seen.reached.power),
        (PowerState::Running, None, 1)
    );
    assert_eq!(seen.plugged_ports, vec![port_id(1)]);
    assert!(seen.launched_at.is_some() && seen.vnc_port.is_some());
    until("the port to be active", || {
        world.cloud.ports.lock().get(&port_id(1)) == Some(&true)
    })
    .await;
    assert!(world.machine.switch.flow_count() > 10);
    let files = world.machine.disks.files(one.id).expect("a config drive");
    assert!(files.contains_key("openstack/latest/network_data.json"));

    // A second interface, and the first one goes.
    one.ports = server(1, &[1, 2]).ports;
    assert_eq!(world.settled(one.id, world.ask(&one)).await.plugged_ports.len(), 2);
    one.ports = server(1, &[2]).ports;
    assert_eq!(
        world.settled(one.id, world.ask(&one)).await.plugged_ports,
        vec![port_id(2)]
    );
    until("the first port to be down", || {
        world.cloud.ports.lock().get(&port_id(1)) == Some(&false)
    })
    .await;

    let starts = world.machine.hypervisor.starts();
    one.soft_reboot += 1;
    world.settled(one.id, world.ask(&one)).await;
    one.hard_reboot += 1;
    let seen = world.settled(one.id, world.ask(&one)).await;
    assert_eq!(
        (seen.power_state, world.machine.hypervisor.starts()),
        (PowerState::Running, starts + 2)
    );
    one.rebuild += 1;
    let seen = world.settled(one.id, world.ask(&one)).await;
    assert_eq!(
        (seen.reached.rebuild, world.machine.hypervisor.starts()),
        (1, starts + 3)
    );

    want(&mut one, WantedPower::Paused);
    assert_eq!(
        world.settled(one.id, world.ask(&one)).await.power_state,
        PowerState::Paused
    );
    want(&mut one, WantedPower::Running);
    assert_eq!(
        world.settled(one.id, world.ask(&one)).await.power_state,
        PowerState::Running
    );
    want(&mut one, WantedPower::Stopped);
    let seen = world.settled(one.id, world.ask(&one)).await;
    assert_eq!((seen.power_state, seen.vnc_port), (PowerState::Shutdown, None));
    until("the port to be down", || {
        world.cloud.ports.lock().get(&port_id(2)) == Some(&false)
    })
    .await;
    assert!(world.taps().await.is_empty());

    want(&mut one, WantedPower::Deleted);
    world.ask(&one);
    until("the server to be gone", || world.cloud.gone.lock().contains(&one.id)).await;
    assert_eq!(world.power(one.id).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_and_its_log() {
    let world = World::new(SimulatedConfig::default());
    let one = server(1, &[]);
    world.settled(one.id, world.ask(&one)).await;
    let query = Query::ConsoleLog {
        server_id: one.id,
        lines: Some(5),
    };
    let Ok(Answer::ConsoleLog { output }) = world.server.query(NODE, query, LIMIT).await else {
        panic!("a log")
    };
    assert_eq!(output.lines().count(), 5);
    let mut screen = world
        .server
        .open_console(NODE, one.id, ConsoleKind::Vnc, LIMIT)
        .await
        .expect("a console");
    let mut banner = [0; 12];
    screen.read_exact(&mut banner).await.expect("a banner");
    assert_eq!(&banner, b"RFB 003.008\n");
    assert!(
        world
            .server
            .open_console(NODE, Uuid::nil(), ConsoleKind::Vnc, LIMIT)
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_dies_is_reported_and_started_only_when_asked() {
    let world = World::new(SimulatedConfig::default());
    world.put(port(1));
    let mut one = server(1, &[1]);
    let revision = world.ask(&one);
    world.settled(one.id, revision).await;
    world.machine.hypervisor.kill(one.id);
    until("its end to be seen", || {
        world
            .cloud
            .settled(one.id, revision)
            .is_some_and(|seen| seen.power_state == PowerState::Shutdown)
    })
    .await;
    until("its port to be down", || {
        world.cloud.ports.lock().get(&port_id(1)) == Some(&false)
    })
    .await;
    assert_eq!(world.machine.hypervisor.starts(), 1);
    want(&mut one, WantedPower::Running);
    assert_eq!(
        world.settled(one.id, world.ask(&one)).await.power_state,
        PowerState::Running
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_why_and_is_final_until_asked_again() {
    let world = World::new(SimulatedConfig::default());
    world.put(port(1));
    let mut one = server(1, &[1]);
    world.machine.hypervisor.fail(one.id, "the moon is not full");
    let seen = world.settled(one.id, world.ask(&one)).await;
    let fault = seen.fault.expect("a fault");
    assert!(
        fault.message.contains("the moon is not full") && fault.code == 500,
        "{fault:?}"
    );
    assert!(world.taps().await.is_empty(), "nothing half-made stays");
    world.machine.hypervisor.heal(one.id);
    // Something else of it changes: no new try.
    one.metadata.insert("a".into(), "b".into());
    assert!(world.settled(one.id, world.ask(&one)).await.fault.is_some());
    one.hard_reboot += 1;
    let seen = world.settled(one.id, world.ask(&one)).await;
    assert_eq!((seen.fault, seen.power_state), (None, PowerState::Running));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_guest_stops_nobody_and_can_be_overtaken() {
    let world = World::new(SimulatedConfig::default());
    let (mut slow, quick) = (server(1, &[]), server(2, &[]));
    slow.shutdown_timeout = 3600;
    world.settled(slow.id, world.ask(&slow)).await;
    world.machine.hypervisor.deafen(slow.id);
    want(&mut slow, WantedPower::Stopped);
    world.ask(&slow);
    assert_eq!(
        world.settled(quick.id, world.ask(&quick)).await.power_state,
        PowerState::Running
    );
    want(&mut slow, WantedPower::Deleted);
    world.ask(&slow);
    until("the slow one to be gone", || world.cloud.gone.lock().contains(&slow.id)).await;
    assert_eq!(world.power(slow.id).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_switch_and_its_taps_are_mended() {
    let world = World::new(SimulatedConfig::default());
    world.put(port(1));
    let one = server(1, &[1]);
    world.settled(one.id, world.ask(&one)).await;
    let tap = world.taps().await.pop().expect("a tap");
    let flows = world.machine.switch.flows();
    world.machine.switch.restart();
    until("the flows to be back", || world.machine.switch.flow_count() > 0).await;
    let sorted = |flows: virtual_network::Flows| -> BTreeMap<_, Vec<_>> {
        let sort = |mut flows: Vec<openflow::Flow>| {
            flows.sort();
            flows
        };
        flows.into_iter().map(|(bridge, flows)| (bridge, sort(flows))).collect()
    };
    assert_eq!(sorted(world.machine.switch.flows()), sorted(flows));
    world.machine.switch.lose(&tap);
    let numbers = world.machine.switch.port_numbers();
    until("the tap to be back", || numbers.borrow().interfaces.contains_key(&tap)).await;
    // A switch that refuses for a while holds the next server up, and no longer.
    world.machine.switch.set_broken(true);
    world.put(port(2));
    let two = server(2, &[2]);
    world.machine.switch.set_broken(false);
    assert_eq!(
        world.settled(two.id, world.ask(&two)).await.power_state,
        PowerState::Running
    );
}

/// Whatever a killed node leaves behind, the next one brings into line.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_be_killed_at_any_moment() {
    let guests = SimulatedConfig {
        start: Duration::from_millis(2),
        shut_down: Duration::from_millis(1),
    };
    let mut world = World::new(guests);
    for n in 1..=8 {
        world.put(port(n));
    }
    let mut servers: Vec<Server> = (1..=8).map(|n| server(n.into(), &[n])).collect();
    for round in 0..40_u32 {
        for (n, server) in servers.iter_mut().enumerate() {
            match (round as usize + n) % 5 {
                0 => want(server, WantedPower::Running),
                1 => want(server, WantedPower::Stopped),
                2 => server.hard_reboot += 1,
                3 => server.rebuild += 1,
                _ => server.soft_reboot += 1,
            }
            world.ask(server);
        }
        // A kill after 0 to 6 ms hits another step each time.
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 150)).await;
        world.kill().await;
        world.start();
    }
    // In the meantime one is deleted: it goes by a snapshot that does not name it.
    world.kill().await;
    let deleted = servers.pop().expect("a server");
    world.cloud.delete(Object::Server(Box::new(deleted.clone())).key());
    world.start();
    for server in &mut servers {
        want(server, WantedPower::Running);
        let seen = world.settled(server.id, world.ask(server)).await;
        assert_eq!(
            (seen.power_state, seen.fault),
            (PowerState::Running, None),
            "{}",
            server.name
        );
        assert_eq!(seen.reached.rebuild, server.rebuild);
    }
    until("the deleted one to be gone", || {
        world.cloud.gone.lock().contains(&deleted.id)
    })
    .await;
    let mut running = world.machine.hypervisor.list().await.expect("a list");
    running.sort_unstable();
    let mut wanted: Vec<Uuid> = servers.iter().map(|server| server.id).collect();
    wanted.sort_unstable();
    assert_eq!(running, wanted);
    let numbers = world.machine.switch.port_numbers();
    until("only the wanted taps", || {
        numbers.borrow().interfaces.len() == servers.len()
    })
    .await;
}

/// A node that is restarted, and told everything again, does nothing to guests that are as they should be.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_restarts_no_guest() {
    let mut world = World::new(SimulatedConfig::default());
    world.put(port(1));
    let mut one = server(1, &[1]);
    world.settled(one.id, world.ask(&one)).await;
    let before = world.machine.hypervisor.inspect(one.id).await.expect("a look");
    let flows = world.machine.switch.flow_count();
    for _ in 0..3 {
        world.kill().await;
        world.cloud.seen.lock().clear();
        world.start();
        until("the node to tell of it", || world.cloud.settled(one.id, 0).is_some()).await;
    }
    assert_eq!(world.machine.hypervisor.inspect(one.id).await.expect("a look"), before);
    assert_eq!(
        (world.machine.hypervisor.starts(), world.machine.switch.flow_count()),
        (1, flows)
    );
    want(&mut one, WantedPower::Stopped);
    assert_eq!(
        world.settled(one.id, world.ask(&one)).await.power_state,
        PowerState::Shutdown
    );
}

/// Many guests at once, each quickly.
#[tokio::test(flavor = "multi_thread")]
async fn many_servers_at_once() {
    let world = World::new(SimulatedConfig::default());
    let servers: Vec<Server> = (1..=200_u16).map(|n| server(n.into(), &[n])).collect();
    for n in 1..=200 {
        world.cloud.put(port(n));
    }
    let began = std::time::Instant::now();
    let revisions: Vec<u64> = servers.iter().map(|server| world.ask(server)).collect();
    for (server, revision) in servers.iter().zip(revisions) {
        assert_eq!(
            world.settled(server.id, revision).await.power_state,
            PowerState::Running
        );
    }
    eprintln!("200 servers in {:?}", began.elapsed());
    let one = server(1000, &[1000]);
    world.put(port(1000));
    let began = std::time::Instant::now();
    world.settled(one.id, world.ask(&one)).await;
    eprintln!("one more in {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(1));
}
