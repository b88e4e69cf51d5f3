//! What goes with what: a listener with what serves it, a key with both. Said on the service itself, a key that
//! can't hold is an error; from [defaults] it does not apply. Knows no form of a value.

use std::collections::BTreeSet;

use crate::model::endpoint::{Endpoint, InetEndpoint, Transport};
use crate::model::offence::Offence;

use super::check::WAYS;
use super::diagnostic::{Diagnostic, Report};
use super::draft::{Path, Said, ServiceDraft, Values};
use super::keys;
use super::values::Complaint;

/// Where superd does not accept, it can't count, refuse or greet clients, nor stay behind for them.
const WITHOUT_WAIT: [Path; 9] = [
    ("limits", "connections"),
    ("limits", "per_source"),
    ("limits", "rate_per_source"),
    ("limits", "on_limit"),
    ("limits", "source_prefix"),
    ("banner", "accept"),
    ("banner", "refuse"),
    ("banner", "busy"),
    ("timeout", "drain"),
];

/// Judges a service with its defaults; `own` is what it says itself. Defaults that can't hold are taken out.
pub fn service(service: &mut ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    let ways = ways(&service.values);
    let wait_holds = ways.is_empty() || ways.contains(&"exec");
    let waits = wait_holds && service.values.flag(("", "wait")) == Some(true);
    listeners(service, &ways, waits, report);
    if !waits {
        offences(service, &ways, own, report);
    }
    let endpoints: Vec<Endpoint> =
        service.values.listens().iter().flat_map(|said| said.value.endpoints(0)).collect();
    let held: Vec<Path> = service.values.paths().filter(|path| service.values.get(*path).is_some()).collect();
    for path in held {
        let Some(complaint) = obstacle(path, &ways, waits, &endpoints) else { continue };
        if !own.contains(&path) {
            service.values.remove(path);
        } else if let Some(spot) = service.values.spot(path) {
            let message = format!("{} can't hold here: {}", title(path), complaint.message);
            report.add(Diagnostic::error("cannot-hold", spot, message).maybe_hint(complaint.hint));
        }
    }
}

/// What the service itself calls an offence must be able to happen there.
fn offences(service: &ServiceDraft, ways: &[&str], own: &BTreeSet<Path>, report: &mut Report) {
    let values = &service.values;
    let Some(spot) = values.spot(("ban", "on")).filter(|_| own.contains(&("ban", "on"))) else { return };
    let said = values.offences(("ban", "on")).unwrap_or_default();
    let has_rate = values.said(("limits", "rate_per_source")).is_some();
    for offence in said {
        let (message, hint) = match offence {
            Offence::Rate if !has_rate => {
                ("the service has no `limits.rate_per_source`", "`limits = { rate_per_source = \"10/min\" }`")
            }
            Offence::Exit(_) | Offence::Signal if !ways.is_empty() && !ways.contains(&"exec") => {
                ("no process of its own serves a client", "leave it out")
            }
            _ => continue,
        };
        let message = format!("`ban.on` can't count `{offence}`: {message}");
        report.add(Diagnostic::error("cannot-hold", spot, message).hint(hint));
    }
}

/// By what the service is served; one, if it is right.
fn ways(values: &Values) -> Vec<&'static str> {
    let said = |way: &'static str| values.get(("", way)).is_some() || values.is_wrong(("", way));
    WAYS.into_iter().filter(|way| said(way)).collect()
}

fn title((table, name): Path) -> String {
    if table.is_empty() { format!("`{name}`") } else { format!("`{table}.{name}`") }
}

/// Each listener must be one that the service's way can serve.
fn listeners(service: &ServiceDraft, ways: &[&str], waits: bool, report: &mut Report) {
    if service.values.is_wrong(("", "wait")) {
        return;
    }
    for Said { value, spot } in service.values.listens() {
        let Some(endpoint) = value.endpoints(0).into_iter().next() else { continue };
        for complaint in ways.iter().filter_map(|way| unserved(way, waits, &endpoint)) {
            let message = format!("service {}: {}", service.name, complaint.message);
            report.add(Diagnostic::error(complaint.code, spot, message).maybe_hint(complaint.hint));
        }
    }
}

/// Why this way can't serve this listener. What a `pool` can do hangs on its protocol.
fn unserved(way: &str, waits: bool, endpoint: &Endpoint) -> Option<Complaint> {
    let is_udp = matches!(endpoint, Endpoint::Inet(InetEndpoint { transport: Transport::Udp, .. }));
    let because = |why: &str| Complaint { code: "cannot-hold", ..Complaint::new(why) };
    let wait = "`wait = true` gives the listener itself to one process";
    match way {
        _ if !endpoint.is_datagram() => None,
        "exec" if waits => None,
        "exec" if is_udp => Some(
            Complaint::not_served("this version of superd does not serve a process per client address yet")
                .hint(wait),
        ),
        "exec" => {
            Some(because("`exec` without `wait` needs connections, and `unix-dgram` makes none").hint(wait))
        }
        "builtin" if !is_udp => Some(
            because("no built-in service answers on `unix-dgram`").hint("`exec` with `wait = true` does"),
        ),
        "relay" => Some(
            because("`relay` passes connections on, and datagrams make none")
                .hint("`exec` with `wait = true` does"),
        ),
        _ => None,
    }
}

/// Why a key can't hold.
fn obstacle(path: Path, ways: &[&str], waits: bool, endpoints: &[Endpoint]) -> Option<Complaint> {
    match path {
        ("", "wait") if !ways.contains(&"exec") && !ways.is_empty() => Some(
            Complaint::new("a process that waits is one of `exec`")
                .hint("leave it out: superd accepts by itself"),
        ),
        ("timeout", "drain") if !ways.contains(&"exec") && !ways.is_empty() => {
            Some(Complaint::new("a service that is not `exec` reads to the end by itself"))
        }
        ("socket", name) => unfit_option(name, endpoints),
        _ if waits && (WITHOUT_WAIT.contains(&path) || path.0 == "ban") => Some(no_accept(path)),
        ("ban", _) if !endpoints.is_empty() && endpoints.iter().all(Endpoint::is_datagram) => Some(
            Complaint::new(
                "anybody can send a datagram in another one's name, and would have that one banned",
            )
            .hint("`limits.rate_per_source` is for datagrams, too"),
        ),
        _ => None,
    }
}

fn unfit_option(name: &str, endpoints: &[Endpoint]) -> Option<Complaint> {
    let (_, fits) = keys::find(keys::SOCKET, name)?.option?;
    let holds = endpoints.is_empty() || endpoints.iter().any(|endpoint| fits.holds_on(endpoint));
    (!holds).then(|| Complaint::new(format!("it is {}, and the service has no such listener", fits.words())))
}

fn no_accept(path: Path) -> Complaint {
    let complaint = Complaint::new("with `wait` the program has the listener, and superd sees no client");
    match path {
        ("limits", "connections") => complaint
            .hint("there is one process for each listener; how many it serves is the program's own setting"),
        ("timeout", _) => complaint.hint("the program has to read to the end by itself"),
        _ => complaint.hint("without `wait` superd accepts, and starts a process for each connection"),
    }
}
