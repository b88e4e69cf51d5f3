//! Questions to the clients' RFC 1413 servers: a connection for each, all of them in one thread, none of which
//! lasts longer than its time.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::model::address::canonical;
use crate::protocol::ident::{self, MAX_ANSWER, PORT, Reply};
use crate::sys::poll::{PollSet, Readiness};

/// Questions at the same time.
pub(crate) const MAX_OPEN: usize = 256;

/// The connections to ident servers.
pub(crate) struct Idents {
    port: u16,
    open: Vec<Conversation>,
    /// Where each is in the set that was waited for, in their order.
    places: Vec<usize>,
}

impl Default for Idents {
    fn default() -> Self {
        Self::at_port(PORT)
    }
}

struct Conversation {
    id: u64,
    /// The ports that it is about: the client's and superd's.
    about: (u16, u16),
    deadline: Instant,
    socket: Socket,
    asked: bool,
    answer: Vec<u8>,
}

impl Idents {
    /// With servers at this port.
    pub(crate) fn at_port(port: u16) -> Self {
        Self { port, open: Vec::new(), places: Vec::new() }
    }

    /// When the first question has to be answered.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.iter().map(|conversation| conversation.deadline).min()
    }

    /// The answer, if it is there already; else it comes later.
    pub(crate) fn ask(
        &mut self,
        id: u64,
        client: SocketAddr,
        local: SocketAddr,
        deadline: Instant,
    ) -> Option<Reply> {
        if self.open.len() >= MAX_OPEN {
            return Some(Reply::Failed);
        }
        let (client, local) = (canonical(client), canonical(local));
        let Ok(socket) = connect(with_port(client, self.port), with_port(local, 0)) else {
            return Some(Reply::Failed);
        };
        let about = (client.port(), local.port());
        self.open.push(Conversation { id, about, deadline, socket, asked: false, answer: Vec::new() });
        None
    }

    /// Adds what is waited for.
    pub(crate) fn push_to(&mut self, poll: &mut PollSet) {
        let place = |of: &Conversation| poll.push(of.socket.as_fd(), of.asked, !of.asked);
        self.places = self.open.iter().map(place).collect();
    }

    /// Goes on where something is ready; gives the answers that have come, and those whose time is over.
    pub(crate) fn go_on(&mut self, poll: &PollSet, now: Instant, mut answer: impl FnMut(u64, Reply)) {
        let mut places = self.places.drain(..);
        self.open.retain_mut(|conversation| {
            let ready = places.next().map(|place| poll.ready(place)).unwrap_or_default();
            let late = (conversation.deadline <= now).then_some(Reply::Failed);
            let reply = conversation.go_on(ready).or(late);
            reply.map(|reply| answer(conversation.id, reply)).is_none()
        });
    }
}

impl Conversation {
    /// The outcome, once there is one.
    fn go_on(&mut self, ready: Readiness) -> Option<Reply> {
        if ready.write && !self.asked {
            return self.put_question().err().map(|_| Reply::Failed);
        }
        if ready.read && self.asked { self.hear() } else { None }
    }

    fn put_question(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        // It goes whole into the empty buffer of a fresh connection.
        self.socket.write_all(ident::question(self.about.0, self.about.1).as_bytes())?;
        self.asked = true;
        Ok(())
    }

    fn hear(&mut self) -> Option<Reply> {
        let mut buffer = [0; MAX_ANSWER];
        let room = MAX_ANSWER.saturating_sub(self.answer.len());
        let length = match self.socket.read(buffer.get_mut(..room)?) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            Err(_) => return Some(Reply::Failed),
        };
        self.answer.extend(buffer.get(..length).unwrap_or_default());
        let over = length == 0 || ident::is_complete(&self.answer);
        over.then(|| ident::read(&self.answer, self.about.0, self.about.1))
    }
}

/// From the very address that the client asked: its server knows the connection by all four numbers.
fn connect(server: SocketAddr, from: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&from.into())?;
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
