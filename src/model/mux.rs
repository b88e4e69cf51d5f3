//! The names that clients of tcpmux (RFC 1078) ask for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes. RFC 1078 has no bound, and a client must not have one of its own.
pub const LONGEST: usize = 64;

/// 1 to 64 bytes of printable ASCII without blanks, in small letters: "the service name is never case sensitive".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MuxName(String);

impl MuxName {
    /// Reads a name, in whatever letters.
    pub fn new(text: &[u8]) -> Option<Self> {
        let good = (1..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(text).ok().filter(|_| good)?;
        Some(Self(text.to_ascii_lowercase()))
    }

    /// In small letters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Does it ask for the list of names? No service can be called so.
    pub fn is_help(&self) -> bool {
        self.0 == "help"
    }
}

impl TryFrom<String> for MuxName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::new(text.as_bytes()).ok_or_else(|| format!("`{text}` is no name of tcpmux"))
    }
}

impl From<MuxName> for String {
    fn from(name: MuxName) -> Self {
        name.0
    }
}

impl fmt::Display for MuxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printable_and_of_no_case() {
        for (text, expected) in [
            ("ftp", Some("ftp")),
            ("FtP", Some("ftp")),
            ("a=b~!", Some("a=b~!")),
            (&"X".repeat(64), Some(&*"x".repeat(64))),
            (&"x".repeat(65), None),
            ("", None),
            ("a b", None),
            ("a\r", None),
            ("ä", None),
        ] {
            assert_eq!(MuxName::new(text.as_bytes()).as_ref().map(MuxName::as_str), expected, "{text:?}");
        }
        assert_eq!(MuxName::new(b"Help").map(|name| name.is_help()), Some(true));
    }
}
