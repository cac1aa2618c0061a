//! `GET /`: which versions there are.

use api::{Error, Method, Request, Response, Routes};
use serde_json::json;

use super::{MICROVERSIONS, ok};
use crate::Placement;

pub(super) fn routes(routes: &mut Routes<Placement>) {
    routes.public(Method::GET, "/", home);
}

fn home(_: &Placement, request: &Request) -> Result<Response, Error> {
    // Even where no token is needed, a version that is not there is refused.
    MICROVERSIONS.negotiate(&request.headers)?;
    let version = json!({
        "id": format!("v{}", MICROVERSIONS.min),
        "max_version": MICROVERSIONS.max.to_string(),
        "min_version": MICROVERSIONS.min.to_string(),
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    });
    Ok(ok(request, &json!({"versions": [version]}), None))
}
