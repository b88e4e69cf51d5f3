//! What [`super::lint`] finds, in the report of a load. Nobody is asked for it: whoever a rule names is there, for
//! all that it matters here.

use std::path::Path;

use crate::config::admit;
use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::draft::Draft;
use crate::config::exposure;
use crate::config::resolve::{Lookup, PathFacts, System, UserEntry};
use crate::model::endpoint::Transport;

use super::lint::{self, Warning};

/// What is no mistake by itself: most rules by name are meant so.
const NO_MISTAKE: &str = "asks-name";

/// Warns of rules that are hardly meant.
pub fn warn(draft: &Draft, report: &mut Report) {
    exposure::clear_text(draft, report);
    for service in &draft.services {
        // Where something is wrong it was said.
        let Some(access) = admit::resolve(&service.values, &Unasked, report) else { continue };
        for Warning { place, code, message, hint } in lint::lint(&access) {
            let Some(spot) = report.spot(&place).filter(|_| code != NO_MISTAKE) else { continue };
            report.add(Diagnostic::warning(code, &spot, message).maybe_hint(hint));
        }
    }
}

/// Says yes to every name: rules compare the words.
struct Unasked;

impl System for Unasked {
    fn user(&self, name: &str) -> Lookup<UserEntry> {
        let (home, shell) = ("/".to_owned(), "/bin/sh".to_owned());
        Ok(Some(UserEntry { name: name.to_owned(), uid: 0, gid: 0, home, shell }))
    }

    fn uid(&self, uid: u32) -> Lookup<UserEntry> {
        self.user(&uid.to_string())
    }

    fn group(&self, _: &str) -> Lookup<u32> {
        Ok(Some(0))
    }

    fn groups_of(&self, _: &str, _: u32) -> Result<Vec<u32>, String> {
        Ok(Vec::new())
    }

    fn members_of(&self, _: u32) -> Result<Vec<u32>, String> {
        Ok(Vec::new())
    }

    fn port(&self, _: Transport, _: &str) -> Lookup<u16> {
        Ok(None)
    }

    fn has_zone(&self, _: &str) -> bool {
        true
    }

    fn path(&self, _: &Path, _: &Path) -> Lookup<PathFacts> {
        Ok(None)
    }
}
