//! What goes with what: a listener with what serves it, a key with both. Said on the service itself, a key that
//! can't hold is an error; from [defaults] it does not apply. Knows no form of a value.

use std::collections::BTreeSet;

use crate::model::endpoint::{Endpoint, InetEndpoint, Transport, UnixKind};
use crate::model::offence::Offence;

use super::diagnostic::{Diagnostic, Report};
use super::draft::{Path, Said, ServiceDraft};
use super::listen::Listen;
use super::obstacles;
use super::reach;
use super::values::Complaint;
use super::ways::Way;

const BUILTIN: Path = ("", "builtin");
const BAN: Path = ("", "ban");

/// The listeners that a worker can be given: one message to the launcher carries them, beside descriptors of the
/// worker's own.
const MOST_LENT: usize = 30;

/// Judges a service with its defaults; `own` is what it says itself. Defaults that can't hold are taken out.
pub fn service(service: &mut ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    let way = Way::of(&service.values);
    listeners(service, way, report);
    decoy(service, own, report);
    if let Some(way) = way {
        reach::service(service, own, way, report);
    }
    if let Some(way) = way.filter(|way| way.accepts()) {
        offences(service, way, own, report);
    }
    let endpoints: Vec<Endpoint> =
        service.values.listens().iter().flat_map(|said| said.value.endpoints(0)).collect();
    let is_behind_tcpmux = endpoints.is_empty() && !service.values.listens().is_empty();
    let held: Vec<Path> = service.values.paths().filter(|path| service.values.get(*path).is_some()).collect();
    for path in held {
        let obstacle = match (path, way) {
            (("socket", _), _) if is_behind_tcpmux => Some(obstacles::of_option_behind_tcpmux()),
            (("socket", name), _) => obstacles::of_option(name, &endpoints),
            (_, Some(way)) => obstacles::of_key(path, &service.values, way, &endpoints),
            (_, None) => None,
        };
        let Some(complaint) = obstacle else { continue };
        if !own.contains(&path) {
            service.values.remove(path);
        } else if let Some(spot) = service.values.spot(path) {
            let message = format!("{} can't hold here: {}", title(path), complaint.message);
            report.add(Diagnostic::error("cannot-hold", spot, message).maybe_hint(complaint.hint));
        }
    }
}

/// A decoy bans at its first client: what the defaults say of banning patiently is not meant for it.
fn decoy(service: &mut ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    if service.values.text(BUILTIN) != Some("sensor") {
        return;
    }
    if let Some(spot) = service.values.said(BAN).map(|said| &said.spot).filter(|_| own.contains(&BAN)) {
        let error =
            Diagnostic::error("contradiction", spot, "`sensor` is there to ban, and `ban` is taken away");
        report.add(error.hint("`ban.for` is how long, `ban.never` whom it spares; or `enabled = false`"));
    }
    for path in [("ban", "after"), ("ban", "within"), ("ban", "on")] {
        if !own.contains(&path) {
            service.values.remove(path);
        }
    }
}

/// What the service itself calls an offence must be able to happen there.
fn offences(service: &ServiceDraft, way: Way, own: &BTreeSet<Path>, report: &mut Report) {
    let values = &service.values;
    let Some(spot) = values.spot(("ban", "on")).filter(|_| own.contains(&("ban", "on"))) else { return };
    let said = values.offences(("ban", "on")).unwrap_or_default();
    let has_rate = values.said(("limits", "rate_per_source")).is_some();
    for offence in said {
        let (message, hint) = match offence {
            Offence::Rate if !has_rate => {
                ("the service has no `limits.rate_per_source`", "`limits = { rate_per_source = \"10/min\" }`")
            }
            Offence::Exit(_) | Offence::Signal if way != Way::Exec => {
                ("no process of its own serves a client", "leave it out")
            }
            _ => continue,
        };
        let message = format!("`ban.on` can't count `{offence}`: {message}");
        report.add(Diagnostic::error("cannot-hold", spot, message).hint(hint));
    }
}

fn title((table, name): Path) -> String {
    if table.is_empty() { format!("`{name}`") } else { format!("`{table}.{name}`") }
}

/// Each listener must be one that the service's way can serve.
fn listeners(service: &ServiceDraft, way: Option<Way>, report: &mut Report) {
    let mut sockets = 0;
    for Said { value, spot } in service.values.listens() {
        let complaint = match (value, way) {
            (Listen::TcpMux(_), _) => through_tcpmux(way, service.values.text(BUILTIN)),
            (_, Some(way)) => value.endpoints(0).first().and_then(|endpoint| {
                let builtin = service.values.text(BUILTIN).filter(|_| way == Way::Builtin);
                builtin.and_then(|word| unserved_by(word, endpoint)).or_else(|| unserved(way, endpoint))
            }),
            (_, None) => None,
        };
        if let Some(complaint) = complaint {
            let message = format!("service {}: {}", service.name, complaint.message);
            report.add(Diagnostic::error(complaint.code, spot, message).maybe_hint(complaint.hint));
        }
        sockets += value.endpoints(0).len();
    }
    if let Some(spot) =
        service.values.spot(("", "listen")).filter(|_| way == Some(Way::Listen) && sockets > MOST_LENT)
    {
        let message = format!(
            "service {}: a worker of a `listen` pool can be given {MOST_LENT} listeners, and these are {sockets}",
            service.name
        );
        let error = Diagnostic::error("cannot-hold", spot, message);
        report.add(error.hint("`tcp:` and `udp:` without an address are two each, IPv6 and IPv4"));
    }
}

const WAIT: &str = "`wait = true` gives the listener itself to one process";
const LISTEN: &str = "`protocol = \"listen\"` gives the workers the listener itself";
const WAIT_OR_LISTEN: &str = "`exec` with `wait = true` and a pool with `protocol = \"listen\"` can";

/// Why this way can't serve this listener.
fn unserved(way: Way, endpoint: &Endpoint) -> Option<Complaint> {
    let is_udp = matches!(endpoint, Endpoint::Inet(InetEndpoint { transport: Transport::Udp, .. }));
    if !endpoint.is_datagram() {
        return None;
    }
    match way {
        Way::Wait | Way::Listen => None,
        Way::Builtin if is_udp => None,
        Way::Exec if is_udp => Some(
            Complaint::not_served("this version of superd does not serve a process per client address yet")
                .hint(WAIT),
        ),
        Way::Exec => {
            Some(because("`exec` without `wait` needs connections, and `unix-dgram` makes none").hint(WAIT))
        }
        Way::Builtin => Some(because("no built-in service answers on `unix-dgram`").hint(WAIT_OR_LISTEN)),
        Way::Handoff => Some(because("a pool is handed connections, and datagrams make none").hint(LISTEN)),
        Way::Relay => {
            Some(because("`relay` passes connections on, and datagrams make none").hint(WAIT_OR_LISTEN))
        }
    }
}

/// Why this built-in service can't serve this listener, which others can.
fn unserved_by(builtin: &str, endpoint: &Endpoint) -> Option<Complaint> {
    match (builtin, endpoint) {
        ("tcpmux", Endpoint::Unix(unix)) if unix.kind != UnixKind::Stream => {
            Some(because("`tcpmux` reads a line, and needs a stream").hint("`tcp:1`, or `unix:PATH`"))
        }
        ("tcpmux", _) if endpoint.is_datagram() => {
            Some(because("`tcpmux` leads connections on, and datagrams make none").hint("`tcp:1`"))
        }
        ("sensor", Endpoint::Unix(_)) => {
            Some(because("`sensor` bans addresses, and clients of a unix socket have none").hint("`tcp:23`"))
        }
        ("sensor", _) if endpoint.is_datagram() => Some(
            because("anybody can send a datagram in another one's name, and would have that one banned")
                .hint("`tcp:23`"),
        ),
        _ => None,
    }
}

/// Why a service can't be reached through tcpmux.
fn through_tcpmux(way: Option<Way>, builtin: Option<&str>) -> Option<Complaint> {
    match way? {
        Way::Wait => Some(
            because("`wait` needs a listener, and `tcpmux` is none of the service's own")
                .hint("without `wait` there is a process for each connection"),
        ),
        Way::Listen => Some(
            because("a `listen` pool needs a listener, and `tcpmux` is none of the service's own")
                .hint("`protocol = \"handoff\"` hands connections to the workers"),
        ),
        Way::Relay => Some(because("`relay` does not serve what comes through `tcpmux`")),
        Way::Builtin if builtin == Some("tcpmux") => {
            Some(because("`tcpmux` does not lead to itself").hint("`listen = \"tcp:1\"`"))
        }
        Way::Exec | Way::Builtin | Way::Handoff => None,
    }
}

fn because(why: &str) -> Complaint {
    Complaint { code: "cannot-hold", ..Complaint::new(why) }
}
