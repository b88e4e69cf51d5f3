//! A line of a table as a rule: its three fields, and what it says of those whom it matches.
//!
//! Knows nothing of requests.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::config::diagnostic::Spot;
use crate::model::place::Place;

use super::Surroundings;
use super::complaints::Complaints;
use super::host_list::{HostFiles, never};
use super::lines::Line;
use super::list::{self, BadList, List};
use super::options::{Action, Ending, options};
use super::outcome::Match;
use super::pattern::{self, Bad, DaemonPattern, HostPattern, Read, UserPattern};
use super::request::{Facts, Need};

/// A rule: whom it matches, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it begins.
    pub place: Place,
    pub(super) daemons: List<DaemonItem>,
    pub(super) clients: List<ClientItem>,
    /// What is done, in this order.
    pub actions: Vec<Action>,
    /// allow, deny or twist: as the rule says, or else as its table means.
    pub ending: Ending,
}

impl Rule {
    /// May it be about this daemon? At which port or address a client comes is not known here.
    pub fn may_concern(&self, daemon: &str) -> bool {
        let item = |item: &DaemonItem| match (&item.daemon, &item.at) {
            (DaemonPattern::Name(pattern), _) if !pattern.matches(daemon) => Match::No,
            (DaemonPattern::Port(_), _) | (_, Some(_)) => Match::Maybe,
            _ => Match::Yes,
        };
        self.daemons.judge(&item) != Match::No
    }

    /// May it depend on the client's user?
    pub fn asks_user(&self) -> bool {
        let names = self.clients.items().any(|(_, item)| item.user.is_some());
        names || self.need(&Facts::default()).is_some()
    }

    /// What its actions have to know, and nobody has found out yet.
    pub(super) fn need(&self, facts: &Facts) -> Option<Need> {
        let within = |action: &Action| match action {
            Action::Rfc931(within) => Some(*within),
            _ => None,
        };
        if let Some(within) = self.actions.iter().find_map(within).filter(|_| facts.user.is_none()) {
            return Some(Need::User(within));
        }
        let of_action = |action: &Action| match action {
            Action::Spawn(template) | Action::SetEnv { value: template, .. } => template.need(facts),
            _ => None,
        };
        let of_ending = match &self.ending {
            Ending::Twist(template) => template.need(facts),
            Ending::Allow | Ending::Deny => None,
        };
        self.actions.iter().find_map(of_action).or(of_ending)
    }
}

/// `daemon`, or `daemon@host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DaemonItem {
    pub(super) daemon: DaemonPattern,
    pub(super) at: Option<HostPattern>,
}

/// `host`, or `user@host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClientItem {
    pub(super) user: Option<UserPattern>,
    pub(super) host: HostPattern,
}

/// Reads the lines of one table.
pub(super) struct RuleReader<'r> {
    pub(super) complaints: Complaints<'r>,
    pub(super) surroundings: &'r mut dyn Surroundings,
    pub(super) files: &'r mut HostFiles,
    /// What the table says of whom its rules match.
    pub(super) meaning: Ending,
}

/// A pattern that never matches.
struct Dead {
    spot: Spot,
    message: String,
    /// How many EXCEPT stand before it.
    depth: usize,
}

impl RuleReader<'_> {
    /// The rule. Where something is wrong with it, which is in the report then, it may lack that.
    pub(super) fn read(&mut self, line: &Line) -> Option<Rule> {
        let fields = match fields(&line.text) {
            Ok(fields) => fields,
            Err((range, bad)) => {
                self.wrong(line, range, &bad);
                return None;
            }
        };
        let mut dead = Vec::new();
        let daemons = self.list(line, fields.daemons, &mut dead, Self::daemon);
        let clients = self.list(line, fields.clients, &mut dead, Self::client);
        let (actions, ending) = fields.options.map_or((Vec::new(), None), |from| self.options(line, from));
        let ending = ending.unwrap_or_else(|| self.meaning.clone());
        self.tell_dead(dead, &ending);
        let clients = clients?;
        if ending != Ending::Allow && trusts_names(&clients) {
            let hint =
                "who has no name, or chooses another, is not refused: add UNKNOWN, or refuse addresses";
            self.complaints.warning(
                line.spot(0..line.text.len()),
                "this refuses clients by their name",
                hint,
            );
        }
        let place = self.complaints.place(line.spot(0..0));
        Some(Rule { place, daemons: daemons?, clients, actions, ending })
    }

    /// A list, its items read by `read`.
    fn list<T>(
        &mut self,
        line: &Line,
        field: Range<usize>,
        dead: &mut Vec<Dead>,
        read: impl Fn(&mut Self, &str) -> Result<(T, Never), Bad>,
    ) -> Option<List<T>> {
        let text = line.text.get(field.clone()).unwrap_or_default();
        let items = match list::items(text, field.start) {
            Ok(items) => items,
            Err(BadList::Empty) => {
                let hint = "a rule is `daemons : clients`, and ALL is all of them; libwrap skips this one";
                self.wrong(line, field, &Bad::new("a list with nothing in it", hint));
                return None;
            }
            Err(BadList::Lonely(range)) => {
                let hint = "write `these EXCEPT those`";
                self.wrong(line, range, &Bad::new("EXCEPT has nothing on one of its sides", hint));
                return None;
            }
        };
        let mut found = Vec::new();
        for item in items {
            match read(self, item.text) {
                Ok((pattern, never)) => {
                    found.push((item.depth, pattern));
                    dead.extend(never.into_iter().map(|(spot, message)| {
                        let here = || self.complaints.spot(line.spot(item.range.clone()));
                        Dead { spot: spot.unwrap_or_else(here), message, depth: item.depth }
                    }));
                }
                Err(bad) => self.wrong(line, item.range, &bad),
            }
        }
        Some(list::list(found))
    }

    fn daemon(&mut self, text: &str) -> Result<(DaemonItem, Never), Bad> {
        let (daemon, at) = match split_at_sign(text) {
            Some((daemon, host)) => (daemon, Some(host)),
            None => (text, None),
        };
        let (daemon, mut dead) = match pattern::daemon(daemon)? {
            Read::Dead(why, pattern) => (pattern, vec![(None, never(daemon, why))]),
            Read::Is(pattern) => (pattern, Vec::new()),
            Read::File(_) => return Err(Bad::new("a list of daemons can't be a file", "")),
        };
        let at = at.map(|host| self.host(host, &mut dead)).transpose()?;
        Ok((DaemonItem { daemon, at }, dead))
    }

    fn client(&mut self, text: &str) -> Result<(ClientItem, Never), Bad> {
        let mut dead = Vec::new();
        let (user, host) = match split_at_sign(text) {
            Some((user, host)) => (Some(pattern::user(user)?), host),
            None => (None, text),
        };
        let host = self.host(host, &mut dead)?;
        Ok((ClientItem { user, host }, dead))
    }

    fn host(&mut self, text: &str, dead: &mut Never) -> Result<HostPattern, Bad> {
        match pattern::host(text)? {
            Read::Is(pattern) => Ok(pattern),
            Read::Dead(why, pattern) => {
                dead.push((None, never(text, why)));
                Ok(pattern)
            }
            Read::File(path) => {
                let file = self.files.get(&path, self.surroundings, self.complaints.report)?;
                dead.extend(file.dead.iter().map(|(spot, message)| (Some(spot.clone()), message.clone())));
                Ok(HostPattern::List(file.set))
            }
        }
    }

    fn options(&mut self, line: &Line, from: usize) -> (Vec<Action>, Option<Ending>) {
        let text = line.text.get(from..).unwrap_or_default();
        let mut wrong = Vec::new();
        let read = options(text, self.surroundings, &mut |range, bad| wrong.push((range, bad)));
        for (range, bad) in wrong {
            self.wrong(line, range.start + from..range.end + from, &bad);
        }
        read
    }

    /// A pattern that never matches lets somebody in where it should refuse, or should be an exception to what
    /// allows: an error. Elsewhere it keeps somebody out, as with libwrap.
    fn tell_dead(&mut self, dead: Vec<Dead>, ending: &Ending) {
        for Dead { spot, message, depth } in dead {
            let lets_in = (*ending == Ending::Allow) == (depth % 2 == 1);
            self.complaints.dead(&spot, message, lets_in);
        }
    }

    fn wrong(&mut self, line: &Line, range: Range<usize>, bad: &Bad) {
        self.complaints.error(line.spot(range), bad.message.clone(), bad.hint);
    }
}

/// Patterns that never match: where, if it is not the item itself, and what is said of them.
type Never = Vec<(Option<Spot>, String)>;

/// `@` in front is a netgroup's, the first one behind it separates.
fn split_at_sign(text: &str) -> Option<(&str, &str)> {
    let at = text.bytes().skip(1).position(|b| b == b'@')? + 1;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Is there a name among those that are meant, and not UNKNOWN?
fn trusts_names(clients: &List<ClientItem>) -> bool {
    let meant = || clients.items().filter(|(depth, _)| depth % 2 == 0).map(|(_, item)| &item.host);
    let is_name = |host: &HostPattern| matches!(host, HostPattern::Name(_));
    meant().any(is_name) && !meant().any(|host| matches!(host, HostPattern::Unknown | HostPattern::All))
}

/// Where the fields of a rule stand.
struct Fields {
    daemons: Range<usize>,
    clients: Range<usize>,
    /// Where the options begin, if there are any.
    options: Option<usize>,
}

fn fields(text: &str) -> Result<Fields, (Range<usize>, Bad)> {
    let start = text.len() - text.trim_start().len();
    if text.get(start..).is_some_and(|rest| rest.starts_with('#')) {
        let bad = Bad::new("a comment that does not begin in column 1", "libwrap takes this line for a rule");
        return Err((start..text.trim_end().len(), bad));
    }
    let Some(first) = border(text, 0)? else {
        let hint = "a rule is `daemons : clients`; libwrap skips a line without a colon";
        return Err((start..text.trim_end().len(), Bad::new("a line without a colon", hint)));
    };
    let second = border(text, first + 1)?;
    if let Some(range) = second.and_then(|at| bare_v6(text, first + 1, at)) {
        let bad =
            Bad::new("an IPv6 address without brackets", "its colons end the list: write `[2001:db8::1]`");
        return Err((range, bad));
    }
    let clients = first + 1..second.unwrap_or(text.len());
    Ok(Fields { daemons: 0..first, clients, options: second.map(|at| at + 1) })
}

/// The next colon that stands in no brackets.
fn border(text: &str, from: usize) -> Result<Option<usize>, (Range<usize>, Bad)> {
    let mut open = None;
    for (at, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            b'[' => open = open.or(Some(at)),
            b']' => open = None,
            b':' if open.is_none() => return Ok(Some(at)),
            _ => {}
        }
    }
    let unclosed = |at: usize| {
        (at..at + 1, Bad::new("a bracket that is not closed", "an IPv6 address: `[2001:db8::1]`"))
    };
    open.map_or(Ok(None), |at| Err(unclosed(at)))
}

/// Is the colon at `at` one of an IPv6 address?
fn bare_v6(text: &str, from: usize, at: usize) -> Option<Range<usize>> {
    let between = |c: char| c.is_whitespace() || c == ',' || c == '@';
    let start = text.get(from..at)?.rfind(between).map_or(from, |before| from + before + 1);
    let end = text.get(at..)?.find(between).map_or(text.len(), |after| at + after);
    let word = text.get(start..end)?;
    let address = word.split('/').next().unwrap_or(word);
    address.parse::<std::net::Ipv6Addr>().ok().map(|_| start..end)
}
