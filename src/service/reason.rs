//! Why a client was refused: a closed table, with the word that the log uses.

use serde::{Deserialize, Serialize};

use crate::model::offence::Offence;
use crate::policy::truth::Cause;

/// Why a client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A rule about addresses.
    Address,
    /// A rule about names.
    Name,
    /// A rule about users.
    User,
    /// A rule about hours.
    Hours,
    /// A rule that can't be told, where only certainty lets in.
    Undecided,
    /// The service's `connections`.
    Connections,
    /// The source's `per_source`.
    PerSource,
    /// `[daemon] max_sessions`.
    MaxSessions,
    /// The service's `rate`.
    Rate,
    /// The source's `rate_per_source`.
    RatePerSource,
    /// The service's `load`.
    Load,
    /// The client has the way of its packets in their options (RFC 791, source route).
    SourceRoute,
    /// hosts.allow or hosts.deny.
    HostsAccess,
    /// The source is banned.
    Ban,
    /// No process could be made.
    Launch,
    /// superd is ending.
    Shutdown,
}

impl Reason {
    /// Every reason, for tables and documents.
    pub const ALL: [Self; 16] = [
        Self::Address,
        Self::Name,
        Self::User,
        Self::Hours,
        Self::Undecided,
        Self::Connections,
        Self::PerSource,
        Self::MaxSessions,
        Self::Rate,
        Self::RatePerSource,
        Self::Load,
        Self::SourceRoute,
        Self::HostsAccess,
        Self::Ban,
        Self::Launch,
        Self::Shutdown,
    ];

    /// The word of superd's own log format, of `status` and of metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => Cause::Address.word(),
            Self::Name => Cause::Name.word(),
            Self::User => Cause::User.word(),
            Self::Hours => Cause::Hours.word(),
            Self::Undecided => Cause::Undecided.word(),
            Self::Connections => "connections",
            Self::PerSource => "per_source",
            Self::MaxSessions => "max_sessions",
            Self::Rate => "rate",
            Self::RatePerSource => "rate_per_source",
            Self::Load => "load",
            Self::SourceRoute => "source-route",
            Self::HostsAccess => "hosts_access",
            Self::Ban => "ban",
            Self::Launch => "launch",
            Self::Shutdown => "shutdown",
        }
    }

    /// The word that xinetd writes after `FAIL:`, or ours where xinetd has none.
    pub fn xinetd_word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Name | Self::HostsAccess => "libwrap",
            Self::User => "user",
            Self::Hours => "time",
            Self::Undecided => "undecided",
            Self::Connections => "service_limit",
            Self::PerSource => "per_source_limit",
            Self::MaxSessions => "process_limit",
            Self::Rate | Self::RatePerSource => "connections per second",
            Self::Load => "load",
            Self::SourceRoute => "source-route",
            Self::Ban => "ban",
            Self::Launch => "fork",
            Self::Shutdown => "shutdown",
        }
    }

    /// The offence that its client has given; `None` where it is refused for what the service or the machine is
    /// short of, or because it is banned already.
    pub fn offence(self) -> Option<Offence> {
        match self {
            Self::RatePerSource => Some(Offence::Rate),
            Self::Address
            | Self::Name
            | Self::User
            | Self::Hours
            | Self::PerSource
            | Self::SourceRoute
            | Self::HostsAccess => Some(Offence::Refused),
            // A name service that fails must not have clients banned.
            Self::Undecided
            | Self::Connections
            | Self::MaxSessions
            | Self::Rate
            | Self::Load
            | Self::Ban
            | Self::Launch
            | Self::Shutdown => None,
        }
    }
}

impl From<Cause> for Reason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Address => Self::Address,
            Cause::Name => Self::Name,
            Cause::User => Self::User,
            Cause::Hours => Self::Hours,
            Cause::Undecided => Self::Undecided,
        }
    }
}
