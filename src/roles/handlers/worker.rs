//! One thread of the handlers: its set, its connections, its deadlines, and a turn of its loop.
//!
//! The channel sits in the sets of all threads, and wakes one of those that wait: who takes a packet serves its
//! connections, and no connection ever changes its thread. An order about a connection may reach another thread
//! than its own: all are told, and those that do not have it pass over it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::mux::MuxName;
use crate::protocol::handoff::{self, Lapse, MAX_PACKET, Order, Report};
use crate::sys::channel::Received;
use crate::sys::poll::{EpollSet, Interest, Readiness};

use super::datagrams::Listener;
use super::deadlines::Deadlines;
use super::inbox::{Inbox, Notice};
use super::listeners::Listeners;
use super::outbox::Outbox;
use super::stream::{Next, Stream};
use super::{Shared, WINDOW, lock};

/// Connections have their ids as keys in the set, which stay below.
const FIRST_LISTENER: u64 = 1 << 62;
/// Listeners have theirs behind this one.
const FIRST_OTHER: u64 = 1 << 63;
const CHANNEL: u64 = u64::MAX;
const INBOX: u64 = u64::MAX - 1;
const ROOM: u64 = u64::MAX - 2;

/// After a wait that itself had no memory.
const REST: Duration = Duration::from_millis(100);

/// One thread.
pub(super) struct Worker<'s> {
    shared: &'s Shared<'s>,
    inbox: &'s Inbox,
    set: EpollSet,
    streams: HashMap<u64, Box<Stream>>,
    deadlines: Deadlines,
    listeners: Listeners,
    outbox: Outbox,
    /// A copy of the channel: the set knows the channel itself as something to read.
    room: OwnedFd,
    /// The channel is full: `room` is watched in its place, and nothing more is taken.
    is_blocked: bool,
    /// Connections that must not be read before it is said that they are taken.
    held: Vec<u64>,
    buffer: Vec<u8>,
}

impl<'s> Worker<'s> {
    pub(super) fn new(shared: &'s Shared<'s>, inbox: &'s Inbox) -> io::Result<Self> {
        let set = EpollSet::new()?;
        set.add_shared(shared.channel.as_fd(), CHANNEL)?;
        set.add(inbox.as_fd(), INBOX)?;
        Ok(Self {
            shared,
            inbox,
            set,
            streams: HashMap::new(),
            deadlines: Deadlines::default(),
            listeners: Listeners::default(),
            outbox: Outbox::default(),
            room: shared.channel.as_fd().try_clone_to_owned()?,
            is_blocked: false,
            held: Vec::new(),
            buffer: vec![0; WINDOW],
        })
    }

    /// Turns until the channel closes, or another thread ends.
    pub(super) fn run(mut self) -> io::Result<()> {
        while self.turn()? && !self.shared.is_stopped() {}
        Ok(())
    }

    /// Waits for something, and does it. `false`: the supervisor is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let next = [self.deadlines.next(), self.listeners.say_at()].into_iter().flatten().min();
        let Ok(count) = self.set.wait(next.map(|at| at.saturating_duration_since(Instant::now()))) else {
            // ENOMEM: what is ready stays ready.
            std::thread::sleep(REST);
            return Ok(true);
        };
        let now = Instant::now();
        for index in 0..count {
            match self.set.event(index) {
                Some((CHANNEL, _)) if !self.take_packet(now)? => return Ok(false),
                Some((INBOX, _)) => self.read_inbox()?,
                Some((id, ready)) if id < FIRST_LISTENER => self.serve(id, ready, now),
                Some((key, _)) if key < FIRST_OTHER => self.answer(key - FIRST_LISTENER, now),
                _ => {}
            }
        }
        self.expire(now);
        self.listeners.say_due(now, &mut self.outbox);
        self.say(now)?;
        Ok(true)
    }

    /// Takes one packet, so that the next one may be another thread's.
    fn take_packet(&mut self, now: Instant) -> io::Result<bool> {
        let mut packet = [0; MAX_PACKET];
        let taking = lock(&self.shared.taking);
        let (len, fds) = match self.shared.channel.receive(&mut packet)? {
            Received::Packet { len, fds } => (len, fds),
            Received::Empty => return Ok(true),
            Received::Closed => return Ok(false),
        };
        let orders = Order::read(packet.get(..len).unwrap_or_default());
        let mut taken = Vec::new();
        let mut fds = fds.into_iter();
        for order in orders.map_err(|_| io::ErrorKind::InvalidData)? {
            match order {
                Order::Builtin(stream) => taken.push((stream, fds.next())),
                Order::End(id) => self.tell(&Notice::End(id)),
                Order::Listener(order) => {
                    // One that did not arrive would be served by nobody: better all begin again.
                    let socket = fds.next().ok_or(io::ErrorKind::InvalidData)?;
                    self.tell(&Notice::Listen(Arc::new(Listener::new(&order, socket, fds.next())?)));
                }
                Order::Forget(id) => self.tell(&Notice::Forget(id)),
                // The supervisor closes the channel when the last connection is done.
                Order::Drain => {}
                Order::Connection(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        drop(taking);
        self.begin(taken, now)?;
        Ok(true)
    }

    fn tell(&self, notice: &Notice) {
        self.shared.inboxes.iter().for_each(|inbox| inbox.put(notice.clone()));
    }

    /// Says that connections are taken, and serves them: often their first bytes are there already.
    fn begin(&mut self, taken: Vec<(handoff::Stream, Option<OwnedFd>)>, now: Instant) -> io::Result<()> {
        for (order, socket) in taken {
            self.outbox.push(&Report::Take(order.id));
            // The kernel drops descriptors that this process has no room for.
            let Some(socket) = socket else {
                self.outbox.push(&Report::Done { id: order.id, bytes: Some((0, 0)), why: None });
                continue;
            };
            let stream = Stream::new(socket, &order, now).filter(|_| order.id < FIRST_LISTENER);
            let stream = stream.ok_or(io::ErrorKind::InvalidData)?;
            self.streams.insert(order.id, Box::new(stream));
            self.held.push(order.id);
        }
        self.say(now)
    }

    /// Says what is to be said. What the channel does not take now is said when there is room.
    fn say(&mut self, now: Instant) -> io::Result<()> {
        const FRESH: Readiness = Readiness { read: true, write: true, broken: false };
        loop {
            self.outbox.flush(self.shared.channel);
            let is_blocked = !self.outbox.is_empty();
            if is_blocked != self.is_blocked {
                self.set_blocked(is_blocked)?;
            }
            if is_blocked || self.held.is_empty() {
                return Ok(());
            }
            for id in std::mem::take(&mut self.held) {
                self.serve(id, FRESH, now);
            }
        }
    }

    fn set_blocked(&mut self, is_blocked: bool) -> io::Result<()> {
        self.is_blocked = is_blocked;
        if is_blocked {
            self.set.remove(self.shared.channel.as_fd())?;
            self.set.watch(self.room.as_fd(), ROOM, Interest { read: false, write: true })
        } else {
            self.set.remove(self.room.as_fd())?;
            self.set.add_shared(self.shared.channel.as_fd(), CHANNEL)
        }
    }

    fn serve(&mut self, id: u64, ready: Readiness, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.serve(ready, now, &mut self.buffer, &self.shared.pattern) {
            Next::Done => self.close(id, None),
            Next::Asks(name) => self.launch(id, name),
            Next::Wait(wanted) if stream.watched == Some(wanted) => {}
            Next::Wait(wanted) => self.watch(id, wanted),
        }
    }

    /// A connection that can't be watched for want of memory would never go on.
    fn watch(&mut self, id: u64, wanted: Interest) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let watched = if stream.watched.is_some() {
            self.set.change(stream.as_fd(), id, wanted)
        } else {
            stream.set_no_delay();
            stream.armed = stream.due().map(|(at, _)| at);
            if let Some(at) = stream.armed {
                self.deadlines.set(at, id);
            }
            self.set.watch(stream.as_fd(), id, wanted)
        };
        stream.watched = Some(wanted);
        if watched.is_err() {
            self.close(id, None);
        }
    }

    fn close(&mut self, id: u64, why: Option<Lapse>) {
        if let Some(stream) = self.take_out(id) {
            self.outbox.push(&Report::Done { id, bytes: Some(stream.bytes()), why });
        }
    }

    /// The connection is the supervisor's again.
    fn launch(&mut self, id: u64, name: Option<MuxName>) {
        if let Some(stream) = self.take_out(id) {
            let (received, _) = stream.bytes();
            drop(stream);
            self.outbox.push(&Report::Launch { id, name, received });
        }
    }

    fn take_out(&mut self, id: u64) -> Option<Box<Stream>> {
        let stream = self.streams.remove(&id)?;
        if let Some(at) = stream.armed {
            self.deadlines.cancel(at, id);
        }
        if stream.watched.is_some() {
            // While the supervisor has its copy, it would not leave the set by itself.
            let _ = self.set.remove(stream.as_fd());
        }
        Some(stream)
    }

    fn read_inbox(&mut self) -> io::Result<()> {
        for notice in self.inbox.take() {
            match notice {
                Notice::End(id) => self.close(id, None),
                Notice::Listen(listener) => {
                    self.set.add_shared(listener.as_fd(), FIRST_LISTENER + listener.id)?;
                    self.listeners.add(listener);
                }
                Notice::Forget(id) => {
                    if let Some(listener) = self.listeners.remove(id, &mut self.outbox) {
                        self.set.remove(listener.as_fd())?;
                    }
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, listener: u64, now: Instant) {
        self.listeners.serve(listener, &self.shared.pattern, now);
    }

    /// Ends the connections that have had their time. Those that were active since get another entry.
    fn expire(&mut self, now: Instant) {
        while let Some(id) = self.deadlines.take_due(now) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let due = stream.due();
            stream.armed = due.map(|(at, _)| at);
            match due {
                Some((at, _)) if at > now => self.deadlines.set(at, id),
                _ => self.close(id, due.map(|(_, why)| why)),
            }
        }
    }
}
