//! One connection to the control socket: a line in, an answer out, until the client leaves or is too slow.
//!
//! ```text
//! Reading ──whole line──► Waiting ──answer──► Writing ──all written──► Reading
//!    └──no request, not permitted──────────────► Writing, then closed
//! ```
//!
//! Knows neither the other clients nor the listener.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::protocol::control::{MAX_REQUEST, Refusal, Reply, Request, encode_reply, parse_request};
use crate::sys::peer::Credentials;

use super::Rights;

/// For a whole request, from the connection or the last answer on; and for each step of reading an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    credentials: Credentials,
    rights: Rights,
    state: State,
    /// Bytes that came in and are not a served request yet; at most [`MAX_REQUEST`].
    input: Vec<u8>,
    /// The client sends no more.
    at_end: bool,
}

#[derive(Debug)]
enum State {
    /// It sends a request.
    Reading { deadline: Instant },
    /// Its request is served, however long that takes.
    Waiting,
    /// It reads its answer.
    Writing { answer: Vec<u8>, written: usize, then: Then, deadline: Instant },
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    NextRequest,
    Close,
}

/// What the server does next about a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Stay,
    /// Serve this.
    Ask(Request),
    /// Close it.
    Leave,
}

impl Client {
    pub(super) fn new(socket: OwnedFd, credentials: Credentials, rights: Rights, now: Instant) -> Self {
        let state = State::Reading { deadline: now + PATIENCE };
        Self { socket, credentials, rights, state, input: Vec::new(), at_end: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(super) fn wants_read(&self) -> bool {
        matches!(self.state, State::Reading { .. })
    }

    /// Also true while a request waits in `input`: the socket is writable, so that poll comes back at once and
    /// each turn serves one request of a client.
    pub(super) fn wants_write(&self) -> bool {
        match self.state {
            State::Reading { .. } => self.has_line(),
            State::Waiting => false,
            State::Writing { .. } => true,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Reading { deadline } | State::Writing { deadline, .. } => Some(deadline),
            State::Waiting => None,
        }
    }

    /// Something happened to the socket.
    pub(super) fn on_ready(&mut self, now: Instant) -> Step {
        match self.state {
            State::Reading { .. } if self.has_line() => self.next_request(now),
            State::Reading { .. } => self.read(now),
            State::Waiting if self.is_gone() => Step::Leave,
            State::Waiting => Step::Stay,
            State::Writing { .. } => self.write(now),
        }
    }

    /// Begins to send `line`, the answer to the request being served.
    pub(super) fn answer(&mut self, line: Vec<u8>, now: Instant) -> Step {
        match self.state {
            State::Waiting => self.send(line, Then::NextRequest, now),
            State::Reading { .. } | State::Writing { .. } => Step::Stay,
        }
    }

    fn has_line(&self) -> bool {
        self.input.contains(&b'\n')
    }

    fn read(&mut self, now: Instant) -> Step {
        let mut bytes = [0; MAX_REQUEST];
        let room = bytes.len().saturating_sub(self.input.len());
        match recv(self.socket.as_raw_fd(), &mut bytes[..room], MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.at_end = true,
            Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => return Step::Stay,
            Err(_) => return Step::Leave,
        }
        self.next_request(now)
    }

    /// Takes a line of `input`, if there is a whole one, and judges it.
    fn next_request(&mut self, now: Instant) -> Step {
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            return self.judge_rest(now);
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        match parse_request(&line) {
            Ok(request) if self.rights.allow(&request) => {
                self.state = State::Waiting;
                Step::Ask(request)
            }
            Ok(_) => {
                let why = "permission denied: to change anything needs root, or the user that superd runs as";
                self.refuse(Refusal::new(why), now)
            }
            Err(refusal) => self.refuse(refusal, now),
        }
    }

    /// There is no whole line in `input`: will there ever be?
    fn judge_rest(&mut self, now: Instant) -> Step {
        if self.input.len() >= MAX_REQUEST {
            return self.refuse(Refusal::new(format!("a request has at most {MAX_REQUEST} bytes")), now);
        }
        match (self.at_end, self.input.is_empty()) {
            (false, _) => Step::Stay,
            (true, true) => Step::Leave,
            (true, false) => self.refuse(Refusal::new("the request does not end in a newline"), now),
        }
    }

    /// Says why not, and then closes: whoever sends garbage gets one answer, not one a line.
    fn refuse(&mut self, refusal: Refusal, now: Instant) -> Step {
        self.send(encode_reply(&Reply::Refused(refusal)), Then::Close, now)
    }

    fn send(&mut self, answer: Vec<u8>, then: Then, now: Instant) -> Step {
        self.state = State::Writing { answer, written: 0, then, deadline: now + PATIENCE };
        self.write(now)
    }

    fn write(&mut self, now: Instant) -> Step {
        let State::Writing { answer, written, then, deadline } = &mut self.state else { return Step::Stay };
        let rest = answer.get(*written..).unwrap_or_default();
        match send(self.socket.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(count) => {
                *written += count;
                *deadline = now + PATIENCE;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Step::Stay,
            Err(_) => return Step::Leave,
        }
        match *then {
            _ if *written < answer.len() => Step::Stay,
            Then::Close => Step::Leave,
            Then::NextRequest => {
                self.state = State::Reading { deadline: now + PATIENCE };
                Step::Stay
            }
        }
    }

    /// A client that only ended its sending half still reads the answer, and POLLHUP tells the two apart.
    fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        match nix::poll::poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => fds[0].any().unwrap_or(true),
            Err(_) => false,
        }
    }
}

/// Tells a connection that is not taken in why, and closes it.
pub(super) fn send_away(socket: &OwnedFd, refusal: Refusal) {
    let line = encode_reply(&Reply::Refused(refusal));
    // It may be gone already: then nobody wants to know.
    let _ = send(socket.as_raw_fd(), &line, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}
