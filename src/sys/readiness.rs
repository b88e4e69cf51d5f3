//! The socket where workers say that they are ready: what a service manager has for its services
//! (`sd_notify(3)`), in the abstract name space, so that it is found inside of a chroot too.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    getsockname, recvmsg, setsockopt, socket, sockopt,
};

/// The longest message that is read.
const LONGEST: usize = 1024;

/// The socket.
#[derive(Debug)]
pub struct Readiness {
    fd: OwnedFd,
    name: String,
}

impl Readiness {
    /// Makes it, under a name that the kernel chooses (unix(7), autobind).
    pub fn bind() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::PassCred, &true)?;
        bind(fd.as_raw_fd(), &UnixAddr::new_unnamed())?;
        let address: UnixAddr = getsockname(fd.as_raw_fd())?;
        let name = address.as_abstract().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let name = format!("@{}", String::from_utf8_lossy(name));
        Ok(Self { fd, name })
    }

    /// What stands in `NOTIFY_SOCKET`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next message, and the process that the kernel says has sent it. None: there is none now.
    pub fn receive(&self) -> Option<(i32, Vec<u8>)> {
        let mut buffer = [0; LONGEST];
        // Room for credentials alone: descriptors that come along are closed by the kernel.
        let mut control = nix::cmsg_space!(UnixCredentials);
        loop {
            let mut vector = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let (length, pid) =
                match recvmsg::<()>(self.fd.as_raw_fd(), &mut vector, Some(&mut control), flags) {
                    Ok(message) => {
                        let mut parts = message.cmsgs().into_iter().flatten();
                        let pid = parts.find_map(|part| match part {
                            ControlMessageOwned::ScmCredentials(who) => Some(who.pid()),
                            _ => None,
                        });
                        (message.bytes, pid)
                    }
                    Err(Errno::EINTR) => continue,
                    Err(_) => return None,
                };
            return Some((pid.unwrap_or(0), buffer.get(..length).unwrap_or_default().to_vec()));
        }
    }
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[test]
    fn a_message_comes_with_its_sender() {
        let readiness = Readiness::bind().unwrap();
        assert_eq!(readiness.receive(), None);
        let name = readiness.name().strip_prefix('@').unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(readiness.receive(), Some((own, b"READY=1".to_vec())));
        assert_eq!(readiness.receive(), None);
    }
}
