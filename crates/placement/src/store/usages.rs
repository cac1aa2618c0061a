//! Sums over allocations.

use database::{Select, Tx, params};

use crate::error::Result;

/// Used amounts of every class of a provider's inventory.
pub fn of_provider(tx: &mut Tx<'_>, provider: &str) -> Result<Vec<(String, i64)>> {
    let rows = tx.query(
        "SELECT resource_class, used FROM inventories WHERE provider_uuid = ?1 ORDER BY created_at, resource_class",
        &params![provider],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// What a project, or one of its users, uses of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The class.
    pub resource_class: String,
    /// The sum.
    pub used: i64,
    /// The type of the consumers, where sums are by type.
    pub consumer_type: Option<String>,
}

/// Which consumers count.
#[derive(Debug, Clone)]
pub struct Filters<'a> {
    /// Of this project.
    pub project_id: &'a str,
    /// Of this user.
    pub user_id: Option<&'a str>,
    /// Of this type; `Some(None)` for those without a type.
    pub consumer_type: Option<Option<&'a str>>,
}

fn narrow(select: &mut Select, filters: &Filters<'_>) {
    select.filter("c.project_id = ?", &params![filters.project_id]);
    if let Some(user) = filters.user_id {
        select.filter("c.user_id = ?", &params![user]);
    }
    match filters.consumer_type {
        Some(Some(name)) => {
            select.filter("c.consumer_type = ?", &params![name]);
        }
        Some(None) => {
            select.filter("c.consumer_type IS NULL", &[]);
        }
        None => {}
    }
}

const FROM: &str = "allocations a JOIN consumers c ON c.uuid = a.consumer_uuid";

/// Sums by class, and with `by_type` by type of consumer too.
pub fn of_project(tx: &mut Tx<'_>, filters: &Filters<'_>, by_type: bool) -> Result<Vec<Usage>> {
    let mut select = Select::new("a.resource_class, c.consumer_type, a.used", FROM);
    narrow(&mut select, filters);
    select.order("a.id", database::Direction::Ascending);
    let mut usages: Vec<Usage> = Vec::new();
    for row in select.rows(tx)? {
        let resource_class: String = row.get(0)?;
        let consumer_type = if by_type { row.get::<Option<String>>(1)? } else { None };
        let used: i64 = row.get(2)?;
        match usages
            .iter_mut()
            .find(|usage| usage.resource_class == resource_class && usage.consumer_type == consumer_type)
        {
            Some(usage) => usage.used += used,
            None => usages.push(Usage {
                resource_class,
                used,
                consumer_type,
            }),
        }
    }
    Ok(usages)
}

/// How many consumers there are of each type.
pub fn consumers_of_project(tx: &mut Tx<'_>, filters: &Filters<'_>) -> Result<Vec<(Option<String>, i64)>> {
    let mut select = Select::new("DISTINCT c.uuid, c.consumer_type", FROM);
    narrow(&mut select, filters);
    let mut counts: Vec<(Option<String>, i64)> = Vec::new();
    for row in select.rows(tx)? {
        let consumer_type: Option<String> = row.get(1)?;
        match counts.iter_mut().find(|(name, _)| *name == consumer_type) {
            Some((_, count)) => *count += 1,
            None => counts.push((consumer_type, 1)),
        }
    }
    Ok(counts)
}
