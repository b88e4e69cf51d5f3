//! A TOML table and a table of keys to values: unknown keys, keys of later versions, and each value by its
//! kind. Knows no key by name.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Value, Values};
use super::files::Files;
use super::keys::{self, Key, Kind, Served};
use super::kinds;
use super::situation::Situation;
use super::values::Complaint;

/// What reading a file needs.
pub struct Context<'a> {
    /// Takes what is wrong.
    pub report: &'a mut Report,
    /// Banners are read from here.
    pub files: &'a dyn Files,
    /// Who reads.
    pub situation: &'a Situation,
    /// The file, by its number in the report.
    pub file: usize,
    /// The folder that relative paths begin at; absolute.
    pub folder: PathBuf,
    /// `"none"` takes a default away: in services and their defaults.
    pub inherits: bool,
}

impl Context<'_> {
    /// A place in the file.
    pub fn spot(&self, range: Range<usize>) -> Spot {
        Spot { file: self.file, range }
    }

    /// An error at a place.
    pub fn error(&mut self, code: &'static str, range: Range<usize>, message: String, hint: Option<String>) {
        let diagnostic = Diagnostic::error(code, &self.spot(range), message).maybe_hint(hint);
        self.report.add(diagnostic);
    }

    /// A value that is not as it must be.
    pub fn complain(&mut self, title: &str, range: Range<usize>, complaint: Complaint) {
        self.error(complaint.code, range, format!("`{title}`: {}", complaint.message), complaint.hint);
    }
}

/// Reads a section; `title` is what the admin calls it.
pub fn section(cx: &mut Context<'_>, keys: &'static [Key], table: &DeTable<'_>, title: &str) -> Values {
    let mut values = Values::default();
    entries(cx, &Within { keys, below: "", prefix: String::new(), title }, table, &mut values);
    values
}

/// Reads a table that is one value; `title` is its key.
pub fn inline(cx: &mut Context<'_>, keys: &'static [Key], table: &DeTable<'_>, title: &str) -> Values {
    let mut values = Values::default();
    let within = Within { keys, below: "", prefix: format!("{title}."), title: &format!("`{title}`") };
    entries(cx, &within, table, &mut values);
    values
}

/// The table that is being read.
struct Within<'w> {
    keys: &'static [Key],
    /// The key of the table, for the path of its values; `""` for a section.
    below: &'static str,
    /// What stands before a key in a message.
    prefix: String,
    /// What the table is called in a message.
    title: &'w str,
}

fn entries(cx: &mut Context<'_>, within: &Within<'_>, table: &DeTable<'_>, values: &mut Values) {
    for (name, value) in table {
        match keys::find(within.keys, name.get_ref()) {
            None => unknown_key(cx, within.keys, name.get_ref(), name.span(), within.title),
            Some(key) => entry(cx, key, name.span(), value, within, values),
        }
    }
}

fn entry(
    cx: &mut Context<'_>,
    key: &'static Key,
    name_at: Range<usize>,
    value: &Spanned<DeValue<'_>>,
    within: &Within<'_>,
    values: &mut Values,
) {
    let title = format!("{}{}", within.prefix, key.name);
    let taken = match key.service {
        Served::Now => serve(cx, key, value, &title, values),
        Served::Later => {
            let message = format!("this version of superd does not serve `{title}` yet");
            cx.error("not-served-yet", name_at, message, None);
            Some(Value::Wrong)
        }
    };
    if let Some(taken) = taken {
        let spot = cx.spot(value.span());
        values.insert((within.below, key.name), taken, spot);
    }
}

/// The value of a key that is served; `None` for a table, whose keys are taken one by one.
fn serve(
    cx: &mut Context<'_>,
    key: &'static Key,
    value: &Spanned<DeValue<'_>>,
    title: &str,
    values: &mut Values,
) -> Option<Value> {
    if cx.inherits && value.get_ref().as_str() == Some("none") {
        return Some(Value::Cleared);
    }
    match (key.kind, value.get_ref()) {
        (Kind::Table(inner), DeValue::Table(table)) => {
            let prefix = format!("{title}.");
            let within = Within { keys: inner, below: key.name, prefix, title: &format!("`{title}`") };
            entries(cx, &within, table, values);
            None
        }
        (Kind::Inline(inner) | Kind::FlagOr(inner), DeValue::Table(table)) => {
            Some(Value::Inline(inline(cx, inner, table, title)))
        }
        (kind, _) => Some(kinds::read(cx, title, kind, value).unwrap_or(Value::Wrong)),
    }
}

/// Complains of a key that does not exist.
pub fn unknown_key(cx: &mut Context<'_>, keys: &'static [Key], name: &str, at: Range<usize>, title: &str) {
    let hint = match name {
        "include" => Some("`include` must stand before the first table of its file".to_owned()),
        _ => match (keys::nearest(keys, name), keys::home_of(name)) {
            (_, Some(home)) if !home.starts_with(['[', 'a']) => {
                Some(format!("`{name}` is a key of `{home}`: `{home} = {{ {name} = … }}`"))
            }
            (Some(near), _) => Some(format!("did you mean `{near}`?")),
            (None, Some(home)) => Some(format!("`{name}` is a key of {home}")),
            (None, None) => None,
        },
    };
    cx.error("unknown-key", at, format!("{title} has no key `{name}`"), hint);
}
