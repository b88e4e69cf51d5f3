//! The steps of a launch: their order, their numbers in the slot, and their words in the log. Knows no system call.

/// A step of a launch, in the order in which a child takes them; the number stands in the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // their words say it
pub enum Step {
    Receive = 1,
    Clone,
    Stage,
    Signals,
    Session,
    Stdio,
    Descriptors,
    Nice,
    Umask,
    Chroot,
    WorkingDirectory,
    Rlimits,
    Groups,
    Group,
    User,
    NoNewPrivileges,
    Exec,
}

impl Step {
    const ALL: [Self; 17] = [
        Self::Receive,
        Self::Clone,
        Self::Stage,
        Self::Signals,
        Self::Session,
        Self::Stdio,
        Self::Descriptors,
        Self::Nice,
        Self::Umask,
        Self::Chroot,
        Self::WorkingDirectory,
        Self::Rlimits,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::NoNewPrivileges,
        Self::Exec,
    ];

    /// The step with this number; none for a number that no step has.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as u32 == number)
    }

    /// The words of the log: "launch of ftp failed at *set user*".
    pub fn words(self) -> &'static str {
        match self {
            Self::Receive => "receive descriptors",
            Self::Clone => "make process",
            Self::Stage => "prepare",
            Self::Signals => "reset signals",
            Self::Session => "new session",
            Self::Stdio => "set stdio",
            Self::Descriptors => "close descriptors",
            Self::Nice => "set nice",
            Self::Umask => "set umask",
            Self::Chroot => "change root",
            Self::WorkingDirectory => "change directory",
            Self::Rlimits => "set rlimits",
            Self::Groups => "set groups",
            Self::Group => "set group",
            Self::User => "set user",
            Self::NoNewPrivileges => "set no_new_privileges",
            Self::Exec => "exec",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_numbers_and_words() {
        for step in Step::ALL {
            assert_eq!(Step::from_number(step as u32), Some(step));
            assert!(!step.words().is_empty());
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(99), None);
    }
}
