//! `/v2/images/{image_id}/actions`.

use api::{Error, Request, Response, Result, Routes};

use super::images::from_path;
use super::{no_body, no_content, rules};
use crate::Images;
use crate::model::Refusal;
use crate::model::image::Image;
use crate::store::images;

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes
        .post("/v2/images/{image_id}/actions/deactivate", |service, request| {
            act(service, request, "deactivate", Image::deactivate)
        })
        .post("/v2/images/{image_id}/actions/reactivate", |service, request| {
            act(service, request, "reactivate", Image::reactivate)
        });
}

fn act(
    service: &Images,
    request: &Request,
    rule: &str,
    action: impl Fn(&mut Image) -> Result<(), Refusal>,
) -> Result<Response> {
    no_body(request)?;
    let caller = service.caller(request);
    service.database.write(|tx| {
        let mut image = from_path(tx, caller, request)?;
        rules::enforce(service, caller, &image, rule)?;
        let before = image.status;
        action(&mut image)?;
        if image.status != before {
            images::update(tx, &mut image, before)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(no_content())
}
