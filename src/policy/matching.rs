//! What one pattern says of a client, and what a list of them says.

use crate::model::client::Client;
use crate::model::host::HostName;
use crate::model::label::Label;
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::model::user::UserPattern;

use super::request::{Fact, Naming, Request, User};
use super::table::Table;
use super::tables::Tables;
use super::truth::{Cause, Doubt, Needs, Truth};

/// From so many networks on, a list is asked as a table.
const MANY: usize = 16;

/// A list of patterns of clients, with its cheap tests apart from those that need a name.
#[derive(Debug)]
pub struct Clients {
    all: Vec<ClientPattern>,
    by_address: Vec<ClientPattern>,
    many: Option<Table>,
    by_name: Vec<ClientPattern>,
}

impl Clients {
    /// Prepares a list.
    pub fn new(all: Vec<ClientPattern>) -> Self {
        let (by_name, mut by_address): (Vec<_>, Vec<_>) =
            all.iter().cloned().partition(ClientPattern::asks_name);
        let networks: Vec<Network> = by_address.iter().filter_map(network).collect();
        let many = (networks.len() >= MANY).then(|| Table::of(&networks));
        if many.is_some() {
            by_address.retain(|pattern| network(pattern).is_none());
        }
        Self { all, by_address, many, by_name }
    }

    /// Must the client's name be known, if its address says nothing?
    pub fn ask_name(&self) -> bool {
        !self.by_name.is_empty()
    }

    /// Does any pattern match? Names are looked at where no address matches.
    pub fn judge(&self, request: &Request<'_>, tables: &Tables) -> Truth {
        if self.has_address(request) {
            return Truth::Yes(Cause::Address);
        }
        let cheap = any(&self.by_address, |pattern| client(pattern, request, tables));
        if matches!(cheap, Truth::Yes(_)) {
            return cheap;
        }
        cheap.or(any(&self.by_name, |pattern| client(pattern, request, tables)))
    }

    /// The first pattern that says this.
    pub fn saying(&self, truth: Truth, request: &Request<'_>, tables: &Tables) -> Option<&ClientPattern> {
        let cheap = self.all.iter().filter(|pattern| !pattern.asks_name());
        cheap.chain(&self.by_name).find(|pattern| client(pattern, request, tables) == truth)
    }

    fn has_address(&self, request: &Request<'_>) -> bool {
        match (&self.many, request.client) {
            (Some(table), Client::Inet(address)) => table.contains(address.ip()),
            _ => false,
        }
    }
}

fn network(pattern: &ClientPattern) -> Option<Network> {
    match pattern {
        ClientPattern::Network(network) => Some(*network),
        _ => None,
    }
}

/// Stops at the first that matches.
fn any<T>(patterns: &[T], mut judge: impl FnMut(&T) -> Truth) -> Truth {
    let mut sum = Truth::No;
    for pattern in patterns {
        sum = sum.or(judge(pattern));
        if matches!(sum, Truth::Yes(_)) {
            break;
        }
    }
    sum
}

/// Does the pattern match the client? One of a unix socket has no address, and matches `any` and `unix` alone.
pub fn client(pattern: &ClientPattern, request: &Request<'_>, tables: &Tables) -> Truth {
    let by_address = |matches| Truth::told(matches, Cause::Address);
    let address = match (pattern, request.client) {
        (ClientPattern::Any, _) | (ClientPattern::Unix, Client::User { .. }) => return by_address(true),
        (_, Client::User { .. }) => return Truth::No,
        (_, Client::Inet(address)) => address.ip(),
    };
    match pattern {
        ClientPattern::Any => by_address(true),
        ClientPattern::Unix => Truth::No,
        ClientPattern::Local => by_address(request.interfaces.is_local(address)),
        ClientPattern::Link => by_address(request.interfaces.is_on_link(address)),
        ClientPattern::Network(network) => by_address(network.contains(address)),
        ClientPattern::Set(name) => match tables.set(name) {
            Some(set) => by_address(set.contains(address)),
            None => Truth::Unknown(Doubt::Set),
        },
        ClientPattern::Name(wanted) => named(request, |names| names.contains(wanted)),
        ClientPattern::Below(domain) => {
            named(request, |names| names.iter().any(|name| name.is_below(domain)))
        }
        ClientPattern::Unknown => naming(request, |naming| !matches!(naming, Naming::Confirmed(_))),
        ClientPattern::Paranoid => naming(request, |naming| naming == Naming::Mismatch),
    }
}

/// A test of confirmed names: where there is none, none matches.
fn named(request: &Request<'_>, test: impl Fn(&[HostName]) -> bool) -> Truth {
    naming(request, |naming| match naming {
        Naming::Confirmed(names) => test(names),
        Naming::NoName | Naming::Mismatch => false,
    })
}

fn naming(request: &Request<'_>, test: impl Fn(Naming<'_>) -> bool) -> Truth {
    match request.name {
        Fact::Known(naming) => Truth::told(test(naming), Cause::Name),
        Fact::NotAsked => Truth::Pending(Needs::NAME),
        Fact::Failed => Truth::Unknown(Doubt::Name),
    }
}

/// Does any of the users match?
pub fn users(patterns: &[UserPattern], request: &Request<'_>) -> Truth {
    any(patterns, |pattern| user(pattern, request))
}

/// Does the pattern match the client's user?
pub fn user(pattern: &UserPattern, request: &Request<'_>) -> Truth {
    match pattern {
        UserPattern::User { uid, .. } => of_this_machine(request, |user| user.uid == *uid),
        UserPattern::Group { gid, members, .. } => of_this_machine(request, |user| {
            user.groups.contains(gid) || members.binary_search(&user.uid).is_ok()
        }),
        UserPattern::Ident(wanted) => ident(request, |name| name == wanted),
        UserPattern::AnyIdent => ident(request, |_| true),
    }
}

fn of_this_machine(request: &Request<'_>, test: impl Fn(User<'_>) -> bool) -> Truth {
    match (request.user, request.client) {
        (Fact::Known(user), _) => Truth::told(test(user), Cause::User),
        (Fact::Failed, Client::User { .. }) => Truth::Unknown(Doubt::User),
        (_, Client::User { uid, gid, .. }) => Truth::told(test(User { uid, groups: &[gid] }), Cause::User),
        // Of a client elsewhere the kernel knows no user: there is nobody to ask.
        (Fact::NotAsked, Client::Inet(address)) if request.interfaces.is_local(address.ip()) => {
            Truth::Pending(Needs::USER)
        }
        (Fact::NotAsked | Fact::Failed, Client::Inet(_)) => Truth::Unknown(Doubt::User),
    }
}

fn ident(request: &Request<'_>, test: impl Fn(&str) -> bool) -> Truth {
    match (request.ident, request.client) {
        (Fact::Known(name), _) => Truth::told(test(name), Cause::User),
        (Fact::NotAsked, Client::Inet(_)) => Truth::Pending(Needs::IDENT),
        (Fact::NotAsked | Fact::Failed, _) => Truth::Unknown(Doubt::Ident),
    }
}

/// Is now inside of these hours?
pub fn hours(name: &Label, request: &Request<'_>, tables: &Tables) -> Truth {
    match tables.hours(name).and_then(|hours| hours.is_inside(request.now)) {
        Some(inside) => Truth::told(inside, Cause::Hours),
        None => Truth::Unknown(Doubt::Hours),
    }
}
