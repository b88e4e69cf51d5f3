//! Paths of unix sockets: which may be taken, and which are still a listener's own.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::model::endpoint::{Endpoint, UnixEndpoint, UnixName};
use crate::sys::naming::{Rights, set_right};

/// Device and inode of a path when its listener was bound: what stands there later may be another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathIdentity {
    device: u64,
    inode: u64,
}

impl PathIdentity {
    fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }
}

/// What stands at the path of an endpoint that was just bound; `None` where it has no path.
pub fn identify_path(endpoint: &Endpoint) -> Option<PathIdentity> {
    Some(PathIdentity::of(&fs::symlink_metadata(path_of(endpoint)?).ok()?))
}

/// Removes the path of a listener that closes for good, if it is still its own. Left behind it harms nobody:
/// the next bind finds that nobody is there.
pub fn remove_path(endpoint: &Endpoint, identity: PathIdentity) {
    if let Some(path) = path_of(endpoint)
        && identify_path(endpoint) == Some(identity)
    {
        let _ = fs::remove_file(path);
    }
}

/// Gives the path of a kept listener the owner, group and mode that its endpoint asks for now.
pub fn set_path_rights(endpoint: &Endpoint) -> io::Result<()> {
    let Endpoint::Unix(unix) = endpoint else { return Ok(()) };
    path_of(endpoint).map_or(Ok(()), |path| set_right(path, rights(unix)))
}

pub(super) fn rights(unix: &UnixEndpoint) -> Rights {
    Rights { owner: unix.owner, group: unix.group, mode: unix.mode }
}

fn path_of(endpoint: &Endpoint) -> Option<&Path> {
    match endpoint {
        Endpoint::Unix(UnixEndpoint { name: UnixName::Path(path), .. }) => Some(path),
        _ => None,
    }
}

/// Why a path can't be taken.
pub(super) struct NoRoom {
    pub(super) error: io::Error,
    pub(super) detail: Option<&'static str>,
}

impl From<io::Error> for NoRoom {
    fn from(error: io::Error) -> Self {
        Self { error, detail: None }
    }
}

/// Removes a socket that nobody has bound, and nothing else.
pub(super) fn make_room(path: &Path) -> Result<(), NoRoom> {
    let Some(found) = look(path)? else { return Ok(()) };
    if !found.file_type().is_socket() {
        let detail = Some("there is a file of another kind, which superd does not remove");
        return Err(NoRoom { error: io::Error::from_raw_os_error(libc::EEXIST), detail });
    }
    match probe(path) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        // Another kind of socket, one that is connected, one that may not be asked: somebody's.
        Ok(()) | Err(Errno::EPROTOTYPE | Errno::EPERM) => {
            return Err(io::Error::from_raw_os_error(libc::EADDRINUSE).into());
        }
        Err(error) => return Err(io::Error::from(error).into()),
    }
    // Another program may have found the same and been faster.
    match look(path)? {
        Some(again) if PathIdentity::of(&again) == PathIdentity::of(&found) => Ok(fs::remove_file(path)?),
        Some(_) => Err(io::Error::from_raw_os_error(libc::EADDRINUSE).into()),
        None => Ok(()),
    }
}

fn look(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asks with a datagram socket whatever may be there: the kernel compares the kinds once it has found a socket
/// (`EPROTOTYPE`), so that one that is bound and does not listen yet counts, and no queue gets a client.
fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
}
