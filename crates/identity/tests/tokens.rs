//! What makes a token, and what ends it at once.

mod support;

use api::{Authenticator, Method};
use database::testing::on_both;
use identity::MIGRATIONS;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{Cloud, PASSWORD, id};

/// A user `ann` with the role `member` on a project `shop`.
fn ann(cloud: &Cloud, admin: &str) -> (String, String, String) {
    let project = cloud.create(
        "/v3/projects",
        admin,
        "project",
        json!({"name": "shop", "domain_id": "default"}),
    );
    let user = cloud.create(
        "/v3/users",
        admin,
        "user",
        json!({"name": "ann", "password": "pw", "domain_id": "default"}),
    );
    let member = cloud.role(admin, "member");
    cloud.put(
        &format!("/v3/projects/{}/users/{}/roles/{member}", id(&project), id(&user)),
        admin,
    );
    let scope = json!({"project": {"id": id(&project)}});
    (id(&user).into(), id(&project).into(), cloud.token("ann", "pw", scope))
}

#[test]
fn a_token_shows_its_scope_roles_and_catalog() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let (_, project, token) = ann(&cloud, &admin);
        let shown = cloud.validate(&admin, &token).expect(200)["token"].clone();
        assert_eq!(shown["project"]["id"], json!(project));
        assert_eq!(
            support::names(&shown["roles"]),
            ["member", "reader"],
            "implied roles are there"
        );
        assert_eq!(shown["catalog"][0]["type"], "identity");
        assert_eq!(shown["methods"], json!(["password"]));
        let system = cloud.token("admin", PASSWORD, json!({"system": {"all": true}}));
        assert_eq!(
            cloud.validate(&system, &system).expect(200)["token"]["system"],
            json!({"all": true})
        );
        let unscoped = cloud.login("ann", "pw", json!({"unscoped": {}})).expect(201);
        assert!(unscoped["token"].get("project").is_none() && unscoped["token"].get("roles").is_none());
    });
}

#[test]
fn a_token_ends_when_what_it_stands_on_ends() {
    let changes: &[(&str, fn(&Cloud, &str, &str, &str, &str))] = &[
        ("revoked", |cloud, admin, _, _, token| {
            cloud
                .call_with(
                    Method::DELETE,
                    "/v3/auth/tokens",
                    &[("x-auth-token", admin), ("x-subject-token", token)],
                    None,
                )
                .expect(204);
        }),
        ("role taken away", |cloud, admin, user, project, _| {
            let member = cloud.role(admin, "member");
            cloud
                .call(
                    Method::DELETE,
                    &format!("/v3/projects/{project}/users/{user}/roles/{member}"),
                    admin,
                    None,
                )
                .expect(204);
        }),
        ("project disabled", |cloud, admin, _, project, _| {
            cloud
                .call(
                    Method::PATCH,
                    &format!("/v3/projects/{project}"),
                    admin,
                    Some(json!({"project": {"enabled": false}})),
                )
                .expect(200);
        }),
        ("project deleted", |cloud, admin, _, project, _| {
            cloud
                .call(Method::DELETE, &format!("/v3/projects/{project}"), admin, None)
                .expect(204);
        }),
        ("user disabled", |cloud, admin, user, _, _| {
            cloud
                .call(
                    Method::PATCH,
                    &format!("/v3/users/{user}"),
                    admin,
                    Some(json!({"user": {"enabled": false}})),
                )
                .expect(200);
        }),
        ("user deleted", |cloud, admin, user, _, _| {
            cloud
                .call(Method::DELETE, &format!("/v3/users/{user}"), admin, None)
                .expect(204);
        }),
        ("password reset", |cloud, admin, user, _, _| {
            cloud
                .call(
                    Method::PATCH,
                    &format!("/v3/users/{user}"),
                    admin,
                    Some(json!({"user": {"password": "new"}})),
                )
                .expect(200);
        }),
        ("password changed", |cloud, _, user, _, _| {
            let body = json!({"user": {"original_password": "pw", "password": "other"}});
            cloud
                .call_with(Method::POST, &format!("/v3/users/{user}/password"), &[], Some(body))
                .expect(204);
        }),
        ("all tokens of the user revoked", |cloud, admin, user, _, _| {
            cloud
                .call(Method::DELETE, &format!("/v3/users/{user}/tokens"), admin, None)
                .expect(204);
        }),
    ];
    for (what, change) in changes {
        on_both(&[MIGRATIONS], |db| {
            let cloud = Cloud::new(db);
            let admin = cloud.admin();
            let (user, project, token) = ann(&cloud, &admin);
            cloud.get("/v3/auth/projects", &token).expect(200);
            change(&cloud, &admin, &user, &project, &token);
            assert_eq!(
                cloud.get("/v3/auth/projects", &token).status,
                401,
                "{what}: the token is still accepted"
            );
            assert_eq!(
                cloud.validate(&admin, &token).status,
                404,
                "{what}: the token still validates"
            );
        });
    }
}

#[test]
fn a_token_may_be_exchanged_but_keeps_its_end_and_its_ancestry() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let (_, project, token) = ann(&cloud, &admin);
        let by_token = |scope: Value| {
            let auth = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": scope}});
            cloud.call_with(Method::POST, "/v3/auth/tokens", &[], Some(auth))
        };
        let first = cloud.validate(&admin, &token).expect(200)["token"].clone();
        let second = by_token(json!({"project": {"id": project}})).expect(201)["token"].clone();
        assert_eq!(second["expires_at"], first["expires_at"]);
        assert_eq!(second["audit_ids"][1], first["audit_ids"][0]);
        assert_eq!(
            by_token(json!({"domain": {"id": "default"}})).status,
            401,
            "no role on the domain"
        );
        let system = cloud.token("admin", PASSWORD, json!({"system": {"all": true}}));
        let auth = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": system}}, "scope": {"project": {"id": project}}}});
        cloud
            .call_with(Method::POST, "/v3/auth/tokens", &[], Some(auth))
            .expect(403);
    });
}

#[test]
fn who_fails_too_often_waits() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::with(db, |config| {
            config.security_compliance.lockout_failure_attempts = Some(2);
            config.security_compliance.lockout_duration = 1;
        });
        let admin = cloud.admin();
        ann(&cloud, &admin);
        for _ in 0..2 {
            cloud.login("ann", "wrong", Value::Null).expect(401);
        }
        assert_eq!(
            cloud.login("ann", "pw", Value::Null).status,
            401,
            "the right password does not help a locked account"
        );
        let start = Instant::now();
        while cloud.login("ann", "pw", Value::Null).status == 401 {
            assert!(start.elapsed() < Duration::from_secs(20), "the account stays locked");
            std::thread::yield_now();
        }
        assert!(start.elapsed() > Duration::from_millis(500));
    });
}

#[test]
fn passwords_are_not_used_again_too_soon() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::with(db, |config| config.security_compliance.unique_last_password_count = 2);
        let admin = cloud.admin();
        let (user, _, _) = ann(&cloud, &admin);
        let change = |old: &str, new: &str| {
            let body = json!({"user": {"original_password": old, "password": new}});
            cloud.call_with(Method::POST, &format!("/v3/users/{user}/password"), &[], Some(body))
        };
        change("pw", "second").expect(204);
        let refused = change("second", "pw");
        assert_eq!(refused.status, 400);
        assert!(
            refused
                .text()
                .starts_with("The new password cannot be identical to a previous password.")
        );
        change("second", "third").expect(204);
        change("third", "pw").expect(204);
        change("wrong", "x").expect(401);
    });
}

#[test]
fn trusts_application_credentials_and_oauth_delegate_no_more_than_they_should() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let (user, project, token) = ann(&cloud, &admin);
        let bob = cloud.create(
            "/v3/users",
            &admin,
            "user",
            json!({"name": "bob", "password": "pw", "domain_id": "default"}),
        );
        let reader = cloud.role(&admin, "reader");

        let trust = json!({"trustor_user_id": user, "trustee_user_id": id(&bob), "impersonation": false, "project_id": project,
            "roles": [{"id": reader}], "remaining_uses": 1});
        let trust = cloud.create("/v3/OS-TRUST/trusts", &token, "trust", trust);
        let by_trust = || cloud.login("bob", "pw", json!({"OS-TRUST:trust": {"id": id(&trust)}}));
        assert_eq!(support::names(&by_trust().expect(201)["token"]["roles"]), ["reader"]);
        assert_eq!(by_trust().status, 401, "it was good for one use");

        let path = format!("/v3/users/{user}/application_credentials");
        let credential = cloud.create(
            &path,
            &token,
            "application_credential",
            json!({"name": "ci", "roles": [{"name": "reader"}]}),
        );
        let auth = |secret: &Value| {
            let by = json!({"id": credential["id"], "secret": secret});
            let auth =
                json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": by}}});
            cloud.call_with(Method::POST, "/v3/auth/tokens", &[], Some(auth))
        };
        let answer = auth(&credential["secret"]);
        let restricted = answer.headers["x-subject-token"].to_str().unwrap().to_owned();
        let shown = answer.expect(201)["token"].clone();
        assert_eq!(support::names(&shown["roles"]), ["reader"]);
        assert_eq!(shown["application_credential"]["restricted"], true);
        auth(&json!("wrong")).expect(401);
        let again = json!({"application_credential": {"name": "more"}});
        cloud.call(Method::POST, &path, &restricted, Some(again)).expect(403);
    });
}

#[test]
fn a_known_token_is_checked_in_memory() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let mut took: Vec<Duration> = (0..2001)
            .map(|_| {
                let started = Instant::now();
                assert!(cloud.identity.authenticate(&admin).is_ok());
                started.elapsed()
            })
            .collect();
        took.sort_unstable();
        assert!(took[1000] < Duration::from_micros(150), "median {:?}", took[1000]);
    });
}

#[test]
fn access_rules_bind_an_application_credential() {
    on_both(&[MIGRATIONS], |db| {
        let cloud = Cloud::new(db);
        let admin = cloud.admin();
        let (user, _, token) = ann(&cloud, &admin);
        let rule = json!({"service": "compute", "method": "GET", "path": "/v2.1/servers/{server_id}"});
        let credential = cloud.create(
            &format!("/v3/users/{user}/application_credentials"),
            &token,
            "application_credential",
            json!({"name": "looker", "access_rules": [rule]}),
        );
        let auth = json!({"identity": {"methods": ["application_credential"], "application_credential": {
            "id": credential["id"], "secret": credential["secret"],
        }}});
        let answer = cloud.call_with(Method::POST, "/v3/auth/tokens", &[], Some(json!({"auth": auth})));
        assert_eq!(answer.status, 201, "{}", answer.body);
        let restricted = answer.headers["x-subject-token"].to_str().unwrap().to_owned();
        let context = cloud.identity.authenticate(&restricted).unwrap();
        let admits = |service, method: Method, path| cloud.identity.admits(&context, service, &method, path);
        assert!(admits("compute", Method::GET, "/v2.1/servers/x"));
        assert!(!admits("compute", Method::DELETE, "/v2.1/servers/x"));
        assert!(!admits("network", Method::GET, "/v2.0/networks"));
        cloud.get("/v3/auth/projects", &restricted).expect(401);
        // Only who says that it minds access rules is shown such a token.
        cloud.validate(&restricted, &restricted).expect(404);
        let headers = [
            ("x-auth-token", &*restricted),
            ("x-subject-token", &*restricted),
            ("openstack-identity-access-rules", "1.0"),
        ];
        cloud
            .call_with(Method::GET, "/v3/auth/tokens", &headers, None)
            .expect(200);
    });
}
