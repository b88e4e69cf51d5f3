//! Patterns of users: what an item of `users` says, as it is written and with its names looked up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;

/// One item of `users`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserWord {
    /// `alice`
    Name(String),
    /// `uid:1000`
    Uid(u32),
    /// `group:wheel`
    Group(String),
    /// `gid:10`
    Gid(u32),
    /// `ident:alice`: what the client's RFC 1413 server says.
    Ident(String),
    /// `ident:*`: any name at all from there.
    AnyIdent,
}

/// One item of `users`, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPattern {
    /// A user of this machine.
    User {
        /// Its number.
        uid: u32,
        /// As it is written.
        word: String,
    },
    /// A group of this machine.
    Group {
        /// Its number.
        gid: u32,
        /// Those that the user database puts into it, sorted, when the configuration is loaded.
        members: Vec<u32>,
        /// As it is written.
        word: String,
    },
    /// A name that the client's RFC 1413 server must say.
    Ident(String),
    /// Any name from there.
    AnyIdent,
}

impl UserPattern {
    /// Must the client's RFC 1413 server be asked?
    pub fn asks_ident(&self) -> bool {
        matches!(self, Self::Ident(_) | Self::AnyIdent)
    }
}

impl FromStr for UserWord {
    type Err = Mistake;
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let Some((kind, name)) = text.split_once(':') else {
            return named(text, text).map(Self::Name);
        };
        match kind {
            "uid" => number(text, name).map(Self::Uid),
            "gid" => number(text, name).map(Self::Gid),
            "group" => named(text, name).map(Self::Group),
            "ident" if name == "*" => Ok(Self::AnyIdent),
            "ident" => named(text, name).map(Self::Ident),
            _ => Err(no_user(text)),
        }
    }
}

/// Names are what user databases hold: what can't be one is a mistake, and must not match nobody.
fn named(text: &str, name: &str) -> Result<String, Mistake> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | ',' | '*' | '@');
    if name.is_empty() || name.contains(bad) {
        return Err(no_user(text));
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Mistake::new(format!("`{text}` may be a number or a name"))
            .hint(format!("write `uid:{name}` or `gid:{name}` for a number")));
    }
    Ok(name.to_owned())
}

fn number(text: &str, digits: &str) -> Result<u32, Mistake> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // The last number is no user's: the kernel's word for "nobody at all".
    plain.then(|| digits.parse().ok()).flatten().filter(|n| *n != u32::MAX).ok_or_else(|| no_user(text))
}

fn no_user(text: &str) -> Mistake {
    Mistake::new(format!("`{}` matches no user", text.escape_debug()))
        .hint("write a user's name, `group:NAME`, `uid:NUMBER`, `gid:NUMBER`, `ident:NAME` or `ident:*`")
}

impl fmt::Display for UserPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { word, .. } | Self::Group { word, .. } => f.write_str(word),
            Self::Ident(name) => write!(f, "ident:{name}"),
            Self::AnyIdent => f.write_str("ident:*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read() {
        for (text, expected) in [
            ("alice", Some(UserWord::Name("alice".to_owned()))),
            ("Alice-2", Some(UserWord::Name("Alice-2".to_owned()))),
            ("uid:1000", Some(UserWord::Uid(1000))),
            ("gid:0", Some(UserWord::Gid(0))),
            ("group:wheel", Some(UserWord::Group("wheel".to_owned()))),
            ("ident:alice", Some(UserWord::Ident("alice".to_owned()))),
            ("ident:*", Some(UserWord::AnyIdent)),
            ("", None),
            ("1000", None),
            ("*", None),
            ("a b", None),
            ("uid:", None),
            ("uid:-1", None),
            ("uid:+1", None),
            ("uid:4294967295", None),
            ("group:", None),
            ("ident:", None),
            ("cert:x", None),
        ] {
            assert_eq!(text.parse::<UserWord>().ok(), expected, "{text:?}");
        }
    }
}
