//! What the launcher tells of launches, what is known when it dies, and launches that take too long.

use nix::sys::signal::Signal;

use crate::config::settings::Level;
use crate::protocol::launch::{MAX_PACKET, Malformed, Report, SLOTS, decode_reports};
use crate::protocol::step::Step;
use crate::supervisor::Supervisor;
use crate::supervisor::sessions::{Phase, ProcessOwner};
use crate::supervisor::workers::WorkerKey;
use crate::sys::channel::Received;
use crate::sys::process;

use super::{InFlight, Job, Lateness, Launches};

impl Supervisor {
    /// Takes all that the launcher has to say.
    pub(in crate::supervisor) fn on_launcher(&mut self, readable: bool, writable: bool) {
        if writable {
            self.launches.blocked = false;
        }
        if readable {
            self.take_reports();
        }
        self.send_launches();
    }

    fn take_reports(&mut self) {
        let mut packet = [0; MAX_PACKET];
        loop {
            let Some(channel) = &self.launches.channel else { return };
            let reports = match channel.receive(&mut packet) {
                Ok(Received::Packet { len, .. }) => {
                    packet.get(..len).ok_or(Malformed).and_then(decode_reports)
                }
                Ok(Received::Empty) => return,
                Ok(Received::Closed) | Err(_) => return self.give_up_launcher(),
            };
            let Ok(reports) = reports else { return self.give_up_launcher() };
            for report in reports {
                match report {
                    Report::Started(slot) => self.on_started(slot),
                    Report::Free(slot) => {
                        self.launches.backoff = Launches::fresh_backoff();
                        self.on_free(slot);
                    }
                }
            }
        }
    }

    /// The child of this slot exists: it is known by its pid, and superd's copies are closed.
    fn on_started(&mut self, slot: u16) {
        let pid = self.launches.pid_in(slot);
        let Some(flight) = self.launches.in_flight_mut(slot) else { return };
        if flight.started || pid == 0 {
            return;
        }
        flight.started = true;
        match &mut flight.job {
            &mut Job::Session(key) => self.session_has_process(key, pid),
            Job::Command(_) => {
                self.sessions.own(pid, ProcessOwner::Command);
                self.command_has_process(pid);
            }
            Job::Worker(key, sockets) => {
                let key = *key;
                // Else its end would not close its channel.
                sockets.clear();
                self.worker_has_process(key, pid);
            }
            Job::Role(kind, channel) => {
                let kind = *kind;
                // Else the role's death would not close its channel.
                drop(channel.take());
                self.sessions.own(pid, ProcessOwner::Role(kind));
            }
            Job::Gone => {}
        }
    }

    /// A launch is over, well or not.
    fn on_free(&mut self, slot: u16) {
        self.on_started(slot);
        let (step, errno) = self.launches.outcome_in(slot);
        let Some(flight) = self.launches.release(slot) else { return };
        let late = flight.lateness != Lateness::InTime;
        let errno = if late && errno == 0 { libc::ETIMEDOUT } else { errno };
        match flight.job {
            Job::Session(key) if errno == 0 => self.session_runs(key),
            Job::Session(key) => self.session_launch_failed(key, step, errno),
            Job::Command(_) if errno == 0 => {}
            Job::Command(command) => self.command_failed(&command, flight.started, step, errno),
            Job::Worker(key, _) if errno == 0 => self.worker_runs(key),
            Job::Worker(key, _) => self.worker_launch_failed(key, step, errno),
            Job::Role(kind, _) if errno != 0 => {
                let step = step.map_or("start", Step::words);
                let text =
                    format!("launch of the {} failed at {step}: {}", kind.name(), process::errno_name(errno));
                self.note(Level::Err, &text);
            }
            Job::Role(..) | Job::Gone => {}
        }
    }

    /// A child that has ended before its slot's report came: it is told from strangers by the slot.
    pub(in crate::supervisor) fn adopt_early(&mut self, pid: i32) {
        if let Some(slot) = self.launches.slot_of(pid) {
            self.on_started(slot);
        }
    }

    /// A worker that speaks before the launcher has told of it.
    pub(in crate::supervisor) fn adopt_worker(&mut self, key: WorkerKey) {
        if let Some(slot) = self.launches.slot_of_worker(key) {
            self.on_started(slot);
        }
    }

    /// The process of a worker has ended. Its launch is over, whatever the launcher has told by now: its key is
    /// soon another one's.
    pub(in crate::supervisor) fn end_worker_launch(&mut self, key: WorkerKey) {
        let Some(slot) = self.launches.slot_of_worker(key) else { return };
        let (step, errno) = self.launches.outcome_in(slot);
        let Some(flight) = self.launches.in_flight_mut(slot) else { return };
        flight.job = Job::Gone;
        let late = flight.lateness != Lateness::InTime;
        match if late && errno == 0 { libc::ETIMEDOUT } else { errno } {
            0 => self.worker_runs(key),
            errno => self.worker_launch_failed(key, step, errno),
        }
    }

    /// Nothing more is asked of this launcher: it is gone, makes no sense, or does not answer. Before it has ended
    /// nobody knows what it has made, and nothing may be asked for twice.
    pub(in crate::supervisor) fn give_up_launcher(&mut self) {
        if self.launches.channel.take().is_none() {
            return;
        }
        for pid in self.sessions.processes_of(ProcessOwner::Launcher) {
            process::signal_child(pid, Signal::SIGKILL);
        }
        self.launcher_is_lost();
    }

    /// The launcher has ended. What it has made lives on; the rest is asked for again.
    pub(in crate::supervisor) fn launcher_ended(&mut self) {
        self.give_up_launcher();
        let slots: Vec<u16> = (0..SLOTS).filter_map(|slot| u16::try_from(slot).ok()).collect();
        for slot in slots.into_iter().rev() {
            if self.launches.pid_in(slot) != 0 {
                self.on_free(slot);
            } else if let Some(flight) = self.launches.release(slot) {
                if let Job::Session(key) = flight.job
                    && let Some(session) = self.sessions.table.get_mut(key)
                {
                    session.phase = Phase::Queued;
                }
                self.launches.queue.push_front(flight.job);
            }
        }
        self.start_launcher_later();
    }

    /// Kills launches that have had their time, and names those that can't be killed. Where no child was made, it
    /// is the launcher that does not answer.
    pub(in crate::supervisor) fn kill_late_launches(&mut self) {
        let late = |flight: &InFlight| flight.deadline().is_some_and(|deadline| deadline <= self.now);
        let slots = self.launches.in_flight.iter().zip(0_u16..);
        let slots: Vec<u16> =
            slots.filter(|(f, _)| f.as_ref().is_some_and(late)).map(|(_, slot)| slot).collect();
        for slot in slots {
            let pid = self.launches.pid_in(slot);
            let (step, _) = self.launches.outcome_in(slot);
            let is_owned = self.sessions.owner(pid).is_some();
            let Some(flight) = self.launches.in_flight_mut(slot) else { continue };
            if flight.lateness == Lateness::InTime {
                flight.lateness = Lateness::Killed;
                if pid == 0 {
                    self.give_up_launcher();
                } else if is_owned || !flight.started {
                    // Else it was reaped, and its pid may be anybody's.
                    process::signal_child(pid, Signal::SIGKILL);
                }
                continue;
            }
            flight.lateness = Lateness::Stuck;
            let whose = match &flight.job {
                &Job::Session(key) => self.service_name_of(key),
                &Job::Worker(key, _) => self.worker_name(key),
                Job::Command(command) => format!("a command for {}", command.service),
                Job::Role(kind, _) => kind.name().to_owned(),
                Job::Gone => "a worker".to_owned(),
            };
            let step = step.map_or("start", Step::words);
            self.note(Level::Err, &format!("launch of {whose} stuck at {step}: pid {pid} can't be killed"));
        }
    }
}
