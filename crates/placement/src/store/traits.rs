//! Traits and which providers have them.

use std::collections::HashSet;

use database::{Select, Tx, Value, now, params};

use crate::error::{Error, Result};
use crate::model::{CUSTOM_PREFIX, standard_traits};

/// A trait: its name and when it was created, in microseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trait {
    /// Its name.
    pub name: String,
    /// Microseconds since the epoch.
    pub modified_at: i64,
}

const COLUMNS: &str = "t.name, COALESCE(t.updated_at, t.created_at)";

fn from_row(row: &database::Row) -> Result<Trait> {
    Ok(Trait {
        name: row.get(0)?,
        modified_at: row.get(1)?,
    })
}

/// Adds the standard traits that are missing.
pub fn sync(tx: &mut Tx<'_>) -> Result<()> {
    let known: HashSet<String> = tx
        .column::<String>("SELECT name FROM traits", &[])?
        .into_iter()
        .collect();
    let missing: Vec<&str> = standard_traits().filter(|name| !known.contains(*name)).collect();
    let created_at = now();
    for chunk in missing.chunks(100) {
        let places: Vec<_> = (0..chunk.len()).map(|at| format!("(?{}, ?1)", at + 2)).collect();
        let mut values = vec![Value::from(created_at)];
        values.extend(chunk.iter().map(|name| Value::from(*name)));
        tx.execute(
            &format!("INSERT INTO traits (name, created_at) VALUES {}", places.join(", ")),
            &values,
        )?;
    }
    Ok(())
}

/// What a list of traits can be narrowed by.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// One of these names.
    pub names: Option<Vec<String>>,
    /// Names that begin so.
    pub prefix: Option<String>,
    /// Whether some provider has the trait.
    pub associated: Option<bool>,
}

/// Traits, the oldest first.
pub fn list(tx: &mut Tx<'_>, filters: &Filters) -> Result<Vec<Trait>> {
    let mut select = Select::new(COLUMNS, "traits t");
    if let Some(names) = &filters.names {
        select.filter_in("t.name", &names.iter().map(Value::from).collect::<Vec<_>>());
    }
    if let Some(prefix) = &filters.prefix {
        select.filter("t.name LIKE ?", &params![format!("{prefix}%")]);
    }
    match filters.associated {
        Some(true) => select.filter(
            "EXISTS (SELECT 1 FROM resource_provider_traits p WHERE p.trait = t.name)",
            &[],
        ),
        Some(false) => select.filter(
            "NOT EXISTS (SELECT 1 FROM resource_provider_traits p WHERE p.trait = t.name)",
            &[],
        ),
        None => &mut select,
    };
    select.order("t.id", database::Direction::Ascending);
    select.rows(tx)?.iter().map(from_row).collect()
}

/// # Errors
/// [`Error::TraitNotFound`].
pub fn get(tx: &mut Tx<'_>, name: &str) -> Result<Trait> {
    let row = tx.query_one(
        &format!("SELECT {COLUMNS} FROM traits t WHERE t.name = ?1"),
        &params![name],
    )?;
    row.as_ref()
        .map(from_row)
        .transpose()?
        .ok_or_else(|| Error::TraitNotFound(name.to_owned()))
}

/// # Errors
/// [`Error::TraitNotFound`] with the names that are no traits.
pub fn require(tx: &mut Tx<'_>, names: &[String]) -> Result<()> {
    let filters = Filters {
        names: Some(names.to_vec()),
        ..Filters::default()
    };
    let known = list(tx, &filters)?;
    let missing: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !known.iter().any(|found| found.name == *name))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::TraitNotFound(missing.join(", ")))
    }
}

/// Makes sure that the trait is there; true where it was not.
pub fn ensure(tx: &mut Tx<'_>, name: &str) -> Result<(Trait, bool)> {
    match get(tx, name) {
        Ok(found) => Ok((found, false)),
        Err(Error::TraitNotFound(_)) => {
            let modified_at = now();
            tx.execute(
                "INSERT INTO traits (name, created_at) VALUES (?1, ?2)",
                &params![name, modified_at],
            )?;
            Ok((
                Trait {
                    name: name.to_owned(),
                    modified_at,
                },
                true,
            ))
        }
        Err(error) => Err(error),
    }
}

/// # Errors
/// [`Error::TraitNotFound`], [`Error::TraitStandard`], [`Error::TraitInUse`].
pub fn delete(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    get(tx, name)?;
    if !name.starts_with(CUSTOM_PREFIX) {
        return Err(Error::TraitStandard(name.to_owned()));
    }
    if tx
        .query_one(
            "SELECT 1 FROM resource_provider_traits WHERE trait = ?1 LIMIT 1",
            &params![name],
        )?
        .is_some()
    {
        return Err(Error::TraitInUse(name.to_owned()));
    }
    tx.execute("DELETE FROM traits WHERE name = ?1", &params![name])?;
    Ok(())
}

/// The traits of a provider.
pub fn of_provider(tx: &mut Tx<'_>, provider: &str) -> Result<Vec<Trait>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM resource_provider_traits p JOIN traits t ON t.name = p.trait \
         WHERE p.provider_uuid = ?1 ORDER BY t.id"
    );
    tx.query(&sql, &params![provider])?.iter().map(from_row).collect()
}

/// All traits of all providers: UUID and name.
pub fn all_of_providers(tx: &mut Tx<'_>) -> Result<Vec<(String, String)>> {
    let rows = tx.query(
        "SELECT p.provider_uuid, p.trait FROM resource_provider_traits p JOIN traits t ON t.name = p.trait ORDER BY t.id",
        &[],
    )?;
    rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// Gives a provider exactly these traits, which exist; true where that changed something (and its generation grew).
pub fn set_of_provider(tx: &mut Tx<'_>, provider: &str, names: &[String]) -> Result<bool> {
    let have: Vec<String> = tx.column(
        "SELECT trait FROM resource_provider_traits WHERE provider_uuid = ?1",
        &params![provider],
    )?;
    let mut changed = false;
    for name in have.iter().filter(|name| !names.contains(name)) {
        tx.execute(
            "DELETE FROM resource_provider_traits WHERE provider_uuid = ?1 AND trait = ?2",
            &params![provider, name],
        )?;
        changed = true;
    }
    let mut added: HashSet<&str> = HashSet::new();
    for name in names.iter().filter(|name| !have.contains(name)) {
        if added.insert(name) {
            tx.execute(
                "INSERT INTO resource_provider_traits (provider_uuid, trait) VALUES (?1, ?2)",
                &params![provider, name],
            )?;
            changed = true;
        }
    }
    if changed {
        super::providers::bump(tx, provider)?;
    }
    Ok(changed)
}
