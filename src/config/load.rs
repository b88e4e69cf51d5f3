//! The first step: files to a [`Draft`], without asking the user database, the network or the file system
//! for anything but the files themselves.

use std::path::Path;

use super::admit;
use super::check;
use super::collect;
use super::diagnostic::Report;
use super::draft::{Draft, ServiceDraft};
use super::files::Files;
use super::fit;
use super::names;
use super::policy_scope;
use super::situation::{Scope, Situation};
use super::ways;

/// Reads a configuration. The draft is there also if there are errors, so that [`super::resolve`] can add
/// its own to the same report; `None` if the file can't be read at all.
pub fn load(path: &Path, files: &dyn Files, situation: &Situation) -> (Option<Draft>, Report) {
    let mut report = Report::default();
    let Some(sections) = collect::collect(path, files, situation, &mut report) else {
        return (None, report);
    };
    match situation.scope {
        Scope::Daemon => policy_scope::refuse_wrap(sections.wrap.as_ref(), &mut report),
        Scope::Policy => policy_scope::check(&sections, &mut report),
    }
    let defaults = sections.defaults.map(|section| section.values).unwrap_or_default();
    let mut draft = Draft {
        daemon: sections.daemon.map(|section| section.values).unwrap_or_default(),
        log: sections.log.map(|section| section.values).unwrap_or_default(),
        wrap: sections.wrap.map(|section| section.values).unwrap_or_default(),
        sets: sections.sets,
        hours: sections.hours,
        services: Vec::with_capacity(sections.services.len()),
    };
    for (name, section) in sections.services {
        let mut service = ServiceDraft { name, spot: section.spot, values: section.values };
        let own = service.values.paths().collect();
        service.values.merge(&defaults);
        if situation.scope == Scope::Daemon {
            ways::choose(&mut service, &own, &mut report);
        }
        admit::check(&mut service, &own, &mut report);
        if situation.scope == Scope::Daemon {
            check::service(&service, situation, &mut report);
            fit::service(&mut service, &own, &mut report);
        }
        draft.services.push(service);
    }
    names::check(&draft, &mut report);
    if situation.scope == Scope::Daemon {
        check::whole(&draft, situation, &mut report);
    }
    (Some(draft), report)
}
