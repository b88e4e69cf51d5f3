//! The pid file: who runs, and, by its lock, that nobody else does.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::sys::process::own_pid;

use super::directory;

/// A pid file that is ours. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    lock: Flock<File>,
}

impl PidFile {
    /// Locks the file and writes this process's id. The error, for the admin, says who has it.
    pub(super) fn acquire(path: &Path) -> Result<Self, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            format!("pid file {}: {what}: {error}", path.display())
        };
        if let Some(parent) = path.parent() {
            directory::make(parent).map_err(|error| failed("its directory", &error))?;
        }
        // A second superd may remove the file between its opening and its locking: then this one is not it.
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)
                .map_err(|error| failed("open", &error))?;
            let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, Errno::EWOULDBLOCK)) => return Err(held_by(path, &mut file)),
                Err((_, error)) => return Err(failed("lock", &error)),
            };
            if is_same_file(path, &lock) {
                let mut pid_file = Self { path: path.to_owned(), lock };
                pid_file.write().map_err(|error| failed("write", &error))?;
                return Ok(pid_file);
            }
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        writeln!(&*self.lock, "{}", own_pid())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_same_file(&self.path, &self.lock) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn held_by(path: &Path, file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let holder = match text.trim().parse::<u32>() {
        Ok(pid) => format!("pid {pid}"),
        Err(_) => "another process".to_owned(),
    };
    format!("superd is running already: {} is locked by {holder}", path.display())
}

fn is_same_file(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/superd.pid");
        let first = PidFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own_pid()));
        let error = PidFile::acquire(&path).unwrap_err();
        assert!(error.contains(&format!("locked by pid {}", own_pid())), "{error}");
        drop(first);
        assert!(!path.exists());
        PidFile::acquire(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_not_locked_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("superd.pid");
        fs::write(&path, "99999999999\nold\n").unwrap();
        let _taken = PidFile::acquire(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", own_pid()));
    }
}
