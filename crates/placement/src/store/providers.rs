//! Resource providers and their trees.

use database::{Row, Select, Tx, Value, now, params};

use crate::error::{Error, Result};

/// A resource provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Its UUID, in canonical form.
    pub uuid: String,
    /// Its name, unique.
    pub name: String,
    /// Grows with every change of inventory, traits, allocations.
    pub generation: i64,
    /// The provider above it.
    pub parent_uuid: Option<String>,
    /// The top of its tree; itself for most.
    pub root_uuid: String,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: Option<i64>,
}

impl Provider {
    /// When it was last touched, in microseconds since the epoch.
    pub fn modified_at(&self) -> i64 {
        self.updated_at.unwrap_or(self.created_at)
    }

    fn from_row(row: &Row) -> Result<Provider> {
        Ok(Provider {
            uuid: row.get(0)?,
            name: row.get(1)?,
            generation: row.get(2)?,
            parent_uuid: row.get(3)?,
            root_uuid: row.get(4)?,
            created_at: row.get(5)?,
            updated_at: row.get(6)?,
        })
    }
}

const COLUMNS: &str = "rp.uuid, rp.name, rp.generation, rp.parent_uuid, rp.root_uuid, rp.created_at, rp.updated_at";

/// # Errors
/// [`Error::ProviderNotFound`].
pub fn get(tx: &mut Tx<'_>, uuid: &str) -> Result<Provider> {
    find(tx, uuid)?.ok_or_else(|| Error::ProviderNotFound(uuid.to_owned()))
}

/// The provider, if there is one.
pub fn find(tx: &mut Tx<'_>, uuid: &str) -> Result<Option<Provider>> {
    let sql = format!("SELECT {COLUMNS} FROM resource_providers rp WHERE rp.uuid = ?1");
    tx.query_one(&sql, &params![uuid])?
        .as_ref()
        .map(Provider::from_row)
        .transpose()
}

/// The provider with the name, if there is one.
pub fn find_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Option<Provider>> {
    let sql = format!("SELECT {COLUMNS} FROM resource_providers rp WHERE rp.name = ?1");
    tx.query_one(&sql, &params![name])?
        .as_ref()
        .map(Provider::from_row)
        .transpose()
}

/// What a list of providers can be narrowed by. `None` and empty mean any.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Exact name.
    pub name: Option<String>,
    /// UUID.
    pub uuid: Option<String>,
    /// In the same tree as this provider.
    pub in_tree: Option<String>,
    /// A member of one aggregate of every group.
    pub member_of: Vec<Vec<String>>,
    /// A member of none of these.
    pub forbidden_aggregates: Vec<String>,
    /// Has one trait of every group.
    pub required_traits: Vec<Vec<String>>,
    /// Has none of these.
    pub forbidden_traits: Vec<String>,
    /// Has room for each of these amounts.
    pub resources: Vec<(String, i64)>,
}

fn values(texts: &[String]) -> Vec<Value> {
    texts.iter().map(Value::from).collect()
}

/// Providers in the order of their creation.
///
/// # Errors
/// Unknown traits and resource classes.
pub fn list(tx: &mut Tx<'_>, filters: &Filters) -> Result<Vec<Provider>> {
    let mut select = Select::new(COLUMNS, "resource_providers rp");
    if let Some(name) = &filters.name {
        select.filter("rp.name = ?", &params![name]);
    }
    if let Some(uuid) = &filters.uuid {
        select.filter("rp.uuid = ?", &params![uuid]);
    }
    if let Some(uuid) = &filters.in_tree {
        select.filter(
            "rp.root_uuid = (SELECT root_uuid FROM resource_providers WHERE uuid = ?)",
            &params![uuid],
        );
    }
    let places = |count: usize| vec!["?"; count].join(", ");
    for group in &filters.required_traits {
        super::traits::require(tx, group)?;
        let sql = format!(
            "rp.uuid IN (SELECT provider_uuid FROM resource_provider_traits WHERE trait IN ({}))",
            places(group.len())
        );
        select.filter(&sql, &values(group));
    }
    if !filters.forbidden_traits.is_empty() {
        super::traits::require(tx, &filters.forbidden_traits)?;
        let sql = format!(
            "rp.uuid NOT IN (SELECT provider_uuid FROM resource_provider_traits WHERE trait IN ({}))",
            places(filters.forbidden_traits.len())
        );
        select.filter(&sql, &values(&filters.forbidden_traits));
    }
    for group in &filters.member_of {
        let sql = format!(
            "rp.uuid IN (SELECT provider_uuid FROM resource_provider_aggregates WHERE aggregate_uuid IN ({}))",
            places(group.len())
        );
        select.filter(&sql, &values(group));
    }
    if !filters.forbidden_aggregates.is_empty() {
        let sql = format!(
            "rp.uuid NOT IN (SELECT provider_uuid FROM resource_provider_aggregates WHERE aggregate_uuid IN ({}))",
            places(filters.forbidden_aggregates.len())
        );
        select.filter(&sql, &values(&filters.forbidden_aggregates));
    }
    for (class, amount) in &filters.resources {
        super::resource_classes::require(tx, class)?;
        select.filter(
            "rp.uuid IN (SELECT provider_uuid FROM inventories WHERE resource_class = ? \
             AND used + ? <= (total - reserved) * allocation_ratio AND min_unit <= ? AND max_unit >= ? AND ? % step_size = 0)",
            &params![class, *amount, *amount, *amount, *amount],
        );
    }
    select.order("rp.id", database::Direction::Ascending);
    select.rows(tx)?.iter().map(Provider::from_row).collect()
}

/// Adds a provider under `parent`, or as a tree of its own.
///
/// # Errors
/// [`Error::ObjectAction`] for an impossible parent, [`Error::ProviderExists`] for a name or UUID that is taken.
pub fn create(tx: &mut Tx<'_>, uuid: &str, name: &str, parent: Option<&str>) -> Result<Provider> {
    let refuse = |reason| Error::ObjectAction {
        action: "create",
        reason,
    };
    if name.is_empty() {
        return Err(refuse("name is required"));
    }
    let root = match parent {
        Some(parent) if parent == uuid => {
            return Err(refuse(
                "parent provider UUID cannot be same as UUID. Please set parent provider UUID to None if there is no parent.",
            ));
        }
        Some(parent) => {
            find(tx, parent)?
                .ok_or_else(|| refuse("parent provider UUID does not exist."))?
                .root_uuid
        }
        None => uuid.to_owned(),
    };
    if find(tx, uuid)?.is_some() {
        return Err(Error::ProviderExists(format!("uuid: {uuid}")));
    }
    if find_by_name(tx, name)?.is_some() {
        return Err(Error::ProviderExists(format!("name: {name}")));
    }
    let created_at = now();
    tx.execute(
        "INSERT INTO resource_providers (uuid, name, generation, parent_uuid, root_uuid, created_at) \
         VALUES (?1, ?2, 0, ?3, ?4, ?5)",
        &params![uuid, name, parent, &root, created_at],
    )?;
    Ok(Provider {
        uuid: uuid.to_owned(),
        name: name.to_owned(),
        generation: 0,
        parent_uuid: parent.map(str::to_owned),
        root_uuid: root,
        created_at,
        updated_at: None,
    })
}

/// Renames and, with `reparent`, moves a provider with all below it. Setting a first parent is always allowed.
///
/// # Errors
/// [`Error::ObjectAction`] for a move that is impossible or not allowed, [`Error::ProviderExists`] for a taken name.
pub fn update(
    tx: &mut Tx<'_>,
    provider: &Provider,
    name: &str,
    parent: Option<&str>,
    reparent: bool,
) -> Result<Provider> {
    let refuse = |reason| Error::ObjectAction {
        action: "update",
        reason,
    };
    let mut root = provider.root_uuid.clone();
    match (parent, &provider.parent_uuid) {
        (Some(parent), current) => {
            let above = find(tx, parent)?.ok_or(Error::ObjectAction {
                action: "create",
                reason: "parent provider UUID does not exist.",
            })?;
            if current.as_deref().is_some_and(|current| current != parent) && !reparent {
                return Err(refuse("re-parenting a provider is not currently allowed."));
            }
            if subtree(tx, provider)?.contains(&above.uuid) {
                return Err(refuse("creating loop in the provider tree is not allowed."));
            }
            root = above.root_uuid;
        }
        (None, Some(_)) => {
            if !reparent {
                return Err(refuse("un-parenting a provider is not currently allowed."));
            }
            root.clone_from(&provider.uuid);
        }
        (None, None) => {}
    }
    if find_by_name(tx, name)?.is_some_and(|other| other.uuid != provider.uuid) {
        return Err(Error::ProviderExists(name.to_owned()));
    }
    if root != provider.root_uuid {
        for uuid in subtree(tx, provider)? {
            tx.execute(
                "UPDATE resource_providers SET root_uuid = ?2 WHERE uuid = ?1",
                &params![uuid, &root],
            )?;
        }
    }
    let updated_at = now();
    tx.execute(
        "UPDATE resource_providers SET name = ?2, parent_uuid = ?3, root_uuid = ?4, updated_at = ?5 WHERE uuid = ?1",
        &params![&provider.uuid, name, parent, &root, updated_at],
    )?;
    Ok(Provider {
        name: name.to_owned(),
        parent_uuid: parent.map(str::to_owned),
        root_uuid: root,
        updated_at: Some(updated_at),
        ..provider.clone()
    })
}

/// The provider and all below it.
fn subtree(tx: &mut Tx<'_>, provider: &Provider) -> Result<Vec<String>> {
    let mut found = vec![provider.uuid.clone()];
    let mut next = 0;
    while next < found.len() {
        let below: Vec<String> = tx.column(
            "SELECT uuid FROM resource_providers WHERE parent_uuid = ?1",
            &params![&found[next]],
        )?;
        found.extend(below);
        next += 1;
    }
    Ok(found)
}

/// Removes a provider with its inventory, traits and aggregates.
///
/// # Errors
/// [`Error::ProviderHasChildren`], [`Error::ProviderInUse`].
pub fn delete(tx: &mut Tx<'_>, uuid: &str) -> Result<()> {
    let exists = |tx: &mut Tx<'_>, sql: &str| Ok::<_, Error>(tx.query_one(sql, &params![uuid])?.is_some());
    if exists(tx, "SELECT 1 FROM resource_providers WHERE parent_uuid = ?1 LIMIT 1")? {
        return Err(Error::ProviderHasChildren);
    }
    if exists(tx, "SELECT 1 FROM allocations WHERE provider_uuid = ?1 LIMIT 1")? {
        return Err(Error::ProviderInUse);
    }
    for table in [
        "inventories",
        "resource_provider_traits",
        "resource_provider_aggregates",
    ] {
        tx.execute(&format!("DELETE FROM {table} WHERE provider_uuid = ?1"), &params![uuid])?;
    }
    tx.execute("DELETE FROM resource_providers WHERE uuid = ?1", &params![uuid])?;
    Ok(())
}

/// Counts a change; returns the new generation.
pub fn bump(tx: &mut Tx<'_>, uuid: &str) -> Result<i64> {
    tx.scalar(
        "UPDATE resource_providers SET generation = generation + 1, updated_at = ?2 WHERE uuid = ?1 RETURNING generation",
        &params![uuid, now()],
    )?
    .ok_or_else(|| Error::ProviderNotFound(uuid.to_owned()))
}
