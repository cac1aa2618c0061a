//! How long the operations take that the cloud does most: `cargo test --release -p network --test speed -- --ignored --nocapture`.

mod cloud;

use cloud::{Cloud, alice, id};
use database::testing::on_both;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "measures, and means something in release builds only"]
fn ports_are_made_and_listed_quickly() {
    on_both(&[network::MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let network = id(&cloud.post(&alice(), "/v2.0/networks", json!({"network": {"name": "n"}})).ok("network"));
        let body = json!({"subnet": {"network_id": network, "cidr": "10.8.0.0/16", "ip_version": 4}});
        cloud.post(&alice(), "/v2.0/subnets", body).ok("subnet");
        let quota = json!({"quota": {"port": -1}});
        cloud.put(&cloud::admin(), &format!("/v2.0/quotas/{}", cloud::ALICE), quota).ok("quota");
        let timed = |f: &dyn Fn() -> Value| {
            let begin = Instant::now();
            f();
            begin.elapsed()
        };
        let create = || cloud.post(&alice(), "/v2.0/ports", json!({"port": {"network_id": network}})).ok("port");
        let created: Vec<Duration> = (0..1100).map(|_| timed(&create)).collect();
        let list = || cloud.get(&alice(), "/v2.0/ports").ok("ports");
        assert_eq!(list().as_array().map_or(0, Vec::len), 1100);
        let listed: Vec<Duration> = (0..20).map(|_| timed(&list)).collect();
        println!("a port: {:?}, the last of them {:?}; 1,100 ports listed: {:?}", median(created.clone()), created[1099], median(listed));
    });
}
