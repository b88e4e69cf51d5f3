//! The key table as the reference part of superd.toml(5), in man(7) macros.

use std::fmt::Write as _;

use super::keys::{self, Key, Kind, Measure, Served, SetOn};

/// Where the generated part of the page begins.
pub const BEGIN: &str = ".\\\" The part from here to the mark below is made from superd's key table.\n";

/// Where it ends.
pub const END: &str = ".\\\" The part from the mark above to here is made from superd's key table.\n";

/// The reference of all keys.
pub fn reference() -> String {
    let mut page = String::new();
    // Writing to a String can't fail.
    let _ = section(&mut page, "THE TOP OF A FILE", keys::TOP);
    let _ = section(&mut page, "[daemon]", keys::DAEMON);
    let _ = section(&mut page, "[log]", keys::LOG);
    let _ = section(&mut page, "[wrap]", keys::WRAP);
    let _ = section(&mut page, "[service.NAME] AND [defaults]", keys::SERVICE);
    for key in keys::SERVICE.iter().filter(|key| key.service == Served::Now) {
        if let Kind::Table(inner) = key.kind {
            let _ = section(&mut page, &format!("{} OF A SERVICE", key.name), inner);
        }
    }
    page
}

fn section(page: &mut String, title: &str, keys: &'static [Key]) -> std::fmt::Result {
    writeln!(page, ".SH \"{}\"", roff(title))?;
    for key in keys.iter().filter(|key| key.service == Served::Now) {
        entry(page, key, "")?;
    }
    let later: Vec<String> =
        keys.iter().filter(|key| key.service == Served::Later).map(|key| roff(key.name)).collect();
    if !later.is_empty() {
        writeln!(
            page,
            ".PP\nKeys that this version does not serve yet, and refuses:\n{}.",
            later.join(", ")
        )?;
    }
    Ok(())
}

fn entry(page: &mut String, key: &'static Key, below: &str) -> std::fmt::Result {
    writeln!(page, ".TP\n.BR {}{} \" = {}\"", roff(below), roff(key.name), roff(&takes(key.kind)))?;
    writeln!(page, "{}", roff(key.doc))?;
    if !key.default.is_empty() {
        writeln!(page, "Default: {}.", roff(key.default))?;
    }
    if let Some((set_on, fits)) = key.option {
        let on = match set_on {
            SetOn::Listener => "Set on the listener",
            SetOn::Connection => "Set on the connection",
            SetOn::Both => "Set on the listener; connections inherit it",
        };
        writeln!(page, "{on}; {}.", fits.words())?;
    }
    if matches!(key.kind, Kind::Listen) {
        for key in keys::LISTEN_AT {
            entry(page, key, &format!("{below}… "))?;
        }
    }
    let inner = match key.kind {
        Kind::Inline(inner) | Kind::Rows(inner) | Kind::FlagOr(inner) => inner,
        Kind::Sets => keys::SET_FILES,
        Kind::Hours => keys::HOURS_TIMES,
        _ => &[],
    };
    for key in inner {
        entry(page, key, &format!("{below}… "))?;
    }
    Ok(())
}

fn takes(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true | false".into(),
        Kind::Number(least, most) => format!("{least} to {most}"),
        Kind::Text => "\"TEXT\"".into(),
        Kind::Path => "\"PATH\"".into(),
        Kind::Time
        | Kind::WholeSeconds
        | Kind::TimeBetween(..)
        | Kind::Rlimit(_, Measure::Seconds | Measure::Microseconds) => "\"DURATION\"".into(),
        Kind::Rate => "\"N/s | N/min | N/h [burst M]\"".into(),
        Kind::Load => "LOAD".into(),
        Kind::Offences => "[\"refused\" | \"rate\" | \"exit:N\" | \"signal\", …]".into(),
        Kind::Size(_) | Kind::Rlimit(_, Measure::Size) => "\"SIZE\"".into(),
        Kind::Octal => "\"OCTAL\"".into(),
        Kind::Word(words) | Kind::Words(words, _) => quoted(words),
        Kind::WordOrPath(words) => format!("{} | \"PATH\"", quoted(words)),
        Kind::Command => "[\"PROGRAM\", \"ARGUMENT\", …]".into(),
        Kind::Variables => "[\"NAME\", …]".into(),
        Kind::Environment => "{ NAME = \"VALUE\", … }".into(),
        Kind::User => "\"USER\" | NUMBER".into(),
        Kind::Group => "\"GROUP\" | NUMBER".into(),
        Kind::Groups => "[GROUP, …]".into(),
        Kind::Listen => "\"ENDPOINT\" | { at = \"ENDPOINT\", … } | [ENDPOINT, …]".into(),
        Kind::Interface => "\"INTERFACE\"".into(),
        Kind::Banner => "\"TEXT\" | { file = \"PATH\" }".into(),
        Kind::Quotes => "[\"TEXT\", …] | { file = \"PATH\" }".into(),
        Kind::Rlimit(_, Measure::Count) => "NUMBER".into(),
        Kind::Table(_) | Kind::Inline(_) | Kind::Named(_) => "{ … }".into(),
        Kind::Include => "[\"PATTERN\", …]".into(),
        Kind::Clients | Kind::Exempt => "[\"CLIENT\", …]".into(),
        Kind::Users => "[\"USER\", …]".into(),
        Kind::HoursName => "\"NAME\"".into(),
        Kind::Rows(_) => "[{ … }, …]".into(),
        Kind::FlagOr(_) => "true | false | { … }".into(),
        Kind::Sets => "{ NAME = [\"NETWORK\", …] | { … }, … }".into(),
        Kind::Hours => "{ NAME = [\"WINDOW\", …] | { … }, … }".into(),
        Kind::Files => "[\"PATH\", …]".into(),
        Kind::Windows => "[\"WINDOW\", …]".into(),
        Kind::Any => "…".into(),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" | ")
}

/// Escapes what man(7) would take as its own.
fn roff(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '…' => out.push_str("..."),
            '~' => out.push_str("\\(ti"),
            '\'' => out.push_str("\\(aq"),
            c => out.push(c),
        }
    }
    out
}
