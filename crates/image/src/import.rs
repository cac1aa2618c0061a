//! Imports: what was staged becomes an image's data.
//!
//! The work is a row in the table of tasks and a file in the folder, and every step of it can be done again: a controller that starts finishes what an
//! earlier one left.

use std::io::{self, Read};
use std::sync::Arc;

use api::{Error, Result};
use database::blocking;
use serde_json::json;

use crate::Images;
use crate::api::data::{activate, inspected_size};
use crate::model::image::Status;
use crate::store::images;
use crate::store::tasks::{self, Task};

/// The property that says which task works on an image.
pub(crate) const LOCK: &str = "os_glance_import_task";

/// Bytes read from the disk at once.
const PIECE: usize = 256 * 1024;

/// Goes on with every import that has not ended. Outside of a tokio runtime nothing happens.
pub(crate) fn resume(service: &Arc<Images>) -> crate::Result<()> {
    for task in service.database.read(tasks::unfinished)? {
        start(service, task);
    }
    Ok(())
}

/// Runs a task beside the requests.
pub(crate) fn start(service: &Arc<Images>, task: Task) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let service = service.clone();
    runtime.spawn_blocking(move || run(&service, &task));
}

fn run(service: &Images, task: &Task) {
    let image = task.image_id.as_deref().unwrap_or_default();
    let ended = match import(service, image) {
        Ok(()) => service.database.write(|tx| {
            unlock(tx, image, Status::Active)?;
            tasks::finish(tx, &task.id, "success", &json!({"image_id": image}), "")
        }),
        Err(error) => {
            tracing::warn!(image, task = task.id, error = error.message, "an import failed");
            service.database.write(|tx| {
                for status in [Status::Importing, Status::Uploading] {
                    restore(tx, image, status)?;
                }
                tasks::finish(tx, &task.id, "failure", &serde_json::Value::Null, &error.message)
            })
        }
    };
    let unstaged = service.folder.unstage(image).map_err(crate::Error::Data);
    if let Err(error) = ended.and(unstaged) {
        tracing::error!(image, task = task.id, %error, "the end of an import could not be recorded");
    }
}

fn unlock(tx: &mut database::Tx<'_>, id: &str, from: Status) -> crate::Result<()> {
    if let Some(mut image) = images::find(tx, id)?.filter(|image| image.status == from)
        && image.properties.remove(LOCK).is_some()
    {
        images::update(tx, &mut image, from)?;
    }
    Ok(())
}

/// The image goes back to where its data can be sent again.
fn restore(tx: &mut database::Tx<'_>, id: &str, from: Status) -> crate::Result<()> {
    if let Some(mut image) = images::find(tx, id)?.filter(|image| image.status == from) {
        image.status = Status::Queued;
        image.size = None;
        image.virtual_size = None;
        image.properties.remove(LOCK);
        images::update(tx, &mut image, from)?;
    }
    Ok(())
}

fn import(service: &Images, id: &str) -> Result<()> {
    let gone = || Error::not_found(format!("No image found with ID {id}"));
    let image = service.database.write(|tx| {
        let mut image = images::find(tx, id)?.ok_or_else(gone)?;
        let before = image.status;
        if before == Status::Uploading {
            image.go(Status::Importing).map_err(crate::model::Refusal::from)?;
            images::update(tx, &mut image, before)?;
        }
        Ok::<_, Error>(image)
    })?;
    if image.status == Status::Active {
        return Ok(());
    }
    let staged = service
        .folder
        .staged(id)
        .ok_or_else(|| Error::not_found("The staged data of the image is gone."))?;
    let inspect = image.container_format.as_deref() == Some("bare");
    let mut incoming = service.folder.receive(id, inspect).map_err(crate::Error::Data)?;
    let copied = (|| {
        let mut file = std::fs::File::open(staged)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok::<_, io::Error>(()),
                read => incoming.write(&piece[..read])?,
            }
        }
    })();
    copied.map_err(crate::Error::Data)?;
    let received = incoming.result();
    let virtual_size = inspected_size(&image, &received)?;
    blocking(|| service.folder.keep(id, incoming)).map_err(crate::Error::Data)?;
    if activate(service, id, Status::Importing, &received, virtual_size)? {
        return Ok(());
    }
    service.folder.remove(id).map_err(crate::Error::Data)?;
    Err(gone())
}
