//! Two services, or one twice, that want the same packets.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::model::endpoint::{Endpoint, InetEndpoint, Transport, UnixName};

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft};
use super::listen::{InetListen, Listen, Port};

/// More are not shown: a wrong default makes one for every pair of services.
const MAX_CONFLICTS: usize = 1000;

/// Knows ports by name.
type LookUp<'l> = dyn Fn(Transport, &str) -> Option<u16> + 'l;

/// Where two claims were made; the two families of one `tcp:` are one conflict.
type Pair = [(usize, usize); 2];

struct Claim<'d> {
    service: &'d ServiceDraft,
    spot: &'d Spot,
    endpoint: Endpoint,
}

/// Endpoints of different groups never meet.
#[derive(PartialEq, Eq, Hash)]
enum Group {
    Inet(Transport, u16, bool),
    Unix(UnixName),
    Passed(String),
}

impl Group {
    fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Inet(inet) => Self::Inet(inet.transport, inet.port, inet.ip.is_ipv6()),
            Endpoint::Unix(unix) => Self::Unix(unix.name.clone()),
            Endpoint::Passed(name) => Self::Passed(name.clone()),
        }
    }
}

/// Finds them. `look_up` knows ports by name; those that it doesn't know are left out.
pub fn find(draft: &Draft, look_up: &LookUp<'_>, report: &mut Report) {
    let mut by_group: HashMap<Group, Vec<Claim<'_>>> = HashMap::new();
    for service in draft.services.iter().filter(|s| s.values.flag(("", "enabled")) != Some(false)) {
        for said in service.values.listens() {
            let port = match &said.value {
                Listen::Inet(InetListen { port: Port::Number(number), .. }) => Some(*number),
                Listen::Inet(InetListen { port: Port::Name(name), transport, .. }) => {
                    look_up(*transport, name)
                }
                Listen::Unix(_) | Listen::Passed(_) | Listen::TcpMux(_) => Some(0),
            };
            for endpoint in port.into_iter().flat_map(|port| said.value.endpoints(port)) {
                let claim = Claim { service, spot: &said.spot, endpoint };
                by_group.entry(Group::of(&claim.endpoint)).or_default().push(claim);
            }
        }
    }
    let mut known = BTreeSet::new();
    for claims in by_group.values() {
        among(claims, &mut known, report);
    }
}

/// Only claims of the same address, or of every address, can meet.
fn among(claims: &[Claim<'_>], known: &mut BTreeSet<Pair>, report: &mut Report) {
    let mut by_ip: HashMap<Option<IpAddr>, Vec<&Claim<'_>>> = HashMap::new();
    for claim in claims {
        by_ip.entry(claim.endpoint.inet().map(|inet| inet.ip)).or_default().push(claim);
    }
    for same in by_ip.values() {
        for (i, a) in same.iter().enumerate() {
            same.iter().skip(i + 1).for_each(|b| meet(a, b, known, report));
        }
    }
    let is_wildcard = |claim: &&Claim<'_>| claim.endpoint.inet().is_some_and(InetEndpoint::is_wildcard);
    for wildcard in claims.iter().filter(is_wildcard) {
        for specific in claims.iter().filter(|claim| !is_wildcard(claim)) {
            meet(wildcard, specific, known, report);
        }
    }
}

fn meet(a: &Claim<'_>, b: &Claim<'_>, known: &mut BTreeSet<Pair>, report: &mut Report) {
    if known.len() >= MAX_CONFLICTS || !a.endpoint.overlaps(&b.endpoint) {
        return;
    }
    let at = |claim: &Claim<'_>| (claim.spot.file, claim.spot.range.start);
    let (first, second) = if at(a) <= at(b) { (a, b) } else { (b, a) };
    if !known.insert([at(first), at(second)]) {
        return;
    }
    let message = if first.service.name == second.service.name {
        format!(
            "service {} listens twice for the same: {} and {}",
            first.service.name, first.endpoint, second.endpoint
        )
    } else {
        format!(
            "services {} and {} want the same {}: {} and {}",
            first.service.name,
            second.service.name,
            what(&first.endpoint),
            first.endpoint,
            second.endpoint
        )
    };
    let mut diagnostic = Diagnostic::error("conflict", second.spot, message).hint(remedy(&second.endpoint));
    // A `listen` of [defaults] is one place for both.
    if first.spot != second.spot {
        diagnostic = diagnostic
            .label(format!("{} of {}", second.endpoint, second.service.name))
            .also(first.spot, format!("{} of {}", first.endpoint, first.service.name));
    }
    report.add(diagnostic);
}

fn what(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Inet(inet) if inet.transport == Transport::Udp => "datagrams",
        Endpoint::Inet(_) => "connections",
        Endpoint::Unix(_) => "name",
        Endpoint::Passed(_) => "passed sockets",
    }
}

fn remedy(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Inet(_) => "give one of them another port or address, or `enabled = false`",
        Endpoint::Unix(_) | Endpoint::Passed(_) => "give one of them another name, or `enabled = false`",
    }
}
