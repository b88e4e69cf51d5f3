//! TOML text to tables, with every syntax error; and no more than TOML 1.0: what the parser takes beyond it
//! (newlines and trailing commas in inline tables, new escapes) other tools would refuse.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Report, Spot};

/// Reads a file's text. What can be read is given even if there are errors.
pub fn parse<'t>(text: &'t str, file: usize, report: &mut Report) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let hint = hint_for(error.message(), text, &range);
        let spot = Spot { file, range };
        report.add(Diagnostic::error("syntax", &spot, error.message()).maybe_hint(hint));
    }
    let table = table.into_inner();
    let mut liberties = Vec::new();
    find_liberties_in_table(text, &table, &mut liberties);
    for (range, message, hint) in liberties {
        report.add(Diagnostic::error("toml-1.1", &Spot { file, range }, message).hint(hint));
    }
    table
}

fn hint_for(message: &str, text: &str, range: &Range<usize>) -> Option<String> {
    let line_start = text.get(..range.start)?.rfind('\n').map_or(0, |at| at + 1);
    let before = text.get(line_start..range.start)?;
    let word: String = text.get(range.start..)?.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
    if message.contains("leading zero") {
        return Some("octal numbers are written as strings: \"022\"".to_owned());
    }
    if message.contains("must be quoted") || (before.trim_end().ends_with('=') && !word.is_empty()) {
        return Some("texts, durations and sizes stand in quotes: \"30s\"".to_owned());
    }
    if message.contains("duplicate key") {
        return Some("each table and each key stands once".to_owned());
    }
    None
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
