//! The name of a service: what the admin calls it in the configuration, the log and superctl.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest service name, in bytes: names become journal fields, metrics labels and fd names.
pub const MAX_SERVICE_NAME: usize = 64;

/// `[a-z0-9][a-z0-9_-]*`, at most [`MAX_SERVICE_NAME`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// Why a text is not a service name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadServiceName {
    /// Nothing between the quotes.
    Empty,
    /// More than [`MAX_SERVICE_NAME`] bytes.
    TooLong,
    /// A byte outside of `a-z0-9_-`, or `_` or `-` in front.
    BadCharacter,
}

impl fmt::Display for BadServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a service name is empty",
            Self::TooLong => "a service name has more than 64 characters",
            Self::BadCharacter => {
                "a service name is made of a-z, 0-9, `_` and `-`, and begins with a letter or a digit"
            }
        })
    }
}

impl std::error::Error for BadServiceName {}

impl ServiceName {
    /// Checks `text` and takes it as a name.
    pub fn new(text: &str) -> Result<Self, BadServiceName> {
        let first = text.bytes().next().ok_or(BadServiceName::Empty)?;
        if text.len() > MAX_SERVICE_NAME {
            return Err(BadServiceName::TooLong);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !plain(first) || !text.bytes().all(|b| plain(b) || b == b'_' || b == b'-') {
            return Err(BadServiceName::BadCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = BadServiceName;
    fn try_from(text: String) -> Result<Self, BadServiceName> {
        Self::new(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lowercase_words() {
        for good in ["a", "0", "finger", "git-daemon", "check_mk", &"x".repeat(64)] {
            assert_eq!(ServiceName::new(good).map(|n| n.to_string()).as_deref(), Ok(good));
        }
        for (bad, why) in [
            ("", BadServiceName::Empty),
            ("Finger", BadServiceName::BadCharacter),
            ("-a", BadServiceName::BadCharacter),
            ("a b", BadServiceName::BadCharacter),
            ("a.b", BadServiceName::BadCharacter),
            (&"x".repeat(65), BadServiceName::TooLong),
        ] {
            assert_eq!(ServiceName::new(bad), Err(why), "{bad:?}");
        }
    }
}
