//! Images with their properties and tags.

use std::collections::HashMap;

use database::{Row, Select, Tx, Value, now, params};

use crate::error::{Error, Result};
use crate::model::Refusal;
use crate::model::image::{Image, Status};
use crate::model::listing::{Filter, Listing};

const COLUMNS: &str = "i.id, i.name, i.status, i.visibility, i.owner, i.disk_format, i.container_format, i.size, \
     i.virtual_size, i.min_disk, i.min_ram, i.protected, i.os_hidden, i.checksum, i.os_hash_algo, i.os_hash_value, \
     i.created_at, i.updated_at";

fn from_row(row: &Row) -> Result<Image> {
    let status: String = row.get(2)?;
    Ok(Image {
        id: row.get(0)?,
        name: row.get(1)?,
        status: Status::named(&status).unwrap_or(Status::Deleted),
        visibility: row.get(3)?,
        owner: row.get(4)?,
        disk_format: row.get(5)?,
        container_format: row.get(6)?,
        size: row.get(7)?,
        virtual_size: row.get(8)?,
        min_disk: row.get(9)?,
        min_ram: row.get(10)?,
        protected: row.get(11)?,
        os_hidden: row.get(12)?,
        checksum: row.get(13)?,
        os_hash_algo: row.get(14)?,
        os_hash_value: row.get(15)?,
        created_at: row.get(16)?,
        updated_at: row.get(17)?,
        properties: Default::default(),
        tags: Vec::new(),
    })
}

/// Whose eyes an image is looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer<'a> {
    /// The caller's project.
    pub project: Option<&'a str>,
    /// An administrator sees everything.
    pub admin: bool,
}

/// The image, whoever asks.
pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Image>> {
    let row = tx.query_one(&format!("SELECT {COLUMNS} FROM images i WHERE i.id = ?1"), &params![id])?;
    let Some(row) = row else { return Ok(None) };
    let mut images = vec![from_row(&row)?];
    complete(tx, &mut images)?;
    Ok(images.pop())
}

/// The image, where this viewer may see it.
///
/// # Errors
/// [`Error::NotFound`].
pub fn get(tx: &mut Tx<'_>, viewer: Viewer<'_>, id: &str) -> Result<Image> {
    match find(tx, id)? {
        Some(image) if is_visible(tx, viewer, &image)? => Ok(image),
        _ => Err(Error::NotFound(id.to_owned())),
    }
}

/// Public and community images are everybody's to see, others their owner's and members'.
pub fn is_visible(tx: &mut Tx<'_>, viewer: Viewer<'_>, image: &Image) -> Result<bool> {
    if viewer.admin || image.owner.is_none() || matches!(image.visibility.as_str(), "public" | "community") {
        return Ok(true);
    }
    let Some(project) = viewer.project else {
        return Ok(false);
    };
    if image.owner.as_deref() == Some(project) {
        return Ok(true);
    }
    Ok(image.visibility == "shared" && super::members::find(tx, &image.id, project)?.is_some())
}

/// Fills in properties and tags.
fn complete(tx: &mut Tx<'_>, images: &mut [Image]) -> Result<()> {
    let at: HashMap<String, usize> = images
        .iter()
        .enumerate()
        .map(|(at, image)| (image.id.clone(), at))
        .collect();
    let ids: Vec<Value> = images.iter().map(|image| Value::from(&image.id)).collect();
    for chunk in ids.chunks(500) {
        let mut select = Select::new("image_id, name, value", "image_properties");
        select.filter_in("image_id", chunk);
        for row in select.rows(tx)? {
            if let Some(&at) = at.get(&row.get::<String>(0)?) {
                images[at].properties.insert(row.get(1)?, row.get(2)?);
            }
        }
        let mut select = Select::new("image_id, value", "image_tags");
        select
            .filter_in("image_id", chunk)
            .order("value", database::Direction::Ascending);
        for row in select.rows(tx)? {
            if let Some(&at) = at.get(&row.get::<String>(0)?) {
                images[at].tags.push(row.get(1)?);
            }
        }
    }
    Ok(())
}

/// One page of what the viewer's lists show.
///
/// # Errors
/// [`Error::NotFound`] for the marker.
pub fn list(tx: &mut Tx<'_>, viewer: Viewer<'_>, listing: &Listing) -> Result<Vec<Image>> {
    let mut select = Select::new(COLUMNS, "images i");
    if !viewer.admin {
        let mut visible = "i.visibility IN ('public', 'community')".to_owned();
        let mut values: Vec<Value> = Vec::new();
        if let Some(project) = viewer.project {
            visible.push_str(" OR i.owner = ?");
            values.push(project.into());
            visible.push_str(
                " OR (i.visibility = 'shared' AND EXISTS (SELECT 1 FROM image_members m WHERE m.image_id = i.id AND m.member = ?",
            );
            values.push(project.into());
            if listing.member_status != "all" {
                visible.push_str(" AND m.status = ?");
                values.push(listing.member_status.as_str().into());
            }
            visible.push_str("))");
        }
        select.filter(&format!("({visible})"), &values);
    }
    match (listing.visibility.as_deref(), viewer.project) {
        (Some("all"), _) => {}
        (Some(visibility), _) => {
            select.filter("i.visibility = ?", &params![visibility]);
        }
        (None, Some(project)) => {
            select.filter("(i.visibility <> 'community' OR i.owner = ?)", &params![project]);
        }
        (None, None) => {
            select.filter("i.visibility <> 'community'", &[]);
        }
    }
    for filter in &listing.filters {
        apply(&mut select, filter);
    }
    for (key, direction) in &listing.sort {
        select.order(&format!("i.{key}"), *direction);
    }
    if let Some(marker) = &listing.marker {
        let image = get(tx, viewer, marker)?;
        let values: Vec<Value> = listing.sort.iter().map(|(key, _)| sort_value(&image, key)).collect();
        select.after(&values);
    }
    select.limit(listing.limit);
    let mut images = select.rows(tx)?.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    complete(tx, &mut images)?;
    Ok(images)
}

fn apply(select: &mut Select, filter: &Filter) {
    match filter {
        Filter::TextIn(column, values) => {
            let values: Vec<Value> = values.iter().map(Value::from).collect();
            select.filter_in(&format!("i.{column}"), &values);
        }
        Filter::Number(column, operator, number) => {
            select.filter(&format!("i.{column} {operator} ?"), &params![*number]);
        }
        Filter::Tag(tag) => {
            select.filter(
                "EXISTS (SELECT 1 FROM image_tags t WHERE t.image_id = i.id AND t.value = ?)",
                &params![tag],
            );
        }
        Filter::Property(name, value) => {
            select.filter(
                "EXISTS (SELECT 1 FROM image_properties p WHERE p.image_id = i.id AND p.name = ? AND p.value = ?)",
                &params![name, value],
            );
        }
        Filter::Nothing => {
            select.filter("1 = 0", &[]);
        }
    }
}

fn sort_value(image: &Image, key: &str) -> Value {
    match key {
        "name" => Value::from(&image.name),
        "status" => image.status.as_str().into(),
        "container_format" => Value::from(&image.container_format),
        "disk_format" => Value::from(&image.disk_format),
        "size" => image.size.into(),
        "created_at" => image.created_at.into(),
        "updated_at" => image.updated_at.into(),
        _ => Value::from(&image.id),
    }
}

/// Adds an image. An id that was ever in use cannot be had again: nodes keep data by id.
///
/// # Errors
/// 409 for a used id.
pub fn insert(tx: &mut Tx<'_>, image: &Image) -> Result<()> {
    let used = tx.query_one(
        "SELECT 1 FROM images WHERE id = ?1 UNION ALL SELECT 1 FROM deleted_images WHERE id = ?1",
        &params![&image.id],
    )?;
    if used.is_some() {
        return Err(Refusal::Conflict(format!("Image ID {} already exists!", image.id)).into());
    }
    tx.execute(
        "INSERT INTO images (id, name, status, visibility, owner, disk_format, container_format, size, virtual_size, \
         min_disk, min_ram, protected, os_hidden, checksum, os_hash_algo, os_hash_value, created_at, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        &values(image),
    )?;
    write_properties(tx, image)?;
    write_tags(tx, image)
}

fn values(image: &Image) -> [Value; 18] {
    params![
        &image.id,
        &image.name,
        image.status.as_str(),
        &image.visibility,
        &image.owner,
        &image.disk_format,
        &image.container_format,
        image.size,
        image.virtual_size,
        image.min_disk,
        image.min_ram,
        image.protected,
        image.os_hidden,
        &image.checksum,
        &image.os_hash_algo,
        &image.os_hash_value,
        image.created_at,
        image.updated_at
    ]
}

/// Writes an image back, stamped with the present time, if it is still in the state `from`; returns whether it was.
pub fn update(tx: &mut Tx<'_>, image: &mut Image, from: Status) -> Result<bool> {
    image.updated_at = now();
    let mut values = values(image).to_vec();
    values.push(from.as_str().into());
    let touched = tx.execute(
        "UPDATE images SET name = ?2, status = ?3, visibility = ?4, owner = ?5, disk_format = ?6, container_format = ?7, \
         size = ?8, virtual_size = ?9, min_disk = ?10, min_ram = ?11, protected = ?12, os_hidden = ?13, checksum = ?14, \
         os_hash_algo = ?15, os_hash_value = ?16, created_at = ?17, updated_at = ?18 WHERE id = ?1 AND status = ?19",
        &values,
    )?;
    if touched == 0 {
        return Ok(false);
    }
    tx.execute("DELETE FROM image_properties WHERE image_id = ?1", &params![&image.id])?;
    tx.execute("DELETE FROM image_tags WHERE image_id = ?1", &params![&image.id])?;
    write_properties(tx, image)?;
    write_tags(tx, image)?;
    Ok(true)
}

fn write_properties(tx: &mut Tx<'_>, image: &Image) -> Result<()> {
    for (name, value) in &image.properties {
        tx.execute(
            "INSERT INTO image_properties (image_id, name, value) VALUES (?1, ?2, ?3)",
            &params![&image.id, name, value],
        )?;
    }
    Ok(())
}

fn write_tags(tx: &mut Tx<'_>, image: &Image) -> Result<()> {
    for tag in &image.tags {
        tx.execute(
            "INSERT INTO image_tags (image_id, value) VALUES (?1, ?2)",
            &params![&image.id, tag],
        )?;
    }
    Ok(())
}

/// Forgets an image, all but its id.
pub fn delete(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    for table in ["image_properties", "image_tags", "image_members"] {
        tx.execute(&format!("DELETE FROM {table} WHERE image_id = ?1"), &params![id])?;
    }
    tx.execute("DELETE FROM images WHERE id = ?1", &params![id])?;
    tx.execute(
        "INSERT INTO deleted_images (id, deleted_at) VALUES (?1, ?2)",
        &params![id, now()],
    )?;
    Ok(())
}

/// How many images a project has, and how many bytes of data.
pub fn usage(tx: &mut Tx<'_>, project: &str) -> Result<(u64, u64)> {
    let row = tx.query_one(
        "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM images WHERE owner = ?1",
        &params![project],
    )?;
    match row {
        Some(row) => Ok((row.get(0)?, row.get(1)?)),
        None => Ok((0, 0)),
    }
}

/// Bytes that a project has staged.
pub fn staged(tx: &mut Tx<'_>, project: &str) -> Result<u64> {
    let sum: Option<u64> = tx.scalar(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM images WHERE owner = ?1 AND status IN ('uploading', 'importing')",
        &params![project],
    )?;
    Ok(sum.unwrap_or(0))
}

/// How many uploads of a project are under way.
pub fn uploading(tx: &mut Tx<'_>, project: &str) -> Result<u64> {
    let count: Option<u64> = tx.scalar(
        "SELECT COUNT(*) FROM images WHERE owner = ?1 AND status IN ('saving', 'uploading', 'importing')",
        &params![project],
    )?;
    Ok(count.unwrap_or(0))
}

/// Ids of all images in a state.
pub fn in_state(tx: &mut Tx<'_>, status: Status) -> Result<Vec<String>> {
    Ok(tx.column(
        "SELECT id FROM images WHERE status = ?1 ORDER BY id",
        &params![status.as_str()],
    )?)
}
