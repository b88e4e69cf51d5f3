//! What a client may be banned for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that counts towards a ban: a word of `ban.on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Offence {
    /// It was refused by a rule, or for its sessions at once.
    Refused,
    /// It came more often than `rate_per_source` lets it.
    Rate,
    /// The program that served it ended with this status.
    Exit(u8),
    /// The program that served it was ended by a signal that was not superd's.
    Signal,
    /// It came to a decoy.
    Sensor,
}

impl Offence {
    /// Reads a word of `ban.on`. What a decoy does is no word: that is what a decoy is for.
    pub fn new(text: &str) -> Option<Self> {
        match text {
            "refused" => Some(Self::Refused),
            "rate" => Some(Self::Rate),
            "signal" => Some(Self::Signal),
            _ => {
                let status = text.strip_prefix("exit:")?;
                let plain = status == "0" || !status.starts_with(['0', '+']);
                status.parse().ok().filter(|_| plain).map(Self::Exit)
            }
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Rate => f.write_str("rate"),
            Self::Exit(status) => write!(f, "exit:{status}"),
            Self::Signal => f.write_str("signal"),
            Self::Sensor => f.write_str("sensor"),
        }
    }
}

impl From<Offence> for String {
    fn from(offence: Offence) -> Self {
        offence.to_string()
    }
}

impl TryFrom<String> for Offence {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let sensor = (text == "sensor").then_some(Self::Sensor);
        Self::new(&text).or(sensor).ok_or_else(|| format!("{text:?} is no offence"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_offences() {
        for (text, expected) in [
            ("refused", Some(Offence::Refused)),
            ("rate", Some(Offence::Rate)),
            ("signal", Some(Offence::Signal)),
            ("exit:0", Some(Offence::Exit(0))),
            ("exit:255", Some(Offence::Exit(255))),
            ("exit:256", None),
            ("exit:01", None),
            ("exit:+1", None),
            ("exit:", None),
            ("exit", None),
            ("sensor", None),
            ("", None),
        ] {
            assert_eq!(Offence::new(text), expected, "{text}");
            assert!(expected.is_none_or(|offence| offence.to_string() == text), "{text}");
        }
        assert_eq!(Offence::try_from("sensor".to_owned()), Ok(Offence::Sensor));
    }
}
