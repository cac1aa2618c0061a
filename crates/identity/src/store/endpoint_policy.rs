//! Policies, and which endpoint one is for (OS-ENDPOINT-POLICY).

use super::{Kind, Ref, Table, catalog, text};
use crate::{Error, Result};
use database::{Tx, params};

/// The table of policies.
pub const POLICIES: Table = Table {
    name: "identity_policies",
    kind: "policy",
    missing: |id| Error::not_found("policy", id),
    columns: &[("id", Kind::Text(64)), ("blob", Kind::Json), ("type", Kind::Text(255))],
    extra: true,
};

/// What a policy is associated with; what is not given is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Association<'a> {
    /// An endpoint.
    pub endpoint_id: &'a str,
    /// A service.
    pub service_id: &'a str,
    /// A region, with a service.
    pub region_id: &'a str,
}

/// Associates, instead of what was associated with the same before.
pub fn associate(tx: &mut Tx<'_>, policy_id: &str, with: Association<'_>) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_policy_associations (policy_id, endpoint_id, service_id, region_id) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (endpoint_id, service_id, region_id) DO UPDATE SET policy_id = excluded.policy_id",
        &params![policy_id, with.endpoint_id, with.service_id, with.region_id],
    )?;
    Ok(())
}

fn associated(tx: &mut Tx<'_>, with: Association<'_>) -> Result<Option<String>> {
    Ok(tx.scalar(
        "SELECT policy_id FROM identity_policy_associations WHERE endpoint_id = ?1 AND service_id = ?2 AND region_id = ?3",
        &params![with.endpoint_id, with.service_id, with.region_id],
    )?)
}

/// # Errors
/// 404 where the policy is not associated just so.
pub fn check(tx: &mut Tx<'_>, policy_id: &str, with: Association<'_>) -> Result<()> {
    match associated(tx, with)? {
        Some(found) if found == policy_id => Ok(()),
        _ => Err(Error::Missing("Could not find policy association.".into())),
    }
}

/// Ends an association; none is no error.
pub fn dissociate(tx: &mut Tx<'_>, policy_id: &str, with: Association<'_>) -> Result<()> {
    tx.execute(
        "DELETE FROM identity_policy_associations WHERE policy_id = ?1 AND endpoint_id = ?2 AND service_id = ?3 AND region_id = ?4",
        &params![policy_id, with.endpoint_id, with.service_id, with.region_id],
    )?;
    Ok(())
}

/// Ends every association in which `column` has this value.
pub fn forget(tx: &mut Tx<'_>, column: &'static str, id: &str) -> Result<()> {
    tx.execute(
        &format!("DELETE FROM identity_policy_associations WHERE {column} = ?1"),
        &params![id],
    )?;
    Ok(())
}

/// The endpoints a policy is for.
pub fn endpoints_of(tx: &mut Tx<'_>, policy_id: &str) -> Result<Vec<Ref>> {
    let endpoints = catalog::everything(&catalog::ENDPOINTS, tx)?;
    let mut found = Vec::new();
    let sql = "SELECT endpoint_id, service_id, region_id FROM identity_policy_associations WHERE policy_id = ?1 ORDER BY endpoint_id, service_id, region_id";
    for row in tx.query(sql, &params![policy_id])? {
        let (endpoint, service, region): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let regions = if region.is_empty() {
            Vec::new()
        } else {
            catalog::region_tree(tx, &region)?
        };
        found.extend(
            endpoints
                .iter()
                .filter(|e| match () {
                    () if !endpoint.is_empty() => text(e, "id") == endpoint,
                    () if region.is_empty() => text(e, "service_id") == service,
                    () => text(e, "service_id") == service && regions.iter().any(|r| r == text(e, "region_id")),
                })
                .cloned(),
        );
    }
    Ok(found)
}

/// The policy for an endpoint: its own, else that of its service in its region or one above, else that of its service.
pub fn policy_for(tx: &mut Tx<'_>, endpoint: &Ref) -> Result<Ref> {
    let service_id = text(endpoint, "service_id");
    let mut found = associated(
        tx,
        Association {
            endpoint_id: text(endpoint, "id"),
            ..Association::default()
        },
    )?;
    let mut region_id = text(endpoint, "region_id").to_owned();
    let mut examined = Vec::new();
    while found.is_none() && !region_id.is_empty() && !examined.contains(&region_id) {
        found = associated(
            tx,
            Association {
                service_id,
                region_id: &region_id,
                endpoint_id: "",
            },
        )?;
        let above = text(&catalog::REGIONS.get(tx, &region_id)?, "parent_region_id").to_owned();
        examined.push(std::mem::replace(&mut region_id, above));
    }
    if found.is_none() {
        found = associated(
            tx,
            Association {
                service_id,
                ..Association::default()
            },
        )?;
    }
    match found {
        Some(id) => POLICIES.get(tx, &id),
        None => Err(Error::Missing(format!(
            "No policy is associated with endpoint {}.",
            text(endpoint, "id")
        ))),
    }
}
