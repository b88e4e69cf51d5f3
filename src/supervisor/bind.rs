//! Listeners: from an endpoint to a bound, listening socket, or to an error that an admin understands.
//!
//! Knows nothing of services: who asks decides whether an address that is not there makes it degraded.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::settings::SocketOptions;
use crate::model::endpoint::{Endpoint, InetEndpoint};
use crate::supervisor::holder::{Holder, find_holder};
use crate::supervisor::options::{self, OptionError};

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
    /// bind(2).
    Bind,
    /// listen(2).
    Listen,
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
}

impl BindError {
    fn new(endpoint: &Endpoint, step: Step, error: &io::Error) -> Self {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        let inet = endpoint.inet().filter(|_| errno == Errno::EADDRINUSE);
        let holder = inet.and_then(find_holder);
        Self { endpoint: endpoint.to_string(), step, errno, holder }
    }

    /// Is the address or interface not there yet? It may come: the service is degraded, the start is not refused.
    pub fn is_absence(&self) -> bool {
        matches!(self.step, Step::Zone | Step::Interface | Step::Bind)
            && matches!(self.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO)
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
            Step::Socket => write!(f, "socket for {endpoint}: {reason}")?,
            Step::Option(name) => write!(f, "socket option `{name}` for {endpoint}: {reason}")?,
            Step::Zone | Step::Interface => write!(f, "interface of {endpoint}: {reason}")?,
            Step::Bind => write!(f, "bind {endpoint}: {reason}")?,
            Step::Listen => write!(f, "listen {endpoint}: {reason}")?,
        }
        self.holder.as_ref().map_or(Ok(()), |holder| write!(f, " (held by {holder})"))
    }
}

impl std::error::Error for BindError {}

/// Opens a listener: close-on-exec, non-blocking, its options set before it is bound.
pub fn open_listener(endpoint: &Endpoint, options: &SocketOptions) -> Result<OwnedFd, BindError> {
    match endpoint {
        Endpoint::Inet(inet) => open_inet(inet, options),
        Endpoint::Unix(_) | Endpoint::Passed(_) => {
            let error = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
            Err(BindError::new(endpoint, Step::Socket, &error))
        }
    }
}

fn open_inet(endpoint: &InetEndpoint, options: &SocketOptions) -> Result<OwnedFd, BindError> {
    let failed =
        |step| move |error: io::Error| BindError::new(&Endpoint::Inet(endpoint.clone()), step, &error);
    let v6 = endpoint.ip.is_ipv6();
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let kind = Type::STREAM.cloexec().nonblocking();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP)).map_err(failed(Step::Socket))?;
    if v6 {
        socket.set_only_v6(true).map_err(failed(Step::Socket))?;
    }
    if let Some(interface) = &endpoint.interface {
        socket.bind_device(Some(interface.as_str().as_bytes())).map_err(failed(Step::Interface))?;
    }
    options::apply(socket.as_fd(), v6, options)
        .map_err(|OptionError { name, source }| failed(Step::Option(name))(source))?;
    let address = socket_address(endpoint).map_err(failed(Step::Zone))?;
    socket.bind(&address.into()).map_err(failed(Step::Bind))?;
    options::listen(socket.as_fd(), options).map_err(failed(Step::Listen))?;
    Ok(socket.into())
}

/// Opens a listener beside one that wants the same packets; that one needs [`allow_overlap`] first.
///
/// [`allow_overlap`]: crate::sys::overlap::allow_overlap
pub fn open_beside(endpoint: &Endpoint, options: &SocketOptions) -> Result<OwnedFd, BindError> {
    open_listener(endpoint, &SocketOptions { reuse_port: Some(true), ..options.clone() })
}

/// The address that a socket is bound to: says which port the kernel chose.
pub fn bound_address(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address = SockRef::from(&fd).local_addr()?;
    address.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// The endpoint as bind(2) wants it, with its zone as the number that the interface has now.
fn socket_address(endpoint: &InetEndpoint) -> io::Result<SocketAddr> {
    match (endpoint.ip, &endpoint.zone) {
        (IpAddr::V6(ip), Some(zone)) => {
            let index = if_nametoindex(zone.as_str())?;
            Ok(SocketAddrV6::new(ip, endpoint.port, 0, index).into())
        }
        (ip, _) => Ok(SocketAddr::new(ip, endpoint.port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::{InterfaceName, Transport};
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
        open_inet(endpoint, &SocketOptions::default())
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
        let error = open_inet(&endpoint("127.0.0.1", 0), &refused).unwrap_err();
        assert!(!error.is_absence());
        assert_eq!(error.to_string(), "socket option `ttl` for tcp:127.0.0.1:0: Invalid argument");
    }

    #[test]
    fn an_address_in_use_names_its_holder() {
        for ip in ["127.0.0.1", "::1"] {
            let listener = open(&endpoint(ip, 0)).unwrap();
            let taken = endpoint(ip, bound_address(listener.as_fd()).unwrap().port());
            let error = open(&taken).unwrap_err();
            assert!(!error.is_absence());
            let start = format!("bind {taken}: Address already in use (held by pid {}, ", std::process::id());
            assert!(error.to_string().starts_with(&start), "{error}");
        }
    }

    #[test]
    fn a_free_bind_needs_no_address() {
        let options = SocketOptions { free_bind: Some(true), ..SocketOptions::default() };
        open_inet(&endpoint("192.0.2.77", 0), &options).unwrap();
        open_inet(&endpoint("2001:db8::77", 0), &options).unwrap();
    }

    #[test]
    fn a_listener_comes_beside_an_overlapping_one() {
        for (old, new) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")] {
            let kept = open(&endpoint(old, 0)).unwrap();
            let beside = endpoint(new, bound_address(kept.as_fd()).unwrap().port()).into();
            let options = SocketOptions::default();
            assert_eq!(open_beside(&beside, &options).unwrap_err().errno, Errno::EADDRINUSE);
            allow_overlap(kept.as_fd(), true).unwrap();
            open_beside(&beside, &options).unwrap();
        }
    }

    #[test]
    fn an_interface_is_bound() {
        let listener = open(&on("lo", endpoint("0.0.0.0", 0))).unwrap();
        assert_eq!(SockRef::from(&listener).device().unwrap(), Some(b"lo".to_vec()));
    }
}
