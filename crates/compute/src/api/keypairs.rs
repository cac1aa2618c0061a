//! Key pairs.

use api::{Error, Response, StatusCode};
use serde_json::{Value, json};

use crate::Compute;
use crate::call::{Call, Result, Table, ok};
use crate::model::keypair;
use crate::store::keypairs::{self, KeyPair};
use crate::store::quotas;

pub(super) fn add(table: &mut Table) {
    table
        .get("/os-keypairs", list)
        .post("/os-keypairs", create)
        .get("/os-keypairs/{id}", show)
        .delete("/os-keypairs/{id}", delete);
}

fn view(call: &Call, key: &KeyPair) -> Value {
    let mut view = json!({"name": key.name, "public_key": key.public_key, "fingerprint": key.fingerprint});
    if call.at_least(2) {
        view["type"] = json!(key.kind);
    }
    view
}

/// Whose keys: from 2.10 on an administrator may name a user.
fn owner<'a>(call: &'a Call) -> &'a str {
    let named = if call.at_least(10) {
        call.query_all("user_id").next()
    } else {
        None
    };
    named.filter(|u| !u.is_empty()).unwrap_or(call.user())
}

fn missing(name: &str, user: &str) -> Error {
    Error::not_found(format!("Keypair {name} not found for user {user}"))
}

fn list(c: &Compute, call: &Call) -> Result {
    let user = owner(call);
    c.allow(call, "os_compute_api:os-keypairs:index", call.project(), Some(user))?;
    let (limit, marker) = if call.at_least(35) {
        let (limit, marker) = call.paging()?;
        (Some(limit), marker)
    } else {
        (None, None)
    };
    let page = c.db.read(|tx| keypairs::list(tx, user, limit, marker))?;
    let page =
        page.ok_or_else(|| Error::bad_request(format!("Marker {} could not be found.", marker.unwrap_or_default())))?;
    let views: Vec<Value> = page.iter().map(|key| json!({"keypair": view(call, key)})).collect();
    let mut body = json!({"keypairs": views});
    if call.at_least(35)
        && let Some(links) = call.next_link("os-keypairs", page.len(), page.last().map(|k| k.name.as_str()))?
    {
        body["keypairs_links"] = links;
    }
    ok(body)
}

fn show(c: &Compute, call: &Call) -> Result {
    let user = owner(call);
    c.allow(call, "os_compute_api:os-keypairs:show", call.project(), Some(user))?;
    let name = call.param("id");
    let key =
        c.db.read(|tx| keypairs::find(tx, user, name))?
            .ok_or_else(|| missing(name, user))?;
    let mut body = view(call, &key);
    body["user_id"] = json!(key.user_id);
    body["id"] = json!(key.number);
    body["created_at"] = json!(api::time::naive_micros(key.created_at));
    body["updated_at"] = Value::Null;
    body["deleted_at"] = Value::Null;
    body["deleted"] = json!(false);
    ok(json!({"keypair": body}))
}

fn delete(c: &Compute, call: &Call) -> Result {
    let user = owner(call);
    c.allow(call, "os_compute_api:os-keypairs:delete", call.project(), Some(user))?;
    let name = call.param("id");
    c.db.write(|tx| {
        if keypairs::delete(tx, user, name)? {
            Ok(())
        } else {
            Err(missing(name, user))
        }
    })?;
    Ok(Response::empty(if call.at_least(2) {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::ACCEPTED
    }))
}

fn create(c: &Compute, call: &Call) -> Result {
    let wanted = &call.body["keypair"];
    let named = if call.at_least(10) {
        wanted["user_id"].as_str()
    } else {
        None
    };
    let user = named.filter(|u| !u.is_empty()).unwrap_or(call.user());
    c.allow(call, "os_compute_api:os-keypairs:create", call.project(), Some(user))?;
    let name = wanted["name"].as_str().unwrap_or_default().trim();
    let kind = wanted["type"].as_str().unwrap_or("ssh");
    let invalid = |e: keypair::KeyError| Error::bad_request(e.to_string());
    let (public_key, private_key) = match wanted["public_key"].as_str() {
        Some(given) => (given.to_owned(), None),
        None => {
            // Before the transaction: making a key takes longer than all of the rest. A name that is taken is refused first.
            c.db.read(|tx| free(c, tx, user, name))?;
            let (private, public) = database::blocking(keypair::generate).map_err(invalid)?;
            (public, Some(private))
        }
    };
    let fingerprint = match kind {
        "x509" => keypair::x509_fingerprint(&public_key),
        _ => keypair::ssh_fingerprint(&public_key),
    }
    .map_err(invalid)?;
    let mut key = KeyPair {
        number: 0,
        user_id: user.to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        public_key,
        fingerprint,
        created_at: database::now(),
    };
    c.db.write(|tx| {
        free(c, tx, user, name)?;
        key.number = keypairs::insert(tx, &key)?;
        Ok::<_, Error>(())
    })?;
    let mut body = view(call, &key);
    body["user_id"] = json!(key.user_id);
    if let Some(private) = private_key {
        body["private_key"] = json!(private);
    }
    let status = if call.at_least(2) {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(Response::json(status, &json!({"keypair": body})))
}

/// Whether the user may have a further key pair of this name.
fn free(c: &Compute, tx: &mut database::Tx<'_>, user: &str, name: &str) -> Result<()> {
    let limit = quotas::defaults(tx, &c.config.quotas)?["key_pairs"];
    if limit >= 0 && keypairs::count(tx, user)? >= limit {
        return Err(Error::forbidden("Quota exceeded, too many key pairs."));
    }
    if keypairs::find(tx, user, name)?.is_some() {
        return Err(Error::conflict(format!("Key pair '{name}' already exists.")));
    }
    Ok(())
}
