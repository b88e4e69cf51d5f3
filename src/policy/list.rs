//! List files: one address or network a line, `#` begins a comment, blank lines are nothing. All of a list is
//! good, or none of it is taken.

use std::fmt;

use crate::model::mistake::Mistake;
use crate::model::network::Network;

/// Of a bad line, so many characters are shown.
const SHOWN: usize = 80;

/// A list that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadList {
    /// The first of the bad lines.
    pub lines: Vec<BadLine>,
    /// How many more there are.
    pub more: usize,
}

/// A bad line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: u32,
    /// Its beginning, safe to show.
    pub text: String,
    /// What is wrong with it.
    pub mistake: Mistake,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.mistake)
    }
}

/// The networks of a list file; of a bad one at most so many lines are shown.
pub fn parse(bytes: &[u8], most_shown: usize) -> Result<Vec<Network>, BadList> {
    // Lines are about as long as an address of IPv4 is.
    let mut networks = Vec::with_capacity(bytes.len() / 14);
    let mut bad = BadList { lines: Vec::new(), more: 0 };
    for (line, bytes) in (1_u32..).zip(bytes.split(|b| *b == b'\n')) {
        match network(bytes) {
            Ok(found) => networks.extend(found),
            Err(_) if bad.lines.len() >= most_shown => bad.more += 1,
            Err((text, mistake)) => bad.lines.push(BadLine { line, text, mistake }),
        }
    }
    let good = bad.lines.is_empty() && bad.more == 0;
    if good { Ok(networks) } else { Err(bad) }
}

fn network(line: &[u8]) -> Result<Option<Network>, (String, Mistake)> {
    let text = line.split(|b| *b == b'#').next().unwrap_or_default().trim_ascii();
    if text.is_empty() {
        return Ok(None);
    }
    let network = std::str::from_utf8(text).ok().filter(|text| text.len() <= SHOWN).map(str::parse);
    match network {
        Some(Ok(network)) => Ok(Some(network)),
        Some(Err(mistake)) => Err((shown(text), mistake)),
        None => {
            let shown = shown(text);
            let message = format!("`{shown}` is no address and no network");
            Err((shown, Mistake::new(message)))
        }
    }
}

/// What a file holds may steer a terminal.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        check("", &[]);
        check("# nothing\n\n   \r\n", &[]);
        check("192.0.2.1", &["192.0.2.1"]);
        check(
            "192.0.2.0/24 # office\r\n\t2001:db8::/32\n::ffff:10.0.0.1#x\n",
            &["192.0.2.0/24", "2001:db8::/32", "10.0.0.1"],
        );
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let networks = parse(text.as_bytes(), 10).unwrap();
        assert_eq!(networks.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bad_lines_are_named() {
        let text =
            b"192.0.2.1\n192.0.2.1/24\n\n10.0.0.0/8, 11.0.0.0/8\n\xff\x1b[2J\nhost.example\n1.2.3.4 5\n";
        let bad = parse(text, 4).unwrap_err();
        let lines: Vec<u32> = bad.lines.iter().map(|bad| bad.line).collect();
        assert_eq!((lines.as_slice(), bad.more), ([2, 4, 5, 6].as_slice(), 1));
        assert_eq!(
            bad.lines[0].to_string(),
            "line 2: `192.0.2.1/24` has bits set below its mask: write `192.0.2.0/24` for the network, or `192.0.2.1` for the host"
        );
        assert_eq!(bad.lines[2].text, "\u{fffd}\\u{1b}[2J");
        assert!(parse("x".repeat(100_000).as_bytes(), 1).unwrap_err().lines[0].text.len() < 100);
        assert_eq!(parse(b"x\nx", 0).unwrap_err().more, 2);
    }
}
