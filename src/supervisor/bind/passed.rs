//! Listeners that the service manager passed: a copy of each socket of that name.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::{BindError, Step};
use crate::config::settings::SocketOptions;
use crate::model::endpoint::Endpoint;
use crate::supervisor::options;
use crate::sys::fd::{duplicate_above, set_nonblocking};
use crate::sys::kind::SocketKind;
use crate::sys::passed::Passed;

/// The sockets that came under this name, with their options set. The copies share what they are copies of: they
/// do not block, but where a server is to `wait` for clients itself.
pub fn open_passed(
    name: &str,
    passed: &Passed,
    options: &SocketOptions,
    wait: bool,
) -> Result<Vec<(OwnedFd, SocketKind)>, BindError> {
    let endpoint = Endpoint::Passed(name.to_owned());
    let failed = |error: io::Error| BindError::new(&endpoint, Step::Passed, &error);
    let mut copies = Vec::new();
    for socket in passed.named(name) {
        let kind =
            socket.kind.ok_or_else(|| unfit(&endpoint, "is no socket that a service can be served by"))?;
        if !kind.is_datagram() && !socket.listens {
            return Err(unfit(&endpoint, "is a connection, or does not listen"));
        }
        let copy = duplicate_above(socket.fd.as_fd(), 3).map_err(failed)?;
        set_nonblocking(copy.as_fd(), !wait).map_err(failed)?;
        options::apply(copy.as_fd(), kind, options).map_err(|e| BindError::of_option(&endpoint, &e))?;
        if options.backlog.is_some() && !kind.is_datagram() {
            options::listen(copy.as_fd(), options).map_err(failed)?;
        }
        copies.push((copy, kind));
    }
    if copies.is_empty() { Err(missing(&endpoint, passed)) } else { Ok(copies) }
}

fn unfit(endpoint: &Endpoint, what: &str) -> BindError {
    let error = io::Error::from_raw_os_error(libc::EINVAL);
    BindError::new(endpoint, Step::Passed, &error).because(format!("the descriptor of this name {what}"))
}

fn missing(endpoint: &Endpoint, passed: &Passed) -> BindError {
    let names = passed.names().join(", ");
    let came =
        if names.is_empty() { "none was passed at all".to_owned() } else { format!("passed: {names}") };
    let error = io::Error::from_raw_os_error(libc::ENOENT);
    BindError::new(endpoint, Step::Passed, &error)
        .because(format!("no socket of this name was passed ({came})"))
}
