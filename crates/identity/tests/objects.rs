//! Projects, users, roles and their lists as clients see them.

mod support;

use api::Method;
use database::testing::on_both;
use identity::MIGRATIONS;
use serde_json::{Value, json};
use support::{Cloud, id, names};

#[test]
fn bootstrap_twice_is_once() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let again = cloud.identity.bootstrap(&Cloud::plan()).unwrap();
        assert!(!again.changed);
        let admin = cloud.admin();
        let roles = cloud.get("/v3/roles", &admin).expect(200);
        let mut found = names(&roles["roles"]);
        found.sort_unstable();
        assert_eq!(found, ["admin", "manager", "member", "reader", "service"]);
        assert_eq!(
            cloud.get("/v3/endpoints", &admin).expect(200)["endpoints"]
                .as_array()
                .unwrap()
                .len(),
            3
        );
    });
}

#[test]
fn unknown_attributes_are_kept() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let user = cloud.create(
            "/v3/users",
            &admin,
            "user",
            json!({"name": "u", "email": "u@example.org", "nested": {"a": [1]}}),
        );
        let path = format!("/v3/users/{}", id(&user));
        let changed = cloud
            .call(Method::PATCH, &path, &admin, Some(json!({"user": {"phone": "1"}})))
            .expect(200);
        assert_eq!(changed["user"]["extra"]["phone"], "1");
        let shown = cloud.get(&path, &admin).expect(200)["user"].clone();
        assert_eq!(shown["email"], "u@example.org");
        assert_eq!(shown["nested"], json!({"a": [1]}));
        assert_eq!(shown["phone"], "1");
        assert!(shown.get("password").is_none());
    });
}

#[test]
fn lists_are_filtered_and_paged() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        for name in ["Alpha", "alphabet", "beta", "100%", "a_b"] {
            cloud.create(
                "/v3/users",
                &admin,
                "user",
                json!({"name": name, "enabled": name != "beta"}),
            );
        }
        let users = |query: &str| {
            let list = cloud.get(&format!("/v3/users?{query}"), &admin).expect(200);
            let mut found: Vec<String> = names(&list["users"]).into_iter().map(Into::into).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(users("name=beta"), ["beta"]);
        assert_eq!(users("name__contains=lpha"), ["Alpha", "alphabet"]);
        assert_eq!(users("name__startswith=alpha"), ["alphabet"]);
        assert_eq!(users("name__istartswith=alpha"), ["Alpha", "alphabet"]);
        assert_eq!(users("name__endswith=a"), ["Alpha", "beta"]);
        assert_eq!(users("name__contains=%25"), ["100%"], "a percent sign is only that");
        assert_eq!(users("name__contains=_"), ["a_b"]);
        assert_eq!(users("enabled=false"), ["beta"]);
        let mut seen = Vec::new();
        let mut path = "/v3/users?limit=2".to_owned();
        loop {
            let page = cloud.get(&path, &admin).expect(200);
            seen.extend(names(&page["users"]).into_iter().map(str::to_owned));
            let Some(next) = page["links"]["next"].as_str() else {
                break;
            };
            assert_eq!(page["truncated"], true);
            path = next.strip_prefix("http://cloud").unwrap().to_owned();
        }
        seen.sort_unstable();
        assert_eq!(
            seen,
            ["100%", "Alpha", "a_b", "admin", "alphabet", "beta"],
            "every user once"
        );
        cloud.get("/v3/users?marker=nobody", &admin).expect(404);
    });
}

#[test]
fn projects_are_found_by_tags() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        for (name, tags) in [
            ("red", vec!["warm"]),
            ("blue", vec!["cold"]),
            ("purple", vec!["warm", "cold"]),
            ("grey", vec![]),
        ] {
            cloud.create("/v3/projects", &admin, "project", json!({"name": name, "tags": tags}));
        }
        let found = |query: &str| {
            let list = cloud.get(&format!("/v3/projects?{query}"), &admin).expect(200);
            let mut found: Vec<String> = names(&list["projects"])
                .into_iter()
                .filter(|n| *n != "admin")
                .map(Into::into)
                .collect();
            found.sort_unstable();
            found
        };
        assert_eq!(found("tags=warm,cold"), ["purple"]);
        assert_eq!(found("tags-any=warm,cold"), ["blue", "purple", "red"]);
        assert_eq!(found("not-tags=warm,cold"), ["blue", "grey", "red"]);
        assert_eq!(found("not-tags-any=warm,cold"), ["grey"]);
        assert_eq!(found("tags=warm&not-tags=cold"), ["red"]);
    });
}

#[test]
fn roles_come_through_groups_inheritance_and_implication() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let domain = cloud.create("/v3/domains", &admin, "domain", json!({"name": "d"}));
        let d = id(&domain);
        let parent = cloud.create("/v3/projects", &admin, "project", json!({"name": "p", "domain_id": d}));
        let child = cloud.create(
            "/v3/projects",
            &admin,
            "project",
            json!({"name": "c", "domain_id": d, "parent_id": id(&parent)}),
        );
        let user = cloud.create("/v3/users", &admin, "user", json!({"name": "u", "domain_id": d}));
        let group = cloud.create("/v3/groups", &admin, "group", json!({"name": "g", "domain_id": d}));
        cloud.put(&format!("/v3/groups/{}/users/{}", id(&group), id(&user)), &admin);
        let [manager, member, reader] = ["manager", "member", "reader"].map(|name| cloud.role(&admin, name));
        cloud.put(
            &format!(
                "/v3/OS-INHERIT/domains/{d}/groups/{}/roles/{member}/inherited_to_projects",
                id(&group)
            ),
            &admin,
        );
        cloud.put(
            &format!(
                "/v3/OS-INHERIT/projects/{}/users/{}/roles/{manager}/inherited_to_projects",
                id(&parent),
                id(&user)
            ),
            &admin,
        );
        let effective = |project: &Value| {
            let path = format!(
                "/v3/role_assignments?effective&user.id={}&scope.project.id={}",
                id(&user),
                id(project)
            );
            let list = cloud.get(&path, &admin).expect(200);
            let mut roles: Vec<String> = list["role_assignments"]
                .as_array()
                .unwrap()
                .iter()
                .map(|a| a["role"]["id"].as_str().unwrap().to_owned())
                .collect();
            roles.sort_unstable();
            roles.dedup();
            roles
        };
        let sorted = |roles: &[&String]| {
            let mut roles: Vec<String> = roles.iter().map(|r| (*r).clone()).collect();
            roles.sort_unstable();
            roles
        };
        assert_eq!(
            effective(&parent),
            sorted(&[&member, &reader]),
            "what is inherited from a project does not hold on itself"
        );
        assert_eq!(effective(&child), sorted(&[&manager, &member, &reader]));
        let direct = cloud
            .get(&format!("/v3/role_assignments?user.id={}", id(&user)), &admin)
            .expect(200);
        assert_eq!(direct["role_assignments"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn immutable_objects_stay() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let member = cloud.role(&admin, "member");
        let refused = cloud.call(Method::DELETE, &format!("/v3/roles/{member}"), &admin, None);
        assert_eq!(refused.status, 403);
        assert!(refused.text().starts_with("Unable to delete immutable role resource"));
        cloud
            .call(
                Method::PATCH,
                &format!("/v3/roles/{member}"),
                &admin,
                Some(json!({"role": {"name": "x"}})),
            )
            .expect(403);
    });
}

#[test]
fn a_domain_takes_everything_with_it() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let domain = cloud.create("/v3/domains", &admin, "domain", json!({"name": "d"}));
        let d = id(&domain).to_owned();
        let project = cloud.create("/v3/projects", &admin, "project", json!({"name": "p", "domain_id": d}));
        cloud.create(
            "/v3/projects",
            &admin,
            "project",
            json!({"name": "c", "domain_id": d, "parent_id": id(&project)}),
        );
        let user = cloud.create("/v3/users", &admin, "user", json!({"name": "u", "domain_id": d}));
        let group = cloud.create("/v3/groups", &admin, "group", json!({"name": "g", "domain_id": d}));
        let path = format!("/v3/domains/{d}");
        let refused = cloud.call(Method::DELETE, &path, &admin, None);
        assert_eq!(
            (refused.status, refused.text()),
            (403, "Cannot delete a domain that is enabled, please disable it first.")
        );
        cloud
            .call(
                Method::PATCH,
                &path,
                &admin,
                Some(json!({"domain": {"enabled": false}})),
            )
            .expect(200);
        cloud.call(Method::DELETE, &path, &admin, None).expect(204);
        for gone in [
            path,
            format!("/v3/projects/{}", id(&project)),
            format!("/v3/users/{}", id(&user)),
            format!("/v3/groups/{}", id(&group)),
        ] {
            cloud.get(&gone, &admin).expect(404);
        }
    });
}

/// Walks every route: nobody gets in without a token, and a user without a role gets nothing but what everybody may have.
#[test]
fn no_route_is_open_by_mistake() {
    let db = database::Database::temporary().unwrap();
    db.migrate(&[MIGRATIONS]).unwrap();
    let cloud = Cloud::new(db);
    let admin = cloud.admin();
    cloud.create(
        "/v3/users",
        &admin,
        "user",
        json!({"name": "stranger", "password": "pw"}),
    );
    let stranger = cloud.token("stranger", "pw", Value::Null);
    let public = [
        "/",
        "/v3",
        "/v3/auth/tokens",
        "/v3/users/{user_id}/password",
        "/v3/OS-OAUTH1/request_token",
        "/v3/OS-OAUTH1/access_token",
        "/v3/auth/tokens/OS-PKI/revoked",
        "/v3/OS-SIMPLE-CERT/ca",
        "/v3/OS-SIMPLE-CERT/certificates",
        "/v3/OS-OAUTH2/token",
    ];
    let for_everybody = [
        "/v3/auth/projects",
        "/v3/auth/domains",
        "/v3/auth/system",
        "/v3/OS-FEDERATION/projects",
        "/v3/OS-FEDERATION/domains",
        "/v3/regions",
        "/v3/registered_limits",
        "/v3/limits",
        "/v3/limits/model",
        "/v3/credentials",
    ];
    for (method, path, open) in identity::api::routes().list() {
        if open {
            assert!(public.contains(&path), "{method} {path} needs no token");
            continue;
        }
        let concrete = path.replace(['{', '}'], "");
        assert_eq!(
            cloud.call_with(method.clone(), &concrete, &[], None).status,
            401,
            "{method} {path} without a token"
        );
        let answer = cloud.call(method.clone(), &concrete, &stranger, Some(json!({})));
        let fine = (400..500).contains(&answer.status) || (*method == Method::GET && for_everybody.contains(&path));
        assert!(
            fine,
            "{method} {path} answers a stranger {} {}",
            answer.status, answer.body
        );
    }
}
