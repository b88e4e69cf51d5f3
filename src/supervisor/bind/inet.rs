//! Listeners of the internet protocols: tcp, udp, multicast groups.
//!
//! A unicast udp socket never has `SO_REUSEADDR`: with it any local user could bind beside it and take its
//! datagrams. A group is bound by its own address, so that no other group's datagrams come, and the socket hears
//! the groups alone that it joined itself.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, SockRef, Socket, Type};

use super::{BindError, Step, kind_of, start_listening};
use crate::config::settings::SocketOptions;
use crate::model::endpoint::{Endpoint, InetEndpoint, InterfaceName, Transport};
use crate::model::filter::Instruction;
use crate::supervisor::options;
use crate::sys::filter::replace;
use crate::sys::group;
use crate::sys::kind::SocketKind;

pub(super) fn open(
    inet: &InetEndpoint,
    options: &SocketOptions,
    wait: bool,
    filter: &[Instruction],
) -> Result<OwnedFd, BindError> {
    let endpoint = Endpoint::Inet(inet.clone());
    let failed = |step| {
        let endpoint = &endpoint;
        move |error: io::Error| BindError::new(endpoint, step, &error)
    };
    let kind = kind_of(&endpoint).unwrap_or(SocketKind::Tcp);
    let socket = socket(inet, wait).map_err(failed(Step::Socket))?;
    if let Some(interface) = &inet.interface {
        bind_to(socket.as_fd(), interface).map_err(failed(Step::Interface))?;
    }
    options::apply(socket.as_fd(), kind, options).map_err(|error| BindError::of_option(&endpoint, &error))?;
    if !filter.is_empty() {
        replace(socket.as_fd(), filter).map_err(|error| BindError::of_filter(&endpoint, &error))?;
    }
    let address = socket_address(inet).map_err(failed(Step::Zone))?;
    socket.bind(&address.into()).map_err(failed(Step::Bind))?;
    if kind.is_group() {
        join(socket.as_fd(), inet).map_err(failed(Step::Join))?;
    }
    let socket = socket.into();
    start_listening(&socket, kind, options).map_err(failed(Step::Listen))?;
    Ok(socket)
}

fn socket(inet: &InetEndpoint, wait: bool) -> io::Result<Socket> {
    let v6 = inet.ip.is_ipv6();
    let carried = if inet.transport == Transport::Udp { Type::DGRAM } else { Type::STREAM }.cloexec();
    let carried = if wait { carried } else { carried.nonblocking() };
    let socket = Socket::new(if v6 { Domain::IPV6 } else { Domain::IPV4 }, carried, None)?;
    if v6 {
        socket.set_only_v6(true)?;
    }
    if inet.transport == Transport::Udp {
        group::hear_own_groups_only(socket.as_fd(), v6)?;
    }
    Ok(socket)
}

/// The endpoint as bind(2) wants it, with its zone as the number that the interface has now. A group of a link
/// is one only with its interface.
fn socket_address(endpoint: &InetEndpoint) -> io::Result<SocketAddr> {
    let of_link =
        |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_multicast() && ip.octets()[1] & 0xf <= 2);
    let interface = endpoint.interface.as_ref().filter(|_| of_link(&endpoint.ip));
    match (endpoint.ip, endpoint.zone.as_ref().or(interface)) {
        (IpAddr::V6(ip), Some(zone)) => {
            let index = if_nametoindex(zone.as_str())?;
            Ok(SocketAddrV6::new(ip, endpoint.port, 0, index).into())
        }
        (ip, _) => Ok(SocketAddr::new(ip, endpoint.port)),
    }
}

fn bind_to(fd: BorrowedFd<'_>, interface: &InterfaceName) -> io::Result<()> {
    SockRef::from(&fd).bind_device(Some(interface.as_str().as_bytes()))
}

fn join(fd: BorrowedFd<'_>, inet: &InetEndpoint) -> io::Result<()> {
    group::join(fd, inet.ip, interface_of(inet)?)
}

/// The number that the interface has now; 0 where the kernel is to choose.
fn interface_of(inet: &InetEndpoint) -> io::Result<u32> {
    let interface = inet.interface.as_ref().or(inet.zone.as_ref());
    Ok(interface.map(|name| if_nametoindex(name.as_str())).transpose()?.unwrap_or(0))
}

/// Joins the group of a listener once more, after interfaces have changed; nothing where it still is in it.
///
/// An interface that comes back may be another one to the kernel. `ENODEV` while it is away; after any other
/// error the listener is to be opened anew.
pub fn rejoin(fd: BorrowedFd<'_>, endpoint: &Endpoint) -> io::Result<()> {
    let Some(inet) = endpoint.inet().filter(|inet| inet.ip.is_multicast()) else { return Ok(()) };
    let now = interface_of(inet)?;
    if let Some(name) = &inet.interface {
        let before = group::bound_interface(fd)?;
        if before != now {
            // It was never joined there, or the kernel forgot it with the interface; the place in the socket's
            // list has to be given back all the same: there are 20.
            let _ = group::leave(fd, inet.ip, before);
            bind_to(fd, name)?;
        }
    }
    match group::join(fd, inet.ip, now) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            if now != 0 && !group::is_member(inet.ip, now) {
                // The interface went and came with its number: the socket's list has the group, the interface not.
                let _ = group::leave(fd, inet.ip, now);
                return group::join(fd, inet.ip, now);
            }
            Ok(())
        }
        Err(error) if error.raw_os_error() == Some(Errno::EADDRNOTAVAIL as i32) && now != 0 => {
            Err(io::Error::from_raw_os_error(libc::ENODEV))
        }
        result => result,
    }
}
