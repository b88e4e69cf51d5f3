//! Listeners of unix sockets, by path or abstract name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::UnixAddr;
use socket2::{Domain, Socket, Type};

use super::path::{self, NoRoom};
use super::{BindError, Step, kind_of, start_listening};
use crate::config::settings::SocketOptions;
use crate::model::endpoint::{Endpoint, UnixEndpoint, UnixKind, UnixName};
use crate::supervisor::options;
use crate::sys::kind::SocketKind;
use crate::sys::naming::bind_path;

pub(super) fn open(unix: &UnixEndpoint, options: &SocketOptions, wait: bool) -> Result<OwnedFd, BindError> {
    let endpoint = Endpoint::Unix(unix.clone());
    let failed = |step| {
        let endpoint = &endpoint;
        move |error: io::Error| BindError::new(endpoint, step, &error)
    };
    let kind = kind_of(&endpoint).unwrap_or(SocketKind::UnixStream);
    let socket = socket(unix.kind, wait).map_err(failed(Step::Socket))?;
    options::apply(socket.as_fd(), kind, options).map_err(|error| BindError::of_option(&endpoint, &error))?;
    match &unix.name {
        UnixName::Path(path) => bind_at(&socket, path, unix)?,
        UnixName::Abstract(name) => {
            let bound = UnixAddr::new_abstract(name.as_bytes())
                .and_then(|address| nix::sys::socket::bind(socket.as_raw_fd(), &address));
            bound.map_err(io::Error::from).map_err(failed(Step::Bind))?;
        }
    }
    let socket = socket.into();
    start_listening(&socket, kind, options).map_err(failed(Step::Listen))?;
    Ok(socket)
}

fn socket(kind: UnixKind, wait: bool) -> io::Result<Socket> {
    let carried = match kind {
        UnixKind::Stream => Type::STREAM,
        UnixKind::Datagram => Type::DGRAM,
        UnixKind::SeqPacket => Type::SEQPACKET,
    };
    let carried = carried.cloexec();
    Socket::new(Domain::UNIX, if wait { carried } else { carried.nonblocking() }, None)
}

fn bind_at(socket: &Socket, path: &Path, unix: &UnixEndpoint) -> Result<(), BindError> {
    let endpoint = Endpoint::Unix(unix.clone());
    let in_vain = |error: io::Error| {
        let missing = path.parent().filter(|_| error.raw_os_error() == Some(libc::ENOENT));
        let failure = BindError::new(&endpoint, Step::Bind, &error);
        match missing {
            Some(folder) => failure.because(format!("there is no directory {}", folder.display())),
            None => failure,
        }
    };
    match bind_path(socket.as_fd(), path, path::rights(unix)) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            path::make_room(path).map_err(|NoRoom { error, detail }| {
                let failure = BindError::new(&endpoint, Step::Path, &error);
                match detail {
                    Some(detail) => failure.because(detail.to_owned()),
                    None => failure,
                }
            })?;
            bind_path(socket.as_fd(), path, path::rights(unix)).map_err(in_vain)
        }
        result => result.map_err(in_vain),
    }
}
