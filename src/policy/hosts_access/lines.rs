//! The text of a table to logical lines: continued lines are joined, comments and blank lines are gone, and each
//! byte still knows where in the file it stood.
//!
//! Knows nothing of what a line says.

use std::ops::Range;

use super::complaints::Complaints;

/// libwrap reads into a buffer of 2,048 bytes, and stops reading the file where a line does not fit.
pub(super) const MAX_LINE: usize = 2046;

/// The byte order mark.
const BOM: char = '\u{feff}';

/// A line after its continuations were joined.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Without the line ends.
    pub(super) text: String,
    /// Where in the file the pieces stood: (offset in `text`, offset in the file).
    pieces: Vec<(usize, usize)>,
}

impl Line {
    /// Where in the file a stretch of the line stands, as far as it is one physical line.
    pub(super) fn spot(&self, range: Range<usize>) -> Range<usize> {
        let start = self.in_file(range.start);
        start..self.in_file(range.end).max(start)
    }

    fn in_file(&self, at: usize) -> usize {
        let piece = self.pieces.iter().rev().find(|(from, _)| *from <= at);
        piece.map_or(at, |(from, in_file)| in_file + (at - from))
    }

    fn push(&mut self, piece: &str, in_file: usize) {
        self.pieces.push((self.text.len(), in_file));
        self.text.push_str(piece);
    }

    /// Its first physical line, in the file.
    fn whole(&self) -> Range<usize> {
        let start = self.pieces.first().map_or(0, |piece| piece.1);
        let len = self.pieces.get(1).map_or(self.text.len(), |piece| piece.0);
        start..start + len
    }
}

/// The lines that hold rules. What libwrap would skip, cut or run together with its neighbour is an error.
pub(super) fn rule_lines(text: &str, complaints: &mut Complaints<'_>) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = Line::default();
    let (mut at, mut open) = (0, false);
    if text.starts_with(BOM) {
        complaints.error(0..BOM.len_utf8(), "a byte order mark stands before the first rule", BOM_HINT);
        at = BOM.len_utf8();
    }
    for physical in text.get(at..).unwrap_or_default().split_inclusive('\n') {
        let body = physical.strip_suffix('\n').unwrap_or(physical);
        let joined = body.strip_suffix('\\').filter(|_| physical.ends_with('\n'));
        line.push(joined.unwrap_or(body), at);
        at += physical.len();
        open = joined.is_some();
        if !open {
            lines.extend(finished(std::mem::take(&mut line), complaints));
        }
    }
    if open {
        complaints.error(line.whole(), "the file ends in the middle of a rule", "remove the last `\\`");
    } else if !text.is_empty() && !text.ends_with('\n') {
        complaints.error(
            at..at,
            "the last line has no line end",
            "libwrap reads no line without one: add it",
        );
    }
    lines
}

const BOM_HINT: &str = "save the file without it: libwrap takes it for a part of the first name";

/// The line, unless it holds no rule, or is wrong as a whole.
fn finished(line: Line, complaints: &mut Complaints<'_>) -> Option<Line> {
    let trimmed = line.text.trim_end();
    if line.text.len() > MAX_LINE {
        let message = format!("a line of {} bytes, {MAX_LINE} at most", line.text.len());
        complaints.error(line.whole(), message, "make several rules of it, or put the list into a /file");
        return None;
    }
    if line.text.starts_with('#') {
        swallowed_rule(&line, complaints);
        return None;
    }
    if trimmed.is_empty() {
        return None;
    }
    if let Some((at, odd)) = trimmed.char_indices().find(|(_, c)| is_odd(*c)) {
        let (message, hint) = match odd {
            char::REPLACEMENT_CHARACTER => ("this is no UTF-8 text", "write names and addresses in ASCII"),
            '\r' => ("a carriage return in the middle of a rule", "end lines with a line feed alone"),
            _ => ("a control character in a rule", "remove it"),
        };
        complaints.error(line.spot(at..at + odd.len_utf8()), message, hint);
        return None;
    }
    if trimmed.ends_with('\\') {
        let at = trimmed.len() - 1;
        let hint = "remove what follows the `\\`: only directly before the line end does it join lines";
        complaints.error(line.spot(at..at + 1), "this `\\` joins no line", hint);
        return None;
    }
    Some(line)
}

fn is_odd(c: char) -> bool {
    (c.is_control() && c != '\t') || c == char::REPLACEMENT_CHARACTER
}

/// A comment that ends in `\` takes the next line into it, also where that is a rule.
fn swallowed_rule(line: &Line, complaints: &mut Complaints<'_>) {
    let ends = line.pieces.iter().skip(1).map(|piece| piece.0).chain([line.text.len()]);
    for ((from, _), to) in line.pieces.iter().zip(ends).skip(1) {
        let piece = line.text.get(*from..to).unwrap_or_default();
        if !piece.trim().is_empty() && !piece.starts_with('#') {
            let message = "this line belongs to the comment above it, which ends in `\\`";
            complaints.error(line.spot(*from..to), message, "remove that `\\`, or begin this line with `#`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::complaints::check_report;
    use super::*;

    #[test]
    fn rules_are_lines() {
        check("", &[]);
        check("\n  \t\n# a comment\n", &[]);
        check("a: b\nc: d\r\n", &[("a: b", 0), ("c: d\r", 5)]);
        check("a: \\\n b\n", &[("a:  b", 0)]);
        check("AL\\\nL: b\\\n\\\n c\n", &[("ALL: b c", 0)]);
        check("# a \\\n# b\n# c \\\n\n", &[]);
        check(&format!("{}\n", "x".repeat(MAX_LINE)), &[(&"x".repeat(MAX_LINE), 0)]);
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, usize)]) {
        let (lines, errors) = check_report(text, |complaints| rule_lines(text, complaints));
        let lines: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.spot(0..1).start)).collect();
        assert_eq!(lines, expected);
        assert_eq!(errors, [""; 0]);
    }

    #[test]
    fn what_libwrap_would_drop_is_an_error() {
        check_error("ALL: ALL", ":1:9: the last line has no line end");
        check_error("ALL: ALL \\\n", ":1:1: the file ends in the middle of a rule");
        check_error("\u{feff}ALL: ALL\n", ":1:1: a byte order mark");
        check_error("a: b \\ \n c\n", ":1:6: this `\\` joins no line");
        check_error("a: b \\\r\n c\r\n", ":1:6: this `\\` joins no line");
        check_error("# x \\\nALL: ALL\n", ":2:1: this line belongs to the comment above");
        check_error("\0\nALL: ALL\n", ":1:1: a control character");
        check_error("a\rb: c\n", ":1:2: a carriage return");
        check_error("ALL: \u{fffd}\n", ":1:6: this is no UTF-8 text");
        check_error(&format!("#{}\n", "x".repeat(MAX_LINE)), ":1:1: a line of 2047 bytes, 2046 at most");
        check_error(&"ALL \\\n".repeat(800), ":1:1: the file ends");
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let (_, errors) = check_report(text, |complaints| rule_lines(text, complaints));
        assert!(errors.iter().any(|error| error.contains(expected)), "{expected} is not in {errors:?}");
    }
}
