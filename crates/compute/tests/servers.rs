//! The life of servers, through the API and the nodes' reports.

#![allow(clippy::unwrap_used)]

mod common;

use common::{ADMIN, IMAGE, MEMBER, READER, STRANGER, cloud, on_both};
use node_protocol::controller::{DesiredState, Since};
use node_protocol::objects::{Object, WantedPower};
use node_protocol::reports::{PowerState, Report};
use serde_json::{Value, json};

fn wanted(cloud: &common::Cloud) -> Vec<(String, WantedPower)> {
    let desired = compute::nodes::Desired(cloud.compute.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let snapshot = runtime.block_on(desired.snapshot("node-1")).unwrap();
    let servers = snapshot.objects.iter().filter_map(|v| match &v.object {
        Object::Server(s) => Some((s.name.clone(), s.power.wanted)),
        _ => None,
    });
    servers.collect()
}

#[test]
fn a_server_is_made_stopped_started_and_deleted() {
    on_both(|db| {
        let cloud = cloud(db, 8);
        let made = cloud.ok(MEMBER, "POST", "/v2.1/servers", Some(cloud.body("web")));
        let id = made["server"]["id"].as_str().unwrap().to_owned();
        assert_eq!(made["server"]["security_groups"], json!([{"name": "default"}]));
        assert!(made["server"]["adminPass"].as_str().is_some_and(|p| p.len() == 12));
        assert_eq!(cloud.status(&id), "BUILD");
        assert_eq!(wanted(&cloud), [("web".to_owned(), WantedPower::Running)]);
        cloud.settle(&id, PowerState::Running);
        let shown = cloud.ok(MEMBER, "GET", &format!("/v2.1/servers/{id}"), None);
        assert_eq!(shown["server"]["status"], "ACTIVE");
        assert_eq!(shown["server"]["addresses"]["private"][0]["addr"], "10.0.0.2");
        assert!(
            shown["server"].get("OS-EXT-SRV-ATTR:host").is_none(),
            "hosts are for administrators"
        );

        let action = format!("/v2.1/servers/{id}/action");
        cloud.ok(MEMBER, "POST", &action, Some(json!({"os-stop": null})));
        let (status, text) = cloud.fails(MEMBER, "POST", &action, Some(json!({"os-stop": null})));
        assert_eq!(
            (status, text),
            (
                409,
                format!("Cannot 'stop' instance {id} while it is in task_state powering-off")
            )
        );
        cloud.settle(&id, PowerState::Shutdown);
        assert_eq!(cloud.status(&id), "SHUTOFF");
        cloud.ok(MEMBER, "POST", &action, Some(json!({"os-start": null})));
        cloud.settle(&id, PowerState::Running);
        assert_eq!(cloud.status(&id), "ACTIVE");

        cloud.ok(MEMBER, "DELETE", &format!("/v2.1/servers/{id}"), None);
        assert_eq!(wanted(&cloud), [("web".to_owned(), WantedPower::Deleted)]);
        cloud.report(
            "node-1",
            Report::ServerGone {
                id: id.parse().unwrap(),
            },
        );
        let (status, text) = cloud.fails(MEMBER, "GET", &format!("/v2.1/servers/{id}"), None);
        assert_eq!((status, text), (404, format!("Instance {id} could not be found.")));
        let (_, log) = cloud.at(
            "2.21",
            MEMBER,
            "GET",
            &format!("/v2.1/servers/{id}/os-instance-actions"),
            None,
        );
        let actions: Vec<&str> = log["instanceActions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["action"].as_str().unwrap())
            .collect();
        assert_eq!(actions, ["delete", "start", "stop", "create"]);
        let held: Option<i64> = cloud
            .db
            .read(|tx| tx.scalar("SELECT COUNT(*) FROM allocations", &[]))
            .unwrap();
        assert_eq!(held, Some(0), "a deleted server holds nothing");
    });
}

#[test]
fn parallel_creations_never_oversell_and_none_fails_for_a_race() {
    on_both(|db| {
        let cloud = cloud(db, 30);
        let limits = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1}});
        cloud.ok(ADMIN, "PUT", "/v2.1/os-quota-sets/blue", Some(limits));
        std::thread::scope(|scope| {
            for thread in 0..10 {
                let cloud = &cloud;
                scope.spawn(move || (0..10).for_each(|n| drop(cloud.create(MEMBER, &format!("s{thread}-{n}")))));
            }
        });
        let list = cloud.ok(MEMBER, "GET", "/v2.1/servers/detail", None);
        let count = |status: &str| {
            list["servers"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|s| s["status"] == status)
                .count()
        };
        assert_eq!((count("BUILD"), count("ERROR")), (30, 70));
        let fault = list["servers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|s| s["status"] == "ERROR")
            .map(|s| s["fault"]["message"].clone());
        assert_eq!(
            fault,
            Some(json!("No valid host was found. There are not enough hosts available."))
        );
        let sql = "SELECT CAST(SUM(used) AS BIGINT) FROM allocations WHERE resource_class = 'VCPU'";
        let used: Option<i64> = cloud.db.read(|tx| tx.scalar(sql, &[])).unwrap();
        assert_eq!(used, Some(30));
    });
}

#[test]
fn quota_is_counted_in_the_transaction() {
    on_both(|db| {
        let cloud = cloud(db, 100);
        cloud.ok(
            ADMIN,
            "PUT",
            "/v2.1/os-quota-sets/blue",
            Some(json!({"quota_set": {"cores": 3}})),
        );
        let mut body = cloud.body("many");
        body["server"]["min_count"] = json!(4);
        let (status, text) = cloud.fails(MEMBER, "POST", "/v2.1/servers", Some(body.clone()));
        assert_eq!(
            (status, text.as_str()),
            (
                403,
                "Quota exceeded for cores: Requested 4, but already used 0 of 3 cores"
            )
        );
        body["server"]["min_count"] = json!(2);
        body["server"]["max_count"] = json!(5);
        body["server"]["return_reservation_id"] = json!(true);
        let answer = cloud.ok(MEMBER, "POST", "/v2.1/servers", Some(body));
        let reservation = answer["reservation_id"].as_str().unwrap();
        let list = cloud.ok(
            MEMBER,
            "GET",
            &format!("/v2.1/servers?reservation_id={reservation}&sort_key=display_name&sort_dir=asc"),
            None,
        );
        let names: Vec<&str> = list["servers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["many-1", "many-2", "many-3"]);
        let (status, text) = cloud.fails(MEMBER, "POST", "/v2.1/servers", Some(cloud.body("one")));
        assert_eq!(
            (status, text.as_str()),
            (
                403,
                "Quota exceeded for cores: Requested 1, but already used 3 of 3 cores"
            )
        );
        let limits = cloud.ok(MEMBER, "GET", "/v2.1/limits", None);
        assert_eq!(limits["limits"]["absolute"]["totalCoresUsed"], 3);
    });
}

#[test]
fn strangers_see_nothing_and_readers_change_nothing() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let id = cloud.create(MEMBER, "mine");
        let path = format!("/v2.1/servers/{id}");
        for (method, suffix, body) in [
            ("GET", "", None),
            ("DELETE", "", None),
            ("PUT", "", Some(json!({"server": {"name": "x"}}))),
            ("POST", "/action", Some(json!({"os-stop": null}))),
            ("GET", "/metadata", None),
            ("GET", "/os-interface", None),
            ("GET", "/os-instance-actions", None),
        ] {
            assert_eq!(
                cloud.fails(STRANGER, method, &format!("{path}{suffix}"), body).0,
                404,
                "{method} {suffix}"
            );
        }
        assert_eq!(cloud.ok(READER, "GET", &path, None)["server"]["name"], "mine");
        let (status, text) = cloud.fails(READER, "DELETE", &path, None);
        assert_eq!(
            (status, text.as_str()),
            (
                403,
                "Policy doesn't allow os_compute_api:servers:delete to be performed."
            )
        );
        assert_eq!(
            cloud.fails(READER, "POST", "/v2.1/servers", Some(cloud.body("x"))).0,
            403
        );
        assert_eq!(cloud.fails(MEMBER, "GET", "/v2.1/servers?all_tenants=1", None).0, 403);
        assert_eq!(cloud.fails(MEMBER, "GET", "/v2.1/os-hypervisors", None).0, 403);
        assert_eq!(cloud.ok(STRANGER, "GET", "/v2.1/servers", None)["servers"], json!([]));
        assert_eq!(
            cloud.ok(ADMIN, "GET", "/v2.1/servers?all_tenants=1", None)["servers"][0]["name"],
            "mine"
        );
    });
}

#[test]
fn a_locked_server_is_the_administrators_alone() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let id = cloud.create(MEMBER, "locked");
        cloud.settle(&id, PowerState::Running);
        let action = format!("/v2.1/servers/{id}/action");
        let (status, _) = cloud.at(
            "2.73",
            MEMBER,
            "POST",
            &action,
            Some(json!({"lock": {"locked_reason": "careful"}})),
        );
        assert_eq!(status, 202);
        let (status, text) = cloud.fails(MEMBER, "DELETE", &format!("/v2.1/servers/{id}"), None);
        assert_eq!((status, text), (409, format!("Instance {id} is locked")));
        let (_, shown) = cloud.at("2.73", MEMBER, "GET", &format!("/v2.1/servers/{id}"), None);
        assert_eq!(
            (&shown["server"]["locked"], &shown["server"]["locked_reason"]),
            (&json!(true), &json!("careful"))
        );
        assert_eq!(
            cloud.at("2.73", MEMBER, "GET", "/v2.1/servers?locked=true", None).1["servers"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        cloud.ok(MEMBER, "POST", &action, Some(json!({"unlock": null})));
        cloud.ok(MEMBER, "POST", &action, Some(json!({"os-stop": null})));
    });
}

#[test]
fn lists_are_filtered_sorted_and_paged() {
    on_both(|db| {
        let cloud = cloud(db, 10);
        let ids: Vec<String> = ["a1", "a2", "b1", "b2"]
            .into_iter()
            .map(|n| cloud.create(MEMBER, n))
            .collect();
        cloud.settle(&ids[0], PowerState::Running);
        let names = |query: &str| -> Vec<String> {
            let list = cloud
                .at("2.26", MEMBER, "GET", &format!("/v2.1/servers{query}"), None)
                .1;
            list["servers"]
                .as_array()
                .unwrap_or_else(|| panic!("{query}: {list}"))
                .iter()
                .map(|s| s["name"].as_str().unwrap().into())
                .collect()
        };
        assert_eq!(names(""), ["b2", "b1", "a2", "a1"]);
        assert_eq!(names("?name=^a"), ["a2", "a1"]);
        assert_eq!(names("?status=ACTIVE"), ["a1"]);
        assert_eq!(
            names("?status=build&sort_key=display_name&sort_dir=asc"),
            ["a2", "b1", "b2"]
        );
        assert_eq!(names("?limit=2"), ["b2", "b1"]);
        assert_eq!(names(&format!("?limit=2&marker={}", ids[2])), ["a2", "a1"]);
        assert_eq!(names(&format!("?ip=10.0.0.2&image={IMAGE}&flavor=1")), ["a1"]);
        assert_eq!(names("?flavor=2"), Vec::<String>::new());
        let (status, _) = cloud.at(
            "2.26",
            MEMBER,
            "PUT",
            &format!("/v2.1/servers/{}/tags", ids[0]),
            Some(json!({"tags": ["x", "y"]})),
        );
        assert_eq!(status, 200);
        assert_eq!(names("?tags=x,y"), ["a1"]);
        assert_eq!(names("?not-tags-any=x"), ["b2", "b1", "a2"]);
        let page = cloud.ok(MEMBER, "GET", "/v2.1/servers?limit=2", None);
        let next = page["servers_links"][0]["href"].as_str().unwrap();
        assert_eq!(next, format!("http://c/v2.1/servers?limit=2&marker={}", ids[2]));
        assert_eq!(
            cloud.fails(MEMBER, "GET", "/v2.1/servers?marker=nothing", None),
            (400, "marker [nothing] not found".into())
        );
        assert_eq!(
            cloud.at("2.38", MEMBER, "GET", "/v2.1/servers?status=fantasy", None).0,
            400
        );
    });
}

#[test]
fn only_what_concerns_a_node_is_told_to_it() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let desired = compute::nodes::Desired(cloud.compute.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let start = runtime.block_on(desired.snapshot("node-1")).unwrap().cursor;
        let id = cloud.create(MEMBER, "web");
        let told = |node: &str| match runtime.block_on(desired.changes_since(node, start)).unwrap() {
            Since::Changes(changes, _) => changes.len(),
            Since::TooOld => panic!("too old"),
        };
        assert_eq!((told("node-1"), told("node-2")), (1, 0));
        cloud.settle(&id, PowerState::Running);
        cloud.ok(
            MEMBER,
            "POST",
            &format!("/v2.1/servers/{id}/metadata"),
            Some(json!({"metadata": {"k": "v"}})),
        );
        assert_eq!(told("node-1"), 1, "two changes of one server are one");
    });
}

#[test]
fn an_older_report_changes_nothing() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let id = cloud.create(MEMBER, "web");
        cloud.settle(&id, PowerState::Running);
        cloud
            .db
            .write(|tx| tx.execute("UPDATE servers SET reported = 1000", &[]))
            .unwrap();
        cloud.settle(&id, PowerState::Shutdown);
        assert_eq!(cloud.status(&id), "ACTIVE");
    });
}

#[test]
fn bad_bodies_get_upstreams_refusals() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let refuse = |change: &dyn Fn(&mut Value)| {
            let mut body = cloud.body("x");
            change(&mut body["server"]);
            cloud.fails(MEMBER, "POST", "/v2.1/servers", Some(body))
        };
        let missing = "00000000-0000-4000-8000-000000000000";
        assert_eq!(
            refuse(&|s| s["flavorRef"] = json!("9")),
            (400, "Flavor 9 could not be found.".into())
        );
        assert_eq!(
            refuse(&|s| s["imageRef"] = json!(missing)),
            (400, "Can not find requested image".into())
        );
        assert_eq!(
            refuse(&|s| s["key_name"] = json!("nokey")),
            (400, "Invalid key_name provided.".into())
        );
        assert_eq!(
            refuse(&|s| s["networks"] = json!([{"uuid": missing}])),
            (400, format!("Network {missing} could not be found."))
        );
        assert_eq!(
            refuse(&|s| s["availability_zone"] = json!("mars")),
            (400, "The requested availability zone is not available".into())
        );
        assert_eq!(refuse(&|s| s["name"] = json!("")).0, 400);
        assert_eq!(
            refuse(&|s| s["min_count"] = json!(0)).1,
            "Invalid input for field/attribute min_count. Value: 0. 0 is less than the minimum of 1"
        );
        assert_eq!(
            cloud.fails(MEMBER, "POST", "/v2.1/servers/x/action", Some(json!({"dance": null}))),
            (400, "There is no such action: dance".into())
        );
    });
}

#[test]
fn a_resize_waits_for_confirmation_and_can_be_reverted() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let big = json!({"flavor": {"id": "2", "name": "big", "ram": 128, "vcpus": 2, "disk": 1}});
        cloud.ok(ADMIN, "POST", "/v2.1/flavors", Some(big));
        let id = cloud.create(MEMBER, "grow");
        cloud.settle(&id, PowerState::Running);
        let action = format!("/v2.1/servers/{id}/action");
        for end in ["revertResize", "confirmResize"] {
            cloud.ok(MEMBER, "POST", &action, Some(json!({"resize": {"flavorRef": "2"}})));
            assert_eq!(cloud.status(&id), "RESIZE");
            cloud.settle(&id, PowerState::Running);
            assert_eq!(cloud.status(&id), "VERIFY_RESIZE");
            cloud.ok(MEMBER, "POST", &action, Some(json!({end: null})));
            if end == "revertResize" {
                cloud.settle(&id, PowerState::Running);
            }
            assert_eq!(cloud.status(&id), "ACTIVE");
            let flavor =
                cloud.ok(MEMBER, "GET", &format!("/v2.1/servers/{id}"), None)["server"]["flavor"]["id"].clone();
            assert_eq!(flavor, if end == "revertResize" { "1" } else { "2" });
        }
        let used: Option<i64> = cloud
            .db
            .read(|tx| {
                tx.scalar(
                    "SELECT CAST(SUM(used) AS BIGINT) FROM allocations WHERE resource_class = 'VCPU'",
                    &[],
                )
            })
            .unwrap();
        assert_eq!(used, Some(2));
    });
}

#[test]
fn a_deletion_ends_with_the_nodes_word_or_with_the_nodes_death() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let (lost, away) = (cloud.create(MEMBER, "lost"), cloud.create(MEMBER, "away"));
        cloud.settle(&lost, PowerState::Running);
        cloud.settle(&away, PowerState::Running);
        cloud.ok(MEMBER, "DELETE", &format!("/v2.1/servers/{lost}"), None);
        let shown = cloud.ok(MEMBER, "GET", &format!("/v2.1/servers/{lost}"), None);
        assert_eq!(shown["server"]["OS-EXT-STS:task_state"], "deleting");
        cloud.ok(MEMBER, "DELETE", &format!("/v2.1/servers/{lost}"), None);
        // The word that it is gone was lost; the next list of all that the node has says it too.
        cloud.report(
            "node-1",
            Report::Inventory {
                servers: vec![],
                ports: vec![],
            },
        );
        assert_eq!(
            cloud.fails(MEMBER, "GET", &format!("/v2.1/servers/{lost}"), None).0,
            404
        );
        assert_eq!(
            cloud.status(&away),
            "ACTIVE",
            "a server that should be stays, whatever the node has"
        );

        cloud
            .db
            .write(|tx| tx.execute("UPDATE compute_services SET seen_at = 1", &[]))
            .unwrap();
        let (_, services) = cloud.at("2.1", ADMIN, "GET", "/v2.1/os-services?binary=nova-compute", None);
        assert_eq!(services["services"][0]["state"], "down");
        cloud.ok(MEMBER, "DELETE", &format!("/v2.1/servers/{away}"), None);
        assert_eq!(
            cloud.fails(MEMBER, "GET", &format!("/v2.1/servers/{away}"), None).0,
            404
        );
        let made = cloud.create(MEMBER, "nowhere");
        assert_eq!(cloud.status(&made), "ERROR", "a dead node takes no servers");
        cloud.report("node-1", Report::Heartbeat(Default::default()));
        let made = cloud.create(MEMBER, "somewhere");
        assert_eq!(cloud.status(&made), "BUILD");
    });
}

#[test]
fn a_failed_guest_says_why_and_can_be_started_anew() {
    on_both(|db| {
        let cloud = cloud(db, 4);
        let id = cloud.create(MEMBER, "web");
        cloud.fault(&id, "the disk is full");
        let shown = cloud.ok(MEMBER, "GET", &format!("/v2.1/servers/{id}"), None);
        assert_eq!(
            (&shown["server"]["status"], &shown["server"]["fault"]["message"]),
            (&json!("ERROR"), &json!("the disk is full"))
        );
        let (_, log) = cloud.at(
            "2.51",
            MEMBER,
            "GET",
            &format!("/v2.1/servers/{id}/os-instance-actions"),
            None,
        );
        assert_eq!(log["instanceActions"][0]["message"], "Error");
        let action = format!("/v2.1/servers/{id}/action");
        cloud.ok(
            ADMIN,
            "POST",
            &action,
            Some(json!({"os-resetState": {"state": "active"}})),
        );
        assert_eq!(cloud.status(&id), "ACTIVE");
        let made = cloud.create(MEMBER, "next");
        cloud.settle(&made, PowerState::Running);
        cloud.ok(
            MEMBER,
            "POST",
            &format!("/v2.1/servers/{made}/action"),
            Some(json!({"rebuild": {"imageRef": IMAGE, "name": "again"}})),
        );
        assert_eq!(cloud.status(&made), "REBUILD");
        cloud.settle(&made, PowerState::Running);
        assert_eq!(
            cloud.ok(MEMBER, "GET", &format!("/v2.1/servers/{made}"), None)["server"]["name"],
            "again"
        );
        assert_eq!(cloud.status(&made), "ACTIVE");
    });
}
