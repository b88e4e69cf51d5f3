//! The collector: reads the standard errors of programs, as a user who may do nothing.
//!
//! It reads pipes that the supervisor sends, and sends back lines. It knows sessions by their names alone, never
//! whose they are. It ends when its channel closes; the pipes' reading ends close with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;

use crate::model::session::SessionId;
use crate::protocol::collect::{MAX_PACKET, Order, Report};
use crate::service::lines::Lines;
use crate::sys::channel::{Channel, Received};
use crate::sys::poll::{EpollSet, PollSet};
use crate::sys::process;

/// Bytes that are read from one pipe before the next one has its turn: a pipe's usual size.
const MAX_READ: usize = 64 * 1024;

/// After a wait that itself had no memory.
const REST: Duration = Duration::from_millis(100);

/// Serves the channel until it closes.
pub fn run(channel: &Channel) -> io::Result<()> {
    process::set_no_new_privileges()?;
    process::raise_descriptor_limit()?;
    say(channel, Report::Ready);
    serve(channel)
}

fn serve(channel: &Channel) -> io::Result<()> {
    let mut collector = Collector {
        channel,
        set: EpollSet::new()?,
        streams: HashMap::new(),
        ended: Vec::new(),
        serial: 0,
        buffer: vec![0; MAX_READ],
    };
    while collector.turn()? {}
    Ok(())
}

struct Collector<'c> {
    channel: &'c Channel,
    set: EpollSet,
    /// By the keys that they have in the set.
    streams: HashMap<u64, Stream>,
    /// Streams that are at their end, and what was dropped of them: still to be said.
    ended: Vec<(SessionId, u64)>,
    serial: u64,
    buffer: Vec<u8>,
}

/// The standard error of one session.
struct Stream {
    session: SessionId,
    pipe: File,
    lines: Lines,
}

impl Collector<'_> {
    /// Waits for something, and does it. `false`: the supervisor is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let mut poll = PollSet::default();
        let channel = poll.push(self.channel.as_fd(), true, !self.ended.is_empty());
        let pipes = poll.push(self.set.as_fd(), true, false);
        if poll.wait(None, &SigSet::empty()).is_err() {
            // ENOMEM: what is ready stays ready.
            std::thread::sleep(REST);
            return Ok(true);
        }
        if poll.ready(channel).read && !self.take_orders()? {
            return Ok(false);
        }
        if poll.ready(pipes).read {
            self.read_pipes()?;
        }
        self.say_ended();
        Ok(true)
    }

    fn take_orders(&mut self) -> io::Result<bool> {
        let mut packet = [0; MAX_PACKET];
        loop {
            let (len, fds) = match self.channel.receive(&mut packet)? {
                Received::Packet { len, fds } => (len, fds),
                Received::Empty => return Ok(true),
                Received::Closed => return Ok(false),
            };
            let order = Order::read(packet.get(..len).unwrap_or_default());
            let Order::Collect { session } = order.ok_or(io::ErrorKind::InvalidData)?;
            // The kernel drops descriptors that this process has no room for.
            let collected = fds.into_iter().next().is_some_and(|pipe| self.collect(session, pipe).is_ok());
            if !collected {
                self.ended.push((session, 0));
            }
        }
    }

    fn collect(&mut self, session: SessionId, pipe: OwnedFd) -> io::Result<()> {
        // A program can open its own pipe through /proc and read what poll has announced here.
        let flags = OFlag::from_bits_truncate(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        self.serial += 1;
        self.set.add(pipe.as_fd(), self.serial)?;
        let stream = Stream { session, pipe: File::from(pipe), lines: Lines::new(Instant::now()) };
        self.streams.insert(self.serial, stream);
        Ok(())
    }

    fn read_pipes(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        self.set.ready(&mut ready)?;
        for (key, _) in ready {
            self.read_pipe(key);
        }
        Ok(())
    }

    /// Reads what the rate will drop, too: a program must never wait for its standard error.
    fn read_pipe(&mut self, key: u64) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let session = stream.session;
        let line = |bytes: &[u8], dropped| say(self.channel, Report::Line { session, dropped, bytes });
        match stream.pipe.read(&mut self.buffer) {
            Ok(length @ 1..) => {
                stream.lines.feed(self.buffer.get(..length).unwrap_or_default(), Instant::now(), line);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Ok(0) | Err(_) => {
                let dropped = stream.lines.finish(Instant::now(), line);
                self.ended.push((session, dropped));
                // While the supervisor's copy is not closed yet, it would not leave the set by itself.
                let _ = self.set.remove(stream.pipe.as_fd());
                self.streams.remove(&key);
            }
        }
    }

    /// Says which streams are at their end. What the channel does not take now is said when there is room.
    fn say_ended(&mut self) {
        let channel = self.channel;
        let unsaid =
            |&(session, dropped): &(SessionId, u64)| !say(channel, Report::Ended { session, dropped });
        let said = self.ended.iter().position(unsaid).unwrap_or(self.ended.len());
        self.ended.drain(..said);
    }
}

/// `false`: the supervisor has not read what it was sent before. A channel that is broken is found at its end.
fn say(channel: &Channel, report: Report<'_>) -> bool {
    let mut packet = Vec::with_capacity(MAX_PACKET);
    report.push(&mut packet);
    channel.send(&packet, &[]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::thread::{self, JoinHandle};

    use crate::sys::fd;

    /// The collector in a thread, and the supervisor's end of their channel.
    fn started() -> (Channel, JoinHandle<io::Result<()>>) {
        let (own, theirs) = Channel::pair().unwrap();
        let collector = thread::spawn(move || serve(&theirs));
        (own, collector)
    }

    fn session(serial: u64) -> SessionId {
        SessionId { epoch: 1, serial }
    }

    fn collect(channel: &Channel, serial: u64, pipe: Option<&OwnedFd>) {
        let mut packet = Vec::new();
        Order::Collect { session: session(serial) }.push(&mut packet);
        channel.send(&packet, &pipe.iter().map(AsFd::as_fd).collect::<Vec<_>>()).unwrap();
    }

    /// Packets up to the end of this session's stream.
    fn reports(channel: &Channel, serial: u64) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            let mut poll = PollSet::default();
            poll.push(channel.as_fd(), true, false);
            poll.wait(Some(Duration::from_secs(20)), &SigSet::empty()).unwrap();
            let mut packet = [0; MAX_PACKET];
            let Received::Packet { len, .. } = channel.receive(&mut packet).unwrap() else {
                panic!("no packet; so far {packets:?}")
            };
            packets.push(packet[..len].to_vec());
            if matches!(Report::read(&packet[..len]), Some(Report::Ended { session: of, .. }) if of == session(serial))
            {
                return packets;
            }
        }
    }

    #[test]
    fn lines_come_with_their_session_and_end() {
        let (channel, collector) = started();
        let (reading, writing) = fd::pipe().unwrap();
        collect(&channel, 7, Some(&reading));
        File::from(writing).write_all(b"one\ntwo").unwrap();
        let packets = reports(&channel, 7);
        let reports: Vec<_> = packets.iter().map(|packet| Report::read(packet).unwrap()).collect();
        let line = |bytes| Report::Line { session: session(7), dropped: 0, bytes };
        assert_eq!(reports, [line(b"one"), line(b"two"), Report::Ended { session: session(7), dropped: 0 }]);
        drop(channel);
        collector.join().unwrap().unwrap();
    }

    #[test]
    fn a_pipe_that_did_not_arrive_has_ended() {
        let (channel, collector) = started();
        collect(&channel, 7, None);
        assert_eq!(reports(&channel, 7).len(), 1);
        drop(channel);
        collector.join().unwrap().unwrap();
    }

    #[test]
    fn a_supervisor_that_does_not_read_holds_nobody() {
        let (channel, collector) = started();
        let streams = 500;
        for serial in 1..=streams {
            let (reading, writing) = fd::pipe().unwrap();
            collect_patiently(&channel, serial, &reading);
            let text = "a line that fills the channel bit by bit\n".repeat(30);
            File::from(writing).write_all(text.as_bytes()).unwrap();
        }
        let (mut lines, mut dropped, mut ended) = (0, 0, 0);
        while ended < streams {
            let mut packet = [0; MAX_PACKET];
            let Received::Packet { len, .. } = channel.receive(&mut packet).unwrap() else {
                thread::yield_now();
                continue;
            };
            match Report::read(&packet[..len]).unwrap() {
                Report::Line { dropped: before, .. } => (lines, dropped) = (lines + 1, dropped + before),
                Report::Ended { dropped: last, .. } => (ended, dropped) = (ended + 1, dropped + last),
                Report::Ready => {}
            }
        }
        assert_eq!(lines + dropped, streams * 30, "each line came or is counted");
        assert!(lines < streams * 20, "the channel was full");
        drop(channel);
        collector.join().unwrap().unwrap();
    }

    fn collect_patiently(channel: &Channel, serial: u64, pipe: &OwnedFd) {
        let mut packet = Vec::new();
        Order::Collect { session: session(serial) }.push(&mut packet);
        while channel.send(&packet, &[pipe.as_fd()]).is_err() {
            thread::yield_now();
        }
    }

    #[test]
    fn what_makes_no_sense_ends_them() {
        let (channel, collector) = started();
        channel.send(b"X", &[]).unwrap();
        assert_eq!(collector.join().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
