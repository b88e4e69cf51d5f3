//! What would become of a client, and why: the question of `superctl explain`, and its answer.
//!
//! [`asked`] reads the question, [`answer`](mod@answer) answers it with the daemon's own judge. Whoever asks brings the rules and
//! what they stand for: those in force, or those of a file.

use serde::{Deserialize, Serialize};

use crate::model::place::Place;

use super::control::BanStatus;

pub mod answer;
pub mod asked;

/// Who comes to what, as an admin writes it. What is not told counts as unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The service.
    pub service: String,
    /// An address, an address and a port, `unix`, or `uid:NUMBER`.
    pub client: String,
    /// The client's confirmed name; `unknown`: it has none, `paranoid`: it has one that leads elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The client's user, as an ident server says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// That user's number, where the client is of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// When: `03:00`, `Mon 03:00`, `2026-11-22T03:00`; else now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What would become of the client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The service.
    pub service: String,
    /// The client.
    pub client: String,
    /// Is it let in?
    pub allowed: bool,
    /// Why not: a word of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where stands what decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Place>,
    /// Why it can't be told, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
    /// What each part said, in the order of judging.
    pub steps: Vec<Step>,
    /// Rules that only observe, and would have refused it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Place>,
    /// What would have been asked, was not told, and counts as unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
    /// How the service is now; absent if it was judged from a file, or for another time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<Standing>,
}

/// What one part said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where it stands; absent where no rule says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// The part: `deny`, `from`, `rule deny`, `hosts_access`.
    pub part: String,
    /// `yes`, `no`, `unknown`; of `hosts_access` what it decides.
    pub answer: String,
    /// The pattern that says it, or why it can't be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// How a service, and a client of it, stand at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The state of the service, as `status` says it.
    pub state: String,
    /// Why it is not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sessions of the service.
    pub sessions: u32,
    /// Those of the client's source.
    pub of_source: u32,
    /// `per_source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_source: Option<u32>,
    /// The ban that holds for the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban: Option<BanStatus>,
}
