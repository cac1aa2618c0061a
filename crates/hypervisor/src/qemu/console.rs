//! The serial log, kept small.
//!
//! QEMU appends to `run/console.log` by itself, so what a guest says is kept while no daemon runs. The daemon bounds it: when the file has
//! grown past its limit, its end goes to `console.log.1` and QEMU's file is cut to nothing; QEMU opened it for appending, so it goes
//! on at the new end. At most twice the limit is kept (and what a guest says within one round of [`trim`]). QEMU has no bound of its own,
//! and a logger process per guest would cost more memory than all logs.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// When a log is cut, unless told otherwise. Nova shows the last 100 KiB of a log.
pub const LIMIT: u64 = 512 * 1024;

const OLDER: &str = "console.log.1";

fn open(path: &Path, write: bool) -> io::Result<File> {
    // The folder is QEMU's: a link in it is not to be followed.
    fs::OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Cuts a log that has grown too long.
pub fn trim(folder: &Path, log: &str, limit: u64) -> io::Result<()> {
    let path = folder.join(log);
    match fs::symlink_metadata(&path) {
        Ok(data) if data.is_file() && data.len() > limit => {}
        _ => return Ok(()),
    }
    let mut file = open(&path, true)?;
    let kept = read_end(&mut file, limit)?;
    let new = folder.join("console.log.new");
    fs::write(&new, kept)?;
    fs::rename(new, folder.join(OLDER))?;
    file.set_len(0)
}

/// Empties a log of which only the first words matter when it has grown too long.
pub fn empty(folder: &Path, log: &str) -> io::Result<()> {
    let path = folder.join(log);
    match fs::symlink_metadata(&path) {
        Ok(data) if data.is_file() && data.len() > LIMIT => open(&path, true)?.set_len(0),
        _ => Ok(()),
    }
}

fn read_end(file: &mut File, limit: u64) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is kept of a log.
pub fn read(folder: &Path, log: &str, limit: u64) -> io::Result<String> {
    let mut bytes = match File::open(folder.join(OLDER)) {
        Ok(mut older) => read_end(&mut older, limit)?,
        Err(_) => Vec::new(),
    };
    match open(&folder.join(log), false) {
        Ok(mut newer) => bytes.extend(read_end(&mut newer, limit)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Forgets a log, before a guest is started anew.
pub fn forget(folder: &Path, log: &str) {
    for file in [folder.join(log), folder.join(OLDER)] {
        // What is not there need not go.
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_that_never_ends_stays_small_and_keeps_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let mut qemu = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for n in 0..60_000 {
            writeln!(qemu, "line {n:06} of a chatty guest").unwrap();
            if n % 1000 == 0 {
                trim(folder.path(), "console.log", LIMIT).unwrap();
            }
        }
        let kept = read(folder.path(), "console.log", LIMIT).unwrap();
        assert!(kept.ends_with("line 059999 of a chatty guest\n"));
        assert!(kept.len() as u64 <= 2 * LIMIT);
        let lines: Vec<&str> = kept.lines().skip(1).collect();
        assert!(
            lines.windows(2).all(|pair| pair[0] < pair[1]),
            "nothing is lost in between"
        );
        assert!(fs::metadata(path).unwrap().len() <= LIMIT + 64 * 1024);
    }
}
