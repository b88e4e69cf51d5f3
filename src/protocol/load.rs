//! What the supervisor asks of the loader, and what comes back: each in a sealed memfd.
//!
//! The request comes with the packet `load`. The answer's first descriptor holds [`Loaded`]; a configuration that
//! is good adds the configuration ([`crate::config::wire`]), its launch plans ([`super::plans`]), what its rules need
//! ([`super::tables`]), and the inotify of its watched files, if there are any.

use std::ffi::OsString;
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
    /// Only lists are to be read again, since these have changed.
    pub changed: Option<Vec<Changed>>,
}

/// A watched file that has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// As the configuration names it.
    pub path: PathBuf,
    /// It was made, and nobody has closed it since.
    pub made: bool,
}

/// A watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Its number.
    pub id: i32,
    /// Its path.
    pub directory: PathBuf,
    /// Names in it, and the watched files that they are or lead to.
    pub names: Vec<(OsString, PathBuf)>,
}

/// What came of it. The configuration is good if there are no errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// What forbids using the configuration.
    pub errors: Vec<Complaint>,
    /// What is only doubtful.
    pub warnings: Vec<Complaint>,
    /// What the watches are about; their descriptor comes last.
    pub watches: Vec<Watch>,
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
