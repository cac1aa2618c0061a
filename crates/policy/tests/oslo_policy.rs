//! Every rule of the tables against what oslo.policy itself answered.
//!
//! `expectations.json` was written once by upstream's oslo.policy 6.0 with the 2026.2 services' registered rules: per service, a text
//! of answers (`1` allowed, `0` denied; one group per target, one digit per persona, in the order of the file) and the rules it holds for.

use policy::{Credentials, Enforcer, Rule, defaults};
use serde_json::Value;

const EXPECTATIONS: &str = include_str!("expectations.json");

fn credentials(persona: &Value) -> Credentials {
    let text = |key: &str| persona[key].as_str().map(str::to_owned);
    let list = |key: &str| {
        persona[key].as_array().into_iter().flatten().filter_map(|role| Some(role.as_str()?.to_owned())).collect()
    };
    Credentials {
        user_id: text("user_id"),
        user_domain_id: text("user_domain_id"),
        project_id: text("project_id"),
        project_domain_id: text("project_domain_id"),
        domain_id: text("domain_id"),
        system_scope: text("system_scope"),
        roles: list("roles"),
        is_admin_project: true,
        service_roles: list("service_roles"),
        is_admin: persona["is_admin"] == true,
        ..Credentials::default()
    }
}

#[test]
fn every_rule_answers_as_oslo_policy_does() {
    let expectations: Value = serde_json::from_str(EXPECTATIONS).unwrap();
    let personas: Vec<_> =
        expectations["personas"].as_object().unwrap().iter().map(|(name, who)| (name, credentials(who))).collect();
    let targets = expectations["targets"].as_object().unwrap();
    let services: [(&str, &[Rule]); 5] = [
        ("identity", defaults::identity::RULES),
        ("compute", defaults::compute::RULES),
        ("network", defaults::network::RULES),
        ("image", defaults::image::RULES),
        ("placement", defaults::placement::RULES),
    ];
    let mut wrong = Vec::new();
    for (service, table) in services {
        let enforcer = Enforcer::new(&[table], None).unwrap();
        let mut seen = 0;
        for (answers, rules) in expectations["rules"][service].as_object().unwrap() {
            for rule in rules.as_array().unwrap() {
                let rule = rule.as_str().unwrap();
                seen += 1;
                for ((target_name, target), digits) in targets.iter().zip(answers.split(' ')) {
                    for ((persona, who), digit) in personas.iter().zip(digits.chars()) {
                        if enforcer.allows(rule, target, who) != (digit == '1') {
                            wrong.push(format!("{service} {rule} on {target_name} by {persona}: upstream {digit}"));
                        }
                    }
                }
            }
        }
        assert_eq!(seen, table.len(), "{service}: rules without an expectation");
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
