//! Options that a domain sets for itself.

use super::Ref;
use crate::Result;
use database::{Tx, Value as Sql, params};
use serde_json::{Map, Value};

/// Writes one option.
pub fn set(
    tx: &mut Tx<'_>,
    domain_id: &str,
    section: &str,
    option: &str,
    value: &Value,
    sensitive: bool,
) -> Result<()> {
    tx.execute(
        "INSERT INTO identity_domain_config (domain_id, section, option, value, sensitive) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (domain_id, section, option) DO UPDATE SET value = excluded.value, sensitive = excluded.sensitive",
        &params![domain_id, section, option, value, sensitive],
    )?;
    Ok(())
}

/// The options as `{group: {option: value}}`; sensitive ones only where asked for.
pub fn get(
    tx: &mut Tx<'_>,
    domain_id: &str,
    section: Option<&str>,
    option: Option<&str>,
    sensitive: bool,
) -> Result<Ref> {
    let sql = "SELECT section, option, value FROM identity_domain_config WHERE domain_id = ?1 AND (CAST(?2 AS BIGINT) = 1 OR sensitive = 0) ORDER BY section, option";
    let mut config = Map::new();
    for row in tx.query(sql, &params![domain_id, sensitive])? {
        let (in_section, name): (String, String) = (row.get(0)?, row.get(1)?);
        if section.is_some_and(|s| s != in_section) || option.is_some_and(|o| o != name) {
            continue;
        }
        let group = config.entry(in_section).or_insert_with(|| Value::Object(Map::new()));
        if let Some(group) = group.as_object_mut() {
            group.insert(name, row.get(2)?);
        }
    }
    Ok(config)
}

/// Removes all options, those of a group, or one.
pub fn delete(tx: &mut Tx<'_>, domain_id: &str, section: Option<&str>, option: Option<&str>) -> Result<()> {
    let mut sql = String::from("DELETE FROM identity_domain_config WHERE domain_id = ?1");
    let mut params: Vec<Sql> = vec![domain_id.into()];
    if let Some(section) = section {
        sql.push_str(" AND section = ?2");
        params.push(section.into());
        if let Some(option) = option {
            sql.push_str(" AND option = ?3");
            params.push(option.into());
        }
    }
    tx.execute(&sql, &params)?;
    Ok(())
}
