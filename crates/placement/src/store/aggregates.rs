//! Which aggregates a provider is in. An aggregate is a UUID, nothing more.

use database::{Tx, params};

use crate::error::Result;

/// The aggregates of a provider.
pub fn of_provider(tx: &mut Tx<'_>, provider: &str) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT aggregate_uuid FROM resource_provider_aggregates WHERE provider_uuid = ?1 ORDER BY id",
        &params![provider],
    )?)
}

/// All memberships: the provider's UUID and the aggregate's.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<(String, String)>> {
    let rows = tx.query(
        "SELECT provider_uuid, aggregate_uuid FROM resource_provider_aggregates ORDER BY id",
        &[],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Puts a provider into exactly these aggregates. Its generation is the caller's matter (it grows from 1.19 on).
pub fn set_of_provider(tx: &mut Tx<'_>, provider: &str, aggregates: &[String]) -> Result<()> {
    let have = of_provider(tx, provider)?;
    for aggregate in have.iter().filter(|aggregate| !aggregates.contains(aggregate)) {
        tx.execute(
            "DELETE FROM resource_provider_aggregates WHERE provider_uuid = ?1 AND aggregate_uuid = ?2",
            &params![provider, aggregate],
        )?;
    }
    for aggregate in aggregates.iter().filter(|aggregate| !have.contains(aggregate)) {
        tx.execute(
            "INSERT INTO resource_provider_aggregates (provider_uuid, aggregate_uuid) VALUES (?1, ?2)",
            &params![provider, aggregate],
        )?;
    }
    Ok(())
}
