//! The SQL of the Compute service, one file per resource.

pub mod actions;
pub mod aggregates;
pub mod consoles;
pub mod flavors;
pub mod groups;
pub mod hosts;
pub mod keypairs;
pub mod moves;
pub mod quotas;
pub mod servers;
#[cfg(test)]
pub(crate) mod testing;

use database::{Result, Tx, Value};

/// `(?1, ?2, …)` for so many values, from `first` on.
pub(crate) fn places(first: usize, count: usize) -> String {
    let list: Vec<String> = (first..first + count).map(|n| format!("?{n}")).collect();
    format!("({})", list.join(", "))
}

/// Texts as parameters.
pub(crate) fn texts<T: AsRef<str>>(values: &[T]) -> Vec<Value> {
    values.iter().map(|v| Value::from(v.as_ref())).collect()
}

/// Inserts and returns the number the row got.
pub(crate) fn insert_numbered(tx: &mut Tx<'_>, table: &str, columns: &[&str], values: &[Value]) -> Result<i64> {
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES {} RETURNING number",
        columns.join(", "),
        places(1, values.len())
    );
    Ok(tx.scalar(&sql, values)?.unwrap_or(0))
}
