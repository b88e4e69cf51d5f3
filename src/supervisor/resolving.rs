//! The supervisor's side of the resolver: started while a rule needs it, asked, and heard.
//!
//! What can't be asked is told to the judge as unknown, so that a resolver that is gone refuses those whose rules
//! need it, and nobody else.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::config::access::{Access, Rules};
use crate::config::settings::{self, Level};
use crate::model::identity::Identity;
use crate::model::pattern::ClientPattern;
use crate::model::user::UserPattern;
use crate::protocol::resolve::{Answer, MAX_PACKET, Question};
use crate::service::backoff::Backoff;
use crate::sys::channel::{Channel, Received};

use super::Supervisor;
use super::roles::RoleKind;
use super::timers::{Due, TimerId};

/// Packets that a turn takes.
const PACKETS: usize = 64;

/// Questions that wait for a resolver that is not there yet, or does not read.
const MOST_UNSENT: usize = 1024;

/// A resolver that lived for so long did not fail at its start.
const SETTLED: Duration = Duration::from_mins(1);

/// The resolver, and what it is to be asked.
#[derive(Debug)]
pub(super) struct Resolver {
    channel: Option<Channel>,
    ready: bool,
    identity: Option<Identity>,
    since: Option<Instant>,
    unsent: VecDeque<Question>,
    backoff: Backoff,
    start_again: Option<TimerId>,
    said_lost: bool,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            channel: None,
            ready: false,
            identity: None,
            since: None,
            unsent: VecDeque::new(),
            backoff: fresh_backoff(),
            start_again: None,
            said_lost: false,
        }
    }
}

fn fresh_backoff() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(30))
}

impl Resolver {
    /// What to wait for; for room, too, where something could not be sent.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, bool)> {
        Some((self.channel.as_ref()?.as_fd(), self.ready && !self.unsent.is_empty()))
    }

    /// Is it gone?
    pub(super) fn is_lost(&self) -> bool {
        self.said_lost
    }
}

/// Does a rule of this service need it?
pub(super) fn needs_resolver(settings: &settings::Service) -> bool {
    settings.enabled && asks(&settings.access)
}

fn asks(access: &Access) -> bool {
    let ident = |users: &[UserPattern]| {
        users.iter().any(|user| matches!(user, UserPattern::Ident(_) | UserPattern::AnyIdent))
    };
    let users = match &access.rules {
        Rules::Short(clauses) => clauses.users.as_ref().is_some_and(|users| ident(&users.value)),
        Rules::Ordered { rules, .. } => rules.iter().filter_map(|rule| rule.users.as_ref()).any(|u| ident(u)),
    };
    users || access.hosts_access.is_some() || access.patterns().any(ClientPattern::asks_name)
}

impl Supervisor {
    /// Has a resolver exactly if a rule needs one, under the user of the configuration in force.
    pub(super) fn settle_resolver(&mut self) {
        let identity = self.daemon.as_ref().and_then(|daemon| daemon.helper.clone());
        let wanted = self.services.iter().any(|(_, s)| !s.is_gone && needs_resolver(&s.settings));
        if !wanted || self.resolver.identity != identity {
            // What it was asked is answered by nobody: its clients are refused in their time.
            self.resolver.channel = None;
            self.resolver.ready = false;
            self.resolver.unsent.clear();
            if let Some(timer) = self.resolver.start_again.take() {
                self.timers.cancel(timer);
            }
        }
        self.resolver.identity = identity;
        if !wanted {
            self.resolver.said_lost = false;
        } else if self.resolver.channel.is_none() && self.resolver.start_again.is_none() {
            self.start_resolver();
        }
    }

    /// The wait after a failure is over.
    pub(super) fn start_resolver_again(&mut self) {
        self.resolver.start_again = None;
        self.settle_resolver();
    }

    fn start_resolver(&mut self) {
        match self.start_role(RoleKind::Resolver) {
            Ok(channel) => {
                self.resolver.channel = Some(channel);
                self.resolver.since = Some(self.now);
            }
            Err(_) => self.start_resolver_later(),
        }
    }

    fn start_resolver_later(&mut self) {
        let at = self.now + self.resolver.backoff.wait();
        self.resolver.start_again = Some(self.timers.set(at, Due::StartResolver));
        if !std::mem::replace(&mut self.resolver.said_lost, true) {
            self.log_state(None, "degraded", Some("resolver"), Level::Warning);
        }
    }

    /// Asks, now or when there is room. `false`: nobody will answer.
    pub(super) fn ask_resolver(&mut self, question: Question) -> bool {
        if self.resolver.unsent.len() >= MOST_UNSENT
            || (self.resolver.channel.is_none() && self.resolver.said_lost)
        {
            return false;
        }
        self.resolver.unsent.push_back(question);
        self.send_questions();
        true
    }

    fn send_questions(&mut self) {
        let resolver = &mut self.resolver;
        let Some(channel) = resolver.channel.as_ref().filter(|_| resolver.ready) else { return };
        while let Some(question) = resolver.unsent.front() {
            let mut line = String::new();
            question.push(&mut line);
            match channel.send(line.as_bytes(), &[]) {
                Ok(()) => drop(resolver.unsent.pop_front()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Its end is read from the channel.
                Err(_) => return,
            }
        }
    }

    /// The resolver has something to say, has room, or is gone. Whoever is let in by that is served now.
    pub(super) fn on_resolver(&mut self) {
        self.hear_resolver();
        self.send_launches();
        self.hand_to_handlers();
    }

    fn hear_resolver(&mut self) {
        self.send_questions();
        let mut packet = [0; MAX_PACKET];
        for _ in 0..PACKETS {
            let Some(channel) = &self.resolver.channel else { return };
            let bytes = match channel.receive(&mut packet) {
                Ok(Received::Packet { len, .. }) => packet.get(..len).unwrap_or_default(),
                Ok(Received::Empty) => return,
                Ok(Received::Closed) | Err(_) => return self.lose_resolver(),
            };
            let Ok(answers) = Answer::read(bytes) else {
                self.note(Level::Err, "the resolver has said what makes no sense: it is ended");
                self.kill_role(RoleKind::Resolver);
                return self.lose_resolver();
            };
            for answer in answers {
                if answer == Answer::Ready {
                    self.resolver_is_ready();
                } else {
                    self.on_resolved(answer);
                }
            }
        }
    }

    fn resolver_is_ready(&mut self) {
        self.resolver.ready = true;
        if std::mem::take(&mut self.resolver.said_lost) {
            self.log_state(None, "online", Some("resolver"), Level::Notice);
        }
        self.send_questions();
    }

    fn lose_resolver(&mut self) {
        self.resolver.channel = None;
        self.resolver.ready = false;
        self.resolver.unsent.clear();
        if self.resolver.since.is_some_and(|since| self.now >= since + SETTLED) {
            self.resolver.backoff = fresh_backoff();
        }
        if !self.is_ending() {
            self.start_resolver_later();
        }
        self.fail_all_questions();
    }
}
