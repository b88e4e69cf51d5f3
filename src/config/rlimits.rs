//! The values of `rlimits`: a limit, or a soft and a hard one.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::Value;
use super::keys::{self, Kind, Measure};
use super::kinds::{checked, integer, whole_seconds};
use super::mistype::wrong_type;
use super::reader::{self, Context};
use super::settings::{self, RlimitPair};
use super::values::{self, Complaint};

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads `{ soft, hard }`.
pub fn soft_and_hard(
    cx: &mut Context<'_>,
    title: &str,
    measure: Measure,
    value: Item<'_, '_>,
    table: &DeTable<'_>,
) -> Option<Value> {
    let (mut soft, mut hard) = (None, None);
    for (name, item) in table {
        let target = match name.get_ref().as_ref() {
            "soft" => &mut soft,
            "hard" => &mut hard,
            other => {
                reader::unknown_key(cx, keys::SOFT_HARD, other, name.span(), &format!("`{title}`"));
                continue;
            }
        };
        let kind = Kind::Rlimit(settings::Resource::As, measure);
        *target = Some(rlimit(cx, title, kind, measure, item)?);
    }
    let (Some(soft), Some(hard)) = (soft, hard) else {
        cx.complain(title, value.span(), Complaint::new("both `soft` and `hard` must be said"));
        return None;
    };
    if soft > hard {
        cx.complain(title, value.span(), Complaint::new("`soft` is beyond `hard`"));
        return None;
    }
    Some(Value::Rlimit(RlimitPair { soft, hard }))
}

/// Reads one limit.
pub fn rlimit(
    cx: &mut Context<'_>,
    title: &str,
    kind: Kind,
    measure: Measure,
    value: Item<'_, '_>,
) -> Option<u64> {
    match (measure, value.get_ref()) {
        (_, DeValue::String(text)) if text == "unlimited" => Some(u64::MAX),
        (Measure::Count, DeValue::Integer(_)) => {
            integer(cx, title, value, 0, i64::MAX).and_then(|n| u64::try_from(n).ok())
        }
        (Measure::Size, DeValue::String(text)) => checked(cx, title, value, values::size(text)),
        (Measure::Seconds, DeValue::String(text)) => {
            checked(cx, title, value, whole_seconds(text)).map(|time| time.as_secs())
        }
        (Measure::Microseconds, DeValue::String(text)) => {
            let time = checked(cx, title, value, values::duration(text))?;
            u64::try_from(time.as_micros()).ok()
        }
        _ => {
            wrong_type(cx, title, kind, value);
            None
        }
    }
}
