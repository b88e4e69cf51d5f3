//! Where rules of access can hold: everywhere that superd accepts; on datagrams, as far as addresses and hours
//! tell; nowhere else. A default that can't hold is an error, too: nobody should be let in by it unawares.

use std::collections::BTreeSet;

use crate::model::endpoint::{Endpoint, InetEndpoint, Transport};
use crate::model::pattern::ClientPattern;
use crate::model::user::UserWord;

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Path, Said, ServiceDraft, Value, Values};
use super::listen::Listen;
use super::obstacles;
use super::values::Complaint;
use super::ways::Way;

/// The keys that let in and refuse.
const RULES: [Path; 6] =
    [("", "deny"), ("", "allow"), ("", "users"), ("", "hours"), ("", "rule"), ("", "hosts_access")];

/// What belongs to one of them.
const BELONGING: [Path; 2] = [("", "otherwise"), ("", "end_sessions")];

/// What can be asked of a client.
enum Reach {
    Everything,
    /// Its address and the time.
    Address(Way),
    Nothing(Way),
}

/// Judges the keys of access of a service with its defaults; `own` is what it says itself.
pub fn service(service: &mut ServiceDraft, own: &BTreeSet<Path>, way: Way, report: &mut Report) {
    let endpoints: Vec<Endpoint> =
        service.values.listens().iter().flat_map(|said| said.value.endpoints(0)).collect();
    let reach = reach(way, &endpoints);
    for path in BELONGING {
        let holds = match reach {
            Reach::Everything => true,
            Reach::Address(_) => path.1 == "otherwise",
            Reach::Nothing(_) => false,
        };
        if !holds && !own.contains(&path) {
            service.values.remove(path);
        }
    }
    let only_datagrams = !endpoints.is_empty() && endpoints.iter().all(is_udp);
    let mut judge = Judge { service, own, kinds: Kinds::of(service), only_datagrams, report };
    for path in RULES.into_iter().chain(BELONGING) {
        match &reach {
            Reach::Nothing(way) => judge.all(path, &obstacles::no_accept(path, *way)),
            Reach::Address(way) => judge.beyond_address(path, *way),
            Reach::Everything => {}
        }
        judge.kinds(path);
    }
}

fn is_udp(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Inet(InetEndpoint { transport: Transport::Udp, .. }))
}

fn reach(way: Way, endpoints: &[Endpoint]) -> Reach {
    match way {
        Way::Wait if endpoints.iter().all(is_udp) => Reach::Address(way),
        Way::Wait | Way::Listen => Reach::Nothing(way),
        Way::Builtin if endpoints.iter().any(is_udp) => Reach::Address(way),
        Way::Exec | Way::Builtin | Way::Handoff | Way::Relay => Reach::Everything,
    }
}

/// The kinds of clients that a service may have.
struct Kinds {
    internet: bool,
    unix: bool,
}

impl Kinds {
    fn of(service: &ServiceDraft) -> Self {
        let listens = service.values.listens();
        // What is passed, or behind tcpmux, may be of either kind.
        let any = |is: fn(&Listen) -> bool| {
            listens.is_empty()
                || listens.iter().any(|said| {
                    is(&said.value) || matches!(said.value, Listen::Passed(_) | Listen::TcpMux(_))
                })
        };
        Self {
            internet: any(|listen| matches!(listen, Listen::Inet(_))),
            unix: any(|listen| matches!(listen, Listen::Unix(_))),
        }
    }
}

struct Judge<'j> {
    service: &'j ServiceDraft,
    own: &'j BTreeSet<Path>,
    kinds: Kinds,
    only_datagrams: bool,
    report: &'j mut Report,
}

impl Judge<'_> {
    /// The key can't hold at all.
    fn all(&mut self, path: Path, complaint: &Complaint) {
        let Some(said) = self.service.values.get(path) else { return };
        let turned_off =
            matches!(path.1, "end_sessions" | "hosts_access") && said.value == Value::Flag(false);
        if !turned_off {
            self.say(path, &said.spot, &format!("`{}`", path.1), complaint);
        }
    }

    /// Of a datagram the address is known, and nobody waits for more.
    fn beyond_address(&mut self, path: Path, way: Way) {
        match path.1 {
            "users" | "hosts_access" => self.all(path, &by_address_alone(way)),
            "end_sessions" => self.all(path, &Complaint::new("datagrams make no sessions of their clients")),
            "rule" => {
                for rule in self.service.values.rows(path) {
                    self.rule_beyond_address(path, &rule.value, way);
                }
            }
            _ => {}
        }
        for said in clients(&self.service.values, path).filter(|said| said.value.asks_name()) {
            self.say(path, &said.spot, &format!("`{}`", said.value), &by_address_alone(way));
        }
    }

    fn rule_beyond_address(&mut self, path: Path, rule: &Values, way: Way) {
        let unseen = || Complaint::new("the kernel drops what is refused, and superd does not see it");
        for (key, complaint) in [
            ("users", by_address_alone(way)),
            ("banner", Complaint::new("a datagram that is refused has no answer").hint("leave it out")),
            ("mode", unseen()),
            ("log", unseen()),
        ] {
            let seen = !self.only_datagrams && matches!(key, "mode" | "log");
            if let Some(spot) = rule.spot(("", key)).filter(|_| !seen) {
                self.say(path, spot, &format!("`{key}`"), &complaint);
            }
        }
    }

    /// What matches no client of these listeners. The defaults are for services of every kind.
    fn kinds(&mut self, path: Path) {
        if !self.own.contains(&path) {
            return;
        }
        for said in clients(&self.service.values, path) {
            let complaint = match &said.value {
                ClientPattern::Any => continue,
                ClientPattern::Unix if self.kinds.unix => continue,
                ClientPattern::Unix => Complaint::new("the service listens on no unix socket"),
                _ if self.kinds.internet => continue,
                _ => {
                    Complaint::new("the service listens on unix sockets alone, whose clients have no address")
                        .hint("`unix` matches them all; `users` tells them apart")
                }
            };
            self.say(path, &said.spot, &format!("`{}`", said.value), &complaint);
        }
        for said in users(&self.service.values, path) {
            if matches!(said.value, UserWord::Ident(_) | UserWord::AnyIdent) && !self.kinds.internet {
                let complaint = Complaint::new("clients of unix sockets have no RFC 1413 server")
                    .hint("the kernel says who they are: write the user's name");
                self.say(path, &said.spot, "`ident:`", &complaint);
            }
        }
    }

    fn say(&mut self, path: Path, spot: &Spot, what: &str, complaint: &Complaint) {
        let Complaint { message, hint, .. } = complaint;
        if self.own.contains(&path) {
            let message = format!("{what} can't hold here: {message}");
            return self.report.add(Diagnostic::error("cannot-hold", spot, message).maybe_hint(hint.clone()));
        }
        let message = format!("{what} of [defaults] can't hold in service {}: {message}", self.service.name);
        let error =
            Diagnostic::error("cannot-hold", spot, message).also(&self.service.spot, "not in this one");
        let key = path.1;
        self.report.add(error.hint(format!("`{key} = \"none\"` in the service says that it is meant so")));
    }
}

/// The clients that a key says, those of its rules too.
fn clients(values: &Values, path: Path) -> impl Iterator<Item = &Said<ClientPattern>> {
    let of_rules = values.rows(path).iter().filter_map(|rule| rule.value.clients(("", "from")));
    values.clients(path).into_iter().chain(of_rules).flatten()
}

fn users(values: &Values, path: Path) -> impl Iterator<Item = &Said<UserWord>> {
    let of_rules = values.rows(path).iter().filter_map(|rule| rule.value.users(("", "users")));
    values.users(path).into_iter().chain(of_rules).flatten()
}

fn by_address_alone(way: Way) -> Complaint {
    Complaint::new(match way {
        Way::Wait => "with `wait` the kernel judges datagrams, and it knows addresses alone",
        _ => "a datagram is judged by its address alone, nobody waits for more",
    })
    .hint("addresses, networks, @sets, `local`, `link` and hours can hold")
}
