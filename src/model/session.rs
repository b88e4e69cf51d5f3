//! The name of one session: unique over the life of superd and over its restarts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Hex of the second in which superd was started, `-`, and a counter: `67405a10-1f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// Seconds since 1970 when superd was started.
    pub epoch: u64,
    /// Counted from 1.
    pub serial: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.epoch, self.serial)
    }
}
