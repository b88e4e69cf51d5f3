//! `superctl explain --config FILE`: judged by a file, on this machine as it is now. No superd is asked.

use std::path::Path;
use std::time::SystemTime;

use crate::policy::judge::Policy;
use crate::protocol::explain::answer::{Judges, answer};
use crate::protocol::explain::asked::Asked;
use crate::protocol::{beside, tables};
use crate::roles::loader::interfaces;
use crate::roles::loader::load::{Outcome, load_from_disk, own_situation, situation};

use super::Report;
use super::explain::{self, ExplainArgs};

/// Explains. The error is for the admin.
pub(super) fn explain(arguments: &ExplainArgs, file: &Path) -> Result<Report, String> {
    let question = arguments.question()?;
    let Outcome { config, parts, report, .. } = load(file);
    let Some(config) = config else { return Err(report.rendered(false).join("\n\n")) };
    let block = tables::encode(parts).map_err(|_| "the tables can't be laid out".to_owned())?;
    let named = beside::Named { sets: config.sets(), hours: config.hours(), zone: &config.daemon().zone };
    let beside = beside::open(block, &named).map_err(|error| error.to_string())?;
    let service = config.services().iter().find(|service| service.name.as_str() == question.service);
    let service = service.ok_or_else(|| format!("there is no service `{}`", question.service))?;
    let interfaces =
        interfaces::own().map_err(|error| format!("this host's addresses can't be asked for: {error}"))?;
    let now = SystemTime::now();
    let asked = Asked::read(&question, &beside.zone, now)?;
    let judges = Judges {
        policy: &Policy::new(&service.access),
        hosts: beside::hosts_of(&beside.hosts, &service.access).map(|hosts| &hosts.tables),
        tables: &beside.tables,
        interfaces: &interfaces,
    };
    let explained = answer(&question, &asked, service, &judges, now);
    Ok(explain::report(&explained, arguments.json))
}

/// As superd would load it that runs as this user, or as root if that one could not.
fn load(file: &Path) -> Outcome {
    let own = own_situation();
    let file = own.cwd.join(file);
    let outcome = load_from_disk(&file, &own);
    if outcome.config.is_some() || own.root { outcome } else { load_from_disk(&file, &situation(true)) }
}
