//! From rules in text to a tree with every name resolved.

use std::borrow::Cow;
use std::collections::HashMap;

use regex::Regex;
use serde_json::Value;

use crate::credentials::Attribute;
use crate::parse::{self, Expression};
use crate::target::python_str;
use crate::{Compiled, Enforcer, PolicyError, Rule, Target};

/// A check with its rules, attributes and templates resolved.
#[derive(Debug)]
pub(crate) enum Check {
    True,
    False,
    Not(Box<Check>),
    And(Vec<Check>),
    Or(Vec<Check>),
    Rule(usize),
    Role(Template),
    /// `'public':%(visibility)s`, `None:%(…)s`, `True:%(…)s`.
    Literal(String, Template),
    /// `project_id:%(project_id)s`.
    Attribute(Attribute, Template),
    Field(Field),
}

/// The right side of a check: a text with `%(key)s` in it.
#[derive(Debug)]
pub(crate) enum Template {
    Text(String),
    Key(String),
    Mixed(Vec<Template>),
    /// A format Python would refuse: matches nothing.
    Broken,
}

impl Template {
    fn new(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let key = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            let Some((key, after)) = key.and_then(|(key, after)| Some((key, after.strip_prefix('s')?))) else {
                tracing::error!(
                    template = text,
                    "cannot understand the right side of a policy check; it denies"
                );
                return Template::Broken;
            };
            if !plain.is_empty() {
                parts.push(Template::Text(std::mem::take(&mut plain)));
            }
            parts.push(Template::Key(key.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Template::Text(plain));
        }
        if parts.len() == 1 {
            parts.remove(0)
        } else {
            Template::Mixed(parts)
        }
    }

    /// Whether all keys are there and `test` likes the text.
    pub(crate) fn with_text(&self, target: &dyn Target, test: impl FnOnce(&str) -> bool) -> bool {
        match self {
            Template::Text(text) => test(text),
            Template::Key(key) => target.text(key).is_some_and(|text| test(&text)),
            Template::Broken => false,
            Template::Mixed(parts) => {
                let mut whole = String::new();
                for part in parts {
                    match part {
                        Template::Text(text) => whole.push_str(text),
                        Template::Key(key) => match target.text(key) {
                            Some(text) => whole.push_str(&text),
                            None => return false,
                        },
                        Template::Mixed(_) | Template::Broken => return false,
                    }
                }
                test(&whole)
            }
        }
    }
}

/// Networking's `field:networks:shared=True`: an attribute of the target against a constant, or against a regular expression after `~`.
#[derive(Debug)]
pub(crate) struct Field {
    name: String,
    /// Where to look when the target itself lacks the field: the network a port or subnet is on.
    parent: Option<&'static str>,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Text(String),
    Pattern(Regex),
}

impl Field {
    fn new(text: &str) -> Option<Field> {
        let (resource, condition) = text.split_once(':')?;
        let (name, value) = condition.split_once('=')?;
        let wanted = match value.strip_prefix('~') {
            // Python's `match` is anchored at the start only.
            Some(pattern) => Wanted::Pattern(Regex::new(&format!("^(?:{pattern})")).ok()?),
            None => Wanted::Text(value.to_owned()),
        };
        let parent = (resource == "networks" && name == "shared").then_some("network:shared");
        Some(Field {
            name: name.to_owned(),
            parent,
            wanted,
        })
    }

    pub(crate) fn matches(&self, target: &dyn Target) -> bool {
        let found: Option<Cow<'_, str>> = match target.text(&self.name) {
            Some(text) => Some(text),
            None => self.parent.and_then(|key| target.text(key)),
        };
        match (&self.wanted, found) {
            (_, None) => false,
            (Wanted::Text(wanted), Some(text)) => *text == **wanted,
            (Wanted::Pattern(pattern), Some(text)) => pattern.is_match(&text),
        }
    }
}

/// See [`Enforcer::new`].
pub(crate) fn enforcer(defaults: &[&[Rule]], overrides: Option<&str>) -> Result<Enforcer, PolicyError> {
    let mut parsed: Vec<(String, Expression, &'static [crate::Scope])> = Vec::new();
    let mut by_name = HashMap::new();
    for rule in defaults.iter().copied().flatten() {
        by_name.insert(rule.name.to_owned(), parsed.len());
        parsed.push((rule.name.to_owned(), parse::parse(rule.check), rule.scopes));
    }
    let registered = parsed.len();
    for (name, expression) in read_overrides(overrides)? {
        match by_name.get(&name) {
            Some(&id) => parsed[id].1 = expression,
            None => {
                by_name.insert(name.clone(), parsed.len());
                parsed.push((name, expression, &[]));
            }
        }
    }
    let default = by_name.get("default").copied();
    let mut referred = vec![false; parsed.len()];
    let mut rules = Vec::with_capacity(parsed.len());
    for (name, expression, scopes) in &parsed {
        let mut resolver = Resolver {
            by_name: &by_name,
            default,
            referred: &mut referred,
        };
        rules.push(Compiled {
            name: name.clone(),
            check: resolver.resolve(expression),
            scopes,
        });
    }
    for (id, rule) in rules.iter().enumerate().skip(registered) {
        if !referred[id] && rule.name != "default" {
            tracing::warn!(
                rule = rule.name,
                "the policy file has a rule that this service does not know; it is ignored"
            );
        }
    }
    refuse_cycles(&rules)?;
    Ok(Enforcer {
        rules,
        by_name,
        default,
    })
}

fn read_overrides(text: Option<&str>) -> Result<Vec<(String, Expression)>, PolicyError> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let map = match serde_yaml_ng::from_str::<Value>(text)? {
        Value::Null => return Ok(Vec::new()),
        Value::Object(map) => map,
        _ => return Err(PolicyError::NotAMapping),
    };
    map.into_iter()
        .map(|(name, check)| {
            let expression = match &check {
                Value::String(text) => parse::parse(text),
                Value::Array(alternatives) => from_lists(alternatives),
                Value::Null => Expression::True,
                _ => return Err(PolicyError::NotText(name)),
            };
            Ok((name, expression))
        })
        .collect()
}

/// The old form of rules, a list of alternatives which are each a check or a list of checks that must all hold.
fn from_lists(alternatives: &[Value]) -> Expression {
    if alternatives.is_empty() {
        return Expression::True;
    }
    let any: Vec<_> = alternatives
        .iter()
        .filter_map(|alternative| match alternative {
            Value::String(text) if !text.is_empty() => Some(parse::parse(text)),
            Value::Array(all) if !all.is_empty() => Some(Expression::And(
                all.iter()
                    .map(|one| one.as_str().map_or(Expression::False, parse::parse))
                    .collect(),
            )),
            _ => None,
        })
        .collect();
    if any.is_empty() {
        Expression::False
    } else {
        Expression::Or(any)
    }
}

struct Resolver<'a> {
    by_name: &'a HashMap<String, usize>,
    default: Option<usize>,
    referred: &'a mut [bool],
}

impl Resolver<'_> {
    fn resolve(&mut self, expression: &Expression) -> Check {
        match expression {
            Expression::True => Check::True,
            Expression::False => Check::False,
            Expression::Not(inner) => Check::Not(Box::new(self.resolve(inner))),
            Expression::And(all) => Check::And(all.iter().map(|one| self.resolve(one)).collect()),
            Expression::Or(any) => Check::Or(any.iter().map(|one| self.resolve(one)).collect()),
            Expression::Atom(kind, value) => self.atom(kind, value),
        }
    }

    fn atom(&mut self, kind: &str, value: &str) -> Check {
        match kind {
            "rule" => match self.by_name.get(value).copied().or(self.default) {
                Some(id) => {
                    self.referred[id] = true;
                    Check::Rule(id)
                }
                None => Check::False,
            },
            "role" => Check::Role(Template::new(value)),
            "field" => Field::new(value).map_or_else(
                || {
                    tracing::error!(check = value, "cannot understand a policy check of a field; it denies");
                    Check::False
                },
                Check::Field,
            ),
            "http" | "https" => {
                tracing::error!(
                    check = value,
                    "policy checks by a remote server are not supported; it denies"
                );
                Check::False
            }
            _ => match literal(kind) {
                Some(text) => Check::Literal(text, Template::new(value)),
                None => Check::Attribute(Attribute::named(kind), Template::new(value)),
            },
        }
    }
}

/// The left side as a Python literal, in the form of its `str()`.
fn literal(kind: &str) -> Option<String> {
    if matches!(kind, "None" | "True" | "False") {
        return Some(kind.to_owned());
    }
    for quote in ['\'', '"'] {
        if let Some(inner) = kind.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Some(inner.to_owned());
        }
    }
    let number: Value = serde_json::from_str(kind).ok().filter(Value::is_number)?;
    Some(python_str(&number).into_owned())
}

fn refuse_cycles(rules: &[Compiled]) -> Result<(), PolicyError> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    fn visit(rules: &[Compiled], id: usize, states: &mut [State]) -> Result<(), PolicyError> {
        match states[id] {
            State::Done => return Ok(()),
            State::Open => return Err(PolicyError::Cycle(rules[id].name.clone())),
            State::New => states[id] = State::Open,
        }
        let mut inner = vec![&rules[id].check];
        while let Some(check) = inner.pop() {
            match check {
                Check::Rule(next) => visit(rules, *next, states)?,
                Check::Not(one) => inner.push(one),
                Check::And(many) | Check::Or(many) => inner.extend(many),
                _ => {}
            }
        }
        states[id] = State::Done;
        Ok(())
    }
    let mut states = vec![State::New; rules.len()];
    (0..rules.len()).try_for_each(|id| visit(rules, id, &mut states))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Credentials, Denied, Scope};

    const RULES: &[Rule] = &[
        Rule {
            name: "admin",
            check: "role:admin",
            scopes: &[],
        },
        Rule {
            name: "list",
            check: "rule:admin or project_id:%(project_id)s",
            scopes: &[Scope::Project],
        },
        Rule {
            name: "device",
            check: "field:port:device_owner=~^network:",
            scopes: &[],
        },
        Rule {
            name: "shared",
            check: "field:networks:shared=True",
            scopes: &[],
        },
        Rule {
            name: "token",
            check: "token.project.domain.id:%(target.domain_id)s",
            scopes: &[],
        },
        Rule {
            name: "unset",
            check: "None:%(target.role.domain_id)s and not domain_id:None",
            scopes: &[],
        },
    ];

    fn member() -> Credentials {
        Credentials {
            project_id: Some("p".into()),
            roles: vec!["Member".into()],
            ..Default::default()
        }
    }

    #[test]
    fn overrides_replace_and_aliases_serve_other_rules() {
        let text = "own: role:member\nlist: rule:own\nunused: '@'\n";
        let enforcer = Enforcer::new(&[RULES], Some(text)).unwrap();
        assert!(enforcer.allows("list", &(), &member()));
        let enforcer = Enforcer::new(&[RULES], Some(r#"{"list": [["role:member", "role:x"], "role:y"]}"#)).unwrap();
        assert!(!enforcer.allows("list", &(), &member()));
    }

    #[test]
    fn scope_is_refused_before_the_check() {
        let enforcer = Enforcer::new(&[RULES], None).unwrap();
        let admin = Credentials {
            system_scope: Some("all".into()),
            roles: vec!["admin".into()],
            ..Default::default()
        };
        let denied = enforcer.check("list", &(), &admin).unwrap_err();
        assert!(matches!(denied, Denied::Scope { had: Scope::System, .. }));
        assert_eq!(
            denied.to_string(),
            "list requires a scope of project, request was made with system scope."
        );
        assert!(enforcer.allows_in_any_scope("list", &(), &admin));
    }

    #[test]
    fn fields_compare_values_patterns_and_the_parent() {
        let enforcer = Enforcer::new(&[RULES], None).unwrap();
        let nobody = Credentials::default();
        assert!(enforcer.allows("device", &[("device_owner", "network:dhcp")], &nobody));
        assert!(!enforcer.allows("device", &[("device_owner", "compute:network:")], &nobody));
        assert!(enforcer.allows("shared", &json!({"shared": true}), &nobody));
        assert!(!enforcer.allows("shared", &json!({"shared": false}), &nobody));
        assert!(enforcer.allows("shared", &json!({"network:shared": true}), &nobody));
    }

    #[test]
    fn token_lookups_go_into_lists_and_none_is_a_text() {
        let enforcer = Enforcer::new(&[RULES], None).unwrap();
        let mut who = Credentials {
            token: json!({"project": [{"domain": {"id": "d"}}]}),
            ..Default::default()
        };
        assert!(enforcer.allows("token", &json!({"target": {"domain_id": "d"}}), &who));
        assert!(!enforcer.allows("token", &json!({"target": {"domain_id": "e"}}), &who));
        assert!(!enforcer.allows("unset", &json!({"target": {"role": {"domain_id": null}}}), &who));
        who.domain_id = Some("d".into());
        assert!(enforcer.allows("unset", &json!({"target": {"role": {"domain_id": null}}}), &who));
    }

    #[test]
    fn an_unknown_rule_is_denied_unless_there_is_a_default() {
        let enforcer = Enforcer::new(&[RULES], None).unwrap();
        assert!(!enforcer.allows("other", &(), &member()));
        let enforcer = Enforcer::new(&[RULES], Some("default: role:member")).unwrap();
        assert!(enforcer.allows("other", &(), &member()));
    }

    #[test]
    fn a_rule_that_needs_itself_is_refused() {
        let error = Enforcer::new(&[RULES], Some("a: rule:b\nb: not rule:a")).unwrap_err();
        assert!(matches!(error, PolicyError::Cycle(_)));
    }
}
