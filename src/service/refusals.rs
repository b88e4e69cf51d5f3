//! How often a refusal is written: the first of a (service, reason, source) at once, then one summary a
//! minute; the sources that there is no room for share one line.
//!
//! However many clients are refused, the log grows by a bounded number of lines, each refusal costs the same
//! small work, and where nobody is refused there is nothing to wake up for. Time comes in as a value.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::config::settings::Facility;
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::place::Place;

use super::reason::Reason;
use super::record::{Event, Record, Told};

/// (service, reason, source) triples that are told apart.
pub const MAX_KEYS: usize = 4096;

/// From a line to the summary of what came after it.
pub const WINDOW: Duration = Duration::from_mins(1);

/// A refused client.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The service.
    pub service: &'a str,
    /// The service's own facility.
    pub facility: Option<Facility>,
    /// What its client counts as.
    pub source: Source,
    /// The client.
    pub client: Client,
    /// Why.
    pub reason: Reason,
    /// Where the limit or rule stands.
    pub rule: Option<&'a Place>,
    /// What is known of its name, where a rule asked for it.
    pub told: Option<Told<'a>>,
}

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub struct Refusals {
    keys: HashMap<Key, Count>,
    /// Each key once, by the end of its window: all windows are equally long, so that the order is that of
    /// their beginnings.
    windows: VecDeque<(Instant, Key)>,
    /// Keys whose count is not zero.
    pending: usize,
    /// Services get a number here, so that a key is small and is compared without its name.
    services: HashMap<Box<str>, u32>,
    others: u64,
    others_due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    service: u32,
    reason: Reason,
    source: Source,
}

/// What the next summary of a key will say.
#[derive(Debug)]
struct Count {
    since_line: u64,
    service: Box<str>,
    facility: Option<Facility>,
    client: Client,
    rule: Option<Place>,
}

impl Refusals {
    /// Takes note of a refusal; the record to write now, if it is the first of its kind.
    pub fn note<'a>(&mut self, now: Instant, refusal: Refusal<'a>) -> Option<Record<'a>> {
        self.forget_quiet(now);
        let key = self.key(&refusal);
        if let Some(count) = self.keys.get_mut(&key) {
            self.pending += usize::from(count.since_line == 0);
            count.since_line += 1;
            count.client = refusal.client;
            return None;
        }
        if self.keys.len() >= MAX_KEYS {
            self.others += 1;
            self.others_due.get_or_insert(now + WINDOW);
            return None;
        }
        self.windows.push_back((now + WINDOW, key));
        self.keys.insert(key, Count::of(&refusal));
        let Refusal { service, facility, client, reason, rule, told, .. } = refusal;
        let event = Event::Refuse { client, reason, rule, told, count: 1 };
        Some(Record { facility, ..Record::about(service, event) })
    }

    /// The next summary that is due; to be called until there is none. With `now` one [`WINDOW`] ahead, at
    /// the end of superd, every summary is due.
    pub fn due(&mut self, now: Instant) -> Option<Record<'_>> {
        if self.others_due.is_some_and(|due| due <= now) {
            self.others_due = None;
            return Some(Record::general(Event::RefuseOthers { count: std::mem::take(&mut self.others) }));
        }
        self.forget_quiet(now);
        let (_, key) = self.windows.pop_front_if(|(end, _)| *end <= now)?;
        self.windows.push_back((now + WINDOW, key));
        let count = self.keys.get_mut(&key)?;
        self.pending = self.pending.saturating_sub(1);
        let event = Event::Refuse {
            client: count.client,
            reason: key.reason,
            rule: count.rule.as_ref(),
            // Not every client of a source has the same.
            told: None,
            count: std::mem::take(&mut count.since_line),
        };
        Some(Record { facility: count.facility, ..Record::about(&count.service, event) })
    }

    /// When [`Self::due`] wants to be called; never, if no refusal waits for a summary.
    pub fn next_deadline(&self) -> Option<Instant> {
        let window = self.windows.front().filter(|_| self.pending > 0).map(|(end, _)| *end);
        window.into_iter().chain(self.others_due).min()
    }

    fn key(&mut self, refusal: &Refusal) -> Key {
        let service = if let Some(number) = self.services.get(refusal.service) {
            *number
        } else {
            let number = u32::try_from(self.services.len()).unwrap_or(u32::MAX);
            self.services.insert(refusal.service.into(), number);
            number
        };
        Key { service, reason: refusal.reason, source: refusal.source }
    }

    /// Drops the keys whose window ended without a refusal after the line, from the oldest on.
    fn forget_quiet(&mut self, now: Instant) {
        while let Some((end, key)) = self.windows.front() {
            if *end > now || self.keys.get(key).is_some_and(|count| count.since_line > 0) {
                return;
            }
            self.keys.remove(key);
            self.windows.pop_front();
        }
        // No key, no number in use: names of services that are gone do not pile up.
        self.services.clear();
    }
}

impl Count {
    fn of(refusal: &Refusal) -> Self {
        Self {
            since_line: 0,
            service: refusal.service.into(),
            facility: refusal.facility,
            client: refusal.client,
            rule: refusal.rule.cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::SourcePrefix;
    use std::net::{Ipv4Addr, SocketAddr};

    /// One step: a refusal of `service` from the n-th source, or a look at what is due.
    enum Step {
        Note(u64, &'static str, u32, bool),
        Due(u64, &'static [u64]),
        Sleep(Option<u64>),
    }
    use Step::{Due, Note, Sleep};

    #[test]
    fn the_first_is_written_at_once_and_the_rest_once_a_minute() {
        check(&[
            Sleep(None),
            Note(0, "a", 1, true),
            Sleep(None),
            Note(1, "a", 1, false),
            Note(2, "a", 1, false),
            Sleep(Some(60)),
            Due(59, &[]),
            Due(60, &[2]),
            Sleep(None),
            Note(61, "a", 1, false),
            Sleep(Some(120)),
            Due(125, &[1]),
            Sleep(None),
            Due(184, &[]),
            Note(185, "a", 1, true),
        ]);
    }

    #[test]
    fn sources_services_and_reasons_are_told_apart() {
        check(&[
            Note(0, "a", 1, true),
            Note(0, "a", 2, true),
            Note(0, "b", 1, true),
            Note(5, "b", 1, false),
            Note(5, "a", 2, false),
            Due(60, &[1, 1]),
        ]);
    }

    #[test]
    fn a_quiet_key_is_forgotten_without_waking_up() {
        check(&[Note(0, "a", 1, true), Sleep(None), Note(60, "a", 1, true), Note(61, "a", 1, false)]);
    }

    #[test]
    fn a_quiet_key_does_not_hide_a_busy_one() {
        check(&[
            Note(0, "a", 1, true),
            Note(1, "a", 2, true),
            Note(2, "a", 2, false),
            Due(60, &[]),
            Sleep(Some(61)),
            Due(61, &[1]),
        ]);
    }

    #[test]
    fn beyond_the_bound_there_is_one_line_for_all() {
        let bound = u32::try_from(MAX_KEYS).unwrap();
        let mut steps: Vec<_> = (0..bound).map(|source| Note(0, "a", source, true)).collect();
        steps.extend([
            Note(1, "a", bound, false),
            Note(2, "a", bound + 1, false),
            Note(2, "a", 0, false),
            Sleep(Some(60)),
            Due(60, &[1]),
            Due(61, &[2]),
            Sleep(None),
        ]);
        check(&steps);
    }

    #[test]
    fn names_of_services_that_are_gone_do_not_pile_up() {
        let mut refusals = Refusals::default();
        let mut now = Instant::now();
        for service in ["a", "b", "c"] {
            assert!(refusals.note(now, refusal(service, 1)).is_some());
            assert_eq!((refusals.services.len(), refusals.keys.len()), (1, 1));
            now += WINDOW;
        }
    }

    #[track_caller]
    fn check(steps: &[Step]) {
        let start = Instant::now();
        let at = |second: &u64| start + Duration::from_secs(*second);
        let mut refusals = Refusals::default();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Note(second, service, source, written) => {
                    let noted = refusals.note(at(second), refusal(service, *source));
                    assert_eq!(noted.is_some(), *written, "step {number}");
                }
                Due(second, expected) => {
                    let mut counts = Vec::new();
                    while let Some(record) = refusals.due(at(second)) {
                        counts.push(match record.event {
                            Event::Refuse { count, .. } | Event::RefuseOthers { count } => count,
                            other => panic!("{other:?}"),
                        });
                    }
                    assert_eq!(counts, *expected, "step {number}");
                }
                Sleep(expected) => {
                    assert_eq!(refusals.next_deadline(), expected.as_ref().map(at), "step {number}");
                }
            }
        }
    }

    fn refusal(service: &'static str, number: u32) -> Refusal<'static> {
        let client = Client::from(SocketAddr::from((Ipv4Addr::from_bits(number), 5)));
        let source = Source::of(&client, SourcePrefix::default());
        Refusal { service, facility: None, source, client, reason: Reason::PerSource, rule: None, told: None }
    }
}
