//! What the supervisor asks of the loader, and what comes back: each in a sealed memfd.
//!
//! The request comes with the packet `load`. The answer's first descriptor holds [`Loaded`]; a configuration that
//! is good adds the configuration ([`crate::config::wire`]), its launch plans ([`super::plans`]) and what its rules need
//! ([`super::tables`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::diagnostic::Complaint;
use crate::config::settings::RlimitPair;
use crate::config::situation::Situation;

use super::launch::Malformed;

/// A load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The configuration file.
    pub path: PathBuf,
    /// Whom it is judged for.
    pub situation: Situation,
    /// The limit of descriptors that superd was started with; programs get it back.
    pub nofile: RlimitPair,
    /// The name of the socket where workers of pools say that they are ready.
    pub notify: String,
}

/// What came of it. The configuration is good if there are no errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// What forbids using the configuration.
    pub errors: Vec<Complaint>,
    /// What is only doubtful.
    pub warnings: Vec<Complaint>,
}

impl Loaded {
    /// The bytes of a message.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(bytes).map_err(|_| Malformed)
    }
}
