//! `/v2.0/metering/metering-labels` and their rules

use crate::api_prelude::*;
use crate::attributes;

/// Labels.
pub static LABEL: Resource = Resource {
    standard: false,
    sight: Sight::MeteringLabel,
    create: Some(|cx, body| {
        let id = item::new_id();
        item::insert(cx, &LABEL, &id, &body, &[])?;
        Ok(id)
    }),
    delete: Some(|cx, old| item::delete(cx, old)),
    ..Resource::base(
        "metering_label",
        "metering_labels",
        "/v2.0/metering/metering-labels",
        "/v2.0/metering/metering-labels/{id}",
        LABELS,
        |id| Error::MeteringLabelNotFound { id: id.into() },
    )
};

/// Rules of labels.
pub static RULE: Resource = Resource {
    standard: false,
    sight: Sight::Everyone,
    create: Some(create_rule),
    delete: Some(|cx, old| item::delete(cx, old)),
    ..Resource::base(
        "metering_label_rule",
        "metering_label_rules",
        "/v2.0/metering/metering-label-rules",
        "/v2.0/metering/metering-label-rules/{id}",
        RULES,
        |id| Error::MeteringLabelRuleNotFound { id: id.into() },
    )
};

const LABELS: &[Attribute] = attributes![plain;
    ID, PROJECT, TENANT,
    a("name", "CVFS").or(Initial::Text("")).is(Check::Name(255)).text(),
    a("description", "CVFS").or(Initial::Text("")).is(Check::Text(1024)).text(),
    a("shared", "CVFS").or(Initial::Bool(false)).to(convert::boolean).bool(),
];

const RULES: &[Attribute] = attributes![plain;
    ID, PROJECT, TENANT,
    a("metering_label_id", "CVFS").is(Check::Uuid).text(),
    a("direction", "CVFS").is(Check::Values(&["ingress", "egress"])).text(),
    a("excluded", "CVFS").or(Initial::Bool(false)).to(convert::boolean).bool(),
    a("remote_ip_prefix", "CVFS").is(Check::Rule(check::subnet)).text(),
];

fn create_rule(cx: &mut Cx<'_, '_>, body: Body) -> Result<String> {
    let label = item::text(&body, "metering_label_id").to_string();
    item::get(cx, &LABEL, &label)?;
    let id = item::new_id();
    item::insert(cx, &RULE, &id, &body, &[])?;
    Ok(id)
}
