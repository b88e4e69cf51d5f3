//! Launches in flight: the queue, the slots, and the launcher that makes the children.
//!
//! The supervisor keeps its copy of a connection until the launcher says that the child exists. A launcher that
//! dies is started again, and what it had not made yet is asked for once more: no session ends with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::config::settings::Level;
use crate::model::session::SessionId;
use crate::protocol::launch::{
    BATCH, Launch, MAX_PACKET, Malformed, ROLES, Report, Request, SLOTS, Step, decode_reports,
};
use crate::roles::launcher;
use crate::service::backoff::Backoff;
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::SlotTable;
use crate::sys::spawn::{Image, Parentage, Spawner};
use crate::sys::{fd, process};

use super::Supervisor;
use super::roles::{RoleKind, role_plans};
use super::sessions::{Phase, ProcessOwner, SessionKey};
use super::timers::Due;

/// Launches in flight of one service, at most.
pub(super) const PER_SERVICE: u32 = 16;

/// How long a launch may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a child that was killed for that may take to die.
const LAST_DEADLINE: Duration = Duration::from_secs(12);

/// Something to launch.
#[derive(Debug)]
pub(super) enum Job {
    Session(SessionKey),
    /// A role, with its end of the channel until the role exists.
    Role(RoleKind, Option<OwnedFd>),
}

/// A slot in use.
#[derive(Debug)]
struct InFlight {
    job: Job,
    since: Instant,
    /// The child exists.
    started: bool,
    lateness: Lateness,
}

/// How a launch stands to its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lateness {
    InTime,
    /// Its child was killed.
    Killed,
    /// The kernel does not let the child die: a request to a file system that never answers. The slot is
    /// lost until it does.
    Stuck,
}

impl InFlight {
    fn deadline(&self) -> Option<Instant> {
        match self.lateness {
            Lateness::InTime => Some(self.since + DEADLINE),
            Lateness::Killed => Some(self.since + LAST_DEADLINE),
            Lateness::Stuck => None,
        }
    }
}

/// The launcher, and all that it has been asked for.
#[derive(Debug)]
pub(super) struct Launches {
    pub(super) slots: SlotTable,
    binary: OwnedFd,
    spawner: Spawner,
    channel: Option<Channel>,
    backoff: Backoff,
    queue: VecDeque<Job>,
    in_flight: Vec<Option<InFlight>>,
    free: Vec<u16>,
    /// Plans of superd's roles, and of the configuration in force: kept for the next launcher.
    role_plans: OwnedFd,
    service_plans: Option<(u64, OwnedFd)>,
    /// The launcher's channel was full.
    blocked: bool,
    /// No process can be made just now; what waits, waits on.
    held: bool,
}

impl Launches {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            slots: SlotTable::create(SLOTS)?,
            binary: fd::open_own_binary()?,
            spawner: Spawner::new()?,
            channel: None,
            backoff: Self::fresh_backoff(),
            queue: VecDeque::new(),
            in_flight: (0..SLOTS).map(|_| None).collect(),
            free: (0..u16::try_from(SLOTS).unwrap_or(u16::MAX)).rev().collect(),
            role_plans: role_plans(None)?,
            service_plans: None,
            blocked: false,
            held: false,
        })
    }

    fn fresh_backoff() -> Backoff {
        Backoff::immediate(Duration::from_millis(100), Duration::from_secs(30))
    }

    pub(super) fn enqueue(&mut self, job: Job) {
        self.queue.push_back(job);
    }

    /// Asks once more for what could not be made, before all else.
    pub(super) fn enqueue_again(&mut self, key: SessionKey) {
        self.queue.push_front(Job::Session(key));
    }

    /// Keeps the queue back, or lets it go.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Is there a launcher?
    pub(super) fn is_up(&self) -> bool {
        self.channel.is_some()
    }

    /// Launches that are asked for and not over.
    pub(super) fn count(&self) -> usize {
        self.queue.len() + SLOTS - self.free.len()
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, bool)> {
        Some((self.channel.as_ref()?.as_fd(), self.blocked))
    }

    /// The next moment at which a launch has had its time.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.free.len() == SLOTS {
            return None;
        }
        self.in_flight.iter().flatten().filter_map(InFlight::deadline).min()
    }

    fn start_launcher(&mut self) -> io::Result<i32> {
        let (own, theirs) = Channel::pair()?;
        let argv = launcher::arguments(theirs.as_fd(), self.binary.as_fd(), self.slots.as_fd())?;
        let keep = [theirs.as_fd(), self.binary.as_fd(), self.slots.as_fd()];
        let image = Image { binary: self.binary.as_fd(), argv: &argv, envp: &[], keep: &keep };
        let pid = self.spawner.spawn(&image, Parentage::Own)?;
        self.blocked = false;
        send_plans(&own, ROLES, &self.role_plans)?;
        if let Some((generation, plans)) = &self.service_plans {
            send_plans(&own, *generation, plans)?;
        }
        self.channel = Some(own);
        Ok(pid)
    }

    /// The plans of a new configuration are used from now on, also for what waits in the queue.
    pub(super) fn use_plans(&mut self, generation: u64, block: OwnedFd) {
        self.pass_on(generation, &block);
        self.service_plans = Some((generation, block));
    }

    /// Roles are made by these plans from now on.
    pub(super) fn use_role_plans(&mut self, block: OwnedFd) {
        self.pass_on(ROLES, &block);
        self.role_plans = block;
    }

    fn pass_on(&mut self, generation: u64, block: &OwnedFd) {
        if let Some(channel) = &self.channel {
            // A channel that is broken or full is found out by the next poll; a new launcher gets the plans.
            if send_plans(channel, generation, block).is_err() {
                self.channel = None;
            }
        }
    }

    fn generation(&self) -> u64 {
        self.service_plans.as_ref().map_or(ROLES, |(generation, _)| *generation)
    }

    /// The slot whose child this is, if the launcher has not told of it yet.
    pub(super) fn slot_of(&self, pid: i32) -> Option<u16> {
        let used = |index: usize| self.in_flight.get(index).is_some_and(Option::is_some);
        let index = self
            .slots
            .iter()
            .enumerate()
            .position(|(i, s)| used(i) && s.pid.load(Ordering::Acquire) == pid)?;
        u16::try_from(index).ok()
    }

    fn in_flight_mut(&mut self, slot: u16) -> Option<&mut InFlight> {
        self.in_flight.get_mut(usize::from(slot))?.as_mut()
    }

    fn pid_in(&self, slot: u16) -> i32 {
        self.slots.get(usize::from(slot)).map_or(0, |s| s.pid.load(Ordering::Acquire))
    }

    /// The step in the slot, and its errno if it failed.
    fn outcome_in(&self, slot: u16) -> (Option<Step>, i32) {
        self.slots.get(usize::from(slot)).map_or((None, 0), |s| {
            let errno = s.errno.load(Ordering::Acquire);
            (Step::from_number(s.step.load(Ordering::Relaxed)), errno)
        })
    }

    fn release(&mut self, slot: u16) -> Option<InFlight> {
        let taken = self.in_flight.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        Some(taken)
    }
}

fn send_plans(channel: &Channel, generation: u64, block: &OwnedFd) -> io::Result<()> {
    let mut packet = Vec::new();
    Request::Plans { generation }.encode(&mut packet);
    channel.send(&packet, &[block.as_fd()])
}

impl Supervisor {
    /// Starts the launcher, now or, if that fails, after a while.
    pub(super) fn start_launcher(&mut self) {
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

    fn start_launcher_later(&mut self) {
        let wait = self.launches.backoff.wait();
        self.timers.set(self.now + wait, Due::StartLauncher);
    }

    /// Hands what waits to the launcher, in batches.
    pub(super) fn send_launches(&mut self) {
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
        let generation = self.launches.generation();
        let mut batch: Vec<(Launch, Job)> = Vec::with_capacity(BATCH);
        while batch.len() < BATCH {
            let Some(slot) = self.launches.free.pop() else { break };
            let Some(job) = self.launches.queue.pop_front() else {
                self.launches.free.push(slot);
                break;
            };
            if let Some(launch) = self.describe(slot, generation, &job) {
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
        Request::Launch(batch.iter().map(|(launch, _)| *launch).collect()).encode(&mut packet);
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
            if error.kind() == io::ErrorKind::WouldBlock {
                self.launches.blocked = true;
            } else {
                self.lose_launcher();
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

    fn descriptors_of<'a>(&'a self, job: &'a Job) -> Vec<BorrowedFd<'a>> {
        match job {
            Job::Role(_, channel) => channel.iter().map(AsFd::as_fd).collect(),
            Job::Session(key) => {
                let session = self.sessions.table.get(*key);
                let both = session.map(|s| [s.connection.as_ref(), s.stderr.as_ref()]);
                both.into_iter().flatten().flatten().map(AsFd::as_fd).collect()
            }
        }
    }

    /// The launch of a job; none if there is nothing to launch any more.
    fn describe(&self, slot: u16, generation: u64, job: &Job) -> Option<Launch> {
        let fds = u8::try_from(self.descriptors_of(job).len()).ok()?;
        match job {
            Job::Role(kind, _) => Some(Launch {
                slot,
                generation: ROLES,
                plan: *kind as u32,
                fds,
                session: SessionId { epoch: self.epoch, serial: 0 },
                client: None,
                local: None,
            }),
            Job::Session(key) => {
                let session = self.sessions.table.get(*key)?;
                let plan = self.services.get(session.service)?.plan?;
                let (id, client, local) = (session.id, Some(session.client), session.local);
                Some(Launch { slot, generation, plan, fds, session: id, client, local })
            }
        }
    }

    /// A job that can't be launched any more: its service is gone.
    fn forget_job(&mut self, job: &Job) {
        if let &Job::Session(key) = job {
            self.abandon_session(key, crate::service::reason::Reason::Shutdown);
        }
    }

    /// Takes all that the launcher has to say.
    pub(super) fn on_launcher(&mut self, readable: bool, writable: bool) {
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
                Ok(Received::Closed) | Err(_) => return self.lose_launcher(),
            };
            let Ok(reports) = reports else { return self.lose_launcher() };
            for report in reports {
                match report {
                    Report::Started(slot) => self.on_started(slot),
                    Report::Free(slot) => self.on_free(slot),
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
            Job::Role(kind, channel) => {
                let kind = *kind;
                // Else the role's death would not close its channel.
                drop(channel.take());
                self.sessions.own(pid, ProcessOwner::Role(kind));
            }
        }
    }

    /// A launch is over, well or not.
    fn on_free(&mut self, slot: u16) {
        self.on_started(slot);
        let (step, errno) = self.launches.outcome_in(slot);
        let Some(flight) = self.launches.release(slot) else { return };
        self.launches.backoff = Launches::fresh_backoff();
        let late = flight.lateness != Lateness::InTime;
        let errno = if late && errno == 0 { libc::ETIMEDOUT } else { errno };
        match flight.job {
            Job::Session(key) if errno == 0 => self.session_runs(key),
            Job::Session(key) => self.session_launch_failed(key, step, errno),
            Job::Role(kind, _) if errno != 0 => {
                let step = step.map_or("start", Step::words);
                let text =
                    format!("launch of the {} failed at {step}: {}", kind.name(), process::errno_name(errno));
                self.note(Level::Err, &text);
            }
            Job::Role(..) => {}
        }
    }

    /// A child that has ended before its slot's report came: it is told from strangers by the slot.
    pub(super) fn adopt_early(&mut self, pid: i32) {
        if let Some(slot) = self.launches.slot_of(pid) {
            self.on_started(slot);
        }
    }

    /// The launcher is gone. What it has made lives on; the rest is asked for again.
    pub(super) fn lose_launcher(&mut self) {
        if self.launches.channel.take().is_none() {
            return;
        }
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
        self.launcher_is_lost();
        self.start_launcher_later();
    }

    /// Kills launches that have had their time, and names those that can't be killed.
    pub(super) fn kill_late_launches(&mut self) {
        let late = |flight: &InFlight| flight.deadline().is_some_and(|deadline| deadline <= self.now);
        let slots = self.launches.in_flight.iter().zip(0_u16..);
        let slots: Vec<u16> =
            slots.filter(|(f, _)| f.as_ref().is_some_and(late)).map(|(_, slot)| slot).collect();
        for slot in slots {
            let pid = self.launches.pid_in(slot);
            let (step, _) = self.launches.outcome_in(slot);
            let Some(flight) = self.launches.in_flight_mut(slot) else { continue };
            if flight.lateness == Lateness::InTime {
                flight.lateness = Lateness::Killed;
                if pid != 0 {
                    process::signal_child(pid, Signal::SIGKILL);
                }
                continue;
            }
            flight.lateness = Lateness::Stuck;
            let whose = match &flight.job {
                &Job::Session(key) => self.service_name_of(key),
                Job::Role(kind, _) => kind.name().to_owned(),
            };
            let step = step.map_or("start", Step::words);
            self.note(Level::Err, &format!("launch of {whose} stuck at {step}: pid {pid} can't be killed"));
        }
    }
}
