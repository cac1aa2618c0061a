//! Members of images.

use database::{Row, Tx, now, params};

use crate::error::Result;
use crate::model::member::Member;

const SELECT: &str = "SELECT image_id, member, status, created_at, updated_at FROM image_members";

fn from_row(row: &Row) -> Result<Member> {
    Ok(Member {
        image_id: row.get(0)?,
        member: row.get(1)?,
        status: row.get(2)?,
        created_at: row.get(3)?,
        updated_at: row.get(4)?,
    })
}

/// One member, if it is one.
pub fn find(tx: &mut Tx<'_>, image: &str, member: &str) -> Result<Option<Member>> {
    let sql = format!("{SELECT} WHERE image_id = ?1 AND member = ?2");
    tx.query_one(&sql, &params![image, member])?
        .as_ref()
        .map(from_row)
        .transpose()
}

/// All members of an image, the oldest first.
pub fn list(tx: &mut Tx<'_>, image: &str) -> Result<Vec<Member>> {
    let sql = format!("{SELECT} WHERE image_id = ?1 ORDER BY created_at, member");
    tx.query(&sql, &params![image])?.iter().map(from_row).collect()
}

/// Adds a member that has not said yet whether it wants the image.
pub fn insert(tx: &mut Tx<'_>, image: &str, member: &str) -> Result<Member> {
    let at = now();
    tx.execute(
        "INSERT INTO image_members (image_id, member, status, created_at, updated_at) VALUES (?1, ?2, 'pending', ?3, ?3)",
        &params![image, member, at],
    )?;
    Ok(Member {
        image_id: image.to_owned(),
        member: member.to_owned(),
        status: "pending".to_owned(),
        created_at: at,
        updated_at: at,
    })
}

/// Sets whether a member wants the image.
pub fn set_status(tx: &mut Tx<'_>, member: &mut Member, status: &str) -> Result<()> {
    member.updated_at = now();
    member.status = status.to_owned();
    tx.execute(
        "UPDATE image_members SET status = ?3, updated_at = ?4 WHERE image_id = ?1 AND member = ?2",
        &params![&member.image_id, &member.member, status, member.updated_at],
    )?;
    Ok(())
}

/// Takes a member away.
pub fn delete(tx: &mut Tx<'_>, image: &str, member: &str) -> Result<()> {
    tx.execute(
        "DELETE FROM image_members WHERE image_id = ?1 AND member = ?2",
        &params![image, member],
    )?;
    Ok(())
}
