//! What the matching of a pattern can come to, and how such answers add up.
//!
//! Knows nothing of patterns.

use super::request::Need;

/// Does it match?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    /// It does not.
    No,
    /// Nobody can tell: a look-up came to nothing. A rule that refuses takes it for yes, one that allows for no.
    Maybe,
    /// It does.
    Yes,
    /// Not known before that is found out.
    Need(Need),
}

impl From<bool> for Match {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Match {
    /// Is one of them a yes? No look-up is asked for where another answer makes it needless.
    pub(super) fn any(answers: impl Iterator<Item = Self>) -> Self {
        let mut sum = Self::No;
        for answer in answers {
            sum = match (sum, answer) {
                (_, Self::Yes) => return Self::Yes,
                (need @ Self::Need(_), _) | (_, need @ Self::Need(_)) => need,
                (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
                _ => Self::No,
            };
        }
        sum
    }

    /// Are both a yes?
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (need @ Self::Need(_), _) | (_, need @ Self::Need(_)) => need,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
            _ => Self::Yes,
        }
    }

    /// The opposite.
    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Yes => Self::No,
            unsure => unsure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::End;
    use super::*;

    #[test]
    fn answers_add_up() {
        let [no, maybe, yes, need] =
            [Match::No, Match::Maybe, Match::Yes, Match::Need(Need::Name(End::Client))];
        for (a, b, any, and) in [
            (&no, &no, &no, &no),
            (&no, &maybe, &maybe, &no),
            (&no, &yes, &yes, &no),
            (&no, &need, &need, &no),
            (&maybe, &maybe, &maybe, &maybe),
            (&maybe, &yes, &yes, &maybe),
            (&maybe, &need, &need, &need),
            (&yes, &yes, &yes, &yes),
            (&yes, &need, &yes, &need),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                assert_eq!(&Match::any([a.clone(), b.clone()].into_iter()), any, "{a:?} or {b:?}");
                assert_eq!(&a.clone().and(b.clone()), and, "{a:?} and {b:?}");
            }
        }
        assert_eq!((no.clone().not(), yes.clone().not(), maybe.clone().not()), (yes, no, maybe));
        assert_eq!(Match::any([].into_iter()), Match::No);
    }
}
