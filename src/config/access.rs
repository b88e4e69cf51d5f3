//! What a checked configuration says about access: who may use a service, from where and when; and what the
//! names in it stand for. Judging by it is `policy`'s.
//!
//! Places are for messages and log lines. [`Access::take_places`] parts them from the rest, so that a line that
//! moves in its file does not change a service.

use std::collections::BTreeMap;
use std::mem;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::label::Label;
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::model::place::Place;
use crate::model::user::UserPattern;
use crate::model::window::Window;

/// Who may use a service. By default: everybody.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// The rules.
    pub rules: Rules,
    /// The end of `hours` ends sessions too.
    pub end_sessions: bool,
    /// hosts.allow and hosts.deny are asked too.
    pub hosts_access: Option<HostsAccess>,
}

/// The two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Rules {
    /// `deny`, `allow`, `users`, `hours`: all must hold.
    Short(Clauses),
    /// `[[service.NAME.rule]]` and `otherwise`: the first that matches wins.
    Ordered {
        /// The rules, in their order.
        rules: Vec<Rule>,
        /// What holds where none matches.
        otherwise: Placed<Action>,
    },
}

impl Default for Rules {
    fn default() -> Self {
        Self::Short(Clauses::default())
    }
}

/// The short form; what is not said does not hold anybody up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clauses {
    /// Who matches is refused.
    pub deny: Option<Placed<Vec<ClientPattern>>>,
    /// The client must match.
    pub allow: Option<Placed<Vec<ClientPattern>>>,
    /// The client's user must match.
    pub users: Option<Placed<Vec<UserPattern>>>,
    /// Now must be inside; a key of [`Hours`].
    pub hours: Option<Placed<Label>>,
}

/// One `[[service.NAME.rule]]`: it matches where all that it says matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Where it stands.
    pub place: Place,
    /// Clients; `None`: all.
    pub from: Option<Vec<ClientPattern>>,
    /// Their users; `None`: all, also those that nobody knows.
    pub users: Option<Vec<UserPattern>>,
    /// When; a key of [`Hours`]; `None`: always.
    pub hours: Option<Label>,
    /// What becomes of who matches.
    pub action: Action,
    /// `mode = "observe"`: it decides nothing; what it would have refused is logged.
    pub observe: bool,
    /// In place of the service's `refuse` banner.
    pub banner: Option<Vec<u8>>,
    /// In place of the service's `log`: is what it decides logged?
    pub log: Option<bool>,
}

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

/// A value, and where it was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placed<T> {
    /// Where.
    pub place: Place,
    /// What.
    pub value: T,
}

/// `hosts_access`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsAccess {
    /// hosts.allow.
    pub allow: PathBuf,
    /// hosts.deny.
    pub deny: PathBuf,
    /// They are read again when they change.
    pub watch: bool,
}

/// `[sets]`. What the files hold is not here: it is compiled to tables (`policy::table`).
pub type Sets = BTreeMap<Label, Set>;

/// A named set of addresses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Where it stands.
    pub place: Place,
    /// Its networks that the configuration itself says.
    pub networks: Vec<Network>,
    /// Absolute paths of list files.
    pub files: Vec<PathBuf>,
    /// The files are read again when they change.
    pub watch: bool,
}

/// `[hours]`.
pub type Hours = BTreeMap<Label, NamedHours>;

/// Named times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedHours {
    /// Where they stand.
    pub place: Place,
    /// Inside of any is inside; never empty.
    pub windows: Vec<Window>,
    /// `local` or an IANA name, that of `[daemon] zone` where nothing is said.
    pub zone: String,
}

impl Access {
    /// Does it hold nobody up?
    pub fn is_open(&self) -> bool {
        self.rules == Rules::default() && self.hosts_access.is_none()
    }

    /// The names of sets that it uses.
    pub fn sets(&self) -> impl Iterator<Item = &Label> {
        self.patterns().filter_map(|pattern| match pattern {
            ClientPattern::Set(name) => Some(name),
            _ => None,
        })
    }

    /// The names of hours that it uses.
    pub fn hours(&self) -> impl Iterator<Item = &Label> {
        let (short, ordered) = self.rules.parts();
        short
            .and_then(|clauses| clauses.hours.as_ref())
            .map(|hours| &hours.value)
            .into_iter()
            .chain(ordered.iter().filter_map(|rule| rule.hours.as_ref()))
    }

    /// Does it depend on whose process the client is?
    pub fn asks_users(&self) -> bool {
        let (short, ordered) = self.rules.parts();
        short.is_some_and(|clauses| clauses.users.is_some())
            || ordered.iter().any(|rule| rule.users.is_some())
    }

    /// Every pattern of clients in it.
    pub fn patterns(&self) -> impl Iterator<Item = &ClientPattern> {
        let (short, ordered) = self.rules.parts();
        let short = short.into_iter().flat_map(|clauses| [&clauses.deny, &clauses.allow]).flatten();
        short
            .flat_map(|list| &list.value)
            .chain(ordered.iter().filter_map(|rule| rule.from.as_ref()).flatten())
    }

    /// Its places, in the order of [`Access::take_places`].
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let (clauses, otherwise) = match &self.rules {
            Rules::Short(clauses) => (Some(clauses), None),
            Rules::Ordered { otherwise, .. } => (None, Some(&otherwise.place)),
        };
        let (_, rules) = self.rules.parts();
        let short = clauses.into_iter().flat_map(|Clauses { deny, allow, users, hours }| {
            let clients = [deny, allow].into_iter().flatten().map(|said| &said.place);
            let users = users.iter().map(|said| &said.place);
            clients.chain(users).chain(hours.iter().map(|said| &said.place))
        });
        short.chain(rules.iter().map(|rule| &rule.place)).chain(otherwise)
    }

    /// Takes the places out, in an order that [`Access::put_places`] knows; empty ones are left.
    pub fn take_places(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        self.each_place(|place| places.push(mem::replace(place, Place { file: String::new(), line: 0 })));
        places
    }

    /// Puts back what [`Access::take_places`] took.
    pub fn put_places(&mut self, places: Vec<Place>) {
        let mut places = places.into_iter();
        self.each_place(|place| {
            if let Some(taken) = places.next() {
                *place = taken;
            }
        });
    }

    fn each_place(&mut self, mut visit: impl FnMut(&mut Place)) {
        match &mut self.rules {
            Rules::Short(Clauses { deny, allow, users, hours }) => {
                let lists = [deny, allow].into_iter().flatten().map(|said| &mut said.place);
                let users = users.iter_mut().map(|said| &mut said.place);
                let hours = hours.iter_mut().map(|said| &mut said.place);
                for place in lists.chain(users).chain(hours) {
                    visit(place);
                }
            }
            Rules::Ordered { rules, otherwise } => {
                for rule in rules {
                    visit(&mut rule.place);
                }
                visit(&mut otherwise.place);
            }
        }
    }
}

impl Rules {
    fn parts(&self) -> (Option<&Clauses>, &[Rule]) {
        match self {
            Self::Short(clauses) => (Some(clauses), &[]),
            Self::Ordered { rules, .. } => (None, rules),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: u32) -> Place {
        Place { file: "x.toml".to_owned(), line }
    }

    #[test]
    fn places_part_and_come_back() {
        let any = Placed { place: place(2), value: vec![ClientPattern::Any] };
        let hours = Placed { place: place(3), value: "night".parse().unwrap() };
        let clauses = Clauses { deny: Some(any), hours: Some(hours), ..Clauses::default() };
        let rule = Rule {
            place: place(5),
            from: None,
            users: None,
            hours: None,
            action: Action::Deny,
            observe: false,
            banner: None,
            log: None,
        };
        let ordered =
            Rules::Ordered { rules: vec![rule], otherwise: Placed { place: place(9), value: Action::Allow } };
        check(Rules::Short(clauses), &[2, 3]);
        check(ordered, &[5, 9]);
        check(Rules::default(), &[]);
    }

    #[track_caller]
    fn check(rules: Rules, lines: &[u32]) {
        let original = Access { rules, ..Access::default() };
        let mut access = original.clone();
        let places = access.take_places();
        assert!(original.places().eq(&places));
        assert_eq!(places.iter().map(|place| place.line).collect::<Vec<_>>(), lines);
        assert_eq!(access != original, !lines.is_empty());
        assert_eq!(serde_json::from_str::<Access>(&serde_json::to_string(&access).unwrap()).unwrap(), access);
        access.put_places(places);
        assert_eq!(access, original);
    }
}
