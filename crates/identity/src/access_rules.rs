//! What an application credential with access rules may be used for.

use serde_json::Value;

/// The types under which a service is in the catalog.
fn types(service: &str) -> &[&str] {
    match service {
        "volume" | "block-storage" | "blockstorage" | "block_storage" => &["volumev3", "volume", "block-storage"],
        "load-balancer" | "loadbalancer" | "load_balancer" => &["load-balancer"],
        "key-manager" | "keymanager" | "key_manager" => &["key-manager"],
        _ => &[],
    }
}

/// Whether one of the rules, where there are any, is for this request.
pub(crate) fn admit(rules: Option<&Value>, service: &str, method: &str, path: &str) -> bool {
    let Some(rules) = rules.filter(|rules| !rules.is_null()) else {
        return true;
    };
    // A token can always be validated.
    if service == "identity" && method == "GET" && path.ends_with("/v3/auth/tokens") {
        return true;
    }
    let text = |rule: &Value, name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    rules.as_array().into_iter().flatten().any(|rule| {
        let kind = text(rule, "service");
        text(rule, "method") == method
            && (kind == service || types(service).contains(&kind.as_str()))
            && path_matches(&text(rule, "path"), path)
    })
}

/// `{name}` and `*` stand for one part of a path or some of it, `**` for any number of parts.
fn path_matches(pattern: &str, path: &str) -> bool {
    let path = path.as_bytes();
    // `reached[n]`: the pattern up to here can stand for the first n bytes. Linear in both, whatever the pattern.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let mut next = vec![false; reached.len()];
        let tag = rest
            .strip_prefix('{')
            .and_then(|p| p.split_once('}'))
            .map(|(_, rest)| rest);
        if let Some(after) = rest.strip_prefix("**") {
            let mut any = false;
            for (at, is) in reached.iter().enumerate() {
                any |= is;
                next[at] = any;
            }
            rest = after;
        } else if let Some(after) = tag.or_else(|| rest.strip_prefix('*')) {
            for at in 1..reached.len() {
                next[at] = path[at - 1] != b'/' && (reached[at - 1] || next[at - 1]);
            }
            rest = after;
        } else {
            let (literal, after) = rest.split_at(first.len_utf8());
            for at in (0..reached.len()).filter(|&at| reached[at] && path[at..].starts_with(literal.as_bytes())) {
                next[at + literal.len()] = true;
            }
            rest = after;
        }
        reached = next;
    }
    reached[path.len()]
}

#[cfg(test)]
mod tests {
    use super::{admit, path_matches};
    use serde_json::json;

    #[test]
    fn paths() {
        for (pattern, path, expected) in [
            ("/v2.1/servers", "/v2.1/servers", true),
            ("/v2.1/servers", "/v2.1/servers/x", false),
            ("/v2.1/servers/{server_id}", "/v2.1/servers/x", true),
            ("/v2.1/servers/{server_id}", "/v2.1/servers/x/action", false),
            ("/v2.1/servers/{server_id}/action", "/v2.1/servers/x/action", true),
            ("/v2.1/*/x", "/v2.1/a/x", true),
            ("/v2.1/*", "/v2.1/", false),
            ("/v2.1/**", "/v2.1/a/b/c", true),
            ("/v2.1/**/action", "/v2.1/a/b/action", true),
            ("**", "", true),
        ] {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn rules() {
        let rules = json!([{"service": "compute", "method": "GET", "path": "/v2.1/servers"}]);
        let admits = |service, method, path| admit(Some(&rules), service, method, path);
        assert!(admits("compute", "GET", "/v2.1/servers"));
        assert!(!admits("compute", "POST", "/v2.1/servers"));
        assert!(!admits("network", "GET", "/v2.1/servers"));
        assert!(!admits("identity", "GET", "/v3/users"));
        assert!(admits("identity", "GET", "/v3/auth/tokens"));
        assert!(!admit(Some(&json!([])), "compute", "GET", "/"));
        assert!(admit(None, "compute", "GET", "/"));
    }
}
