//! The control socket in the file system: made with the right mode, and removed by whom it belongs to.
//!
//! Knows nothing of clients.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use crate::supervisor::directory;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 32;

/// A listening socket with a path of its own.
#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the path when it was made: what stands there later may be another superd's.
    inode: (u64, u64),
}

impl Listener {
    pub(super) fn bind(path: &Path, group: Option<u32>) -> io::Result<Self> {
        Self::try_bind(path, group).map_err(|error| {
            io::Error::new(error.kind(), format!("control socket {}: {error}", path.display()))
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next client, on a blocking socket.
    pub(super) fn accept(&self) -> io::Result<OwnedFd> {
        self.socket.accept().map(|(client, _)| client.into())
    }

    fn try_bind(path: &Path, group: Option<u32>) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            directory::make(parent)?;
        }
        let socket = listening_socket(path)?;
        let listener = Self { socket, path: path.to_owned(), inode: inode(&fs::symlink_metadata(path)?) };
        // The group before the mode: until then nobody but superd's own user gets in.
        if group.is_some() {
            lchown(path, None, group)?;
        }
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| inode(&found) == self.inode) {
            // Left behind it harms nobody: the next start finds that nobody listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listening_socket(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // unix(7): the path gets the mode of the socket, less the umask; so there is no moment at which it is open to all.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = UnixAddr::new(path)?;
    match bind(socket.as_raw_fd(), &address) {
        Err(Errno::EADDRINUSE) => {
            remove_stale(path)?;
            bind(socket.as_raw_fd(), &address)?;
        }
        result => result?,
    }
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

/// Removes a socket that nobody listens at. Two that start at once are kept apart by the pid file, not here.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of another kind"));
    }
    match connect(path) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        Err(Errno::ENOENT) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// Without waiting for room in the other's queue: EAGAIN says as well that somebody listens.
fn connect(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}

fn inode(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
