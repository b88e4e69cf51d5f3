//! Who a process is to the kernel: numbers only, looked up once, when the configuration is loaded.

use serde::{Deserialize, Serialize};

/// The numeric user, group and supplementary groups that a process takes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Real, effective and saved user id.
    pub uid: u32,
    /// Real, effective and saved group id.
    pub gid: u32,
    /// Supplementary groups; empty for none at all.
    pub groups: Vec<u32>,
}

/// What the user database says of a user, as far as the environment of a program needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// `USER` and `LOGNAME`.
    pub name: String,
    /// `HOME`.
    pub home: String,
    /// `SHELL`.
    pub shell: String,
}
