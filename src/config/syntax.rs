//! TOML text to tables, with every syntax error; and no more than TOML 1.0: what the parser takes beyond it
//! (newlines and trailing commas in inline tables, new escapes) other tools would refuse.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report, Spot};

/// Reads a file's text. What can be read is given even if there are errors.
pub fn parse<'t>(text: &'t str, file: usize, report: &mut Report) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut in_an_array = false;
    for error in errors {
        let (message, range) = (error.message(), error.span().unwrap_or(0..0));
        // An array without its `]` takes every line below it for elements: one mistake, one error.
        let of_an_array = message.contains("between array elements") || message.contains("in array,");
        if of_an_array && in_an_array {
            continue;
        }
        in_an_array = of_an_array;
        report.add(syntax_error(message, text, &table, Spot { file, range }));
    }
    let table = table.into_inner();
    let mut liberties = Vec::new();
    find_liberties_in_table(text, &table, &mut liberties);
    for (range, message, hint) in liberties {
        report.add(Diagnostic::error("toml-1.1", &Spot { file, range }, message).hint(hint));
    }
    table
}

fn syntax_error(message: &str, text: &str, table: &Spanned<DeTable<'_>>, spot: Spot) -> Diagnostic {
    if message.contains("duplicate key") {
        let name = text.get(spot.range.clone()).unwrap_or_default();
        let mut first = None;
        key_before(table.get_ref(), name, spot.range.start, &mut first);
        let error = Diagnostic::error("syntax", &spot, format!("`{name}` stands twice"));
        let error = error.label("here again").hint("each table and each key stands once");
        return match first {
            Some(range) => error.also(&Spot { file: spot.file, range }, "here first"),
            None => error,
        };
    }
    let hint = hint_for(message, text, &spot.range);
    Diagnostic::error("syntax", &spot, message.trim_end_matches(", expected nothing")).maybe_hint(hint)
}

/// The nearest key of this name before a place.
fn key_before(table: &DeTable<'_>, name: &str, before: usize, found: &mut Option<Range<usize>>) {
    for (key, value) in table {
        let span = key.span();
        let nearer = found.as_ref().is_none_or(|found| found.start < span.start);
        if key.get_ref() == name && span.start < before && nearer {
            *found = Some(span);
        }
        if let DeValue::Table(inner) = value.get_ref() {
            key_before(inner, name, before, found);
        }
    }
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
        if byte == b'\\' {
            if let Some((_, b'e' | b'x')) = bytes.next() {
                let from = span.start + at;
                found.push((
                    from..from + 2,
                    "this escape is not part of TOML 1.0",
                    "write `\\u001B` for `\\e`, `\\u00HH` for `\\xHH`",
                ));
            }
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
