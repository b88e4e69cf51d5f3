//! Reads the configuration's files. Knows nothing of what they say.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::config::files::{FileProblem, FileText, Files};

/// No configuration is larger; a mistaken include of a log file ends here.
const MAX_BYTES: u64 = 64 << 20;

/// The file system.
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<FileText, FileProblem> {
        // O_NONBLOCK: opening a FIFO would wait for its writer. What was opened is looked at, not the path
        // before: between the two somebody could put another file there.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| problem(&error))?;
        let about = file.metadata().map_err(|error| problem(&error))?;
        if !about.is_file() {
            return Err(FileProblem::NotRegular);
        }
        let bytes = whole(&file)?;
        Ok(FileText { bytes, uid: about.uid(), mode: about.mode() & 0o7777, id: (about.dev(), about.ino()) })
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>, FileProblem> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = std::fs::read_dir(folder).map_err(|error| problem(&error))?;
        entries
            .map(|entry| {
                Ok(entry.map_err(|error| problem(&error))?.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }
}

fn whole(file: &File) -> Result<Vec<u8>, FileProblem> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| problem(&error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileProblem::TooLarge(MAX_BYTES));
    }
    Ok(bytes)
}

fn problem(error: &std::io::Error) -> FileProblem {
    match error.kind() {
        ErrorKind::NotFound => FileProblem::Missing,
        // ENXIO: a socket, or a FIFO that would have to be written to.
        _ if error.raw_os_error() == Some(libc::ENXIO) => FileProblem::NotRegular,
        _ => FileProblem::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_does_not_hang() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Disk.read(&fifo), Err(FileProblem::NotRegular));
        assert_eq!(Disk.read(folder.path()), Err(FileProblem::NotRegular));
        assert_eq!(Disk.read(&folder.path().join("none")), Err(FileProblem::Missing));
        assert_eq!(Disk.read(Path::new("/dev/null")), Err(FileProblem::NotRegular));
        assert_eq!(Disk.list(folder.path()).unwrap(), ["fifo"]);
    }
}
