//! Flavors and who may use them.

use database::{Direction, Result, Select, Tx, Value, params};

use crate::model::flavor::Flavor;

/// What a list of flavors leaves out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only public ones and those this project has been given (when set); `None` shows all.
    pub visible_to: Option<String>,
    /// Only public (true) or private (false) ones.
    pub is_public: Option<bool>,
    /// At least so many MiB of memory.
    pub min_ram: Option<i64>,
    /// At least so many GiB of disk.
    pub min_disk: Option<i64>,
    /// A name that matches this expression.
    pub name: Option<String>,
}

/// The column behind a sort key.
fn column(key: &str) -> &'static str {
    match key {
        "created_at" => "f.created_at",
        "updated_at" => "f.updated_at",
        "description" => "f.description",
        "disabled" => "f.disabled",
        "ephemeral_gb" => "f.ephemeral_gb",
        "id" => "f.number",
        "is_public" => "f.is_public",
        "memory_mb" => "f.memory_mb",
        "name" => "f.name",
        "root_gb" => "f.root_gb",
        "rxtx_factor" => "f.rxtx_factor",
        "swap" => "f.swap",
        "vcpus" => "f.vcpus",
        _ => "f.id",
    }
}

/// A page of flavors; `None` when the marker names none.
pub fn list(
    tx: &mut Tx<'_>,
    filter: &Filter,
    sort: (&str, Direction),
    limit: u64,
    marker: Option<&str>,
) -> Result<Option<Vec<Flavor>>> {
    let mut select = Select::new(Flavor::columns("f"), "compute_flavors f");
    if let Some(project) = &filter.visible_to {
        let access =
            "(f.is_public = 1 OR EXISTS (SELECT 1 FROM flavor_access a WHERE a.flavor_id = f.id AND a.project_id = ?))";
        select.filter(access, &params![project]);
    }
    if let Some(public) = filter.is_public {
        select.filter("f.is_public = ?", &params![public]);
    }
    if let Some(ram) = filter.min_ram {
        select.filter("f.memory_mb >= ?", &params![ram]);
    }
    if let Some(disk) = filter.min_disk {
        select.filter("f.root_gb >= ?", &params![disk]);
    }
    if let Some(name) = &filter.name {
        select.filter("f.name REGEXP ?", &params![name]);
    }
    let key = column(sort.0);
    let mut order = vec![key];
    if key != "f.number" {
        order.push("f.number");
    }
    for column in &order {
        select.order(column, sort.1);
    }
    if let Some(marker) = marker {
        let columns = order.join(", ");
        let Some(row) = tx.query_one(
            &format!("SELECT {columns} FROM compute_flavors f WHERE f.id = ?1"),
            &params![marker],
        )?
        else {
            return Ok(None);
        };
        select.after(&row.into_values());
    }
    select.limit(limit);
    select
        .rows(tx)?
        .iter()
        .map(Flavor::from_row)
        .collect::<Result<Vec<_>>>()
        .map(Some)
}

/// The flavor, where `project` may use it (or always, for `None`).
pub fn find(tx: &mut Tx<'_>, id: &str, project: Option<&str>) -> Result<Option<Flavor>> {
    let Some(flavor) = Flavor::get(tx, id)? else {
        return Ok(None);
    };
    match project {
        Some(project) if !flavor.is_public && !has_access(tx, id, project)? => Ok(None),
        _ => Ok(Some(flavor)),
    }
}

/// The number for the next flavor.
pub fn next_number(tx: &mut Tx<'_>) -> Result<i64> {
    Ok(tx
        .scalar::<Option<i64>>("SELECT MAX(number) FROM compute_flavors", &[])?
        .flatten()
        .unwrap_or(0)
        + 1)
}

/// Whether a flavor has this name.
pub fn name_taken(tx: &mut Tx<'_>, name: &str) -> Result<bool> {
    Ok(tx
        .query_one("SELECT 1 FROM compute_flavors WHERE name = ?1", &params![name])?
        .is_some())
}

/// Whether the project has been given the (private) flavor.
pub fn has_access(tx: &mut Tx<'_>, id: &str, project: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM flavor_access WHERE flavor_id = ?1 AND project_id = ?2";
    Ok(tx.query_one(sql, &params![id, project])?.is_some())
}

/// The projects that have been given the flavor.
pub fn projects(tx: &mut Tx<'_>, id: &str) -> Result<Vec<String>> {
    tx.column(
        "SELECT project_id FROM flavor_access WHERE flavor_id = ?1 ORDER BY project_id",
        &params![id],
    )
}

/// Gives a flavor to a project.
pub fn grant(tx: &mut Tx<'_>, id: &str, project: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO flavor_access (flavor_id, project_id) VALUES (?1, ?2)",
        &params![id, project],
    )
    .map(|_| ())
}

/// Takes a flavor from a project; false where it did not have it.
pub fn revoke(tx: &mut Tx<'_>, id: &str, project: &str) -> Result<bool> {
    let sql = "DELETE FROM flavor_access WHERE flavor_id = ?1 AND project_id = ?2";
    Ok(tx.execute(sql, &params![id, project])? > 0)
}

/// Replaces the extra specs.
pub fn set_extra_specs(tx: &mut Tx<'_>, id: &str, specs: &serde_json::Value, now: i64) -> Result<()> {
    let sql = "UPDATE compute_flavors SET extra_specs = ?2, updated_at = ?3 WHERE id = ?1";
    tx.execute(sql, &[Value::from(id), Value::from(specs), Value::from(now)])
        .map(|_| ())
}
