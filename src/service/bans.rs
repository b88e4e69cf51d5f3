//! Bans: who is refused for a while, wherever it came from.
//!
//! What a client does at one service bans it from that service alone, by the `ban` of that service; what it does at a
//! decoy, and what an admin says, may ban it from all. Each ban has an end. There are at most [`MAX_BANS`]: beyond
//! that the one that a client brought on itself and that ends first makes room, never an admin's. Who is never
//! banned the caller knows. Knows no clock, no file and no rule.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::model::address::{Source, SourcePrefix};
use crate::model::client::Client;
use crate::model::name::ServiceName;
use crate::model::network::Network;
use crate::model::offence::Offence;

use super::ban::{Ban, Banned, Cause};
use super::offences::Offences;

/// Bans at a time.
pub const MAX_BANS: usize = 16_384;

/// The longest ban: each has an end.
pub const LONGEST: Duration = Duration::from_hours(366 * 24);

/// When a service bans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms<'t> {
    /// So many offences …
    pub after: u32,
    /// … in this time …
    pub within: Duration,
    /// … bring a ban of this length.
    pub length: Duration,
    /// What counts. What is given at a decoy always does.
    pub on: &'t [Offence],
}

/// All bans, and the offences that may become one.
#[derive(Debug)]
pub struct Bans<S = RandomState> {
    table: HashMap<Key, Held, S>,
    /// Those that clients brought on themselves, by their end.
    by_clients: BTreeSet<(Instant, Key)>,
    /// The admins', by their end.
    by_admins: BTreeSet<(Instant, Key)>,
    /// How many bans are of networks of this length, for IPv6 or not.
    lengths: BTreeMap<(bool, u8), usize>,
    /// A service's name by its number; number 0 is all of them.
    names: Vec<ServiceName>,
    numbers: HashMap<ServiceName, u32>,
    offences: Offences<S>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    service: u32,
    who: Banned,
}

/// What is kept of a ban beside its key.
#[derive(Debug, Clone, Copy)]
struct Held {
    cause: Cause,
    until: Instant,
}

const EVERY_SERVICE: u32 = 0;

/// There are [`MAX_BANS`] bans of admins: no other one can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl std::fmt::Display for TooMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there are {MAX_BANS} bans, and no room for another one: ban whole networks")
    }
}

impl std::error::Error for TooMany {}

impl<S: BuildHasher + Clone> Bans<S> {
    /// Nobody is banned. The hash should be keyed: strangers choose what it is fed.
    pub fn new(hasher: S) -> Self {
        Self {
            table: HashMap::with_hasher(hasher.clone()),
            by_clients: BTreeSet::new(),
            by_admins: BTreeSet::new(),
            lengths: BTreeMap::new(),
            names: Vec::new(),
            numbers: HashMap::new(),
            offences: Offences::new(hasher),
        }
    }

    /// How many there are, those that have just ended included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Is nobody banned?
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The ban that holds for a client of a service.
    pub fn find(&self, service: &ServiceName, client: &Client, now: Instant) -> Option<Ban> {
        if self.table.is_empty() {
            return None;
        }
        let of_service = self.numbers.get(service).copied();
        let mut places = of_service.into_iter().chain([EVERY_SERVICE]);
        places.find_map(|service| {
            let mut candidates = self.candidates(client).map(|who| Key { service, who });
            candidates.find_map(|key| self.ban(key).filter(|ban| ban.until > now))
        })
    }

    /// Counts an offence of a client at a service; the ban, if there is one now.
    pub fn offence(
        &mut self,
        service: &ServiceName,
        terms: Terms<'_>,
        client: (Source, SourcePrefix),
        kind: Offence,
        now: Instant,
    ) -> Option<Ban> {
        let is_decoy = kind == Offence::Sensor;
        if !is_decoy && !terms.on.contains(&kind) {
            return None;
        }
        let (source, prefix) = client;
        let number = self.number(service);
        if !self.offences.note(number, source, terms.after, terms.within, now) {
            return None;
        }
        let service = (!is_decoy).then(|| service.clone());
        let until = now + terms.length.min(LONGEST);
        let ban = Ban { who: Banned::of(source, prefix), service, cause: Cause::Offence(kind), until };
        self.add(ban).ok()
    }

    /// Bans. A ban that is there and ends later stays as it is; the one that holds is returned. Fails if there
    /// are too many bans of admins.
    pub fn add(&mut self, ban: Ban) -> Result<Ban, TooMany> {
        let service = ban.service.as_ref().map_or(EVERY_SERVICE, |name| self.number(name));
        let key = Key { service, who: ban.who };
        if let Some(held) = self.table.get(&key) {
            if held.until >= ban.until {
                return self.ban(key).ok_or(TooMany);
            }
            self.remove(key);
        } else if self.table.len() >= MAX_BANS {
            let (_, first) = *self.by_clients.first().ok_or(TooMany)?;
            self.remove(first);
        }
        self.table.insert(key, Held { cause: ban.cause, until: ban.until });
        self.ordered(ban.cause).insert((ban.until, key));
        if let Some(length) = key.who.length() {
            *self.lengths.entry(length).or_insert(0) += 1;
        }
        Ok(ban)
    }

    /// Lifts bans, from one service or from wherever they are, and forgives the offences. A single address lifts
    /// all that hold for it; a network that network's alone. What was lifted.
    pub fn lift(&mut self, who: Banned, service: Option<&ServiceName>, now: Instant) -> Vec<Ban> {
        let numbers: Vec<u32> = match service {
            Some(name) => self.numbers.get(name).copied().into_iter().collect(),
            None => (EVERY_SERVICE..=u32::try_from(self.names.len()).unwrap_or(u32::MAX)).collect(),
        };
        let whos: Vec<Banned> = match who {
            Banned::Network(network) if who.is_single() => {
                self.candidates(&Client::Inet((network.address(), 0).into())).collect()
            }
            _ => vec![who],
        };
        let mut lifted = Vec::new();
        for key in numbers.iter().flat_map(|&service| whos.iter().map(move |&who| Key { service, who })) {
            let ban = self.ban(key);
            self.remove(key);
            self.offences.forgive(key.service, key.who.source(), now);
            lifted.extend(ban);
        }
        lifted
    }

    /// All that hold, those that end first in front.
    pub fn list(&self, now: Instant) -> Vec<Ban> {
        let keys = self.by_clients.iter().chain(&self.by_admins).filter(|(until, _)| *until > now);
        let mut bans: Vec<Ban> = keys.filter_map(|(_, key)| self.ban(*key)).collect();
        bans.sort_by_key(|ban| ban.until);
        bans
    }

    /// Takes out one that has ended; to be called until there is none, or as often as there is time for.
    pub fn expire(&mut self, now: Instant) -> Option<Ban> {
        let (until, key) = self.first()?;
        if until > now {
            return None;
        }
        let ban = self.ban(key);
        self.remove(key);
        ban
    }

    /// When the next one ends.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.first().map(|(until, _)| until)
    }

    fn first(&self) -> Option<(Instant, Key)> {
        self.by_clients.first().into_iter().chain(self.by_admins.first()).min().copied()
    }

    fn ordered(&mut self, cause: Cause) -> &mut BTreeSet<(Instant, Key)> {
        match cause {
            Cause::Admin => &mut self.by_admins,
            Cause::Offence(_) => &mut self.by_clients,
        }
    }

    /// All networks that hold a client, of the lengths that are in use; or the user.
    fn candidates(&self, client: &Client) -> impl Iterator<Item = Banned> {
        let ip = client.address().map(|address| address.ip().to_canonical());
        let user = match client {
            Client::User { uid, .. } => Some(Banned::User(*uid)),
            Client::Inet(_) => None,
        };
        let networks = ip.into_iter().flat_map(|ip| {
            let of_family = (ip.is_ipv6(), 0)..=(ip.is_ipv6(), u8::MAX);
            self.lengths
                .range(of_family)
                .map(move |((_, length), _)| Banned::Network(Network::around(ip, *length)))
        });
        networks.chain(user)
    }

    fn ban(&self, key: Key) -> Option<Ban> {
        let held = self.table.get(&key)?;
        let service = match key.service {
            EVERY_SERVICE => None,
            number => Some(self.names.get(usize::try_from(number - 1).ok()?)?.clone()),
        };
        Some(Ban { who: key.who, service, cause: held.cause, until: held.until })
    }

    fn remove(&mut self, key: Key) {
        let Some(held) = self.table.remove(&key) else { return };
        self.ordered(held.cause).remove(&(held.until, key));
        let Some(length) = key.who.length() else { return };
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
    }

    /// Services get a number, so that a key is small.
    fn number(&mut self, service: &ServiceName) -> u32 {
        if let Some(number) = self.numbers.get(service) {
            return *number;
        }
        self.names.push(service.clone());
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.numbers.insert(service.clone(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::hash_map::DefaultHasher;
    use std::hash::BuildHasherDefault;
    use std::net::Ipv4Addr;

    type Table = Bans<BuildHasherDefault<DefaultHasher>>;

    const HOUR: Duration = Duration::from_hours(1);
    const ON_RATE: Terms<'static> =
        Terms { after: 2, within: Duration::from_mins(1), length: HOUR, on: &[Offence::Rate] };

    fn table() -> Table {
        Bans::new(BuildHasherDefault::default())
    }

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn client(text: &str) -> Client {
        match text.strip_prefix("uid:") {
            Some(uid) => Client::User { uid: uid.parse().unwrap(), gid: 0, pid: 1 },
            None => Client::Inet((text.parse::<std::net::IpAddr>().unwrap(), 7).into()),
        }
    }

    fn source(text: &str) -> (Source, SourcePrefix) {
        let prefix = SourcePrefix::default();
        (Source::of(&client(text), prefix), prefix)
    }

    fn by_admin(who: &str, service: Option<&str>, until: Instant) -> Ban {
        Ban { who: who.parse().unwrap(), service: service.map(name), cause: Cause::Admin, until }
    }

    /// Who is banned from `a` and from `b`, after bans of `who` by an admin.
    #[track_caller]
    fn check(bans: &[(&str, Option<&str>)], asked: &str, from_a: bool, from_b: bool) {
        let (mut table, now) = (table(), Instant::now());
        for (who, service) in bans {
            table.add(by_admin(who, *service, now + HOUR)).unwrap();
        }
        let is_banned = |service, at| table.find(&name(service), &client(asked), at).is_some();
        assert_eq!((is_banned("a", now), is_banned("b", now)), (from_a, from_b), "{asked}");
        assert_eq!((is_banned("a", now + HOUR), is_banned("b", now + HOUR)), (false, false), "{asked}");
    }

    #[test]
    fn a_ban_holds_for_its_clients_and_its_services() {
        check(&[("192.0.2.7", None)], "192.0.2.7", true, true);
        check(&[("192.0.2.7", None)], "::ffff:192.0.2.7", true, true);
        check(&[("::ffff:192.0.2.7", None)], "192.0.2.7", true, true);
        check(&[("192.0.2.7", None)], "192.0.2.8", false, false);
        check(&[("192.0.2.7", Some("a"))], "192.0.2.7", true, false);
        check(&[("192.0.2.0/24", Some("a")), ("192.0.2.7", Some("b"))], "192.0.2.7", true, true);
        check(&[("192.0.2.0/24", Some("a")), ("192.0.2.7", Some("b"))], "192.0.2.8", true, false);
        check(&[("10.0.0.0/8", None), ("2001:db8::/32", None)], "2001:db8::7", true, true);
        check(&[("10.0.0.0/8", None), ("2001:db8::/32", None)], "10.1.2.3", true, true);
        check(&[("0.0.0.0/0", None)], "2001:db8::7", false, false);
        check(&[("0.0.0.0/0", None)], "uid:7", false, false);
        check(&[("uid:7", None)], "uid:7", true, true);
        check(&[("uid:7", None)], "uid:8", false, false);
        check(&[], "192.0.2.7", false, false);
    }

    #[test]
    fn offences_bring_a_ban_of_their_service() {
        let (mut bans, now) = (table(), Instant::now());
        let guilty = source("2001:db8:1:2::3");
        let mut offence = |kind| bans.offence(&name("a"), ON_RATE, guilty, kind, now);
        assert_eq!((offence(Offence::Rate), offence(Offence::Signal)), (None, None));
        let ban = offence(Offence::Rate).unwrap();
        assert_eq!((ban.who.to_string(), ban.until), ("2001:db8:1:2::/64".to_owned(), now + HOUR));
        assert_eq!((&ban.service, ban.cause), (&Some(name("a")), Cause::Offence(Offence::Rate)));
        let neighbour = client("2001:db8:1:2::4");
        assert_eq!(bans.find(&name("a"), &neighbour, now), Some(ban));
        assert_eq!(bans.find(&name("b"), &neighbour, now), None);
    }

    #[test]
    fn a_decoy_bans_from_every_service() {
        let (mut bans, now) = (table(), Instant::now());
        let terms = Terms { after: 1, ..ON_RATE };
        let ban = bans.offence(&name("decoy"), terms, source("192.0.2.7"), Offence::Sensor, now);
        assert_eq!(ban.map(|ban| ban.service), Some(None));
        assert!(bans.find(&name("a"), &client("192.0.2.7"), now).is_some());
    }

    #[test]
    fn the_ban_that_ends_later_holds() {
        let (mut bans, now) = (table(), Instant::now());
        for (hours, expected) in [(2, 2), (1, 2), (3, 3)] {
            let held = bans.add(by_admin("192.0.2.7", None, now + HOUR * hours)).unwrap();
            assert_eq!((held.until, bans.len()), (now + HOUR * expected, 1));
        }
        assert_eq!(bans.next_deadline(), Some(now + HOUR * 3));
    }

    #[test]
    fn bans_end_one_by_one() {
        let (mut bans, now) = (table(), Instant::now());
        bans.add(by_admin("192.0.2.1", None, now + HOUR * 2)).unwrap();
        bans.offence(&name("a"), Terms { after: 1, ..ON_RATE }, source("192.0.2.2"), Offence::Rate, now);
        bans.add(by_admin("192.0.2.3", None, now + HOUR)).unwrap();
        assert_eq!(bans.expire(now), None);
        let who = |ban: Option<Ban>| ban.map(|ban| ban.who.to_string()).unwrap_or_default();
        assert_eq!(bans.list(now).len(), 3);
        assert_eq!(
            bans.list(now + HOUR).iter().map(|ban| ban.who.to_string()).collect::<Vec<_>>(),
            ["192.0.2.1"]
        );
        let mut ended = [who(bans.expire(now + HOUR)), who(bans.expire(now + HOUR))];
        ended.sort();
        assert_eq!(ended, ["192.0.2.2", "192.0.2.3"]);
        assert_eq!((bans.expire(now + HOUR), bans.next_deadline()), (None, Some(now + HOUR * 2)));
        assert_eq!(who(bans.expire(now + HOUR * 2)), "192.0.2.1");
        assert!(bans.is_empty() && bans.lengths.is_empty() && bans.next_deadline().is_none());
    }

    #[test]
    fn a_single_address_lifts_all_that_hold_for_it() {
        let (mut bans, now) = (table(), Instant::now());
        let end = now + HOUR;
        let rows = [("192.0.2.7", None), ("192.0.2.0/24", Some("a")), ("192.0.2.8", None), ("uid:7", None)];
        for (who, service) in rows {
            bans.add(by_admin(who, service, end)).unwrap();
        }
        let mut lift = |who: &str, service: Option<&str>| {
            let service = service.map(name);
            let lifted = bans.lift(who.parse().unwrap(), service.as_ref(), now);
            lifted.iter().map(|ban| ban.who.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(lift("192.0.2.7", Some("b")), Vec::<String>::new());
        assert_eq!(lift("192.0.2.0/25", None), Vec::<String>::new());
        assert_eq!(lift("192.0.2.7", None), ["192.0.2.7", "192.0.2.0/24"]);
        assert_eq!(lift("192.0.2.7", None), Vec::<String>::new());
        assert_eq!(lift("uid:7", None), ["uid:7"]);
        assert_eq!(bans.len(), 1);
    }

    #[test]
    fn who_is_let_in_again_begins_afresh() {
        let (mut bans, now) = (table(), Instant::now());
        let guilty = source("192.0.2.7");
        let a = name("a");
        for expected in [false, true, false] {
            assert_eq!(bans.offence(&a, ON_RATE, guilty, Offence::Rate, now).is_some(), expected);
        }
        bans.lift("192.0.2.7".parse().unwrap(), None, now);
        assert_eq!(bans.offence(&a, ON_RATE, guilty, Offence::Rate, now), None);
    }

    #[test]
    fn a_million_sources_are_not_more_bans_than_there_may_be() {
        let (mut bans, now) = (table(), Instant::now());
        let kept = bans.add(by_admin("203.0.113.7", None, now + Duration::from_secs(1))).unwrap();
        let (a, terms) = (name("a"), Terms { after: 1, ..ON_RATE });
        for number in 0..1_000_000 {
            let prefix = SourcePrefix::default();
            let source = Source::of_address(Ipv4Addr::from_bits(number).into(), prefix);
            let at = now + Duration::from_millis(number.into());
            assert!(bans.offence(&a, terms, (source, prefix), Offence::Rate, at).is_some());
        }
        assert_eq!((bans.len(), bans.by_clients.len() + bans.by_admins.len()), (MAX_BANS, MAX_BANS));
        assert_eq!(bans.find(&a, &client("203.0.113.7"), now), Some(kept));
        // The first ended first.
        assert_eq!(bans.find(&a, &client("0.0.0.1"), now), None);
        assert!(bans.find(&a, &client("0.15.66.63"), now).is_some());
    }

    #[test]
    fn an_admins_ban_makes_room_for_none() {
        let (mut bans, now) = (table(), Instant::now());
        for number in 0..u32::try_from(MAX_BANS).unwrap() {
            let who = Ipv4Addr::from_bits(number).to_string();
            bans.add(by_admin(&who, None, now + HOUR)).unwrap();
        }
        assert_eq!(bans.add(by_admin("203.0.113.7", None, now + HOUR)), Err(TooMany));
        assert_eq!(bans.add(by_admin("0.0.0.1", None, now + HOUR * 2)).unwrap().until, now + HOUR * 2);
    }
}
