//! Two services, or one twice, that want the same packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::endpoint::Endpoint;

use super::check::port_number;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft};

/// More are not shown: a wrong default makes one for every pair of services.
const MAX_CONFLICTS: usize = 1000;

/// Where two claims were made; the two families of one `tcp:` are one conflict.
type Pair = [(usize, usize); 2];

struct Claim<'d> {
    service: &'d ServiceDraft,
    spot: &'d Spot,
    endpoint: Endpoint,
}

/// Finds them. `look_up` knows ports by name; those that it doesn't know are left out.
pub fn find(draft: &Draft, look_up: &dyn Fn(&str) -> Option<u16>, report: &mut Report) {
    let mut by_port: BTreeMap<(u16, bool), Vec<Claim<'_>>> = BTreeMap::new();
    for service in draft.services.iter().filter(|s| s.values.flag(("", "enabled")) != Some(false)) {
        for said in service.values.listens() {
            let port = port_number(&said.value.port).or_else(|| match &said.value.port {
                super::listen::Port::Name(name) => look_up(name),
                super::listen::Port::Number(_) => None,
            });
            for endpoint in port.into_iter().flat_map(|port| said.value.endpoints(port)) {
                let claim = Claim { service, spot: &said.spot, endpoint };
                by_port.entry((claim.endpoint.port, claim.endpoint.ip.is_ipv6())).or_default().push(claim);
            }
        }
    }
    let mut known = BTreeSet::new();
    for claims in by_port.values() {
        among(claims, &mut known, report);
    }
}

/// Only claims of the same address, or of every address, can meet.
fn among(claims: &[Claim<'_>], known: &mut BTreeSet<Pair>, report: &mut Report) {
    let mut by_ip: BTreeMap<IpAddr, Vec<&Claim<'_>>> = BTreeMap::new();
    for claim in claims {
        by_ip.entry(claim.endpoint.ip).or_default().push(claim);
    }
    for same in by_ip.values() {
        for (i, a) in same.iter().enumerate() {
            same.iter().skip(i + 1).for_each(|b| meet(a, b, known, report));
        }
    }
    for wildcard in claims.iter().filter(|claim| claim.endpoint.is_wildcard()) {
        for specific in claims.iter().filter(|claim| !claim.endpoint.is_wildcard()) {
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
            "services {} and {} want the same connections: {} and {}",
            first.service.name, second.service.name, first.endpoint, second.endpoint
        )
    };
    let mut diagnostic = Diagnostic::error("conflict", second.spot, message)
        .hint("give one of them another port or address, or `enabled = false`");
    // A `listen` of [defaults] is one place for both.
    if first.spot != second.spot {
        diagnostic = diagnostic
            .label(format!("{} of {}", second.endpoint, second.service.name))
            .also(first.spot, format!("{} of {}", first.endpoint, first.service.name));
    }
    report.add(diagnostic);
}
