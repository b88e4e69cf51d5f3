//! Launches in flight: the queue, the slots, and the launcher that makes the children.
//!
//! The supervisor keeps its copy of a connection until the launcher says that the child exists. A launcher that
//! dies is started again, and what it had not made yet is asked for once more: no session ends with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::protocol::launch::{KEPT_PLANS, ROLES, Request, SLOTS};
use crate::protocol::step::Step;
use crate::roles::launcher;
use crate::service::backoff::Backoff;
use crate::sys::channel::Channel;
use crate::sys::fd;
use crate::sys::memory::SlotTable;
use crate::sys::spawn::{Image, Parentage, Spawner};

use super::hosts::Command;
use super::roles::{RoleKind, role_plans};
use super::sessions::SessionKey;
use super::workers::WorkerKey;

mod reports;
mod sending;

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
    /// A worker of a pool, with its sockets until it exists.
    Worker(WorkerKey, Vec<OwnedFd>),
    /// A command of hosts.allow or hosts.deny.
    Command(Command),
    /// A role, with its end of the channel until the role exists.
    Role(RoleKind, Option<OwnedFd>),
    /// A worker that has ended before the launcher said that its launch is over.
    Gone,
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
    /// Plans of superd's roles, of the configuration in force and of the one before, whose last clients may still
    /// wait in the queue, and of pools that go on as they were: kept for the next launcher.
    role_plans: OwnedFd,
    service_plans: VecDeque<(u64, OwnedFd)>,
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
            service_plans: VecDeque::new(),
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
        // Children of the launcher before this one may still write to its slots.
        self.slots = SlotTable::create(SLOTS)?;
        let (own, theirs) = Channel::pair()?;
        let argv = launcher::arguments(theirs.as_fd(), self.binary.as_fd(), self.slots.as_fd())?;
        let keep = [theirs.as_fd(), self.binary.as_fd(), self.slots.as_fd()];
        let image = Image { binary: self.binary.as_fd(), argv: &argv, envp: &[], keep: &keep };
        let pid = self.spawner.spawn(&image, Parentage::Own)?;
        self.blocked = false;
        send_plans(&own, ROLES, &self.role_plans)?;
        for (generation, plans) in &self.service_plans {
            send_plans(&own, *generation, plans)?;
        }
        self.channel = Some(own);
        Ok(pid)
    }

    /// The plans of a new configuration, used from now on by the services that it has.
    pub(super) fn use_plans(&mut self, generation: u64, block: OwnedFd) -> io::Result<()> {
        let passed = self.pass_on(generation, &block);
        self.service_plans.push_back((generation, block));
        passed
    }

    /// Lets go of the plans of earlier configurations, but of the last one and those that are `used`.
    pub(super) fn forget_plans(&mut self, used: &[u64]) {
        let newest = self.service_plans.len().saturating_sub(KEPT_PLANS);
        let mut index = 0;
        let channel = self.channel.as_ref();
        self.service_plans.retain(|&(generation, _)| {
            index += 1;
            let stays = index > newest || used.contains(&generation);
            if !stays && let Some(channel) = channel {
                // A launcher that does not hear it keeps a descriptor more.
                let mut packet = Vec::new();
                Request::Forget { generation }.encode(&mut packet);
                let _ = channel.send(&packet, &[]);
            }
            stays
        });
    }

    /// Takes back the launch of a worker that was not sent to the launcher yet. `false`: it was.
    pub(super) fn withdraw_worker(&mut self, key: WorkerKey) -> bool {
        let before = self.queue.len();
        self.queue.retain(|job| !matches!(job, Job::Worker(worker, ..) if *worker == key));
        self.queue.len() != before
    }

    /// The slot in which a worker is being launched.
    fn slot_of_worker(&self, key: WorkerKey) -> Option<u16> {
        let is_its = |flight: &InFlight| matches!(flight.job, Job::Worker(worker, ..) if worker == key);
        let index = self.in_flight.iter().position(|flight| flight.as_ref().is_some_and(is_its))?;
        u16::try_from(index).ok()
    }

    /// Roles are made by these plans from now on.
    pub(super) fn use_role_plans(&mut self, block: OwnedFd) -> io::Result<()> {
        let passed = self.pass_on(ROLES, &block);
        self.role_plans = block;
        passed
    }

    /// An error: this launcher does not get it. The next one will.
    fn pass_on(&self, generation: u64, block: &OwnedFd) -> io::Result<()> {
        self.channel.as_ref().map_or(Ok(()), |channel| send_plans(channel, generation, block))
    }

    /// Does the launcher have the plans of this generation?
    fn knows(&self, generation: u64) -> bool {
        self.service_plans.iter().any(|(known, _)| *known == generation)
    }

    /// The slot whose child this is, if the launcher has not told of it yet. Of those that it has told of, the
    /// child may be gone, and its pid another one's.
    pub(super) fn slot_of(&self, pid: i32) -> Option<u16> {
        let used =
            |index: usize| self.in_flight.get(index).is_some_and(|f| f.as_ref().is_some_and(|f| !f.started));
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
