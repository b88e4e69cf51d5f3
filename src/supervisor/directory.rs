//! The directory of the control socket and the pid file: made where it is missing, refused where somebody else
//! could put files of their own in the place of superd's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// Sticky: who may write to it may not remove what belongs to others.
const STICKY: u32 = 0o1000;

/// Like `mkdir -p -m 755`, whatever the umask is. What exists is left as it is, if it can be trusted: in /tmp
/// anybody may have made it before us.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() {
        return Ok(());
    }
    make_missing(directory)?;
    let found = fs::metadata(directory)?;
    let own = nix::unistd::geteuid().as_raw();
    match distrust(found.uid(), found.mode(), own) {
        None => Ok(()),
        Some(why) => Err(io::Error::other(format!("{} can't be trusted: {why}", directory.display()))),
    }
}

fn make_missing(directory: &Path) -> io::Result<()> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_missing(parent)?;
    }
    match DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why a superd that runs as `own` must not put its files there.
fn distrust(owner: u32, mode: u32, own: u32) -> Option<String> {
    if owner != 0 && owner != own {
        return Some(format!("it belongs to uid {owner}"));
    }
    (mode & 0o002 != 0 && mode & STICKY == 0).then(|| "everybody can write it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
        make(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        assert!(make(&path).unwrap_err().to_string().contains("everybody can write it"));
        fs::write(path.join("file"), "").unwrap();
        assert!(make(&path.join("file/c")).is_err());
    }

    #[test]
    fn directories_of_others_are_refused() {
        for (owner, mode, trusted) in [
            (0, 0o40_755, true),
            (7, 0o40_700, true),
            (7, 0o40_775, true),
            (8, 0o40_755, false),
            (8, 0o41_777, false),
            (0, 0o41_777, true),
            (7, 0o40_777, false),
        ] {
            assert_eq!(distrust(owner, mode, 7).is_none(), trusted, "{owner} {mode:o}");
        }
    }
}
