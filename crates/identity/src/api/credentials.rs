//! `/v3/credentials`, and EC2 credentials under a user.

use super::*;
use crate::model::schemas;
use crate::store::credentials::{self, CREDENTIALS};
use crate::store::{projects, users};
use database::Tx;
use sha2::{Digest, Sha256};

pub(super) fn routes(routes: &mut Routes<Identity>) {
    routes.get("/v3/credentials", list).post("/v3/credentials", create);
    let one = "/v3/credentials/{credential_id}";
    routes.get(one, show).patch(one, update).delete(one, delete);
    let ec2 = "/v3/users/{user_id}/credentials/OS-EC2";
    routes.get(ec2, list_ec2).post(ec2, create_ec2);
    let one = "/v3/users/{user_id}/credentials/OS-EC2/{credential_id}";
    routes.get(one, show_ec2).delete(one, delete_ec2);
}

/// The id of an EC2 credential: a digest of its access key.
pub(super) fn hashed(access: &str) -> String {
    hex::encode(Sha256::digest(access.as_bytes()))
}

/// The credential with its content in clear.
pub(super) fn opened(s: &Identity, mut credential: Ref) -> Result<Ref> {
    let encrypted = credential.remove("encrypted_blob").unwrap_or_default();
    let blob = s.credential_keys.decrypt(encrypted.as_str().unwrap_or_default());
    let blob = blob.and_then(|bytes| String::from_utf8(bytes).ok());
    let blob =
        blob.ok_or_else(|| Error::internal("no key of the credential key repository fits a stored credential"))?;
    credential.insert("blob".into(), blob.into());
    Ok(credential)
}

fn sealed(s: &Identity, mut credential: Ref) -> Ref {
    let blob = credential.remove("blob").unwrap_or_default();
    credential.insert(
        "encrypted_blob".into(),
        s.credential_keys
            .encrypt(blob.as_str().unwrap_or_default().as_bytes())
            .into(),
    );
    credential
}

fn insert(s: &Identity, tx: &mut Tx<'_>, credential: &Ref) -> Result<Ref> {
    let limit = s.config.credential_limit;
    if limit >= 0 && credentials::count(tx, text(credential, "user_id"))? >= limit {
        return Err(Error::Refused(format!(
            "Unable to create additional credentials, maximum of {limit} already exceeded for user."
        )));
    }
    CREDENTIALS.insert(tx, &sealed(s, credential.clone()))?;
    opened(s, CREDENTIALS.get(tx, text(credential, "id"))?)
}

/// Who acts by delegation does not get at credentials.
fn check_primary(s: &Identity, r: &Request) -> Result<()> {
    if s.token(r)?.is_delegated_or_trust() {
        return Err(Error::Action(
            "Delegated tokens cannot access credentials directly".into(),
        ));
    }
    Ok(())
}

fn is_ec2(credential: &Ref) -> bool {
    text(credential, "type").eq_ignore_ascii_case("ec2")
}

/// The content of an EC2 credential.
pub(super) fn ec2_blob(credential: &Ref) -> Result<Ref> {
    let blob: Value = serde_json::from_str(text(credential, "blob"))
        .map_err(|_| Error::Invalid("Invalid blob in credential".into()))?;
    match blob {
        Value::Object(blob) if !blob.is_empty() => match blob.get("access") {
            Some(access) if !access.is_null() => Ok(blob),
            _ => Err(Error::expecting("access", "credential")),
        },
        _ => Err(Error::expecting("blob", "credential")),
    }
}

fn list(s: &Identity, r: &Request) -> Result<Response> {
    let context = r.context();
    let mut target = Target::new();
    if context.credentials.system_scope.is_none() {
        target = target.with("credential", json!({"user_id": context.user_id()}));
    }
    s.enforce(r, "identity:list_credentials", &target)?;
    let hints = s.hints(r, &["user_id", "type"], false)?;
    let delegated = s.token(r)?.is_delegated_or_trust();
    let mut page = s.read(|tx| CREDENTIALS.list(tx, &hints))?;
    let mut shown = Vec::new();
    for credential in page.refs {
        let target = Target::new().with("credential", credential.clone());
        if !delegated && s.enforce(r, "identity:get_credential", &target).is_ok() {
            shown.push(opened(s, credential)?);
        }
    }
    page.refs = shown;
    collection(r, "credentials", "credentials", page, hints.limit)
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    let credential = checked(r, &schemas::CREDENTIAL_CREATE, "credential")?;
    if text(&credential, "type") == "ec2" && !credential.contains_key("project_id") {
        let given = ::api::python::repr(&Value::Object(credential));
        return Err(Error::Invalid(format!(
            "Invalid input for field/attribute credential. Value: {given}. 'project_id' is a required property"
        )));
    }
    s.enforce(
        r,
        "identity:create_credential",
        &Target::new().with("credential", credential.clone()),
    )?;
    check_primary(s, r)?;
    let mut credential = normalized(&credential);
    if is_ec2(&credential) {
        let id = hashed(text(&ec2_blob(&credential)?, "access"));
        credential.insert("id".into(), id.into());
    } else {
        credential = with_new_id(credential);
    }
    let credential = s.write(|tx| insert(s, tx, &credential))?;
    created(r, "credential", "credentials", credential)
}

/// The credential, once the caller may do this to it.
fn allowed(s: &Identity, tx: &mut Tx<'_>, r: &Request, rule: &str) -> Result<Ref> {
    let id = r.param("credential_id");
    let target = Target::new().maybe("credential", CREDENTIALS.get(tx, id))?;
    s.enforce(r, rule, &target)?;
    opened(s, CREDENTIALS.get(tx, id)?)
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let credential = s.read(|tx| allowed(s, tx, r, "identity:get_credential"))?;
    check_primary(s, r)?;
    ok(r, "credential", "credentials", credential)
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    let changes = checked(r, &schemas::CREDENTIAL_UPDATE, "credential")?;
    let token = s.token(r)?;
    let credential = s.write(|tx| {
        let current = allowed(s, tx, r, "identity:update_credential")?;
        if token.is_delegated_or_trust() {
            return Err(Error::Action(
                "Delegated tokens cannot access credentials directly".into(),
            ));
        }
        let mut new = current.clone();
        new.extend(changes.clone());
        if is_ec2(&current) {
            let (old, new) = (ec2_blob(&current)?, ec2_blob(&new)?);
            for key in ["trust_id", "app_cred_id", "access_token_id", "access_id"] {
                if old.get(key).unwrap_or(&Value::Null) != new.get(key).unwrap_or(&Value::Null) {
                    return Err(Error::Invalid(format!("{key} can not be updated for credential")));
                }
            }
        }
        s.enforce(
            r,
            "identity:update_credential",
            &Target::new().with("credential", new.clone()),
        )?;
        CREDENTIALS.update(tx, &sealed(s, new))?;
        opened(s, CREDENTIALS.get(tx, text(&current, "id"))?)
    })?;
    ok(r, "credential", "credentials", credential)
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    check_primary(s, r)?;
    s.write(|tx| {
        allowed(s, tx, r, "identity:delete_credential")?;
        CREDENTIALS.delete(tx, r.param("credential_id"))
    })?;
    no_content()
}

/// An EC2 credential as its own operations show it.
fn shown_ec2(r: &Request, credential: &Ref) -> Result<Ref> {
    let blob = ec2_blob(credential)?;
    let part = |key: &str| blob.get(key).cloned().unwrap_or_default();
    let user = text(credential, "user_id");
    let own = url(r, &format!("users/{user}/credentials/OS-EC2/{}", text(&blob, "access")));
    let shown = json!({
        "user_id": user,
        "tenant_id": credential["project_id"],
        "access": part("access"),
        "secret": part("secret"),
        "trust_id": part("trust_id"),
        "links": {"self": own},
    });
    Ok(shown.as_object().cloned().unwrap_or_default())
}

fn list_ec2(s: &Identity, r: &Request) -> Result<Response> {
    let user = r.param("user_id");
    s.enforce(r, "identity:ec2_list_credentials", &Target::new().arg("user_id", user))?;
    check_primary(s, r)?;
    let found = s.read(|tx| {
        users::get(tx, user, &s.config.security_compliance)?;
        CREDENTIALS.find_all(tx, "user_id = ?1 AND type = 'ec2'", &[user.into()])
    })?;
    let shown = found
        .into_iter()
        .map(|c| shown_ec2(r, &opened(s, c)?))
        .collect::<Result<Vec<_>>>()?;
    Ok(Response::json(
        StatusCode::OK,
        &linked(r, "credentials", all(shown), None),
    ))
}

fn create_ec2(s: &Identity, r: &Request) -> Result<Response> {
    let user = r.param("user_id");
    s.enforce(
        r,
        "identity:ec2_create_credential",
        &Target::new()
            .arg("user_id", user)
            .with("credential", json!({"user_id": user})),
    )?;
    let body = body(r)?;
    let project = body.get("tenant_id").and_then(Value::as_str).unwrap_or("None");
    s.read(|tx| {
        users::get(tx, user, &s.config.security_compliance)?;
        projects::get(tx, project)
    })?;
    check_primary(s, r)?;
    let access = new_id();
    let blob = json!({"access": access, "secret": new_id(), "trust_id": null});
    let credential =
        json!({"id": hashed(&access), "user_id": user, "project_id": project, "blob": blob.to_string(), "type": "ec2"});
    let credential = credential.as_object().cloned().unwrap_or_default();
    let credential = s.write(|tx| insert(s, tx, &credential))?;
    Ok(Response::json(
        StatusCode::CREATED,
        &json!({"credential": shown_ec2(r, &credential)?}),
    ))
}

/// The EC2 credential of the path's access key, once the caller may do this to it.
fn allowed_ec2(s: &Identity, tx: &mut Tx<'_>, r: &Request, rule: &str) -> Result<Ref> {
    let (user, id) = (r.param("user_id"), hashed(r.param("credential_id")));
    let credential = CREDENTIALS.get(tx, &id)?;
    s.enforce(
        r,
        rule,
        &Target::new()
            .arg("user_id", user)
            .with("credential", credential.clone()),
    )?;
    users::get(tx, user, &s.config.security_compliance)?;
    if text(&credential, "type") != "ec2" {
        return Err(Error::Unauthorized("EC2 access key not found.".into()));
    }
    opened(s, credential)
}

fn show_ec2(s: &Identity, r: &Request) -> Result<Response> {
    let credential = s.read(|tx| allowed_ec2(s, tx, r, "identity:ec2_get_credential"))?;
    check_primary(s, r)?;
    Ok(Response::json(
        StatusCode::OK,
        &json!({"credential": shown_ec2(r, &credential)?}),
    ))
}

fn delete_ec2(s: &Identity, r: &Request) -> Result<Response> {
    let token = s.token(r)?;
    s.write(|tx| {
        let credential = allowed_ec2(s, tx, r, "identity:ec2_delete_credential")?;
        if token.is_delegated_or_trust() {
            return Err(Error::Action(
                "Delegated tokens cannot access credentials directly".into(),
            ));
        }
        CREDENTIALS.delete(tx, text(&credential, "id"))
    })?;
    no_content()
}
