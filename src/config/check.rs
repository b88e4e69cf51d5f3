//! What a draft must hold beyond the form of each value: keys that need or exclude each other.

use super::conflict;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft, Who};
use super::listen::Listen;
use super::situation::Situation;

/// What can serve; a service says one of them.
pub(super) const WAYS: [&str; 4] = ["exec", "builtin", "pool", "relay"];

/// Does the service itself say more than one way to serve? Asked before the defaults are merged in.
pub fn ways_to_serve(service: &ServiceDraft, report: &mut Report) {
    let mut said: Vec<(&str, &Spot)> =
        WAYS.iter().filter_map(|way| Some((*way, &service.values.said(("", *way))?.spot))).collect();
    said.sort_by_key(|(_, spot)| spot.range.start);
    if let [(first, at), others @ ..] = said.as_slice() {
        for (other, spot) in others {
            let message =
                format!("service {} is served in two ways, by `{first}` and by `{other}`", service.name);
            let diagnostic = Diagnostic::error("two-ways", spot, message);
            report.add(diagnostic.label("here again").also(at, "here first").hint("keep one of them"));
        }
    }
}

/// A service with its defaults.
pub fn service(service: &ServiceDraft, situation: &Situation, report: &mut Report) {
    let values = &service.values;
    if values.get(("", "listen")).is_none() && !values.is_wrong(("", "listen")) {
        missing(report, service, "listen", "for example `listen = \"tcp:79\"`");
    }
    let serves = WAYS.iter().any(|way| values.get(("", *way)).is_some() || values.is_wrong(("", *way)));
    if !serves {
        missing(report, service, "exec", "for example `exec = [\"/usr/sbin/in.fingerd\", \"-w\"]`");
    }
    user(service, situation, report);
}

fn user(service: &ServiceDraft, situation: &Situation, report: &mut Report) {
    let values = &service.values;
    match values.who(("", "user")) {
        None if situation.root && !values.is_wrong(("", "user")) => {
            missing(
                report,
                service,
                "user",
                "as root it must be said whom the program runs as: `user = \"nobody\"`",
            );
        }
        Some((Who::Id(id), spot))
            if values.get(("", "group")).is_none() && !values.is_wrong(("", "group")) =>
        {
            let message = format!("service {} has a number as its user, and no group", service.name);
            let hint = format!("a number has no group of its own: `group = {id}`");
            report.add(Diagnostic::error("missing", spot, message).hint(hint));
        }
        _ => {}
    }
}

fn missing(report: &mut Report, service: &ServiceDraft, key: &str, hint: &str) {
    if !report.is_broken(service.spot.file) {
        let message = format!("service {} has no `{key}`", service.name);
        report.add(Diagnostic::error("missing", &service.spot, message).hint(hint));
    }
}

/// What is between services.
pub fn whole(draft: &Draft, situation: &Situation, report: &mut Report) {
    conflict::find(draft, &|_, _| None, report);
    open_to_one_source(draft, report);
    if !situation.root {
        not_taken(draft, situation, report);
    }
}

/// One client must not be able to take a service that hears other hosts for itself.
fn open_to_one_source(draft: &Draft, report: &mut Report) {
    let open = |service: &&ServiceDraft| {
        let values = &service.values;
        let said = values.said(("limits", "per_source")).is_some() || values.is_cleared(("", "limits"));
        let hears_others = values.listens().iter().any(|listen| listen.value.hears_others());
        let waits = values.flag(("", "wait")) == Some(true);
        !said && hears_others && !waits && values.flag(("", "enabled")) != Some(false)
    };
    let names: Vec<&ServiceDraft> = draft.services.iter().filter(open).collect();
    let Some(first) = names.first() else { return };
    let spot = first.values.spot(("", "listen")).unwrap_or(&first.spot);
    let message = match names.len() {
        1 => format!("service {} hears other hosts, and one source may take all its connections", first.name),
        n => format!(
            "{n} services hear other hosts, and one source may take all their connections: {}",
            some_names(&names)
        ),
    };
    report.add(
        Diagnostic::warning("no-per-source", spot, message)
            .hint("say `limits = { per_source = 20 }`, there or in [defaults]; \"none\" if it is meant so"),
    );
}

fn some_names(services: &[&ServiceDraft]) -> String {
    let mut names: Vec<&str> = services.iter().take(8).map(|service| service.name.as_str()).collect();
    if services.len() > names.len() {
        names.push("…");
    }
    names.join(", ")
}

/// Without root nothing of a user is taken on, and the admin hears of it once.
fn not_taken(draft: &Draft, situation: &Situation, report: &mut Report) {
    let mut keys = Vec::new();
    let mut first: Option<&Spot> = None;
    if let Some((_, spot)) = draft.daemon.who(("", "helper_user")) {
        keys.push("helper_user");
        first = Some(spot);
    }
    for service in &draft.services {
        for key in ["user", "group", "groups", "chroot"] {
            note(&mut keys, &mut first, key, service.values.spot(("", key)));
        }
        for listen in service.values.listens() {
            let Listen::Unix(unix) = &listen.value else { continue };
            note(&mut keys, &mut first, "owner", unix.owner.as_ref().map(|said| &said.spot));
            note(&mut keys, &mut first, "group", unix.group.as_ref().map(|said| &said.spot));
        }
        let nice = service.values.number::<i32>(("", "nice")).is_some_and(|nice| nice < 0);
        note(&mut keys, &mut first, "nice", service.values.spot(("", "nice")).filter(|_| nice));
        for (resource, name) in super::keys::resources() {
            let raised = service
                .values
                .rlimit(("rlimits", name))
                .filter(|(pair, _)| is_raised(situation, resource, pair.hard));
            note(&mut keys, &mut first, "rlimits", raised.map(|(_, spot)| spot));
        }
    }
    if let Some(spot) = first {
        let message = format!(
            "superd is not root: {} can't be taken, and everything runs as whoever runs superd",
            keys.join(", ")
        );
        report.add(Diagnostic::warning("not-taken", spot, message));
    }
}

fn note<'d>(
    keys: &mut Vec<&'static str>,
    first: &mut Option<&'d Spot>,
    key: &'static str,
    spot: Option<&'d Spot>,
) {
    let Some(spot) = spot else { return };
    if !keys.contains(&key) {
        keys.push(key);
    }
    let earlier = first.is_none_or(|first| (spot.file, spot.range.start) < (first.file, first.range.start));
    if earlier {
        *first = Some(spot);
    }
}

/// Would a hard limit have to be raised?
pub fn is_raised(situation: &Situation, resource: super::settings::Resource, hard: u64) -> bool {
    situation.hard_limits.get(&resource).is_some_and(|now| hard > *now)
}
