//! Does a rule match a request?
//!
//! By what is known of it; what has to be found out first is named. Knows nothing of what a rule is for.

use std::net::IpAddr;

use crate::model::host::HostName;

use super::host_list::HostSet;
use super::outcome::Match;
use super::pattern::{DaemonPattern, HostPattern, UserPattern};
use super::request::{End, Facts, Member, Naming, Need, Netgroup, Request, User};
use super::rule::{ClientItem, DaemonItem, Rule};

/// Who is asked about, and what is known.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) facts: &'a Facts,
}

impl Question<'_> {
    /// The daemons first: they cost no look-up, but at `daemon@host`.
    pub(super) fn matches(&self, rule: &Rule) -> Match {
        let daemon = rule.daemons.judge(&|item| self.daemon(item));
        if daemon == Match::No {
            return Match::No;
        }
        daemon.and(rule.clients.judge(&|item| self.client(item)))
    }

    fn daemon(&self, item: &DaemonItem) -> Match {
        let daemon = match &item.daemon {
            DaemonPattern::All => true,
            DaemonPattern::Port(port) => self.request.local.is_some_and(|local| local.port() == *port),
            DaemonPattern::Name(pattern) => pattern.matches(self.request.daemon),
        };
        match &item.at {
            Some(host) if daemon => self.host(host, End::Local),
            _ => daemon.into(),
        }
    }

    /// The user only if the host matches: asking for it may be slow.
    fn client(&self, item: &ClientItem) -> Match {
        let host = self.host(&item.host, End::Client);
        match &item.user {
            Some(user) if host != Match::No => host.and(self.user(user)),
            _ => host,
        }
    }

    fn host(&self, pattern: &HostPattern, end: End) -> Match {
        let address = self.request.address(end);
        match pattern {
            HostPattern::All => Match::Yes,
            HostPattern::Nobody => Match::No,
            HostPattern::Network(network) => address.is_some_and(|address| network.contains(address)).into(),
            HostPattern::Masked { network, mask } => match address {
                Some(IpAddr::V4(address)) => (address.to_bits() & mask.to_bits() == network.to_bits()).into(),
                _ => Match::No,
            },
            HostPattern::AddressText(text) => {
                address.is_some_and(|address| text.matches(&address.to_string())).into()
            }
            HostPattern::List(set) => self.set(set, end),
            HostPattern::Unknown if address.is_none() => Match::Yes,
            HostPattern::Known if address.is_none() => Match::No,
            HostPattern::Name(text) if text.is_glob() => {
                let by_address = address.is_some_and(|address| text.matches(&address.to_string()));
                if by_address { Match::Yes } else { self.name(pattern, end) }
            }
            _ => self.name(pattern, end),
        }
    }

    fn set(&self, set: &HostSet, end: End) -> Match {
        if self.request.address(end).is_some_and(|address| set.holds(address)) {
            return Match::Yes;
        }
        Match::any(set.others().iter().map(|pattern| self.host(pattern, end)))
    }

    /// The patterns that the name decides.
    fn name(&self, pattern: &HostPattern, end: End) -> Match {
        let Some(name) = self.facts.name(end) else { return Match::Need(Need::Name(end)) };
        match pattern {
            HostPattern::Unknown => matches!(name, Naming::Unknown | Naming::Failed).into(),
            HostPattern::Known => matches!(name, Naming::Confirmed(_)).into(),
            HostPattern::Paranoid => match name {
                Naming::Failed => Match::Maybe,
                _ => (*name == Naming::Paranoid).into(),
            },
            HostPattern::Local if *name == Naming::Paranoid => Match::No,
            _ => match name {
                Naming::Confirmed(names) => {
                    Match::any(names.iter().map(|name| self.confirmed(pattern, name)))
                }
                Naming::Unknown => Match::No,
                Naming::Paranoid | Naming::Failed => Match::Maybe,
            },
        }
    }

    fn confirmed(&self, pattern: &HostPattern, name: &HostName) -> Match {
        match pattern {
            HostPattern::Local => (!name.as_str().contains('.')).into(),
            HostPattern::Name(text) => text.matches(name.as_str()).into(),
            HostPattern::Netgroup(group) => self.netgroup(group, Member::Host(name.to_string())),
            _ => Match::No,
        }
    }

    fn user(&self, pattern: &UserPattern) -> Match {
        if *pattern == UserPattern::All {
            return Match::Yes;
        }
        let Some(user) = &self.facts.user else { return Match::Need(Need::User(None)) };
        match (pattern, user) {
            (UserPattern::Known, _) => matches!(user, User::Known(_)).into(),
            (UserPattern::Unknown, _) => (!matches!(user, User::Known(_))).into(),
            (_, User::Unknown) => Match::No,
            (_, User::Failed) => Match::Maybe,
            (UserPattern::Name(text), User::Known(user)) => text.matches(user).into(),
            (UserPattern::Netgroup(group), User::Known(user)) => {
                self.netgroup(group, Member::User(user.clone()))
            }
            (UserPattern::All, _) => Match::Yes,
        }
    }

    fn netgroup(&self, group: &str, member: Member) -> Match {
        let asked = Netgroup { group: group.to_owned(), member };
        let known = self.facts.netgroups.iter().find(|(known, _)| *known == asked);
        match known {
            None => Match::Need(Need::Netgroup(asked)),
            Some((_, Some(is_member))) => (*is_member).into(),
            Some((_, None)) => Match::Maybe,
        }
    }
}
