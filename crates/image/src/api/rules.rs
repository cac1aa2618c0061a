//! Policy and limits of images.

use std::borrow::Cow;

use api::{Error, Result};
use database::Tx;
use policy::Target;
use serde_json::Value;

use crate::model::Refusal;
use crate::model::image::Image;
use crate::model::patch::RESERVED_PREFIX;
use crate::store::images;
use crate::{Caller, Images};

/// An image as rules see it.
pub(crate) struct ImageTarget<'a> {
    image: &'a Image,
    /// The caller's project where it can only have come to the image as a member.
    member: Option<&'a str>,
}

impl<'a> ImageTarget<'a> {
    pub(crate) fn new(image: &'a Image, caller: Caller<'a>) -> ImageTarget<'a> {
        let project = caller.viewer.project;
        let foreign = image.visibility == "shared" && image.owner.as_deref() != project;
        ImageTarget {
            image,
            member: project.filter(|_| foreign),
        }
    }
}

impl Target for ImageTarget<'_> {
    fn get(&self, key: &str) -> Option<Value> {
        self.text(key).map(|text| Value::from(text.into_owned()))
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        let optional = |value: Option<&'_ str>| Cow::Owned(value.unwrap_or("None").to_owned());
        Some(match key {
            "project_id" | "owner" => optional(self.image.owner.as_deref()),
            "member_id" | "member" => optional(self.member),
            "visibility" => Cow::Borrowed(self.image.visibility.as_str()),
            "id" | "image_id" => Cow::Borrowed(self.image.id.as_str()),
            "status" => Cow::Borrowed(self.image.status.as_str()),
            "name" => optional(self.image.name.as_deref()),
            "protected" => Cow::Borrowed(if self.image.protected { "True" } else { "False" }),
            "os_hidden" => Cow::Borrowed(if self.image.os_hidden { "True" } else { "False" }),
            "disk_format" => optional(self.image.disk_format.as_deref()),
            "container_format" => optional(self.image.container_format.as_deref()),
            other => Cow::Borrowed(self.image.properties.get(other)?.as_str()),
        })
    }
}

/// Upstream's text for a rule that says no.
pub(crate) fn denied(rule: &str) -> Error {
    Error::forbidden(format!("You are not authorized to complete {rule} action."))
}

/// A rule that is not about an image.
pub(crate) fn check(service: &Images, caller: Caller<'_>, rule: &str, target: &dyn Target) -> Result<()> {
    let allowed = service.policy.allows(rule, target, &caller.context.credentials);
    if allowed { Ok(()) } else { Err(denied(rule)) }
}

/// Whether the rule lets the caller do something to the image.
pub(crate) fn allows(service: &Images, caller: Caller<'_>, image: &Image, rule: &str) -> bool {
    service
        .policy
        .allows(rule, &ImageTarget::new(image, caller), &caller.context.credentials)
}

/// The rule must let the caller do it: 403, or 404 where it must not even see the image.
pub(crate) fn enforce(service: &Images, caller: Caller<'_>, image: &Image, rule: &str) -> Result<()> {
    if allows(service, caller, image, rule) {
        Ok(())
    } else if rule == "get_image" || !allows(service, caller, image, "get_image") {
        Err(Error::not_found(api::webob::explanation(api::StatusCode::NOT_FOUND)))
    } else {
        Err(denied(rule))
    }
}

/// May the image have this visibility?
pub(crate) fn visibility(service: &Images, caller: Caller<'_>, image: &Image, visibility: &str) -> Result<()> {
    let rule = match visibility {
        "public" => "publicize_image",
        "community" => "communitize_image",
        _ => return Ok(()),
    };
    if allows(service, caller, image, rule) {
        Ok(())
    } else {
        Err(denied(rule))
    }
}

/// May the caller make this image?
pub(crate) fn may_add(service: &Images, caller: Caller<'_>, image: &Image) -> Result<()> {
    if !allows(service, caller, image, "add_image") {
        if image.owner.as_deref() == caller.viewer.project {
            return Err(denied("add_image"));
        }
        let owner = image.owner.as_deref().unwrap_or("None");
        let text = format!("You are not permitted to create images owned by '{owner}'");
        return Err(Refusal::ForbiddenDetail(text).into());
    }
    visibility(service, caller, image, &image.visibility)
}

/// Protected images stay.
pub(crate) fn may_delete(image: &Image) -> Result<(), Refusal> {
    if image.protected {
        return Err(Refusal::Forbidden(format!(
            "Image {} is protected and cannot be deleted.",
            image.id
        )));
    }
    Ok(())
}

/// Not too many properties.
pub(crate) fn property_limit(service: &Images, image: &Image) -> Result<(), Refusal> {
    let attempted = image
        .properties
        .keys()
        .filter(|name| !name.starts_with(RESERVED_PREFIX))
        .count();
    let maximum = service.limits.properties;
    if attempted > maximum {
        return Err(Refusal::TooMuch(format!(
            "The limit has been exceeded on the number of allowed image properties. Attempted: {attempted}, Maximum: {maximum}"
        )));
    }
    Ok(())
}

/// The sentence on too many tags.
pub(crate) fn tag_limit(service: &Images, tags: &[String]) -> Result<(), String> {
    let (attempted, maximum) = (tags.len(), service.limits.tags);
    if attempted > maximum {
        return Err(format!(
            "The limit has been exceeded on the number of allowed image tags. Attempted: {attempted}, Maximum: {maximum}"
        ));
    }
    Ok(())
}

/// oslo.limit's sentence on a project that has enough.
fn over_limit(project: &str, name: &str, limit: u64, used: u64, more: u64) -> Error {
    let reason = format!(
        "Project {project} is over a limit for [Resource {name} is over limit of {limit} due to current usage {used} and delta {more}]"
    );
    Error::too_large(format!(
        "The request returned a 413 Request Entity Too Large. This generally means that rate limiting or a quota threshold \
         was breached.\n\nThe response body:\n{reason}"
    ))
}

/// One more image must be allowed.
pub(crate) fn count_quota(service: &Images, tx: &mut Tx<'_>, project: Option<&str>) -> Result<()> {
    let limit = service.quota.images;
    let Some(project) = project.filter(|_| limit > 0) else {
        return Ok(());
    };
    let (used, _) = images::usage(tx, project)?;
    if used + 1 > limit {
        Err(over_limit(project, "image_count_total", limit, used, 1))
    } else {
        Ok(())
    }
}

/// So many bytes more must be allowed.
pub(crate) fn size_quota(service: &Images, tx: &mut Tx<'_>, project: Option<&str>, bytes: u64) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let limit = service.quota.mebibytes;
    let Some(project) = project.filter(|_| limit > 0) else {
        return Ok(());
    };
    let (_, used) = images::usage(tx, project)?;
    let (used, more) = (used / MIB, bytes / MIB);
    if used + more > limit {
        Err(over_limit(project, "image_size_total", limit, used, more))
    } else {
        Ok(())
    }
}
