//! The control socket's server: admins connect, ask one line, read one line.
//!
//! It has no thread and never waits: the loop polls what [`ControlServer::interests`] names, says what is ready
//! and what time it is, and takes the requests that are whole and permitted. Clients are bounded in number,
//! bytes and time, so that none of them can harm superd, or keep root away. Knows nothing of what a request
//! does.

mod client;
mod listener;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::protocol::control::{Refusal, Reply, Request, encode_reply};
use crate::sys::peer::{self, Credentials};

use client::{Client, Step};
use listener::Listener;

/// Clients at a time, at most.
pub const MAX_CLIENTS: usize = 16;

/// Of these, so many are kept for those who may change things: readers can't keep root out.
const RESERVED: usize = 4;

/// Accepted in one turn, at most.
const BATCH: usize = 16;

/// How long the listener rests when superd is out of descriptors or memory.
const REST: Duration = Duration::from_secs(1);

/// A client, for as long as it is connected; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// Which descriptor of the server is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// New clients.
    Listener,
    /// One client.
    Client(ClientId),
}

/// A descriptor to poll. With neither `read` nor `write` it is polled for the hangup, which poll always tells.
#[derive(Debug)]
pub struct Interest<'a> {
    /// What to poll.
    pub fd: BorrowedFd<'a>,
    /// What to say to [`ControlServer::on_ready`] when poll tells anything about it.
    pub token: Token,
    /// POLLIN is wanted.
    pub read: bool,
    /// POLLOUT is wanted.
    pub write: bool,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rights {
    /// Ask how things are.
    Read,
    /// Everything.
    Change,
}

impl Rights {
    fn allow(self, request: &Request) -> bool {
        self == Self::Change || !request.is_change()
    }
}

/// The server. Its socket leaves the file system when it is dropped.
#[derive(Debug)]
pub struct ControlServer {
    listener: Listener,
    /// No accept before; `None`: now.
    resting_until: Option<Instant>,
    own_uid: u32,
    /// Who may read, besides root and superd's own user.
    group: Option<u32>,
    credentials: fn(BorrowedFd<'_>) -> io::Result<Credentials>,
    clients: BTreeMap<ClientId, Client>,
    next_id: u64,
    requests: Vec<(ClientId, Request)>,
}

impl ControlServer {
    /// Listens at `path`, makes the directories that it lacks, and replaces a socket that nobody listens at. The
    /// members of `group` may connect, and read; without one only root and superd's own user may connect.
    pub fn bind(path: &Path, group: Option<u32>) -> io::Result<Self> {
        Ok(Self {
            listener: Listener::bind(path, group)?,
            resting_until: None,
            own_uid: nix::unistd::geteuid().as_raw(),
            group,
            credentials: peer::credentials,
            clients: BTreeMap::new(),
            next_id: 0,
            requests: Vec::new(),
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// Appends what is to be polled in this turn.
    pub fn interests<'a>(&'a self, interests: &mut Vec<Interest<'a>>) {
        if self.resting_until.is_none() {
            let fd = self.listener.fd();
            interests.push(Interest { fd, token: Token::Listener, read: true, write: false });
        }
        interests.extend(self.clients.iter().map(|(id, client)| Interest {
            fd: client.fd(),
            token: Token::Client(*id),
            read: client.wants_read(),
            write: client.wants_write(),
        }));
    }

    /// poll told something about `token`: ready, hung up or broken, which is found out here.
    pub fn on_ready(&mut self, token: Token, now: Instant) {
        match token {
            Token::Listener => self.accept(now),
            Token::Client(id) => {
                if let Some(client) = self.clients.get_mut(&id) {
                    let step = client.on_ready(now);
                    self.take_step(id, step);
                }
            }
        }
    }

    /// The requests that came in whole from clients that may ask them. Each wants one [`Self::reply`], whenever it
    /// may be.
    pub fn take_requests(&mut self) -> Vec<(ClientId, Request)> {
        std::mem::take(&mut self.requests)
    }

    /// Answers a request; nothing happens if the client is gone.
    pub fn reply(&mut self, id: ClientId, reply: &Reply, now: Instant) {
        if let Some(client) = self.clients.get_mut(&id) {
            let step = client.answer(encode_reply(reply), now);
            self.take_step(id, step);
        }
    }

    /// When [`Self::on_deadline`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.values().filter_map(Client::deadline).chain(self.resting_until).min()
    }

    /// Drops clients that are too slow, and ends a rest. May be called at any time.
    pub fn on_deadline(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        self.clients.retain(|_, client| !is_due(client.deadline()));
        if is_due(self.resting_until) {
            self.resting_until = None;
        }
    }

    /// The process and the user behind a client that is still there, for the log.
    pub fn credentials(&self, id: ClientId) -> Option<&Credentials> {
        self.clients.get(&id).map(Client::credentials)
    }

    fn take_step(&mut self, id: ClientId, step: Step) {
        match step {
            Step::Stay => {}
            Step::Ask(request) => self.requests.push((id, request)),
            Step::Leave => {
                self.clients.remove(&id);
                self.requests.retain(|(asker, _)| *asker != id);
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..BATCH {
            match self.listener.accept() {
                Ok(socket) => self.welcome(socket, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // EMFILE, ENFILE, ENOBUFS, ENOMEM leave the client in the queue, and poll would tell of it at once.
                Err(_) => {
                    self.resting_until = Some(now + REST);
                    return;
                }
            }
        }
    }

    /// Takes a new client in, or tells it why not: a short line always fits into a fresh connection.
    fn welcome(&mut self, socket: OwnedFd, now: Instant) {
        let Ok(credentials) = (self.credentials)(socket.as_fd()) else { return };
        match self.admit(&credentials) {
            Ok(rights) => {
                self.next_id += 1;
                let client = Client::new(socket, credentials, rights, now);
                self.clients.insert(ClientId(self.next_id), client);
            }
            Err(refusal) => client::send_away(&socket, refusal),
        }
    }

    fn admit(&self, credentials: &Credentials) -> Result<Rights, Refusal> {
        let Some(rights) = rights(credentials, self.own_uid, self.group) else {
            return Err(Refusal::new("permission denied: this needs root, or a member of the control_group"));
        };
        let room = if rights == Rights::Change { MAX_CLIENTS } else { MAX_CLIENTS - RESERVED };
        if self.clients.len() >= room {
            return Err(Refusal::new(format!(
                "superd serves {MAX_CLIENTS} control clients at a time: try again"
            )));
        }
        Ok(rights)
    }
}

/// What `client` may do with a superd that runs as `own_uid` and has `group` for its readers.
fn rights(client: &Credentials, own_uid: u32, group: Option<u32>) -> Option<Rights> {
    if client.uid == 0 || client.uid == own_uid {
        return Some(Rights::Change);
    }
    let group = group?;
    (client.gid == group || client.groups.contains(&group)).then_some(Rights::Read)
}

#[cfg(test)]
mod tests;
