//! `/v2/images/{image_id}/stage` and `/import`.

use std::sync::Arc;

use api::{BoxFuture, Error, Method, Request, Response, Result, Routes, StatusCode, StreamRequest};
use database::{blocking, now};
use serde_json::{Value, json};

use super::data::{announced_size, needs_octets, restore, write_body};
use super::images::from_path;
use super::{IMPORT_METHODS, body, no_content, rules};
use crate::import::{LOCK, start};
use crate::model::Refusal;
use crate::model::image::{Image, Status};
use crate::store::images;
use crate::store::tasks::Task;
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes.stream(Method::PUT, "/v2/images/{image_id}/stage", stage);
    routes.stream(Method::POST, "/v2/images/{image_id}/import", import);
}

fn stage(service: Arc<Images>, request: StreamRequest) -> BoxFuture<'static, Result<Response>> {
    Box::pin(async move {
        let head = request.head.clone();
        needs_octets(&head)?;
        let announced = announced_size(&head)?;
        let caller = service.caller(&head);
        let image = service.database.write(|tx| {
            rules::size_quota(&service, tx, caller.viewer.project, announced.unwrap_or(0))?;
            let mut image = from_path(tx, caller, &head)?;
            rules::enforce(&service, caller, &image, "modify_image")?;
            let before = image.status;
            image.go(Status::Uploading).map_err(Refusal::from)?;
            images::update(tx, &mut image, before)?;
            Ok::<_, Error>(image)
        })?;
        let staged = async {
            let mut incoming = service.folder.receive(&image.id, false).map_err(crate::Error::Data)?;
            write_body(&service, &mut incoming, announced, &mut request.into_body()).await?;
            let size = incoming.size();
            blocking(|| service.folder.stage(&image.id, incoming)).map_err(crate::Error::Data)?;
            let known = service.database.write(|tx| {
                let found = images::find(tx, &image.id)?.filter(|image| image.status == Status::Uploading);
                let Some(mut image) = found else { return Ok(false) };
                image.size = i64::try_from(size).ok();
                images::update(tx, &mut image, Status::Uploading)
            })?;
            if known {
                return Ok(());
            }
            service.folder.unstage(&image.id).map_err(crate::Error::Data)?;
            Err(Error::not_found(format!("No image found with ID {}", image.id)))
        };
        match staged.await {
            Ok(()) => Ok(no_content()),
            Err(error) => {
                restore(&service, &image.id, Status::Uploading);
                Err(error)
            }
        }
    })
}

/// Bytes of an import's body at most.
const BODY_LIMIT: usize = 114_688;

fn import(service: Arc<Images>, request: StreamRequest) -> BoxFuture<'static, Result<Response>> {
    Box::pin(async move {
        let mut head = request.head.clone();
        let mut stream = request.into_body();
        let mut read = Vec::new();
        while let Some(piece) = stream.next().await? {
            if read.len() + piece.len() > BODY_LIMIT {
                return Err(Error::too_large("Request is too large."));
            }
            read.extend_from_slice(&piece);
        }
        head.body = read.into();
        let wish = body(&head)?;
        let method = check_body(&wish)?;
        let task = begin(&service, service.caller(&head), &head, method, &wish)?;
        start(&service, task);
        Ok(Response::empty(StatusCode::ACCEPTED))
    })
}

fn check_body(wish: &Value) -> Result<&str> {
    let Some(method) = wish.get("method") else {
        return Err(Error::bad_request("Import request requires a 'method' field."));
    };
    let Some(name) = method.get("name") else {
        return Err(Error::bad_request("Import request requires a 'name' field."));
    };
    let known = name.as_str().filter(|name| IMPORT_METHODS.contains(name));
    let Some(known) = known else {
        let name = api::python::repr(name);
        return Err(Error::bad_request(format!(
            "Unknown import method name '{}'.",
            name.trim_matches('\'')
        )));
    };
    for flag in ["all_stores_must_succeed", "all_stores"] {
        if wish.get(flag).is_some_and(|value| !value.is_boolean()) {
            return Err(Error::bad_request(format!("'{flag}' must be boolean value only")));
        }
    }
    Ok(known)
}

/// Why this image cannot be imported now.
fn check_state(image: &Image) -> Result<(), Refusal> {
    let conflict = |text: &str| Err(Refusal::Conflict(text.to_owned()));
    if image.status == Status::Active {
        return conflict("Image with status active cannot be target for import");
    }
    if image.status != Status::Uploading {
        return conflict("Image needs to be staged before 'glance-direct' method can be used");
    }
    if image.container_format.as_deref().unwrap_or("").is_empty() {
        return conflict("'container_format' needs to be set before import");
    }
    if image.disk_format.as_deref().unwrap_or("").is_empty() {
        return conflict("'disk_format' needs to be set before import");
    }
    Ok(())
}

/// Records the work; from the commit on it will be done, whatever happens to this process.
fn begin(service: &Images, caller: Caller<'_>, request: &Request, method: &str, wish: &Value) -> Result<Task> {
    let at = now();
    let id = request.param("image_id");
    let task = Task {
        id: uuid::Uuid::new_v4().to_string(),
        kind: "api_image_import".to_owned(),
        status: "processing".to_owned(),
        owner: caller.viewer.project.map(str::to_owned),
        image_id: Some(id.to_owned()),
        request_id: Some(request.id.clone()),
        user_id: Some(caller.context.user_id().to_owned()),
        input: json!({"image_id": id, "import_req": wish, "backend": [null]}),
        result: Value::Null,
        message: String::new(),
        expires_at: None,
        created_at: at,
        updated_at: at,
    };
    tracing::debug!(image = id, method, task = task.id, "import");
    service.database.write(|tx| {
        rules::size_quota(service, tx, caller.viewer.project, 0)?;
        let mut image = from_path(tx, caller, request)?;
        check_state(&image)?;
        rules::enforce(service, caller, &image, "modify_image")?;
        if wish.get("all_stores_must_succeed") == Some(&Value::Bool(false)) {
            let text = "All_stores_must_succeed can only be set with enabled_backends None";
            return Err(Error::bad_request(text));
        }
        if image.properties.contains_key(LOCK) {
            return Err(Error::conflict("Image has active task"));
        }
        image.properties.insert(LOCK.to_owned(), task.id.clone());
        images::update(tx, &mut image, Status::Uploading)?;
        Ok(task.insert(tx)?)
    })?;
    Ok(task)
}
