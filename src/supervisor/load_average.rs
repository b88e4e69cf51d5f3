//! The load average, for services with a limit on it: read when one of them has a client, at most once a second.

use std::time::Instant;

use crate::config::settings::Level;
use crate::model::rate::LoadAverage;
use crate::service::admission::{LOAD_REST, Moment, ServiceKey};
use crate::sys::load;

use super::Supervisor;

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct Reading {
    at: Option<Instant>,
    value: Option<LoadAverage>,
    said_unknown: bool,
}

impl Supervisor {
    /// What admission asks of the machine.
    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now, load: self.load_average.value }
    }

    /// Reads the load, if the service has a limit on it and it was not read just now.
    pub(super) fn look_at_load(&mut self, key: ServiceKey) {
        let cares = self.services.get(key).is_some_and(|service| service.settings.limits.load.is_some());
        if !cares || self.load_average.at.is_some_and(|at| self.now < at + LOAD_REST) {
            return;
        }
        let text = load::load_average();
        self.load_average.at = Some(self.now);
        self.load_average.value = text.ok().as_deref().and_then(LoadAverage::of_last_minute);
        if self.load_average.value.is_none() && !self.load_average.said_unknown {
            self.load_average.said_unknown = true;
            self.note(Level::Err, "/proc/loadavg can't be read: no `limits.load` holds");
        }
    }
}
