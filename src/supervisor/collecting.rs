//! Standard errors of programs on their way into the log: pipes to the collector, lines back from them.
//!
//! The supervisor reads no pipe itself. A collector that was given pipes lives until the last of these has ended,
//! also when a reload wants them no more, or under another user: a pipe without a reader would end its program
//! by SIGPIPE. While there is no collector, programs are started with /dev/null.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings::{self, Level, Stderr};
use crate::model::identity::Identity;
use crate::model::session::SessionId;
use crate::protocol::collect::{MAX_PACKET, Order, Report};
use crate::service::backoff::Backoff;
use crate::service::record::Event;
use crate::sys::channel::{Channel, Received};
use crate::sys::fd;

use super::Supervisor;
use super::roles::RoleKind;
use super::timers::{Due, TimerId};

/// Packets of one process that a turn takes, so that programs that write much hold up nobody.
const BATCH: usize = 64;

/// Descriptors that a collector needs besides pipes.
const SPARE: u64 = 32;

/// A collector that lived for so long did not fail at its start.
const SETTLED: Duration = Duration::from_mins(1);

/// One collector, by its number.
pub(super) type CollectorId = u64;

/// All collectors: the one that gets pipes, and those that only go on with what they have.
#[derive(Debug)]
pub(super) struct Collecting {
    all: BTreeMap<CollectorId, Collector>,
    /// The one that gets pipes.
    current: Option<CollectorId>,
    serial: CollectorId,
    backoff: Backoff,
    start_again: Option<(TimerId, Instant)>,
    /// It was said that standard errors are lost.
    said_lost: bool,
}

#[derive(Debug)]
struct Collector {
    channel: Channel,
    /// Whom it runs as.
    identity: Option<Identity>,
    since: Instant,
    /// It may be given pipes. After a failure it has to say first that it is there; at the first start
    /// nobody waits for that, and nothing is lost.
    trusted: bool,
    /// Pipes that have not ended, with what says how their lines are logged. A session may be over by then.
    pipes: HashMap<SessionId, Rc<settings::Service>>,
}

impl Default for Collecting {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            current: None,
            serial: 0,
            backoff: fresh_backoff(),
            start_again: None,
            said_lost: false,
        }
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(30))
}

impl Collecting {
    /// What to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, CollectorId)> {
        self.all.iter().map(|(&id, collector)| (collector.channel.as_fd(), id))
    }

    /// May lines still come?
    pub(super) fn is_busy(&self) -> bool {
        self.all.values().any(|collector| !collector.pipes.is_empty())
    }

    /// Are standard errors lost, since there is no collector?
    pub(super) fn is_lost(&self) -> bool {
        self.said_lost
    }

    /// The time of the next try.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.start_again.map(|(_, at)| at)
    }

    /// No session gets this collector any more; it goes when its last pipe has ended.
    fn retire_current(&mut self) {
        if let Some(id) = self.current.take() {
            self.forget_if_idle(id);
        }
    }

    fn forget_if_idle(&mut self, id: CollectorId) {
        if self.current != Some(id) && self.all.get(&id).is_some_and(|collector| collector.pipes.is_empty()) {
            self.all.remove(&id);
        }
    }
}

impl Supervisor {
    /// Has a collector exactly if a service wants one, under the user of the configuration in force.
    pub(super) fn settle_collecting(&mut self) {
        let identity = self.daemon.as_ref().and_then(|daemon| daemon.helper.clone());
        let wanted = self.services.iter().any(|(_, service)| collects(&service.settings));
        let current = self.collecting.current.and_then(|id| self.collecting.all.get(&id));
        if !wanted || current.is_some_and(|collector| collector.identity != identity) {
            self.collecting.retire_current();
        }
        if !wanted {
            if let Some((timer, _)) = self.collecting.start_again.take() {
                self.timers.cancel(timer);
            }
            self.collecting.said_lost = false;
        } else if self.collecting.current.is_none() && self.collecting.start_again.is_none() {
            self.start_collector(identity);
        }
    }

    /// The wait after a failure is over.
    pub(super) fn start_collector_again(&mut self) {
        self.collecting.start_again = None;
        self.settle_collecting();
    }

    fn start_collector(&mut self, identity: Option<Identity>) {
        let Ok(channel) = self.start_role(RoleKind::Collector) else { return self.start_collector_later() };
        let collecting = &mut self.collecting;
        collecting.serial += 1;
        let trusted = !collecting.said_lost;
        let collector = Collector { channel, identity, since: self.now, trusted, pipes: HashMap::new() };
        collecting.all.insert(collecting.serial, collector);
        collecting.current = Some(collecting.serial);
    }

    fn start_collector_later(&mut self) {
        let at = self.now + self.collecting.backoff.wait();
        self.collecting.start_again = Some((self.timers.set(at, Due::StartCollector), at));
        self.say_collector_lost();
    }

    /// Makes the pipe of a session whose standard error is collected: the writing end, or none where nobody
    /// reads. An error: there is no descriptor for it.
    pub(super) fn collect_stderr(
        &mut self,
        session: SessionId,
        settings: &Rc<settings::Service>,
    ) -> io::Result<Option<OwnedFd>> {
        // A collector has superd's own limit of descriptors.
        let room = self.nofile.hard.saturating_sub(SPARE);
        let current = self.collecting.current.and_then(|id| self.collecting.all.get_mut(&id));
        let full = |collector: &&mut Collector| u64::try_from(collector.pipes.len()).is_ok_and(|n| n >= room);
        let Some(collector) = current.filter(|collector| collector.trusted && !full(collector)) else {
            return Ok(None);
        };
        let (reading, writing) = fd::pipe()?;
        let mut packet = Vec::new();
        Order::Collect { session }.push(&mut packet);
        // A channel that is full or broken leaves the program without its standard error, and nothing else.
        if collector.channel.send(&packet, &[reading.as_fd()]).is_err() {
            return Ok(None);
        }
        collector.pipes.insert(session, Rc::clone(settings));
        Ok(Some(writing))
    }

    /// Takes a bounded number of packets from a collector.
    pub(super) fn on_collector(&mut self, id: CollectorId) {
        let mut packet = [0; MAX_PACKET];
        for _ in 0..BATCH {
            let Some(collector) = self.collecting.all.get(&id) else { return };
            let report = match collector.channel.receive(&mut packet) {
                Ok(Received::Packet { len, .. }) => Report::read(packet.get(..len).unwrap_or_default()),
                Ok(Received::Empty) => return,
                Ok(Received::Closed) | Err(_) => return self.lose_collector(id),
            };
            if report.is_none_or(|report| !self.on_report(id, report)) {
                self.note(Level::Err, "the collector has sent what makes no sense: it is ended");
                self.kill_role(RoleKind::Collector);
                return self.lose_collector(id);
            }
        }
    }

    /// `false`: it is about a session that this collector does not have.
    fn on_report(&mut self, id: CollectorId, report: Report<'_>) -> bool {
        let Some(collector) = self.collecting.all.get_mut(&id) else { return false };
        match report {
            Report::Ready => {
                collector.trusted = true;
                if std::mem::take(&mut self.collecting.said_lost) {
                    self.log_state(None, "online", Some("collector"), Level::Notice);
                }
                true
            }
            Report::Line { session, dropped, bytes } => {
                let Some(settings) = collector.pipes.get(&session).map(Rc::clone) else { return false };
                self.log_session(&settings, Event::Stderr { session, line: bytes, dropped });
                true
            }
            Report::Ended { session, dropped } => {
                let Some(settings) = collector.pipes.remove(&session) else { return false };
                if dropped > 0 {
                    self.log_session(&settings, Event::Stderr { session, line: b"", dropped });
                }
                self.collecting.forget_if_idle(id);
                true
            }
        }
    }

    /// A collector is gone, and the pipes that it had with it.
    fn lose_collector(&mut self, id: CollectorId) {
        let Some(lost) = self.collecting.all.remove(&id) else { return };
        if self.collecting.current != Some(id) {
            return;
        }
        self.collecting.current = None;
        if self.now >= lost.since + SETTLED {
            self.collecting.backoff = fresh_backoff();
        }
        self.start_collector_later();
    }

    fn say_collector_lost(&mut self) {
        if !std::mem::replace(&mut self.collecting.said_lost, true) {
            self.log_state(None, "degraded", Some("collector"), Level::Warning);
            let text = "standard errors that go to the log are lost until the collector is back";
            self.note(Level::Warning, text);
        }
    }
}

/// Does this service's standard error go to the log?
pub(super) fn collects(settings: &settings::Service) -> bool {
    settings.enabled && settings.program().is_some_and(|program| program.stderr == Stderr::Log)
}
