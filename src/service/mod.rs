//! What superd decides and does, as functions of values: admission, states, back-off, the reload plan,
//! records of what happened. Times and counts come in as arguments; what to do comes out.

pub mod admission;
pub mod backoff;
pub mod ban;
pub mod ban_file;
pub mod bans;
pub mod frequency;
pub mod lines;
pub mod offences;
pub mod pool;
pub mod rate;
pub mod reason;
pub mod record;
pub mod refusals;
pub mod reload;
pub mod sources;
pub mod stamps;
