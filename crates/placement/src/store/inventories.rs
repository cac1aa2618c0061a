//! What providers have. The column `used` is the sum of the allocations, kept with them, so that one statement can claim.

use database::{Row, Tx, now, params};

use crate::error::{Error, Result};
use crate::model::{Inventory, STANDARD_RESOURCE_CLASSES};

/// An inventory as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// What there is.
    pub inventory: Inventory,
    /// Sum of all allocations.
    pub used: i64,
    /// Microseconds since the epoch.
    pub modified_at: i64,
}

pub(crate) const COLUMNS: &str = "resource_class, total, reserved, min_unit, max_unit, step_size, allocation_ratio, used, \
     COALESCE(updated_at, created_at)";

pub(crate) fn from_row_at(row: &Row, at: usize) -> Result<Stored> {
    Ok(Stored {
        inventory: Inventory {
            resource_class: row.get(at)?,
            total: row.get(at + 1)?,
            reserved: row.get(at + 2)?,
            min_unit: row.get(at + 3)?,
            max_unit: row.get(at + 4)?,
            step_size: row.get(at + 5)?,
            allocation_ratio: row.get(at + 6)?,
        },
        used: row.get(at + 7)?,
        modified_at: row.get(at + 8)?,
    })
}

/// All inventories of a provider, in the order of the standard classes' names.
pub fn of_provider(tx: &mut Tx<'_>, provider: &str) -> Result<Vec<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM inventories WHERE provider_uuid = ?1 ORDER BY created_at, resource_class");
    tx.query(&sql, &params![provider])?
        .iter()
        .map(|row| from_row_at(row, 0))
        .collect()
}

/// All inventories, each with its provider's UUID.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<(String, Stored)>> {
    let sql = format!("SELECT provider_uuid, {COLUMNS} FROM inventories ORDER BY created_at, resource_class");
    tx.query(&sql, &[])?
        .iter()
        .map(|row| Ok((row.get(0)?, from_row_at(row, 1)?)))
        .collect()
}

/// One inventory of a provider.
pub fn find(tx: &mut Tx<'_>, provider: &str, class: &str) -> Result<Option<Stored>> {
    let sql = format!("SELECT {COLUMNS} FROM inventories WHERE provider_uuid = ?1 AND resource_class = ?2");
    tx.query_one(&sql, &params![provider, class])?
        .as_ref()
        .map(|row| from_row_at(row, 0))
        .transpose()
}

fn insert(tx: &mut Tx<'_>, provider: &str, inventory: &Inventory) -> Result<()> {
    tx.execute(
        "INSERT INTO inventories (provider_uuid, resource_class, total, reserved, min_unit, max_unit, step_size, \
         allocation_ratio, used, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9)",
        &params![
            provider,
            &inventory.resource_class,
            inventory.total,
            inventory.reserved,
            inventory.min_unit,
            inventory.max_unit,
            inventory.step_size,
            inventory.allocation_ratio,
            now()
        ],
    )?;
    Ok(())
}

fn write(tx: &mut Tx<'_>, provider: &str, inventory: &Inventory) -> Result<()> {
    let touched = tx.execute(
        "UPDATE inventories SET total = ?3, reserved = ?4, min_unit = ?5, max_unit = ?6, step_size = ?7, \
         allocation_ratio = ?8, updated_at = ?9 WHERE provider_uuid = ?1 AND resource_class = ?2",
        &params![
            provider,
            &inventory.resource_class,
            inventory.total,
            inventory.reserved,
            inventory.min_unit,
            inventory.max_unit,
            inventory.step_size,
            inventory.allocation_ratio,
            now()
        ],
    )?;
    if touched == 0 {
        Err(Error::InventoryNotFound(inventory.resource_class.clone()))
    } else {
        Ok(())
    }
}

/// Adds one inventory; returns the provider's new generation.
///
/// # Errors
/// An unknown class; [`database::Error::Unique`] where the provider has one of the class.
pub fn add(tx: &mut Tx<'_>, provider: &str, inventory: &Inventory) -> Result<i64> {
    super::resource_classes::require(tx, &inventory.resource_class)?;
    insert(tx, provider, inventory)?;
    super::providers::bump(tx, provider)
}

/// Changes one inventory, even to less than is in use; returns the provider's new generation.
///
/// # Errors
/// [`Error::InventoryNotFound`].
pub fn update(tx: &mut Tx<'_>, provider: &str, inventory: &Inventory) -> Result<i64> {
    super::resource_classes::require(tx, &inventory.resource_class)?;
    write(tx, provider, inventory)?;
    super::providers::bump(tx, provider)
}

/// Removes one inventory.
///
/// # Errors
/// [`Error::InventoryInUse`], [`Error::InventoryNotFoundForDelete`].
pub fn delete(tx: &mut Tx<'_>, provider: &str, class: &str) -> Result<()> {
    super::resource_classes::require(tx, class)?;
    remove(tx, provider, &[class])?;
    super::providers::bump(tx, provider)?;
    Ok(())
}

fn remove(tx: &mut Tx<'_>, provider: &str, classes: &[&str]) -> Result<()> {
    let mut in_use = Vec::new();
    let mut missing = None;
    for class in classes {
        let touched = tx.execute(
            "DELETE FROM inventories WHERE provider_uuid = ?1 AND resource_class = ?2 AND used = 0",
            &params![provider, *class],
        )?;
        if touched == 0 {
            match find(tx, provider, class)? {
                Some(_) => in_use.push(*class),
                None => missing = Some(*class),
            }
        }
    }
    if !in_use.is_empty() {
        // Named in the order of the classes, as upstream's numbers have them.
        in_use.sort_by_key(|class| {
            let known = STANDARD_RESOURCE_CLASSES.iter().position(|name| name == class);
            (known.unwrap_or(usize::MAX), *class)
        });
        return Err(Error::InventoryInUse {
            classes: in_use.join(", "),
            provider: provider.to_owned(),
        });
    }
    missing.map_or(Ok(()), |class| Err(Error::InventoryNotFoundForDelete(class.to_owned())))
}

/// Makes these all inventories of a provider; returns its new generation.
///
/// # Errors
/// An unknown class, [`Error::InventoryInUse`] where one that goes is in use.
pub fn set(tx: &mut Tx<'_>, provider: &str, inventories: &[Inventory]) -> Result<i64> {
    for inventory in inventories {
        super::resource_classes::require(tx, &inventory.resource_class)?;
    }
    let have = of_provider(tx, provider)?;
    let gone: Vec<&str> = have
        .iter()
        .map(|stored| stored.inventory.resource_class.as_str())
        .filter(|class| !inventories.iter().any(|inventory| inventory.resource_class == *class))
        .collect();
    remove(tx, provider, &gone)?;
    for inventory in inventories {
        if have
            .iter()
            .any(|stored| stored.inventory.resource_class == inventory.resource_class)
        {
            write(tx, provider, inventory)?;
        } else {
            insert(tx, provider, inventory)?;
        }
    }
    super::providers::bump(tx, provider)
}
