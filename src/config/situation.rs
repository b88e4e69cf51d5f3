//! Who loads a configuration, as plain values: what the same text means for root and for others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::settings::Resource;

/// The circumstances of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// Judge as for root: users are taken on, files must be safe.
    pub root: bool,
    /// Whom superd runs as; its files are trusted beside root's.
    pub uid: u32,
    /// What relative names of configuration files are relative to.
    pub cwd: PathBuf,
    /// Where the control socket and the pid file go, where nothing else is said.
    pub runtime_dir: PathBuf,
    /// Where state goes, where nothing else is said.
    pub state_dir: PathBuf,
    /// superd's own environment, for `pass_env`.
    pub environment: BTreeMap<String, String>,
    /// superd's own hard limits: without root, none can be raised beyond them.
    pub hard_limits: BTreeMap<Resource, u64>,
}

impl Situation {
    /// As root, at the places of the file system standard.
    pub fn of_root() -> Self {
        Self {
            root: true,
            uid: 0,
            cwd: PathBuf::from("/"),
            runtime_dir: PathBuf::from("/run/superd"),
            state_dir: PathBuf::from("/var/lib/superd"),
            environment: BTreeMap::new(),
            hard_limits: BTreeMap::new(),
        }
    }
}
