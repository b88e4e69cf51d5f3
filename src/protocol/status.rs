//! The state of superd as one object: what `superctl status --json` prints, and what `state_dir/state.json` holds.
//!
//! Words and numbers for people and programs, no longer the types that superd decides with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of superd: `superctl status --json`, and `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// superd's version.
    pub version: String,
    /// The supervisor's process.
    pub pid: i32,
    /// The configuration's generation, from 1.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// Open descriptors of the supervisor.
    pub fds: u32,
    /// Services, sorted by name; those that are gone while they have sessions, too.
    pub services: Vec<ServiceStatus>,
    /// Sessions over all services.
    pub sessions: u32,
    /// Workers of pools.
    pub workers: u32,
    /// Launches in flight.
    pub launches: u32,
    /// Connections that wait for the answers that their rules need.
    #[serde(default)]
    pub pending: u32,
    /// Children that were reaped and not ours.
    pub strangers: u64,
    /// Log lines that were dropped since the start.
    pub dropped_log_lines: u64,
}

/// One service in [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// online, paused, degraded, draining or disabled.
    pub state: String,
    /// Why it is not online: a limit's word, an errno with its endpoint, a role.
    pub reason: Option<String>,
    /// Seconds to the next try.
    pub retry_in: Option<f64>,
    /// What it has bound, or wants to.
    pub listeners: Vec<ListenerStatus>,
    /// Sessions of it.
    pub sessions: u32,
    /// Programs started since the service exists.
    pub started: u64,
    /// Programs that could not be started.
    pub launch_failed: u64,
    /// Refused clients, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Workers of its pool, those that retire among them.
    #[serde(default)]
    pub workers: u32,
    /// What became of its datagrams, where superd's handlers read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<DatagramStatus>,
}

/// Datagrams of a built-in service, since it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramStatus {
    /// Bytes that came.
    pub received: u64,
    /// Bytes that were sent.
    pub sent: u64,
    /// Datagrams that were answered.
    pub answered: u64,
    /// Datagrams that came too often, or may not be answered. Those that rules refuse never come.
    pub refused: u64,
}

/// The pool of a service: an answer to `pool` is a list of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The service.
    pub service: String,
    /// handoff or listen.
    pub protocol: String,
    /// The generation that serves.
    pub generation: u64,
    /// The generation that is coming up to take over.
    pub next: Option<u64>,
    /// Workers that are not ready yet.
    pub starting: u32,
    /// Workers that are ready and have no connection, as far as superd sees them.
    pub idle: u32,
    /// Workers with a connection.
    pub busy: u32,
    /// Workers that get nothing more.
    pub retiring: u32,
    /// Connections that workers have.
    pub connections: u32,
    /// Clients that wait for a worker: in the kernel's queue, or because theirs has ended.
    pub waiting: u32,
    /// Workers that ended without being told to.
    pub restarts: u64,
    /// Seconds until workers are started again, after failures.
    pub retry_in: Option<f64>,
    /// How many of what it may have.
    pub limits: PoolLimits,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
}

/// The limits of a pool; `None` where there is none, or where superd does not see it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolLimits {
    /// Workers that are always there.
    pub min: u32,
    /// Idle workers that are kept.
    pub spare: Option<u32>,
    /// Workers, at most.
    pub max: Option<u32>,
    /// Connections that a worker has at once, at most.
    pub concurrency: Option<u32>,
    /// Connections after which a worker is replaced, give or take a tenth.
    pub max_connections: Option<u32>,
    /// Seconds after which a worker without a connection may go.
    pub idle_timeout: Option<f64>,
}

/// A worker of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its process; 0 before there is one.
    pub pid: i32,
    /// starting, ready or retiring.
    pub state: String,
    /// Its generation.
    pub generation: u64,
    /// Connections that it has.
    pub connections: u32,
    /// Connections that it has taken so far.
    pub served: u32,
    /// Seconds since it was asked for.
    pub age: f64,
}

/// One listener in [`Status`], and the answer to `socket`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// As the configuration wants it: `tcp:127.0.0.1:79`.
    pub endpoint: String,
    /// As the kernel has it: `127.0.0.1:79`; none while it is not bound.
    pub bound: Option<String>,
    /// The errno that keeps it from being bound.
    pub error: Option<String>,
    /// Options by their configuration name, as getsockopt(2) reads them. Only in the answer to `socket`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Connections that wait in the kernel's queue, and the queue's length. Only in the answer to `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<[u32; 2]>,
    /// Datagrams that the kernel dropped: rules refused them, or they came while the socket's buffer was full. Only in the
    /// answer to `socket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u32>,
}
