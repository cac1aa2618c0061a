//! `/v2/images/{image_id}/members`.

use api::time::iso8601_z;
use api::{Error, Request, Response, Result, Routes, StatusCode};
use database::Tx;
use serde_json::{Value, json};

use super::images::from_path;
use super::{body, no_body, no_content, rules};
use crate::model::image::Image;
use crate::model::member::{Member, check_status};
use crate::store::members;
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .get("/v2/images/{image_id}/members", list)
        .post("/v2/images/{image_id}/members", create)
        .get("/v2/images/{image_id}/members/{member_id}", show)
        .put("/v2/images/{image_id}/members/{member_id}", update)
        .delete("/v2/images/{image_id}/members/{member_id}", delete);
}

fn view(member: &Member) -> Value {
    json!({
        "member_id": member.member,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": iso8601_z(member.created_at),
        "updated_at": iso8601_z(member.updated_at),
        "schema": "/v2/schemas/member",
    })
}

fn find_image(tx: &mut Tx<'_>, caller: Caller<'_>, request: &Request) -> Result<Image> {
    from_path(tx, caller, request).map_err(|error| match error.status {
        StatusCode::NOT_FOUND => Error::not_found(format!("Image {} not found.", request.param("image_id"))),
        _ => error,
    })
}

/// Only the owner, members and administrators see who is a member, whatever the rules.
fn sees(caller: Caller<'_>, image: &Image, member: &str) -> bool {
    caller.viewer.admin
        || caller
            .viewer
            .project
            .is_some_and(|project| image.owner.as_deref() == Some(project) || member == project)
}

const NOT_SHARED: &str = "Only shared images have members.";

/// A rule about members: who must not see the image gets 404.
fn enforce(service: &Images, caller: Caller<'_>, image: &Image, rule: &str) -> Result<()> {
    rules::enforce(service, caller, image, "get_image")?;
    if rules::allows(service, caller, image, rule) {
        Ok(())
    } else {
        Err(rules::denied(rule))
    }
}

fn find_member(service: &Images, tx: &mut Tx<'_>, caller: Caller<'_>, image: &Image, id: &str) -> Result<Member> {
    enforce(service, caller, image, "get_member")?;
    let found = members::find(tx, &image.id, id)?.filter(|member| sees(caller, image, &member.member));
    found.ok_or_else(|| Error::not_found(format!("{id} not found in the member list of the image {}.", image.id)))
}

fn list(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let image = find_image(tx, caller, request)?;
        if image.visibility != "shared" {
            let text = format!("Not allowed to list members for image {}: {NOT_SHARED}", image.id);
            return Err(Error::forbidden(text));
        }
        enforce(service, caller, &image, "get_members")?;
        let mut found = members::list(tx, &image.id)?;
        let allowed = rules::allows(service, caller, &image, "get_member");
        found.retain(|member| allowed && sees(caller, &image, &member.member));
        Ok(found)
    })?;
    let views: Vec<Value> = found.iter().map(view).collect();
    Ok(Response::json(
        StatusCode::OK,
        &json!({"members": views, "schema": "/v2/schemas/members"}),
    ))
}

fn show(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let found = service.database.read(|tx| {
        let image = find_image(tx, caller, request)?;
        if image.visibility != "shared" {
            return Err(Error::not_found(NOT_SHARED));
        }
        find_member(service, tx, caller, &image, request.param("member_id"))
    });
    let member = found.map_err(|error| match error.status {
        StatusCode::FORBIDDEN => Error::not_found(error.message),
        _ => error,
    })?;
    Ok(Response::json(StatusCode::OK, &view(&member)))
}

fn create(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let wish = body(request)?;
    let Value::Object(fields) = &wish else {
        return Err(Error::bad_request(
            "Expected a member in the form: {\"member\": \"image_id\"}",
        ));
    };
    let member = match fields.get("member") {
        None => return Err(Error::bad_request("Member to be added not specified")),
        Some(Value::String(member)) if !member.is_empty() => member,
        Some(_) => return Err(Error::bad_request("Member can't be empty")),
    };
    let id = request.param("image_id");
    let made = service.database.write(|tx| {
        let image = find_image(tx, caller, request)?;
        if image.visibility != "shared" {
            return Err(Error::forbidden(format!("Not allowed to create members for image {id}.")));
        }
        enforce(service, caller, &image, "add_member")?;
        let attempted = members::list(tx, id)?.len() + 1;
        let maximum = service.limits.members;
        if attempted > maximum {
            return Err(Error::too_large(format!(
                "Image member limit exceeded for image {id}: The limit has been exceeded on the number of allowed image \
                 members for this image. Attempted: {attempted}, Maximum: {maximum}:"
            )));
        }
        if members::find(tx, id, member)?.is_some() {
            return Err(Error::conflict(format!("Member {member} is duplicated for image {id}")));
        }
        Ok(members::insert(tx, id, member)?)
    })?;
    Ok(Response::json(StatusCode::OK, &view(&made)))
}

fn update(service: &Images, request: &Request) -> Result<Response> {
    let caller = service.caller(request);
    let wish = body(request)?;
    let Value::Object(fields) = &wish else {
        return Err(Error::bad_request(
            "Expected a status in the form: {\"status\": \"status\"}",
        ));
    };
    let Some(status) = fields.get("status") else {
        return Err(Error::bad_request("Status not specified"));
    };
    let id = request.param("image_id");
    let updated = service.database.write(|tx| {
        let image = find_image(tx, caller, request)?;
        if image.visibility != "shared" {
            return Err(Error::forbidden(format!(
                "Not allowed to update members for image {id}."
            )));
        }
        let mut member = find_member(service, tx, caller, &image, request.param("member_id"))?;
        enforce(service, caller, &image, "modify_member")?;
        let status = status.as_str().unwrap_or_default();
        check_status(status)?;
        members::set_status(tx, &mut member, status)?;
        Ok(member)
    })?;
    Ok(Response::json(StatusCode::OK, &view(&updated)))
}

fn delete(service: &Images, request: &Request) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    let id = request.param("image_id");
    service.database.write(|tx| {
        let image = find_image(tx, caller, request)?;
        if image.visibility != "shared" {
            return Err(Error::forbidden(format!(
                "Not allowed to delete members for image {id}."
            )));
        }
        let member = find_member(service, tx, caller, &image, request.param("member_id"))?;
        enforce(service, caller, &image, "delete_member")?;
        Ok(members::delete(tx, id, &member.member)?)
    })?;
    Ok(no_content())
}
