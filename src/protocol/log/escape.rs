//! What keeps untrusted bytes from forging a line, a field or a terminal's commands.
//!
//! Knows bytes only. Everything beyond printable ASCII is written as `\xNN`: UTF-8 has control and
//! direction characters of its own, and a log line need not be pretty to be true.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Quotes what was written to `out` from `start` on, if it would be more than one plain word.
pub(super) fn quote_from(out: &mut Vec<u8>, start: usize) {
    let written = out.get(start..).unwrap_or_default();
    if !written.is_empty() && written.iter().all(|&byte| is_plain(byte)) {
        return;
    }
    let raw = out.split_off(start.min(out.len()));
    out.push(b'"');
    for byte in raw {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            _ => push_printable(out, byte),
        }
    }
    out.push(b'"');
}

/// Appends prose: blanks and quotes stay as they are.
pub(super) fn push_prose(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        push_printable(out, byte);
    }
}

/// Backslash makes a word quoted, so that an unquoted value is always literal.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'
}

fn push_printable(out: &mut Vec<u8>, byte: u8) {
    if byte == b' ' || byte.is_ascii_graphic() {
        out.push(byte);
    } else {
        let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'?');
        out.extend([b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_one_word() {
        check(b"plain", "plain");
        check(b"/usr/bin/x=1,2", "/usr/bin/x=1,2");
        check(b"", "\"\"");
        check(b"two words", "\"two words\"");
        check(b"say \"hi\"", r#""say \"hi\"""#);
        check(b"back\\slash", r#""back\\slash""#);
        check(b"a\nstart finger", r#""a\x0astart finger""#);
        check(b"\x1b[2J\x7f\0", r#""\x1b[2J\x7f\x00""#);
        check("\u{9b}é".as_bytes(), r#""\xc2\x9b\xc3\xa9""#);
    }

    #[track_caller]
    fn check(raw: &[u8], expected: &str) {
        let mut out = b"key=".to_vec();
        out.extend_from_slice(raw);
        quote_from(&mut out, 4);
        assert_eq!(String::from_utf8(out).unwrap(), format!("key={expected}"));
    }

    #[test]
    fn prose_keeps_its_blanks_and_stays_one_line() {
        let mut out = Vec::new();
        push_prose(&mut out, b"a \"b\"\r\n\xff");
        assert_eq!(out, br#"a "b"\x0d\x0a\xff"#);
    }
}
