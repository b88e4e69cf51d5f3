//! `superctl reload`: what the new configuration changed.

use crate::protocol::control::ReloadReport;

use super::Report;
use super::terminal::{escape, escape_json};

pub(super) fn report(outcome: &ReloadReport, json: bool) -> Report {
    if json {
        let text = serde_json::to_string(outcome).unwrap_or_default();
        return Report { text: escape_json(&text) + "\n", ..Report::default() };
    }
    Report { text: text(outcome), warnings: outcome.warnings.clone(), code: 0 }
}

fn text(outcome: &ReloadReport) -> String {
    let ReloadReport { generation, kept, changed, opened, closed, .. } = outcome;
    let head = format!(
        "generation {generation}: {} kept, {} changed, {} opened, {} closed\n",
        kept.len(),
        changed.len(),
        opened.len(),
        closed.len()
    );
    let named = [("changed", changed), ("opened", opened), ("closed", closed)]
        .into_iter()
        .filter(|(_, services)| !services.is_empty())
        .map(|(word, services)| format!("{word}: {}\n", escape(&services.join(", "))));
    [head].into_iter().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_changed_is_named_and_what_was_kept_is_counted() {
        let outcome = ReloadReport {
            generation: 3,
            kept: names(&["a", "b"]),
            changed: names(&["c"]),
            opened: names(&[]),
            closed: names(&["d", "e\u{1b}"]),
            warnings: names(&["control needs a restart"]),
        };
        let shown = report(&outcome, false);
        assert_eq!(
            shown.text,
            "generation 3: 2 kept, 1 changed, 0 opened, 2 closed\nchanged: c\nclosed: d, e\\x1b\n"
        );
        assert_eq!(shown.warnings, ["control needs a restart"]);
        let json = report(&outcome, true);
        assert_eq!(serde_json::from_str::<ReloadReport>(&json.text).unwrap(), outcome);
        assert!(json.warnings.is_empty(), "they are in the object");
    }
}
