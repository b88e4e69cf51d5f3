//! One request and its answer over the control socket, within a time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::protocol::control::{MAX_REPLY, Reply, Request, encode_request, parse_reply};
use crate::sys::peer::credentials;

use super::locate::{Candidate, Origin};

/// Asks the first of `candidates` that listens. The error is for the admin, and says what to do.
pub(super) fn ask(candidates: &[Candidate], request: &Request, patience: Duration) -> Result<Reply, String> {
    let deadline = Instant::now() + patience;
    let stream = connect_any(candidates, deadline)?;
    exchange(stream, request, deadline).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => too_late(request, patience),
        _ => format!("the control connection failed: {error}"),
    })
}

fn connect_any(candidates: &[Candidate], deadline: Instant) -> Result<UnixStream, String> {
    let mut tried = Vec::new();
    for candidate in candidates {
        let path = candidate.path.display();
        match connect(&candidate.path, deadline) {
            Ok(stream) if candidate.origin == Origin::User => return of_this_user(stream, &candidate.path),
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(format!("{path}: permission denied: it needs {}", who_may(&candidate.path)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(format!("{path}: superd is too busy to answer, or hangs: see its log"));
            }
            Err(error) => tried.push(format!("\n  {path} ({}): {error}", candidate.origin)),
        }
    }
    Err(format!(
        "superd is not running, or listens elsewhere (say where with --socket or --config); tried{}",
        tried.concat()
    ))
}

fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // unix(7): connect waits for room in the listener's queue, and SO_SNDTIMEO ends that with EAGAIN.
    socket.set_write_timeout(Some(time_left(deadline)?))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(UnixStream::from(OwnedFd::from(socket)))
}

/// In /tmp anybody can listen in superd's place.
fn of_this_user(stream: UnixStream, path: &Path) -> Result<UnixStream, String> {
    let path = path.display();
    let owner = credentials(stream.as_fd()).map_err(|error| format!("{path}: {error}"))?.uid;
    if owner == 0 || owner == geteuid().as_raw() {
        return Ok(stream);
    }
    Err(format!("{path} can't be trusted: uid {owner} listens there"))
}

fn exchange(mut stream: UnixStream, request: &Request, deadline: Instant) -> io::Result<Reply> {
    match stream.write_all(&encode_request(request)) {
        // superd may refuse without reading: its reason waits to be read.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    let line = read_line(&mut stream, deadline)?;
    parse_reply(&line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn read_line(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    while line.last() != Some(&b'\n') {
        stream.set_read_timeout(Some(time_left(deadline)?))?;
        let count = match stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "superd closed it without an answer: see its log",
            ));
        }
        line.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if line.len() > MAX_REPLY {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer has no end"));
        }
    }
    Ok(line)
}

/// A timeout of zero would mean: for ever.
fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn too_late(request: &Request, patience: Duration) -> String {
    let seconds = patience.as_secs();
    match request {
        Request::Reload => format!(
            "no answer within {seconds} s; the reload may still come to its end: see `superctl status` and the log"
        ),
        Request::Ban { .. } | Request::Unban { .. } => {
            format!("no answer within {seconds} s: see `superctl bans` and superd's log")
        }
        Request::Status
        | Request::Socket { .. }
        | Request::Bans
        | Request::Pool { .. }
        | Request::Explain(_) => {
            format!("no answer within {seconds} s: see superd's log")
        }
    }
}

/// Whom the socket's owner and group let in, in words.
fn who_may(path: &Path) -> String {
    let Ok(found) = path.metadata() else { return "root".to_owned() };
    if found.mode() & 0o020 == 0 {
        return "root, or the user that superd runs as".to_owned();
    }
    match Group::from_gid(Gid::from_raw(found.gid())) {
        Ok(Some(group)) => format!("root, or a member of the group {}", group.name),
        _ => format!("root, or a member of the group {}", found.gid()),
    }
}
