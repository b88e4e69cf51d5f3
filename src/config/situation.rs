//! Who loads a configuration, as plain values: what the same text means for root and for others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::settings::Resource;

/// What a file is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The daemon's configuration.
    #[default]
    Daemon,
    /// superwrap's policy: services without listeners and without programs.
    Policy,
}

/// The circumstances of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Situation {
    /// What the file is for.
    #[serde(default)]
    pub scope: Scope,
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
            scope: Scope::Daemon,
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

/// Where a superd without root has its control socket and pid file: `$XDG_RUNTIME_DIR/superd`; where there is no
/// such directory, one of its own in /tmp. superctl looks there, too.
pub fn runtime_dir(xdg_runtime_dir: Option<&str>, uid: u32) -> PathBuf {
    match xdg_runtime_dir.filter(|directory| directory.starts_with('/')) {
        Some(directory) => Path::new(directory).join("superd"),
        None => PathBuf::from(format!("/tmp/superd-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_root_there_is_always_a_runtime_directory() {
        for (xdg, expected) in [
            (Some("/run/user/7"), "/run/user/7/superd"),
            (Some("run"), "/tmp/superd-7"),
            (Some(""), "/tmp/superd-7"),
            (None, "/tmp/superd-7"),
        ] {
            assert_eq!(runtime_dir(xdg, 7), Path::new(expected), "{xdg:?}");
        }
    }
}
