//! Patterns on a text: a name, a user, a daemon. Equal, begins with, ends with, or `*` and `?`.
//!
//! Case never matters, as in libwrap. Knows nothing of what the text is.

use serde::{Deserialize, Serialize};

/// What a text must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextPattern {
    /// The whole of it.
    Exact(String),
    /// `in.`: it begins so.
    Prefix(String),
    /// `.example.org`: it ends so, and is longer.
    Suffix(String),
    /// `*` is any run of characters, `?` any one.
    Glob(String),
}

impl TextPattern {
    /// By what it holds: a glob character, a leading dot, a trailing dot, in that order.
    pub fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if text.contains(['*', '?']) {
            Self::Glob(text)
        } else if text.starts_with('.') {
            Self::Suffix(text)
        } else if text.ends_with('.') {
            Self::Prefix(text)
        } else {
            Self::Exact(text)
        }
    }

    /// Does it hold `*` or `?`?
    pub fn is_glob(&self) -> bool {
        matches!(self, Self::Glob(_))
    }

    /// Is `text` like that?
    pub fn matches(&self, text: &str) -> bool {
        let text = text.as_bytes();
        match self {
            Self::Exact(pattern) => text.eq_ignore_ascii_case(pattern.as_bytes()),
            Self::Prefix(pattern) => {
                text.get(..pattern.len()).is_some_and(|start| start.eq_ignore_ascii_case(pattern.as_bytes()))
            }
            Self::Suffix(pattern) => {
                let from = text.len().checked_sub(pattern.len()).filter(|&from| from > 0);
                let end = from.and_then(|from| text.get(from..));
                end.is_some_and(|end| end.eq_ignore_ascii_case(pattern.as_bytes()))
            }
            Self::Glob(pattern) => glob(pattern.as_bytes(), text),
        }
    }
}

/// Goes back to the last `*` alone, so that no pattern takes more than the product of both lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b'?') => (p, t) = (p + 1, t + 1),
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, t) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_texts() {
        check("sshd", &["sshd", "SSHD"], &["", "ssh", "sshd2", "in.sshd"]);
        check("in.", &["in.ftpd", "IN.x", "in."], &["in", "sin.x", ""]);
        check(
            ".tue.nl",
            &["pc1.win.tue.nl", "x.TUE.NL"],
            &["tue.nl", ".tue.nl", "evil-tue.nl", "tue.nl.x", ""],
        );
        check("*.tue.nl", &["pc1.win.tue.nl", ".tue.nl"], &["tue.nl", "pc.tue.nl."]);
        check("pc?.tue.nl", &["pc1.tue.nl"], &["pc.tue.nl", "pc12.tue.nl"]);
        check("*tue*", &["tue", "a.tue.b"], &["tu", ""]);
        check("a*b*c", &["abc", "aXbXbc", "abbbc"], &["ab", "acb", "abcd"]);
        check(".win.*", &[".win.tue.nl", ".win."], &["pc.win.tue.nl"]);
        check("*", &["", "x"], &[]);
        check("?", &["x"], &["", "xy"]);
    }

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = TextPattern::new(pattern);
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(pattern.matches(text), expected, "{pattern:?} and {text:?}");
            }
        }
    }

    #[test]
    fn no_glob_is_slow() {
        let pattern = TextPattern::new(&"*a".repeat(1000));
        assert!(!pattern.matches(&"a".repeat(999)));
        assert!(!TextPattern::new(&format!("{}b", "a*".repeat(1000))).matches(&"a".repeat(2000)));
    }
}
