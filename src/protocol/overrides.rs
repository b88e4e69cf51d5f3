//! What differs from its plan for one launch, since hosts.allow or hosts.deny says so of the client.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::settings::Program;
use crate::model::identity::Identity;

/// The longest text of this, so that it fits into a packet with others.
pub const MAX_TEXT: usize = 12 * 1024;

/// What differs; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// Run in place of the program.
    pub command: Option<Vec<String>>,
    /// Variables, beside those of the plan.
    pub env: BTreeMap<String, String>,
    /// The file mode creation mask.
    pub umask: Option<u32>,
    /// Added to the niceness of the plan.
    pub nice: i32,
    /// Whom it runs as.
    pub identity: Option<Identity>,
    /// Its group, in place of that user's or the plan's.
    pub gid: Option<u32>,
}

impl Overrides {
    /// As a launch carries it; none if nothing differs.
    pub fn encode(&self) -> Option<String> {
        (*self != Self::default()).then(|| serde_json::to_string(self).ok()).flatten()
    }

    /// Reads it.
    pub fn decode(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Makes the program what this launch is to run. A command is a shell's, found outside of nothing: it is
    /// looked for inside of a `chroot`, as the program is.
    pub fn apply(self, program: &mut Program) {
        if let Some(command) = self.command
            && let Some(path) = command.first()
        {
            program.path = path.into();
            program.argv = command;
        }
        program.env.extend(self.env);
        program.umask = self.umask.unwrap_or(program.umask);
        program.nice = program.nice.saturating_add(self.nice);
        // Where superd is not root it can be nobody else.
        if let Some(identity) = &mut program.identity {
            if let Some(other) = self.identity {
                *identity = other;
            }
            identity.gid = self.gid.unwrap_or(identity.gid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_survives_the_way() {
        assert_eq!(Overrides::default().encode(), None);
        let some = Overrides {
            command: Some(vec!["/bin/sh".into(), "-c".into(), "echo no".into()]),
            env: BTreeMap::from([("A".into(), "1".into())]),
            umask: Some(0o77),
            nice: 5,
            identity: Some(Identity { uid: 1, gid: 2, groups: vec![3] }),
            gid: Some(4),
        };
        assert_eq!(some.encode().as_deref().and_then(Overrides::decode), Some(some));
        assert_eq!(Overrides::decode("{"), None);
    }
}
