//! The log: takes records during a turn of the loop, and lets their lines leave together at its end.
//!
//! *Invariant:* nothing here waits. A full socket leaves lines in a bounded ring until POLLOUT; a daemon
//! that is gone is looked for again, with a back-off; a file is written by the writer, a process of its own.
//! What finds no room is counted, and said when there is room again. Errors go to the fallback, too, while
//! nobody takes them.

mod fallback;
mod file;
mod ring;
mod sink;
mod stderr;
mod target;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::settings::{self, Level};
use crate::protocol::log::{Style, push_line};
use crate::service::record::Record;
use crate::sys::channel::Channel;
use crate::sys::datagram::Sent;

use fallback::Fallback;
use ring::{Line, Ring};
use sink::Sink;
use target::{Bare, Framer, Target};

pub use target::Start;

/// The first wait for a log daemon that is gone; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The wait where the kernel has no memory for a datagram.
const MEMORY_WAIT: Duration = Duration::from_millis(100);

/// What remains of a line that is too long for the socket: RFC 3164 §4.1's bound.
const CUT_LENGTH: usize = 1024;

/// The log.
#[derive(Debug)]
pub struct Log {
    settings: settings::Log,
    start: Start,
    target: Target,
    sink: Sink,
    link: Link,
    framer: Framer,
    ring: Ring,
    fallback: Fallback,
    writer: Option<Channel>,
    /// What the writer is to be told before the next line.
    order: Option<Vec<u8>>,
    /// The errno that keeps the writer from writing.
    trouble: Option<i32>,
    /// Where a line is rendered.
    line: Vec<u8>,
    /// Dropped lines that no line has told of yet.
    unsaid: u64,
    dropped: u64,
}

/// How the way out was when it was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Open,
    /// Until POLLOUT.
    Full,
    /// Until then, or until a writer is attached; and how long that was to be.
    Gone {
        until: Option<Instant>,
        wait: Duration,
    },
}

impl Log {
    /// A log for these settings. Never fails: where nobody listens yet, lines wait.
    pub fn open(settings: &settings::Log, start: &Start) -> Self {
        let target = Target::choose(settings, start);
        Self {
            sink: Sink::to(&target),
            link: Link::Open,
            framer: Framer::new(),
            ring: Ring::default(),
            fallback: Fallback::new(settings.fallback, start.console.clone()),
            writer: None,
            order: None,
            trouble: None,
            line: Vec::new(),
            unsaid: 0,
            dropped: 0,
            settings: settings.clone(),
            start: start.clone(),
            target,
        }
    }

    /// Takes a record; its line leaves with [`Self::flush`].
    pub fn write(&mut self, record: &Record) {
        if record.level > self.settings.level {
            return;
        }
        let style = Style { format: self.settings.format, client: self.settings.client };
        self.line.clear();
        push_line(&mut self.line, record, style);
        let is_full = self.ring.is_full();
        let nobody_takes_it = is_full || self.trouble.is_some() || matches!(self.link, Link::Gone { .. });
        let in_fallback = nobody_takes_it && record.level <= Level::Err;
        if in_fallback {
            self.fallback.push(&self.settings.tag, &self.line);
        }
        if is_full {
            self.count_dropped(1);
            return;
        }
        let text = std::mem::take(&mut self.line);
        let facility = record.facility.unwrap_or(self.settings.facility);
        let bare = Bare { record: Some(record), level: record.level, facility, text: &text };
        let line = Line { in_fallback, ..self.frame(bare) };
        self.ring.push(line);
        self.line = text;
    }

    /// Sends what waits, as far as it can be sent now: at the end of a turn, and whenever [`Self::interest`]
    /// is ready.
    pub fn flush(&mut self) {
        if !self.is_waiting(Instant::now()) {
            self.drain();
        }
        self.fallback.flush();
    }

    /// What to poll for POLLOUT, because it was full. Whatever poll says of it, [`Self::flush`] is the
    /// answer.
    pub fn interest(&self) -> Option<BorrowedFd<'_>> {
        match self.link {
            Link::Full => self.sink.fd(self.writer.as_ref()),
            Link::Open | Link::Gone { .. } => None,
        }
    }

    /// When to look for the log daemon again; never, if no line waits for it.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Gone { until, .. } if !self.ring.is_empty() => until,
            _ => None,
        }
    }

    /// Looks for the log daemon again, if it is time.
    pub fn on_deadline(&mut self, now: Instant) {
        if self.next_deadline().is_some_and(|until| until <= now) {
            self.drain();
            self.fallback.flush();
        }
    }

    /// Lines that were dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Where lines go, for the admin.
    pub fn target(&self) -> String {
        self.target.to_string()
    }

    /// Takes new settings. Lines that wait for the old target are sent to the new one.
    pub fn reconfigure(&mut self, settings: &settings::Log) {
        self.flush();
        self.settings = settings.clone();
        self.fallback.set_kind(settings.fallback);
        let target = Target::choose(settings, &self.start);
        if target == self.target {
            return;
        }
        self.sink = Sink::to(&target);
        self.order = target.file().map(target::open_order);
        if self.order.is_none() {
            // It would keep the old file open, and its disk busy.
            self.detach_writer();
        }
        self.target = target;
        self.link = Link::Open;
        self.trouble = None;
        self.frame_anew();
    }

    /// Sends what waits, and waits for it: at the end of superd, when there is no loop left to hold.
    pub fn finish(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        loop {
            self.flush();
            let left = end.saturating_duration_since(Instant::now());
            let Some(fd) = self.interest().filter(|_| !left.is_zero()) else { return };
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            if poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout) == Ok(0) {
                return;
            }
        }
    }

    fn is_waiting(&self, now: Instant) -> bool {
        match self.link {
            Link::Gone { until, .. } => until.is_none_or(|until| now < until),
            Link::Open | Link::Full => false,
        }
    }

    fn drain(&mut self) {
        let mut is_fresh = false;
        while self.order.is_some() || !self.ring.is_empty() {
            match self.send() {
                Sent::Some(_) => {
                    self.link = Link::Open;
                    self.say_dropped();
                }
                Sent::Full => {
                    self.link = Link::Full;
                    return;
                }
                Sent::TooLong => self.cut_first(),
                Sent::NoMemory => {
                    let until = Some(Instant::now() + MEMORY_WAIT);
                    self.link = Link::Gone { until, wait: MEMORY_WAIT };
                    return;
                }
                // A daemon that was started again is met at once, and no line is lost.
                Sent::Failed(_) if !is_fresh && self.sink.connect().is_ok() => is_fresh = true,
                Sent::Failed(_) => return self.lose(),
            }
        }
    }

    /// Sends the order, or else some lines.
    fn send(&mut self) -> Sent {
        let writer = self.writer.as_ref();
        let (Sink::Writer, Some(order), Some(channel)) = (&self.sink, &self.order, writer) else {
            return self.sink.send(writer, &mut self.ring);
        };
        let sent = crate::sys::datagram::send(channel.as_fd(), [order.as_slice()].into_iter());
        if matches!(sent, Sent::Some(_)) {
            self.order = None;
        }
        sent
    }

    /// Nobody is there: to be tried again later. What an admin must see goes to the fallback meanwhile.
    fn lose(&mut self) {
        let wait = match self.link {
            Link::Gone { wait, .. } => (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT),
            Link::Open | Link::Full => FIRST_WAIT,
        };
        // A writer comes by itself.
        let until = (!matches!(self.sink, Sink::Writer)).then(|| Instant::now() + wait);
        self.link = Link::Gone { until, wait };
        let graver = self.ring.lines_mut().filter(|line| line.level <= Level::Err && !line.in_fallback);
        for line in graver {
            line.in_fallback = true;
            self.fallback.push(&self.settings.tag, line.text());
        }
    }

    fn count_dropped(&mut self, lines: u64) {
        self.unsaid += lines;
        self.dropped += lines;
    }

    fn say_dropped(&mut self) {
        if self.unsaid > 0 && self.trouble.is_none() && self.ring.has_much_room() {
            let text = format!("dropped {} log lines", self.unsaid);
            self.unsaid = 0;
            self.write(&Record::note(Level::Warning, &text));
        }
    }

    fn cut_first(&mut self) {
        let Some(long) = self.ring.pop() else { return };
        if long.cut {
            return self.count_dropped(1);
        }
        let text = long.text().get(..CUT_LENGTH).unwrap_or(long.text());
        let bare = Bare { record: None, level: long.level, facility: long.facility, text };
        let line = Line { in_fallback: long.in_fallback, cut: true, ..self.frame(bare) };
        self.ring.push_front(line);
    }

    fn frame_anew(&mut self) {
        let mut old = std::mem::take(&mut self.ring);
        while let Some(line) = old.pop() {
            let bare = Bare { record: None, level: line.level, facility: line.facility, text: line.text() };
            let line = Line { in_fallback: line.in_fallback, ..self.frame(bare) };
            self.ring.push(line);
        }
    }

    fn frame(&mut self, bare: Bare) -> Line {
        let mut frame = self.ring.buffer();
        let text = self.framer.push(&mut frame, &self.target, &self.settings, bare);
        let Bare { level, facility, .. } = bare;
        Line { frame, text, level, facility, in_fallback: false, cut: false }
    }
}
