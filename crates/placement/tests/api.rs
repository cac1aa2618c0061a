//! The API as a client meets it, on both databases.

use std::sync::Arc;

use api::{AuthFailure, Authenticator, Body, Context, HeaderMap, Method, Service};
use database::testing::on_both;
use placement::Placement;
use serde_json::{Value, json};

/// `admin` may do everything, any other token is a member of the project of that name.
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        let mut context = Context::internal_for(token);
        if token != "admin" {
            context.credentials.roles = vec!["member".into(), "reader".into()];
            context.credentials.is_admin = false;
        }
        Ok(Arc::new(context))
    }
}

struct Client {
    service: Service,
    version: &'static str,
    token: &'static str,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    fn detail(&self) -> String {
        self.json()["errors"][0]["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Client {
    fn at(&self, version: &'static str) -> Client {
        Client {
            service: self.service.clone(),
            version,
            token: self.token,
        }
    }

    fn as_user(&self, token: &'static str) -> Client {
        Client {
            service: self.service.clone(),
            version: self.version,
            token,
        }
    }

    fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", self.token.parse().unwrap());
        headers.insert(
            "openstack-api-version",
            format!("placement {}", self.version).parse().unwrap(),
        );
        if body.is_some() {
            headers.insert("content-type", "application/json".parse().unwrap());
        }
        let mut request = Service::head(method, path, query, headers, "http://host/placement".into(), None);
        request.body = body.map(|body| body.to_string().into()).unwrap_or_default();
        let response = self.service.call(request);
        let text = match response.body {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            _ => String::new(),
        };
        Answer {
            status: response.status.as_u16(),
            headers: response.headers,
            text,
        }
    }

    fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None)
    }

    fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, Some(body))
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body))
    }

    fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None)
    }

    fn provider(&self, uuid: &str, name: &str, inventories: Value) {
        let made = self.post("/resource_providers", json!({"uuid": uuid, "name": name}));
        assert_eq!(made.status, 200, "{}", made.text);
        let body = json!({"resource_provider_generation": 0, "inventories": inventories});
        assert_eq!(
            self.put(&format!("/resource_providers/{uuid}/inventories"), body)
                .status,
            200
        );
    }
}

fn with_service(test: impl Fn(Client)) {
    on_both(&[placement::MIGRATIONS], |database| {
        let placement = Placement::new(database, None).unwrap();
        let service = placement.service(Arc::new(Tokens), "http://identity");
        test(Client {
            service,
            version: "1.39",
            token: "admin",
        });
    });
}

const HOST: &str = "2a9f1b80-1f53-4c2e-8a3f-0d1c2b3a4f50";
const SERVER: &str = "6d6d0a3c-5f0e-4cb6-a7f4-3f4c2b1a0987";

fn allocation(amount: u64, generation: Value) -> Value {
    json!({
        "allocations": {HOST: {"resources": {"VCPU": amount}}}, "project_id": "p", "user_id": "u",
        "consumer_generation": generation, "consumer_type": "INSTANCE",
    })
}

#[test]
fn allocations_never_exceed_the_capacity() {
    with_service(|client| {
        client.provider(HOST, "host", json!({"VCPU": {"total": 4, "max_unit": 4}}));
        let path = format!("/allocations/{SERVER}");
        assert_eq!(client.put(&path, allocation(3, Value::Null)).status, 204);
        let other = "/allocations/7d6d0a3c-5f0e-4cb6-a7f4-3f4c2b1a0987";
        let refused = client.put(other, allocation(2, Value::Null));
        assert_eq!(refused.status, 409);
        assert!(
            refused
                .detail()
                .contains("The requested amount would exceed the capacity."),
            "{}",
            refused.text
        );
        let wrong = client.put(other, allocation(5, Value::Null));
        assert!(
            wrong.detail().contains("would violate inventory constraints"),
            "{}",
            wrong.text
        );
        let usages = client.get(&format!("/resource_providers/{HOST}/usages")).json();
        assert_eq!(usages["usages"], json!({"VCPU": 3}));
        assert_eq!(usages["resource_provider_generation"], 2);
        let conflict = client.put(&path, allocation(1, Value::Null));
        assert_eq!(conflict.json()["errors"][0]["code"], "placement.concurrent_update");
        assert_eq!(client.put(&path, allocation(1, json!(1))).status, 204);
        let held = client.get(&path).json();
        assert_eq!(held["consumer_generation"], 2);
        assert_eq!(held["allocations"][HOST]["resources"], json!({"VCPU": 1}));
        assert_eq!(client.delete(&path).status, 204);
        assert_eq!(client.delete(&path).status, 404);
        assert_eq!(client.get(&path).json(), json!({"allocations": {}}));
    });
}

#[test]
fn overfull_inventories_may_be_handed_back_in_part() {
    with_service(|client| {
        client.provider(HOST, "host", json!({"VCPU": {"total": 8}}));
        let path = format!("/allocations/{SERVER}");
        assert_eq!(client.put(&path, allocation(6, Value::Null)).status, 204);
        let body = json!({"resource_provider_generation": 2, "inventories": {"VCPU": {"total": 2}}});
        assert_eq!(
            client
                .put(&format!("/resource_providers/{HOST}/inventories"), body)
                .status,
            200
        );
        assert_eq!(client.put(&path, allocation(4, json!(1))).status, 204);
        assert_eq!(client.put(&path, allocation(5, json!(2))).status, 409);
    });
}

#[test]
fn what_is_in_use_stays() {
    with_service(|client| {
        client.provider(HOST, "host", json!({"VCPU": {"total": 4}, "DISK_GB": {"total": 10}}));
        client.put(&format!("/allocations/{SERVER}"), allocation(1, Value::Null));
        let gone = client.delete(&format!("/resource_providers/{HOST}"));
        assert_eq!(
            (gone.status, gone.json()["errors"][0]["code"].clone()),
            (409, json!("placement.resource_provider.inuse"))
        );
        let gone = client.delete(&format!("/resource_providers/{HOST}/inventories/VCPU"));
        assert_eq!(gone.status, 409);
        assert!(
            gone.detail()
                .contains(&format!("Inventory for 'VCPU' on resource provider '{HOST}' in use."))
        );
        assert_eq!(
            client
                .delete(&format!("/resource_providers/{HOST}/inventories/DISK_GB"))
                .status,
            204
        );
        assert_eq!(
            client
                .delete(&format!("/resource_providers/{HOST}/inventories/DISK_GB"))
                .status,
            404
        );
    });
}

#[test]
fn trees_are_kept_trees() {
    with_service(|client| {
        let child = "3a9f1b80-1f53-4c2e-8a3f-0d1c2b3a4f50";
        client.provider(HOST, "host", json!({}));
        let body = json!({"uuid": child, "name": "child", "parent_provider_uuid": HOST});
        let made = client.post("/resource_providers", body);
        assert_eq!(made.json()["root_provider_uuid"], HOST);
        assert_eq!(
            made.headers["location"],
            format!("http://host/placement/resource_providers/{child}")
        );
        let twice = client.post("/resource_providers", json!({"name": "child"}));
        assert!(
            twice
                .detail()
                .contains("Conflicting resource provider name: child already exists.")
        );
        let gone = client.delete(&format!("/resource_providers/{HOST}"));
        assert_eq!(
            gone.json()["errors"][0]["code"],
            "placement.resource_provider.cannot_delete_parent"
        );
        let path = format!("/resource_providers/{HOST}");
        let looped = client.put(&path, json!({"name": "host", "parent_provider_uuid": child}));
        assert_eq!(looped.status, 400);
        assert!(
            looped
                .detail()
                .contains("creating loop in the provider tree is not allowed.")
        );
        let path = format!("/resource_providers/{child}");
        let away = json!({"name": "child", "parent_provider_uuid": null});
        assert_eq!(client.at("1.36").put(&path, away.clone()).status, 400);
        assert_eq!(client.put(&path, away).json()["root_provider_uuid"], child);
        let listed = client.get(&format!("/resource_providers?in_tree={HOST}")).json();
        assert_eq!(listed["resource_providers"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn answers_follow_the_microversion() {
    with_service(|client| {
        client.provider(HOST, "host", json!({"VCPU": {"total": 4}}));
        let path = format!("/resource_providers/{HOST}");
        let old = client.at("1.0").get(&path);
        assert!(old.json().get("root_provider_uuid").is_none());
        assert_eq!(old.json()["links"].as_array().unwrap().len(), 3);
        assert!(old.headers.get("last-modified").is_none());
        let new = client.get(&path);
        assert_eq!(new.headers["cache-control"], "no-cache");
        assert_eq!(new.headers["openstack-api-version"], "placement 1.39");
        assert_eq!(client.at("1.5").get("/traits").status, 404);
        assert_eq!(client.at("1.4").delete(&format!("{path}/inventories")).status, 405);
        let unknown = client.at("1.40").get(&path);
        assert_eq!(unknown.status, 406);
        assert_eq!(unknown.json()["errors"][0]["max_version"], "1.39");
        assert!(
            client.at("1.22").get("/resource_providers/x").json()["errors"][0]
                .get("code")
                .is_none()
        );
        let missing = client.get("/resource_providers/x").json();
        assert_eq!(missing["errors"][0]["code"], "placement.undefined_code");
        assert_eq!(
            missing["errors"][0]["detail"],
            "The resource could not be found.\n\n No resource provider with uuid x found  "
        );
    });
}

#[test]
fn bodies_are_checked_in_upstreams_words() {
    with_service(|client| {
        let wrong = client.post("/resource_providers", json!({"name": 1}));
        assert_eq!(wrong.status, 400);
        assert!(
            wrong
                .detail()
                .contains("JSON does not validate: 1 is not of type 'string'  Failed validating 'type'"),
            "{}",
            wrong.detail()
        );
        let text = client.call(Method::POST, "/resource_providers", None);
        assert_eq!(text.status, 415);
        let odd = client.get("/resource_providers?colour=red");
        assert!(
            odd.detail()
                .contains("Additional properties are not allowed ('colour' was unexpected)")
        );
        assert_eq!(client.call(Method::PUT, "/traits/HW_X", None).status, 400);
        assert_eq!(client.call(Method::PUT, "/traits/CUSTOM_X", None).status, 201);
        assert_eq!(client.call(Method::PUT, "/traits/CUSTOM_X", None).status, 204);
        assert_eq!(client.call(Method::PUT, "/resource_classes/CUSTOM_A", None).status, 201);
        assert_eq!(client.delete("/resource_classes/VCPU").status, 400);
    });
}

#[test]
fn strangers_are_kept_out() {
    with_service(|client| {
        let user = client.as_user("p");
        for path in [
            "/resource_providers",
            "/traits",
            "/allocation_candidates?resources=VCPU:1",
            "/resource_classes",
        ] {
            let refused = user.get(path);
            assert_eq!(refused.status, 403, "{path}");
            assert!(
                refused.detail().contains("Policy does not allow placement:"),
                "{}",
                refused.text
            );
        }
        assert_eq!(user.get("/usages?project_id=p").status, 200);
        assert_eq!(user.get("/usages?project_id=q").status, 403);
        assert_eq!(user.post("/reshaper", json!({})).status, 403);
    });
}

#[test]
fn candidates_can_be_sent_back_as_allocations() {
    with_service(|client| {
        client.provider(
            HOST,
            "host",
            json!({"VCPU": {"total": 4}, "MEMORY_MB": {"total": 1024}}),
        );
        let found = client
            .get("/allocation_candidates?resources=VCPU:1,MEMORY_MB:512")
            .json();
        assert_eq!(found["allocation_requests"].as_array().unwrap().len(), 1);
        assert_eq!(
            found["provider_summaries"][HOST]["resources"]["VCPU"],
            json!({"capacity": 4, "used": 0})
        );
        let mut body = found["allocation_requests"][0].clone();
        for (key, value) in [
            ("project_id", json!("p")),
            ("user_id", json!("u")),
            ("consumer_generation", Value::Null),
            ("consumer_type", json!("INSTANCE")),
        ] {
            body[key] = value;
        }
        assert_eq!(client.put(&format!("/allocations/{SERVER}"), body).status, 204);
        let usages = client.get("/usages?project_id=p").json();
        assert_eq!(
            usages["usages"]["INSTANCE"],
            json!({"VCPU": 1, "MEMORY_MB": 512, "consumer_count": 1})
        );
        assert_eq!(
            client.get("/allocation_candidates?resources=VCPU:4").json()["allocation_requests"],
            json!([])
        );
    });
}

#[test]
fn inventories_move_with_their_allocations() {
    with_service(|client| {
        let child = "3a9f1b80-1f53-4c2e-8a3f-0d1c2b3a4f50";
        client.provider(HOST, "host", json!({"VCPU": {"total": 4}}));
        client.provider(child, "child", json!({}));
        client.put(&format!("/allocations/{SERVER}"), allocation(2, Value::Null));
        let moved = json!({
            "inventories": {
                HOST: {"resource_provider_generation": 2, "inventories": {}},
                child: {"resource_provider_generation": 1, "inventories": {"VCPU": {"total": 4}}},
            },
            "allocations": {SERVER: {
                "allocations": {child: {"resources": {"VCPU": 2}}}, "project_id": "p", "user_id": "u",
                "consumer_generation": 1, "consumer_type": "INSTANCE",
            }},
        });
        let answer = client.post("/reshaper", moved);
        assert_eq!(answer.status, 204, "{}", answer.text);
        let held = client.get(&format!("/allocations/{SERVER}")).json();
        assert_eq!(held["allocations"][child]["resources"], json!({"VCPU": 2}));
        assert_eq!(
            client.get(&format!("/resource_providers/{HOST}/usages")).json()["usages"],
            json!({})
        );
    });
}
