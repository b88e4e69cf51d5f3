//! Why a client was refused: a closed table, with the word that the log uses.

use serde::{Deserialize, Serialize};

/// Why a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The service's `connections`.
    Connections,
    /// The source's `per_source`.
    PerSource,
    /// `[daemon] max_sessions`.
    MaxSessions,
    /// No process could be made.
    Launch,
    /// superd is ending.
    Shutdown,
}

impl Reason {
    /// Every reason, for tables and documents.
    pub const ALL: [Self; 5] =
        [Self::Connections, Self::PerSource, Self::MaxSessions, Self::Launch, Self::Shutdown];

    /// The word of superd's own log format, of `status` and of metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::PerSource => "per_source",
            Self::MaxSessions => "max_sessions",
            Self::Launch => "launch",
            Self::Shutdown => "shutdown",
        }
    }

    /// The word that xinetd writes after `FAIL:`, or ours where xinetd has none.
    pub fn xinetd_word(self) -> &'static str {
        match self {
            Self::Connections => "service_limit",
            Self::PerSource => "per_source_limit",
            Self::MaxSessions => "process_limit",
            Self::Launch => "fork",
            Self::Shutdown => "shutdown",
        }
    }
}
