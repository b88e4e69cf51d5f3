//! The handlers in a thread, without their guards, and the supervisor's end of their channel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use crate::protocol::handoff::{MAX_PACKET, Order, Report, Stream};
use crate::sys::channel::{Channel, Received};
use crate::sys::poll::PollSet;

mod channel;
mod datagrams;
mod streams;

const PATIENCE: Duration = Duration::from_secs(20);

/// The supervisor's side.
struct Handlers {
    channel: Channel,
    role: JoinHandle<io::Result<()>>,
    /// Reports that came and were not asked for yet.
    reports: Vec<Report>,
}

impl Handlers {
    /// They are there, and have said so.
    fn start() -> Self {
        let mut handlers = Self::start_unheard();
        handlers.expect(|report| *report == Report::Ready);
        handlers
    }

    fn start_unheard() -> Self {
        let (channel, theirs) = Channel::pair().unwrap();
        let role = thread::spawn(move || super::serve(&theirs, Vec::new, Vec::new));
        Self { channel, role, reports: Vec::new() }
    }

    fn send(&self, orders: &[Order], fds: &[&OwnedFd]) {
        let mut packet = String::new();
        for order in orders {
            order.push(&mut packet);
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.channel.send(packet.as_bytes(), &fds).unwrap();
    }

    /// Hands a connection over, and keeps no copy of it.
    fn serve(&self, stream: Stream, connection: impl Into<OwnedFd>) {
        self.send(&[Order::Builtin(stream)], &[&connection.into()]);
    }

    /// The first report that is wanted; those before it are kept.
    fn expect(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.reports.iter().position(&wanted) {
                return self.reports.remove(at);
            }
            assert!(self.wait_until(deadline), "it is not said; only {:?}", self.reports);
            self.receive();
        }
    }

    fn receive(&mut self) {
        let mut packet = [0; MAX_PACKET];
        if let Received::Packet { len, .. } = self.channel.receive(&mut packet).unwrap() {
            self.reports.extend(Report::read_all(&packet[..len]).map(Result::unwrap));
        }
    }

    fn wait_until(&self, deadline: Instant) -> bool {
        let mut poll = PollSet::default();
        let index = poll.push(self.channel.as_fd(), true, false);
        let left = deadline.saturating_duration_since(Instant::now());
        poll.wait(Some(left), &SigSet::empty()).unwrap();
        poll.ready(index).read
    }

    /// The connection was taken and is over; its bytes.
    fn expect_done(&mut self, id: u64) -> (u64, u64) {
        self.expect(|report| *report == Report::Take(id));
        let done = self.expect(|report| matches!(report, Report::Done { id: of, .. } if *of == id));
        let Report::Done { bytes: Some(bytes), .. } = done else { panic!("{done:?}") };
        bytes
    }

    /// The channel closes, and all threads end.
    fn stop(self) {
        drop(self.channel);
        self.role.join().unwrap().unwrap();
    }
}

/// An order for a connection without deadlines.
fn stream(id: u64, builtin: &str) -> Stream {
    Stream { id, builtin: builtin.into(), handshake: None, idle: None, session: None }
}
