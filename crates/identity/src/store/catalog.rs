//! Regions, services and endpoints, and the catalog that is made of them.

use super::{Kind, Ref, Table, endpoint_filter, text};
use crate::{Error, Result};
use database::{Tx, params};
use serde_json::{Value, json};

/// The table of regions.
pub const REGIONS: Table = Table {
    name: "identity_regions",
    kind: "region",
    missing: |id| Error::not_found("region", id),
    columns: &[
        ("id", Kind::Text(255)),
        ("description", Kind::Text(255)),
        ("parent_region_id", Kind::Text(255)),
    ],
    extra: true,
};

/// The table of services.
pub const SERVICES: Table = Table {
    name: "identity_services",
    kind: "service",
    missing: |id| Error::not_found("service", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("type", Kind::Text(255)),
        ("name", Kind::Text(0)),
        ("enabled", Kind::Bool),
    ],
    extra: true,
};

/// The table of endpoints.
pub const ENDPOINTS: Table = Table {
    name: "identity_endpoints",
    kind: "endpoint",
    missing: |id| Error::not_found("endpoint", id),
    columns: &[
        ("id", Kind::Text(64)),
        ("interface", Kind::Text(8)),
        ("region_id", Kind::Text(255)),
        ("service_id", Kind::Text(64)),
        ("url", Kind::Text(0)),
        ("enabled", Kind::Bool),
    ],
    extra: true,
};

/// Every region, service and endpoint.
pub fn everything(table: &Table, tx: &mut Tx<'_>) -> Result<Vec<Ref>> {
    table.find_all(tx, "1 = 1", &[])
}

/// The region and all below it.
pub fn region_tree(tx: &mut Tx<'_>, id: &str) -> Result<Vec<String>> {
    let mut all = vec![id.to_owned()];
    let mut next = 0;
    while next < all.len() {
        let below: Vec<String> = tx.column(
            "SELECT id FROM identity_regions WHERE parent_region_id = ?1 ORDER BY id",
            &params![&all[next]],
        )?;
        all.extend(below.into_iter().filter(|id| !all.contains(id)).collect::<Vec<_>>());
        next += 1;
    }
    Ok(all)
}

/// An endpoint's URL with its placeholders (`$(project_id)s`, `%(project_id)s`) filled in; `None` where it cannot be shown.
pub fn format_url(url: &str, user_id: &str, project_id: Option<&str>) -> Option<String> {
    substitute(url, |key| match key {
        "user_id" => Some(user_id),
        "tenant_id" | "project_id" => project_id,
        _ => None,
    })
}

/// Whether the URL has only placeholders that the catalog knows, well-formed.
pub fn is_valid_url(url: &str) -> bool {
    let known = ["tenant_id", "project_id", "user_id", "compute_host", "public_endpoint"];
    substitute(url, |key| known.contains(&key).then_some("")).is_some()
}

fn substitute<'a>(url: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let url = url.replace("$(", "%(");
    let mut out = String::with_capacity(url.len());
    let mut rest = url.as_str();
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (key, after) = rest.strip_prefix('(')?.split_once(')')?;
        out.push_str(value(key)?);
        rest = after.strip_prefix('s')?;
    }
    out.push_str(rest);
    Some(out)
}

/// The catalog as a token shows it.
pub fn catalog(tx: &mut Tx<'_>, user_id: &str, project_id: Option<&str>) -> Result<Value> {
    let filtered: Option<Vec<String>> = match project_id {
        Some(project) => {
            let endpoints = endpoint_filter::endpoints_of_project(tx, project)?;
            let enabled = endpoints
                .iter()
                .filter(|e| super::is_true(e, "enabled"))
                .map(|e| text(e, "id").to_owned())
                .collect();
            (!endpoints.is_empty()).then_some(enabled)
        }
        None => None,
    };
    let endpoints = ENDPOINTS.find_all(tx, "enabled = 1", &[])?;
    let services = SERVICES.find_all(tx, "enabled = 1", &[])?;
    let mut catalog = Vec::with_capacity(services.len());
    for service in services {
        let own = endpoints.iter().filter(|e| e["service_id"] == service["id"]);
        let shown: Vec<Value> = own
            .filter(|e| {
                filtered
                    .as_ref()
                    .is_none_or(|kept| kept.iter().any(|id| id == text(e, "id")))
            })
            .filter_map(|endpoint| {
                let mut endpoint = endpoint.clone();
                let url = format_url(text(&endpoint, "url"), user_id, project_id)?;
                endpoint.remove("service_id");
                endpoint.remove("enabled");
                endpoint.insert("region".into(), endpoint["region_id"].clone());
                endpoint.insert("url".into(), url.into());
                Some(Value::Object(endpoint))
            })
            .collect();
        if filtered.is_none() || !shown.is_empty() {
            catalog.push(json!({"endpoints": shown, "id": service["id"], "type": service["type"], "name": text(&service, "name")}));
        }
    }
    Ok(catalog.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_take_their_placeholders() {
        assert_eq!(
            format_url("http://a/v1/$(project_id)s", "u", Some("p")).as_deref(),
            Some("http://a/v1/p")
        );
        assert_eq!(
            format_url("http://a/%(tenant_id)s/%(user_id)s", "u", Some("p")).as_deref(),
            Some("http://a/p/u")
        );
        assert_eq!(
            format_url("http://a/%(project_id)s", "u", None),
            None,
            "a token without a project does not see the endpoint"
        );
        assert!(is_valid_url("http://a/100%%"));
        assert!(!is_valid_url("http://a/$(nonsense)s"));
        assert!(!is_valid_url("http://a/$(project_id)"));
    }
}
