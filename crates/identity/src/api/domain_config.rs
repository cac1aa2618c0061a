//! `/v3/domains/{id}/config` and the defaults of its options.

use super::*;
use crate::store::{domain_config as store, projects};
use std::sync::LazyLock;

/// The options a domain may set, with their defaults. `[ldap] password` may be set too, but is never shown.
static DEFAULTS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("domain_config_defaults.json")).unwrap_or_default());

pub(super) fn routes(routes: &mut Routes<Identity>) {
    let whole = "/v3/domains/{domain_id}/config";
    routes
        .get(whole, show)
        .put(whole, create)
        .patch(whole, update)
        .delete(whole, delete);
    for path in [
        "/v3/domains/{domain_id}/config/{group}",
        "/v3/domains/{domain_id}/config/{group}/{option}",
    ] {
        routes.get(path, show).patch(path, update).delete(path, delete);
    }
    for path in [
        "/v3/domains/config/default",
        "/v3/domains/config/{group}/default",
        "/v3/domains/config/{group}/{option}/default",
    ] {
        routes.get(path, defaults);
    }
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::Refused(format!("Invalid domain specific configuration: {}.", reason.into()))
}

fn is_sensitive(group: &str, option: &str) -> bool {
    (group, option) == ("ldap", "password")
}

fn check_known(group: Option<&str>, option: Option<&str>) -> Result<()> {
    let Some(group) = group else { return Ok(()) };
    let Some(options) = DEFAULTS.get(group) else {
        return Err(invalid(format!(
            "Group {group} is not supported for domain specific configurations"
        )));
    };
    match option {
        Some(option) if options.get(option).is_none() && !is_sensitive(group, option) => Err(invalid(format!(
            "Option {option} in group {group} is not supported for domain specific configurations"
        ))),
        _ => Ok(()),
    }
}

fn check_config(config: &Ref) -> Result<()> {
    if config.is_empty() {
        return Err(invalid("No options specified"));
    }
    for (group, options) in config {
        let Some(options) = options.as_object().filter(|options| !options.is_empty()) else {
            return Err(invalid(format!(
                "The value of group {group} specified in the config should be a dictionary of options"
            )));
        };
        for option in options.keys() {
            check_known(Some(group), Some(option))?;
        }
    }
    Ok(())
}

/// Group and option of the path.
fn named(r: &Request) -> (Option<&str>, Option<&str>) {
    let set = |name: &str| Some(r.param(name)).filter(|text| !text.is_empty());
    (set("group"), set("option"))
}

fn missing(domain: &str, group: Option<&str>, option: Option<&str>) -> Error {
    let what = match (group, option) {
        (Some(group), Some(option)) => format!("option {option} in group {group}"),
        (Some(group), None) => format!("group {group}"),
        _ => "any options".into(),
    };
    Error::Missing(format!(
        "Could not find {what} in domain configuration for domain {domain}."
    ))
}

/// A single option is shown without its group.
fn shown(config: Ref, group: Option<&str>, option: Option<&str>) -> Value {
    match (group, option) {
        (Some(group), Some(_)) => config.get(group).cloned().unwrap_or_default(),
        _ => config.into(),
    }
}

fn config_response(status: StatusCode, config: impl Into<Value>) -> Result<Response> {
    Ok(Response::json(status, &json!({"config": config.into()})))
}

fn security_compliance(s: &Identity, r: &Request, option: Option<&str>) -> Result<Value> {
    s.enforce(r, "identity:get_security_compliance_domain_config", &Target::new())?;
    if r.param("domain_id") != s.config.default_domain_id {
        return Err(invalid(
            "Reading security compliance information for any domain other than the default domain is not allowed or supported.",
        ));
    }
    let rules = &s.config.security_compliance;
    let all =
        json!({"password_regex": rules.password_regex, "password_regex_description": rules.password_regex_description});
    match option {
        Some(option) => match all.get(option) {
            Some(value) => Ok(json!({option: value})),
            None => Err(invalid(
                "Reading security compliance values other than password_regex and password_regex_description is not allowed.",
            )),
        },
        None => Ok(json!({"security_compliance": all})),
    }
}

fn show(s: &Identity, r: &Request) -> Result<Response> {
    let domain = r.param("domain_id");
    let (group, option) = named(r);
    let there = s.read(|tx| projects::get_domain(tx, domain));
    if group == Some("security_compliance") {
        let config = security_compliance(s, r, option)?;
        there?;
        return config_response(StatusCode::OK, config);
    }
    s.enforce(r, "identity:get_domain_config", &Target::new())?;
    there?;
    check_known(group, option)?;
    let config = s.read(|tx| store::get(tx, domain, group, option, false))?;
    if config.is_empty() {
        return Err(missing(domain, group, option));
    }
    config_response(StatusCode::OK, shown(config, group, option))
}

fn write(tx: &mut database::Tx<'_>, domain: &str, config: &Ref) -> Result<()> {
    for (group, options) in config {
        for (option, value) in options.as_object().into_iter().flatten() {
            store::set(tx, domain, group, option, value, is_sensitive(group, option))?;
        }
    }
    Ok(())
}

fn create(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:create_domain_config", &Target::new())?;
    let domain = r.param("domain_id");
    let config = part(r, "config")?;
    let (was, config) = s.write(|tx| {
        projects::get_domain(tx, domain)?;
        let was = store::get(tx, domain, None, None, true)?;
        check_config(&config)?;
        store::delete(tx, domain, None, None)?;
        write(tx, domain, &config)?;
        Ok((was, store::get(tx, domain, None, None, false)?))
    })?;
    config_response(
        if was.is_empty() {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        },
        config,
    )
}

fn update(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:update_domain_config", &Target::new())?;
    let domain = r.param("domain_id");
    let (group, option) = named(r);
    let given = part(r, "config")?;
    let config = match (group, option) {
        (Some(group), Some(_)) => Ref::from_iter([(group.to_owned(), Value::Object(given))]),
        _ => given,
    };
    let config = s.write(|tx| {
        projects::get_domain(tx, domain)?;
        check_config(&config)?;
        check_known(group, option)?;
        if let Some(group) = group {
            check_update(tx, domain, &config, group, option)?;
        }
        write(tx, domain, &config)?;
        store::get(tx, domain, None, None, false)
    })?;
    config_response(StatusCode::OK, config)
}

/// An update of a group or an option must be of that, and that must be set already.
fn check_update(
    tx: &mut database::Tx<'_>,
    domain: &str,
    config: &Ref,
    group: &str,
    option: Option<&str>,
) -> Result<()> {
    let options = config.get(group).and_then(Value::as_object);
    if config.len() != 1 || (option.is_some() && options.is_some_and(|o| o.len() != 1)) {
        return Err(invalid(match option {
            Some(option) => {
                format!(
                    "Trying to update option {option} in group {group}, so that, and only that, option must be specified  in the config"
                )
            }
            None => {
                format!("Trying to update group {group}, so that, and only that, group must be specified in the config")
            }
        }));
    }
    let Some(options) = options else {
        let other = config.keys().next().map_or("", String::as_str);
        return Err(invalid(format!(
            "request to update group {group}, but config provided contains group {other} instead"
        )));
    };
    if let Some(option) = option.filter(|option| !options.contains_key(*option)) {
        let other = options.keys().next().map_or("", String::as_str);
        return Err(invalid(format!(
            "Trying to update option {option} in group {group}, but config provided contains option {other} instead"
        )));
    }
    if store::get(tx, domain, Some(group), option, true)?.is_empty() {
        return Err(missing(domain, Some(group), option));
    }
    Ok(())
}

fn delete(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:delete_domain_config", &Target::new())?;
    let domain = r.param("domain_id");
    let (group, option) = named(r);
    s.write(|tx| {
        projects::get_domain(tx, domain)?;
        check_known(group, option)?;
        if group.is_some() {
            if store::get(tx, domain, group, None, true)?.is_empty() {
                return Err(missing(domain, group, None));
            }
            if store::get(tx, domain, group, option, true)?.is_empty() {
                return Err(missing(domain, group, option));
            }
        }
        store::delete(tx, domain, group, option)
    })?;
    no_content()
}

fn defaults(s: &Identity, r: &Request) -> Result<Response> {
    s.enforce(r, "identity:get_domain_config_default", &Target::new())?;
    let (group, option) = named(r);
    check_known(group, option)?;
    let config = match (group, option) {
        (Some(group), Some(option)) => match DEFAULTS[group].get(option) {
            Some(value) => json!({option: value}),
            None => {
                return Err(invalid(format!(
                    "Reading the default for option {option} in group {group} is not supported"
                )));
            }
        },
        (Some(group), None) => json!({group: DEFAULTS[group]}),
        _ => DEFAULTS.clone(),
    };
    config_response(StatusCode::OK, config)
}
