//! `/v2.0/qos`

use crate::api_prelude::*;

/// A policy that a network, port or floating IP names must be there for the caller.
pub fn check_policy(cx: &mut Cx<'_, '_>, id: Option<&Value>) -> Result<()> {
    let Some(id) = id.and_then(Value::as_str) else { return Ok(()) };
    let known = cx.tx.query_one("SELECT id FROM qos_policies WHERE id = ?1", &params![id])?;
    if known.is_none() { Err(Error::QosPolicyNotFound { id: id.into() }) } else { Ok(()) }
}

/// What a policy asks of a port's traffic; `None` where it asks for nothing.
pub fn limits(cx: &mut Cx<'_, '_>, policy: &str) -> Result<Option<virtual_network::topology::Qos>> {
    let mut qos = virtual_network::topology::Qos::default();
    let sql = "SELECT rule_type, direction, max_kbps, max_burst_kbps, dscp_mark FROM qos_rules WHERE policy_id = ?1";
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    for row in cx.tx.query(sql, &params![policy])? {
        let (kind, direction): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        match (kind.as_str(), direction.as_deref()) {
            ("bandwidth_limit", Some("ingress")) => {
                qos.ingress_kbps = number(row.get(2)?);
                qos.ingress_burst_kbits = number(row.get(3)?).filter(|b| *b > 0);
            }
            ("bandwidth_limit", _) => {
                qos.egress_kbps = number(row.get(2)?);
                qos.egress_burst_kbits = number(row.get(3)?).filter(|b| *b > 0);
            }
            ("dscp_marking", _) => qos.dscp_mark = row.get::<Option<i64>>(4)?.and_then(|n| u8::try_from(n).ok()),
            _ => {}
        }
    }
    Ok((qos != virtual_network::topology::Qos::default()).then_some(qos))
}
