//! Passwords that the program makes for itself, each in a file that its owner alone can read.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The password `name` of this cloud: as the file has it, or a new one.
///
/// # Errors
/// When the folder or file cannot be read or written.
pub fn password(state_dir: &Path, name: &str) -> io::Result<String> {
    let folder = state_dir.join("secrets");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(name);
    if let Ok(there) = std::fs::read_to_string(&path)
        && !there.trim().is_empty()
    {
        return Ok(there.trim().to_string());
    }
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let made = hex::encode(bytes);
    // Written beside and renamed, so that a kill leaves the whole password or none.
    let beside = folder.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(made.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_stays_and_is_its_owner_s_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = password(folder.path(), "admin").unwrap();
        assert_eq!(first.len(), 32);
        assert_eq!(password(folder.path(), "admin").unwrap(), first);
        assert_ne!(password(folder.path(), "demo").unwrap(), first);
        let mode = std::fs::metadata(folder.path().join("secrets/admin")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
