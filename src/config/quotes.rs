//! The value of `quotes`: texts, or a file of them as fortune(6) reads it. Each is sent as it is written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::draft::Value;
use super::keys::{self, Kind};
use super::kinds;
use super::reader::Context;
use super::values::Complaint;

/// The longest quote (RFC 865): it fits into any datagram.
pub const MAX_QUOTE: usize = 512;

/// All quotes of a service. They go from process to process at each reload.
const MAX_ALL: usize = 1 << 20;

type Item<'v, 't> = &'v Spanned<DeValue<'t>>;

/// Reads a list of texts.
pub fn list(
    cx: &mut Context<'_>,
    title: &str,
    value: Item<'_, '_>,
    items: &[Spanned<DeValue<'_>>],
) -> Option<Value> {
    let all: Vec<_> = items.iter().map(|item| quote(cx, title, item)).collect();
    let all: Vec<Vec<u8>> = all.into_iter().collect::<Option<_>>()?;
    kinds::checked(cx, title, value, whole(all))
}

fn quote(cx: &mut Context<'_>, title: &str, item: Item<'_, '_>) -> Option<Vec<u8>> {
    let text = kinds::argument(cx, title, Kind::Text, item)?;
    let checked = match text.len() {
        0 => Err(Complaint::new("a quote must not be empty")),
        1..=MAX_QUOTE => Ok(text.as_bytes().to_vec()),
        length => Err(too_long(&format!("it has {length} bytes"))),
    };
    kinds::checked(cx, title, item, checked)
}

/// Reads `{ file = … }`.
pub fn file(cx: &mut Context<'_>, title: &str, value: Item<'_, '_>, table: &DeTable<'_>) -> Option<Value> {
    let bytes = kinds::file(cx, keys::QUOTES_FILE, title, value, table)?;
    kinds::checked(cx, title, value, split(&bytes).and_then(whole))
}

fn whole(quotes: Vec<Vec<u8>>) -> Result<Value, Complaint> {
    if quotes.is_empty() {
        return Err(Complaint::new("there is no quote in it"));
    }
    let length: usize = quotes.iter().map(Vec::len).sum();
    if length > MAX_ALL {
        return Err(Complaint::new(format!("its quotes have {length} bytes, and {MAX_ALL} are the most")));
    }
    Ok(Value::Quotes(quotes))
}

fn too_long(what: &str) -> Complaint {
    Complaint::new(format!("{what}, and {MAX_QUOTE} are the most for a quote"))
        .hint("it must fit into one datagram (RFC 865)")
}

/// The entries between the lines that are a single `%`. Those that are blank are none: files begin and end
/// with such lines.
fn split(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Complaint> {
    let mut quotes = Vec::new();
    let mut entry: Vec<u8> = Vec::new();
    let mut begins_at = 1;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    for (number, line) in (1_usize..).zip(lines.chain(std::iter::once(b"%".as_slice()))) {
        if line.trim_ascii_end() != b"%" {
            entry.extend_from_slice(line);
            continue;
        }
        if entry.len() > MAX_QUOTE {
            return Err(too_long(&format!("the entry at line {begins_at} has {} bytes", entry.len())));
        }
        if !entry.trim_ascii().is_empty() {
            quotes.push(std::mem::take(&mut entry));
        }
        entry.clear();
        begins_at = number + 1;
    }
    Ok(quotes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_at_its_percent_signs() {
        check("", Ok(&[]));
        check("%\n%\n", Ok(&[]));
        check("one", Ok(&["one"]));
        check("one\n%\ntwo\nlines\n", Ok(&["one\n", "two\nlines\n"]));
        check("%\none\n%\n\n%\r\ntwo\r\n%\n", Ok(&["one\n", "two\r\n"]));
        check("100%\n%%\n %\n% \nlast", Ok(&["100%\n%%\n %\n", "last"]));
        let long = "x".repeat(MAX_QUOTE);
        check(&long, Ok(&[&long]));
        check(
            &format!("a\n%\n{long}\n"),
            Err("the entry at line 3 has 513 bytes, and 512 are the most for a quote"),
        );
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], &str>) {
        let got = split(text.as_bytes()).map_err(|complaint| complaint.message);
        let expected =
            expected.map(|all| all.iter().map(|quote| quote.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(got, expected.map_err(str::to_owned), "{text}");
    }
}
