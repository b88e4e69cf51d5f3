//! By what a service is served: it says one way, or [defaults] does. Knows keys, nothing of how a way works.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Report};
use super::draft::{Path, ServiceDraft, Values};
use super::pools;
use super::settings::PoolProtocol;

/// The keys that say it; a service has one of them.
const KEYS: [&str; 4] = ["exec", "builtin", "pool", "relay"];

/// A way to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `exec`: a process for each connection.
    Exec,
    /// `exec` with `wait`: a process for each listener.
    Wait,
    /// `builtin`.
    Builtin,
    /// `pool`, to whose workers superd hands connections.
    Handoff,
    /// `pool`, whose workers accept by themselves.
    Listen,
    /// `relay`, which this version does not serve.
    Relay,
}

impl Way {
    /// The way of a service; `None` if none, several or a wrong one is said.
    pub fn of(values: &Values) -> Option<Self> {
        let mut said = keys_said(values);
        let key = said.next().filter(|_| said.next().is_none())?;
        match key {
            "exec" if values.is_wrong(("", "wait")) => None,
            "exec" if values.flag(("", "wait")) == Some(true) => Some(Self::Wait),
            "exec" => Some(Self::Exec),
            "builtin" => Some(Self::Builtin),
            "pool" => pools::protocol(values).map(|protocol| match protocol {
                PoolProtocol::Handoff => Self::Handoff,
                PoolProtocol::Listen => Self::Listen,
            }),
            _ => Some(Self::Relay),
        }
    }

    /// Is it a program of the service's own?
    pub fn has_program(self) -> bool {
        !matches!(self, Self::Builtin | Self::Relay)
    }

    /// Does superd accept the connections?
    pub fn accepts(self) -> bool {
        !matches!(self, Self::Wait | Self::Listen)
    }
}

fn keys_said(values: &Values) -> impl Iterator<Item = &'static str> {
    KEYS.into_iter().filter(|key| values.is_said(("", *key)))
}

/// Sees that the service has one way. What it says itself (`own`) takes the place of the way of the defaults.
pub fn choose(service: &mut ServiceDraft, own: &BTreeSet<Path>, report: &mut Report) {
    if keys_said(&service.values).any(|key| own.contains(&("", key))) {
        for key in KEYS.iter().filter(|key| !own.contains(&("", **key))) {
            service.values.remove(("", *key));
        }
    }
    let mut said: Vec<_> = keys_said(&service.values)
        .filter_map(|key| Some((key, &service.values.said(("", key))?.spot)))
        .collect();
    said.sort_by_key(|(_, spot)| spot.range.start);
    if let [(first, at), others @ ..] = said.as_slice() {
        for (other, spot) in others {
            let message =
                format!("service {} is served in two ways, by `{first}` and by `{other}`", service.name);
            let diagnostic = Diagnostic::error("two-ways", spot, message);
            report.add(diagnostic.label("here again").also(at, "here first").hint("keep one of them"));
        }
    }
    if said.is_empty() && !report.is_broken(service.spot.file) {
        let message = format!("service {} has no `exec`, `builtin` or `pool`", service.name);
        let hint = "for example `exec = [\"/usr/sbin/in.fingerd\", \"-w\"]`";
        report.add(Diagnostic::error("missing", &service.spot, message).hint(hint));
    }
}
