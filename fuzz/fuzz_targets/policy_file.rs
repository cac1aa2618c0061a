#![no_main]
//! The operator's policy.yaml.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(enforcer) = policy::Enforcer::new(&[], Some(text))
    {
        let names: Vec<String> = enforcer.rule_names().map(String::from).collect();
        for name in names {
            let _ = enforcer.check(&name, &(), &policy::Credentials::default());
        }
    }
});
