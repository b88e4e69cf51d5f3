//! What a test says: yes, no, that it can't be told, or what must be asked first. And how such answers add up.

use serde::Serialize;

/// The answer of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It matches; by this.
    Yes(Cause),
    /// It does not.
    No,
    /// It can't be told, and never will be.
    Unknown(Doubt),
    /// It can't be told before this is asked.
    Pending(Needs),
}

/// What decided: the dearest test that was needed. From the cheapest to the dearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The client's address.
    Address,
    /// The time.
    Hours,
    /// The client's name.
    Name,
    /// The client's user.
    User,
    /// Something that can't be told.
    Undecided,
}

impl Cause {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Hours => "hours",
            Self::Name => "name",
            Self::User => "user",
            Self::Undecided => "undecided",
        }
    }
}

/// Why something can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// The name service gave no answer in time, or an error.
    Name,
    /// The client is no user of this machine, or the kernel does not say whom it belongs to.
    User,
    /// The client's RFC 1413 server gave no answer.
    Ident,
    /// A set is not there.
    Set,
    /// The hours are not there, or the clock is off the calendar.
    Hours,
}

impl Doubt {
    /// In words, after "it can't be told: ".
    pub fn words(self) -> &'static str {
        match self {
            Self::Name => "the name service gave no answer",
            Self::User => "no user of this machine is known",
            Self::Ident => "no ident server answered",
            Self::Set => "the set is not there",
            Self::Hours => "the hours are not there",
        }
    }
}

/// What must be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// The user behind a connection from this machine: the kernel knows.
    pub user: bool,
    /// The confirmed name of the client's address.
    pub name: bool,
    /// What the client's RFC 1413 server says.
    pub ident: bool,
}

impl Needs {
    /// The user alone.
    pub const USER: Self = Self { user: true, name: false, ident: false };
    /// The name alone.
    pub const NAME: Self = Self { user: false, name: true, ident: false };
    /// The ident answer alone.
    pub const IDENT: Self = Self { user: false, name: false, ident: true };

    /// Is nothing needed?
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// In words, after "it depends on ".
    pub fn words(self) -> String {
        let all = [(self.user, "the user"), (self.name, "the name"), (self.ident, "the ident answer")];
        let needed: Vec<&str> = all.into_iter().filter(|(needed, _)| *needed).map(|(_, word)| word).collect();
        needed.join(" and ")
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            user: self.user || other.user,
            name: self.name || other.name,
            ident: self.ident || other.ident,
        }
    }

    /// The one of them that costs least: with its answer, the others may not matter any more.
    #[must_use]
    pub fn cheapest(self) -> Self {
        match self {
            Self { user: true, .. } => Self::USER,
            Self { name: true, .. } => Self::NAME,
            rest => rest,
        }
    }
}

impl Truth {
    /// A test that is answered.
    pub fn told(matches: bool, cause: Cause) -> Self {
        if matches { Self::Yes(cause) } else { Self::No }
    }

    /// Does any of them match?
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes(_), _) => self,
            (_, Self::Yes(_)) => other,
            (Self::Pending(a), Self::Pending(b)) => Self::Pending(a.and(b)),
            (Self::Pending(_), _) | (Self::Unknown(_), Self::Unknown(_) | Self::No) => self,
            (Self::Unknown(_) | Self::No, _) => other,
        }
    }

    /// Do both match?
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Pending(a), Self::Pending(b)) => Self::Pending(a.and(b)),
            (Self::Yes(a), Self::Yes(b)) => Self::Yes(a.max(b)),
            (Self::Pending(_), _) | (Self::Unknown(_), Self::Unknown(_) | Self::Yes(_)) => self,
            (Self::Unknown(_) | Self::Yes(_), _) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: Truth = Truth::Yes(Cause::Address);
    const NO: Truth = Truth::No;
    const UNKNOWN: Truth = Truth::Unknown(Doubt::Name);
    const PENDING: Truth = Truth::Pending(Needs::NAME);

    #[test]
    fn answers_add_up() {
        for (a, b, both, any) in [
            (YES, YES, YES, YES),
            (YES, NO, NO, YES),
            (YES, UNKNOWN, UNKNOWN, YES),
            (YES, PENDING, PENDING, YES),
            (NO, NO, NO, NO),
            (NO, UNKNOWN, NO, UNKNOWN),
            (NO, PENDING, NO, PENDING),
            (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN),
            (UNKNOWN, PENDING, PENDING, PENDING),
            (PENDING, PENDING, PENDING, PENDING),
        ] {
            assert_eq!((a.and(b), b.and(a)), (both, both), "{a:?} and {b:?}");
            assert_eq!((a.or(b), b.or(a)), (any, any), "{a:?} or {b:?}");
        }
    }

    #[test]
    fn causes_and_needs_add_up() {
        let (hours, user) = (Truth::Yes(Cause::Hours), Truth::Yes(Cause::User));
        assert_eq!((hours.and(user), hours.or(user)), (user, hours));
        let both = Needs::NAME.and(Needs::IDENT);
        assert_eq!(PENDING.or(Truth::Pending(Needs::IDENT)), Truth::Pending(both));
        assert_eq!((both.cheapest(), both.and(Needs::USER).cheapest()), (Needs::NAME, Needs::USER));
        assert_eq!(Needs::IDENT.cheapest(), Needs::IDENT);
        assert!(Needs::default().cheapest().is_empty());
    }
}
