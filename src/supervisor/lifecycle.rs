//! The life of a session after its admission: process, program, deadlines, end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::settings::{Level, Timeouts};
use crate::model::address::Source;
use crate::protocol::step::Step;
use crate::service::admission::ServiceKey;
use crate::service::reason::Reason;
use crate::service::record::{Event, ExitStatus, Record};
use crate::sys::process::{self, Ended, Status};

use super::Supervisor;
use super::sessions::{Phase, ProcessOwner, SessionKey};
use super::timers::Due;

/// A failure of the same kind has no second line before.
pub(super) const A_MINUTE: Duration = Duration::from_mins(1);

impl Supervisor {
    /// The launcher has made the child. superd's copies of its descriptors close, so that the client sees the
    /// end of the program as the end of the connection.
    pub(super) fn session_has_process(&mut self, key: SessionKey, pid: i32) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.pid = pid;
        if session.settings.timeouts.drain.is_none() {
            session.connection = None;
        }
        session.stderr = None;
        let is_ended = session.cause.is_some();
        self.sessions.own(pid, ProcessOwner::Session(key));
        if is_ended {
            // superd has ended it meanwhile.
            process::signal_child(pid, Signal::SIGTERM);
        }
    }

    /// The program runs.
    pub(super) fn session_runs(&mut self, key: SessionKey) {
        self.launch_is_over(key);
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.phase = Phase::Running;
        session.since = self.now;
        if let Some(life) = session.settings.timeouts.session.filter(|_| session.timer.is_none()) {
            session.timer = Some(self.timers.set(self.now + life, Due::SessionTimeout(key)));
        }
        if let Some(service) = self.services.get_mut(session.service) {
            service.started += 1;
        }
        self.resources_are_back();
        self.log_start(key);
        self.finish_if_over(key);
    }

    /// The launch has failed. What only lacks resources is tried again; anything else ends the session.
    pub(super) fn session_launch_failed(&mut self, key: SessionKey, step: Option<Step>, errno: i32) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        let lacks = matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE);
        if session.pid == 0 && lacks && session.connection.is_some() {
            session.phase = Phase::Queued;
            self.launches.enqueue_again(key);
            return self.resources_are_out(errno);
        }
        self.launch_is_over(key);
        self.log_launch_failed(key, step, errno);
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.phase = Phase::Failed;
        if session.pid == 0 {
            self.remove_session(key);
        } else {
            self.finish_if_over(key);
        }
    }

    /// Gives back the service's place among launches in flight.
    fn launch_is_over(&mut self, key: SessionKey) {
        let Some(service) = self.sessions.table.get(key).map(|s| s.service) else { return };
        if let Some(running) = self.services.get_mut(service) {
            running.in_flight = running.in_flight.saturating_sub(1);
        }
        self.touched.push(service);
    }

    /// A session that was admitted and can't be launched: nothing was started for it.
    pub(super) fn abandon_session(&mut self, key: SessionKey, reason: Reason) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        let (service, client, source) = (session.service, session.client, session.source);
        let connection: Option<OwnedFd> = session.connection.take();
        self.handlers.waiting.retain(|waiting| *waiting != key);
        if let Some(pool) = self.services.get_mut(service).and_then(|service| service.pool.as_mut()) {
            pool.waiting.retain(|waiting| *waiting != key);
        }
        if let (Some(connection), Some(client), Some(source)) = (connection, client, source) {
            // If it came through tcpmux, that has said its word.
            self.refuse(service, connection, client, source, reason, false);
        }
        self.remove_session(key);
    }

    /// Reaps every child that has ended.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = process::reap() {
            if self.sessions.owner(ended.pid).is_none() {
                self.adopt_early(ended.pid);
            }
            match self.sessions.disown(ended.pid) {
                Some(ProcessOwner::Session(key)) => self.session_process_ended(key, ended),
                Some(ProcessOwner::Command) => self.command_ended(ended.pid),
                Some(ProcessOwner::Worker(key)) => self.worker_ended(key, ended),
                Some(ProcessOwner::Role(kind)) => self.role_ended(kind, ended),
                Some(ProcessOwner::Launcher) => self.launcher_ended(),
                None => self.stranger_ended(),
            }
        }
    }

    fn session_process_ended(&mut self, key: SessionKey, ended: Ended) {
        if let Some(session) = self.sessions.table.get_mut(key) {
            session.ended = Some(ended);
        }
        self.finish_if_over(key);
    }

    /// As pid 1, or with a child that somebody else left behind.
    fn stranger_ended(&mut self) {
        self.strangers += 1;
        if self.strangers == 1 && !self.is_init {
            self.note(
                Level::Notice,
                "a process that superd has not started was reaped; more are only counted",
            );
        }
    }

    /// Ends a session whose process is reaped and whose launch is over.
    fn finish_if_over(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get(key) else { return };
        match (session.phase, session.ended) {
            (Phase::Running, Some(ended)) => {
                self.log_end(key, ended);
                self.judge_end(key, ended);
            }
            (Phase::Failed, Some(_)) => {}
            _ => return,
        }
        self.remove_session(key);
    }

    /// Takes a session out of the table, and gives its limits back.
    pub(super) fn remove_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.remove(key) else { return };
        if let Some(timer) = session.timer {
            self.timers.cancel(timer);
        }
        if session.is_launched()
            && matches!(session.phase, Phase::Queued | Phase::Launching(_))
            && let Some(service) = self.services.get_mut(session.service)
        {
            service.in_flight = service.in_flight.saturating_sub(1);
        }
        if let (Some(connection), Some(patience)) = (session.connection, session.settings.timeouts.drain) {
            self.farewells.drain(connection, self.now + patience);
        }
        if let Some(listener) = session.lent {
            self.return_listener(key, listener, session.since);
        }
        self.give_back(session.service, session.source);
    }

    /// Gives back what a connection was counted in.
    pub(super) fn give_back(&mut self, service: ServiceKey, source: Option<Source>) {
        let was_full = self.admission.is_full();
        self.admission.release(service, source);
        self.touched.push(service);
        self.all_touched |= was_full;
        let gone = self.services.get(service).is_some_and(|service| service.is_gone);
        if gone && self.admission.sessions(service) == 0 {
            self.forget_service(service);
        }
    }

    /// Nothing of a service is left: its key may become another one's.
    pub(super) fn forget_service(&mut self, key: ServiceKey) {
        self.services.remove(key);
        self.admission.forget(key);
    }

    /// A session has had its time.
    pub(super) fn session_timeout(&mut self, key: SessionKey) {
        if let Some(session) = self.sessions.table.get_mut(key) {
            session.timer = None;
        }
        self.end_session(key, "timeout");
    }

    /// Asks a session's program to end, and sets the time after which it is killed.
    pub(super) fn end_session(&mut self, key: SessionKey, cause: &'static str) {
        let now = self.now;
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.cause.get_or_insert(cause);
        let Timeouts { kill_after, .. } = session.settings.timeouts;
        if let Some(timer) = session.timer.take() {
            self.timers.cancel(timer);
        }
        if session.phase == Phase::Queued {
            return self.abandon_session(key, Reason::Shutdown);
        }
        if session.worker.is_some() {
            session.timer = Some(self.timers.set(now + kill_after, Due::SessionKill(key)));
            return self.end_worker_session(key);
        }
        if session.pid != 0 && session.ended.is_none() {
            process::signal_child(session.pid, Signal::SIGTERM);
        }
        session.timer = Some(self.timers.set(now + kill_after, Due::SessionKill(key)));
    }

    /// The program did not heed TERM.
    pub(super) fn kill_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get_mut(key) else { return };
        session.timer = None;
        if session.worker.is_some() {
            self.kill_worker_session(key);
        } else if session.pid != 0 && session.ended.is_none() {
            process::signal_child(session.pid, Signal::SIGKILL);
        } else if session.pid == 0 {
            // It waits for a launcher that does not answer. What that one has not made is not asked for again.
            self.give_up_launcher();
        }
    }

    /// The name under which a session is spoken of.
    pub(super) fn service_name_of(&self, key: SessionKey) -> String {
        self.sessions.table.get(key).map_or_else(|| "a service".to_owned(), |s| s.settings.name.to_string())
    }

    pub(super) fn log_start(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.table.get(key) else { return };
        if !session.settings.log.success {
            return;
        }
        let (session_id, client, local, pid) =
            (session.id, session.client, session.local, session.shown_pid());
        let event = Event::Start { session: session_id, client, local, pid };
        let settings = Rc::clone(&session.settings);
        self.log_session(&settings, event);
    }

    fn log_end(&mut self, key: SessionKey, ended: Ended) {
        let Some(session) = self.sessions.table.get(key) else { return };
        if !session.settings.log.success {
            return;
        }
        let event = Event::End {
            session: session.id,
            client: session.client,
            pid: session.shown_pid(),
            status: Some(match ended.status {
                Status::Code(code) => ExitStatus::Code(code),
                Status::Signal(signal) => ExitStatus::Signal(signal),
            }),
            duration: self.now.saturating_duration_since(session.since),
            cpu: Some(ended.cpu),
            bytes: None,
            cause: session.cause,
        };
        let settings = Rc::clone(&session.settings);
        self.log_session(&settings, event);
    }

    /// A client can make a program that is missing fail again and again: only the first failure of its kind in
    /// a minute has a line of its own, the others are refusals.
    fn log_launch_failed(&mut self, key: SessionKey, step: Option<Step>, errno: i32) {
        let Some(session) = self.sessions.table.get(key) else { return };
        let (id, client, source) = (session.id, session.client, session.source);
        let key_of_service = session.service;
        let settings = Rc::clone(&session.settings);
        let now = self.now;
        if let Some(service) = self.services.get_mut(key_of_service) {
            service.launch_failed += 1;
            service.count_refusal(Reason::Launch);
            let failure = (step, errno);
            let again =
                service.last_failure.is_some_and(|(at, which)| which == failure && now < at + A_MINUTE);
            if again {
                if let (Some(client), Some(source)) = (client, source) {
                    self.log_refusal(key_of_service, client, source, Reason::Launch);
                }
                return;
            }
            service.last_failure = Some((now, failure));
        }
        let error = process::errno_name(errno);
        let program = settings.program().map_or(Path::new(""), |program| &program.path).to_string_lossy();
        let step = step.map_or("start", Step::words);
        let event = Event::LaunchFailed { session: id, client, step, error: &error, program: &program };
        let facility = settings.log.facility;
        self.log.write(&Record { facility, ..Record::about(settings.name.as_str(), event) });
    }
}
