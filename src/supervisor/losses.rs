//! Workers that hang, make no sense or are gone, and what becomes of the connections that they had.
//!
//! What a worker has taken ends with it. What it was handed and has not taken goes to another one.

use std::time::Duration;

use crate::config::settings::Level;
use crate::service::reason::Reason;

use super::Supervisor;
use super::sessions::{Phase, SessionKey};
use super::timers::Due;
use super::workers::{WorkerKey, WorkerKind};

/// Workers that may end before they take a connection. One that kills whoever gets it must not have them all.
const MOST_LOST: u32 = 3;

/// Before the last of them: where somebody has killed all workers at once, their ends are known by then.
const PAUSE: Duration = Duration::from_millis(100);

impl Supervisor {
    /// It has said what makes no sense.
    pub(super) fn expel_worker(&mut self, key: WorkerKey) {
        let name = self.worker_name(key);
        self.note(Level::Err, &format!("{name} has said what makes no sense: it is killed"));
        self.kill_worker(key);
        self.lose_worker(key);
    }

    /// It has not taken what it was handed: it hangs. Or there was no worker for so long, after one has ended.
    pub(super) fn take_is_late(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.timer = None;
        if session.phase == Phase::Queued {
            return self.abandon_session(key, Reason::Launch);
        }
        let Some(worker) = session.worker.filter(|_| session.phase == Phase::Handed) else { return };
        let name = self.worker_name(worker);
        self.note(Level::Err, &format!("{name} does not take its connections: it is killed"));
        self.kill_worker(worker);
        self.lose_worker(worker);
    }

    /// The channel is closed. What was taken ends; what was not goes to another worker.
    pub(super) fn lose_worker(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        let Some(_channel) = worker.channel.take() else { return };
        let mut held: Vec<(u64, SessionKey)> = worker.held.drain().collect();
        held.sort_unstable();
        let mut untaken = Vec::new();
        for (_, session) in held {
            if self.sessions.table.get(session).is_some_and(|session| session.phase == Phase::Handed) {
                untaken.push(session);
            } else {
                if let Some(session) = self.sessions.table.get_mut(session) {
                    session.cause.get_or_insert("handler-lost");
                }
                self.end_handed(session, None, None);
            }
        }
        for &session in &untaken {
            self.take_back_session(session);
        }
        if let Some(WorkerKind::Handlers) = self.workers.get(key).map(|worker| &worker.kind) {
            return self.handlers_are_lost(key, untaken);
        }
        for session in untaken {
            self.give_again(session);
        }
        self.worker_is_lost(key);
    }

    /// Its worker has ended before it took it.
    fn give_again(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.lost_workers += 1;
        if session.lost_workers >= MOST_LOST {
            return self.abandon_session(key, Reason::Launch);
        }
        if session.lost_workers > 1 {
            session.timer = Some(self.timers.set(now + PAUSE, Due::GiveAgain(key)));
            return;
        }
        self.give_at_last(key);
    }

    /// Hands it over once more; it waits for so long as a worker may take for it.
    pub(super) fn give_at_last(&mut self, key: SessionKey) {
        let now = self.now;
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        let late = now + session.settings.timeouts.handshake;
        session.timer = Some(self.timers.set(late, Due::TakeLate(key)));
        self.give(key);
    }

    fn take_back_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.phase = Phase::Queued;
        session.worker = None;
        if let Some(timer) = session.timer.take() {
            self.timers.cancel(timer);
        }
    }
}
