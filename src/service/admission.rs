//! Who may become a session: counts per service, per source and over all, in constant time.
//!
//! A source is counted only while it has sessions, so that the table is never larger than `max_sessions`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::config::settings::Limits;
use crate::model::address::Source;

use super::reason::Reason;

/// A service, as long as it or one of its sessions lives.
pub type ServiceKey = usize;

/// The counts.
#[derive(Debug)]
pub struct Admission {
    max_sessions: u32,
    total: u32,
    services: Vec<u32>,
    sources: HashMap<(ServiceKey, Source), u32>,
}

impl Admission {
    /// Nobody is in.
    pub fn new(max_sessions: u32) -> Self {
        Self { max_sessions, total: 0, services: Vec::new(), sources: HashMap::new() }
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
        self.services.get(service).copied().unwrap_or(0)
    }

    /// The limit of the whole service that leaves no room for another session.
    pub fn full(&self, service: ServiceKey, limits: &Limits) -> Option<Reason> {
        if limits.connections.is_some_and(|most| self.sessions(service) >= most) {
            Some(Reason::Connections)
        } else if self.is_full() {
            Some(Reason::MaxSessions)
        } else {
            None
        }
    }

    /// Counts a new session in all its limits, or names the one that is reached. The source's own limit comes
    /// last, so that a source is not blamed for what the whole service is short of.
    pub fn admit(&mut self, service: ServiceKey, limits: &Limits, source: Source) -> Result<(), Reason> {
        if let Some(reason) = self.full(service, limits) {
            return Err(reason);
        }
        let of_source = self.sources.entry((service, source)).or_insert(0);
        if limits.per_source.is_some_and(|most| *of_source >= most) {
            let _ = self.forget_if_idle(service, source);
            return Err(Reason::PerSource);
        }
        *of_source += 1;
        self.count(service);
        Ok(())
    }

    /// Counts a server that has no client of its own: in all limits but its source's.
    pub fn admit_server(&mut self, service: ServiceKey) {
        self.count(service);
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
        if let Some(count) = self.services.get_mut(service) {
            *count = count.saturating_sub(1);
        }
        self.total = self.total.saturating_sub(1);
    }

    fn count(&mut self, service: ServiceKey) {
        if self.services.len() <= service {
            self.services.resize(service + 1, 0);
        }
        if let Some(count) = self.services.get_mut(service) {
            *count += 1;
        }
        self.total += 1;
    }

    fn forget_if_idle(&mut self, service: ServiceKey, source: Source) -> Option<u32> {
        match self.sources.entry((service, source)) {
            Entry::Occupied(entry) if *entry.get() == 0 => Some(entry.remove()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::OnLimit;
    use crate::model::address::SourcePrefix;

    fn limits(connections: u32, per_source: u32) -> Limits {
        let some = |n: u32| (n > 0).then_some(n);
        Limits {
            connections: some(connections),
            per_source: some(per_source),
            on_limit: OnLimit::Queue,
            source_prefix: SourcePrefix::default(),
        }
    }

    fn source(text: &str) -> Source {
        Source::of_address(text.parse().unwrap(), SourcePrefix::default())
    }

    #[test]
    fn limits_are_counted_and_given_back() {
        let mut admission = Admission::new(4);
        let (a, b, c) = (source("192.0.2.1"), source("192.0.2.2"), source("192.0.2.3"));
        let two_each = limits(3, 2);
        assert_eq!(admission.admit(0, &two_each, a), Ok(()));
        assert_eq!(admission.admit(0, &two_each, a), Ok(()));
        assert_eq!(admission.admit(0, &two_each, a), Err(Reason::PerSource));
        assert_eq!(admission.admit(0, &two_each, b), Ok(()));
        assert_eq!(admission.admit(0, &two_each, c), Err(Reason::Connections));
        assert_eq!(admission.admit(7, &limits(0, 0), c), Ok(()));
        assert_eq!(admission.admit(7, &limits(0, 0), c), Err(Reason::MaxSessions));
        assert_eq!((admission.total(), admission.sessions(0), admission.sessions(7)), (4, 3, 1));
        admission.release(0, Some(a));
        assert_eq!(admission.admit(0, &two_each, a), Ok(()));
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
        assert_eq!(admission.admit(0, &closed, source("192.0.2.1")), Err(Reason::PerSource));
        assert_eq!((admission.total(), admission.sources.len()), (0, 0));
    }

    #[test]
    fn a_source_that_is_gone_is_forgotten() {
        let mut admission = Admission::new(10);
        for n in 0..100_000_u32 {
            let source = Source::of_address(std::net::Ipv4Addr::from_bits(n).into(), SourcePrefix::default());
            admission.admit(0, &limits(0, 1), source).unwrap();
            admission.release(0, Some(source));
        }
        assert_eq!(admission.sources.len(), 0);
    }
}
