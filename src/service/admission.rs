//! Who may become a session: counts and rates per service, per source and over all, and the load of the
//! machine, in constant time.
//!
//! A source is counted only while it has sessions, so that the table is never larger than `max_sessions`; how often
//! it came is kept in a table that is bounded by itself. Time and load come in as values.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::RandomState;
use std::time::{Duration, Instant};

use crate::config::settings::Limits;
use crate::model::address::Source;
use crate::model::rate::LoadAverage;

use super::frequency::Frequency;
use super::rate::Meter;
use super::reason::Reason;

/// A service, as long as it or one of its sessions lives.
pub type ServiceKey = usize;

/// How long until a load that is too high is looked at again. The kernel computes it every 5 s.
pub const LOAD_REST: Duration = Duration::from_secs(1);

/// What is true of the machine when somebody asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now: Instant,
    /// The load average of the last minute; `None`: nobody knows, and no limit holds.
    pub load: Option<LoadAverage>,
}

/// A limit of the whole service that leaves no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Which.
    pub reason: Reason,
    /// When to ask again; `None`: when a session has ended.
    pub until: Option<Instant>,
}

/// The counts.
#[derive(Debug)]
pub struct Admission {
    max_sessions: u32,
    total: u32,
    services: Vec<Counts>,
    sources: HashMap<(ServiceKey, Source), u32>,
    frequency: Frequency,
    /// Numbers for services given out: a key may be another service's later, a number never.
    numbers: u32,
}

/// What is counted for one service.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    sessions: u32,
    meter: Meter,
    /// How the table of rates knows it; 0 before it is asked.
    number: u32,
}

impl Admission {
    /// Nobody is in.
    pub fn new(max_sessions: u32) -> Self {
        Self {
            max_sessions,
            total: 0,
            services: Vec::new(),
            sources: HashMap::new(),
            frequency: Frequency::new(RandomState::new()),
            numbers: 0,
        }
    }

    /// A reload may change it; sessions beyond it stay.
    pub fn set_max_sessions(&mut self, max_sessions: u32) {
        self.max_sessions = max_sessions;
    }

    /// Sessions over all services.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Are there as many sessions as may be, over all services?
    pub fn is_full(&self) -> bool {
        self.total >= self.max_sessions
    }

    /// Sessions of one service.
    pub fn sessions(&self, service: ServiceKey) -> u32 {
        self.services.get(service).map_or(0, |counts| counts.sessions)
    }

    /// The limit of the whole service that leaves no room for another session. What ends with a session comes
    /// first: until then nobody has to ask for the time.
    pub fn full(&self, service: ServiceKey, limits: &Limits, moment: Moment) -> Option<Full> {
        if limits.connections.is_some_and(|most| self.sessions(service) >= most) {
            return Some(Full { reason: Reason::Connections, until: None });
        }
        self.full_for_server(service, limits, moment)
    }

    /// The same for a server that gets the listener itself: how many of them there are is the listeners' number.
    pub fn full_for_server(&self, service: ServiceKey, limits: &Limits, moment: Moment) -> Option<Full> {
        if self.is_full() {
            return Some(Full { reason: Reason::MaxSessions, until: None });
        }
        let meter = self.services.get(service).map(|counts| counts.meter).unwrap_or_default();
        if let Some(until) = limits.rate.and_then(|rate| meter.retry_at(rate, moment.now)) {
            return Some(Full { reason: Reason::Rate, until: Some(until) });
        }
        let is_loaded = limits.load.zip(moment.load).is_some_and(|(most, load)| load >= most);
        is_loaded.then(|| Full { reason: Reason::Load, until: Some(moment.now + LOAD_REST) })
    }

    /// Counts a new session in all its limits, or names the one that is reached. The source's own limits come
    /// last, so that a source is not blamed for what the whole service is short of; and who is refused is counted
    /// in none, so that a source beyond its limits takes nothing from the others.
    pub fn admit(
        &mut self,
        service: ServiceKey,
        limits: &Limits,
        source: Source,
        moment: Moment,
    ) -> Result<(), Reason> {
        if let Some(full) = self.full(service, limits, moment) {
            return Err(full.reason);
        }
        let of_source = self.of_source(service, source);
        if limits.per_source.is_some_and(|most| of_source >= most) {
            return Err(Reason::PerSource);
        }
        let number = self.number(service);
        if let Some(rate) = limits.rate_per_source
            && self.frequency.allow(number, source, rate, moment.now).is_err()
        {
            return Err(Reason::RatePerSource);
        }
        self.sources.insert((service, source), of_source + 1);
        self.count(service, limits, moment.now);
        Ok(())
    }

    /// What [`Admission::admit`] would say; nothing is counted.
    pub fn would_refuse(
        &mut self,
        service: ServiceKey,
        limits: &Limits,
        source: Source,
        moment: Moment,
    ) -> Option<Reason> {
        if let Some(full) = self.full(service, limits, moment) {
            return Some(full.reason);
        }
        if limits.per_source.is_some_and(|most| self.of_source(service, source) >= most) {
            return Some(Reason::PerSource);
        }
        let (rate, number) = (limits.rate_per_source?, self.number(service));
        self.frequency.is_spent(number, source, rate, moment.now).then_some(Reason::RatePerSource)
    }

    /// Sessions of one source at a service.
    pub fn of_source(&self, service: ServiceKey, source: Source) -> u32 {
        self.sources.get(&(service, source)).copied().unwrap_or(0)
    }

    /// Counts a server that has no client of its own: in all limits but its source's.
    pub fn admit_server(&mut self, service: ServiceKey, limits: &Limits, now: Instant) {
        self.count(service, limits, now);
    }

    /// Gives back what [`Admission::admit`] or [`Admission::admit_server`] has counted.
    pub fn release(&mut self, service: ServiceKey, source: Option<Source>) {
        if let Some(source) = source
            && let Entry::Occupied(mut entry) = self.sources.entry((service, source))
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        if let Some(counts) = self.services.get_mut(service) {
            counts.sessions = counts.sessions.saturating_sub(1);
        }
        self.total = self.total.saturating_sub(1);
    }

    /// The service has other limits from now on: a rate that was slower does not hold it up any longer.
    pub fn change(&mut self, service: ServiceKey, limits: &Limits, now: Instant) {
        if let (Some(counts), Some(rate)) = (self.services.get_mut(service), limits.rate) {
            counts.meter.change(rate, now);
        }
    }

    /// The service is gone, and so are its sessions: its key may become another one's.
    pub fn forget(&mut self, service: ServiceKey) {
        if let Some(counts) = self.services.get_mut(service) {
            self.frequency.forget(counts.number);
            *counts = Counts::default();
        }
    }

    fn counts(&mut self, service: ServiceKey) -> Option<&mut Counts> {
        if self.services.len() <= service {
            self.services.resize(service + 1, Counts::default());
        }
        self.services.get_mut(service)
    }

    fn number(&mut self, service: ServiceKey) -> u32 {
        let next = self.numbers.wrapping_add(1).max(1);
        let Some(counts) = self.counts(service) else { return 0 };
        if counts.number == 0 {
            counts.number = next;
            self.numbers = next;
            return next;
        }
        counts.number
    }

    fn count(&mut self, service: ServiceKey, limits: &Limits, now: Instant) {
        if let Some(counts) = self.counts(service) {
            counts.sessions += 1;
            if let Some(rate) = limits.rate {
                // Whether there is room was asked before.
                let _ = counts.meter.allow(rate, now);
            }
        }
        self.total += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::OnLimit;
    use crate::model::address::SourcePrefix;
    use crate::model::rate::{Per, Rate};

    fn limits(connections: u32, per_source: u32) -> Limits {
        let some = |n: u32| (n > 0).then_some(n);
        Limits {
            connections: some(connections),
            per_source: some(per_source),
            rate: None,
            rate_per_source: None,
            load: None,
            on_limit: OnLimit::Queue,
            source_prefix: SourcePrefix::default(),
        }
    }

    fn source(text: &str) -> Source {
        Source::of_address(text.parse().unwrap(), SourcePrefix::default())
    }

    fn now() -> Moment {
        Moment { now: Instant::now(), load: None }
    }

    #[test]
    fn limits_are_counted_and_given_back() {
        let (mut admission, now) = (Admission::new(4), now());
        let (a, b, c) = (source("192.0.2.1"), source("192.0.2.2"), source("192.0.2.3"));
        let two_each = limits(3, 2);
        assert_eq!(admission.admit(0, &two_each, a, now), Ok(()));
        assert_eq!(admission.admit(0, &two_each, a, now), Ok(()));
        assert_eq!(admission.admit(0, &two_each, a, now), Err(Reason::PerSource));
        assert_eq!(admission.would_refuse(0, &two_each, a, now), Some(Reason::PerSource));
        assert_eq!(admission.would_refuse(0, &two_each, b, now), None);
        assert_eq!(admission.admit(0, &two_each, b, now), Ok(()));
        assert_eq!(admission.admit(0, &two_each, c, now), Err(Reason::Connections));
        assert_eq!(admission.admit(7, &limits(0, 0), c, now), Ok(()));
        assert_eq!(admission.admit(7, &limits(0, 0), c, now), Err(Reason::MaxSessions));
        assert_eq!((admission.total(), admission.sessions(0), admission.sessions(7)), (4, 3, 1));
        admission.release(0, Some(a));
        assert_eq!(admission.admit(0, &two_each, a, now), Ok(()));
        for source in [a, a, b] {
            admission.release(0, Some(source));
        }
        admission.release(7, Some(c));
        assert_eq!((admission.total(), admission.sources.len()), (0, 0));
    }

    #[test]
    fn a_limit_of_zero_admits_nobody_and_keeps_nothing() {
        let mut admission = Admission::new(10);
        let closed = Limits { per_source: Some(0), ..limits(5, 0) };
        assert_eq!(admission.admit(0, &closed, source("192.0.2.1"), now()), Err(Reason::PerSource));
        assert_eq!((admission.total(), admission.sources.len()), (0, 0));
    }

    #[test]
    fn a_source_that_is_gone_is_forgotten() {
        let (mut admission, now) = (Admission::new(10), now());
        for n in 0..100_000_u32 {
            let source = Source::of_address(std::net::Ipv4Addr::from_bits(n).into(), SourcePrefix::default());
            admission.admit(0, &limits(0, 1), source, now).unwrap();
            admission.release(0, Some(source));
        }
        assert_eq!(admission.sources.len(), 0);
    }

    #[test]
    fn a_service_has_a_rate() {
        let (mut admission, start) = (Admission::new(10), now());
        let limits = Limits { rate: Rate::new(1, Per::Second, 2), ..limits(0, 0) };
        let later = |seconds| Moment { now: start.now + Duration::from_secs(seconds), ..start };
        assert_eq!(admission.admit(0, &limits, source("192.0.2.1"), start), Ok(()));
        assert_eq!(admission.admit(0, &limits, source("192.0.2.2"), start), Ok(()));
        let full = Full { reason: Reason::Rate, until: Some(later(1).now) };
        assert_eq!(admission.full(0, &limits, start), Some(full));
        assert_eq!(admission.full_for_server(0, &limits, start), Some(full));
        assert_eq!(admission.admit(0, &limits, source("192.0.2.3"), start), Err(Reason::Rate));
        assert_eq!((admission.full(1, &limits, start), admission.full(0, &limits, later(1))), (None, None));
        admission.admit_server(0, &limits, later(1).now);
        assert_eq!(admission.admit(0, &limits, source("192.0.2.3"), later(1)), Err(Reason::Rate));
    }

    #[test]
    fn a_source_beyond_its_rate_takes_nothing_from_the_others() {
        let (mut admission, now) = (Admission::new(10), now());
        let rate = Rate::new(3, Per::Hour, 3);
        let limits = Limits { rate, rate_per_source: Rate::new(2, Per::Hour, 2), ..limits(0, 0) };
        let (flood, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for expected in [Ok(()), Ok(()), Err(Reason::RatePerSource), Err(Reason::RatePerSource)] {
            assert_eq!(admission.admit(0, &limits, flood, now), expected);
        }
        assert_eq!(admission.admit(0, &limits, other, now), Ok(()));
        assert_eq!(admission.admit(0, &limits, other, now), Err(Reason::Rate));
        assert_eq!(admission.sessions(0), 3);
    }

    #[test]
    fn a_key_that_becomes_another_service_has_no_past() {
        let (mut admission, now) = (Admission::new(10), now());
        let rate = Rate::new(1, Per::Hour, 1);
        let limits = Limits { rate, rate_per_source: rate, ..limits(0, 0) };
        let client = source("192.0.2.1");
        for _ in 0..2 {
            assert_eq!(admission.admit(0, &limits, client, now), Ok(()));
            assert_eq!(admission.admit(0, &limits, client, now), Err(Reason::Rate));
            admission.release(0, Some(client));
            admission.forget(0);
        }
    }

    #[test]
    fn a_loaded_machine_serves_nobody_until_it_is_less() {
        let limits = Limits { load: LoadAverage::new("4"), ..limits(0, 0) };
        let start = Instant::now();
        for (load, is_full) in [(None, false), (Some("3.99"), false), (Some("4.00"), true), (Some("9"), true)]
        {
            let moment = Moment { now: start, load: load.and_then(LoadAverage::new) };
            let full = Full { reason: Reason::Load, until: Some(start + LOAD_REST) };
            let mut admission = Admission::new(10);
            assert_eq!(admission.full(0, &limits, moment), is_full.then_some(full), "{load:?}");
            let admitted = admission.admit(0, &limits, source("192.0.2.1"), moment);
            assert_eq!(admitted, if is_full { Err(Reason::Load) } else { Ok(()) }, "{load:?}");
        }
    }
}
