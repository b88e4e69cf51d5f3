//! What a draft must hold beyond the form of each value: keys that need or exclude each other.

use super::conflict;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft, Values, Who};
use super::listen::Listen;
use super::mux;
use super::obstacles;
use super::pools;
use super::situation::Situation;
use super::ways::Way;

/// A service with its defaults.
pub fn service(service: &ServiceDraft, situation: &Situation, report: &mut Report) {
    let values = &service.values;
    if values.get(("", "listen")).is_none() && !values.is_wrong(("", "listen")) {
        missing(report, service, "listen", "for example `listen = \"tcp:79\"`");
    }
    pools::check(values, report);
    let way = Way::of(values);
    if way == Some(Way::Builtin) {
        quotes(service, report);
    }
    if way.is_none_or(Way::has_program) {
        user(service, situation, report);
    }
}

fn quotes(service: &ServiceDraft, report: &mut Report) {
    let values = &service.values;
    if values.text(("", "builtin")) == Some("qotd") && !values.is_said(("", "quotes")) {
        missing(report, service, "quotes", "for example `quotes = [\"Festina lente.\"]`, or { file = … }");
    }
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
    mux::check(draft, report);
    open_to_one_source(draft, report);
    if !situation.root {
        not_taken(draft, situation, report);
    }
}

/// One client must not be able to take a service that hears other hosts for itself.
fn open_to_one_source(draft: &Draft, report: &mut Report) {
    let mux_hears_others = mux::hears_others(draft);
    let open = |service: &&ServiceDraft| {
        let values = &service.values;
        let said = values.said(("limits", "per_source")).is_some() || values.is_cleared(("", "limits"));
        let is_reached = mux_hears_others && mux::names(service).next().is_some();
        let hears_others = is_reached || values.listens().iter().any(|listen| listen.value.hears_others());
        !said && hears_others && keeps_connections(values) && values.flag(("", "enabled")) != Some(false)
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

/// Are there connections that a source could hold? A way that is not known may have them.
fn keeps_connections(values: &Values) -> bool {
    let endpoints: Vec<_> = values.listens().iter().flat_map(|said| said.value.endpoints(0)).collect();
    let at_once = values.text(("", "builtin")).is_some_and(obstacles::answers_at_once);
    match Way::of(values) {
        Some(Way::Builtin) => !at_once && !obstacles::only_datagrams(&endpoints),
        way => way.is_none_or(Way::accepts),
    }
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
