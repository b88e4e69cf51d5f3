//! Patterns of clients: what an item of `allow`, `deny` or `from` says. Knows the words, not what they match:
//! that is `policy`'s.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::host::HostName;
use super::label::Label;
use super::mistake::Mistake;
use super::network::Network;

/// One item of `allow`, `deny` or `from`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ClientPattern {
    /// `any`: every client.
    Any,
    /// `local`: loopback and this host's own addresses.
    Local,
    /// `link`: the networks of this host's interfaces.
    Link,
    /// `unix`: any client of a unix socket.
    Unix,
    /// An address or a network.
    Network(Network),
    /// `@set`.
    Set(Label),
    /// `host.example.org`: the client's confirmed name.
    Name(HostName),
    /// `.example.org`, `*.example.org`: a confirmed name below the domain.
    Below(HostName),
    /// `unknown`: no confirmed name.
    Unknown,
    /// `paranoid`: the name that the address has is not a name of the address.
    Paranoid,
}

/// The words, with what they mean.
const WORDS: [(&str, ClientPattern); 6] = [
    ("any", ClientPattern::Any),
    ("local", ClientPattern::Local),
    ("link", ClientPattern::Link),
    ("unix", ClientPattern::Unix),
    ("unknown", ClientPattern::Unknown),
    ("paranoid", ClientPattern::Paranoid),
];

impl ClientPattern {
    /// Must the client's name be asked for?
    pub fn asks_name(&self) -> bool {
        matches!(self, Self::Name(_) | Self::Below(_) | Self::Unknown | Self::Paranoid)
    }

    /// Does whatever the other matches match this too? `false` also where that is not known.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            // Unknown: a name that is not confirmed is not known.
            (Self::Any, _) | (Self::Unknown, Self::Paranoid) => true,
            (Self::Network(own), Self::Network(other)) => own.covers(other),
            (Self::Below(domain), Self::Name(name) | Self::Below(name)) => {
                name.is_below(domain) || self == other
            }
            _ => self == other,
        }
    }
}

impl FromStr for ClientPattern {
    type Err = Mistake;
    fn from_str(text: &str) -> Result<Self, Mistake> {
        if text.is_empty() {
            return Err(Mistake::new("an empty text matches no client"));
        }
        if looks_numeric(text) {
            return text.parse().map(Self::Network);
        }
        if let Some(name) = text.strip_prefix('@') {
            return name.parse().map(Self::Set);
        }
        if let Some((_, pattern)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(pattern.clone());
        }
        // Words of hosts.allow, which would else be names that no client has: a `deny` of nobody.
        if let Some(word) = meant(text) {
            return Err(
                Mistake::new(format!("`{text}` matches no client")).hint(format!("did you mean `{word}`?"))
            );
        }
        let domain = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        domain.map_or_else(|| text.parse().map(Self::Name), |domain| domain.parse().map(Self::Below)).map_err(
            |_: Mistake| {
                Mistake::new(format!("`{}` matches no client", text.escape_debug())).hint(
                    "write an address, a network, `@set`, a host name, `.domain`, or any, local, link, unknown, paranoid, unix",
                )
            },
        )
    }
}

/// What can't be a host name, but may be meant as an address.
fn looks_numeric(text: &str) -> bool {
    text.contains(['/', ':'])
        || text.parse::<IpAddr>().is_ok()
        || text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn meant(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "all" | "everyone" | "everybody" | "anyone" | "anybody" | "*" => Some("any"),
        "known" => Some(".example.org` for a domain, or a rule that denies `unknown"),
        _ => WORDS.iter().map(|(word, _)| *word).find(|word| *word == lower),
    }
}

impl fmt::Display for ClientPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Set(name) => write!(f, "@{name}"),
            Self::Name(name) => name.fmt(f),
            Self::Below(domain) => write!(f, ".{domain}"),
            Self::Any => f.write_str("any"),
            Self::Local => f.write_str("local"),
            Self::Link => f.write_str("link"),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
            Self::Paranoid => f.write_str("paranoid"),
        }
    }
}

impl TryFrom<String> for ClientPattern {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<ClientPattern> for String {
    fn from(pattern: ClientPattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written() {
        for (text, expected) in [
            ("any", "any"),
            ("local", "local"),
            ("link", "link"),
            ("unix", "unix"),
            ("unknown", "unknown"),
            ("paranoid", "paranoid"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("@office", "@office"),
            ("Host.Example.org.", "host.example.org"),
            (".example.org", ".example.org"),
            ("*.example.org", ".example.org"),
        ] {
            let pattern: ClientPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), expected);
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }

    #[test]
    fn what_would_match_nobody_is_refused() {
        for (text, message, hint) in [
            ("", "an empty text matches no client", None),
            ("ALL", "`ALL` matches no client", Some("did you mean `any`?")),
            ("Local", "`Local` matches no client", Some("did you mean `local`?")),
            ("192.0.2.256", "`192.0.2.256` is no address and no network", None),
            ("192.0.2.", "`192.0.2.` is no address and no network", None),
            ("host/24", "`host/24` is no address and no network", None),
            ("@", "`` is no name of a set or of hours", None),
            ("a b", "`a b` matches no client", None),
            ("*", "`*` matches no client", Some("did you mean `any`?")),
            ("a*.example.org", "`a*.example.org` matches no client", None),
            ("..example.org", "`..example.org` matches no client", None),
        ] {
            let mistake = text.parse::<ClientPattern>().unwrap_err();
            assert_eq!(mistake.message, message);
            assert!(hint.is_none() || mistake.hint.as_deref() == hint, "{text}: {:?}", mistake.hint);
        }
    }

    #[test]
    fn patterns_cover_patterns() {
        for (outer, inner, expected) in [
            ("any", "192.0.2.1", true),
            ("192.0.2.0/24", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.0/24", false),
            (".example.org", "a.example.org", true),
            (".example.org", ".b.example.org", true),
            (".example.org", "example.org", false),
            (".example.org", ".example.org", true),
            ("unknown", "paranoid", true),
            ("@a", "@a", true),
            ("@a", "@b", false),
            ("local", "127.0.0.1", false),
        ] {
            let (outer, inner): (ClientPattern, ClientPattern) =
                (outer.parse().unwrap(), inner.parse().unwrap());
            assert_eq!(outer.covers(&inner), expected, "{outer} {inner}");
        }
    }
}
