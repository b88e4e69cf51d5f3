//! The end of hours, where it ends sessions (`end_sessions`).
//!
//! Hours change at whole minutes of the clock on the wall, which may be set at any time: while there are such
//! sessions, each minute is looked at, and nothing is reckoned ahead.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::model::label::Label;
use crate::service::reason::Reason;

use super::Supervisor;
use super::sessions::{Phase, SessionKey};
use super::timers::Due;

const MINUTE: Duration = Duration::from_mins(1);

impl Supervisor {
    /// There is a session that ends with its hours.
    pub(super) fn watch_hours(&mut self) {
        if self.minute.is_none() {
            let rest = rest_of_minute(SystemTime::now());
            self.minute = Some(self.timers.set(self.now + rest, Due::Minute));
        }
    }

    pub(super) fn minute_is_over(&mut self) {
        self.minute = None;
        self.end_sessions_of_hours();
        if self.sessions.table.iter().any(|(_, session)| session.hours.is_some()) {
            self.watch_hours();
        }
    }

    /// Ends the sessions whose hours are over, by the hours in force. Hours that are there no more end nothing.
    pub(super) fn end_sessions_of_hours(&mut self) {
        let now = SystemTime::now();
        let mut over: HashMap<&Label, bool> = HashMap::new();
        let mut ended: Vec<(SessionKey, Phase)> = Vec::new();
        for (key, session) in self.sessions.table.iter().filter(|(_, session)| session.cause.is_none()) {
            let Some(name) = &session.hours else { continue };
            let is_over = *over.entry(name).or_insert_with(|| {
                self.admittance.tables.hours(name).and_then(|hours| hours.is_inside(now)) == Some(false)
            });
            if is_over {
                ended.push((key, session.phase));
            }
        }
        for (key, phase) in ended {
            match phase {
                Phase::Queued => self.abandon_session(key, Reason::Hours),
                _ => self.end_session(key, "hours"),
            }
        }
    }
}

/// To the next whole minute, and never nothing.
fn rest_of_minute(now: SystemTime) -> Duration {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let gone = Duration::new(since.as_secs() % MINUTE.as_secs(), since.subsec_nanos());
    MINUTE.saturating_sub(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_those_of_the_clock() {
        for (milliseconds, expected) in
            [(0, 60_000), (1, 59_999), (59_999, 1), (60_000, 60_000), (90_500, 29_500)]
        {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds);
            assert_eq!(rest_of_minute(now), Duration::from_millis(expected), "{milliseconds}");
        }
    }
}
