//! A value of the wrong type: what it should have been, and what to write in its place.

use toml::Spanned;
use toml::de::DeValue;

use super::keys::{Key, Kind, Measure};
use super::reader::Context;
use super::values;

/// More words than this are not listed in the middle of a sentence.
pub const MANY_WORDS: usize = 8;

/// Says that a value is of the wrong type, and what to write.
pub fn wrong_type(cx: &mut Context<'_>, title: &str, kind: Kind, value: &Spanned<DeValue<'_>>) {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = format!("`{title}` wants {}, and this is {found}", wanted(kind));
    cx.error("type", value.span(), message, type_hint(title, kind, value.get_ref()));
}

fn wanted(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false".into(),
        Kind::Number(least, most) => format!("a whole number from {least} to {most}"),
        Kind::Text | Kind::Path => "a text".into(),
        Kind::Time | Kind::WholeSeconds | Kind::TimeBetween(..) => "a duration".into(),
        Kind::Rate => "a rate".into(),
        Kind::Load => "a load average, a number".into(),
        Kind::Size(_) => "a size".into(),
        Kind::Octal => "an octal number in quotes".into(),
        Kind::Word(words) if words.len() > MANY_WORDS => "a word".into(),
        Kind::Word(words) | Kind::Words(words, _) => format!("one of {}", words.join(", ")),
        Kind::WordOrPath(words) => format!("one of {}, or a path", words.join(", ")),
        Kind::Command => "a list: the program and its arguments".into(),
        Kind::Variables
        | Kind::Include
        | Kind::Clients
        | Kind::Users
        | Kind::Offences
        | Kind::Exempt
        | Kind::Files
        | Kind::Windows => "a list of texts".into(),
        Kind::HoursName => "a name of [hours]".into(),
        Kind::Rows(_) => "tables".into(),
        Kind::FlagOr(_) => "true, false or a table".into(),
        Kind::Environment => "a table of texts".into(),
        Kind::User => "the name or the number of a user".into(),
        Kind::Group => "the name or the number of a group".into(),
        Kind::Groups => "a list of groups".into(),
        Kind::Listen => "a text, a table or a list of them".into(),
        Kind::Interface => "the name of an interface".into(),
        Kind::Banner => "a text or { file = … }".into(),
        Kind::Quotes => "a list of texts or { file = … }".into(),
        Kind::Rlimit(_, measure) => match measure {
            Measure::Count => "a number, \"unlimited\" or { soft = …, hard = … }".into(),
            Measure::Size => "a size, \"unlimited\" or { soft = …, hard = … }".into(),
            Measure::Seconds | Measure::Microseconds => {
                "a duration, \"unlimited\" or { soft = …, hard = … }".into()
            }
        },
        Kind::Table(_) | Kind::Inline(_) | Kind::Named(_) | Kind::Sets | Kind::Hours => "a table".into(),
        Kind::Any => "something else".into(),
    }
}

fn type_hint(title: &str, kind: Kind, found: &DeValue<'_>) -> Option<String> {
    let name = title.rsplit('.').next().unwrap_or(title);
    let time = |n: &str| format!("durations have a unit: \"{n}s\", \"{n}min\"");
    match (kind, found) {
        (Kind::Octal, DeValue::Integer(number)) => {
            let digits = number.as_str();
            let octal =
                (values::octal(digits).is_ok() && number.radix() <= 10).then(|| format!("{digits:0>3}"));
            Some(format!("write `{name} = \"{}\"`", octal.as_deref().unwrap_or("022")))
        }
        (
            Kind::Time
            | Kind::WholeSeconds
            | Kind::TimeBetween(..)
            | Kind::Rlimit(_, Measure::Seconds | Measure::Microseconds),
            DeValue::Integer(n),
        ) => Some(time(n.as_str())),
        (Kind::Rate, DeValue::Integer(n)) => {
            Some(format!("a rate has a time: \"{0}/s\", \"{0}/min\"", n.as_str()))
        }
        (Kind::Load, DeValue::String(text)) if text.parse::<f64>().is_ok() => {
            Some(format!("write `{name} = {text}`, without quotes"))
        }
        (Kind::Size(_) | Kind::Rlimit(_, Measure::Size), DeValue::Integer(n)) => {
            Some(format!("sizes have a unit: \"{0}B\", \"{0}KiB\"", n.as_str()))
        }
        (Kind::Number(..) | Kind::Rlimit(..), DeValue::String(text)) if text.parse::<i64>().is_ok() => {
            Some(format!("write `{name} = {text}`, without quotes"))
        }
        (Kind::Flag, DeValue::String(text)) => match text.as_ref() {
            "yes" | "on" | "true" | "1" => Some(format!("write `{name} = true`")),
            "no" | "off" | "false" | "0" => Some(format!("write `{name} = false`")),
            _ => None,
        },
        (Kind::Inline([Key { name: first, kind: Kind::Command, .. }, ..]), DeValue::Array(_)) => {
            Some(format!("write `{name} = {{ {first} = […] }}`"))
        }
        (Kind::Command, DeValue::String(text)) => {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
            Some(format!("no shell splits it: write `{name} = [{}]`", words.join(", ")))
        }
        (
            Kind::Variables
            | Kind::Groups
            | Kind::Include
            | Kind::Quotes
            | Kind::Clients
            | Kind::Users
            | Kind::Offences
            | Kind::Exempt
            | Kind::Files
            | Kind::Windows,
            DeValue::String(text),
        ) => Some(format!("write `{name} = [{text:?}]`")),
        (Kind::HoursName, DeValue::Array(_)) => {
            Some("windows stand in [hours] under a name, and `hours` is that name".to_owned())
        }
        (Kind::Rows(_), _) => Some(format!("each has a header of its own: `[[service.NAME.{name}]]`")),
        (Kind::Listen, DeValue::Integer(number)) => {
            Some(format!("write `{name} = \"tcp:{}\"`", number.as_str()))
        }
        _ => None,
    }
}
