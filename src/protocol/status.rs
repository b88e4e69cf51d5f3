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
    /// Pool workers; always 0 in this version.
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
}
