//! How often the datagrams of one socket are answered: all of them, and those of each source.
//!
//! Knows no socket and no service.

use std::hash::RandomState;
use std::net::SocketAddr;
use std::time::Instant;

use crate::model::address::{Source, SourcePrefix};
use crate::model::rate::Rate;
use crate::protocol::handoff::Rates;
use crate::service::frequency::Frequency;
use crate::service::rate::Meter;

/// The table of sources tells services apart; here there is one.
const ONLY: u32 = 0;

/// The rates of a socket, and what has come.
#[derive(Debug)]
pub(super) struct Pace {
    all: Option<(Rate, Meter)>,
    per_source: Option<(Rate, Frequency)>,
    prefix: SourcePrefix,
}

impl Pace {
    /// `None` where nobody is held up.
    pub(super) fn of(rates: Rates) -> Option<Self> {
        let Rates { rate, per_source, prefix } = rates;
        let is_paced = rate.is_some() || per_source.is_some();
        is_paced.then(|| Self {
            all: rate.map(|rate| (rate, Meter::default())),
            per_source: per_source.map(|rate| (rate, Frequency::new(RandomState::new()))),
            prefix,
        })
    }

    /// Counts a datagram. One that is refused counts in neither rate.
    pub(super) fn lets_in(&mut self, source: SocketAddr, now: Instant) -> bool {
        if self.all.as_ref().is_some_and(|(rate, meter)| meter.retry_at(*rate, now).is_some()) {
            return false;
        }
        let source = Source::of_address(source.ip(), self.prefix);
        let of_source = self
            .per_source
            .as_mut()
            .is_none_or(|(rate, sources)| sources.allow(ONLY, source, *rate, now).is_ok());
        of_source && self.all.as_mut().is_none_or(|(rate, meter)| meter.allow(*rate, now).is_ok())
    }
}
