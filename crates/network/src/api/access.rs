//! oslo.policy as Networking uses it: rules of attributes, targets that look at parents, and what is hidden.

use crate::caller::Cx;
use crate::model::attribute::{Body, Resource};
use crate::store::item::Item;
use crate::{Error, Result};
use database::params;
use policy::{Denied, Target};
use serde_json::Value;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

/// What a rule looks at: an item or a body, and its parents by their keys.
struct WithParents<'a, T> {
    inner: &'a T,
    parents: HashMap<&'static str, Option<Value>>,
}

impl<T: Target> Target for WithParents<'_, T> {
    fn get(&self, key: &str) -> Option<Value> {
        match self.inner.get(key) {
            // `shared` of a subnet or port is its network's, where it has none itself.
            Some(value) => Some(value),
            None => self.parents.get(key).cloned().flatten(),
        }
    }

    fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.inner.text(key).or_else(|| {
            let value = self.parents.get(key)?.as_ref()?;
            Some(Cow::Owned(crate::model::python::show(value)))
        })
    }
}

/// Looks parents up once per request; a list asks for the same network again and again.
#[derive(Default)]
pub struct Parents {
    networks: RefCell<HashMap<String, (Option<Value>, bool)>>,
    groups: RefCell<HashMap<String, Option<Value>>>,
}

impl Parents {
    fn network(&self, cx: &mut Cx<'_, '_>, id: &str) -> Result<(Option<Value>, bool)> {
        if let Some(known) = self.networks.borrow().get(id) {
            return Ok(known.clone());
        }
        let owner: Option<String> = cx.tx.scalar("SELECT project_id FROM networks WHERE id = ?1", &params![id])?;
        let shared = "SELECT id FROM rbac_policies WHERE object_type = 'network' AND object_id = ?1 AND action = 'access_as_shared' AND target_project IN (?2, '*')";
        let shared = cx.tx.query_one(shared, &params![id, cx.caller.project()])?.is_some();
        let found = (owner.map(Value::from), shared);
        self.networks.borrow_mut().insert(id.into(), found.clone());
        Ok(found)
    }

    fn of<'a, T: Target>(&self, cx: &mut Cx<'_, '_>, target: &'a T) -> Result<WithParents<'a, T>> {
        let mut parents = HashMap::new();
        if let Some(Value::String(id)) = target.get("network_id") {
            let (owner, shared) = self.network(cx, &id)?;
            parents.insert("network:project_id", owner.clone());
            parents.insert("network:tenant_id", owner);
            parents.insert("shared", Some(Value::Bool(shared)));
        }
        if let Some(Value::String(id)) = target.get("security_group_id") {
            let known = self.groups.borrow().get(&id).cloned();
            let owner = match known {
                Some(owner) => owner,
                None => {
                    let owner: Option<String> =
                        cx.tx.scalar("SELECT project_id FROM security_groups WHERE id = ?1", &params![&id])?;
                    let owner = owner.map(Value::from);
                    self.groups.borrow_mut().insert(id, owner.clone());
                    owner
                }
            };
            parents.insert("security_group:project_id", owner);
        }
        Ok(WithParents { inner: target, parents })
    }

    /// Whether the policy lets the caller do it.
    pub fn allows<T: Target>(&self, cx: &mut Cx<'_, '_>, rule: &str, target: &T) -> Result<bool> {
        let target = self.of(cx, target)?;
        Ok(cx.net.policy.allows(rule, &target, &cx.caller.context.credentials))
    }
}

/// Turns a refusal into the error.
fn denied(denial: Denied, text: String) -> Error {
    match denial {
        Denied::Scope { .. } => Error::InvalidScope { msg: denial.to_string() },
        Denied::Check { .. } => Error::PolicyNotAuthorized { rule: text },
    }
}

/// Refuses with 403 where the rule is not met.
pub fn require<T: Target>(cx: &mut Cx<'_, '_>, rule: &str, target: &T) -> Result<()> {
    let parents = Parents::default();
    let target = parents.of(cx, target)?;
    let asked = cx.net.policy.check(rule, &target, &cx.caller.context.credentials);
    asked.map_err(|denial| denied(denial, format!("rule:{rule}")))
}

/// Refuses where a rule is not met: with 404 where the caller may not even see the item.
pub fn require_on(cx: &mut Cx<'_, '_>, rule: &str, item: &Item) -> Result<()> {
    match require(cx, rule, item) {
        Err(refusal) if !Parents::default().allows(cx, &format!("get_{}", item.resource.name), item)? => {
            let _ = refusal;
            Err(Error::hidden())
        }
        other => other,
    }
}

/// The rules of the attributes that a body sets: `create_network:shared`, `create_port:fixed_ips:ip_address`, …
/// Each with its text in upstream's message, in upstream's nesting.
fn attribute_rules(resource: &Resource, action: &str, body: &Body, creating: bool) -> Vec<(String, Vec<String>)> {
    let mut rules = Vec::new();
    for attribute in resource.attributes {
        if !attribute.enforced {
            continue;
        }
        let Some(value) = body.get(attribute.name) else { continue };
        if creating && attribute.initial.value().as_ref() == Some(value) {
            continue;
        }
        let rule = format!("{action}:{}", attribute.name);
        let mut parts = vec![rule.clone()];
        match value {
            Value::Object(map) if attribute.name == "external_gateway_info" => {
                parts.extend(map.keys().map(|key| format!("{rule}:{key}")));
            }
            Value::Array(items) => {
                for map in items.iter().filter_map(Value::as_object) {
                    parts.extend(map.keys().map(|key| format!("{rule}:{key}")));
                }
            }
            _ => {}
        }
        rules.push((rule, parts));
    }
    rules
}

fn check_with_attributes<T: Target>(
    cx: &mut Cx<'_, '_>,
    resource: &Resource,
    action: &str,
    target: &T,
    body: &Body,
    creating: bool,
) -> Result<()> {
    let rules = attribute_rules(resource, action, body, creating);
    let parents = Parents::default();
    let target = parents.of(cx, target)?;
    let (policy, credentials) = (&cx.net.policy, &cx.caller.context.credentials);
    let mut text = format!("rule:{action}");
    for (_, parts) in &rules {
        let mut inner = format!("rule:{}", parts[0]);
        if let [_, more @ ..] = parts.as_slice()
            && !more.is_empty()
        {
            let more: Vec<String> = more.iter().map(|p| format!("rule:{p}")).collect();
            inner = format!("({inner} and ({}))", more.join(" and "));
        }
        text = format!("({text} and {inner})");
    }
    if rules.is_empty() {
        return policy.check(action, &target, credentials).map_err(|denial| denied(denial, text));
    }
    let allowed = policy.allows_in_any_scope(action, &target, credentials)
        && rules.iter().flat_map(|(_, parts)| parts).all(|part| policy.allows_in_any_scope(part, &target, credentials));
    if allowed { Ok(()) } else { Err(Error::PolicyNotAuthorized { rule: text }) }
}

/// May the caller create this? A parent that is not there, or not for this caller's eyes, is told before.
pub fn create(cx: &mut Cx<'_, '_>, resource: &Resource, body: &Body) -> Result<()> {
    if let Some(id) = body.get("network_id").and_then(Value::as_str) {
        let mut seen = crate::store::item::select(cx, &super::networks::NETWORK);
        seen.filter("t.id = ?", &params![id]);
        if seen.count(cx.tx)? == 0 {
            return Err(Error::NetworkNotFound { id: id.into() });
        }
    }
    if let Some(id) = body.get("security_group_id").and_then(Value::as_str)
        && cx.tx.query_one("SELECT id FROM security_groups WHERE id = ?1", &params![id])?.is_none()
    {
        return Err(Error::SecurityGroupNotFound { id: id.into() });
    }
    check_with_attributes(cx, resource, &format!("create_{}", resource.name), body, body, true)
}

/// May the caller change this, so?
pub fn update(cx: &mut Cx<'_, '_>, item: &Item, body: &Body) -> Result<()> {
    let merged = item.merged(body);
    let action = format!("update_{}", item.resource.name);
    match check_with_attributes(cx, item.resource, &action, &merged, body, false) {
        Ok(()) => Ok(()),
        Err(refusal) => {
            let seen = Parents::default().allows(cx, &format!("get_{}", item.resource.name), &merged)?;
            Err(if seen { refusal } else { Error::hidden() })
        }
    }
}

/// Which attributes the caller is shown: visible ones whose `get_network:…` rule, where there is one, lets it; judged by one item.
pub fn shown(cx: &mut Cx<'_, '_>, resource: &Resource, item: &Item, fields: &[&str]) -> Result<Vec<bool>> {
    let parents = Parents::default();
    let target = parents.of(cx, item)?;
    let (policy, credentials) = (&cx.net.policy, &cx.caller.context.credentials);
    let mut rule = format!("get_{}:", resource.name);
    let stem = rule.len();
    Ok(resource
        .attributes
        .iter()
        .map(|attribute| {
            if !attribute.visible || !fields.is_empty() && !fields.contains(&attribute.name) {
                return false;
            }
            rule.truncate(stem);
            rule.push_str(attribute.name);
            !policy.has_rule(&rule) || policy.allows(&rule, &target, credentials)
        })
        .collect())
}
