//! TOML text to tables, with every syntax error; and no more than TOML 1.0: what the parser takes beyond it
//! (newlines and trailing commas in inline tables, new escapes) other tools would refuse.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report, Spot};

/// More syntax errors of one file are not shown: it is probably no TOML at all.
const MAX_ERRORS: usize = 100;

/// Reads a file's text. What can be read is given even if there are errors.
pub fn parse<'t>(text: &'t str, file: usize, report: &mut Report) -> DeTable<'t> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    let unclosed = errors.iter().find(|e| e.message().contains("unclosed array"));
    let unclosed = unclosed.and_then(toml::de::Error::span).map(|span| span.start);
    let mut read_up_to = 0;
    for error in errors.iter().take(MAX_ERRORS) {
        let range = error.span().unwrap_or(0..0);
        if range.start < read_up_to {
            continue;
        }
        // A list without its `]` takes every line below it for items: one mistake, one error.
        let list = list_around(table.get_ref(), range.start).filter(|_| error.message().contains("array"));
        read_up_to = match (&list, unclosed) {
            (Some(list), _) => list.end + 1,
            (None, Some(end)) if error.message().contains("array") => end + 1,
            _ => range.end,
        };
        let spot = Spot { file, range };
        report.mark_broken(&Spot { file, range: spot.range.start..read_up_to });
        report.add(syntax_error(error.message(), text, table.get_ref(), &spot, list));
    }
    let table = table.into_inner();
    let mut liberties = Vec::new();
    find_liberties_in_table(text, &table, &mut liberties);
    for (range, message, hint) in liberties {
        report.add(Diagnostic::error("toml-1.1", &Spot { file, range }, message).hint(hint));
    }
    table
}

fn syntax_error(
    message: &str,
    text: &str,
    table: &DeTable<'_>,
    spot: &Spot,
    list: Option<Range<usize>>,
) -> Diagnostic {
    let other = |range| Spot { file: spot.file, range };
    if message.contains("duplicate key") {
        let name = text.get(spot.range.clone()).unwrap_or_default();
        let first =
            header_before(text, spot.range.start).or_else(|| key_before(table, name, spot.range.start));
        let error = Diagnostic::error("syntax", spot, format!("`{name}` stands twice"));
        let error = error.label("here again").hint("each table and each key stands once");
        return match first {
            Some(range) => error.also(&other(range), "here first"),
            None => error,
        };
    }
    if message.contains("array") {
        let error = Diagnostic::error("syntax", spot, message);
        let error = error.hint("does the list lack a comma, or its `]`?");
        return match list {
            Some(list) => error.also(&other(list.start..list.start + 1), "the list begins here"),
            None => error,
        };
    }
    let hint = hint_for(message, text, &spot.range);
    Diagnostic::error("syntax", spot, message.trim_end_matches(", expected nothing")).maybe_hint(hint)
}

/// The outermost list around a place.
fn list_around(table: &DeTable<'_>, at: usize) -> Option<Range<usize>> {
    table.values().find_map(|value| match value.get_ref() {
        DeValue::Array(_) => Some(value.span()).filter(|span| span.start < at && at <= span.end),
        DeValue::Table(inner) => list_around(inner, at),
        _ => None,
    })
}

/// The line before `at` that is the same table's header as the line there.
fn header_before(text: &str, at: usize) -> Option<Range<usize>> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let header = text.get(start..)?.lines().next()?.trim();
    if !header.starts_with('[') {
        return None;
    }
    let mut from = 0;
    for line in text.get(..start)?.split_inclusive('\n') {
        if line.trim() == header {
            return Some(from..from + line.trim_end().len());
        }
        from += line.len();
    }
    None
}

/// The nearest key of this name before a place.
fn key_before(table: &DeTable<'_>, name: &str, before: usize) -> Option<Range<usize>> {
    let own = table.keys().filter(|key| key.get_ref() == name).map(Spanned::span);
    let below = table.values().filter_map(|value| key_before(value.get_ref().as_table()?, name, before));
    own.chain(below).filter(|span| span.start < before).max_by_key(|span| span.start)
}

fn hint_for(message: &str, text: &str, range: &Range<usize>) -> Option<String> {
    let hint = match message {
        _ if message.contains("leading zero") => "octal numbers are written as strings: \"022\"",
        _ if message.contains("between array elements") => {
            "does the list before this place lack its `]`, or a comma?"
        }
        _ if message.contains("must be quoted") || is_bare_word(text, range) => {
            "texts, durations and sizes stand in quotes: \"30s\""
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Does a word without quotes stand where a value should?
fn is_bare_word(text: &str, range: &Range<usize>) -> bool {
    let before = text.get(..range.start).unwrap_or_default();
    let word = text.get(range.start..).unwrap_or_default();
    before.trim_end_matches([' ', '\t']).ends_with('=')
        && word.starts_with(|c: char| c.is_ascii_alphanumeric())
}

type Liberty = (Range<usize>, &'static str, &'static str);

const WRITE_A_TABLE: &str = "write the table with a header of its own, as in `[service.NAME.limits]`";

fn find_liberties_in_table(text: &str, table: &DeTable<'_>, found: &mut Vec<Liberty>) {
    for (key, value) in table {
        find_escapes(text, key.span(), found);
        find_liberties(text, value, found);
    }
}

fn find_liberties(text: &str, value: &Spanned<DeValue<'_>>, found: &mut Vec<Liberty>) {
    match value.get_ref() {
        DeValue::String(_) => find_escapes(text, value.span(), found),
        DeValue::Array(items) => items.iter().for_each(|item| find_liberties(text, item, found)),
        DeValue::Table(table) => {
            let inline = text.get(value.span()).is_some_and(|t| t.starts_with('{'));
            if inline {
                check_inline(text, value.span(), table, found);
            }
            find_liberties_in_table(text, table, found);
        }
        _ => {}
    }
}

/// TOML 1.0: an inline table is one line and ends without a comma. What its values hold does not count.
fn check_inline(text: &str, span: Range<usize>, table: &DeTable<'_>, found: &mut Vec<Liberty>) {
    let mut values = Vec::new();
    value_spans(text, table, &mut values);
    values.sort_by_key(|range| range.start);
    let mut at = span.start;
    let mut between = String::new();
    for value in values {
        between.push_str(text.get(at..value.start).unwrap_or_default());
        at = at.max(value.end);
    }
    let end = text.get(at..span.end).unwrap_or_default();
    if between.contains('\n') || end.contains('\n') {
        found.push((span, "an inline table must stand on one line", WRITE_A_TABLE));
    } else if end.trim_start().starts_with(',') {
        found.push((at..span.end, "an inline table must not end with a comma", "take the comma away"));
    }
}

/// Where the values of an inline table are; those of dotted keys too.
fn value_spans(text: &str, table: &DeTable<'_>, spans: &mut Vec<Range<usize>>) {
    for value in table.values() {
        match value.get_ref() {
            DeValue::Table(inner) if !text.get(value.span()).is_some_and(|t| t.starts_with('{')) => {
                value_spans(text, inner, spans);
            }
            _ => spans.push(value.span()),
        }
    }
}

/// `\e` and `\xHH` are TOML 1.1.
fn find_escapes(text: &str, span: Range<usize>, found: &mut Vec<Liberty>) {
    let Some(raw) = text.get(span.clone()) else { return };
    if !raw.starts_with('"') {
        return;
    }
    let mut bytes = raw.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' && matches!(bytes.next(), Some((_, b'e' | b'x'))) {
            let from = span.start + at;
            let hint = "write `\\u001B` for `\\e`, `\\u00HH` for `\\xHH`";
            found.push((from..from + 2, "this escape is not part of TOML 1.0", hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liberties_of_toml_1_1_are_errors() {
        check("a = { b = 1 }", 0);
        check("a = { b = [\n1,\n] }", 0);
        check("a = { b = \"\"\"\n\"\"\" }", 0);
        check("a = { b.c = 1, b.d = 2 }", 0);
        check("a = {}", 0);
        check("a = { b = 1,\n c = 2 }", 1);
        check("a = { b = 1, }", 1);
        check("a = {\n}", 1);
        check("a = [{ b = 1, }, { c = 1\n }]", 2);
        check("a = '\\e'", 0);
        check("a = \"\\e\"", 1);
        check("a = \"\\\\e\"", 0);
        check("a = \"\\x41\"", 1);
        check("[a]\nb = 1\n\n[a.c]\nd = 1\n", 0);
    }

    #[track_caller]
    fn check(text: &str, errors: usize) {
        let mut report = Report::default();
        let file = report.add_source("t", text);
        parse(text, file, &mut report);
        assert_eq!(report.counts().0, errors, "{text}\n{}", report.rendered(false).join("\n"));
    }
}
