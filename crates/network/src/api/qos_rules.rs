//! Rules of QoS policies, their aliases without the policy in the path, and the types that there are.

use super::networks::rows_for;
use super::qos::{POLICY, changed};
use super::{access, body, list};
use crate::api_prelude::*;
use crate::attributes;
use crate::caller::Caller;
use ::api::{Request, Response, Routes, StatusCode};

const DSCP: &[i64] = &[0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 44, 46, 48, 56];
const MOST: i64 = 2_147_483_647;
const DIRECTION: Attribute = a("direction", "CUVFS").or(Initial::Text("egress")).is(Check::Values(&["ingress", "egress"])).text();

const fn amount(name: &'static str) -> Attribute {
    a(name, "CUVFS").to(convert::int).is(Check::Range(0, MOST)).int()
}

/// A type of rules.
struct Type {
    name: &'static str,
    resource: Resource,
}

macro_rules! types {
    ($($name:literal, [$($attribute:expr),*];)*) => { &[$(Type {
        name: $name,
        resource: Resource {
            table: "qos_rules",
            standard: false,
            sight: Sight::Everyone,
            ..Resource::base(
                concat!($name, "_rule"), concat!($name, "_rules"),
                concat!("/v2.0/qos/policies/{policy}/", $name, "_rules"), concat!("/v2.0/qos/policies/{policy}/", $name, "_rules/{id}"),
                attributes![plain; ID, $($attribute),*],
                |id| Error::QosRuleNotFound { rule_id: id.into(), policy_id: String::new() },
            )
        },
    },)*] };
}

static TYPES: &[Type] = types![
    "bandwidth_limit", [amount("max_kbps"), amount("max_burst_kbps").or(Initial::Int(0)), DIRECTION];
    "dscp_marking", [a("dscp_mark", "CUVFS").to(convert::int).is(Check::Numbers(DSCP)).int()];
    "minimum_bandwidth", [amount("min_kbps"), DIRECTION];
    "minimum_packet_rate", [
        amount("min_kpps"),
        a("direction", "CUVFS").or(Initial::Text("egress")).is(Check::Values(&["any", "ingress", "egress"])).text()
    ];
    "packet_rate_limit", [amount("max_kpps"), amount("max_burst_kpps").or(Initial::Int(0)), DIRECTION];
];

/// Rules of several policies, each with its policy, as a policy shows them.
pub fn of_policies(cx: &mut Cx<'_, '_>, ids: &[String]) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for kind in TYPES {
        let columns = format!("t.policy_id, {}", kind.resource.select_list());
        let also = params![kind.name];
        for row in rows_for(cx, &columns, "qos_rules t", "t.policy_id", ids, Some(("t.rule_type = ?", &also)), &["t.id"])? {
            let policy: String = row.get(0)?;
            let mut rule = Map::new();
            for (at, attribute) in kind.resource.attributes.iter().enumerate() {
                let value = match row.value(at + 1) {
                    Sql::Int(n) => json!(n),
                    Sql::Text(text) => json!(text),
                    _ => Value::Null,
                };
                rule.insert(attribute.name.into(), value);
            }
            rule.insert("type".into(), json!(kind.name));
            rule.insert("qos_policy_id".into(), json!(policy));
            found.push((policy, Value::Object(rule)));
        }
    }
    Ok(found)
}

/// Adds the routes of all types.
pub fn mount(routes: &mut Routes<crate::Network>) {
    for kind in TYPES {
        routes.get(kind.resource.path, move |n: &crate::Network, r: &Request| index(n, kind, r));
        routes.post(kind.resource.path, move |n: &crate::Network, r: &Request| create(n, kind, r));
        routes.get(kind.resource.item_path, move |n: &crate::Network, r: &Request| show(n, kind, r, false));
        routes.put(kind.resource.item_path, move |n: &crate::Network, r: &Request| update(n, kind, r, false));
        routes.delete(kind.resource.item_path, move |n: &crate::Network, r: &Request| delete(n, kind, r));
        let alias: &'static str = match kind.name {
            "bandwidth_limit" => "/v2.0/qos/alias-bandwidth-limit-rules/{id}",
            "dscp_marking" => "/v2.0/qos/alias-dscp-marking-rules/{id}",
            "minimum_bandwidth" => "/v2.0/qos/alias-minimum-bandwidth-rules/{id}",
            "minimum_packet_rate" => "/v2.0/qos/alias-minimum-packet-rate-rules/{id}",
            _ => "/v2.0/qos/alias-packet-rate-limit-rules/{id}",
        };
        routes.get(alias, move |n: &crate::Network, r: &Request| show(n, kind, r, true));
        routes.put(alias, move |n: &crate::Network, r: &Request| update(n, kind, r, true));
        routes.delete(alias, move |n: &crate::Network, r: &Request| delete(n, kind, r));
    }
    routes.get("/v2.0/qos/rule-types", rule_types);
    routes.get("/v2.0/qos/rule-types/{type}", rule_type);
}

/// The policy that the path names; for an alias the rule's own.
fn policy(cx: &mut Cx<'_, '_>, request: &Request) -> Result<Item> {
    let named = request.param("policy");
    if !named.is_empty() {
        return item::get(cx, &POLICY, named);
    }
    let id = request.param("id");
    let found: Option<String> = cx.tx.scalar("SELECT policy_id FROM qos_rules WHERE id = ?1", &params![id])?;
    match found {
        Some(policy) => item::get(cx, &POLICY, &policy),
        None => Err(Error::QosRuleNotFound { rule_id: id.into(), policy_id: String::new() }),
    }
}

fn allowed(cx: &mut Cx<'_, '_>, action: &str, kind: &Type, policy: &Item) -> Result<()> {
    let rule = format!("{action}_policy_{}_rule", kind.name);
    let target = [("ext_parent:project_id", policy.text("project_id").to_string()), ("project_id", policy.text("project_id").to_string())];
    match access::require(cx, &rule, &target) {
        Err(refusal) if action != "create" => {
            let seen = access::require(cx, &format!("get_policy_{}_rule", kind.name), &target).is_ok();
            Err(if seen { refusal } else { Error::hidden() })
        }
        other => other,
    }
}

fn find(cx: &mut Cx<'_, '_>, kind: &'static Type, policy: &Item, id: &str) -> Result<Item> {
    let found = item::all_with(cx, &kind.resource, "t.id = ? AND t.policy_id = ? AND t.rule_type = ?", &params![id, policy.id(), kind.name])?.pop();
    found.ok_or_else(|| Error::QosRuleNotFound { rule_id: id.into(), policy_id: policy.id().into() })
}

fn index(net: &crate::Network, kind: &'static Type, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        let policy = policy(cx, request)?;
        allowed(cx, "get", kind, &policy)?;
        let rules = item::all_with(cx, &kind.resource, "t.policy_id = ? AND t.rule_type = ?", &params![policy.id(), kind.name])?;
        list::list_of(cx, &kind.resource, request, rules)
    })
}

fn show(net: &crate::Network, kind: &'static Type, request: &Request, alias: bool) -> Result<Response> {
    net.read(request, |cx| {
        let policy = policy(cx, request)?;
        allowed(cx, "get", kind, &policy)?;
        let rule = find(cx, kind, &policy, request.param("id"))?;
        answer(cx, kind, &rule, request, StatusCode::OK, alias)
    })
}

fn answer(cx: &mut Cx<'_, '_>, kind: &Type, rule: &Item, request: &Request, status: StatusCode, alias: bool) -> Result<Response> {
    if !alias {
        return list::single(cx, rule, request, status);
    }
    let shown: Map<String, Value> = rule.resource.attributes.iter().map(|a| (a.name.to_string(), rule.get(a.name).clone())).collect();
    let mut outer = Map::new();
    outer.insert(format!("alias_{}_rule", kind.name), Value::Object(shown));
    Ok(Response::json(status, &Value::Object(outer)))
}

/// A rule must not contradict the others of its policy, nor be there twice for a direction.
fn check(cx: &mut Cx<'_, '_>, kind: &Type, policy: &Item, id: &str, body: &Body, direction: &Value) -> Result<()> {
    let given = |name: &str| body.get(name).and_then(Value::as_i64);
    for (_, rule) in of_policies(cx, &[policy.id().to_string()])? {
        let same_direction = body.get("direction").is_none_or(|d| *d == rule["direction"]);
        let other = rule["type"].as_str().unwrap_or_default();
        let conflict = |value: i64, existing: &Value| Error::QoSRuleParameterConflict {
            rule_value: value.to_string(),
            policy_id: policy.id().into(),
            existing_rule: other.into(),
            existing_value: show_value(existing),
        };
        if same_direction && other == "minimum_bandwidth" {
            if let (Some(max), Some(min)) = (given("max_kbps"), rule["min_kbps"].as_i64())
                && min > max
            {
                return Err(conflict(max, &rule["min_kbps"]));
            }
        } else if same_direction && other == "bandwidth_limit" {
            if let (Some(min), Some(max)) = (given("min_kbps"), rule["max_kbps"].as_i64())
                && max < min
            {
                return Err(conflict(min, &rule["max_kbps"]));
            }
        }
        if rule["id"] == id || other != kind.name {
            continue;
        }
        let any = json!("any");
        if kind.name == "minimum_packet_rate" && (*direction == any) != (rule["direction"] == any) {
            return Err(Error::QoSRuleParameterConflict {
                rule_value: show_value(direction),
                policy_id: policy.id().into(),
                existing_rule: other.into(),
                existing_value: show_value(&rule["direction"]),
            });
        }
        if kind.name == "dscp_marking" || rule["direction"] == *direction {
            return Err(Error::QoSRulesConflict { new_rule_type: kind.name.into(), rule_id: show_value(&rule["id"]), policy_id: policy.id().into() });
        }
    }
    Ok(())
}

fn show_value(value: &Value) -> String {
    crate::model::python::show(value)
}

fn create(net: &crate::Network, kind: &'static Type, request: &Request) -> Result<Response> {
    let caller = Caller::new(request.context().clone());
    let bodies = body::create(&kind.resource, &caller, request)?;
    let given = bodies.items.into_iter().next().unwrap_or_default();
    net.write(request, |cx| {
        // A stranger is told that it may not, rather than that there is no such policy, as upstream does.
        let policy = policy(&mut cx.elevated(), request)?;
        allowed(cx, "create", kind, &policy)?;
        let id = item::new_id();
        let direction = given.get("direction").cloned().unwrap_or_default();
        check(cx, kind, &policy, &id, &given, &direction)?;
        item::insert(cx, &kind.resource, &id, &given, &[("policy_id", Sql::from(policy.id())), ("rule_type", Sql::from(kind.name))])?;
        item::bump(cx, &POLICY, policy.id())?;
        changed(cx, policy.id())?;
        let rule = find(cx, kind, &policy, &id)?;
        list::single(cx, &rule, request, StatusCode::CREATED)
    })
}

fn update(net: &crate::Network, kind: &'static Type, request: &Request, alias: bool) -> Result<Response> {
    let caller = Caller::new(request.context().clone());
    let mut request = request.clone();
    if alias {
        let mut outer = body::object(&request)?;
        if let Some(inner) = outer.remove(&format!("alias_{}_rule", kind.name)) {
            outer.insert(kind.resource.name.into(), inner);
        }
        request.body = Value::Object(outer).to_string().into();
    }
    let given = body::update(&kind.resource, &caller, &request)?;
    net.write(&request, |cx| {
        let policy = policy(cx, &request)?;
        allowed(cx, "update", kind, &policy)?;
        let old = find(cx, kind, &policy, request.param("id"))?;
        let direction = given.get("direction").unwrap_or(old.get("direction")).clone();
        check(cx, kind, &policy, old.id(), &given, &direction)?;
        item::update(cx, &old, &given, &[])?;
        item::bump(cx, &POLICY, policy.id())?;
        changed(cx, policy.id())?;
        let rule = find(cx, kind, &policy, old.id())?;
        answer(cx, kind, &rule, &request, StatusCode::OK, alias)
    })
}

fn delete(net: &crate::Network, kind: &'static Type, request: &Request) -> Result<Response> {
    net.write(request, |cx| {
        let policy = policy(cx, request)?;
        allowed(cx, "delete", kind, &policy)?;
        let rule = find(cx, kind, &policy, request.param("id"))?;
        item::delete(cx, &rule)?;
        item::bump(cx, &POLICY, policy.id())?;
        changed(cx, policy.id())?;
        Ok(Response::empty(StatusCode::NO_CONTENT))
    })
}

fn rule_types(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        access::require(cx, "get_rule_type", &[("project_id", cx.caller.project().to_string())])?;
        let wanted: Vec<&str> = request.query.all("type").collect();
        let types: Vec<Value> =
            TYPES.iter().filter(|t| wanted.is_empty() || wanted.contains(&t.name)).map(|t| json!({"type": t.name})).collect();
        Ok(Response::json(StatusCode::OK, &json!({"rule_types": types})))
    })
}

/// Administrators are told what drivers do with a type.
fn rule_type(net: &crate::Network, request: &Request) -> Result<Response> {
    net.read(request, |cx| {
        if !cx.caller.admin {
            return Err(Error::NotAuthorized {});
        }
        let Some(kind) = TYPES.iter().find(|t| t.name == request.param("type")) else { return Err(Error::hidden()) };
        let range = json!({"start": 0, "end": MOST});
        let parameters: Vec<Value> = kind.resource.attributes[1..]
            .iter()
            .map(|a| {
                let (of, values) = match a.name {
                    "direction" if kind.name == "minimum_packet_rate" => ("choices", json!(["any", "ingress", "egress"])),
                    "direction" => ("choices", json!(["ingress", "egress"])),
                    "dscp_mark" => ("choices", json!(DSCP)),
                    _ => ("range", range.clone()),
                };
                json!({"parameter_name": a.name, "parameter_type": of, "parameter_values": values})
            })
            .collect();
        let drivers = json!([{"name": "openvswitch", "supported_parameters": parameters}]);
        Ok(Response::json(StatusCode::OK, &json!({"rule_type": {"type": kind.name, "drivers": drivers}})))
    })
}
