//! Everything beside servers, through the API.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ADMIN, MEMBER, STRANGER, cloud, on_both};
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<String> {
    let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    keys
}

#[test]
fn every_route_wants_a_token() {
    on_both(|db| {
        let cloud = cloud(db, 1);
        let routes = compute::Compute::routes();
        let mut closed = 0;
        for (method, path, public) in routes.list() {
            let (status, _) = cloud.at("2.1", "", method.as_str(), path, None);
            if public {
                assert!(status < 500 && status != 401, "{method} {path}: {status}");
            } else {
                assert_eq!(status, 401, "{method} {path}");
                closed += 1;
            }
        }
        assert!(closed > 150, "{closed} routes");
    });
}

#[test]
fn flavors_have_the_shape_of_their_microversion() {
    on_both(|db| {
        let cloud = cloud(db, 1);
        let shape = |version: &str| keys(&cloud.at(version, ADMIN, "GET", "/v2.1/flavors/1", None).1["flavor"]);
        assert!(!shape("2.1").contains(&"description".to_owned()));
        assert!(shape("2.55").contains(&"description".to_owned()));
        assert!(shape("2.61").contains(&"extra_specs".to_owned()));
        assert!(shape("2.101").contains(&"rxtx_factor".to_owned()));
        assert!(!shape("2.102").contains(&"rxtx_factor".to_owned()));
        assert_eq!(
            cloud.at("2.1", ADMIN, "GET", "/v2.1/flavors/1", None).1["flavor"]["swap"],
            ""
        );
        assert_eq!(
            cloud.at("2.75", ADMIN, "GET", "/v2.1/flavors/1", None).1["flavor"]["swap"],
            0
        );
        let again = json!({"flavor": {"name": "tiny", "ram": 64, "vcpus": 1, "disk": 1}});
        assert_eq!(
            cloud.fails(ADMIN, "POST", "/v2.1/flavors", Some(again)),
            (409, "Flavor with name tiny already exists.".into())
        );
        assert_eq!(
            cloud.fails(MEMBER, "GET", "/v2.1/flavors/none", None),
            (404, "Flavor none could not be found.".into())
        );
    });
}

#[test]
fn a_private_flavor_is_for_those_who_have_been_given_it() {
    on_both(|db| {
        let cloud = cloud(db, 1);
        let body = json!({"flavor": {"id": "p", "name": "private", "ram": 1, "vcpus": 1, "disk": 0, "os-flavor-access:is_public": false}});
        cloud.ok(ADMIN, "POST", "/v2.1/flavors", Some(body));
        assert_eq!(cloud.fails(MEMBER, "GET", "/v2.1/flavors/p", None).0, 404);
        cloud.ok(
            ADMIN,
            "POST",
            "/v2.1/flavors/p/action",
            Some(json!({"addTenantAccess": {"tenant": "blue"}})),
        );
        assert_eq!(
            cloud.ok(MEMBER, "GET", "/v2.1/flavors/p", None)["flavor"]["name"],
            "private"
        );
        assert_eq!(
            cloud.ok(STRANGER, "GET", "/v2.1/flavors", None)["flavors"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        assert_eq!(
            cloud.ok(MEMBER, "GET", "/v2.1/flavors", None)["flavors"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
        let (status, text) = cloud.fails(
            ADMIN,
            "POST",
            "/v2.1/flavors/p/action",
            Some(json!({"addTenantAccess": {"tenant": "nowhere"}})),
        );
        assert_eq!(
            (status, text.as_str()),
            (400, "Project ID nowhere is not a valid project.")
        );
        cloud.ok(
            ADMIN,
            "POST",
            "/v2.1/flavors/p/action",
            Some(json!({"removeTenantAccess": {"tenant": "blue"}})),
        );
        assert_eq!(cloud.fails(MEMBER, "GET", "/v2.1/flavors/p", None).0, 404);
    });
}

#[test]
fn key_pairs_belong_to_their_user() {
    on_both(|db| {
        let cloud = cloud(db, 1);
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKqwHWq2gOyvVTW4JYwmvCxTJaNjdhLTzGvxaWMhH8y a@b";
        let body = json!({"keypair": {"name": "mine", "public_key": key}});
        let (status, made) = cloud.at("2.2", MEMBER, "POST", "/v2.1/os-keypairs", Some(body.clone()));
        assert_eq!((status, &made["keypair"]["type"]), (201, &json!("ssh")));
        assert_eq!(
            cloud.fails(MEMBER, "POST", "/v2.1/os-keypairs", Some(body)),
            (409, "Key pair 'mine' already exists.".into())
        );
        assert_eq!(
            cloud.fails(STRANGER, "GET", "/v2.1/os-keypairs/mine", None),
            (404, "Keypair mine not found for user mallory".into())
        );
        assert_eq!(
            cloud.ok(STRANGER, "GET", "/v2.1/os-keypairs?user_id=alice", None)["keypairs"],
            json!([]),
            "ignored before 2.10"
        );
        assert_eq!(
            cloud
                .at("2.10", STRANGER, "GET", "/v2.1/os-keypairs?user_id=alice", None)
                .0,
            403
        );
    });
}

#[test]
fn hypervisors_and_services_have_the_shape_of_their_microversion() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let detail = |version: &str| {
            cloud.at(version, ADMIN, "GET", "/v2.1/os-hypervisors/detail", None).1["hypervisors"][0].clone()
        };
        assert!(detail("2.1")["id"].is_i64() && detail("2.1")["cpu_info"].is_string());
        assert!(detail("2.28")["cpu_info"].is_object());
        assert!(detail("2.53")["id"].is_string() && detail("2.53")["vcpus"] == 4);
        assert!(detail("2.88").get("vcpus").is_none() && detail("2.88").get("uptime").is_some());
        let (_, services) = cloud.at("2.11", ADMIN, "GET", "/v2.1/os-services?binary=nova-compute", None);
        assert_eq!(services["services"][0]["state"], "up");
        assert_eq!(services["services"][0]["zone"], "nova");
        let body = json!({"host": "node-1", "binary": "nova-compute", "disabled_reason": "repair"});
        cloud.ok(ADMIN, "PUT", "/v2.1/os-services/disable-log-reason", Some(body));
        let zones = cloud.ok(MEMBER, "GET", "/v2.1/os-availability-zone", None);
        assert_eq!(zones["availabilityZoneInfo"][0]["zoneState"]["available"], false);
        let made = cloud.create(MEMBER, "nowhere to go");
        assert_eq!(cloud.status(&made), "ERROR");
    });
}

#[test]
fn aggregates_give_hosts_their_zone() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let made = cloud.ok(
            ADMIN,
            "POST",
            "/v2.1/os-aggregates",
            Some(json!({"aggregate": {"name": "east", "availability_zone": "az1"}})),
        );
        let id = made["aggregate"]["id"].as_i64().unwrap();
        let action = format!("/v2.1/os-aggregates/{id}/action");
        cloud.ok(ADMIN, "POST", &action, Some(json!({"add_host": {"host": "node-1"}})));
        assert_eq!(
            cloud
                .fails(ADMIN, "POST", &action, Some(json!({"add_host": {"host": "node-1"}})))
                .0,
            409
        );
        assert_eq!(
            cloud
                .fails(ADMIN, "POST", &action, Some(json!({"add_host": {"host": "none"}})))
                .0,
            404
        );
        let mut body = cloud.body("in az1");
        body["server"]["availability_zone"] = json!("az1");
        let server = cloud.ok(MEMBER, "POST", "/v2.1/servers", Some(body));
        let shown = cloud.ok(
            MEMBER,
            "GET",
            &format!("/v2.1/servers/{}", server["server"]["id"].as_str().unwrap()),
            None,
        );
        assert_eq!(shown["server"]["OS-EXT-AZ:availability_zone"], "az1");
        assert_eq!(
            cloud
                .fails(ADMIN, "DELETE", &format!("/v2.1/os-aggregates/{id}"), None)
                .0,
            400
        );
    });
}

#[test]
fn server_groups_keep_servers_apart() {
    on_both(|db| {
        let cloud = cloud(db, 8);
        let made = cloud.ok(
            MEMBER,
            "POST",
            "/v2.1/os-server-groups",
            Some(json!({"server_group": {"name": "g", "policies": ["anti-affinity"]}})),
        );
        let group = made["server_group"]["id"].as_str().unwrap();
        let mut body = cloud.body("apart");
        body["os:scheduler_hints"] = json!({"group": group});
        let mut ids = Vec::new();
        for _ in 0..2 {
            let made = cloud.ok(MEMBER, "POST", "/v2.1/servers", Some(body.clone()));
            ids.push(made["server"]["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(
            (cloud.status(&ids[0]).as_str(), cloud.status(&ids[1]).as_str()),
            ("BUILD", "ERROR")
        );
        cloud.hello("node-2", 8);
        let made = cloud.ok(MEMBER, "POST", "/v2.1/servers", Some(body));
        assert_eq!(cloud.status(made["server"]["id"].as_str().unwrap()), "BUILD");
        assert_eq!(
            cloud
                .fails(STRANGER, "GET", &format!("/v2.1/os-server-groups/{group}"), None)
                .0,
            403
        );
    });
}

#[test]
fn unknown_versions_and_parameters_are_refused() {
    on_both(|db| {
        let cloud = cloud(db, 1);
        let (status, body) = cloud.at("2.105", MEMBER, "GET", "/v2.1/servers", None);
        let text = "Version 2.105 is not supported by the API. Minimum is 2.1 and maximum is 2.104.";
        assert_eq!((status, body["computeFault"]["message"].as_str()), (406, Some(text)));
        assert_eq!(cloud.at("2.36", MEMBER, "GET", "/v2.1/os-floating-ips", None).0, 404);
        assert_eq!(cloud.at("2.75", MEMBER, "GET", "/v2.1/servers?bogus=1", None).0, 400);
        assert_eq!(cloud.at("2.1", MEMBER, "GET", "/v2.1/servers?bogus=1", None).0, 200);
        assert_eq!(
            cloud.at("2.1", "", "GET", "/", None).1["versions"][1]["version"],
            "2.104"
        );
    });
}
