//! The API as clients meet it: over HTTP, with data.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use api::server::{Mount, Mounts, serve};
use api::{AuthFailure, Authenticator, Context};
use database::Database;
use serde_json::{Value, json};

/// `admin` may do everything; `reader:p` reads project p; any other token is a member of the project of that name.
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate(&self, token: &str) -> Result<Arc<Context>, AuthFailure> {
        let (role, project) = token.split_once(':').unwrap_or(("member", token));
        let mut context = Context::internal_for(project);
        if token == "nobody" {
            return Err(AuthFailure::Invalid);
        }
        if token != "admin" {
            context.credentials.is_admin = false;
            context.credentials.roles = vec![role.into(), "reader".into()];
        }
        Ok(Arc::new(context))
    }
}

struct Cloud {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    _stop: tokio::sync::watch::Sender<bool>,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v)
        })
    }
}

impl Cloud {
    fn start() -> Cloud {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::temporary().unwrap();
        database.migrate(&[image::MIGRATIONS]).unwrap();
        let config = image::Config {
            folder: folder.path().to_owned(),
            size_cap: 1 << 20,
            ..image::Config::default()
        };
        let images = image::Image::new(database, config, None).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let service = images.service(Arc::new(Tokens), "http://identity");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(
            listener,
            Mounts::new(vec![Mount {
                prefix: String::new(),
                service,
            }]),
            stopped,
        ));
        Cloud {
            address,
            folder,
            _runtime: runtime,
            _stop: stop,
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }

    fn send(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: cloud\r\nconnection: close\r\n");
        if !token.is_empty() {
            head.push_str(&format!("x-auth-token: {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // The server may answer, and hang up, before it has read everything.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("an answer has a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = answer[end + 4..].to_vec();
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Answer { status, head, body }
    }

    fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, "GET", path, &[], b"")
    }

    fn json(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.send(
            token,
            method,
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    fn create(&self, token: &str, extra: Value) -> String {
        let mut body = json!({"name": "i", "disk_format": "raw", "container_format": "bare"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let made = self.json(token, "POST", "/v2/images", &body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_str().unwrap().to_owned()
    }

    fn upload(&self, token: &str, id: &str, data: &[u8]) -> Answer {
        let octets = [("content-type", "application/octet-stream")];
        self.send(token, "PUT", &format!("/v2/images/{id}/file"), &octets, data)
    }

    fn patch(&self, token: &str, id: &str, body: &Value) -> Answer {
        let media = [("content-type", "application/openstack-images-v2.1-json-patch")];
        self.send(
            token,
            "PATCH",
            &format!("/v2/images/{id}"),
            &media,
            body.to_string().as_bytes(),
        )
    }

    fn ids(&self, token: &str, query: &str) -> Vec<String> {
        let listed = self.get(token, &format!("/v2/images{query}"));
        assert_eq!(listed.status, 200, "{}", listed.text());
        let images = listed.json()["images"].as_array().unwrap().clone();
        images
            .iter()
            .map(|image| image["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        out.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    out
}

#[test]
fn data_goes_in_and_comes_out_with_its_hashes() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({}));
    assert_eq!(cloud.get("p", &format!("/v2/images/{id}/file")).status, 204);
    let stored = cloud.upload("p", &id, b"hello");
    assert_eq!(stored.status, 204, "{}", stored.text());
    let image = cloud.get("p", &format!("/v2/images/{id}")).json();
    assert_eq!(image["status"], "active");
    assert_eq!(image["size"], 5);
    assert_eq!(image["checksum"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(image["os_hash_algo"], "sha512");
    let data = cloud.get("p", &format!("/v2/images/{id}/file"));
    assert_eq!((data.status, data.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(data.header("content-md5"), Some("5d41402abc4b2a76b9719d911017c592"));
    assert_eq!(data.header("content-length"), Some("5"));
    let part = cloud.send(
        "p",
        "GET",
        &format!("/v2/images/{id}/file"),
        &[("range", "bytes=1-3")],
        b"",
    );
    assert_eq!((part.status, part.body.as_slice()), (206, b"ell".as_slice()));
    assert_eq!(part.header("content-range"), Some("bytes 1-3/5"));
    let beyond = cloud.send(
        "p",
        "GET",
        &format!("/v2/images/{id}/file"),
        &[("range", "bytes=5-")],
        b"",
    );
    assert_eq!(beyond.status, 416);
    let again = cloud.upload("p", &id, b"again");
    assert_eq!(again.status, 409);
    assert!(
        again
            .text()
            .contains("Image status transition from active to saving is not allowed")
    );
    assert_eq!(
        cloud.send("p", "DELETE", &format!("/v2/images/{id}"), &[], b"").status,
        204
    );
    assert!(cloud.files().is_empty());
}

#[test]
fn data_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({"disk_format": "qcow2"}));
    let refused = cloud.upload("p", &id, b"this is no qcow2");
    assert_eq!(refused.status, 415);
    assert!(
        refused
            .text()
            .contains("Image disk_format qcow2 does not match stream data raw"),
        "{}",
        refused.text()
    );
    let big = cloud.upload("p", &id, &vec![0; (1 << 20) + 1]);
    assert_eq!(big.status, 413);
    let kind = cloud.send(
        "p",
        "PUT",
        &format!("/v2/images/{id}/file"),
        &[("content-type", "text/plain")],
        b"x",
    );
    assert_eq!(kind.status, 415);
    assert_eq!(cloud.get("p", &format!("/v2/images/{id}")).json()["status"], "queued");
    assert!(cloud.files().is_empty());
    let bare = cloud.json("p", "POST", "/v2/images", &json!({"name": "x"})).json();
    let early = cloud.upload("p", bare["id"].as_str().unwrap(), b"x");
    assert_eq!(early.status, 400);
    assert!(
        early
            .text()
            .contains("Properties disk_format, container_format must be set prior to saving data.")
    );
}

#[test]
fn a_client_that_hangs_up_leaves_nothing() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({}));
    let mut stream = TcpStream::connect(cloud.address).unwrap();
    let head = format!(
        "PUT /v2/images/{id}/file HTTP/1.1\r\nhost: cloud\r\nx-auth-token: p\r\ncontent-type: application/octet-stream\r\ncontent-length: 1000\r\n\r\nhalf"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let status = || {
        cloud.get("p", &format!("/v2/images/{id}")).json()["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let until = |wanted: &str| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while status() != wanted {
            assert!(std::time::Instant::now() < end, "still {}", status());
            std::thread::yield_now();
        }
    };
    until("saving");
    drop(stream);
    until("queued");
    assert!(cloud.files().is_empty());
    assert_eq!(cloud.upload("p", &id, b"whole").status, 204);
}

#[test]
fn who_sees_what() {
    let cloud = Cloud::start();
    let private = cloud.create("p", json!({"visibility": "private"}));
    let shared = cloud.create("p", json!({}));
    let public = cloud.create("admin", json!({"visibility": "public"}));
    let community = cloud.create("p", json!({"visibility": "community"}));
    let refused = cloud.json("p", "POST", "/v2/images", &json!({"visibility": "public"}));
    assert_eq!(refused.status, 403);
    assert!(
        refused
            .text()
            .contains("You are not authorized to complete publicize_image action.")
    );
    assert_eq!(cloud.ids("q", ""), [public.clone()]);
    assert_eq!(cloud.ids("q", "?visibility=community"), [community.clone()]);
    assert_eq!(cloud.get("q", &format!("/v2/images/{private}")).status, 404);
    assert_eq!(cloud.get("q", &format!("/v2/images/{community}")).status, 200);
    let foreign = cloud.patch("q", &public, &json!([{"op": "replace", "path": "/name", "value": "x"}]));
    assert_eq!(foreign.status, 403);
    let members = format!("/v2/images/{shared}/members");
    assert_eq!(
        cloud.json("p", "POST", &members, &json!({"member": "q"})).json()["status"],
        "pending"
    );
    assert_eq!(cloud.json("p", "POST", &members, &json!({"member": "q"})).status, 409);
    assert_eq!(cloud.get("q", &format!("/v2/images/{shared}")).status, 200);
    assert!(!cloud.ids("q", "").contains(&shared));
    assert_eq!(
        cloud
            .json("p", "PUT", &format!("{members}/q"), &json!({"status": "accepted"}))
            .status,
        403
    );
    assert_eq!(
        cloud
            .json("q", "PUT", &format!("{members}/q"), &json!({"status": "maybe"}))
            .status,
        400
    );
    assert_eq!(
        cloud
            .json("q", "PUT", &format!("{members}/q"), &json!({"status": "accepted"}))
            .status,
        200
    );
    assert!(cloud.ids("q", "").contains(&shared));
    assert_eq!(cloud.get("r", &members).status, 404);
    assert_eq!(cloud.send("q", "DELETE", &format!("{members}/q"), &[], b"").status, 403);
    assert_eq!(cloud.send("p", "DELETE", &format!("{members}/q"), &[], b"").status, 204);
    assert_eq!(cloud.get("q", &format!("/v2/images/{shared}")).status, 404);
    assert_eq!(
        cloud
            .json("reader:p", "POST", "/v2/images", &json!({"name": "x"}))
            .status,
        403
    );
}

#[test]
fn lists_filter_sort_and_page() {
    let cloud = Cloud::start();
    let a = cloud.create("p", json!({"name": "a", "tags": ["x", "y"], "os_distro": "debian"}));
    let b = cloud.create("p", json!({"name": "b", "tags": ["x"], "min_ram": 64}));
    let c = cloud.create("p", json!({"name": "c,d", "os_hidden": true}));
    assert_eq!(cloud.ids("p", ""), [b.clone(), a.clone()]);
    assert_eq!(cloud.ids("p", "?sort=name:asc"), [a.clone(), b.clone()]);
    assert_eq!(cloud.ids("p", "?os_hidden=true"), [c.clone()]);
    assert_eq!(cloud.ids("p", "?tag=x&tag=y"), [a.clone()]);
    assert_eq!(cloud.ids("p", "?os_distro=debian"), [a.clone()]);
    assert_eq!(cloud.ids("p", "?name=in:%22c,d%22,a"), [a.clone()]);
    assert_eq!(cloud.ids("p", "?min_ram=64"), [b.clone()]);
    assert_eq!(
        cloud.ids("p", "?created_at=lt:2020-01-01T00:00:00Z"),
        Vec::<String>::new()
    );
    let page = cloud.get("p", "/v2/images?limit=1&sort=name:asc").json();
    assert_eq!(page["first"], "/v2/images?limit=1&sort=name%3Aasc");
    let next = page["next"].as_str().unwrap();
    assert_eq!(next, format!("/v2/images?limit=1&sort=name%3Aasc&marker={a}"));
    assert_eq!(cloud.get("p", next).json()["images"][0]["id"], b.as_str());
    assert_eq!(
        cloud
            .get("p", "/v2/images?marker=5a3a8f0e-0b5c-4b0e-9c1f-1f2b3c4d5e6f")
            .status,
        400
    );
}

#[test]
fn patches_obey_the_rules() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({"hw_x": "1"}));
    let done = cloud.patch(
        "p",
        &id,
        &json!([
            {"op": "replace", "path": "/name", "value": "new"},
            {"op": "add", "path": "/hw_y", "value": "2"},
            {"op": "remove", "path": "/hw_x"},
            {"op": "replace", "path": "/tags", "value": ["b", "a", "b"]},
        ]),
    );
    assert_eq!(done.status, 200, "{}", done.text());
    let image = done.json();
    assert_eq!(
        (image["name"].clone(), image["hw_y"].clone(), image["tags"].clone()),
        (json!("new"), json!("2"), json!(["a", "b"]))
    );
    assert!(image.get("hw_x").is_none());
    let refused = [
        (
            json!([{"op": "remove", "path": "/hw_z"}]),
            409,
            "Property hw_z does not exist.",
        ),
        (
            json!([{"op": "remove", "path": "/name"}]),
            403,
            "Property name may not be removed.",
        ),
        (
            json!([{"op": "replace", "path": "/status", "value": "active"}]),
            403,
            "Attribute 'status' is read-only.",
        ),
        (
            json!([{"op": "replace", "path": "/owner", "value": "q"}]),
            403,
            "Owner can't be updated by non admin.",
        ),
        (
            json!([{"op": "replace", "path": "/min_disk", "value": -1}]),
            400,
            "Cannot be a negative value",
        ),
        (
            json!([{"op": "replace", "path": "/visibility", "value": "public"}]),
            403,
            "publicize_image",
        ),
        (
            json!([{"op": "replace", "path": "/locations", "value": []}]),
            403,
            "Cannot set locations to empty list.",
        ),
    ];
    for (body, status, text) in refused {
        let answer = cloud.patch("p", &id, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert!(answer.text().contains(text), "{body}: {}", answer.text());
    }
    cloud.upload("p", &id, b"x");
    let late = cloud.patch(
        "p",
        &id,
        &json!([{"op": "replace", "path": "/disk_format", "value": "iso"}]),
    );
    assert!(
        late.text()
            .contains("Attribute disk_format can be only replaced for a queued image.")
    );
    let media = cloud.json("p", "PATCH", &format!("/v2/images/{id}"), &json!([]));
    assert_eq!(media.status, 415);
    assert!(
        media
            .header("accept-patch")
            .unwrap()
            .starts_with("application/openstack-images-v2.0-json-patch, ")
    );
}

#[test]
fn protected_and_deactivated_images() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({"protected": true}));
    let path = format!("/v2/images/{id}");
    let kept = cloud.send("p", "DELETE", &path, &[], b"");
    assert_eq!(kept.status, 403);
    assert!(kept.text().contains("is protected and cannot be deleted."));
    cloud.upload("p", &id, b"x");
    assert_eq!(
        cloud
            .send("reader:p", "POST", &format!("{path}/actions/deactivate"), &[], b"")
            .status,
        403
    );
    assert_eq!(
        cloud
            .send("admin", "POST", &format!("{path}/actions/deactivate"), &[], b"")
            .status,
        204
    );
    assert_eq!(cloud.get("p", &format!("{path}/file")).status, 403);
    assert_eq!(
        cloud
            .send("admin", "POST", &format!("{path}/actions/reactivate"), &[], b"")
            .status,
        204
    );
    assert_eq!(cloud.get("p", &format!("{path}/file")).status, 200);
    cloud.patch(
        "p",
        &id,
        &json!([{"op": "replace", "path": "/protected", "value": false}]),
    );
    assert_eq!(cloud.send("p", "DELETE", &path, &[], b"").status, 204);
    assert_eq!(cloud.get("p", &path).status, 404);
    let reused = cloud.json("p", "POST", "/v2/images", &json!({"id": id}));
    assert_eq!(reused.status, 409);
    assert!(reused.text().contains("already exists!"));
}

#[test]
fn errors_come_in_webobs_forms_and_versions_need_no_token() {
    let cloud = Cloud::start();
    let versions = cloud.get("", "/");
    assert_eq!(versions.status, 300);
    assert_eq!(versions.json()["versions"][2]["status"], "CURRENT");
    assert_eq!(cloud.get("", "/versions").status, 200);
    assert_eq!(cloud.get("", "/nowhere").status, 300);
    assert_eq!(cloud.get("nobody", "/v2/images").status, 401);
    assert_eq!(cloud.get("p", "/v2/nowhere").status, 404);
    let missing = cloud.send("p", "GET", "/v2/images/x", &[("accept", "*/*")], b"");
    assert!(
        missing
            .text()
            .contains("<h1>404 Not Found</h1>\n  No image found with ID x<br /><br />\n"),
        "{}",
        missing.text()
    );
    let wrong = cloud.send("p", "PUT", "/v2/images", &[], b"");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, POST")));
    assert_eq!(cloud.get("p", "/v2.9/schemas/image").json()["name"], "image");
    assert_eq!(cloud.get("p", "/v2/info/import").status, 200);
}

#[test]
fn staged_data_is_imported() {
    let cloud = Cloud::start();
    let id = cloud.create("p", json!({}));
    let path = format!("/v2/images/{id}");
    let import = json!({"method": {"name": "glance-direct"}});
    let early = cloud.json("p", "POST", &format!("{path}/import"), &import);
    assert_eq!(early.status, 409);
    assert!(
        early.text().contains("Image needs to be staged before"),
        "{}",
        early.text()
    );
    let octets = [("content-type", "application/octet-stream")];
    assert_eq!(
        cloud
            .send("p", "PUT", &format!("{path}/stage"), &octets, b"hello")
            .status,
        204
    );
    let staged = cloud.get("p", &path).json();
    assert_eq!(
        (staged["status"].clone(), staged["size"].clone()),
        (json!("uploading"), json!(5))
    );
    let odd = cloud.json(
        "p",
        "POST",
        &format!("{path}/import"),
        &json!({"method": {"name": "magic"}}),
    );
    assert!(odd.text().contains("Unknown import method name"));
    assert_eq!(cloud.json("q", "POST", &format!("{path}/import"), &import).status, 404);
    assert_eq!(cloud.json("p", "POST", &format!("{path}/import"), &import).status, 202);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let image = loop {
        let image = cloud.get("p", &path).json();
        if image["status"] == "active" && image.get("os_glance_import_task").is_none() {
            break image;
        }
        assert!(std::time::Instant::now() < end, "still {image}");
        std::thread::yield_now();
    };
    assert_eq!(image["checksum"], "5d41402abc4b2a76b9719d911017c592");
    let tasks = cloud.get("p", &format!("{path}/tasks")).json();
    assert_eq!(tasks["tasks"][0]["status"], "success");
    assert_eq!(cloud.get("p", "/v2/tasks").status, 403);
    let task = cloud.get("admin", "/v2/tasks").json()["tasks"][0]["self"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(cloud.get("admin", &task).json()["image_id"], id.as_str());
    assert_eq!(cloud.get("p", &format!("{path}/file")).body, b"hello");
    assert_eq!(cloud.files().len(), 1);
    assert_eq!(cloud.get("p", &format!("{path}/locations")).status, 403);
    let located = cloud.get("service:p", &format!("{path}/locations")).json();
    assert!(located[0]["url"].as_str().unwrap().ends_with(&id), "{located}");
    let late = cloud.json(
        "p",
        "POST",
        &format!("{path}/locations"),
        &json!({"url": "http://host/x"}),
    );
    assert_eq!(late.status, 409);
}

#[test]
fn metadata_definitions() {
    let cloud = Cloud::start();
    let body = json!({
        "namespace": "Acme", "visibility": "public", "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "OS::Nova::Flavor", "prefix": "acme:"}],
        "properties": {"size": {"title": "Size", "type": "integer"}},
        "objects": [{"name": "box", "properties": {"w": {"title": "W", "type": "integer"}}}],
    });
    let namespaces = "/v2/metadefs/namespaces";
    assert_eq!(cloud.json("p", "POST", namespaces, &body).status, 403);
    let made = cloud.json("admin", "POST", namespaces, &body);
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(cloud.json("admin", "POST", namespaces, &body).status, 409);
    let shown = cloud
        .get("p", &format!("{namespaces}/Acme?resource_type=OS::Nova::Flavor"))
        .json();
    assert!(shown["properties"]["acme:size"].is_object(), "{shown}");
    assert!(shown["objects"][0]["properties"]["acme:w"].is_object(), "{shown}");
    let wrong = cloud.json(
        "admin",
        "POST",
        &format!("{namespaces}/Acme/properties"),
        &json!({"name": "x", "type": "odd", "title": "X"}),
    );
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("is not one of"), "{}", wrong.text());
    let tag = format!("{namespaces}/Acme/tags/two");
    assert_eq!(cloud.send("admin", "POST", &tag, &[], b"").status, 201);
    assert_eq!(
        cloud
            .send("admin", "POST", &format!("{namespaces}/Acme/tags/TWO"), &[], b"")
            .status,
        409
    );
    let tags = cloud
        .get("p", &format!("{namespaces}/Acme/tags?sort_key=name&sort_dir=asc"))
        .json();
    assert_eq!(tags, json!({"tags": [{"name": "t"}, {"name": "two"}]}));
    assert_eq!(cloud.send("p", "DELETE", &tag, &[], b"").status, 403);
    let objects = format!("{namespaces}/Acme/objects");
    assert_eq!(
        cloud
            .json("admin", "PUT", &format!("{objects}/box"), &json!({"name": "crate"}))
            .status,
        200
    );
    assert_eq!(cloud.get("p", &format!("{objects}/box")).status, 404);
    let listed = cloud
        .get("p", &format!("{namespaces}?resource_types=OS::Nova::Flavor&limit=1"))
        .json();
    assert_eq!(
        listed["namespaces"][0]["resource_type_associations"][0]["prefix"],
        "acme:"
    );
    assert_eq!(
        cloud
            .send("admin", "DELETE", &format!("{namespaces}/Acme"), &[], b"")
            .status,
        204
    );
    assert_eq!(cloud.get("p", &format!("{namespaces}/Acme")).status, 404);
}
