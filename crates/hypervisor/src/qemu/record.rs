//! What is kept of a guest on disk: `guest.json` in its folder, which only the daemon writes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::GuestSpec;

const FILE: &str = "guest.json";

/// What a guest was last started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it is made of.
    pub spec: GuestSpec,
    /// Its user, if it has one of its own.
    pub uid: Option<u32>,
    /// Its VNC port; kept, so that it is the same after a restart.
    pub vnc_port: Option<u16>,
    /// When it was started, seconds of the epoch.
    pub started_at: Option<i64>,
}

/// Reads the record; none where there is none or it cannot be understood (then it is written anew at the next start).
pub fn read(folder: &Path) -> Option<Record> {
    let text = fs::read(folder.join(FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Writes the record; after a power cut the old or the new one is there, never a half.
pub fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
    let new = folder.join("guest.json.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(new, folder.join(FILE))
}
