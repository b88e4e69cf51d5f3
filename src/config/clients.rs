//! The values that say who may: lists of clients, of users, and rules. Knows the form of each, not what they
//! mean together.

use std::str::FromStr;

use toml::Spanned;
use toml::de::DeValue;

use crate::model::mistake::Mistake;

use super::draft::{Said, Value};
use super::keys::{Key, Kind};
use super::kinds::{argument, checked, said};
use super::mistype;
use super::reader::{self, Context};
use super::values::Complaint;

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads a list of clients.
pub fn clients(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Value> {
    list(cx, title, Kind::Clients, value, items).map(Value::Clients)
}

/// Reads a list of users.
pub fn users(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Value> {
    list(cx, title, Kind::Users, value, items).map(Value::Users)
}

/// Reads a list whose items are parsed one by one. The good ones are kept beside a wrong one, so that unknown
/// names among them show in the same run.
pub(super) fn list<T: FromStr<Err = Mistake>>(
    cx: &mut Context<'_>,
    title: &str,
    kind: Kind,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Vec<Said<T>>> {
    if items.is_empty() {
        cx.complain(title, value.span(), empty(cx.inherits, kind));
        return None;
    }
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            said(cx, item, |cx| {
                let text = argument(cx, title, kind, item)?;
                checked(cx, title, item, text.parse::<T>().map_err(Complaint::from))
            })
        })
        .collect();
    let good: Vec<_> = all.into_iter().flatten().collect();
    (!good.is_empty()).then_some(good)
}

fn empty(inherits: bool, kind: Kind) -> Complaint {
    let complaint = Complaint::new("it must not be empty");
    match kind {
        Kind::Clients | Kind::Users if inherits => {
            complaint.hint("\"none\" takes a default away; `enabled = false` serves nobody")
        }
        Kind::Clients => complaint.hint("write `any` for every client, or leave the key out"),
        _ => complaint,
    }
}

/// Reads tables in their order. What stands in them has no defaults that `"none"` could take away.
pub fn rows(
    cx: &mut Context<'_>,
    title: &str,
    keys: &'static [Key],
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Value> {
    if items.is_empty() {
        let complaint = Complaint::new("it must not be empty");
        cx.complain(title, value.span(), complaint.hint("\"none\" takes the rules of [defaults] away"));
        return None;
    }
    let inherits = std::mem::replace(&mut cx.inherits, false);
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            said(cx, item, |cx| {
                if let DeValue::Table(table) = item.get_ref() {
                    return Some(reader::inline(cx, keys, table, title));
                }
                mistype::wrong_type(cx, title, Kind::Rows(keys), item);
                None
            })
        })
        .collect();
    cx.inherits = inherits;
    let good: Vec<_> = all.into_iter().flatten().collect();
    (!good.is_empty()).then_some(Value::Rows(good))
}
