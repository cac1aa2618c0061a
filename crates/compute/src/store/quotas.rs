//! Limits, and what is used of them. Usage is counted from the resources themselves in the transaction that changes them, so it
//! cannot drift.

use std::collections::{BTreeMap, HashMap};

use database::{Result, Tx, params};

use crate::model::quota::{RESOURCES, default_limit};

/// Limits by resource; -1 is none.
pub type Limits = HashMap<String, i64>;

/// The quota class whose limits are everybody's defaults.
pub const DEFAULT_CLASS: &str = "default";

/// What a project (or one user in it) uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Servers.
    pub instances: i64,
    /// Virtual CPUs.
    pub cores: i64,
    /// MiB of memory.
    pub ram: i64,
    /// Server groups.
    pub server_groups: i64,
}

impl Usage {
    /// By the resource's name; what is not counted per project is 0.
    pub fn of(&self, resource: &str) -> i64 {
        match resource {
            "instances" => self.instances,
            "cores" => self.cores,
            "ram" => self.ram,
            "server_groups" => self.server_groups,
            _ => 0,
        }
    }
}

/// Servers, cores and memory in use.
pub fn usage(tx: &mut Tx<'_>, project: &str, user: Option<&str>) -> Result<Usage> {
    let mut sql =
        "SELECT COUNT(*), CAST(COALESCE(SUM(vcpus), 0) AS BIGINT), CAST(COALESCE(SUM(memory_mb), 0) AS BIGINT)
        FROM servers WHERE project_id = ?1 AND deleted_at IS NULL"
            .to_owned();
    let mut values = params![project].to_vec();
    if let Some(user) = user {
        sql.push_str(" AND user_id = ?2");
        values.push(user.into());
    }
    let row = tx.query_one(&sql, &values)?;
    let mut usage = match row {
        Some(row) => Usage {
            instances: row.get(0)?,
            cores: row.get(1)?,
            ram: row.get(2)?,
            server_groups: 0,
        },
        None => Usage::default(),
    };
    let mut sql = "SELECT COUNT(*) FROM server_groups WHERE project_id = ?1".to_owned();
    if user.is_some() {
        sql.push_str(" AND user_id = ?2");
    }
    usage.server_groups = tx.scalar(&sql, &values)?.unwrap_or(0);
    Ok(usage)
}

/// The limits of a class by resource; resources without one are left out.
pub fn class_limits(tx: &mut Tx<'_>, class: &str) -> Result<Limits> {
    let rows = tx.query(
        "SELECT resource, hard_limit FROM compute_quota_classes WHERE class = ?1",
        &params![class],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Everybody's limits: the default class's, else the operator's `own`, else upstream's.
pub fn defaults(tx: &mut Tx<'_>, own: &BTreeMap<String, i64>) -> Result<Limits> {
    let class = class_limits(tx, DEFAULT_CLASS)?;
    let limit = |name: &str| {
        class
            .get(name)
            .or(own.get(name))
            .copied()
            .unwrap_or_else(|| default_limit(name))
    };
    Ok(RESOURCES.iter().map(|r| (r.name.to_owned(), limit(r.name))).collect())
}

/// The limits of a project, or of one user in it.
pub fn limits(tx: &mut Tx<'_>, own: &BTreeMap<String, i64>, project: &str, user: Option<&str>) -> Result<Limits> {
    let mut limits = defaults(tx, own)?;
    let sql = "SELECT user_id, resource, hard_limit FROM compute_quotas WHERE project_id = ?1 AND user_id IN ('', ?2) ORDER BY user_id";
    // The empty user is the project itself; the user's own limits come after it and win.
    for row in tx.query(sql, &params![project, user.unwrap_or_default()])? {
        limits.insert(row.get(1)?, row.get(2)?);
    }
    Ok(limits)
}

/// The limits of a project, and those of one user in it where they differ.
pub fn limits_of_both(
    tx: &mut Tx<'_>,
    own: &BTreeMap<String, i64>,
    project: &str,
    user: &str,
) -> Result<(Limits, Option<Limits>)> {
    let mut whole = defaults(tx, own)?;
    let mut of_user = Vec::new();
    let sql = "SELECT user_id, resource, hard_limit FROM compute_quotas WHERE project_id = ?1 AND user_id IN ('', ?2)";
    for row in tx.query(sql, &params![project, user])? {
        let (who, resource, limit): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if who.is_empty() {
            whole.insert(resource, limit);
        } else {
            of_user.push((resource, limit));
        }
    }
    let both = (!of_user.is_empty()).then(|| {
        let mut limits = whole.clone();
        limits.extend(of_user);
        limits
    });
    Ok((whole, both))
}

/// Sets a limit of a project (`user` empty) or user.
pub fn set(tx: &mut Tx<'_>, project: &str, user: &str, resource: &str, limit: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_quotas (project_id, user_id, resource, hard_limit) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (project_id, user_id, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
        &params![project, user, resource, limit],
    )
    .map(|_| ())
}

/// Sets a limit of a class.
pub fn set_class(tx: &mut Tx<'_>, class: &str, resource: &str, limit: i64) -> Result<()> {
    tx.execute(
        "INSERT INTO compute_quota_classes (class, resource, hard_limit) VALUES (?1, ?2, ?3)
         ON CONFLICT (class, resource) DO UPDATE SET hard_limit = excluded.hard_limit",
        &params![class, resource, limit],
    )
    .map(|_| ())
}

/// Back to the defaults: a project with all its users, or one user.
pub fn reset(tx: &mut Tx<'_>, project: &str, user: Option<&str>) -> Result<()> {
    match user {
        Some(user) => tx.execute(
            "DELETE FROM compute_quotas WHERE project_id = ?1 AND user_id = ?2",
            &params![project, user],
        ),
        None => tx.execute("DELETE FROM compute_quotas WHERE project_id = ?1", &params![project]),
    }
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_from_the_user_then_the_project_then_the_class() {
        database::testing::on_both(&[crate::MIGRATIONS], |db| {
            db.write(|tx| {
                let own = BTreeMap::from([("ram".to_owned(), 7)]);
                let limits = |tx: &mut Tx<'_>, p: &str, u: Option<&str>| super::limits(tx, &own, p, u);
                assert_eq!(limits(tx, "p", None)?["ram"], 7);
                assert_eq!(limits(tx, "p", None)?["cores"], 20);
                set_class(tx, DEFAULT_CLASS, "cores", 30)?;
                assert_eq!(limits(tx, "p", None)?["cores"], 30);
                set(tx, "p", "", "cores", 40)?;
                set(tx, "p", "", "cores", 41)?;
                set(tx, "p", "u", "cores", 5)?;
                assert_eq!(limits(tx, "p", None)?["cores"], 41);
                assert_eq!(limits(tx, "p", Some("u"))?["cores"], 5);
                assert_eq!(limits(tx, "p", Some("v"))?["cores"], 41);
                reset(tx, "p", None)?;
                assert_eq!(limits(tx, "p", Some("u"))?["cores"], 30);
                Ok::<_, database::Error>(())
            })
            .unwrap();
        });
    }
}
