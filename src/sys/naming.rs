//! A path for a unix socket, with its owner, group and mode from the moment that it exists.
//!
//! unix(7): bind(2) makes the path as the process's file system user and group, with the mode of the socket
//! less the umask. So these are what is set for the time of the bind; nothing is changed afterwards, but where
//! superd may not, or the directory has its own will (set-group-ID, a default ACL).

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use nix::sys::socket::{UnixAddr, bind};
use nix::sys::stat::{Mode, fchmod, umask};

/// Whose a path is, and who may connect; `None`: the process's own.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    /// Its owner.
    pub owner: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// Its mode.
    pub mode: u32,
}

/// Binds a unix socket to a path that does not exist yet.
///
/// Where superd is not root, and the group is not its own, the path has no mode at all until the group is right.
pub fn bind_path(socket: BorrowedFd<'_>, path: &Path, rights: Rights) -> io::Result<()> {
    let address = UnixAddr::new(path)?;
    let taken = Identity::take(rights.owner, rights.group);
    let born = if taken.is_complete { rights.mode } else { 0 };
    fchmod(socket, Mode::from_bits_truncate(born))?;
    let bound = with_no_umask(|| bind(socket.as_raw_fd(), &address));
    drop(taken);
    bound?;
    set_right(path, rights).inspect_err(|_| {
        // Nobody was told of it, and the caller gets no listener.
        let _ = fs::remove_file(path);
    })
}

/// Changes a path's owner, group and mode to what they should be, if they are not; the mode last.
pub fn set_right(path: &Path, rights: Rights) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if differs(&found, rights) {
        lchown(path, rights.owner, rights.group)?;
    }
    // chown clears nothing that a socket's mode has, so it is compared as it was found.
    if found.mode() & 0o7777 != rights.mode {
        fs::set_permissions(path, fs::Permissions::from_mode(rights.mode))?;
    }
    Ok(())
}

fn differs(found: &Metadata, rights: Rights) -> bool {
    rights.owner.is_some_and(|owner| owner != found.uid())
        || rights.group.is_some_and(|group| group != found.gid())
}

/// The umask belongs to the process. In one with other threads (tests) this thread gets one of its own first.
fn with_no_umask<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: unshare takes no pointer, and CLONE_FS concerns the umask and directories of this thread alone.
    // Where it is refused, the umask is the process's, as it always is in superd.
    unsafe { libc::unshare(libc::CLONE_FS) };
    let before = umask(Mode::empty());
    let result = body();
    umask(before);
    result
}

/// The file system user and group of this thread, until it is dropped.
struct Identity {
    user: u32,
    group: u32,
    capabilities: Option<Capabilities>,
    is_complete: bool,
}

impl Identity {
    /// As far as the kernel lets it.
    fn take(owner: Option<u32>, group: Option<u32>) -> Self {
        let capabilities = Capabilities::read();
        // The group first: another user may not change it.
        let before = (set_fs_user(None), set_fs_group(group));
        set_fs_user(owner);
        if let Some(capabilities) = &capabilities {
            // With another user went the right to write into root's directories.
            capabilities.set();
        }
        let is = |wanted: Option<u32>, now: u32| wanted.is_none_or(|wanted| wanted == now);
        let is_complete = is(owner, set_fs_user(None)) && is(group, set_fs_group(None));
        Self { user: before.0, group: before.1, capabilities, is_complete }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        set_fs_user(Some(self.user));
        set_fs_group(Some(self.group));
        if let Some(capabilities) = &self.capabilities {
            capabilities.set();
        }
    }
}

/// Gives the user before the call; `None` (-1, which is nobody) changes nothing.
fn set_fs_user(user: Option<u32>) -> u32 {
    // SAFETY: setfsuid takes a number and changes this thread alone.
    unsafe { libc::setfsuid(user.unwrap_or(u32::MAX)) }.cast_unsigned()
}

fn set_fs_group(group: Option<u32>) -> u32 {
    // SAFETY: setfsgid takes a number and changes this thread alone.
    unsafe { libc::setfsgid(group.unwrap_or(u32::MAX)) }.cast_unsigned()
}

/// This thread's capabilities: effective, permitted, inheritable, in two halves each (capget(2)).
struct Capabilities([u32; 6]);

/// `struct __user_cap_header_struct` of version 3, for this thread.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

impl Header {
    const OWN: Self = Self { version: 0x2008_0522, pid: 0 };
}

impl Capabilities {
    fn read() -> Option<Self> {
        let (mut header, mut data) = (Header::OWN, [0_u32; 6]);
        // SAFETY: version 3 reads the header and writes two structures of three u32, the size of `data`.
        let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
        (result == 0).then_some(Self(data))
    }

    /// What was effective before can be again, as long as it is permitted: nothing here took that away.
    fn set(&self) {
        let mut header = Header::OWN;
        // SAFETY: version 3 reads the header and two structures of three u32, the size of the array.
        unsafe { libc::syscall(libc::SYS_capset, &raw mut header, self.0.as_ptr()) };
    }
}
