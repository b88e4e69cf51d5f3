//! The life of one worker of a pool: asked for, started, retired, ended.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::settings::{self, Level, Stderr};
use crate::model::session::SessionId;
use crate::protocol::handoff::Order;
use crate::protocol::step::Step;
use crate::service::admission::ServiceKey;
use crate::service::pool;
use crate::service::reason::Reason;
use crate::service::record::{Event, Record};
use crate::sys::process::{self, Ended, Status};

use super::Supervisor;
use super::handover;
use super::launches::Job;
use super::lifecycle::A_MINUTE;
use super::pools::Generation;
use super::sessions::ProcessOwner;
use super::timers::Due;
use super::workers::{Worker, WorkerKey, WorkerKind, WorkerPhase};

/// How long a worker may take to get ready.
const READY: Duration = Duration::from_secs(30);

/// A worker that accepts by itself and has lived so long without a word is taken for ready: not every server
/// knows `sd_notify(3)`.
const SILENT: Duration = Duration::from_secs(3);

/// When superd ends, or it has closed its channel: how long a worker that has nothing left may take to end.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// One that lived so long has worked, whatever it did.
pub(super) const SHORT: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Asks for a worker. `false`: there are no descriptors for it.
    pub(super) fn start_worker(&mut self, service: ServiceKey, generation: &Generation) -> bool {
        let sockets = match self.sockets_of_worker(service, generation) {
            Ok(sockets) => sockets,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotConnected {
                    self.resources_are_out(error.raw_os_error().unwrap_or(libc::EMFILE));
                }
                return false;
            }
        };
        let (channel, theirs) = sockets;
        self.serial += 1;
        let id = SessionId { epoch: self.epoch, serial: self.serial };
        let settings = Rc::clone(&generation.settings);
        let collects = generation.pool().is_some_and(|pool| pool.program.stderr == Stderr::Log);
        let stderr = if collects { self.collect_stderr(id, &settings).unwrap_or(None) } else { None };
        let kind =
            WorkerKind::Pool { service, generation: generation.number, settings, plan: generation.plan };
        let lifetime = generation.pool().and_then(|pool| pool::lifetime(pool, self.serial));
        let worker = Worker { stderr, lifetime, ..Worker::new(kind, id, channel, self.now) };
        let key = self.workers.table.insert(worker);
        self.launches.enqueue(Job::Worker(key, theirs));
        self.send_launches();
        true
    }

    /// The launcher has made it.
    pub(super) fn worker_has_process(&mut self, key: WorkerKey, pid: i32) {
        self.sessions.own(pid, ProcessOwner::Worker(key));
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.pid = pid;
        worker.stderr = None;
        if worker.phase == WorkerPhase::Retiring {
            self.terminate_worker(key);
        }
    }

    /// Its program runs.
    pub(super) fn worker_runs(&mut self, key: WorkerKey) {
        let now = self.now;
        self.resources_are_back();
        let Some(worker) = self.workers.get_mut(key).filter(|w| w.phase == WorkerPhase::Launching) else {
            return;
        };
        worker.phase = WorkerPhase::Starting;
        let patience = if worker.channel.is_some() { READY } else { SILENT };
        worker.timer = Some(self.timers.set(now + patience, Due::WorkerLate(key)));
    }

    /// It could not be launched.
    pub(super) fn worker_launch_failed(&mut self, key: WorkerKey, step: Option<Step>, errno: i32) {
        let Some(worker) = self.workers.get(key) else { return };
        let WorkerKind::Pool { service, generation, settings, .. } = worker.kind.clone() else { return };
        let (pid, worker_id) = (worker.pid, worker.id);
        let lacks = matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE);
        if lacks {
            self.resources_are_out(errno);
        } else {
            self.log_failed_worker(service, worker_id, &settings, (step, errno));
        }
        if let Some(service) = self.services.get_mut(service) {
            service.launch_failed += 1;
        }
        if pid == 0 {
            self.remove_worker(key);
        } else if let Some(worker) = self.workers.get_mut(key) {
            worker.phase = WorkerPhase::Retiring;
        }
        self.pool_has_failed(service, generation);
    }

    /// The same failure has one line a minute.
    fn log_failed_worker(
        &mut self,
        service: ServiceKey,
        session: SessionId,
        settings: &settings::Service,
        failure: (Option<Step>, i32),
    ) {
        let Some(service) = self.services.get_mut(service) else { return };
        let now = self.now;
        if service.last_failure.is_some_and(|(at, which)| which == failure && now < at + A_MINUTE) {
            return;
        }
        service.last_failure = Some((now, failure));
        let program = settings.program().map(|program| program.path.to_string_lossy()).unwrap_or_default();
        let (step, error) = (failure.0.map_or("start", Step::words), process::errno_name(failure.1));
        let event = Event::LaunchFailed { session, client: None, step, error: &error, program: &program };
        let facility = settings.log.facility;
        self.log.write(&Record { facility, ..Record::about(settings.name.as_str(), event) });
    }

    /// Its launch was not asked for any more.
    pub(super) fn forget_worker(&mut self, key: WorkerKey) {
        if self.workers.get(key).is_some_and(|worker| worker.pid == 0) {
            self.remove_worker(key);
        }
    }

    /// It has not said in time that it is ready.
    pub(super) fn worker_is_late(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.timer = None;
        match worker.phase {
            WorkerPhase::Starting if worker.channel.is_none() => self.worker_is_ready(key),
            WorkerPhase::Starting => {
                let name = self.worker_name(key);
                let text = format!("{name} has not said READY for {} s: it is killed", READY.as_secs());
                self.note(Level::Err, &text);
                self.kill_worker(key);
            }
            WorkerPhase::Retiring => self.kill_worker(key),
            WorkerPhase::Launching | WorkerPhase::Ready => {}
        }
    }

    /// Its phase, if it was starting; gives its service and generation.
    pub(super) fn mark_ready(&mut self, key: WorkerKey) -> Option<(ServiceKey, u64)> {
        let now = self.now;
        let worker = self.workers.get_mut(key)?;
        if !matches!(worker.phase, WorkerPhase::Launching | WorkerPhase::Starting) {
            return None;
        }
        worker.phase = WorkerPhase::Ready;
        worker.since = now;
        worker.was_ready = true;
        if let Some(timer) = worker.timer.take() {
            self.timers.cancel(timer);
        }
        match worker.kind {
            WorkerKind::Pool { service, generation, .. } => Some((service, generation)),
            WorkerKind::Handlers => {
                self.handlers_are_ready();
                None
            }
        }
    }

    /// Workers say by READY=1 on their `NOTIFY_SOCKET` that they are ready.
    pub(super) fn on_readiness(&mut self) {
        // Whoever else may send here costs no more than that.
        for _ in 0..64 {
            let Some((pid, message)) = self.readiness.receive() else { return };
            if self.sessions.owner(pid).is_none() {
                self.adopt_early(pid);
            }
            if let Some(ProcessOwner::Worker(key)) = self.sessions.owner(pid)
                && message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                self.worker_is_ready(key);
            }
        }
    }

    /// It gets nothing more; what it has it may finish.
    pub(super) fn retire_worker(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        if worker.phase == WorkerPhase::Retiring {
            return;
        }
        if worker.pid == 0 && self.launches.withdraw_worker(key) {
            return self.remove_worker(key);
        }
        worker.phase = WorkerPhase::Retiring;
        worker.dismissed = true;
        if let Some(timer) = worker.timer.take() {
            self.timers.cancel(timer);
        }
        match &worker.channel {
            // A channel that is full has a worker that does not read: it is dismissed by TERM.
            Some(channel) => drop(handover::send(channel, &Order::Drain)),
            None => return self.terminate_worker(key),
        }
        if worker.held.is_empty() {
            self.dismiss_worker(key);
        }
    }

    /// A retired worker has nothing left: it ends by itself, or is made to.
    pub(super) fn dismiss_worker(&mut self, key: WorkerKey) {
        let ending = self.is_ending();
        let Some(worker) = self.workers.get_mut(key) else { return };
        if worker.timer.is_none() {
            let is_urgent = ending || worker.channel.is_none();
            let patience = kill_after(worker).min(if is_urgent { LAST_GRACE } else { Duration::MAX });
            worker.timer = Some(self.timers.set(self.now + patience, Due::WorkerDismissed(key)));
        }
    }

    /// It has not ended by itself.
    pub(super) fn dismissal_is_over(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.get_mut(key) {
            worker.timer = None;
        }
        self.terminate_worker(key);
    }

    /// TERM, and KILL after a while; one that accepts by itself may serve its clients to the session's limit.
    pub(super) fn terminate_worker(&mut self, key: WorkerKey) {
        let (ending, in_grace) = (self.is_ending(), self.is_in_grace());
        let Some(worker) = self.workers.get_mut(key) else { return };
        if worker.pid == 0 {
            return;
        }
        process::signal_child(worker.pid, Signal::SIGTERM);
        let patience = match &worker.kind {
            // It is asked once more when the grace is over.
            WorkerKind::Pool { .. } if worker.accepts() && in_grace => None,
            WorkerKind::Pool { settings, .. } if worker.accepts() && !ending => {
                settings.timeouts.session.map(|session| session + settings.timeouts.kill_after)
            }
            _ => Some(kill_after(worker)),
        };
        if worker.timer.is_none()
            && let Some(patience) = patience
        {
            worker.timer = Some(self.timers.set(self.now + patience, Due::WorkerLate(key)));
        }
    }

    /// superd ends: no worker gets anything more.
    pub(super) fn retire_all_workers(&mut self) {
        for key in self.services.keys() {
            let pool = self.services.get_mut(key).and_then(|service| service.pool.as_mut());
            for session in pool.map(|pool| std::mem::take(&mut pool.waiting)).unwrap_or_default() {
                self.abandon_session(session, Reason::Shutdown);
            }
        }
        for key in self.workers.keys_of_pools() {
            self.retire_worker(key);
        }
    }

    /// superd's grace is over.
    pub(super) fn terminate_workers(&mut self) {
        for key in self.workers.keys_of_pools() {
            self.terminate_worker(key);
        }
    }

    /// Its channel is closed: it can't be handed anything, and has to end.
    pub(super) fn worker_is_lost(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.phase = WorkerPhase::Retiring;
        if let Some(timer) = worker.timer.take() {
            self.timers.cancel(timer);
        }
        self.dismiss_worker(key);
        if let Some(WorkerKind::Pool { service, .. }) = self.workers.get(key).map(|worker| &worker.kind) {
            let service = *service;
            self.give_waiting(service);
            self.touched.push(service);
        }
    }

    /// It is reaped.
    pub(super) fn worker_ended(&mut self, key: WorkerKey, ended: Ended) {
        self.hear_last_words(key);
        self.lose_worker(key);
        self.end_worker_launch(key);
        let Some(worker) = self.workers.get(key) else { return };
        let WorkerKind::Pool { service, generation, settings, .. } = worker.kind.clone() else { return };
        let told = worker.dismissed;
        let short = self.now.saturating_duration_since(worker.started) < SHORT && worker.taken == 0;
        let failed = !told && (short || !worker.was_ready);
        self.remove_worker(key);
        let state = self.services.get_mut(service).and_then(|service| service.pool.as_mut());
        let state = state.filter(|state| state.has(generation));
        let silent = state.as_ref().is_none_or(|state| state.said_degraded);
        if let Some(state) = state.filter(|_| !told) {
            state.restarts += 1;
        }
        let is_known = failed && silent;
        if !told && !is_known {
            let how = match ended.status {
                Status::Code(code) => format!("with status {code}"),
                Status::Signal(number) => format!("by {}", process::signal_name(number)),
            };
            let level = if ended.status == Status::Code(0) { Level::Info } else { Level::Notice };
            self.note(level, &format!("the worker {} of {} ended {how}", ended.pid, settings.name));
        }
        self.check_pool_listeners(service);
        if failed {
            self.pool_has_failed(service, generation);
        } else {
            self.pool_has_worked(service, generation);
        }
        self.settle_pool(service, false);
        self.give_waiting(service);
    }

    fn remove_worker(&mut self, key: WorkerKey) {
        if let Some(worker) = self.workers.table.remove(key)
            && let Some(timer) = worker.timer
        {
            self.timers.cancel(timer);
        }
    }
}

fn kill_after(worker: &Worker) -> Duration {
    match &worker.kind {
        WorkerKind::Pool { settings, .. } => settings.timeouts.kill_after,
        WorkerKind::Handlers => Duration::from_secs(5),
    }
}
