//! `next` and `self` links of lists.

use crate::Request;
use serde_json::{Value, json};

/// The URL of this very request with `marker` (and nothing else) changed: what `next` links point to.
pub fn with_marker(request: &Request, marker: &str) -> String {
    let query = request.query.rewritten(|pairs| {
        pairs.retain(|(name, _)| name != "marker");
        pairs.push(("marker".into(), marker.into()));
    });
    format!("{}?{query}", request.url(&request.path))
}

/// `{"rel": …, "href": …}`.
pub fn link(rel: &str, href: impl Into<String>) -> Value {
    json!({"rel": rel, "href": href.into()})
}
