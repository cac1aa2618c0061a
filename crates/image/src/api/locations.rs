//! `/v2/images/{image_id}/locations`: where the data is, for other services.

use api::{Error, Request, Response, Result, Routes, StatusCode};
use serde_json::{Value, json};

use super::images::from_path;
use super::{body, rules};
use crate::Images;
use crate::model::image::Status;
use crate::model::schemas;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/images/{image_id}/locations", list)
        .post("/v2/images/{image_id}/locations", add);
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let image = service.database.read(|tx| from_path(tx, caller, request))?;
    rules::enforce(service, caller, &image, "fetch_image_location")?;
    let file = service.folder.data(&image.id);
    let locations: Vec<Value> = file
        .into_iter()
        .map(|file| json!({"url": format!("file://{}", file.display()), "metadata": {}}))
        .collect();
    Ok(Response::json(StatusCode::OK, &locations))
}

/// Data can only be uploaded or imported: there is no store that others write to behind the service's back.
fn add(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let wish = body(request)?;
    schemas::check("location", &schemas::LOCATION, &json!({"add_location": wish}))?;
    let image = service.database.read(|tx| from_path(tx, caller, request))?;
    if image.status != Status::Queued {
        let status = image.status.as_str();
        return Err(Error::conflict(format!(
            "It's not allowed to add locations if image status is {status}."
        )));
    }
    rules::enforce(service, caller, &image, "add_image_location")?;
    let credentials = &caller.context.credentials;
    let is_service = credentials.has_role("service") || credentials.service_roles.iter().any(|role| role == "service");
    if !is_service {
        return Err(Error::forbidden(
            "http store must be enabled to use location API by normal user.",
        ));
    }
    Err(Error::bad_request("The Store URI was malformed."))
}
