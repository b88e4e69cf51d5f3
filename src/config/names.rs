//! `[sets]` and `[hours]`: the names that rules use, and whether what they use is there. Each stands once over
//! all files. Looks nothing up: lists are read elsewhere, zones too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::label::Label;
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::model::window::Window;

use super::clients;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, HoursDraft, Path, Said, SetDraft, Values};
use super::keys::{self, Kind};
use super::kinds::{said, text};
use super::reader::{self, Context};
use super::values::Complaint;

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads a `[sets]`.
pub fn sets(cx: &mut Context<'_>, table: &DeTable<'_>, all: &mut BTreeMap<Label, SetDraft>) {
    for (name, value) in table {
        let spot = cx.spot(name.span());
        let title = format!("sets.{}", name.get_ref());
        let set = set(cx, &title, &spot, value);
        keep(cx, name.get_ref(), &spot, set, |set| &set.spot, "the set", all);
    }
}

fn set(cx: &mut Context<'_>, title: &str, spot: &Spot, value: Item<'_, '_>) -> SetDraft {
    let mut set = SetDraft { spot: spot.clone(), networks: Vec::new(), files: Vec::new(), watch: false };
    match value.get_ref() {
        DeValue::Array(items) => {
            let networks = clients::list::<Network>(cx, title, Kind::Files, value, items);
            set.networks = networks.unwrap_or_default().into_iter().map(|said| said.value).collect();
        }
        DeValue::Table(table) => {
            let values = reader::inline(cx, keys::SET_FILES, table, title);
            required(cx, title, value, &values, "files", "files = [\"blocklist.txt\"]");
            set.files = values.files(("", "files")).to_vec();
            set.watch = values.flag(("", "watch")).unwrap_or(false);
        }
        _ => {
            let complaint = Complaint { code: "type", ..Complaint::new("a set is a list or a table") };
            cx.complain(
                title,
                value.span(),
                complaint.hint("[\"192.0.2.0/24\"] or { files = [\"list.txt\"] }"),
            );
        }
    }
    set
}

/// Reads an `[hours]`.
pub fn hours(cx: &mut Context<'_>, table: &DeTable<'_>, all: &mut BTreeMap<Label, HoursDraft>) {
    for (name, value) in table {
        let spot = cx.spot(name.span());
        let title = format!("hours.{}", name.get_ref());
        let hours = times(cx, &title, &spot, value);
        keep(cx, name.get_ref(), &spot, hours, |hours| &hours.spot, "the name of hours", all);
    }
}

fn times(cx: &mut Context<'_>, title: &str, spot: &Spot, value: Item<'_, '_>) -> HoursDraft {
    let mut hours = HoursDraft { spot: spot.clone(), windows: Vec::new(), zone: None };
    match value.get_ref() {
        DeValue::Array(items) => {
            let windows = clients::list::<Window>(cx, title, Kind::Windows, value, items);
            hours.windows = windows.unwrap_or_default().into_iter().map(|said| said.value).collect();
        }
        DeValue::Table(table) => {
            let values = reader::inline(cx, keys::HOURS_TIMES, table, title);
            required(cx, title, value, &values, "times", "times = [\"22:00-06:00\"]");
            hours.windows = values.windows(("", "times")).to_vec();
            let zone = values.text(("", "zone")).zip(values.spot(("", "zone")));
            hours.zone = zone.map(|(zone, spot)| Said { value: zone.to_owned(), spot: spot.clone() });
        }
        _ => {
            let complaint = Complaint { code: "type", ..Complaint::new("hours are a list or a table") };
            cx.complain(title, value.span(), complaint.hint("for example [\"Mon-Fri 08:00-18:00\"]"));
        }
    }
    hours
}

fn required(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    values: &Values,
    key: &'static str,
    example: &str,
) {
    if !values.is_said(("", key)) {
        let complaint = Complaint { code: "missing", ..Complaint::new(format!("`{key}` is missing")) };
        cx.complain(title, value.span(), complaint.hint(format!("for example `{example}`")));
    }
}

fn keep<T>(
    cx: &mut Context<'_>,
    name: &str,
    spot: &Spot,
    value: T,
    spot_of: impl Fn(&T) -> &Spot,
    what: &str,
    all: &mut BTreeMap<Label, T>,
) {
    let name: Label = match name.parse() {
        Ok(name) => name,
        Err(mistake) => {
            let diagnostic = Diagnostic::error("name", spot, mistake.message).maybe_hint(mistake.hint);
            return cx.report.add(diagnostic);
        }
    };
    if let Some(first) = all.get(&name) {
        let twice = Diagnostic::error("twice", spot, format!("{what} `{name}` stands twice"));
        let twice = twice.label("here again").also(spot_of(first), "here first");
        return cx.report.add(twice.hint("a name is said once, in one of the files"));
    }
    all.insert(name, value);
}

/// Reads files; relative ones begin at the folder of the file that says them.
pub(super) fn files(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Vec<Said<PathBuf>>> {
    if items.is_empty() {
        cx.complain(title, value.span(), Complaint::new("it must not be empty"));
        return None;
    }
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            said(cx, item, |cx| {
                let path = text(cx, title, item)?;
                Some(cx.folder.join(path))
            })
        })
        .collect();
    all.into_iter().collect()
}

/// Reads windows of time.
pub(super) fn windows(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Vec<Window>> {
    let windows = clients::list::<Window>(cx, title, Kind::Windows, value, items)?;
    Some(windows.into_iter().map(|said| said.value).collect())
}

/// Every set and every hours that is named must be there.
pub fn check(draft: &Draft, report: &mut Report) {
    exempt(draft, &draft.daemon, ("", "never_ban"), report);
    for service in &draft.services {
        let values = &service.values;
        exempt(draft, values, ("ban", "never"), report);
        let rules = values.rows(("", "rule"));
        let lists = ["allow", "deny"].into_iter().filter_map(|key| values.clients(("", key)));
        let lists = lists.chain(rules.iter().filter_map(|rule| rule.value.clients(("", "from"))));
        for said in lists.flatten() {
            if let ClientPattern::Set(name) = &said.value {
                known("is no set", "[sets]", name, &said.spot, &draft.sets, report);
            }
        }
        let hours = values.label(("", "hours")).into_iter();
        for said in hours.chain(rules.iter().filter_map(|rule| rule.value.label(("", "hours")))) {
            known("are no hours", "[hours]", said.value, &said.spot, &draft.hours, report);
        }
    }
}

fn exempt(draft: &Draft, values: &Values, path: Path, report: &mut Report) {
    let Some(spot) = values.spot(path) else { return };
    for pattern in values.exempt(path) {
        if let ClientPattern::Set(name) = pattern {
            known("is no set", "[sets]", name, spot, &draft.sets, report);
        }
    }
}

fn known<T>(
    what: &str,
    table: &str,
    name: &Label,
    spot: &Spot,
    all: &BTreeMap<Label, T>,
    report: &mut Report,
) {
    if all.contains_key(name) || report.is_broken(spot.file) {
        return;
    }
    let near = keys::nearest_word(all.keys().map(Label::as_str), name.as_str());
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("{table} says what its names stand for"),
    };
    let message = format!("there {what} `{name}`");
    report.add(Diagnostic::error("unknown-name", spot, message).hint(hint));
}
