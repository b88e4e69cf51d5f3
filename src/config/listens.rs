//! The value of `listen`: a text, a table that says more of a path, or a list of them.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::endpoint::UnixName;

use super::draft::{Said, Value, Values};
use super::keys::{self, Kind};
use super::kinds::{argument, checked, said};
use super::listen::Listen;
use super::reader::{self, Context};
use super::values::Complaint;

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads the value; `None` after saying what is wrong with it.
pub fn read(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let one = std::slice::from_ref(value);
    let items = value.get_ref().as_array().map_or(one, |items| items);
    if items.is_empty() {
        cx.complain(title, value.span(), Complaint::new("it must not be empty"));
        return None;
    }
    let all: Vec<_> = items.iter().map(|item| said(cx, item, |cx| listen(cx, title, item))).collect();
    // The good ones are kept beside a wrong one, so that their conflicts and unknown ports show in the same run.
    let good: Vec<_> = all.into_iter().flatten().collect();
    (!good.is_empty()).then_some(Value::Listens(good))
}

fn listen(cx: &mut Context<'_>, title: &str, item: Item<'_, '_>) -> Option<Listen> {
    if let DeValue::Table(table) = item.get_ref() {
        return detailed(cx, title, item, table);
    }
    let text = argument(cx, title, Kind::Listen, item)?;
    let parsed = Listen::parse(text, &cx.folder);
    checked(cx, title, item, parsed)
}

/// `{ at = "unix:/run/x.sock", owner, group, mode }`.
fn detailed(cx: &mut Context<'_>, title: &str, item: Item<'_, '_>, table: &DeTable<'_>) -> Option<Listen> {
    let values = reader::inline(cx, keys::LISTEN_AT, table, title);
    let Some(at) = values.text(("", "at")) else {
        if !values.is_wrong(("", "at")) {
            let complaint = Complaint::new("`at` is missing").hint("for example `at = \"unix:/run/x.sock\"`");
            cx.complain(title, item.span(), complaint);
        }
        return None;
    };
    let spot = values.spot(("", "at")).map_or(item.span(), |spot| spot.range.clone());
    let mut listen = Listen::parse(at, &cx.folder)
        .map_err(|complaint| cx.complain(title, spot.clone(), complaint))
        .ok()?;
    match &mut listen {
        Listen::Unix(unix) if matches!(unix.name, UnixName::Path(_)) => {
            let who = |key| {
                values.who(("", key)).map(|(who, spot)| Said { value: who.clone(), spot: spot.clone() })
            };
            (unix.owner, unix.group) = (who("owner"), who("group"));
            unix.mode = values.size(("", "mode")).unwrap_or(unix.mode);
            (!any_wrong(&values)).then_some(listen)
        }
        _ => {
            let complaint = Complaint::new(format!("`{at}` is no path, which alone has an owner and a mode"));
            cx.complain(title, spot, complaint.hint(format!("write `{title} = \"{at}\"`")));
            None
        }
    }
}

fn any_wrong(values: &Values) -> bool {
    keys::LISTEN_AT.iter().any(|key| values.is_wrong(("", key.name)))
}
