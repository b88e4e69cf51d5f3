//! Workers: processes that are handed connections, or accept by themselves. superd's own handlers are one.
//!
//! A worker is in the table from the moment it is asked for until it is reaped. What it holds is told by its
//! channel; what it is for, by its kind.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use crate::config::settings::{self, Pool, PoolProtocol, Serves};
use crate::model::session::SessionId;
use crate::service::admission::ServiceKey;
use crate::service::pool::Counts;
use crate::sys::channel::Channel;

use super::services::PlanId;
use super::sessions::SessionKey;
use super::slab::Slab;
use super::timers::TimerId;

/// A worker, as long as it is in the table.
pub(super) type WorkerKey = usize;

/// A process that is handed connections.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) kind: WorkerKind,
    /// Its number, under which its standard error is collected.
    pub(super) id: SessionId,
    /// superd's end; none of a worker that accepts by itself, or that has closed it.
    pub(super) channel: Option<Channel>,
    /// The pipe that becomes its standard error, until it exists.
    pub(super) stderr: Option<OwnedFd>,
    /// Its process; 0 while there is none.
    pub(super) pid: i32,
    pub(super) phase: WorkerPhase,
    /// When it was asked for.
    pub(super) started: Instant,
    /// When it was ready, then when it was last busy.
    pub(super) since: Instant,
    /// It has said that it is ready.
    pub(super) was_ready: bool,
    /// superd has told it to end.
    pub(super) dismissed: bool,
    /// Connections that it was handed.
    pub(super) given: u32,
    /// Connections that it has taken.
    pub(super) taken: u32,
    /// Connections after which it retires.
    pub(super) lifetime: Option<u32>,
    /// The sessions that it has, by the serial numbers under which it knows them.
    pub(super) held: HashMap<u64, SessionKey>,
    /// Until it is ready, has been idle for long enough, or is killed.
    pub(super) timer: Option<TimerId>,
}

/// What a worker is for.
#[derive(Debug, Clone)]
pub(super) enum WorkerKind {
    /// superd's own built-in services.
    Handlers,
    /// A pool.
    Pool {
        service: ServiceKey,
        /// Workers of one generation were started as the same.
        generation: u64,
        settings: Rc<settings::Service>,
        plan: PlanId,
    },
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkerPhase {
    /// The launcher has not said that its program runs.
    Launching,
    /// It has not said that it is ready.
    Starting,
    /// It takes connections.
    Ready,
    /// It gets none any more.
    Retiring,
}

impl WorkerPhase {
    /// As `superctl pool` says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Launching | Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Retiring => "retiring",
        }
    }
}

impl Worker {
    /// Its pool, as it was when it was started.
    pub(super) fn pool(&self) -> Option<&Pool> {
        match &self.kind {
            WorkerKind::Pool { settings, .. } => match &settings.serves {
                Serves::Pool(pool) => Some(pool),
                _ => None,
            },
            WorkerKind::Handlers => None,
        }
    }

    /// One that was just asked for.
    pub(super) fn new(kind: WorkerKind, id: SessionId, channel: Option<Channel>, now: Instant) -> Self {
        Self {
            kind,
            id,
            channel,
            stderr: None,
            pid: 0,
            phase: WorkerPhase::Launching,
            started: now,
            since: now,
            was_ready: false,
            dismissed: false,
            given: 0,
            taken: 0,
            lifetime: None,
            held: HashMap::new(),
            timer: None,
        }
    }

    /// Does it accept by itself?
    pub(super) fn accepts(&self) -> bool {
        self.pool().is_some_and(|pool| pool.protocol == PoolProtocol::Listen)
    }

    /// Is it of this generation of this service?
    pub(super) fn is_of(&self, of: ServiceKey, number: u64) -> bool {
        matches!(self.kind, WorkerKind::Pool { service, generation, .. } if (service, generation) == (of, number))
    }

    /// Connections that it can be handed now.
    pub(super) fn room(&self) -> u32 {
        let Some(pool) = self.pool().filter(|_| self.phase == WorkerPhase::Ready && self.channel.is_some())
        else {
            return 0;
        };
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let left = self.lifetime.map_or(u32::MAX, |lifetime| lifetime.saturating_sub(self.given));
        pool.concurrency.saturating_sub(held).min(left)
    }
}

/// All workers.
#[derive(Debug, Default)]
pub(super) struct Workers {
    pub(super) table: Slab<Worker>,
}

impl Workers {
    pub(super) fn get(&self, key: WorkerKey) -> Option<&Worker> {
        self.table.get(key)
    }

    pub(super) fn get_mut(&mut self, key: WorkerKey) -> Option<&mut Worker> {
        self.table.get_mut(key)
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, WorkerKey)> {
        self.table.iter().filter_map(|(key, worker)| Some((worker.channel.as_ref()?.as_fd(), key)))
    }

    /// The workers of a pool, those that retire too.
    pub(super) fn of_service(&self, of: ServiceKey) -> impl Iterator<Item = (WorkerKey, &Worker)> {
        let is_its =
            move |worker: &Worker| matches!(worker.kind, WorkerKind::Pool { service, .. } if service == of);
        self.table.iter().filter(move |(_, worker)| is_its(worker))
    }

    /// The workers of one generation that do not retire.
    pub(super) fn of_generation(
        &self,
        service: ServiceKey,
        number: u64,
    ) -> impl Iterator<Item = (WorkerKey, &Worker)> {
        self.table.iter().filter(move |(_, w)| w.is_of(service, number) && w.phase != WorkerPhase::Retiring)
    }

    /// All workers of pools.
    pub(super) fn keys_of_pools(&self) -> Vec<WorkerKey> {
        let pools = self.table.iter().filter(|(_, worker)| matches!(worker.kind, WorkerKind::Pool { .. }));
        pools.map(|(key, _)| key).collect()
    }

    /// Are there workers of pools?
    pub(super) fn has_pools(&self) -> bool {
        self.table.iter().any(|(_, worker)| matches!(worker.kind, WorkerKind::Pool { .. }))
    }

    /// The counts of one generation.
    pub(super) fn counts(&self, service: ServiceKey, number: u64) -> Counts {
        let mut counts = Counts::default();
        for (_, worker) in self.of_generation(service, number) {
            match worker.phase {
                WorkerPhase::Launching | WorkerPhase::Starting => counts.starting += 1,
                _ if worker.held.is_empty() => counts.idle += 1,
                _ => counts.busy += 1,
            }
            counts.room = counts.room.saturating_add(worker.room());
        }
        counts
    }
}
