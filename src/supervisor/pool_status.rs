//! The state of pools and their workers, for `superctl pool`.

use std::os::fd::AsFd;

use crate::config::settings::{Pool, PoolProtocol};
use crate::protocol::control::{PoolLimits, PoolStatus, WorkerStatus};
use crate::service::admission::ServiceKey;

use super::Supervisor;
use super::options;
use super::pools::PoolState;
use super::workers::{Worker, WorkerKind, WorkerPhase};

impl Supervisor {
    /// All pools, sorted by name; or that of one service.
    pub(super) fn pool_status(&self, name: Option<&str>) -> Result<Vec<PoolStatus>, String> {
        let Some(name) = name else {
            let pools =
                self.services.iter().filter_map(|(key, service)| self.pool_of(key, service.pool.as_ref()?));
            let mut pools: Vec<PoolStatus> = pools.collect();
            pools.sort_by(|a, b| a.service.cmp(&b.service));
            return Ok(pools);
        };
        let missing = || format!("there is no service `{name}`");
        let key = self.services.by_name(name).ok_or_else(missing)?;
        let pool = self.services.get(key).and_then(|service| self.pool_of(key, service.pool.as_ref()?));
        pool.map(|pool| vec![pool]).ok_or_else(|| format!("`{name}` has no pool"))
    }

    fn pool_of(&self, key: ServiceKey, state: &PoolState) -> Option<PoolStatus> {
        let service = self.services.get(key)?;
        let pool = state.current.pool()?;
        let mut status = PoolStatus {
            service: service.name().to_string(),
            protocol: match pool.protocol {
                PoolProtocol::Handoff => "handoff",
                PoolProtocol::Listen => "listen",
            }
            .to_owned(),
            generation: state.current.number,
            next: state.next.as_ref().map(|next| next.number),
            starting: 0,
            idle: 0,
            busy: 0,
            retiring: 0,
            connections: 0,
            waiting: count(state.waiting.len()).saturating_add(self.clients_in_queues(key)),
            restarts: state.restarts,
            retry_in: state.rests_until().map(|at| at.saturating_duration_since(self.now).as_secs_f64()),
            limits: limits(pool),
            workers: Vec::new(),
        };
        for (_, worker) in self.workers.of_service(key) {
            self.add_worker(&mut status, worker);
        }
        Some(status)
    }

    fn add_worker(&self, status: &mut PoolStatus, worker: &Worker) {
        let WorkerKind::Pool { generation, .. } = worker.kind else { return };
        let connections = count(worker.held.len());
        match worker.phase {
            WorkerPhase::Launching | WorkerPhase::Starting => status.starting += 1,
            WorkerPhase::Ready if connections == 0 => status.idle += 1,
            WorkerPhase::Ready => status.busy += 1,
            WorkerPhase::Retiring => status.retiring += 1,
        }
        status.connections = status.connections.saturating_add(connections);
        status.workers.push(WorkerStatus {
            pid: worker.pid,
            state: worker.phase.word().to_owned(),
            generation,
            connections,
            served: worker.taken,
            age: self.now.saturating_duration_since(worker.started).as_secs_f64(),
        });
    }

    fn clients_in_queues(&self, key: ServiceKey) -> u32 {
        let listeners =
            self.services.get(key).map(|service| service.listeners.as_slice()).unwrap_or_default();
        let listeners = listeners.iter().filter_map(|&key| self.listeners.get(key));
        listeners.filter_map(|listener| options::queue(listener.fd.as_fd())).map(|[waiting, _]| waiting).sum()
    }
}

fn limits(pool: &Pool) -> PoolLimits {
    if pool.protocol == PoolProtocol::Listen {
        return PoolLimits { min: pool.min, ..PoolLimits::default() };
    }
    PoolLimits {
        min: pool.min,
        spare: Some(pool.spare),
        max: Some(pool.max),
        concurrency: Some(pool.concurrency),
        max_connections: pool.max_connections,
        idle_timeout: pool.idle_timeout.map(|time| time.as_secs_f64()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
