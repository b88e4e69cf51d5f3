//! What is between the services that clients reach through tcpmux, and the service that leads there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::mux::MuxName;

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft};
use super::listen::Listen;

/// Each name is one service's, and there is a way to it.
pub fn check(draft: &Draft, report: &mut Report) {
    let mut known: HashMap<&MuxName, (&ServiceDraft, &Spot)> = HashMap::new();
    let leads = draft.services.iter().any(is_mux);
    for service in &draft.services {
        for (name, spot) in names(service) {
            if !leads {
                report.add(leads_nowhere(service, spot));
            }
            if service.values.flag(("", "enabled")) == Some(false) {
                continue;
            }
            match known.entry(name) {
                Entry::Vacant(place) => drop(place.insert((service, spot))),
                Entry::Occupied(first) => report.add(twice(name, *first.get(), (service, spot))),
            }
        }
    }
}

/// Does other hosts' traffic come to a service of tcpmux, and so to all that are behind it?
pub fn hears_others(draft: &Draft) -> bool {
    let hears =
        |service: &ServiceDraft| service.values.listens().iter().any(|said| said.value.hears_others());
    draft.services.iter().any(|service| is_mux(service) && hears(service))
}

/// Is it one that leads to others?
pub fn is_mux(service: &ServiceDraft) -> bool {
    service.values.text(("", "builtin")) == Some("tcpmux")
}

/// The names by which clients reach a service.
pub fn names(service: &ServiceDraft) -> impl Iterator<Item = (&MuxName, &Spot)> {
    service.values.listens().iter().filter_map(|said| match &said.value {
        Listen::TcpMux(name) => Some((name, &said.spot)),
        _ => None,
    })
}

fn leads_nowhere(service: &ServiceDraft, spot: &Spot) -> Diagnostic {
    let message =
        format!("service {} is behind tcpmux, and no service has `builtin = \"tcpmux\"`", service.name);
    Diagnostic::error("no-tcpmux", spot, message)
        .hint("for example [service.tcpmux] with `listen = \"tcp:1\"` and `builtin = \"tcpmux\"`")
}

fn twice(
    name: &MuxName,
    (first, at): (&ServiceDraft, &Spot),
    (second, spot): (&ServiceDraft, &Spot),
) -> Diagnostic {
    let message = if first.name == second.name {
        format!("service {} listens twice for the same: tcpmux:{name}", first.name)
    } else {
        format!("services {} and {} want the same name: tcpmux:{name}", first.name, second.name)
    };
    let diagnostic = Diagnostic::error("conflict", spot, message)
        .hint("give one of them another name, or `enabled = false`; letters are of no case here");
    if at == spot { diagnostic } else { diagnostic.label("here again").also(at, "here first") }
}
