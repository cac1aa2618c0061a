//! What a client asks candidates for, parsed out of the query string.

use std::collections::BTreeSet;

use api::Version;
use api::schema::is_uuid_like;

/// One group of a request: what must be satisfied together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Amounts by class, in the client's order.
    pub resources: Vec<(String, i64)>,
    /// One trait of every group is needed.
    pub required_traits: Vec<Vec<String>>,
    /// None of these.
    pub forbidden_traits: Vec<String>,
    /// A member of one aggregate of every group.
    pub member_of: Vec<Vec<String>>,
    /// A member of none of these.
    pub forbidden_aggregates: Vec<String>,
    /// In the tree of this provider.
    pub in_tree: Option<String>,
}

/// What holds for the request as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wide {
    /// At most so many candidates.
    pub limit: Option<usize>,
    /// Groups with a suffix must not share a provider.
    pub isolate: bool,
    /// Traits the root of the tree must have.
    pub root_required: Vec<String>,
    /// Traits the root must not have.
    pub root_forbidden: Vec<String>,
    /// Suffixes of groups whose providers must lie below one of them.
    pub same_subtrees: Vec<BTreeSet<String>>,
}

/// A parameter that makes no sense: the text, and the code of the error, empty for none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad(pub String, pub &'static str);

fn bad<T>(text: impl Into<String>) -> Result<T, Bad> {
    Err(Bad(text.into(), ""))
}

const BAD_VALUE: &str = "placement.query.bad_value";

/// Pairs of a query string, in order.
pub type Pairs<'a> = &'a [(&'a str, &'a str)];

/// All values of a name.
fn all<'a>(pairs: Pairs<'a>, name: &str) -> Vec<&'a str> {
    pairs
        .iter()
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| *value)
        .collect()
}

/// `VCPU:2,MEMORY_MB:1024`.
pub fn resources(text: &str) -> Result<Vec<(String, i64)>, Bad> {
    const FORM: &str = "Badly formed resources parameter. Expected resources query string parameter in form: \
                        ?resources=VCPU:2,MEMORY_MB:1024. Got: ";
    if text.trim().is_empty() {
        return bad(format!("{FORM}empty string."));
    }
    let mut found: Vec<(String, i64)> = Vec::new();
    for part in text.split(',') {
        let Some((class, amount)) = part.split_once(':').filter(|(_, amount)| !amount.contains(':')) else {
            return bad(format!("{FORM}{part}."));
        };
        let Ok(number) = amount.trim().parse::<i64>() else {
            return bad(format!(
                "Requested resource {class} expected positive integer amount. Got: {amount}."
            ));
        };
        if number < 1 {
            return bad(format!(
                "Requested resource {class} requires amount >= 1. Got: {number}."
            ));
        }
        match found.iter_mut().find(|(have, _)| have == class) {
            Some(have) => have.1 = number,
            None => found.push((class.to_owned(), number)),
        }
    }
    Ok(found)
}

/// Required alternatives and forbidden traits.
type Traits = (Vec<Vec<String>>, Vec<String>);

fn traits_of(value: &str, forbidden: bool, any: bool) -> Result<Traits, Bad> {
    const PREFIX: &str = "Invalid query string parameters: ";
    if let Some(list) = value.strip_prefix("in:") {
        if !any {
            return bad(format!(
                "{PREFIX}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' only supported since microversion 1.39. Got: {value}"
            ));
        }
        let names: BTreeSet<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
        if names.contains("") {
            return bad(format!(
                "{PREFIX}Expected 'required' parameter value of the form: in:HW_CPU_X86_VMX,CUSTOM_MAGIC. Got an empty \
                 trait in: {value}"
            ));
        }
        if names.iter().any(|name| name.starts_with('!')) {
            return bad(format!(
                "{PREFIX}The format 'in:HW_CPU_X86_VMX,CUSTOM_MAGIC' does not support forbidden traits. Got: {value}"
            ));
        }
        return Ok((vec![names.into_iter().collect()], Vec::new()));
    }
    let names: Vec<&str> = value.split(',').map(str::trim).collect();
    let banned: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with('!'))
        .map(|name| name.trim_start_matches('!').to_owned())
        .collect();
    if names.iter().any(|name| name.is_empty()) || banned.iter().any(String::is_empty) {
        let form = if forbidden {
            "HW_CPU_X86_VMX,!CUSTOM_MAGIC"
        } else {
            "HW_CPU_X86_VMX,CUSTOM_MAGIC"
        };
        return bad(format!(
            "{PREFIX}Expected 'required' parameter value of the form: {form}. Got an empty trait in: {value}"
        ));
    }
    if !banned.is_empty() && !forbidden {
        return bad(format!(
            "{PREFIX}Expected 'required' parameter value of the form: HW_CPU_X86_VMX,CUSTOM_MAGIC. Got: {value}"
        ));
    }
    let required = names
        .iter()
        .filter(|name| !name.starts_with('!'))
        .map(|name| vec![(*name).to_owned()])
        .collect();
    Ok((required, banned))
}

/// All `required` parameters with a suffix. Before 1.39 only the last counts.
pub fn required(pairs: Pairs<'_>, suffix: &str, version: Version) -> Result<Traits, Bad> {
    let (forbidden, any) = (version >= Version(1, 22), version >= Version(1, 39));
    let mut values = all(pairs, &format!("required{suffix}"));
    if !any {
        values = values.split_off(values.len().saturating_sub(1));
    }
    let mut found: Traits = Default::default();
    for value in values {
        let (required, banned) = traits_of(value, forbidden, any)?;
        found.0.extend(required);
        found.1.extend(banned);
    }
    Ok(found)
}

/// All `member_of` parameters with a suffix: groups of which one is needed, and what is forbidden.
pub fn member_of(pairs: Pairs<'_>, suffix: &str, version: Version) -> Result<Traits, Bad> {
    let values = all(pairs, &format!("member_of{suffix}"));
    if version < Version(1, 24) && values.len() > 1 {
        return bad(format!("Multiple member_of{suffix} parameters are not supported"));
    }
    let mut found: Traits = Default::default();
    for value in values {
        if value.contains(',') && !value.starts_with("in:") && !value.starts_with("!in:") {
            return bad(format!(
                "Multiple values for 'member_of' must be prefixed with the 'in:' or '!in:' keyword using the valid \
                 microversion. Got: {value}"
            ));
        }
        let split = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (required, banned) = if let Some(list) = value.strip_prefix("!in:") {
            (Vec::new(), split(list))
        } else if let Some(one) = value.strip_prefix('!') {
            (Vec::new(), vec![one.to_owned()])
        } else if let Some(list) = value.strip_prefix("in:") {
            (split(list), Vec::new())
        } else {
            (vec![value.to_owned()], Vec::new())
        };
        if let Some(wrong) = required.iter().chain(&banned).find(|uuid| !is_uuid_like(uuid)) {
            return bad(format!(
                "Invalid query string parameters: Expected 'member_of' parameter to contain valid UUID(s). Got: {wrong}"
            ));
        }
        if !required.is_empty() {
            found.0.push(required);
        }
        if !banned.is_empty() {
            if version < Version(1, 32) {
                return bad(format!(
                    "Forbidden member_of{suffix} parameters are not supported in the specified microversion"
                ));
            }
            found.1.extend(banned);
        }
    }
    Ok(found)
}

/// Splits `resources_COMPUTE` into the parameter's name and its suffix.
fn split_key(key: &str, version: Version) -> Option<(&'static str, &str)> {
    let name = ["resources", "required", "member_of", "in_tree"]
        .into_iter()
        .find(|name| key.starts_with(name))?;
    let suffix = &key[name.len()..];
    let verbose = version >= Version(1, 33);
    let fits = suffix.is_empty()
        || if verbose {
            suffix.len() <= 64
                && suffix
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
        } else {
            !suffix.starts_with('0') && suffix.bytes().all(|c| c.is_ascii_digit())
        };
    fits.then_some((name, suffix))
}

/// The request as a whole and its groups by suffix.
pub fn parse(pairs: Pairs<'_>, version: Version) -> Result<(Vec<(String, Group)>, Wide), Bad> {
    let wide = wide(pairs)?;
    let mut groups: Vec<(String, Group)> = Vec::new();
    for (key, value) in pairs {
        let Some((name, suffix)) = split_key(key, version) else {
            continue;
        };
        if !groups.iter().any(|(have, _)| have == suffix) {
            groups.push((suffix.to_owned(), Group::default()));
        }
        let Some((_, group)) = groups.iter_mut().find(|(have, _)| have == suffix) else {
            continue;
        };
        match name {
            "resources" => group.resources = resources(value)?,
            "required" => (group.required_traits, group.forbidden_traits) = required(pairs, suffix, version)?,
            "member_of" => (group.member_of, group.forbidden_aggregates) = member_of(pairs, suffix, version)?,
            _ => {
                let uuid = value.trim();
                if !is_uuid_like(uuid) {
                    return bad(format!(
                        "Invalid query string parameters: Expected 'in_tree' parameter to be a format of uuid. Got: {value}"
                    ));
                }
                group.in_tree = Some(uuid.to_owned());
            }
        }
    }
    if version >= Version(1, 36) {
        check_subtrees(&groups, &wide)?;
    } else {
        check_orphans(&groups)?;
    }
    if version >= Version(1, 22) {
        check_conflicts(&groups)?;
    }
    if !pairs.iter().any(|(key, _)| *key == "group_policy")
        && groups.iter().filter(|(suffix, _)| !suffix.is_empty()).count() > 1
    {
        return bad(
            "The \"group_policy\" parameter is required when specifying more than one \"resources{N}\" parameter.",
        );
    }
    Ok((groups, wide))
}

fn wide(pairs: Pairs<'_>) -> Result<Wide, Bad> {
    let mut wide = Wide {
        limit: all(pairs, "limit").first().and_then(|limit| limit.parse().ok()),
        isolate: all(pairs, "group_policy").first() == Some(&"isolate"),
        ..Wide::default()
    };
    let roots = all(pairs, "root_required");
    if roots.len() > 1 {
        return Err(Bad(
            "Query parameter 'root_required' may be specified only once.".into(),
            "placement.query.duplicate_key",
        ));
    }
    if let Some(value) = roots.first() {
        let (required, forbidden) = traits_of(value, true, false)?;
        wide.root_required = required.into_iter().flatten().collect();
        wide.root_forbidden = forbidden;
        let conflicts: BTreeSet<&str> = wide
            .root_required
            .iter()
            .filter(|name| wide.root_forbidden.contains(name))
            .map(String::as_str)
            .collect();
        if !conflicts.is_empty() {
            let names = conflicts.into_iter().collect::<Vec<_>>().join(", ");
            let text = format!("Conflicting required and forbidden traits found in root_required: {names}");
            return Err(Bad(text, BAD_VALUE));
        }
    }
    for value in all(pairs, "same_subtree") {
        let suffixes: BTreeSet<String> = value.split(',').map(|suffix| suffix.trim().to_owned()).collect();
        if suffixes.contains("") {
            let text = "Empty string (unsuffixed group) can not be specified in `same_subtree` ";
            return Err(Bad(text.into(), BAD_VALUE));
        }
        wide.same_subtrees.push(suffixes);
    }
    Ok(wide)
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
    format!("[{}]", quoted.join(", "))
}

fn check_subtrees(groups: &[(String, Group)], wide: &Wide) -> Result<(), Bad> {
    let empty: Vec<&str> = groups
        .iter()
        .filter(|(_, group)| group.resources.is_empty())
        .map(|(suffix, _)| suffix.as_str())
        .collect();
    if empty.len() == groups.len() {
        let text = "There must be at least one resources or resources[$S] parameter.";
        return Err(Bad(text.into(), "placement.query.missing_value"));
    }
    let named: BTreeSet<&str> = wide.same_subtrees.iter().flatten().map(String::as_str).collect();
    let alone: Vec<&str> = empty.into_iter().filter(|suffix| !named.contains(suffix)).collect();
    if !alone.is_empty() {
        let text = format!(
            "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - {}.",
            list(&alone)
        );
        return Err(Bad(text, BAD_VALUE));
    }
    let known: Vec<&str> = groups.iter().map(|(suffix, _)| suffix.as_str()).collect();
    let unknown: Vec<&str> = named.into_iter().filter(|suffix| !known.contains(suffix)).collect();
    if !unknown.is_empty() {
        let text = format!(
            "Real suffixes should be specified in `same_subtree`: {} not found in {}.",
            list(&unknown),
            list(&known)
        );
        return Err(Bad(text, BAD_VALUE));
    }
    Ok(())
}

fn check_orphans(groups: &[(String, Group)]) -> Result<(), Bad> {
    let orphans = |name: &str, has: &dyn Fn(&Group) -> bool| {
        let found = groups
            .iter()
            .filter(|(_, group)| group.resources.is_empty() && has(group));
        found
            .map(|(suffix, _)| format!("{name}{suffix}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let traits = orphans("required", &|group| !group.required_traits.is_empty());
    if !traits.is_empty() {
        return bad(format!(
            "All traits parameters must be associated with resources.  Found the following orphaned traits keys: {traits}"
        ));
    }
    let aggregates = orphans("member_of", &|group| {
        !group.member_of.is_empty() || !group.forbidden_aggregates.is_empty()
    });
    if !aggregates.is_empty() {
        return bad(format!(
            "All member_of parameters must be associated with resources. Found the following orphaned member_of keys: \
             {aggregates}"
        ));
    }
    if groups.iter().any(|(_, group)| group.resources.is_empty()) {
        return bad("All request groups must specify resources.");
    }
    if groups.is_empty() {
        return bad("At least one request group (`resources` or `resources{$S}`) is required.");
    }
    Ok(())
}

fn check_conflicts(groups: &[(String, Group)]) -> Result<(), Bad> {
    let mut conflicts: Vec<String> = Vec::new();
    for (suffix, group) in groups {
        for any in &group.required_traits {
            if any.iter().all(|name| group.forbidden_traits.contains(name)) {
                conflicts.push(format!("required{suffix}: ({})", any.join(", ")));
            }
        }
    }
    conflicts.sort();
    if conflicts.is_empty() {
        return Ok(());
    }
    bad(format!(
        "Conflicting required and forbidden traits found in the following traits keys: {}",
        conflicts.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATEST: Version = Version(1, 39);

    fn error(pairs: Pairs<'_>, version: Version) -> String {
        parse(pairs, version).expect_err("must be refused").0
    }

    #[test]
    fn amounts_are_checked() {
        assert_eq!(
            resources("VCPU:2,DISK_GB:1").unwrap(),
            [("VCPU".into(), 2), ("DISK_GB".into(), 1)]
        );
        assert!(resources("VCPU").unwrap_err().0.ends_with("Got: VCPU."));
        assert!(
            resources("VCPU:x")
                .unwrap_err()
                .0
                .contains("expected positive integer amount. Got: x.")
        );
        assert!(
            resources("VCPU:0")
                .unwrap_err()
                .0
                .contains("requires amount >= 1. Got: 0.")
        );
    }

    #[test]
    fn groups_are_told_apart_by_suffix() {
        let pairs = [
            ("resources", "VCPU:1"),
            ("resources_NET", "SRIOV_NET_VF:1"),
            ("required_NET", "CUSTOM_A,!CUSTOM_B"),
            ("required_NET", "in:CUSTOM_C,CUSTOM_D"),
        ];
        let (groups, _) = parse(&pairs, LATEST).unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[1].0, "_NET");
        assert_eq!(
            groups[1].1.required_traits,
            [vec!["CUSTOM_A"], vec!["CUSTOM_C", "CUSTOM_D"]]
        );
        assert_eq!(groups[1].1.forbidden_traits, ["CUSTOM_B"]);
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        let two = [("resources1", "VCPU:1"), ("resources2", "VCPU:1")];
        assert!(error(&two, LATEST).starts_with("The \"group_policy\" parameter is required"));
        let orphan = [("resources", "VCPU:1"), ("required1", "CUSTOM_A")];
        assert!(error(&orphan, Version(1, 25)).contains("orphaned traits keys: required1"));
        assert!(error(&orphan, LATEST).contains("bad group(s) - ['1']"));
        let both = [("resources", "VCPU:1"), ("required", "CUSTOM_A,!CUSTOM_A")];
        assert!(error(&both, LATEST).ends_with("required: (CUSTOM_A)"));
        assert!(error(&both, Version(1, 17)).contains("Got: CUSTOM_A,!CUSTOM_A"));
    }
}
