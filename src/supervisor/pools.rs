//! Pools: workers that are started ahead, as many as `service::pool` says, and replaced when they end.
//!
//! Workers that were started as the same are a generation. A reload that changes what they are started as brings
//! up the next generation beside the one that serves; the first of it that is ready takes over, and the old ones
//! drain. Until then, however long it takes, the old ones serve.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::settings::{self, Level, Pool, Serves};
use crate::service::admission::ServiceKey;
use crate::service::backoff::Backoff;
use crate::service::pool::{self, Counts};
use crate::service::reason::Reason;

use super::Supervisor;
use super::lending::Keepsake;
use super::listeners::ListenerKey;
use super::services::PlanId;
use super::sessions::SessionKey;
use super::staff::SHORT;
use super::timers::{Due, TimerId};
use super::workers::{WorkerKey, WorkerPhase};

/// The pool of a service.
#[derive(Debug)]
pub(super) struct PoolState {
    /// The generation that gets connections.
    pub(super) current: Generation,
    /// One that is coming up to take over.
    pub(super) next: Option<Generation>,
    /// Connections that were accepted, and whose worker died before it took them.
    pub(super) waiting: VecDeque<SessionKey>,
    /// Workers that ended without being told to.
    pub(super) restarts: u64,
    /// It was said that its workers fail.
    pub(super) said_degraded: bool,
    /// Until its workers have lived for long enough to say that they do not fail any more.
    proof: Option<TimerId>,
    /// Its first generation: earlier ones were those of a service that had this one's place.
    first: u64,
    /// Listeners that workers were given, as they were before.
    pub(super) lent: Vec<(ListenerKey, u64, Keepsake)>,
}

/// What workers are started as.
#[derive(Debug, Clone)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) settings: Rc<settings::Service>,
    pub(super) plan: PlanId,
    /// The listeners that they are given, by key and serial number.
    pub(super) listeners: Vec<(ListenerKey, u64)>,
    backoff: Backoff,
    /// No worker is started until then: they failed.
    rest: Option<(TimerId, Instant)>,
}

impl Generation {
    pub(super) fn pool(&self) -> Option<&Pool> {
        pool_of(&self.settings)
    }

    /// May a worker be started now? One that accepts by itself needs a listener, which may still be missing.
    fn may_start(&self) -> bool {
        self.rest.is_none() && (self.settings.is_accepted() || !self.listeners.is_empty())
    }
}

/// The pool that serves a service, if one does.
pub(super) fn pool_of(settings: &settings::Service) -> Option<&Pool> {
    match &settings.serves {
        Serves::Pool(pool) => Some(pool),
        _ => None,
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(30))
}

impl PoolState {
    fn new(current: Generation) -> Self {
        let first = current.number;
        Self {
            current,
            next: None,
            waiting: VecDeque::new(),
            restarts: 0,
            said_degraded: false,
            proof: None,
            first,
            lent: Vec::new(),
        }
    }

    /// Has it, or had it, this generation?
    pub(super) fn has(&self, generation: u64) -> bool {
        generation >= self.first
    }

    fn generation_mut(&mut self, number: u64) -> Option<&mut Generation> {
        [Some(&mut self.current), self.next.as_mut()].into_iter().flatten().find(|g| g.number == number)
    }

    fn newest(&mut self) -> &mut Generation {
        self.next.as_mut().unwrap_or(&mut self.current)
    }

    /// When workers are started again, after failures.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().find_map(|g| Some(g.rest?.1))
    }
}

impl Supervisor {
    /// After a configuration was put in force: the pool that a service is to have.
    pub(super) fn commit_pool(&mut self, key: ServiceKey) {
        let Some(service) = self.services.get(key) else { return };
        let wanted = !service.is_gone && service.settings.enabled && pool_of(&service.settings).is_some();
        if !wanted {
            return self.end_pool(key);
        }
        let serials = |&listener: &ListenerKey| Some((listener, self.listeners.get(listener)?.serial));
        let listeners = if service.settings.is_accepted() {
            Vec::new()
        } else {
            service.listeners.iter().filter_map(serials).collect()
        };
        let number = self.generation_serial;
        let new = Generation {
            number,
            settings: Rc::clone(&service.settings),
            plan: service.plan,
            listeners,
            backoff: fresh_backoff(),
            rest: None,
        };
        let Some(service) = self.services.get_mut(key) else { return };
        let Some(pool) = &mut service.pool else {
            self.generation_serial += 1;
            service.pool = Some(PoolState::new(new));
            return self.settle_pool(key, false);
        };
        let mut given_up = None;
        if is_same(&pool.current, &new) {
            given_up = pool.next.take();
        }
        if is_same(pool.newest(), &new) {
            let newest = pool.newest();
            let Generation { number, backoff, rest, .. } = *newest;
            *newest = Generation { number, backoff, rest, ..new };
        } else {
            given_up = pool.next.replace(new);
            self.generation_serial += 1;
        }
        if let Some(generation) = given_up {
            self.give_up_generation(key, &generation);
        }
        self.settle_pool(key, false);
    }

    /// The service has no pool any more. Connections that its workers have taken go on.
    pub(super) fn end_pool(&mut self, key: ServiceKey) {
        let Some(pool) = self.services.get_mut(key).and_then(|service| service.pool.take()) else { return };
        let rests = [pool.current.rest, pool.next.and_then(|next| next.rest)];
        for timer in rests.into_iter().flatten().map(|(timer, _)| timer).chain(pool.proof) {
            self.timers.cancel(timer);
        }
        for session in pool.waiting {
            self.abandon_session(session, Reason::Shutdown);
        }
        let workers: Vec<WorkerKey> = self.workers.of_service(key).map(|(worker, _)| worker).collect();
        for worker in workers {
            self.retire_worker(worker);
        }
        self.return_pool_listeners(key, pool.lent);
    }

    /// Plans that pools may still need: a generation that serves until the next one is ready may be an old one.
    pub(super) fn plans_of_pools(&self) -> Vec<u64> {
        let pools = self.services.iter().filter_map(|(_, service)| service.pool.as_ref());
        let generations = pools.flat_map(|pool| [Some(&pool.current), pool.next.as_ref()]);
        generations.flatten().map(|generation| generation.plan.generation).collect()
    }

    fn give_up_generation(&mut self, key: ServiceKey, generation: &Generation) {
        if let Some((timer, _)) = generation.rest {
            self.timers.cancel(timer);
        }
        self.retire_generation(key, generation.number);
    }

    fn retire_generation(&mut self, key: ServiceKey, number: u64) {
        let workers: Vec<WorkerKey> =
            self.workers.of_generation(key, number).map(|(worker, _)| worker).collect();
        for worker in workers {
            self.retire_worker(worker);
        }
    }

    /// Starts and retires workers until there are as many as there should be. `waits`: a client is there.
    pub(super) fn settle_pool(&mut self, key: ServiceKey, waits: bool) {
        if self.is_ending() {
            return;
        }
        let Some(state) = self.services.get(key).and_then(|service| service.pool.as_ref()) else { return };
        let waits = waits || !state.waiting.is_empty();
        let (current, next) = (state.current.clone(), state.next.clone());
        if let Some(pool) = current.pool() {
            let counts = self.workers.counts(key, current.number);
            let missing = if current.may_start() { pool::to_start(pool, counts, waits) } else { 0 };
            self.start_workers(key, &current, missing);
            for _ in 0..pool::to_retire(pool, counts) {
                self.retire_idlest(key, current.number);
            }
        }
        if let Some((next, pool)) = next.as_ref().and_then(|next| Some((next, next.pool()?))) {
            let counts = self.workers.counts(key, next.number);
            // With `min = 0` one has to show that it gets ready.
            let first = u32::from(counts == Counts::default());
            let missing = if next.may_start() { pool::to_start(pool, counts, false).max(first) } else { 0 };
            self.start_workers(key, next, missing);
        }
        self.say_pool_is_well(key);
        self.touched.push(key);
    }

    /// Says so if a pool of which it was said that its workers fail has what it needs, and that lives.
    fn say_pool_is_well(&mut self, key: ServiceKey) {
        let Some(state) = self.services.get_mut(key).and_then(|s| s.pool.as_mut()) else { return };
        if !state.said_degraded || state.next.is_some() || state.current.rest.is_some() {
            return;
        }
        let (number, least) = (state.current.number, state.current.pool().map_or(0, |pool| pool.min.max(1)));
        let counts = self.workers.counts(key, number);
        if counts.starting > 0 || counts.idle + counts.busy < least {
            return;
        }
        let unproven = self.workers.of_generation(key, number).filter(|(_, worker)| worker.taken == 0);
        let proven = unproven.map(|(_, worker)| worker.since + SHORT).max();
        if let Some(timer) = state.proof.take() {
            self.timers.cancel(timer);
        }
        if let Some(at) = proven.filter(|at| *at > self.now) {
            state.proof = Some(self.timers.set(at, Due::StartWorkers(key)));
            return;
        }
        state.said_degraded = false;
        self.log_state(Some(key), "online", Some("pool"), Level::Notice);
    }

    fn start_workers(&mut self, key: ServiceKey, generation: &Generation, count: u32) {
        for _ in 0..count {
            if !self.start_worker(key, generation) {
                return self.rest_generation(key, generation.number);
            }
        }
    }

    fn retire_idlest(&mut self, key: ServiceKey, number: u64) {
        let idlest = self
            .workers
            .of_generation(key, number)
            .min_by_key(|(_, worker)| (worker.held.len(), worker.since))
            .map(|(worker, _)| worker);
        if let Some(worker) = idlest {
            self.retire_worker(worker);
        }
    }

    /// A worker is ready. The first of a generation that comes up takes over.
    pub(super) fn worker_is_ready(&mut self, key: WorkerKey) {
        if self.workers.get(key).is_some_and(|worker| worker.pid == 0) {
            self.adopt_worker(key);
        }
        let Some((service, number)) = self.mark_ready(key) else { return };
        let Some(state) = self.services.get_mut(service).and_then(|s| s.pool.as_mut()) else { return };
        if let Some(next) = state.next.take_if(|next| next.number == number) {
            let old = std::mem::replace(&mut state.current, next);
            self.give_up_generation(service, &old);
        }
        self.worker_is_idle(key);
    }

    /// A worker has nothing to do: it gets what waits, goes if its time is over, or waits for its idle timeout.
    pub(super) fn worker_is_idle(&mut self, key: WorkerKey) {
        let now = self.now;
        let Some(worker) = self.workers.get(key) else { return };
        let super::workers::WorkerKind::Pool { service, .. } = worker.kind else {
            return self.handlers_are_idle(key);
        };
        if worker.phase == WorkerPhase::Retiring {
            return self.dismiss_worker(key);
        }
        if worker.lifetime.is_some_and(|lifetime| worker.given >= lifetime) {
            self.retire_worker(key);
            return self.settle_pool(service, false);
        }
        self.give_waiting(service);
        let Some(worker) = self.workers.get_mut(key).filter(|worker| worker.held.is_empty()) else {
            return self.settle_pool(service, false);
        };
        if let Some(timer) = worker.timer.take() {
            self.timers.cancel(timer);
        }
        let state = self.services.get(service).and_then(|service| service.pool.as_ref());
        if let Some(patience) = state.and_then(|state| state.current.pool()?.idle_timeout) {
            worker.timer = Some(self.timers.set(now + patience, Due::WorkerIdle(key)));
        }
        self.settle_pool(service, false);
    }

    /// It had nothing to do for as long as it may.
    pub(super) fn idle_is_over(&mut self, key: WorkerKey) {
        let Some(worker) = self.workers.get_mut(key) else { return };
        worker.timer = None;
        let super::workers::WorkerKind::Pool { service, generation, .. } = worker.kind else { return };
        let state = self.services.get(service).and_then(|service| service.pool.as_ref());
        let Some(pool) = state.and_then(|state| state.current.pool()) else { return };
        if pool::may_retire(pool, self.workers.counts(service, generation)) {
            self.retire_worker(key);
        } else if let (Some(patience), Some(worker)) = (pool.idle_timeout, self.workers.get_mut(key)) {
            worker.timer = Some(self.timers.set(self.now + patience, Due::WorkerIdle(key)));
        }
    }

    /// A worker of this generation has failed: the next ones wait, each time longer.
    pub(super) fn pool_has_failed(&mut self, key: ServiceKey, number: u64) {
        self.rest_generation(key, number);
        let Some(state) = self.services.get_mut(key).and_then(|s| s.pool.as_mut()) else { return };
        if state.generation_mut(number).is_some() && !std::mem::replace(&mut state.said_degraded, true) {
            self.log_state(Some(key), "degraded", Some("pool"), Level::Warning);
        }
        self.touched.push(key);
    }

    fn rest_generation(&mut self, key: ServiceKey, number: u64) {
        let now = self.now;
        let state = self.services.get_mut(key).and_then(|service| service.pool.as_mut());
        let Some(generation) = state.and_then(|state| state.generation_mut(number)) else { return };
        if generation.rest.is_none() {
            let until = now + generation.backoff.wait();
            generation.rest = Some((self.timers.set(until, Due::StartWorkers(key)), until));
        }
    }

    /// A worker has worked: failures before it do not count any more.
    pub(super) fn pool_has_worked(&mut self, key: ServiceKey, number: u64) {
        let state = self.services.get_mut(key).and_then(|service| service.pool.as_mut());
        if let Some(generation) = state.and_then(|state| state.generation_mut(number)) {
            generation.backoff = fresh_backoff();
        }
    }

    /// The rest of a generation is over.
    pub(super) fn start_workers_again(&mut self, key: ServiceKey) {
        let now = self.now;
        let Some(state) = self.services.get_mut(key).and_then(|s| s.pool.as_mut()) else { return };
        for generation in [Some(&mut state.current), state.next.as_mut()].into_iter().flatten() {
            generation.rest.take_if(|(_, until)| *until <= now);
        }
        self.settle_pool(key, false);
    }

    /// May a connection of this pool be accepted: has a worker room, or could one be started for it?
    pub(super) fn pool_may_accept(&self, key: ServiceKey) -> bool {
        let Some(state) = self.services.get(key).and_then(|service| service.pool.as_ref()) else {
            return false;
        };
        let Some(pool) = state.current.pool() else { return false };
        if !self.services.get(key).is_some_and(|service| service.settings.is_accepted())
            || !state.waiting.is_empty()
        {
            return false;
        }
        let counts = self.workers.counts(key, state.current.number);
        counts.room > 0 || (state.current.may_start() && pool::to_start(pool, counts, true) > 0)
    }

    /// Has a worker of this pool room now?
    pub(super) fn pool_has_room(&self, key: ServiceKey) -> bool {
        self.worker_with_room(key).is_some()
    }
}

/// Can the workers of `old` go on as those of `new`?
fn is_same(old: &Generation, new: &Generation) -> bool {
    let same = |(old, new): (&Pool, &Pool)| !pool::is_other_generation(old, new);
    old.listeners == new.listeners && old.pool().zip(new.pool()).is_some_and(same)
}
