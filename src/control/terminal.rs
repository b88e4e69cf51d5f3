//! Text for a terminal: nothing that anybody sent can move the cursor, and columns are even.

use std::fmt::Write;

/// One line of `text`: control bytes, and what reorders or hides text, are shown as `\xNN`, as in the log.
pub(super) fn escape(text: &str) -> String {
    escape_with(text, |_| false, hex_bytes)
}

/// Like [`escape`], but `text` may have several lines.
pub(super) fn escape_lines(text: &str) -> String {
    escape_with(text, |c| c == '\n', hex_bytes)
}

/// JSON with what [`escape`] would change written as `\uNNNN`, which means the same: outside of strings it has
/// only ASCII and blanks.
pub(super) fn escape_json(json: &str) -> String {
    escape_with(
        json,
        |c| matches!(c, '\n' | '\r' | '\t'),
        |c, out| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// `rows` with their columns even. The last column is as long as it is.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn escape_with(text: &str, keep: impl Fn(char) -> bool, replace: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && !keep(c) {
            replace(c, &mut out);
        } else {
            out.push(c);
        }
    }
    out
}

fn hex_bytes(c: char, out: &mut String) {
    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// C0, DEL and C1; line separators; zero-width and bidirectional controls; tags.
fn is_harmful(c: char) -> bool {
    let hides = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    c.is_control() || hides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_escape(text: &str, line: &str, lines: &str, json: &str) {
        assert_eq!(escape(text), line);
        assert_eq!(escape_lines(text), lines);
        assert_eq!(escape_json(text), json);
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        check_escape("finger é 中", "finger é 中", "finger é 中", "finger é 中");
        check_escape("\u{1b}[2J", "\\x1b[2J", "\\x1b[2J", "\\u001b[2J");
        check_escape("a\nb", "a\\x0ab", "a\nb", "a\nb");
        check_escape("a\rb\u{7f}", "a\\x0db\\x7f", "a\\x0db\\x7f", "a\rb\\u007f");
        check_escape("\u{9b}", "\\xc2\\x9b", "\\xc2\\x9b", "\\u009b");
        check_escape("\u{202e}", "\\xe2\\x80\\xae", "\\xe2\\x80\\xae", "\\u202e");
        check_escape("\u{e0041}", "\\xf3\\xa0\\x81\\x81", "\\xf3\\xa0\\x81\\x81", "\\udb40\\udc41");
    }

    #[test]
    fn columns_are_even() {
        let rows = [vec!["A", "BB"], vec!["ééé", "C", "D"], vec![]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(table(&rows), ["A    BB", "ééé  C   D", ""]);
        assert!(table(&[]).is_empty());
    }
}
