//! Who is at the other end of a unix socket: `SO_PEERCRED` and `SO_PEERGROUPS` of unix(7).
//!
//! Both are what the client was when it connected, kept by the kernel: later changes, or a descriptor handed
//! on, don't change them.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::socket::{getsockopt, sockopt};

/// A process's identity, when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its process, as seen from here; 0 if it is in a pid namespace that can't be seen.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// Asks the kernel who connected to, or made, the other end of `socket`.
pub fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let process = getsockopt(&socket, sockopt::PeerCredentials)?;
    let groups = groups(socket)?;
    Ok(Credentials { pid: process.pid(), uid: process.uid(), gid: process.gid(), groups })
}

/// The kernel names the size that it needs with ERANGE; a process has at most 65,536 groups.
fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 32];
    loop {
        let room = groups.len();
        match read_groups(socket, &mut groups) {
            Ok(count) => {
                groups.truncate(count);
                return Ok(groups);
            }
            Err((error, needed)) if error.raw_os_error() == Some(libc::ERANGE) && needed > room => {
                groups.resize(needed, 0);
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// How many groups there are; with an error, how many the kernel would have written.
fn read_groups(socket: BorrowedFd<'_>, groups: &mut [u32]) -> Result<usize, (io::Error, usize)> {
    let too_big = |_| (io::Error::from_raw_os_error(libc::EINVAL), 0);
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups)).map_err(too_big)?;
    // SAFETY: `groups` is writable memory of `bytes` bytes, aligned for gid_t (u32); both pointers live through
    // the call, and the kernel writes no more than `bytes` bytes to the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let count = bytes as usize / size_of::<u32>();
    if result == 0 { Ok(count) } else { Err((io::Error::last_os_error(), count)) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = credentials(one.as_fd()).unwrap();
        let mut wanted: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|g| g.as_raw()).collect();
        wanted.sort_unstable();
        let mut groups = found.groups.clone();
        groups.sort_unstable();
        assert_eq!(groups, wanted);
        assert_eq!(found.pid, nix::unistd::getpid().as_raw());
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(found.gid, nix::unistd::getegid().as_raw());
    }

    #[test]
    fn a_small_buffer_names_the_size() {
        let (one, _other) = UnixStream::pair().unwrap();
        if nix::unistd::getgroups().unwrap().is_empty() {
            return;
        }
        let (error, needed) = read_groups(one.as_fd(), &mut []).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ERANGE));
        assert!(needed > 0);
    }
}
