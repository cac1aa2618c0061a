//! Resource classes.

use database::{Tx, now, params};

use crate::error::{Error, Result};
use crate::model::{CUSTOM_PREFIX, STANDARD_RESOURCE_CLASSES};

/// A resource class: its name and when it was last touched, in microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceClass {
    /// Its name.
    pub name: String,
    /// Microseconds since the epoch.
    pub modified_at: i64,
}

const SELECT: &str = "SELECT name, COALESCE(updated_at, created_at) FROM resource_classes";

fn from_row(row: &database::Row) -> Result<ResourceClass> {
    Ok(ResourceClass {
        name: row.get(0)?,
        modified_at: row.get(1)?,
    })
}

/// Adds the standard classes that are missing.
pub fn sync(tx: &mut Tx<'_>) -> Result<()> {
    let known: Vec<String> = tx.column("SELECT name FROM resource_classes", &[])?;
    for name in STANDARD_RESOURCE_CLASSES
        .iter()
        .filter(|name| !known.iter().any(|have| have == *name))
    {
        insert(tx, name)?;
    }
    Ok(())
}

fn insert(tx: &mut Tx<'_>, name: &str) -> Result<ResourceClass> {
    let modified_at = now();
    tx.execute(
        "INSERT INTO resource_classes (name, created_at) VALUES (?1, ?2)",
        &params![name, modified_at],
    )?;
    Ok(ResourceClass {
        name: name.to_owned(),
        modified_at,
    })
}

/// All classes, the oldest first.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<ResourceClass>> {
    tx.query(&format!("{SELECT} ORDER BY id"), &[])?
        .iter()
        .map(from_row)
        .collect()
}

/// # Errors
/// [`Error::ResourceClassNotFound`].
pub fn get(tx: &mut Tx<'_>, name: &str) -> Result<ResourceClass> {
    let row = tx.query_one(&format!("{SELECT} WHERE name = ?1"), &params![name])?;
    row.as_ref()
        .map(from_row)
        .transpose()?
        .ok_or_else(|| Error::ResourceClassNotFound(name.to_owned()))
}

/// # Errors
/// [`Error::ResourceClassNotFound`].
pub fn require(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    if STANDARD_RESOURCE_CLASSES.contains(&name) {
        Ok(())
    } else {
        get(tx, name).map(|_| ())
    }
}

/// # Errors
/// [`Error::ResourceClassExists`].
pub fn create(tx: &mut Tx<'_>, name: &str) -> Result<ResourceClass> {
    if get(tx, name).is_ok() {
        return Err(Error::ResourceClassExists(name.to_owned()));
    }
    insert(tx, name)
}

/// Renames a class, in all inventories and allocations too.
///
/// # Errors
/// [`Error::ResourceClassStandard`], [`Error::ResourceClassExists`], [`Error::ResourceClassNotFound`].
pub fn rename(tx: &mut Tx<'_>, name: &str, new: &str) -> Result<ResourceClass> {
    get(tx, name)?;
    if !name.starts_with(CUSTOM_PREFIX) {
        return Err(Error::ResourceClassStandard(name.to_owned()));
    }
    if name != new && get(tx, new).is_ok() {
        return Err(Error::ResourceClassExists(new.to_owned()));
    }
    let modified_at = now();
    tx.execute(
        "UPDATE resource_classes SET name = ?2, updated_at = ?3 WHERE name = ?1",
        &params![name, new, modified_at],
    )?;
    for table in ["inventories", "allocations"] {
        tx.execute(
            &format!("UPDATE {table} SET resource_class = ?2 WHERE resource_class = ?1"),
            &params![name, new],
        )?;
    }
    Ok(ResourceClass {
        name: new.to_owned(),
        modified_at,
    })
}

/// # Errors
/// [`Error::ResourceClassStandard`], [`Error::ResourceClassInUse`], [`Error::ResourceClassNotFound`].
pub fn delete(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    get(tx, name)?;
    if !name.starts_with(CUSTOM_PREFIX) {
        return Err(Error::ResourceClassStandard(name.to_owned()));
    }
    if tx
        .query_one(
            "SELECT 1 FROM inventories WHERE resource_class = ?1 LIMIT 1",
            &params![name],
        )?
        .is_some()
    {
        return Err(Error::ResourceClassInUse(name.to_owned()));
    }
    tx.execute("DELETE FROM resource_classes WHERE name = ?1", &params![name])?;
    Ok(())
}
