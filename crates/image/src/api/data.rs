//! `/v2/images/{image_id}/file`: the data, in both directions piece by piece.

use std::io;
use std::path::Path;
use std::sync::Arc;

use api::{BodyStream, BoxFuture, Error, Method, Request, Response, Result, Routes, StatusCode, StreamRequest};
use bytes::Bytes;
use database::blocking;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::images::from_path;
use super::{media_type, no_content, rules};
use crate::data::Received;
use crate::model::Refusal;
use crate::model::image::{Image, NoTransition, Status};
use crate::store::images;
use crate::{Caller, Images};

pub(super) fn routes(routes: &mut Routes<Images>) {
    routes.stream(Method::PUT, "/v2/images/{image_id}/file", upload).stream(
        Method::GET,
        "/v2/images/{image_id}/file",
        download,
    );
}

/// Bytes read from the disk at once.
const PIECE: usize = 256 * 1024;

/// The name of the second hash, upstream's default.
const HASH: &str = "sha512";

pub(super) fn needs_octets(request: &Request) -> Result<()> {
    let media = media_type(request);
    if media == Some("application/octet-stream") {
        return Ok(());
    }
    Err(Refusal::Media(format!("Invalid content type {}", media.unwrap_or("None"))).into())
}

/// The size that the client announces; unknown is fine, nonsense is not.
pub(super) fn announced_size(request: &Request) -> Result<Option<u64>> {
    let header = request
        .header("x-openstack-image-size")
        .or(request.header("content-length"));
    match header.map(str::trim) {
        None | Some("0") => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(size) => Ok(Some(size)),
            Err(_) => Err(Error::bad_request("Invalid or missing image size in request headers.")),
        },
    }
}

fn upload(service: Arc<Images>, request: StreamRequest) -> BoxFuture<'static, Result<Response>> {
    Box::pin(async move {
        let head = request.head.clone();
        needs_octets(&head)?;
        let announced = announced_size(&head)?;
        let image = begin(&service, service.caller(&head), &head, announced.unwrap_or(0))?;
        match receive(&service, &image, announced, request.into_body()).await {
            Ok(()) => Ok(no_content()),
            Err(error) => {
                restore(&service, &image.id, Status::Saving);
                Err(error)
            }
        }
    })
}

/// Puts the image into the state `saving`, so that nobody else uploads.
fn begin(service: &Images, caller: Caller<'_>, request: &Request, announced: u64) -> Result<Image> {
    service.database.write(|tx| {
        rules::size_quota(service, tx, caller.viewer.project, announced)?;
        let mut image = from_path(tx, caller, request)?;
        rules::enforce(service, caller, &image, "upload_image")?;
        let before = image.status;
        image.go(Status::Saving).map_err(|reason| match reason {
            NoTransition::States(text) => Error::conflict(text),
            NoTransition::Formats(text) => Error::bad_request(text),
        })?;
        if images::update(tx, &mut image, before)? {
            Ok(image)
        } else {
            Err(Error::not_found(format!("No image found with ID {}", image.id)))
        }
    })
}

/// Lets the client try again.
pub(super) fn restore(service: &Images, id: &str, from: Status) {
    let restored = service.database.write(|tx| {
        if let Some(mut image) = images::find(tx, id)?.filter(|image| image.status == from) {
            image.size = None;
            image.virtual_size = None;
            image.status = Status::Queued;
            images::update(tx, &mut image, from)?;
        }
        Ok::<_, crate::Error>(())
    });
    if let Err(error) = restored {
        tracing::error!(image = id, %error, "an image could not be put back after a failed upload");
    }
}

/// Writes a body into a file, hashing and inspecting it on the way.
pub(super) async fn write_body(
    service: &Images,
    incoming: &mut crate::data::Incoming,
    announced: Option<u64>,
    body: &mut BodyStream,
) -> Result<()> {
    let limit = service.limits.image_size;
    let too_large = || Error::too_large("The incoming image is too large: The provided image is too large.");
    if announced.is_some_and(|size| size > limit) {
        return Err(too_large());
    }
    while let Some(piece) = body.next().await? {
        if incoming.size() + piece.len() as u64 > limit {
            return Err(too_large());
        }
        blocking(|| incoming.write(&piece)).map_err(crate::Error::Data)?;
    }
    Ok(())
}

async fn receive(service: &Images, image: &Image, announced: Option<u64>, mut body: BodyStream) -> Result<()> {
    let inspect = image.container_format.as_deref() == Some("bare");
    let mut incoming = service.folder.receive(&image.id, inspect).map_err(crate::Error::Data)?;
    write_body(service, &mut incoming, announced, &mut body).await?;
    let received = incoming.result();
    let virtual_size = inspected_size(image, &received)?;
    blocking(|| service.folder.keep(&image.id, incoming)).map_err(crate::Error::Data)?;
    let activated = activate(service, &image.id, Status::Saving, &received, virtual_size);
    if !matches!(activated, Ok(true))
        && let Err(error) = service.folder.remove(&image.id)
    {
        tracing::error!(image = image.id, %error, "data without an image could not be removed");
    }
    match activated {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::new(
            StatusCode::GONE,
            format!(
                "Image {} could not be found after upload. The image may have been deleted during the upload, cleaning up \
                 the chunks uploaded.",
                image.id
            ),
        )),
        Err(error) => Err(error.into()),
    }
}

/// The virtual size to record, if the bytes may be what the image says they are.
pub(crate) fn inspected_size(image: &Image, received: &Received) -> Result<Option<i64>> {
    let Some(inspection) = &received.inspection else {
        return Ok(None);
    };
    let format = image.disk_format.as_deref().unwrap_or_default();
    match inspection.declared_format_matches(format) {
        Ok(0) => Ok(None),
        Ok(size) => Ok(i64::try_from(size).ok()),
        Err(disk_image::inspect::InspectError::Unsafe { failures, .. }) => {
            // Kernels and ramdisks have no partition table and must not be refused for one that is odd.
            let part = matches!(format, "aki" | "ari");
            if failures.iter().all(|failure| part && failure.check == "mbr") {
                return Ok(None);
            }
            Err(Refusal::Media("Image failed safety checks".into()).into())
        }
        Err(error) => Err(Refusal::Media(error.to_string()).into()),
    }
}

/// Makes the image active with what was received; false where it is no longer in the state `from`.
pub(crate) fn activate(
    service: &Images,
    id: &str,
    from: Status,
    received: &Received,
    virtual_size: Option<i64>,
) -> crate::Result<bool> {
    service.database.write(|tx| {
        let Some(mut image) = images::find(tx, id)?.filter(|image| image.status == from) else {
            return Ok(false);
        };
        image.status = Status::Active;
        image.size = i64::try_from(received.size).ok();
        image.virtual_size = virtual_size;
        image.checksum = Some(received.md5.clone());
        image.os_hash_algo = Some(HASH.to_owned());
        image.os_hash_value = Some(received.sha512.clone());
        images::update(tx, &mut image, from)
    })
}

fn download(service: Arc<Images>, request: StreamRequest) -> BoxFuture<'static, Result<Response>> {
    Box::pin(async move {
        let head = request.head;
        let caller = service.caller(&head);
        let image = service.database.read(|tx| from_path(tx, caller, &head))?;
        if image.status == Status::Deactivated && !caller.viewer.admin {
            return Err(Error::forbidden(
                "The requested image has been deactivated. Image data download is forbidden.",
            ));
        }
        rules::enforce(&service, caller, &image, "download_image")?;
        if head
            .query
            .last("prefer")
            .is_some_and(|stores| !stores.replace([',', ' '], "").is_empty())
        {
            rules::enforce(&service, caller, &image, "download_from_store")?;
            return Err(Error::bad_request(
                "Store selection for download is not available when multiple backends are not enabled.",
            ));
        }
        let has_data = matches!(image.status, Status::Active | Status::Deactivated);
        let Some(path) = service.folder.data(&image.id).filter(|_| has_data) else {
            return Ok(no_content());
        };
        let size = image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let range = range(&head, size)?;
        let (from, length) = range.unwrap_or((0, size));
        let mut response = send(&path, from, length).await.map_err(crate::Error::Data)?;
        if let Some(checksum) = &image.checksum {
            response = response.header("content-md5", checksum);
        }
        if range.is_some() {
            response.status = StatusCode::PARTIAL_CONTENT;
            response = response.header(
                "content-range",
                format!("bytes {from}-{}/{size}", (from + length).max(1) - 1),
            );
        }
        Ok(response.header("content-length", length.to_string()))
    })
}

fn not_satisfiable(text: impl Into<String>) -> Error {
    Error::new(StatusCode::RANGE_NOT_SATISFIABLE, text).kind(api::webob::DETAIL)
}

/// Offset and length that the client asks for.
fn range(request: &Request, size: u64) -> Result<Option<(u64, u64)>> {
    let Some(text) = request.header("range") else {
        return content_range(request, size);
    };
    if text.contains(',') {
        let text = "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests \
                    instead.";
        return Err(Error::bad_request(text).kind(api::webob::DETAIL));
    }
    let invalid = || not_satisfiable("Invalid Range header.");
    let spec = text.trim().strip_prefix("bytes=").ok_or_else(invalid)?;
    let (first, last) = spec.split_once('-').ok_or_else(invalid)?;
    if first.is_empty() {
        let length: u64 = last.trim().parse().map_err(|_| invalid())?;
        let length = length.min(size);
        return Ok(Some((size - length, length)));
    }
    let first: u64 = first.trim().parse().map_err(|_| invalid())?;
    if first >= size {
        return Err(not_satisfiable(format!(
            "Invalid start position in Range header. Start position MUST be in the inclusive range [0, {}].",
            size as i128 - 1
        )));
    }
    let end = match last.trim() {
        "" => size,
        last => last.parse::<u64>().map_err(|_| invalid())?.saturating_add(1).min(size),
    };
    if end <= first {
        return Err(invalid());
    }
    Ok(Some((first, end - first)))
}

/// `Content-Range` in a request, which older clients sent.
fn content_range(request: &Request, size: u64) -> Result<Option<(u64, u64)>> {
    let Some(text) = request.header("content-range") else {
        return Ok(None);
    };
    let invalid = || not_satisfiable("Invalid Content-Range header.");
    let spec = text.trim().strip_prefix("bytes").ok_or_else(invalid)?.trim_start();
    let (positions, length) = spec.split_once('/').ok_or_else(invalid)?;
    let (first, last) = positions.split_once('-').ok_or_else(invalid)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| invalid());
    let (first, stop) = (number(first)?, number(last)?.saturating_add(1));
    if length.trim() == "*" && stop > size {
        return Err(not_satisfiable(format!(
            "Invalid stop position in Content-Range header. The stop position MUST be in the inclusive range [0, {}].",
            size as i128 - 1
        )));
    }
    if first >= size {
        return Err(not_satisfiable(format!(
            "Invalid start position in Content-Range header. Start position MUST be in the inclusive range [0, {}].",
            size as i128 - 1
        )));
    }
    let stop = stop.min(size);
    if stop <= first {
        Err(invalid())
    } else {
        Ok(Some((first, stop - first)))
    }
}

/// An answer with a part of a file.
async fn send(path: &Path, from: u64, length: u64) -> io::Result<Response> {
    let mut file = tokio::fs::File::open(path).await?;
    if from > 0 {
        file.seek(SeekFrom::Start(from)).await?;
    }
    let pieces = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the data of an image is shorter than its record says",
            ));
        }
        piece.truncate(read);
        Ok(Some((Frame::data(Bytes::from(piece)), (file, left - read as u64))))
    });
    Ok(Response::stream(
        StatusCode::OK,
        "application/octet-stream",
        StreamBody::new(pieces).boxed_unsync(),
    ))
}
