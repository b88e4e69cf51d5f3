//! Labels: the names that an admin gives to sets of addresses and to hours.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;

/// The longest label, in bytes.
const LONGEST: usize = 64;

/// Letters, digits, `.`, `_` and `-`, a letter or digit first, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = Mistake;
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.len() > LONGEST {
            return Err(Mistake::new(format!("`{text}` has more than {LONGEST} characters")));
        }
        if !text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) || !text.bytes().all(good) {
            return Err(Mistake::new(format!("`{text}` is no name of a set or of hours")).hint(
                "a name is made of letters, digits, `.`, `_` and `-`, and begins with a letter or a digit",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Label {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words() {
        for good in ["office", "Block-List", "a.b_c", "0", &"x".repeat(64)] {
            assert_eq!(good.parse::<Label>().map(|label| label.to_string()).as_deref(), Ok(good));
        }
        for bad in ["", "-a", ".a", "a b", "a@b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }
}
