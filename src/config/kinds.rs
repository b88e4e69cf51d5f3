//! One value by its kind. Knows kinds, no key.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::endpoint::InterfaceName;
use crate::model::rate::LoadAverage;

use super::clients;
use super::draft::{Said, Value, Who};
use super::files;
use super::keys::{self, Key, Kind};
use super::listens;
use super::mistype::{MANY_WORDS, wrong_type};
use super::names;
use super::quotes;
use super::reader::{self, Context};
use super::rlimits;
use super::settings::RlimitPair;
use super::values::{self, Complaint};

/// The most that a client is sent as a banner: it must fit into a fresh socket's empty buffer.
const MAX_BANNER: usize = 4096;

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads a value; `None` after saying what is wrong with it.
pub fn read(cx: &mut Context<'_>, title: &str, kind: Kind, value: Item<'_, '_>) -> Option<Value> {
    match (kind, value.get_ref()) {
        (Kind::Flag | Kind::FlagOr(_), DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
        (Kind::Number(least, most), DeValue::Integer(_)) => {
            integer(cx, title, value, least, most).map(Value::Number)
        }
        (Kind::Text, DeValue::String(_)) => Some(Value::Text(text(cx, title, value)?.to_owned())),
        (Kind::Path, DeValue::String(_)) => {
            let path = text(cx, title, value)?;
            Some(Value::Path(cx.folder.join(path)))
        }
        (Kind::Time, DeValue::String(text)) => {
            checked(cx, title, value, values::duration(text).map(Value::Time))
        }
        (Kind::WholeSeconds, DeValue::String(text)) => {
            checked(cx, title, value, whole_seconds(text).map(Value::Time))
        }
        (Kind::TimeBetween(least, most), DeValue::String(text)) => {
            checked(cx, title, value, time_between(text, least, most).map(Value::Time))
        }
        (Kind::Rate, DeValue::String(text)) => checked(cx, title, value, values::rate(text).map(Value::Rate)),
        (Kind::Load, DeValue::Integer(_) | DeValue::Float(_)) => load(cx, title, value),
        (Kind::Offences, DeValue::Array(_)) => offences(cx, title, value),
        (Kind::Exempt, DeValue::Array(_)) => exempt(cx, title, value),
        (Kind::Size(most), DeValue::String(text)) => {
            checked(cx, title, value, size(text, most).map(Value::Size))
        }
        (Kind::Octal, DeValue::String(text)) => {
            checked(cx, title, value, values::octal(text).map(|mode| Value::Size(u64::from(mode))))
        }
        (Kind::Word(words), DeValue::String(text)) => {
            checked(cx, title, value, word(words, text).map(|()| Value::Text(text.to_string())))
        }
        (Kind::Words(now, later), DeValue::String(text)) => {
            checked(cx, title, value, served_word(now, later, text).map(|()| Value::Text(text.to_string())))
        }
        (Kind::Interface, DeValue::String(text)) => {
            checked(cx, title, value, interface(text).map(|()| Value::Text(text.to_string())))
        }
        (Kind::WordOrPath(words), DeValue::String(text)) => word_or_path(cx, title, value, words, text),
        (Kind::Command, DeValue::Array(_)) => command(cx, title, value),
        (Kind::Variables, DeValue::Array(_)) => variables(cx, title, value),
        (Kind::Environment, DeValue::Table(table)) => environment(cx, title, table),
        (Kind::User | Kind::Group, _) => who(cx, title, kind, value).map(Value::Who),
        (Kind::Groups, DeValue::Array(items)) => {
            let all: Vec<_> =
                items.iter().map(|item| said(cx, item, |cx| who(cx, title, Kind::Group, item))).collect();
            all.into_iter().collect::<Option<_>>().map(Value::Groups)
        }
        (Kind::Listen, DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_)) => {
            listens::read(cx, title, value)
        }
        (Kind::Banner, DeValue::String(text)) => banner(cx, title, value, text.as_bytes().to_vec()),
        (Kind::Banner, DeValue::Table(table)) => banner_file(cx, title, value, table),
        (Kind::Quotes, DeValue::Array(items)) => quotes::list(cx, title, value, items),
        (Kind::Quotes, DeValue::Table(table)) => quotes::file(cx, title, value, table),
        (Kind::Clients, DeValue::Array(items)) => clients::clients(cx, title, value, items),
        (Kind::Users, DeValue::Array(items)) => clients::users(cx, title, value, items),
        (Kind::HoursName, DeValue::String(text)) => {
            checked(cx, title, value, text.parse().map(Value::Label).map_err(Complaint::from))
        }
        (Kind::Files, DeValue::Array(items)) => names::files(cx, title, value, items).map(Value::Files),
        (Kind::Windows, DeValue::Array(items)) => names::windows(cx, title, value, items).map(Value::Windows),
        (Kind::Rows(inner), DeValue::Array(items)) => clients::rows(cx, title, inner, value, items),
        (Kind::Rlimit(_, measure), DeValue::Table(table)) => {
            rlimits::soft_and_hard(cx, title, measure, value, table)
        }
        (Kind::Rlimit(_, measure), _) => {
            let both = rlimits::rlimit(cx, title, kind, measure, value)?;
            Some(Value::Rlimit(RlimitPair { soft: both, hard: both }))
        }
        _ => {
            wrong_type(cx, title, kind, value);
            None
        }
    }
}

/// Takes a value, or says what is wrong with it.
pub(super) fn checked<T>(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    result: Result<T, Complaint>,
) -> Option<T> {
    result.map_err(|complaint| cx.complain(title, value.span(), complaint)).ok()
}

/// Reads a value, and keeps where it was said.
pub(super) fn said<T>(
    cx: &mut Context<'_>,
    item: Item<'_, '_>,
    read: impl FnOnce(&mut Context<'_>) -> Option<T>,
) -> Option<Said<T>> {
    let spot = cx.spot(item.span());
    read(cx).map(|value| Said { value, spot })
}

/// A text that the kernel can take: not empty, without NUL.
pub(super) fn text<'v>(cx: &mut Context<'_>, title: &str, value: Item<'v, '_>) -> Option<&'v str> {
    let text = argument(cx, title, Kind::Text, value)?;
    if text.is_empty() {
        cx.complain(title, value.span(), Complaint::new("it must not be empty"));
        return None;
    }
    Some(text)
}

/// A text without NUL, which would end it early.
pub(super) fn argument<'v>(
    cx: &mut Context<'_>,
    title: &str,
    kind: Kind,
    value: Item<'v, '_>,
) -> Option<&'v str> {
    let Some(text) = value.get_ref().as_str() else {
        wrong_type(cx, title, kind, value);
        return None;
    };
    if text.contains('\0') {
        cx.complain(title, value.span(), Complaint::new("a NUL can't stand in it"));
        return None;
    }
    Some(text)
}

pub(super) fn integer(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    least: i64,
    most: i64,
) -> Option<i64> {
    let number = value.get_ref().as_integer()?;
    let parsed = i64::from_str_radix(number.as_str(), number.radix()).ok();
    if let Some(fits) = parsed.filter(|n| (least..=most).contains(n)) {
        return Some(fits);
    }
    let message = format!("`{number}` is not from {least} to {most}");
    let none = (cx.inherits && parsed == Some(0) && title.starts_with("limits."))
        .then(|| "\"none\" lifts a limit; `enabled = false` serves nobody".to_owned());
    cx.error("value", value.span(), format!("`{title}`: {message}"), none);
    None
}

pub(super) fn whole_seconds(text: &str) -> Result<std::time::Duration, Complaint> {
    let time = values::duration(text)?;
    if time.subsec_nanos() != 0 || time.as_secs() > 0x7fff_ffff {
        return Err(Complaint::new(format!("`{text}` is not made of whole seconds"))
            .hint("the kernel counts seconds here"));
    }
    Ok(time)
}

fn time_between(text: &str, least: u64, most: u64) -> Result<std::time::Duration, Complaint> {
    let time = values::duration(text)?;
    if !(least..=most).contains(&time.as_secs()) || time > std::time::Duration::from_secs(most) {
        return Err(Complaint::new(format!("`{text}` is not from {least} to {most} seconds")));
    }
    Ok(time)
}

fn load(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let text = match value.get_ref() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => "",
    };
    let load = LoadAverage::new(text).filter(|load| Some(*load) != LoadAverage::new("0"));
    let complaint = || {
        Complaint::new("it is not a load average that a machine could be below")
            .hint("write a number above 0 with at most two digits after the point: `load = 7.5`")
    };
    checked(cx, title, value, load.ok_or_else(complaint)).map(Value::Load)
}

fn offences(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let items = value.get_ref().as_array()?;
    if items.is_empty() {
        let complaint = Complaint::new("where nothing is an offence nobody is banned");
        cx.complain(title, value.span(), complaint.hint("write `ban = \"none\"`"));
        return None;
    }
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            let text = argument(cx, title, Kind::Text, item)?;
            checked(cx, title, item, values::offence(text))
        })
        .collect();
    all.into_iter().collect::<Option<_>>().map(Value::Offences)
}

fn exempt(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let items = value.get_ref().as_array()?;
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            let text = argument(cx, title, Kind::Text, item)?;
            checked(cx, title, item, values::exempt(text))
        })
        .collect();
    all.into_iter().collect::<Option<_>>().map(Value::Exempt)
}

fn size(text: &str, most: u64) -> Result<u64, Complaint> {
    let size = values::size(text)?;
    if size > most {
        return Err(Complaint::new(format!("`{text}` is more than {most} bytes")));
    }
    Ok(size)
}

fn word(words: &'static [&'static str], text: &str) -> Result<(), Complaint> {
    if words.contains(&text) {
        return Ok(());
    }
    let all = words.join(", ");
    let complaint = match words.len() {
        0..=MANY_WORDS => Complaint::new(format!("`{text}` is not one of {all}")),
        _ => Complaint::new(format!("there is no `{text}`")).hint(format!("it is one of {all}")),
    };
    Err(match keys::nearest_word(words.iter().copied(), text) {
        Some(near) => complaint.hint(format!("did you mean `{near}`?")),
        None => complaint,
    })
}

fn served_word(
    now: &'static [&'static str],
    later: &'static [&'static str],
    text: &str,
) -> Result<(), Complaint> {
    if later.contains(&text) {
        return Err(Complaint::not_served(format!("this version of superd does not serve `{text}` yet")));
    }
    word(now, text)
}

fn interface(name: &str) -> Result<(), Complaint> {
    match InterfaceName::new(name) {
        Some(_) => Ok(()),
        None => Err(Complaint::new(format!("`{name}` can't be the name of an interface"))),
    }
}

fn word_or_path(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    words: &'static [&'static str],
    text: &str,
) -> Option<Value> {
    if text.contains('/') && !text.contains('\0') {
        return Some(Value::Path(cx.folder.join(text)));
    }
    checked(cx, title, value, word(words, text).map(|()| Value::Text(text.to_owned())))
}

fn command(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let items = value.get_ref().as_array()?;
    let all: Vec<_> = items
        .iter()
        .map(|item| said(cx, item, |cx| argument(cx, title, Kind::Text, item).map(str::to_owned)))
        .collect();
    let all: Vec<Said<String>> = all.into_iter().collect::<Option<_>>()?;
    let Some(program) = all.first() else {
        cx.complain(
            title,
            value.span(),
            Complaint::new("the program is missing").hint("write its absolute path"),
        );
        return None;
    };
    if !program.value.starts_with('/') {
        let message = format!("`{title}`: `{}` is not an absolute path", program.value);
        let hint = "nobody looks the program up in PATH: write its absolute path".to_owned();
        cx.error("relative-program", program.spot.range.clone(), message, Some(hint));
        return None;
    }
    Some(Value::Texts(all))
}

fn variables(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>) -> Option<Value> {
    let items = value.get_ref().as_array()?;
    let all: Vec<_> = items
        .iter()
        .map(|item| {
            said(cx, item, |cx| {
                let name = argument(cx, title, Kind::Text, item)?;
                checked(cx, title, item, values::variable_name(name))?;
                Some(name.to_owned())
            })
        })
        .collect();
    all.into_iter().collect::<Option<_>>().map(Value::Texts)
}

fn environment(cx: &mut Context<'_>, title: &str, table: &DeTable<'_>) -> Option<Value> {
    let mut taken = Some(BTreeMap::new());
    for (name, value) in table {
        let key = name.get_ref();
        let good_name = values::variable_name(key).map_err(|c| cx.complain(title, name.span(), c)).is_ok();
        let text = said(cx, value, |cx| {
            argument(cx, &format!("{title}.{key}"), Kind::Text, value).map(str::to_owned)
        });
        match (text, &mut taken) {
            (Some(text), Some(all)) if good_name => {
                all.insert(key.to_string(), text);
            }
            _ => taken = None,
        }
    }
    taken.map(Value::Variables)
}

fn who(cx: &mut Context<'_>, title: &str, kind: Kind, value: Item<'_, '_>) -> Option<Who> {
    match value.get_ref() {
        // The highest number means "leave it as it is" to the kernel.
        DeValue::Integer(_) => {
            let id = integer(cx, title, value, 0, i64::from(u32::MAX) - 1)?;
            u32::try_from(id).ok().map(Who::Id)
        }
        DeValue::String(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) => {
            let complaint = Complaint::new("a number stands without quotes");
            let key = title.rsplit('.').next().unwrap_or(title);
            cx.complain(title, value.span(), complaint.hint(format!("write `{key} = {name}`")));
            None
        }
        DeValue::String(_) => text(cx, title, value).map(|name| Who::Name(name.to_owned())),
        _ => {
            wrong_type(cx, title, kind, value);
            None
        }
    }
}

fn banner(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>, bytes: Vec<u8>) -> Option<Value> {
    if bytes.len() > MAX_BANNER {
        let complaint =
            Complaint::new(format!("it has {} bytes, and {MAX_BANNER} are the most", bytes.len()));
        cx.complain(title, value.span(), complaint);
        return None;
    }
    Some(Value::Bytes(bytes))
}

fn banner_file(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>, table: &DeTable<'_>) -> Option<Value> {
    let bytes = file(cx, keys::BANNER_FILE, title, value, table)?;
    banner(cx, title, value, bytes)
}

/// The bytes of the file that `{ file = … }` names.
pub(super) fn file(
    cx: &mut Context<'_>,
    keys: &'static [Key],
    title: &str,
    value: Item<'_, '_>,
    table: &DeTable<'_>,
) -> Option<Vec<u8>> {
    let values = reader::inline(cx, keys, table, title);
    let Some(path) = values.path(("", "file")) else {
        if !values.is_wrong(("", "file")) {
            cx.complain(title, value.span(), Complaint::new("`file` is missing"));
        }
        return None;
    };
    let bytes = match cx.files.read(path) {
        Err(problem) => Err(("unreadable", problem.to_string())),
        Ok(file) => match files::distrust(&file, cx.situation) {
            Some(why) => Err(("untrusted", why)),
            None => Ok(file.bytes),
        },
    };
    bytes
        .map_err(|(code, why)| {
            let message = format!("`{title}`: can't use {}: {why}", path.display());
            cx.error(code, value.span(), message, None);
        })
        .ok()
}
