//! Deadlines: what is to happen when, with cancelling, so that the table holds what is really awaited.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::service::admission::ServiceKey;

use super::sessions::SessionKey;
use super::workers::WorkerKey;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A session has had its time: TERM.
    SessionTimeout(SessionKey),
    /// A session did not heed TERM: KILL.
    SessionKill(SessionKey),
    /// A degraded service tries again to bind what is missing.
    BindAgain(ServiceKey),
    /// A service has long enough not been full to say so.
    SayResumed(ServiceKey),
    /// The launcher is started again.
    StartLauncher,
    /// The loader has had its time.
    LoaderTimeout,
    /// Accepting is tried again after resources were exhausted.
    AcceptAgain,
    /// Resources have not been out for long enough to say so.
    SpellOver,
    /// A listener that goes away has been open long enough for handshakes that were under way.
    CloseRetired(usize),
    /// A listener whose server ended without serving has rested.
    LendAgain(super::listeners::ListenerKey),
    /// The rate or the load of a service may leave room again.
    Room(ServiceKey),
    /// Hours begin or end, or bans have changed: the filters of datagrams follow.
    DatagramRules,
    /// The bans are written to their file.
    KeepBans,
    /// The log file gets another writer.
    AttachWriter,
    /// A worker had its time to take a connection.
    TakeLate(SessionKey),
    /// A connection whose workers have ended is handed over once more.
    GiveAgain(SessionKey),
    /// A worker had its time to get ready, or to end.
    WorkerLate(WorkerKey),
    /// A worker had nothing to do for as long as it may.
    WorkerIdle(WorkerKey),
    /// A worker that retires had its time to end by itself.
    WorkerDismissed(WorkerKey),
    /// A pool whose workers failed tries again.
    StartWorkers(ServiceKey),
    /// A command beside a session had its time.
    CommandLate(i32),
    /// The resolver had its time to answer a question.
    AnswerLate(u64),
    /// The resolver is started again.
    StartResolver,
    /// The handlers are started again.
    StartHandlers,
    /// The collector is started again.
    StartCollector,
    /// Watched files have settled after a change.
    ListsSettled,
    /// A minute of the clock is over: hours may have ended.
    Minute,
    /// The next stage of the shutdown.
    Shutdown,
}

/// A deadline that can be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Instant, u64);

/// All deadlines.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeMap<TimerId, Due>,
    serial: u64,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, due: Due) -> TimerId {
        self.serial += 1;
        let id = TimerId(at, self.serial);
        self.queue.insert(id, due);
        id
    }

    pub(super) fn cancel(&mut self, id: TimerId) {
        self.queue.remove(&id);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(id, _)| id.0)
    }

    /// Takes one deadline that is over.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let first = self.queue.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_can_be_cancelled() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut timers = Timers::default();
        timers.set(at(2), Due::LoaderTimeout);
        let cancelled = timers.set(at(1), Due::StartLauncher);
        timers.set(at(1), Due::AcceptAgain);
        timers.cancel(cancelled);
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take_due(start), None);
        assert_eq!(timers.take_due(at(5)), Some(Due::AcceptAgain));
        assert_eq!(timers.take_due(at(5)), Some(Due::LoaderTimeout));
        assert_eq!((timers.take_due(at(5)), timers.next()), (None, None));
    }
}
