//! inotify(7): what happens to the files of directories. Watches belong to the descriptor, which may be handed to
//! another process.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `struct inotify_event` without its name: watch, mask, cookie, length of the name.
const HEADER: usize = 16;

/// What is read at once; at least one event fits (inotify(7): the header, `NAME_MAX` and a zero).
const BUFFER: usize = 8192;

/// Reads of one call: a storm goes on in the next turn of the loop.
const READS: usize = 64;

/// Watches of directories.
#[derive(Debug)]
pub struct Inotify(OwnedFd);

/// What happened in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The directory, by the number that [`Inotify::watch`] gave; -1 if it is not told.
    pub watch: i32,
    /// The file; empty if it is the directory itself.
    pub name: OsString,
    /// What.
    pub kind: Kind,
}

/// See [`News`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The file was written and closed, moved to here, or taken away.
    Changed,
    /// It was made: a link is whole, a file may be written to still.
    Made,
    /// The directory is gone, and its watch with it.
    DirectoryGone,
    /// There was more than the kernel keeps: anything may have happened.
    Lost,
}

impl Inotify {
    /// No watches.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes numbers alone.
        let fd = unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a directory; the same number for the same one.
    pub fn watch(&self, directory: &Path) -> io::Result<i32> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_MOVED_TO
            | libc::IN_MOVED_FROM
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_DELETE_SELF
            | libc::IN_MOVE_SELF
            | libc::IN_ONLYDIR;
        // SAFETY: `path` ends with a zero and outlives the call.
        let watch = unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), mask) };
        if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(watch) }
    }

    /// What has happened, as far as one turn may take it.
    pub fn drain(&self) -> Vec<News> {
        let mut news = Vec::new();
        let mut buffer = [0; BUFFER];
        for _ in 0..READS {
            match nix::unistd::read(&self.0, &mut buffer) {
                Ok(length) if length > 0 => read_all(buffer.get(..length).unwrap_or_default(), &mut news),
                _ => break,
            }
        }
        news
    }
}

impl From<OwnedFd> for Inotify {
    /// One that another process made.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn read_all(mut bytes: &[u8], news: &mut Vec<News>) {
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let word = |at: usize| {
            header.get(at..).and_then(|word| word.first_chunk()).map_or(0, |w| u32::from_ne_bytes(*w))
        };
        let length = usize::try_from(word(12)).unwrap_or(usize::MAX);
        let Some((name, after)) = rest.split_at_checked(length) else { return };
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(kind) = kind(word(4)) {
            news.push(News { watch: word(0).cast_signed(), name: OsStr::from_bytes(name).to_owned(), kind });
        }
        bytes = after;
    }
}

fn kind(mask: u32) -> Option<Kind> {
    if mask & libc::IN_Q_OVERFLOW != 0 {
        return Some(Kind::Lost);
    }
    // IN_IGNORED follows a directory that is gone; an unmounted file system says it alone.
    if mask & (libc::IN_IGNORED | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF) != 0 {
        return Some(Kind::DirectoryGone);
    }
    if mask & libc::IN_CREATE != 0 {
        return Some(Kind::Made);
    }
    let changed = libc::IN_CLOSE_WRITE | libc::IN_MOVED_TO | libc::IN_MOVED_FROM | libc::IN_DELETE;
    (mask & changed != 0).then_some(Kind::Changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_happens_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (list, other) = (folder.path().join("list"), folder.path().join("other"));
        let inotify = Inotify::new().unwrap();
        let watch = inotify.watch(folder.path()).unwrap();
        assert_eq!(inotify.watch(folder.path()).unwrap(), watch);
        assert_eq!(inotify.drain(), []);
        let news = |name: &str, kind| News { watch, name: name.into(), kind };
        fs::write(&list, "x").unwrap();
        assert_eq!(inotify.drain(), [news("list", Kind::Made), news("list", Kind::Changed)]);
        fs::rename(&list, &other).unwrap();
        assert_eq!(inotify.drain(), [news("list", Kind::Changed), news("other", Kind::Changed)]);
        fs::hard_link(&other, &list).unwrap();
        assert_eq!(inotify.drain(), [news("list", Kind::Made)]);
        drop(folder);
        assert!(inotify.drain().contains(&news("", Kind::DirectoryGone)));
        assert!(inotify.watch(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn any_bytes_will_do() {
        let mut event = [0; HEADER + 16];
        event[4] = 8;
        event[12] = 16;
        event[16] = b'a';
        for cut in 0..event.len() {
            let mut news = Vec::new();
            read_all(&event[..cut], &mut news);
            assert_eq!(news, [], "{cut}");
        }
        let mut news = Vec::new();
        read_all(&event, &mut news);
        assert_eq!(news, [News { watch: 0, name: "a".into(), kind: Kind::Changed }]);
    }
}
