//! Allocations and the consumers that hold them.

use database::{Row, Tx, now, params};

use super::{inventories, providers, resource_classes};
use crate::error::{Error, Result};

/// Who holds allocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its UUID.
    pub uuid: String,
    /// The project it belongs to.
    pub project_id: String,
    /// The user it belongs to.
    pub user_id: String,
    /// What it is, for example `INSTANCE`.
    pub consumer_type: Option<String>,
    /// Grows with every change of its allocations.
    pub generation: i64,
}

/// An amount of one class of one provider, held by one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The consumer's UUID.
    pub consumer_uuid: String,
    /// The provider's UUID.
    pub provider_uuid: String,
    /// The class.
    pub resource_class: String,
    /// How much.
    pub used: i64,
    /// Microseconds since the epoch.
    pub created_at: i64,
}

const COLUMNS: &str = "consumer_uuid, provider_uuid, resource_class, used, created_at";

fn from_row(row: &Row) -> Result<Allocation> {
    Ok(Allocation {
        consumer_uuid: row.get(0)?,
        provider_uuid: row.get(1)?,
        resource_class: row.get(2)?,
        used: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// The consumer, if it holds anything.
pub fn consumer(tx: &mut Tx<'_>, uuid: &str) -> Result<Option<Consumer>> {
    let row = tx.query_one(
        "SELECT uuid, project_id, user_id, consumer_type, generation FROM consumers WHERE uuid = ?1",
        &params![uuid],
    )?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Consumer {
        uuid: row.get(0)?,
        project_id: row.get(1)?,
        user_id: row.get(2)?,
        consumer_type: row.get(3)?,
        generation: row.get(4)?,
    }))
}

/// What a consumer holds, in the order it was written.
pub fn of_consumer(tx: &mut Tx<'_>, uuid: &str) -> Result<Vec<Allocation>> {
    let sql = format!("SELECT {COLUMNS} FROM allocations WHERE consumer_uuid = ?1 ORDER BY id");
    tx.query(&sql, &params![uuid])?.iter().map(from_row).collect()
}

/// What is held of a provider, with the generations of the consumers.
pub fn of_provider(tx: &mut Tx<'_>, uuid: &str) -> Result<Vec<(Allocation, i64)>> {
    let rows = tx.query(
        "SELECT a.consumer_uuid, a.provider_uuid, a.resource_class, a.used, a.created_at, c.generation \
         FROM allocations a JOIN consumers c ON c.uuid = a.consumer_uuid WHERE a.provider_uuid = ?1 ORDER BY a.id",
        &params![uuid],
    )?;
    rows.iter().map(|row| Ok((from_row(row)?, row.get(5)?))).collect()
}

/// What one consumer is to hold from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The consumer's UUID.
    pub consumer_uuid: String,
    /// Its project.
    pub project_id: String,
    /// Its user.
    pub user_id: String,
    /// Its type; none leaves what it has.
    pub consumer_type: Option<String>,
    /// Provider, class and amount.
    pub amounts: Vec<(String, String, i64)>,
}

/// Replaces everything these consumers hold. All or nothing is the caller's transaction.
///
/// # Errors
/// [`Error::InvalidInventory`], [`Error::ConstraintsViolated`] and [`Error::CapacityExceeded`] where something does not
/// fit; unknown classes.
pub fn replace(tx: &mut Tx<'_>, wanted: &[Wanted]) -> Result<()> {
    for wish in wanted {
        for (_, class, _) in &wish.amounts {
            resource_classes::require(tx, class)?;
        }
    }
    // An overfull inventory may still be handed back in part: upstream compares with the usage before.
    let mut before = Vec::new();
    let mut touched: Vec<String> = Vec::new();
    for wish in wanted {
        for (provider, class, _) in &wish.amounts {
            if let Some(stored) = inventories::find(tx, provider, class)? {
                before.push((provider.clone(), class.clone(), stored.used));
            }
            note(&mut touched, provider);
        }
    }
    for wish in wanted {
        for allocation in of_consumer(tx, &wish.consumer_uuid)? {
            give_back(tx, &allocation)?;
            if wish.amounts.is_empty() {
                note(&mut touched, &allocation.provider_uuid);
            }
        }
        tx.execute(
            "DELETE FROM allocations WHERE consumer_uuid = ?1",
            &params![&wish.consumer_uuid],
        )?;
    }
    let created_at = now();
    for wish in wanted {
        for (provider, class, amount) in &wish.amounts {
            if !take(tx, provider, class, *amount)? {
                take_over_capacity(tx, provider, class, *amount, &before)?;
            }
            tx.execute(
                "INSERT INTO allocations (consumer_uuid, provider_uuid, resource_class, used, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                &params![&wish.consumer_uuid, provider, class, *amount, created_at],
            )?;
        }
        write_consumer(tx, wish)?;
    }
    for provider in touched {
        providers::bump(tx, &provider)?;
    }
    Ok(())
}

fn note(touched: &mut Vec<String>, provider: &str) {
    if !touched.iter().any(|seen| seen == provider) {
        touched.push(provider.to_owned());
    }
}

/// A consumer is there as long as it holds something.
fn write_consumer(tx: &mut Tx<'_>, wish: &Wanted) -> Result<()> {
    if wish.amounts.is_empty() {
        tx.execute("DELETE FROM consumers WHERE uuid = ?1", &params![&wish.consumer_uuid])?;
        return Ok(());
    }
    let touched = tx.execute(
        "UPDATE consumers SET project_id = ?2, user_id = ?3, consumer_type = COALESCE(?4, consumer_type), \
         generation = generation + 1, updated_at = ?5 WHERE uuid = ?1",
        &params![
            &wish.consumer_uuid,
            &wish.project_id,
            &wish.user_id,
            &wish.consumer_type,
            now()
        ],
    )?;
    if touched == 0 {
        tx.execute(
            "INSERT INTO consumers (uuid, project_id, user_id, consumer_type, generation, created_at) \
             VALUES (?1, ?2, ?3, ?4, 1, ?5)",
            &params![
                &wish.consumer_uuid,
                &wish.project_id,
                &wish.user_id,
                &wish.consumer_type,
                now()
            ],
        )?;
    }
    Ok(())
}

/// Takes an amount out of an inventory in one statement that checks the room; false where nothing was taken.
pub(crate) fn take(tx: &mut Tx<'_>, provider: &str, class: &str, amount: i64) -> Result<bool> {
    let touched = tx.execute(
        "UPDATE inventories SET used = used + ?3 WHERE provider_uuid = ?1 AND resource_class = ?2 \
         AND used + ?3 <= (total - reserved) * allocation_ratio \
         AND min_unit <= ?3 AND max_unit >= ?3 AND ?3 % step_size = 0",
        &params![provider, class, amount],
    )?;
    Ok(touched > 0)
}

/// Why [`take`] took nothing.
pub(crate) fn refusal(tx: &mut Tx<'_>, provider: &str, class: &str, amount: i64) -> Result<Error> {
    let (class, provider) = (class.to_owned(), provider.to_owned());
    Ok(match inventories::find(tx, &provider, &class)? {
        None => Error::InvalidInventory { class, provider },
        Some(stored) if !stored.inventory.allows(amount) => Error::ConstraintsViolated { class, provider },
        Some(_) => Error::CapacityExceeded { class, provider },
    })
}

fn take_over_capacity(
    tx: &mut Tx<'_>,
    provider: &str,
    class: &str,
    amount: i64,
    before: &[(String, String, i64)],
) -> Result<()> {
    let error = refusal(tx, provider, class, amount)?;
    if matches!(error, Error::CapacityExceeded { .. }) {
        let now_used = inventories::find(tx, provider, class)?.map_or(0, |stored| stored.used);
        let was = before
            .iter()
            .find(|(p, c, _)| p == provider && c == class)
            .map(|(_, _, used)| *used);
        if was.is_some_and(|was| was > 0 && now_used + amount <= was) {
            tx.execute(
                "UPDATE inventories SET used = used + ?3 WHERE provider_uuid = ?1 AND resource_class = ?2",
                &params![provider, class, amount],
            )?;
            return Ok(());
        }
    }
    Err(error)
}

fn give_back(tx: &mut Tx<'_>, allocation: &Allocation) -> Result<()> {
    tx.execute(
        "UPDATE inventories SET used = used - ?3 WHERE provider_uuid = ?1 AND resource_class = ?2",
        &params![&allocation.provider_uuid, &allocation.resource_class, allocation.used],
    )?;
    Ok(())
}

/// Gives back everything a consumer holds; false where that is nothing. Generations of the providers stay, as upstream's do.
pub fn delete(tx: &mut Tx<'_>, consumer: &str) -> Result<bool> {
    let held = of_consumer(tx, consumer)?;
    for allocation in &held {
        give_back(tx, allocation)?;
    }
    tx.execute("DELETE FROM allocations WHERE consumer_uuid = ?1", &params![consumer])?;
    tx.execute("DELETE FROM consumers WHERE uuid = ?1", &params![consumer])?;
    Ok(!held.is_empty())
}
