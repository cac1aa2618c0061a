//! Quotas: limits per project, and usage counted no further than the limit.

use crate::caller::Cx;
use crate::{Error, Result};
use database::params;

/// What is limited: name, table, default limit (-1: none). The order is the one they are shown in.
pub const RESOURCES: &[(&str, &str, i64)] = &[
    ("network", "networks", 100),
    ("subnet", "subnets", 100),
    ("subnetpool", "subnetpools", -1),
    ("port", "ports", 500),
    ("router", "routers", 10),
    ("floatingip", "floatingips", 50),
    ("security_group", "security_groups", 10),
    ("security_group_rule", "security_group_rules", 100),
    ("rbac_policy", "rbac_policies", 10),
];

/// The limit of a project.
pub fn limit(cx: &mut Cx<'_, '_>, project: &str, resource: &str) -> Result<i64> {
    let own = cx.tx.scalar("SELECT quota_limit FROM quotas WHERE project_id = ?1 AND resource = ?2", &params![project, resource])?;
    let default = RESOURCES.iter().find(|(name, ..)| *name == resource).map_or(-1, |(.., default)| *default);
    Ok(own.unwrap_or(default))
}

/// How much a project uses; counted up to `enough`.
pub fn used(cx: &mut Cx<'_, '_>, project: &str, resource: &str, enough: i64) -> Result<i64> {
    let Some((_, table, _)) = RESOURCES.iter().find(|(name, ..)| *name == resource) else { return Ok(0) };
    let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE project_id = ?1 LIMIT {enough}) AS counted");
    Ok(cx.tx.scalar(&sql, &params![project])?.unwrap_or(0))
}

/// Refuses where `more` would go beyond the project's limit. In the transaction that adds, so nothing can come between.
pub fn take(cx: &mut Cx<'_, '_>, project: &str, resource: &str, more: i64) -> Result<()> {
    let limit = limit(cx, project, resource)?;
    if limit < 0 || more == 0 {
        return Ok(());
    }
    let used = used(cx, project, resource, limit + 1)?;
    if used + more > limit {
        return Err(Error::OverQuota { overs: format!("['{resource}']") });
    }
    Ok(())
}
