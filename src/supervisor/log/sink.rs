//! The way out: a connected socket, the writer's channel, or standard error, all of which may be full or
//! gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use crate::sys::channel::Channel;
use crate::sys::datagram::{self, Sent};

use super::ring::Ring;
use super::stderr::{MAX_WRITE, Stderr};
use super::target::Target;

/// The way out.
#[derive(Debug)]
pub(super) enum Sink {
    /// A log daemon's socket.
    Socket {
        /// Where it listens.
        path: PathBuf,
        /// Connected there.
        socket: Option<UnixDatagram>,
    },
    /// The writer's channel, which the log holds.
    Writer,
    /// Standard error.
    Stderr(Option<Stderr>),
}

impl Sink {
    /// The way to a target, not yet tried.
    pub(super) fn to(target: &Target) -> Self {
        match target {
            Target::Syslog(path) | Target::Journal(path) => Self::Socket { path: path.clone(), socket: None },
            Target::Stderr => Self::Stderr(Stderr::open().ok()),
            Target::File(_) => Self::Writer,
        }
    }

    /// Connects anew. A daemon that was started again has another socket under the same path.
    pub(super) fn connect(&mut self) -> io::Result<()> {
        match self {
            Self::Socket { path, socket } => {
                let fresh = UnixDatagram::unbound()?;
                fresh.connect(path)?;
                *socket = Some(fresh);
                Ok(())
            }
            Self::Stderr(stderr) => {
                *stderr = Some(Stderr::open()?);
                Ok(())
            }
            Self::Writer => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends some of the ring's lines and takes them out.
    pub(super) fn send(&self, writer: Option<&Channel>, ring: &mut Ring) -> Sent {
        if let Self::Stderr(Some(stderr)) = self {
            return send_stream(stderr, ring);
        }
        let Some(socket) = self.fd(writer) else {
            return Sent::Failed(io::ErrorKind::NotConnected.into());
        };
        let sent = datagram::send(socket, ring.frames());
        if let Sent::Some(count) = sent {
            ring.sent(count);
        }
        sent
    }

    /// What to wait for when it is full.
    pub(super) fn fd<'a>(&'a self, writer: Option<&'a Channel>) -> Option<BorrowedFd<'a>> {
        match self {
            Self::Socket { socket, .. } => socket.as_ref().map(AsFd::as_fd),
            Self::Writer => writer.map(AsFd::as_fd),
            Self::Stderr(stderr) => stderr.as_ref().map(AsFd::as_fd),
        }
    }
}

fn send_stream(stderr: &Stderr, ring: &mut Ring) -> Sent {
    let mut bytes = Vec::with_capacity(MAX_WRITE);
    let mut count = 0;
    for frame in ring.frames() {
        if !bytes.is_empty() && bytes.len() + frame.len() > MAX_WRITE {
            break;
        }
        bytes.extend_from_slice(frame);
        count += 1;
    }
    bytes.truncate(MAX_WRITE);
    match stderr.write(&bytes) {
        Ok(written) => {
            ring.sent_bytes(written);
            Sent::Some(count)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Sent::Some(0),
        Err(error) => Sent::Failed(error),
    }
}
