//! Metadata definitions: namespaces, and what stands in them. Things in a namespace are documents with a name.

use database::{Direction, Row, Select, Tx, Value as Cell, now, params};
use serde_json::{Map, Value};

use super::images::Viewer;
use crate::error::Result;

/// A namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// Internal number.
    pub id: i64,
    /// Name, unique.
    pub namespace: String,
    /// Name for people.
    pub display_name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// `public` or `private`.
    pub visibility: String,
    /// Whether it may not be deleted.
    pub protected: bool,
    /// The project it belongs to.
    pub owner: Option<String>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
}

const COLUMNS: &str =
    "n.id, n.namespace, n.display_name, n.description, n.visibility, n.protected, n.owner, n.created_at, n.updated_at";

fn from_row(row: &Row) -> Result<Namespace> {
    Ok(Namespace {
        id: row.get(0)?,
        namespace: row.get(1)?,
        display_name: row.get(2)?,
        description: row.get(3)?,
        visibility: row.get(4)?,
        protected: row.get(5)?,
        owner: row.get(6)?,
        created_at: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

/// Whether the viewer may see it.
pub fn is_visible(viewer: Viewer<'_>, namespace: &Namespace) -> bool {
    viewer.admin
        || namespace.owner.is_none()
        || namespace.visibility == "public"
        || (viewer.project.is_some() && namespace.owner.as_deref() == viewer.project)
}

/// The namespace of this name.
pub fn find(tx: &mut Tx<'_>, name: &str) -> Result<Option<Namespace>> {
    let sql = format!("SELECT {COLUMNS} FROM metadef_namespaces n WHERE n.namespace = ?1");
    tx.query_one(&sql, &params![name])?.as_ref().map(from_row).transpose()
}

/// What a list of namespaces can be narrowed and ordered by.
#[derive(Debug, Clone)]
pub struct Listing {
    /// `public` or `private`.
    pub visibility: Option<String>,
    /// For one of these types of resources.
    pub resource_types: Option<Vec<String>>,
    /// A column.
    pub sort_key: &'static str,
    /// Its direction.
    pub direction: Direction,
    /// The namespace after which the page begins.
    pub marker: Option<Namespace>,
    /// Length of the page.
    pub limit: u64,
}

/// One page of the namespaces that the viewer may see.
pub fn list(tx: &mut Tx<'_>, viewer: Viewer<'_>, listing: &Listing) -> Result<Vec<Namespace>> {
    let mut select = Select::new(COLUMNS, "metadef_namespaces n");
    match (viewer.admin, viewer.project) {
        (true, _) => {}
        (false, Some(project)) => {
            select.filter("(n.owner = ? OR n.visibility = 'public')", &params![project]);
        }
        (false, None) => {
            select.filter("n.visibility = 'public'", &[]);
        }
    }
    if let Some(visibility) = &listing.visibility {
        select.filter("n.visibility = ?", &params![visibility]);
    }
    if let Some(types) = &listing.resource_types {
        let places = vec!["?"; types.len()].join(", ");
        let sql = format!("n.id IN (SELECT namespace_id FROM metadef_associations WHERE name IN ({places}))");
        select.filter(&sql, &types.iter().map(Cell::from).collect::<Vec<_>>());
    }
    let mut keys = vec![listing.sort_key];
    keys.extend(["created_at", "id"].into_iter().filter(|key| *key != listing.sort_key));
    for key in &keys {
        select.order(&format!("n.{key}"), listing.direction);
    }
    if let Some(marker) = &listing.marker {
        let cell = |key: &&str| match *key {
            "namespace" => Cell::from(&marker.namespace),
            "display_name" => Cell::from(&marker.display_name),
            "owner" => Cell::from(&marker.owner),
            "visibility" => Cell::from(&marker.visibility),
            "updated_at" => marker.updated_at.into(),
            "created_at" => marker.created_at.into(),
            _ => marker.id.into(),
        };
        select.after(&keys.iter().map(cell).collect::<Vec<_>>());
    }
    select.limit(listing.limit);
    select.rows(tx)?.iter().map(from_row).collect()
}

/// Adds a namespace and sets its number; false where the name is taken.
pub fn insert(tx: &mut Tx<'_>, namespace: &mut Namespace) -> Result<bool> {
    if find(tx, &namespace.namespace)?.is_some() {
        return Ok(false);
    }
    let id: Option<i64> = tx.scalar(
        "INSERT INTO metadef_namespaces (namespace, display_name, description, visibility, protected, owner, created_at, \
         updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING id",
        &params![
            &namespace.namespace,
            &namespace.display_name,
            &namespace.description,
            &namespace.visibility,
            namespace.protected,
            &namespace.owner,
            namespace.created_at,
            namespace.updated_at
        ],
    )?;
    namespace.id = id.unwrap_or_default();
    Ok(true)
}

/// Writes a namespace back; false where its new name is another's.
pub fn update(tx: &mut Tx<'_>, namespace: &mut Namespace) -> Result<bool> {
    if find(tx, &namespace.namespace)?.is_some_and(|other| other.id != namespace.id) {
        return Ok(false);
    }
    namespace.updated_at = now();
    tx.execute(
        "UPDATE metadef_namespaces SET namespace = ?2, display_name = ?3, description = ?4, visibility = ?5, protected = ?6, \
         owner = ?7, updated_at = ?8 WHERE id = ?1",
        &params![
            namespace.id,
            &namespace.namespace,
            &namespace.display_name,
            &namespace.description,
            &namespace.visibility,
            namespace.protected,
            &namespace.owner,
            namespace.updated_at
        ],
    )?;
    Ok(true)
}

/// Removes a namespace with all that stands in it.
pub fn delete(tx: &mut Tx<'_>, namespace: &Namespace) -> Result<()> {
    for kind in [Kind::Object, Kind::Property, Kind::Tag, Kind::Association] {
        clear(tx, kind, namespace)?;
    }
    tx.execute("DELETE FROM metadef_namespaces WHERE id = ?1", &params![namespace.id])?;
    Ok(())
}

/// What stands in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A definition of an object.
    Object,
    /// A definition of a property.
    Property,
    /// A tag.
    Tag,
    /// A type of resource that the namespace is for.
    Association,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Kind::Object => "metadef_objects",
            Kind::Property => "metadef_properties",
            Kind::Tag => "metadef_tags",
            Kind::Association => "metadef_associations",
        }
    }
}

/// A thing in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name, unique in the namespace.
    pub name: String,
    /// The rest of it, as the client gave it.
    pub document: Map<String, Value>,
    /// Microseconds since the epoch.
    pub created_at: i64,
    /// Microseconds since the epoch.
    pub updated_at: i64,
}

fn entry(row: &Row) -> Result<Entry> {
    let document: Value = row.get(1)?;
    Ok(Entry {
        name: row.get(0)?,
        document: match document {
            Value::Object(map) => map,
            _ => Map::new(),
        },
        created_at: row.get(2)?,
        updated_at: row.get(3)?,
    })
}

/// All things of a kind in a namespace, the oldest first.
pub fn entries(tx: &mut Tx<'_>, kind: Kind, namespace: &Namespace) -> Result<Vec<Entry>> {
    let sql = format!(
        "SELECT name, document, created_at, updated_at FROM {} WHERE namespace_id = ?1 ORDER BY id",
        kind.table()
    );
    tx.query(&sql, &params![namespace.id])?.iter().map(entry).collect()
}

/// One thing in a namespace.
pub fn find_entry(tx: &mut Tx<'_>, kind: Kind, namespace: &Namespace, name: &str) -> Result<Option<Entry>> {
    let sql = format!(
        "SELECT name, document, created_at, updated_at FROM {} WHERE namespace_id = ?1 AND name = ?2",
        kind.table()
    );
    tx.query_one(&sql, &params![namespace.id, name])?
        .as_ref()
        .map(entry)
        .transpose()
}

/// Adds a thing; `None` where the name is taken. Names of tags are compared without regard to case.
pub fn insert_entry(
    tx: &mut Tx<'_>,
    kind: Kind,
    namespace: &Namespace,
    name: &str,
    document: &Map<String, Value>,
) -> Result<Option<Entry>> {
    let taken = match kind {
        Kind::Tag => entries(tx, kind, namespace)?
            .iter()
            .any(|tag| tag.name.to_lowercase() == name.to_lowercase()),
        _ => find_entry(tx, kind, namespace, name)?.is_some(),
    };
    if taken {
        return Ok(None);
    }
    let at = now();
    tx.execute(
        &format!(
            "INSERT INTO {} (namespace_id, name, document, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            kind.table()
        ),
        &params![namespace.id, name, Value::Object(document.clone()), at],
    )?;
    Ok(Some(Entry {
        name: name.to_owned(),
        document: document.clone(),
        created_at: at,
        updated_at: at,
    }))
}

/// Writes a thing back under a new name; false where that is taken.
pub fn update_entry(
    tx: &mut Tx<'_>,
    kind: Kind,
    namespace: &Namespace,
    old_name: &str,
    entry: &mut Entry,
) -> Result<bool> {
    if entry.name != old_name && find_entry(tx, kind, namespace, &entry.name)?.is_some() {
        return Ok(false);
    }
    entry.updated_at = now();
    tx.execute(
        &format!(
            "UPDATE {} SET name = ?3, document = ?4, updated_at = ?5 WHERE namespace_id = ?1 AND name = ?2",
            kind.table()
        ),
        &params![
            namespace.id,
            old_name,
            &entry.name,
            Value::Object(entry.document.clone()),
            entry.updated_at
        ],
    )?;
    Ok(true)
}

/// Removes a thing.
pub fn delete_entry(tx: &mut Tx<'_>, kind: Kind, namespace: &Namespace, name: &str) -> Result<()> {
    let sql = format!("DELETE FROM {} WHERE namespace_id = ?1 AND name = ?2", kind.table());
    tx.execute(&sql, &params![namespace.id, name])?;
    Ok(())
}

/// Removes all things of a kind.
pub fn clear(tx: &mut Tx<'_>, kind: Kind, namespace: &Namespace) -> Result<()> {
    tx.execute(
        &format!("DELETE FROM {} WHERE namespace_id = ?1", kind.table()),
        &params![namespace.id],
    )?;
    Ok(())
}

/// All types of resources that any namespace was ever for: name, creation and last change in microseconds since the epoch.
pub fn resource_types(tx: &mut Tx<'_>) -> Result<Vec<(String, i64, i64)>> {
    let rows = tx.query(
        "SELECT name, created_at, updated_at FROM metadef_resource_types ORDER BY id",
        &[],
    )?;
    rows.iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .collect()
}

/// Makes sure that a type of resource is known.
pub fn ensure_resource_type(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    let sql = "SELECT 1 FROM metadef_resource_types WHERE name = ?1";
    if tx.query_one(sql, &params![name])?.is_none() {
        tx.execute(
            "INSERT INTO metadef_resource_types (name, created_at, updated_at) VALUES (?1, ?2, ?2)",
            &params![name, now()],
        )?;
    }
    Ok(())
}
