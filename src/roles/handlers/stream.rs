//! One connection of echo, discard, chargen or tcpmux: what it reads and writes when there is something to read, or room.
//!
//! A connection that waits has no buffer: bytes go through the one of its thread. What the client does not take
//! is kept with the connection, and while there is some, nothing is read. It never waits by itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};

use crate::model::mux::MuxName;
use crate::protocol::builtin::chargen;
use crate::protocol::handoff::{self, Lapse};
use crate::sys::poll::{Interest, Readiness};

use super::WINDOW;
use super::name::{self, Name};

/// What is done with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Echo,
    Discard,
    Chargen,
    Mux,
}

/// A connection that is being served.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    kind: Kind,
    times: Times,
    started: Instant,
    /// When something was read or written for the last time.
    active: Instant,
    received: u64,
    sent: u64,
    /// What was read and could not be written.
    rest: Option<Box<Rest>>,
    /// Where chargen is in its pattern.
    offset: usize,
    /// What came of tcpmux's name.
    name: Name,
    /// The client has shut down its side.
    finished: bool,
    /// What it is watched for; `None`: it is in no set.
    pub(super) watched: Option<Interest>,
    /// Its entry among the deadlines.
    pub(super) armed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    handshake: Option<Duration>,
    idle: Option<Duration>,
    session: Option<Duration>,
}

#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    from: usize,
}

/// What becomes of a connection that was served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on when there is this.
    Wait(Interest),
    /// It is over: all is said, or the client is gone.
    Done,
    /// A client of tcpmux has asked for this; `None`: what it has said is no name.
    Asks(Option<MuxName>),
}

const READ: Next = Next::Wait(Interest { read: true, write: false });
const WRITE: Next = Next::Wait(Interest { read: false, write: true });

/// The client is gone.
struct Gone;

impl Stream {
    /// `None`: there is no such service.
    pub(super) fn new(socket: OwnedFd, order: &handoff::Stream, now: Instant) -> Option<Self> {
        let kind = match order.builtin.as_str() {
            "echo" => Kind::Echo,
            "discard" => Kind::Discard,
            "chargen" => Kind::Chargen,
            "tcpmux" => Kind::Mux,
            _ => return None,
        };
        Some(Self {
            socket,
            kind,
            // chargen's client has nothing to say.
            times: Times {
                handshake: order.handshake.filter(|_| kind != Kind::Chargen),
                idle: order.idle,
                session: order.session,
            },
            started: now,
            active: now,
            received: 0,
            sent: 0,
            rest: None,
            offset: 0,
            name: Name::default(),
            finished: false,
            watched: None,
            armed: None,
        })
    }

    /// Bytes that came, and that were sent.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// When it has had its time, if nothing more passes, and which one.
    pub(super) fn due(&self) -> Option<(Instant, Lapse)> {
        let Times { handshake, idle, session } = self.times;
        // A name has to be there as a whole.
        let is_shaking_hands = self.received == 0 || self.kind == Kind::Mux;
        [
            (self.started, handshake.filter(|_| is_shaking_hands), Lapse::Handshake),
            (self.active, idle, Lapse::Idle),
            (self.started, session, Lapse::Session),
        ]
        .into_iter()
        // A time beyond what the clock knows is none.
        .filter_map(|(start, time, why)| Some((start.checked_add(time?)?, why)))
        .min_by_key(|&(at, _)| at)
    }

    /// Goes on, by a bounded step; `buffer` is the thread's.
    pub(super) fn serve(
        &mut self,
        ready: Readiness,
        now: Instant,
        buffer: &mut [u8],
        pattern: &[u8],
    ) -> Next {
        let before = self.bytes();
        let next = match self.kind {
            Kind::Echo => self.echo(buffer),
            Kind::Discard => self.discard(buffer),
            Kind::Chargen => self.generate(ready, buffer, pattern),
            Kind::Mux => self.ask(),
        };
        if self.bytes() != before {
            self.active = now;
        }
        next.unwrap_or(Next::Done)
    }

    /// RFC 862. The client's end of file is read when all before it was sent back, and ends the connection.
    fn echo(&mut self, buffer: &mut [u8]) -> Result<Next, Gone> {
        if !self.flush()? {
            return Ok(WRITE);
        }
        let read = match self.read(buffer)? {
            Some(0) => return Ok(Next::Done),
            Some(length) => buffer.get(..length).unwrap_or_default(),
            None => return Ok(READ),
        };
        let written = self.write(read)?;
        match read.get(written..) {
            Some(rest @ [_, ..]) => {
                self.rest = Some(Box::new(Rest { bytes: rest.into(), from: 0 }));
                Ok(WRITE)
            }
            _ => Ok(READ),
        }
    }

    /// RFC 863.
    fn discard(&mut self, buffer: &mut [u8]) -> Result<Next, Gone> {
        Ok(if self.read(buffer)? == Some(0) { Next::Done } else { READ })
    }

    /// RFC 864. What comes is thrown away. A client that has only shut down its side still reads; one that is
    /// gone resets the connection.
    fn generate(&mut self, ready: Readiness, buffer: &mut [u8], pattern: &[u8]) -> Result<Next, Gone> {
        if ready.read && !self.finished {
            self.finished = self.read(buffer)? == Some(0);
        }
        if ready.write {
            let window = pattern.get(self.offset..self.offset + WINDOW).unwrap_or_default();
            self.offset = (self.offset + self.write(window)?) % chargen::PERIOD;
        }
        Ok(Next::Wait(Interest { read: !self.finished, write: true }))
    }

    /// RFC 1078. What follows the name is the other service's: it stays in the socket.
    fn ask(&mut self) -> Result<Next, Gone> {
        let mut buffer = [0; name::MOST];
        let Some(wanted) = buffer.get_mut(..self.name.room()) else { return Ok(Next::Asks(None)) };
        let seen = match recv(self.socket.as_raw_fd(), wanted, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK) {
            Ok(0) => return Ok(Next::Done),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(READ),
            Err(_) => return Err(Gone),
        };
        let own = name::line_of(wanted.get(..seen).unwrap_or_default());
        let read = self.read(wanted.get_mut(..own).unwrap_or_default())?.unwrap_or(0);
        self.name.push(wanted.get(..read).unwrap_or_default());
        Ok(self.name.outcome().map_or(READ, |name| Next::Asks(name.ok())))
    }

    /// `false`: there still is a rest.
    fn flush(&mut self) -> Result<bool, Gone> {
        let Some(mut rest) = self.rest.take() else { return Ok(true) };
        rest.from += self.write(rest.bytes.get(rest.from..).unwrap_or_default())?;
        let is_flushed = rest.from >= rest.bytes.len();
        self.rest = Some(rest).filter(|_| !is_flushed);
        Ok(is_flushed)
    }

    /// `None`: nothing is there.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Gone> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                self.received += length as u64;
                Ok(Some(length))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(_) => Err(Gone),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(length) => {
                self.sent += length as u64;
                Ok(length)
            }
            // A wait for room ends when the kernel has memory again.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ENOMEM) => Ok(0),
            Err(_) => Err(Gone),
        }
    }

    /// Answers of a few bytes leave at once.
    pub(super) fn set_no_delay(&self) {
        if self.kind == Kind::Echo {
            // A unix socket knows no delay.
            let _ = nix::sys::socket::setsockopt(&self.socket, nix::sys::socket::sockopt::TcpNoDelay, &true);
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
