//! What users of the Network API notice, on both databases.

mod cloud;

use cloud::{ALICE, BOB, Cloud, admin, alice, bob, id};
use database::testing::on_both;
use serde_json::{Value, json};

fn on_clouds(test: impl Fn(&Cloud)) {
    on_both(&[network::MIGRATIONS], |db| test(&Cloud::new(db)));
}

fn network(cloud: &Cloud, token: &str, name: &str) -> String {
    id(&cloud.post(token, "/v2.0/networks", json!({"network": {"name": name}})).ok("network"))
}

fn subnet(cloud: &Cloud, token: &str, network: &str, cidr: &str) -> Value {
    let version = if cidr.contains(':') { 6 } else { 4 };
    let body = json!({"subnet": {"network_id": network, "cidr": cidr, "ip_version": version}});
    cloud.post(token, "/v2.0/subnets", body).ok("subnet")
}

fn port(cloud: &Cloud, token: &str, body: Value) -> Value {
    cloud.post(token, "/v2.0/ports", json!({ "port": body })).ok("port")
}

fn external(cloud: &Cloud) -> (String, String) {
    let body = json!({"network": {"name": "ext_net", "router:external": true, "provider:network_type": "flat", "provider:physical_network": "extnet"}});
    let network = id(&cloud.post(&admin(), "/v2.0/networks", body).ok("network"));
    let body = json!({"subnet": {"name": "ext_net_subnet", "network_id": network, "ip_version": 4, "cidr": "10.5.117.0/8", "gateway_ip": "10.0.0.1",
        "allocation_pools": [{"start": "10.5.117.101", "end": "10.5.117.199"}], "dns_nameservers": ["8.8.8.8"], "enable_dhcp": false}});
    let subnet = cloud.post(&admin(), "/v2.0/subnets", body).ok("subnet");
    assert_eq!(subnet["cidr"], "10.0.0.0/8");
    assert_eq!(subnet["gateway_ip"], "10.0.0.1");
    (network, id(&subnet))
}

#[test]
fn the_labs_topology_is_built_and_torn_down() {
    on_clouds(|cloud| {
        let (ext, _) = external(cloud);
        let net = network(cloud, &alice(), "tenant");
        let shown = cloud.get(&alice(), &format!("/v2.0/networks/{net}")).ok("network");
        assert!(shown.get("provider:network_type").is_none(), "hidden from users: {shown}");
        assert_eq!(shown["mtu"], 1450);
        let shown = cloud.get(&admin(), &format!("/v2.0/networks/{net}")).ok("network");
        assert_eq!((&shown["provider:network_type"], &shown["provider:segmentation_id"]), (&json!("vxlan"), &json!(1)));
        let sub = subnet(cloud, &alice(), &net, "172.16.1.0/24");
        assert_eq!(sub["allocation_pools"], json!([{"start": "172.16.1.2", "end": "172.16.1.254"}]));

        let body = json!({"router": {"name": "ADMIN_R1", "external_gateway_info": {"network_id": ext}}});
        let router = cloud.post(&alice(), "/v2.0/routers", body).ok("router");
        let gateway = &router["external_gateway_info"];
        assert_eq!(gateway["external_fixed_ips"][0]["ip_address"], "10.5.117.101");
        assert_eq!(gateway["enable_snat"], true);
        let router = id(&router);
        let add = format!("/v2.0/routers/{router}/add_router_interface");
        let interface = cloud.put(&alice(), &add, json!({"subnet_id": sub["id"]}));
        assert_eq!(interface.0, 200, "{}", interface.1);
        let again = cloud.put(&alice(), &add, json!({"subnet_id": sub["id"]})).error();
        assert_eq!(again, (400, "BadRequest".into(), format!("Bad router request: Router already has a port on subnet {}.", sub["id"].as_str().unwrap())));

        let guest = port(cloud, &alice(), json!({"network_id": net, "name": "guest"}));
        assert_eq!(guest["fixed_ips"][0]["ip_address"], "172.16.1.2");
        assert_eq!(guest["status"], "DOWN");
        assert!(guest.get("binding:host_id").is_none());
        let fip = cloud.post(&alice(), "/v2.0/floatingips", json!({"floatingip": {"floating_network_id": ext, "port_id": guest["id"]}})).ok("floatingip");
        assert_eq!(fip["fixed_ip_address"], "172.16.1.2");
        assert_eq!((&fip["router_id"], &fip["status"]), (&json!(router), &json!("ACTIVE")));
        assert_eq!(fip["port_details"]["name"], "guest");

        let refusal = cloud.put(&alice(), &format!("/v2.0/routers/{router}/remove_router_interface"), json!({"subnet_id": sub["id"]})).error();
        assert_eq!((refusal.0, refusal.1.as_str()), (409, "RouterInterfaceInUseByFloatingIP"));
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/routers/{router}")).error().1, "RouterInUse");
        let refusal = cloud.delete(&alice(), &format!("/v2.0/networks/{net}")).error();
        assert_eq!((refusal.0, refusal.1.as_str()), (409, "NetworkInUse"));

        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/ports/{}", id(&guest))).0, 204);
        let fip = cloud.get(&alice(), &format!("/v2.0/floatingips/{}", id(&fip))).ok("floatingip");
        assert_eq!((&fip["port_id"], &fip["status"]), (&Value::Null, &json!("DOWN")));
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/floatingips/{}", id(&fip))).0, 204);
        assert_eq!(cloud.put(&alice(), &format!("/v2.0/routers/{router}/remove_router_interface"), json!({"subnet_id": sub["id"]})).0, 200);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/routers/{router}")).0, 204);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/networks/{net}")).0, 204);
        assert_eq!(cloud.delete(&admin(), &format!("/v2.0/networks/{ext}")).0, 204);
        let left = cloud.get(&admin(), "/v2.0/ports").ok("ports");
        assert_eq!(left, json!([]));
    });
}

#[test]
fn addresses_run_out_and_come_back() {
    on_clouds(|cloud| {
        let net = network(cloud, &alice(), "small");
        subnet(cloud, &alice(), &net, "192.168.7.0/29");
        let mut ports = Vec::new();
        for last in 2..=6 {
            let made = port(cloud, &alice(), json!({"network_id": net}));
            assert_eq!(made["fixed_ips"][0]["ip_address"], format!("192.168.7.{last}"));
            ports.push(id(&made));
        }
        let body = json!({"port": {"network_id": net}});
        let refusal = cloud.post(&alice(), "/v2.0/ports", body.clone()).error();
        assert_eq!(refusal, (409, "IpAddressGenerationFailure".into(), format!("No more IP addresses available on network {net}.")));
        // Two neighbours come back as one interval, whichever goes first.
        for port in [&ports[1], &ports[3], &ports[2]] {
            assert_eq!(cloud.delete(&alice(), &format!("/v2.0/ports/{port}")).0, 204);
        }
        for last in [3, 4, 5] {
            let made = port(cloud, &alice(), json!({"network_id": net}));
            assert_eq!(made["fixed_ips"][0]["ip_address"], format!("192.168.7.{last}"));
        }
        assert_eq!(cloud.post(&alice(), "/v2.0/ports", body).0, 409);
        // Nothing of a refused port stays.
        assert_eq!(cloud.get(&alice(), "/v2.0/ports").ok("ports").as_array().unwrap().len(), 5);
        let shown = cloud.get(&admin(), &format!("/v2.0/network-ip-availabilities/{net}")).ok("network_ip_availability");
        assert_eq!((&shown["total_ips"], &shown["used_ips"]), (&json!(5), &json!(5)));
    });
}

#[test]
fn addresses_and_macs_are_unique_and_as_asked() {
    on_clouds(|cloud| {
        let net = network(cloud, &alice(), "n");
        let sub = id(&subnet(cloud, &alice(), &net, "10.1.0.0/24"));
        let asked = json!({"network_id": net, "fixed_ips": [{"ip_address": "10.1.0.77"}], "mac_address": "FA:16:3E:00:00:01"});
        let made = port(cloud, &alice(), asked.clone());
        assert_eq!(made["fixed_ips"], json!([{"subnet_id": sub, "ip_address": "10.1.0.77"}]));
        assert_eq!(made["mac_address"], "fa:16:3e:00:00:01");
        assert_eq!(cloud.post(&alice(), "/v2.0/ports", json!({ "port": asked })).error().1, "MacAddressInUse");
        let same_ip = json!({"port": {"network_id": net, "fixed_ips": [{"subnet_id": sub, "ip_address": "10.1.0.77"}]}});
        assert_eq!(
            cloud.post(&alice(), "/v2.0/ports", same_ip).error(),
            (409, "IpAddressAlreadyAllocated".into(), format!("IP address 10.1.0.77 already allocated in subnet {sub}"))
        );
        for (ip, kind) in [("10.1.0.0", "InvalidIpForSubnet"), ("10.2.0.5", "InvalidIpForSubnet")] {
            let body = json!({"port": {"network_id": net, "fixed_ips": [{"subnet_id": sub, "ip_address": ip}]}});
            assert_eq!(cloud.post(&alice(), "/v2.0/ports", body).error().1, kind, "{ip}");
        }
        // Two more addresses, then another instead of the first.
        let path = format!("/v2.0/ports/{}", id(&made));
        let body = json!({"port": {"fixed_ips": [{"subnet_id": sub, "ip_address": "10.1.0.77"}, {"subnet_id": sub}]}});
        assert_eq!(cloud.put(&alice(), &path, body).ok("port")["fixed_ips"].as_array().unwrap().len(), 2);
        let body = json!({"port": {"fixed_ips": [{"subnet_id": sub, "ip_address": "10.1.0.80"}]}});
        assert_eq!(cloud.put(&alice(), &path, body).ok("port")["fixed_ips"], json!([{"subnet_id": sub, "ip_address": "10.1.0.80"}]));
        assert_eq!(port(cloud, &alice(), json!({"network_id": net}))["fixed_ips"][0]["ip_address"], "10.1.0.2");
        let found = cloud.get(&alice(), "/v2.0/ports?fixed_ips=ip_address%3D10.1.0.80").ok("ports");
        assert_eq!(found.as_array().unwrap().len(), 1);
        let found = cloud.get(&alice(), "/v2.0/ports?fixed_ips=ip_address_substr%3D1.0.8").ok("ports");
        assert_eq!(found.as_array().unwrap().len(), 1);
    });
}

#[test]
fn ipv6_addresses_follow_the_mac() {
    on_clouds(|cloud| {
        let net = network(cloud, &alice(), "six");
        let early = port(cloud, &alice(), json!({"network_id": net, "mac_address": "fa:16:3e:00:00:05"}));
        assert_eq!(early["fixed_ips"], json!([]));
        let body = json!({"subnet": {"network_id": net, "cidr": "2001:db8::/64", "ip_version": 6, "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}});
        let sub = cloud.post(&alice(), "/v2.0/subnets", body).ok("subnet");
        assert_eq!(sub["gateway_ip"], "2001:db8::");
        let path = format!("/v2.0/ports/{}", id(&early));
        let shown = cloud.get(&alice(), &path).ok("port");
        assert_eq!(shown["fixed_ips"][0]["ip_address"], "2001:db8::f816:3eff:fe00:5");
        let body = json!({"port": {"mac_address": "fa:16:3e:00:00:06"}});
        let shown = cloud.put(&admin(), &path, body).ok("port");
        assert_eq!(shown["fixed_ips"][0]["ip_address"], "2001:db8::f816:3eff:fe00:6");
        let other = json!({"port": {"network_id": net, "fixed_ips": [{"ip_address": "2001:db8::9"}]}});
        assert_eq!(cloud.post(&alice(), "/v2.0/ports", other).error().1, "AllocationOnAutoAddressSubnet");
        let stateful = json!({"subnet": {"network_id": net, "cidr": "2001:db8:1::/64", "ip_version": 6, "ipv6_ra_mode": "slaac", "enable_dhcp": false}});
        assert_eq!(cloud.post(&alice(), "/v2.0/subnets", stateful).0, 400);
    });
}

#[test]
fn strangers_see_nothing_and_users_may_not_do_what_is_the_administrators() {
    on_clouds(|cloud| {
        let net = network(cloud, &alice(), "hers");
        let sub = subnet(cloud, &alice(), &net, "10.9.0.0/24");
        let mine = port(cloud, &alice(), json!({"network_id": net}));
        for path in [format!("/v2.0/networks/{net}"), format!("/v2.0/subnets/{}", id(&sub)), format!("/v2.0/ports/{}", id(&mine))] {
            assert_eq!(cloud.get(&bob(), &path).0, 404, "{path}");
            assert_eq!(cloud.delete(&bob(), &path).0, 404, "{path}");
        }
        assert_eq!(cloud.get(&bob(), "/v2.0/networks").ok("networks"), json!([]));
        let refusal = cloud.post(&bob(), "/v2.0/ports", json!({"port": {"network_id": net}})).error();
        assert_eq!(refusal, (404, "NetworkNotFound".into(), format!("Network {net} could not be found.")));
        let refusal = cloud.post(&alice(), "/v2.0/networks", json!({"network": {"shared": true}})).error();
        assert_eq!(
            refusal,
            (403, "PolicyNotAuthorized".into(), "(rule:create_network and rule:create_network:shared) is disallowed by policy".into())
        );
        let refusal = cloud.post(&alice(), "/v2.0/networks", json!({"network": {"project_id": BOB}})).error();
        assert_eq!(refusal.0, 400);
        let reader = format!("{ALICE}:reader");
        assert_eq!(cloud.get(&reader, &format!("/v2.0/networks/{net}")).0, 200);
        assert_eq!(cloud.put(&reader, &format!("/v2.0/networks/{net}"), json!({"network": {"name": "x"}})).0, 403);
        // Shared with Bob alone, it is his to use.
        let share = json!({"rbac_policy": {"object_type": "network", "object_id": net, "action": "access_as_shared", "target_tenant": BOB}});
        let share = cloud.post(&alice(), "/v2.0/rbac-policies", share).ok("rbac_policy");
        assert_eq!(cloud.get(&bob(), &format!("/v2.0/networks/{net}")).ok("network")["shared"], true);
        assert_eq!(cloud.get(&alice(), &format!("/v2.0/networks/{net}")).ok("network")["shared"], false);
        let his = port(cloud, &bob(), json!({"network_id": net}));
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/rbac-policies/{}", id(&share))).error().1, "RbacPolicyInUse");
        assert_eq!(cloud.delete(&bob(), &format!("/v2.0/ports/{}", id(&his))).0, 204);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/rbac-policies/{}", id(&share))).0, 204);
    });
}

#[test]
fn bad_input_is_told_in_upstreams_words() {
    on_clouds(|cloud| {
        let net = network(cloud, &alice(), "n");
        let text = |path: &str, body: Value| cloud.post(&alice(), path, body).error();
        assert_eq!(text("/v2.0/networks", json!({"net": {}})).2, "Unable to find 'network' in request body");
        assert_eq!(text("/v2.0/networks", json!({"network": {"nome": "x"}})).2, "Unrecognized attribute(s) 'nome'");
        assert_eq!(text("/v2.0/networks", json!({"network": {"id": "x"}})).2, "Attribute 'id' not allowed in POST");
        assert_eq!(
            text("/v2.0/networks", json!({"network": {"name": 5}})).2,
            "Invalid input for name. Reason: '5' is not a valid string."
        );
        assert_eq!(
            text("/v2.0/subnets", json!({"subnet": {"ip_version": 4}})).2,
            "Failed to parse request. Required attribute 'network_id' not specified"
        );
        assert_eq!(
            text("/v2.0/subnets", json!({"subnet": {"ip_version": 5, "network_id": net, "cidr": "10.0.0.0/24"}})).2,
            "Invalid input for ip_version. Reason: 5 is not in [4, 6]."
        );
        assert_eq!(
            cloud.put(&alice(), &format!("/v2.0/networks/{net}"), json!({"network": {"status": "DOWN"}})).error().2,
            "Cannot update read-only attribute status"
        );
        subnet(cloud, &alice(), &net, "10.0.0.0/24");
        let body = json!({"subnet": {"network_id": net, "cidr": "10.0.0.128/25", "ip_version": 4}});
        assert_eq!(
            text("/v2.0/subnets", body),
            (
                400,
                "InvalidInput".into(),
                format!("Invalid input for operation: Requested subnet with cidr: 10.0.0.128/25 for network: {net} overlaps with another subnet.")
            )
        );
        let body = json!({"subnet": {"network_id": net, "cidr": "10.3.0.0/24", "ip_version": 4, "gateway_ip": "10.3.0.50",
            "allocation_pools": [{"start": "10.3.0.10", "end": "10.3.0.90"}]}});
        assert_eq!(text("/v2.0/subnets", body).2, "Gateway ip 10.3.0.50 conflicts with allocation pool 10.3.0.10-10.3.0.90.");
        assert_eq!(cloud.get(&alice(), "/v2.0/networks?nome=x").error().2, "['nome'] is invalid attribute for filtering");
        assert_eq!(cloud.get(&alice(), "/v2.0/networks?limit=-1").error().2, "Bad limit request: Limit must be an integer 0 or greater and not '-1'.");
        assert_eq!(cloud.get(&alice(), "/v2.0/nothing").0, 404);
        assert_eq!(cloud.call(&alice(), "DELETE", "/v2.0/networks", Value::Null).0, 405);
    });
}

#[test]
fn lists_are_filtered_sorted_and_paged() {
    on_clouds(|cloud| {
        let body = json!({"networks": [{"name": "c"}, {"name": "a"}, {"name": "b", "admin_state_up": false}]});
        let made = cloud.post(&alice(), "/v2.0/networks", body).ok("networks");
        assert_eq!(made.as_array().unwrap().len(), 3);
        let names = |path: &str| -> Vec<String> {
            let all = cloud.get(&alice(), path).ok("networks");
            all.as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap().to_string()).collect()
        };
        assert_eq!(names("/v2.0/networks?sort_key=name&sort_dir=desc"), ["c", "b", "a"]);
        assert_eq!(names("/v2.0/networks?name=a&name=b&sort_key=name&sort_dir=asc"), ["a", "b"]);
        assert_eq!(names("/v2.0/networks?admin_state_up=False"), ["b"]);
        let page = cloud.get(&alice(), "/v2.0/networks?sort_key=name&sort_dir=asc&limit=2");
        let links = page.1["networks_links"].as_array().unwrap();
        assert_eq!((links[0]["rel"].as_str(), links[1]["rel"].as_str()), (Some("next"), Some("previous")));
        let next = links[0]["href"].as_str().unwrap().strip_prefix("http://cloud:9696").unwrap();
        assert_eq!(names(next), ["c"]);
        let last = cloud.get(&alice(), next);
        let links = last.1["networks_links"].as_array().unwrap();
        assert_eq!(links.len(), 1);
        let previous = links[0]["href"].as_str().unwrap().strip_prefix("http://cloud:9696").unwrap();
        assert!(previous.ends_with("page_reverse=True"));
        assert_eq!(names(previous), ["a", "b"]);
        let fields = cloud.get(&alice(), "/v2.0/networks?fields=name&fields=id&name=a").ok("networks");
        assert_eq!(fields[0].as_object().unwrap().len(), 2);
        // Tags.
        let of = |n: usize| format!("/v2.0/networks/{}/tags", made[n]["id"].as_str().unwrap());
        assert_eq!(cloud.put(&alice(), &of(0), json!({"tags": ["red", "blue"]})).ok("tags"), json!(["red", "blue"]));
        assert_eq!(cloud.put(&alice(), &format!("{}/red", of(1)), Value::Null).0, 201);
        assert_eq!(names("/v2.0/networks?tags=red,blue"), ["c"]);
        assert_eq!(names("/v2.0/networks?tags-any=red,blue&sort_key=name&sort_dir=asc"), ["a", "c"]);
        assert_eq!(names("/v2.0/networks?not-tags-any=red,blue"), ["b"]);
        assert_eq!(names("/v2.0/networks?not-tags=red,blue&sort_key=name&sort_dir=asc"), ["a", "b"]);
        assert_eq!(cloud.delete(&alice(), &format!("{}/green", of(0))).error().1, "TagNotFound");
    });
}

#[test]
fn security_groups_begin_with_their_rules() {
    on_clouds(|cloud| {
        let groups = cloud.get(&alice(), "/v2.0/security-groups").ok("security_groups");
        assert_eq!((groups.as_array().unwrap().len(), &groups[0]["name"]), (1, &json!("default")));
        assert_eq!(groups[0]["security_group_rules"].as_array().unwrap().len(), 4);
        let body = json!({"security_group": {"name": "WEBSRV_SG"}});
        let group = cloud.post(&alice(), "/v2.0/security-groups", body).ok("security_group");
        assert_eq!(group["security_group_rules"].as_array().unwrap().len(), 2);
        let group = id(&group);
        let rule = |more: Value| {
            let mut body = json!({"security_group_id": group, "direction": "ingress"});
            for (k, v) in more.as_object().unwrap() {
                body[k] = v.clone();
            }
            cloud.post(&alice(), "/v2.0/security-group-rules", json!({ "security_group_rule": body }))
        };
        let made = rule(json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 80, "remote_ip_prefix": "10.1.2.3/24"})).ok("security_group_rule");
        assert_eq!(made["normalized_cidr"], "10.1.2.0/24");
        let twin = rule(json!({"protocol": "6", "port_range_min": 80, "port_range_max": 80, "remote_ip_prefix": "10.1.2.3/24"})).error();
        assert_eq!(twin, (409, "SecurityGroupRuleExists".into(), format!("Security group rule already exists. Rule id is {}.", id(&made))));
        assert_eq!(rule(json!({"protocol": "bogus"})).error().1, "SecurityGroupRuleInvalidProtocol");
        assert_eq!(rule(json!({"port_range_min": 1})).error().1, "SecurityGroupProtocolRequiredWithPorts");
        assert_eq!(rule(json!({"protocol": "tcp", "port_range_min": 9, "port_range_max": 2})).error().1, "SecurityGroupInvalidPortRange");
        assert_eq!(rule(json!({"protocol": "icmp", "port_range_max": 3})).error().1, "SecurityGroupMissingIcmpType");
        assert_eq!(rule(json!({"ethertype": "IPv6", "remote_ip_prefix": "10.0.0.0/8"})).error().1, "SecurityGroupRuleParameterConflict");
        let net = network(cloud, &alice(), "n");
        let used = port(cloud, &alice(), json!({"network_id": net, "security_groups": [group]}));
        let path = format!("/v2.0/security-groups/{group}");
        assert_eq!(cloud.delete(&alice(), &path).error().1, "SecurityGroupInUse");
        let off = json!({"port": {"port_security_enabled": false}});
        let guarded = format!("/v2.0/ports/{}", id(&used));
        assert_eq!(cloud.put(&alice(), &guarded, off).error().1, "PortSecurityPortHasSecurityGroup");
        let body = json!({"port": {"port_security_enabled": false, "security_groups": []}});
        assert_eq!(cloud.put(&alice(), &guarded, body).ok("port")["security_groups"], json!([]));
        assert_eq!(cloud.delete(&alice(), &path).0, 204);
        let default = groups[0]["id"].as_str().unwrap();
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/security-groups/{default}")).error().1, "SecurityGroupCannotRemoveDefault");
        assert_eq!(cloud.get(&bob(), &format!("/v2.0/security-groups/{default}")).0, 404);
    });
}

#[test]
fn quotas_hold_in_bulk_and_revisions_guard_updates() {
    on_clouds(|cloud| {
        let quota = format!("/v2.0/quotas/{ALICE}");
        assert_eq!(cloud.put(&alice(), &quota, json!({"quota": {"network": 5}})).0, 403);
        assert_eq!(cloud.put(&admin(), &quota, json!({"quota": {"network": 2}})).ok("quota")["network"], 2);
        let refusal = cloud.post(&alice(), "/v2.0/networks", json!({"networks": [{}, {}, {}]})).error();
        assert_eq!(refusal, (409, "OverQuota".into(), "Quota exceeded for resources: ['network'].".into()));
        assert_eq!(cloud.get(&alice(), "/v2.0/networks").ok("networks"), json!([]));
        let net = network(cloud, &alice(), "n");
        let details = cloud.get(&alice(), &format!("{quota}/details")).ok("quota");
        assert_eq!(details["network"], json!({"limit": 2, "used": 1, "reserved": 0}));
        let path = format!("/v2.0/networks/{net}");
        let change = |revision: i64| {
            let header = format!("revision_number={revision}");
            let body = json!({"network": {"name": format!("r{revision}")}});
            cloud.call_with(&alice(), "PUT", &path, Some(body), &[("if-match", &header)])
        };
        let now = cloud.get(&alice(), &path).ok("network")["revision_number"].as_i64().unwrap();
        assert_eq!(change(now).ok("network")["revision_number"], now + 1);
        let refusal = change(now).error();
        assert_eq!((refusal.0, refusal.2), (412, format!("Constrained to {now}, but current revision is {}", now + 1)));
        assert_eq!(cloud.delete(&admin(), &quota).0, 204);
        assert_eq!(cloud.delete(&admin(), &quota).error().1, "TenantQuotaNotFound");
    });
}

#[test]
fn segments_are_handed_out_once() {
    on_clouds(|cloud| {
        let vlan = |id: Value| {
            let mut body = json!({"provider:network_type": "vlan", "provider:physical_network": "extnet"});
            if !id.is_null() {
                body["provider:segmentation_id"] = id;
            }
            cloud.post(&admin(), "/v2.0/networks", json!({ "network": body }))
        };
        assert_eq!(vlan(json!(101)).0, 201);
        let refusal = vlan(json!(101)).error();
        assert_eq!(refusal.2, "Unable to create the network. The VLAN 101 on physical network extnet is in use.");
        let mut got = Vec::new();
        for _ in 0..3 {
            got.push(vlan(Value::Null).ok("network"));
        }
        let ids: Vec<i64> = got.iter().map(|n| n["provider:segmentation_id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [100, 102, 103]);
        assert_eq!(vlan(Value::Null).error().1, "NoNetworkAvailable");
        assert_eq!(cloud.delete(&admin(), &format!("/v2.0/networks/{}", id(&got[1]))).0, 204);
        assert_eq!(vlan(Value::Null).ok("network")["provider:segmentation_id"], 102);
        assert_eq!(vlan(json!(5000)).error().2, "Invalid input for operation: segmentation_id out of range (1 through 4094).");
        let several = json!({"network": {"segments": [
            {"provider:network_type": "vxlan", "provider:segmentation_id": 7}, {"provider:network_type": "vlan", "provider:physical_network": "extnet", "provider:segmentation_id": 900}]}});
        let shown = cloud.post(&admin(), "/v2.0/networks", several).ok("network");
        assert_eq!(shown["segments"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn single_ports_of_a_floating_ip_lead_inside() {
    on_clouds(|cloud| {
        let (public, _) = external(cloud);
        let network = network(cloud, &alice(), "n");
        let inside = subnet(cloud, &alice(), &network, "192.168.7.0/24");
        let body = json!({"router": {"external_gateway_info": {"network_id": public}}});
        let router = id(&cloud.post(&alice(), "/v2.0/routers", body).ok("router"));
        let add = cloud.put(&alice(), &format!("/v2.0/routers/{router}/add_router_interface"), json!({"subnet_id": inside["id"]}));
        assert_eq!(add.0, 200);
        let fip = id(&cloud.post(&alice(), "/v2.0/floatingips", json!({"floatingip": {"floating_network_id": public}})).ok("floatingip"));
        let port = port(cloud, &alice(), json!({"network_id": network}));
        let path = format!("/v2.0/floatingips/{fip}/port_forwardings");
        let wanted = |outer: i64, inner: i64| {
            json!({"port_forwarding": {"external_port": outer, "internal_port": inner, "protocol": "tcp",
                "internal_port_id": port["id"], "internal_ip_address": port["fixed_ips"][0]["ip_address"]}})
        };
        let forwarding = cloud.post(&alice(), &path, wanted(2222, 22)).ok("port_forwarding");
        assert!(forwarding.get("project_id").is_none());
        let (status, kind, text) = cloud.post(&alice(), &path, wanted(2222, 23)).error();
        assert_eq!((status, kind.as_str()), (400, "BadRequest"));
        assert_eq!(
            text,
            "Bad port_forwarding request: There is a port collision with the external_port_range. The following ranges collide: 2222:2222 and 2222:2222."
        );
        let shown = cloud.get(&alice(), &format!("/v2.0/floatingips/{fip}")).ok("floatingip");
        assert_eq!(shown["port_forwardings"][0], forwarding);
        assert_eq!((&shown["status"], &shown["router_id"]), (&json!("ACTIVE"), &json!(router)));
        let one = format!("{path}/{}", id(&forwarding));
        let changed = cloud.put(&alice(), &one, json!({"port_forwarding": {"internal_port": 23}})).ok("port_forwarding");
        assert_eq!(changed["internal_port"], 23);
        assert_eq!(cloud.get(&bob(), &one).0, 404);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/floatingips/{fip}")).error().1, "FipInUseByPortForwarding");
        // With the port goes what was forwarded to it.
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/ports/{}", id(&port))).0, 204);
        assert_eq!(cloud.get(&alice(), &path).ok("port_forwardings"), json!([]));
        let shown = cloud.get(&alice(), &format!("/v2.0/floatingips/{fip}")).ok("floatingip");
        assert_eq!((&shown["status"], &shown["router_id"]), (&json!("DOWN"), &Value::Null));
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/floatingips/{fip}")).0, 204);
    });
}

#[test]
fn routers_have_helpers_of_connection_tracking() {
    on_clouds(|cloud| {
        let router = id(&cloud.post(&alice(), "/v2.0/routers", json!({"router": {}})).ok("router"));
        let path = format!("/v2.0/routers/{router}/conntrack_helpers");
        let wanted = |helper: &str| json!({"conntrack_helper": {"protocol": "udp", "port": 69, "helper": helper}});
        let helper = cloud.post(&alice(), &path, wanted("tftp")).ok("conntrack_helper");
        assert_eq!(cloud.post(&alice(), &path, wanted("tftp")).0, 400);
        let (status, _, text) = cloud.post(&alice(), &path, wanted("ftp")).error();
        assert_eq!((status, text.as_str()), (400, "Conntrack Helper ftp does not support: udp. Supported protocols are: tcp"));
        let shown = cloud.get(&alice(), &format!("/v2.0/routers/{router}")).ok("router");
        assert_eq!(shown["conntrack_helpers"], json!([{"protocol": "udp", "port": 69, "helper": "tftp"}]));
        assert_eq!(cloud.get(&bob(), &path).0, 404);
        assert_eq!(cloud.delete(&alice(), &format!("{path}/{}", id(&helper))).0, 204);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/routers/{router}")).0, 204);
    });
}

#[test]
fn local_ips_lead_to_ports() {
    on_clouds(|cloud| {
        let network = network(cloud, &alice(), "n");
        subnet(cloud, &alice(), &network, "192.168.7.0/24");
        let local = cloud.post(&alice(), "/v2.0/local_ips", json!({"local_ip": {"network_id": network}})).ok("local_ip");
        let port = port(cloud, &alice(), json!({"network_id": network}));
        let path = format!("/v2.0/local_ips/{}/port_associations", id(&local));
        let body = json!({"port_association": {"fixed_port_id": port["id"]}});
        let association = cloud.post(&alice(), &path, body).ok("port_association");
        assert_eq!(association["local_ip_address"], local["local_ip_address"]);
        assert_eq!(association["fixed_ip"], port["fixed_ips"][0]["ip_address"]);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/local_ips/{}", id(&local))).error().1, "LocalIPInUse");
        assert_eq!(cloud.delete(&alice(), &format!("{path}/{}", id(&port))).0, 204);
        assert_eq!(cloud.delete(&alice(), &format!("/v2.0/local_ips/{}", id(&local))).0, 204);
        let left = cloud.get(&admin(), "/v2.0/ports?device_owner=network:local_ip").ok("ports");
        assert_eq!(left, json!([]));
    });
}

#[test]
fn routers_change_with_and_without_gateway_and_have_flavors() {
    on_clouds(|cloud| {
        let router = id(&cloud.post(&admin(), "/v2.0/routers", json!({"router": {"admin_state_up": false}})).ok("router"));
        let path = format!("/v2.0/routers/{router}");
        assert_eq!(cloud.put(&admin(), &path, json!({"router": {"name": "r"}})).ok("router")["name"], "r");
        let (status, kind, _) = cloud.put(&admin(), &path, json!({"router": {"enable_ndp_proxy": true}})).error();
        assert_eq!((status, kind.as_str()), (409, "RouterGatewayNotValid"));
        // A highly available router has its network, as long as there is one.
        let named = "/v2.0/networks?name=HA%20network%20project%20".to_string() + cloud::ADMIN;
        assert_eq!(cloud.put(&admin(), &path, json!({"router": {"ha": true}})).ok("router")["ha"], true);
        assert_eq!(cloud.get(&admin(), &named).ok("networks").as_array().map(Vec::len), Some(1));
        assert_eq!(cloud.delete(&admin(), &path).0, 204);
        assert_eq!(cloud.get(&admin(), &named).ok("networks"), json!([]));
        let body = json!({"flavor": {"name": "f", "service_type": "L3_ROUTER_NAT"}});
        let flavor = id(&cloud.post(&admin(), "/v2.0/flavors", body).ok("flavor"));
        assert_eq!(cloud.delete(&admin(), &format!("/v2.0/flavors/{flavor}")).0, 204);
        // Both spellings lead to the same.
        let range = json!({"network_segment_range": {"network_type": "vxlan", "minimum": 70, "maximum": 71, "shared": false, "project_id": cloud::ALICE}});
        let range = id(&cloud.post(&admin(), "/v2.0/network-segment-ranges", range).ok("network_segment_range"));
        assert_eq!(cloud.get(&admin(), &format!("/v2.0/network_segment_ranges/{range}")).0, 200);
        let first = network(cloud, &alice(), "own");
        let shown = cloud.get(&admin(), &format!("/v2.0/networks/{first}")).ok("network");
        assert_eq!(shown["provider:segmentation_id"], 70);
        let other = network(cloud, &bob(), "other");
        let shown = cloud.get(&admin(), &format!("/v2.0/networks/{other}")).ok("network");
        assert!(!(70..=71).contains(&shown["provider:segmentation_id"].as_i64().unwrap_or(70)));
    });
}
