//! Host names, in the one form that they are compared in: lower case, without the root's dot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;

/// RFC 1035 §2.3.4, without the root's dot.
const LONGEST: usize = 253;

/// RFC 1035 §2.3.4.
const LONGEST_PART: usize = 63;

/// A host name: parts of letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is it below the domain: `a.example.org` is below `example.org`, which is not below itself?
    pub fn is_below(&self, domain: &Self) -> bool {
        self.0.strip_suffix(domain.as_str()).is_some_and(|front| front.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = Mistake;

    /// Checks a name; also for those that the name service gives, which may hold anything.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let part = |part: &str| (1..=LONGEST_PART).contains(&part.len()) && part.bytes().all(good);
        if name.len() > LONGEST || !name.split('.').all(part) {
            return Err(Mistake::new(format!("`{}` is no host name", text.escape_debug()))
                .hint("a host name is made of parts of letters, digits and `-`, with dots between them"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for HostName {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_one_form() {
        for (text, expected) in [
            ("Host.Example.ORG.", Some("host.example.org")),
            ("a_b.example", Some("a_b.example")),
            ("localhost", Some("localhost")),
            (&"x".repeat(63), Some("x".repeat(63).as_str())),
            (&"x".repeat(64), None),
            (&"x.".repeat(128), None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a b", None),
            ("a\n", None),
            ("ä.example", None),
        ] {
            assert_eq!(text.parse::<HostName>().ok().as_ref().map(HostName::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_below_domains_by_whole_parts() {
        for (name, domain, expected) in [
            ("a.example.org", "example.org", true),
            ("a.b.example.org", "EXAMPLE.org", true),
            ("example.org", "example.org", false),
            ("badexample.org", "example.org", false),
            ("a.example.org.example.com", "example.org", false),
        ] {
            let (name, domain): (HostName, HostName) = (name.parse().unwrap(), domain.parse().unwrap());
            assert_eq!(name.is_below(&domain), expected, "{name} {domain}");
        }
    }
}
