//! The line by which a client of tcpmux says a name: as much of it as came, and when it is whole.
//!
//! RFC 1078 ends it with CR LF. A bare line feed is taken, too, as inetd does: it can't be part of a name.

use crate::model::mux::{self, MuxName};

/// The longest line, with its CR LF.
pub(super) const MOST: usize = mux::LONGEST + 2;

/// What came of it. Most connections have none: it takes no memory of theirs.
#[derive(Debug, Default)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// How much more may come.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.0.len())
    }

    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `None`: it is not whole yet.
    pub(super) fn outcome(&self) -> Option<Result<MuxName, NoName>> {
        match self.0.strip_suffix(b"\n") {
            Some(line) => Some(MuxName::new(line.strip_suffix(b"\r").unwrap_or(line)).ok_or(NoName)),
            None => (self.room() == 0).then_some(Err(NoName)),
        }
    }
}

/// What came can't be a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoName;

/// How many of these bytes belong to the line.
pub(super) fn line_of(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &str, expected: Option<Result<&str, NoName>>, rest: usize) {
        let mut name = Name::default();
        let own = line_of(bytes.as_bytes()).min(name.room());
        // However it comes: byte by byte, or at once.
        for byte in &bytes.as_bytes()[..own] {
            assert_eq!(name.outcome(), None, "{bytes:?}");
            name.push(std::slice::from_ref(byte));
        }
        let expected = expected.map(|name| name.map(|name| MuxName::new(name.as_bytes()).unwrap()));
        assert_eq!((name.outcome(), bytes.len() - own), (expected, rest), "{bytes:?}");
    }

    #[test]
    fn a_line_is_read_and_no_byte_behind_it() {
        check("", None, 0);
        check("ftp", None, 0);
        check("ftp\r", None, 0);
        check("ftp\r\n", Some(Ok("ftp")), 0);
        check("FTP\nUSER x\r\n", Some(Ok("ftp")), 8);
        check("ftp\r\n\r\n", Some(Ok("ftp")), 2);
        check("\r\n", Some(Err(NoName)), 0);
        check("a b\r\n", Some(Err(NoName)), 0);
        check("a\rb\r\n", Some(Err(NoName)), 0);
        let long = "x".repeat(64);
        check(&format!("{long}\r\n"), Some(Ok(&long)), 0);
        check(&format!("{long}x\r\n"), Some(Err(NoName)), 1);
        check(&"x".repeat(70), Some(Err(NoName)), 4);
    }
}
