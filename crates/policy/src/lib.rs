//! oslo.policy in Rust: rules in its check language, compiled once and evaluated in about a microsecond.
//!
//! The behaviour is that of oslo.policy with the new defaults and token scopes enforced, which is what the services of
//! OpenStack 2026.2 run with unless told otherwise. Deprecated fallbacks are therefore not part of the tables in [`defaults`].
//!
//! A service builds one [`Enforcer`] at start from its table and the operator's `policy.yaml`:
//! ```
//! use policy::{Credentials, Enforcer, defaults};
//! let enforcer = Enforcer::new(&[defaults::image::RULES], Some("get_images: role:auditor")).unwrap();
//! let auditor = Credentials { roles: vec!["auditor".into()], project_id: Some("p".into()), ..Default::default() };
//! assert!(enforcer.check("get_images", &[("project_id", "p")], &auditor).is_ok());
//! assert!(enforcer.check("delete_image", &[("project_id", "p")], &auditor).is_err());
//! ```

mod compile;
mod credentials;
pub mod defaults;
mod parse;
mod target;

use std::collections::HashMap;

pub use credentials::Credentials;
pub use target::{Lookup, Target};

use compile::Check;

/// What a token is good for; a rule names the kinds it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole deployment (`system_scope: all`).
    System,
    /// One domain.
    Domain,
    /// One project; an unscoped token counts as this, as in oslo.policy.
    Project,
}

impl Scope {
    /// The name oslo.policy gives the scope in rules and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::System => "system",
            Scope::Domain => "domain",
            Scope::Project => "project",
        }
    }
}

/// A rule a service registers.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Upstream's name, which operators use in `policy.yaml`.
    pub name: &'static str,
    /// The check in oslo.policy's language; empty means everybody.
    pub check: &'static str,
    /// Scopes of tokens the rule accepts; empty means any.
    pub scopes: &'static [Scope],
}

/// Why a policy could not be built.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The operator's file is neither YAML nor JSON.
    #[error("reading the policy file: {0}")]
    Syntax(#[from] serde_yaml_ng::Error),
    /// The operator's file is not a mapping of names to checks.
    #[error("reading the policy file: it must be a mapping of rule names to checks")]
    NotAMapping,
    /// A rule of the operator's file is neither text nor a list.
    #[error("reading the policy file: the check of rule {0} must be text")]
    NotText(String),
    /// A rule refers to itself, directly or through others.
    #[error("compiling the policy: rule {0} refers to itself")]
    Cycle(String),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The check of the rule is not met.
    #[error("{rule} is disallowed by policy")]
    Check {
        /// The rule asked for.
        rule: String,
    },
    /// The token's scope is not one the rule accepts.
    #[error(
        "{rule} requires a scope of {scopes}, request was made with {had} scope.",
        scopes = needed.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(","),
        had = had.as_str()
    )]
    Scope {
        /// The rule asked for.
        rule: String,
        /// What the rule accepts.
        needed: &'static [Scope],
        /// What the token has.
        had: Scope,
    },
}

impl Denied {
    /// The rule asked for.
    pub fn rule(&self) -> &str {
        match self {
            Denied::Check { rule } | Denied::Scope { rule, .. } => rule,
        }
    }
}

#[derive(Debug)]
struct Compiled {
    name: String,
    check: Check,
    scopes: &'static [Scope],
}

/// A service's policy, ready to answer.
#[derive(Debug)]
pub struct Enforcer {
    rules: Vec<Compiled>,
    by_name: HashMap<String, usize>,
    default: Option<usize>,
}

impl Enforcer {
    /// Compiles a service's registered rules with the operator's `policy.yaml` (YAML or JSON) over them. A name in the file that is no
    /// registered rule may serve as an alias in other rules of the file; if none refers to it, a warning is logged.
    ///
    /// # Errors
    /// See [`PolicyError`]. A check that cannot be parsed is no error: as in oslo.policy it is logged and denies.
    pub fn new(defaults: &[&[Rule]], overrides: Option<&str>) -> Result<Enforcer, PolicyError> {
        compile::enforcer(defaults, overrides)
    }

    /// May these credentials do what `rule` guards to `target`? An unknown rule is answered by the rule `default`, else denied.
    ///
    /// # Errors
    /// [`Denied`], which says whether the scope or the check failed.
    pub fn check(&self, rule: &str, target: &dyn Target, credentials: &Credentials) -> Result<(), Denied> {
        let known = self.by_name.get(rule).copied();
        if let Some(id) = known {
            let needed = self.rules[id].scopes;
            let had = credentials.scope();
            if !needed.is_empty() && !needed.contains(&had) {
                return Err(Denied::Scope {
                    rule: rule.to_owned(),
                    needed,
                    had,
                });
            }
        }
        match known.or(self.default) {
            Some(id) if self.evaluate(&self.rules[id].check, target, credentials) => Ok(()),
            _ => Err(Denied::Check { rule: rule.to_owned() }),
        }
    }

    /// [`Enforcer::check`] as a yes or no, for what is hidden rather than refused.
    pub fn allows(&self, rule: &str, target: &dyn Target, credentials: &Credentials) -> bool {
        self.check(rule, target, credentials).is_ok()
    }

    /// The rule's check without its scope: what oslo.policy does with a rule that another refers to, and Networking with the
    /// rules of single attributes (`create_network:shared`).
    pub fn allows_in_any_scope(&self, rule: &str, target: &dyn Target, credentials: &Credentials) -> bool {
        self.by_name
            .get(rule)
            .copied()
            .or(self.default)
            .is_some_and(|id| self.evaluate(&self.rules[id].check, target, credentials))
    }

    /// Whether the rule is registered or in the operator's file.
    pub fn has_rule(&self, rule: &str) -> bool {
        self.by_name.contains_key(rule)
    }

    /// The names of all rules, in no particular order.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    fn evaluate(&self, check: &Check, target: &dyn Target, credentials: &Credentials) -> bool {
        match check {
            Check::True => true,
            Check::False => false,
            Check::Not(inner) => !self.evaluate(inner, target, credentials),
            Check::And(all) => all.iter().all(|one| self.evaluate(one, target, credentials)),
            Check::Or(any) => any.iter().any(|one| self.evaluate(one, target, credentials)),
            Check::Rule(id) => self.evaluate(&self.rules[*id].check, target, credentials),
            Check::Role(template) => template.with_text(target, |role| {
                credentials.roles.iter().any(|held| same_role(held, role))
            }),
            Check::Literal(literal, template) => template.with_text(target, |text| text == literal),
            Check::Attribute(attribute, template) => {
                template.with_text(target, |text| credentials.matches(attribute, text))
            }
            Check::Field(field) => field.matches(target),
        }
    }
}

/// Role names are compared without regard to case (oslo.policy's RoleCheck).
fn same_role(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(b)
    } else {
        a.to_lowercase() == b.to_lowercase()
    }
}
