//! Listeners: from an endpoint to a bound, listening socket, or to an error that an admin understands.
//!
//! Knows nothing of services: who asks decides whether an address that is not there makes it degraded.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use socket2::SockRef;

use crate::config::settings::SocketOptions;
use crate::model::endpoint::{Endpoint, Transport, UnixKind};
use crate::model::filter::Instruction;
use crate::supervisor::holder::{Holder, find_holder};
use crate::supervisor::options::{self, OptionError};
use crate::sys::kind::SocketKind;

mod inet;
mod passed;
mod path;
mod unix;

pub use inet::rejoin;
pub use passed::open_passed;
pub use path::{PathIdentity, identify_path, remove_path, set_path_rights};

/// What was tried when opening a listener failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// socket(2).
    Socket,
    /// Setting the option of this name of the configuration.
    Option(&'static str),
    /// Looking up the interface of a link-local address.
    Zone,
    /// `SO_BINDTODEVICE`.
    Interface,
    /// Attaching the filter of the rules.
    Rules,
    /// Making room for a path, or taking it.
    Path,
    /// bind(2).
    Bind,
    /// Joining a multicast group.
    Join,
    /// listen(2).
    Listen,
    /// Looking for a socket that the service manager passed.
    Passed,
}

/// Why there is no listener.
#[derive(Debug)]
pub struct BindError {
    /// The endpoint as an admin writes it.
    pub endpoint: String,
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    pub errno: Errno,
    /// Who has the port, if that could be seen.
    pub holder: Option<Holder>,
    /// What superd knows beyond the kernel's word.
    pub detail: Option<String>,
}

impl BindError {
    fn new(endpoint: &Endpoint, step: Step, error: &io::Error) -> Self {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        Self { endpoint: endpoint.to_string(), step, errno, holder: None, detail: None }
    }

    /// Finds out who has the place. It reads much of /proc, some tens of milliseconds.
    pub fn look_for_holder(&mut self, endpoint: &Endpoint) {
        if self.errno == Errno::EADDRINUSE && self.detail.is_none() {
            self.holder = find_holder(endpoint);
        }
    }

    pub(super) fn because(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }

    pub(super) fn of_option(endpoint: &Endpoint, error: &OptionError) -> Self {
        Self::new(endpoint, Step::Option(error.name), &error.source)
    }

    /// They can't be made a filter.
    pub(super) fn of_rules(endpoint: &Endpoint, why: String) -> Self {
        Self::new(endpoint, Step::Rules, &io::Error::from_raw_os_error(libc::E2BIG)).because(why)
    }

    /// The kernel does not take their filter.
    pub(super) fn of_filter(endpoint: &Endpoint, error: &io::Error) -> Self {
        let refused = Self::new(endpoint, Step::Rules, error);
        if refused.errno != Errno::ENOMEM {
            return refused;
        }
        refused.because(
            "the kernel has no room for their socket filter: net.core.optmem_max is too small".to_owned(),
        )
    }

    /// Somebody has it whom only superd knows of.
    pub(super) fn in_use(endpoint: &Endpoint, why: String) -> Self {
        let error = io::Error::from_raw_os_error(libc::EADDRINUSE);
        Self::new(endpoint, Step::Bind, &error).because(why)
    }

    /// Is the address or interface not there yet? It may come: the service is degraded, the start is not refused.
    pub fn is_absence(&self) -> bool {
        let may_come = match self.step {
            Step::Zone | Step::Interface | Step::Bind | Step::Join => true,
            Step::Option(name) => name == "multicast_interface",
            Step::Socket | Step::Rules | Step::Path | Step::Listen | Step::Passed => false,
        };
        may_come && matches!(self.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO)
    }

    /// Does the kernel not know the address family at all? An optional endpoint is left out then.
    pub fn is_unknown_family(&self) -> bool {
        self.step == Step::Socket && self.errno == Errno::EAFNOSUPPORT
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (endpoint, reason) = (&self.endpoint, self.errno.desc());
        match self.step {
            Step::Socket => write!(f, "socket for {endpoint}: ")?,
            Step::Option(name) => write!(f, "socket option `{name}` for {endpoint}: ")?,
            Step::Rules => write!(f, "rules of {endpoint}: ")?,
            Step::Zone | Step::Interface => write!(f, "interface of {endpoint}: ")?,
            Step::Path | Step::Bind => write!(f, "bind {endpoint}: ")?,
            Step::Join => write!(f, "join the group of {endpoint}: ")?,
            Step::Listen => write!(f, "listen {endpoint}: ")?,
            Step::Passed => write!(f, "{endpoint}: ")?,
        }
        f.write_str(self.detail.as_deref().unwrap_or(reason))?;
        self.holder.as_ref().map_or(Ok(()), |holder| write!(f, " (held by {holder})"))
    }
}

impl std::error::Error for BindError {}

/// Opens a listener: close-on-exec, its options set before it is bound.
///
/// It does not block, but where a server is to `wait` for clients itself: that one would spin on EAGAIN. A passed
/// socket is not opened: see [`open_passed`].
pub fn open_listener(endpoint: &Endpoint, options: &SocketOptions, wait: bool) -> Result<OwnedFd, BindError> {
    open_with_filter(endpoint, options, wait, &[])
}

/// Opens a listener that never hears what the filter refuses: it is attached before the bind.
pub fn open_with_filter(
    endpoint: &Endpoint,
    options: &SocketOptions,
    wait: bool,
    filter: &[Instruction],
) -> Result<OwnedFd, BindError> {
    match endpoint {
        Endpoint::Inet(inet) => inet::open(inet, options, wait, filter),
        Endpoint::Unix(unix) => unix::open(unix, options, wait),
        Endpoint::Passed(_) => {
            let error = io::Error::from_raw_os_error(libc::EBADF);
            Err(BindError::new(endpoint, Step::Passed, &error))
        }
    }
}

/// Opens a listener beside one that wants the same packets; that one needs [`allow_overlap`] first.
///
/// A unix name has room for one: there it is `EADDRINUSE`.
///
/// [`allow_overlap`]: crate::sys::overlap::allow_overlap
pub fn open_beside(
    endpoint: &Endpoint,
    options: &SocketOptions,
    wait: bool,
    filter: &[Instruction],
) -> Result<OwnedFd, BindError> {
    open_with_filter(endpoint, &SocketOptions { reuse_port: Some(true), ..options.clone() }, wait, filter)
}

/// What a listener of this endpoint is; `None` for a passed one, which has to be asked ([`SocketKind::of`]).
pub fn kind_of(endpoint: &Endpoint) -> Option<SocketKind> {
    Some(match endpoint {
        Endpoint::Inet(inet) => match (inet.transport, inet.ip.is_ipv6(), inet.ip.is_multicast()) {
            (Transport::Tcp, false, _) => SocketKind::Tcp,
            (Transport::Tcp, true, _) => SocketKind::Tcp6,
            (Transport::Udp, false, false) => SocketKind::Udp,
            (Transport::Udp, true, false) => SocketKind::Udp6,
            (Transport::Udp, false, true) => SocketKind::Group,
            (Transport::Udp, true, true) => SocketKind::Group6,
        },
        Endpoint::Unix(unix) => match unix.kind {
            UnixKind::Stream => SocketKind::UnixStream,
            UnixKind::Datagram => SocketKind::UnixDatagram,
            UnixKind::SeqPacket => SocketKind::UnixSeqPacket,
        },
        Endpoint::Passed(_) => return None,
    })
}

/// The address that a socket is bound to: says which port the kernel chose.
pub fn bound_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// listen(2), where there are connections to listen for.
fn start_listening(fd: &OwnedFd, kind: SocketKind, options: &SocketOptions) -> io::Result<()> {
    if kind.is_datagram() { Ok(()) } else { options::listen(fd.as_fd(), options) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{InetEndpoint, InterfaceName};
    use crate::sys::overlap::allow_overlap;
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    use std::net::TcpStream;

    fn endpoint(ip: &str, port: u16) -> InetEndpoint {
        let (transport, ip) = (Transport::Tcp, ip.parse().unwrap());
        InetEndpoint { transport, ip, port, zone: None, interface: None, optional: false }
    }

    fn on(interface: &str, endpoint: InetEndpoint) -> InetEndpoint {
        InetEndpoint { interface: InterfaceName::new(interface), ..endpoint }
    }

    fn open(endpoint: &InetEndpoint) -> Result<OwnedFd, BindError> {
        open_listener(&endpoint.clone().into(), &SocketOptions::default(), false)
    }

    #[test]
    fn a_listener_is_non_blocking_and_not_inherited() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = open(&endpoint(ip, 0)).unwrap();
            let flags = OFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK), "{ip}");
            let flags = FdFlag::from_bits_retain(fcntl(&listener, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC), "{ip}");
            let at = bound_address(listener.as_fd()).unwrap();
            TcpStream::connect(at).unwrap();
        }
    }

    #[test]
    fn both_families_share_a_port() {
        let v6 = open(&endpoint("::", 0)).unwrap();
        let port = bound_address(v6.as_fd()).unwrap().port();
        open(&endpoint("0.0.0.0", port)).unwrap();
    }

    #[test]
    fn what_is_absent_is_told_from_what_is_wrong() {
        let zone = InetEndpoint { zone: InterfaceName::new("nowhere0"), ..endpoint("fe80::1", 0) };
        let rows = [
            ("no such address", endpoint("192.0.2.77", 0), Errno::EADDRNOTAVAIL),
            ("no such address", endpoint("2001:db8::77", 0), Errno::EADDRNOTAVAIL),
            ("no such interface", on("nowhere0", endpoint("127.0.0.1", 0)), Errno::ENODEV),
            ("no such zone", zone, Errno::ENODEV),
        ];
        for (what, endpoint, errno) in rows {
            let error = open(&endpoint).unwrap_err();
            assert_eq!(error.errno, errno, "{what}: {error}");
            assert!(error.is_absence(), "{what}: {error}");
        }
        let refused = SocketOptions { ttl: Some(0), ..SocketOptions::default() };
        let error = inet::open(&endpoint("127.0.0.1", 0), &refused, false, &[]).unwrap_err();
        assert!(!error.is_absence());
        assert_eq!(error.to_string(), "socket option `ttl` for tcp:127.0.0.1:0: Invalid argument");
    }

    #[test]
    fn an_address_in_use_names_its_holder() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = open(&endpoint(ip, 0)).unwrap();
            let taken = endpoint(ip, bound_address(listener.as_fd()).unwrap().port());
            let mut error = open(&taken).unwrap_err();
            assert!(!error.is_absence());
            error.look_for_holder(&taken.clone().into());
            let start = format!("bind {taken}: Address already in use (held by pid {}, ", std::process::id());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn a_free_bind_needs_no_address() {
        let options = SocketOptions { free_bind: Some(true), ..SocketOptions::default() };
        inet::open(&endpoint("192.0.2.77", 0), &options, false, &[]).unwrap();
        inet::open(&endpoint("2001:db8::77", 0), &options, false, &[]).unwrap();
    }

    #[test]
    fn a_listener_comes_beside_an_overlapping_one() {
        for (old, new) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")] {
            let kept = open(&endpoint(old, 0)).unwrap();
            let beside = endpoint(new, bound_address(kept.as_fd()).unwrap().port()).into();
            let options = SocketOptions::default();
            assert_eq!(open_beside(&beside, &options, false, &[]).unwrap_err().errno, Errno::EADDRINUSE);
            allow_overlap(kept.as_fd(), true).unwrap();
            open_beside(&beside, &options, false, &[]).unwrap();
        }
    }

    #[test]
    fn an_interface_is_bound() {
        let listener = open(&on("lo", endpoint("0.0.0.0", 0))).unwrap();
        assert_eq!(SockRef::from(&listener).device().unwrap(), Some(b"lo".to_vec()));
    }
}
