//! Handing launches to the launcher, in batches, and starting the launcher itself.

use std::io;
use std::mem::discriminant;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use crate::config::settings::Level;
use crate::model::session::SessionId;
use crate::protocol::launch::{BATCH, Launch, MAX_LAUNCH, MAX_PACKET, ROLES, Request};
use crate::service::reason::Reason;
use crate::supervisor::Supervisor;
use crate::supervisor::services::PlanId;
use crate::supervisor::sessions::{Phase, ProcessOwner, Session};
use crate::supervisor::timers::Due;
use crate::supervisor::workers::{WorkerKind, WorkerPhase};
use crate::sys::channel::MAX_FDS;

use super::{InFlight, Job, Lateness};

impl Supervisor {
    /// Starts the launcher, now or, if that fails, after a while.
    pub(in crate::supervisor) fn start_launcher(&mut self) {
        match self.launches.start_launcher() {
            Ok(pid) => {
                self.sessions.own(pid, ProcessOwner::Launcher);
                self.launcher_is_back();
                self.send_launches();
            }
            Err(error) => {
                self.note(Level::Err, &format!("the launcher can't be started: {error}"));
                self.start_launcher_later();
            }
        }
    }

    pub(super) fn start_launcher_later(&mut self) {
        let wait = self.launches.backoff.wait();
        self.timers.set(self.now + wait, Due::StartLauncher);
    }

    /// Hands what waits to the launcher, in batches.
    pub(in crate::supervisor) fn send_launches(&mut self) {
        while !self.launches.blocked
            && !self.launches.held
            && self.launches.is_up()
            && !self.launches.queue.is_empty()
        {
            if !self.send_batch() {
                return;
            }
        }
    }

    /// Sends up to [`BATCH`] launches. `false`: no more can be sent now.
    fn send_batch(&mut self) -> bool {
        let mut batch: Vec<(Launch, Job)> = Vec::with_capacity(BATCH);
        let (mut descriptors, mut bytes) = (0, 0);
        while batch.len() < BATCH {
            let Some(next) = self.launches.queue.front() else { break };
            descriptors += self.descriptors_of(next).len();
            bytes += self.length_of(next);
            if (descriptors > MAX_FDS || bytes > MAX_PACKET) && !batch.is_empty() {
                break;
            }
            let Some(slot) = self.launches.free.pop() else { break };
            let Some(job) = self.launches.queue.pop_front() else {
                self.launches.free.push(slot);
                break;
            };
            if let Some(launch) = self.describe(slot, &job) {
                batch.push((launch, job));
            } else {
                self.launches.free.push(slot);
                self.forget_job(&job);
            }
        }
        if batch.is_empty() {
            return false;
        }
        let sent = self.send_packet(&batch);
        self.settle_batch(batch, sent)
    }

    fn send_packet(&self, batch: &[(Launch, Job)]) -> io::Result<()> {
        let mut packet = Vec::new();
        Request::Launch(batch.iter().map(|(launch, _)| launch.clone()).collect()).encode(&mut packet);
        let fds: Vec<BorrowedFd<'_>> = batch.iter().flat_map(|(_, job)| self.descriptors_of(job)).collect();
        for (launch, _) in batch {
            if let Some(slot) = self.launches.slots.get(usize::from(launch.slot)) {
                slot.pid.store(0, Ordering::Relaxed);
                slot.step.store(0, Ordering::Relaxed);
                slot.errno.store(0, Ordering::Release);
            }
        }
        self.launches.channel.as_ref().ok_or(io::ErrorKind::NotConnected)?.send(&packet, &fds)
    }

    /// After a batch was sent, or not: its jobs are in flight, or wait again in their old order.
    fn settle_batch(&mut self, batch: Vec<(Launch, Job)>, sent: io::Result<()>) -> bool {
        let since = self.now;
        if let Err(error) = sent {
            for (launch, job) in batch.into_iter().rev() {
                self.launches.free.push(launch.slot);
                self.launches.queue.push_front(job);
            }
            match error.raw_os_error() {
                Some(libc::EAGAIN) => self.launches.blocked = true,
                // unix(7): too many descriptors are under way in channels, or there is no memory for them.
                Some(errno @ (libc::ETOOMANYREFS | libc::ENOBUFS | libc::ENOMEM)) => {
                    self.resources_are_out(errno);
                }
                _ => self.give_up_launcher(),
            }
            return false;
        }
        for (launch, job) in batch {
            if let Job::Session(key) = job
                && let Some(session) = self.sessions.table.get_mut(key)
            {
                session.phase = Phase::Launching(launch.slot);
            }
            if let Some(place) = self.launches.in_flight.get_mut(usize::from(launch.slot)) {
                *place = Some(InFlight { job, since, started: false, lateness: Lateness::InTime });
            }
        }
        true
    }

    /// So many bytes of a packet a job takes, at most.
    fn length_of(&self, job: &Job) -> usize {
        let overrides = match job {
            Job::Session(key) => self.sessions.table.get(*key).and_then(|session| session.overrides.as_ref()),
            Job::Command(command) => command.overrides.as_ref(),
            Job::Role(..) | Job::Worker(..) | Job::Gone => None,
        };
        MAX_LAUNCH + overrides.map_or(0, String::len)
    }

    fn descriptors_of<'a>(&'a self, job: &'a Job) -> Vec<BorrowedFd<'a>> {
        match job {
            Job::Gone => Vec::new(),
            Job::Role(_, channel) => channel.iter().map(AsFd::as_fd).collect(),
            Job::Command(command) => vec![command.null.as_fd()],
            Job::Worker(key, sockets) => {
                let stderr = self.workers.get(*key).and_then(|worker| worker.stderr.as_ref());
                sockets.iter().chain(stderr).map(AsFd::as_fd).collect()
            }
            Job::Session(key) => {
                let session = self.sessions.table.get(*key);
                let both = session.map(|s| [s.connection.as_ref(), s.stderr.as_ref()]);
                both.into_iter().flatten().flatten().map(AsFd::as_fd).collect()
            }
        }
    }

    /// The launch of a job; none if there is nothing to launch any more.
    fn describe(&self, slot: u16, job: &Job) -> Option<Launch> {
        let stderr = match job {
            Job::Session(key) => self.sessions.table.get(*key)?.stderr.is_some(),
            Job::Worker(key, _) => self.workers.get(*key)?.stderr.is_some(),
            Job::Role(..) | Job::Command(_) | Job::Gone => false,
        };
        let fds = u8::try_from(self.descriptors_of(job).len() - usize::from(stderr)).ok()?;
        match job {
            Job::Gone => None,
            Job::Role(kind, _) => Some(Launch {
                slot,
                generation: ROLES,
                plan: *kind as u32,
                fds,
                stderr,
                session: SessionId { epoch: self.epoch, serial: 0 },
                client: None,
                local: None,
                names: [None, None],
                overrides: None,
            }),
            Job::Command(command) => {
                let PlanId { generation, index } = command.plan;
                let known = self.launches.knows(generation);
                let launch = Launch {
                    slot,
                    generation,
                    plan: index,
                    fds,
                    stderr,
                    session: SessionId { epoch: self.epoch, serial: 0 },
                    client: None,
                    local: None,
                    names: [None, None],
                    overrides: command.overrides.clone(),
                };
                known.then_some(launch)
            }
            Job::Worker(key, _) => {
                let worker = self.workers.get(*key).filter(|w| w.phase == WorkerPhase::Launching)?;
                let WorkerKind::Pool { plan, .. } = worker.kind else { return None };
                let PlanId { generation, index } = plan;
                let known = self.launches.knows(generation);
                let launch = Launch {
                    slot,
                    generation,
                    plan: index,
                    fds,
                    stderr,
                    session: worker.id,
                    client: None,
                    local: None,
                    names: [None, None],
                    overrides: None,
                };
                known.then_some(launch)
            }
            Job::Session(key) => {
                let session = self.sessions.table.get(*key).filter(|session| session.cause.is_none())?;
                let PlanId { generation, index } = self.plan_of_session(session)?;
                let (id, client, local) = (session.id, session.client, session.local);
                let names = session.names.clone();
                let overrides = session.overrides.clone();
                Some(Launch {
                    slot,
                    generation,
                    plan: index,
                    fds,
                    stderr,
                    session: id,
                    client,
                    local,
                    names,
                    overrides,
                })
            }
        }
    }

    /// The plan that it was admitted with; if that is long gone, the service's own, unless a reload has made it one
    /// of another kind.
    fn plan_of_session(&self, session: &Session) -> Option<PlanId> {
        let is_known = |plan: &PlanId| self.launches.knows(plan.generation);
        if is_known(&session.plan) {
            return Some(session.plan);
        }
        let service = self.services.get(session.service)?;
        let is_same = discriminant(&service.settings.serves) == discriminant(&session.settings.serves);
        Some(service.plan).filter(|plan| is_same && is_known(plan))
    }

    /// A job that can't be launched any more: its service is gone, and so is the plan that it had.
    fn forget_job(&mut self, job: &Job) {
        match *job {
            Job::Session(key) => self.abandon_session(key, Reason::Shutdown),
            Job::Worker(key, _) => self.forget_worker(key),
            Job::Command(_) => self.commands.forget(),
            Job::Role(..) | Job::Gone => {}
        }
    }
}
