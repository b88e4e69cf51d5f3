//! The name service switch. A superwrap that is linked statically starts in a fifth of the time, and has the services
//! `files` and `dns` in it; where nsswitch.conf(5) wants others its twin decides, which is linked to the system's
//! libraries and has all of them.

use std::path::Path;

use super::Start;
use super::program;

/// superwrap itself, linked to the system's libraries.
const TWIN: &str = "/usr/lib/superd/superwrap";

const SWITCH: &str = "/etc/nsswitch.conf";

/// A database of nsswitch.conf(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    /// Names of addresses.
    Hosts,
    /// Users and groups.
    Users,
    /// Netgroups.
    Netgroups,
}

impl Database {
    fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Hosts => &["hosts"],
            Self::Users => &["passwd", "group", "initgroups"],
            Self::Netgroups => &["netgroup"],
        }
    }
}

/// Sees that this process can ask the database; else it becomes its twin, and does not come back. The error is for an
/// admin.
pub(super) fn need(database: Database, start: &Start) -> Result<(), String> {
    if !start.is_static {
        return Ok(());
    }
    let text = std::fs::read_to_string(Path::new(SWITCH)).unwrap_or_default();
    if is_built_in(&text, database) {
        return Ok(());
    }
    let error = program::become_twin(TWIN.as_ref(), start);
    Err(format!("{SWITCH} names services that only {TWIN} can ask, and it can't be run: {error}"))
}

/// Are all services of the database in the C library itself? Without a line it has its own.
fn is_built_in(text: &str, database: Database) -> bool {
    let lines = text.lines().filter_map(|line| line.split('#').next()?.split_once(':'));
    let mut services = lines
        .filter(|(name, _)| database.lines().contains(&name.trim()))
        .flat_map(|(_, services)| services.split_whitespace())
        .filter(|word| !word.starts_with('[') && !word.ends_with(']') && !word.contains('='));
    match database {
        Database::Hosts => services.all(|service| matches!(service, "files" | "dns")),
        Database::Users => services.all(|service| service == "files"),
        Database::Netgroups => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_services_are_known() {
        for (text, database, expected) in [
            ("", Database::Hosts, true),
            ("hosts: files dns", Database::Hosts, true),
            ("hosts:\tfiles [NOTFOUND=return] dns # mdns", Database::Hosts, true),
            ("hosts: files [ !SUCCESS = return ] dns", Database::Hosts, false),
            ("hosts: files mdns4_minimal [NOTFOUND=return] dns", Database::Hosts, false),
            ("passwd: files\ngroup: files\nhosts: nis", Database::Users, true),
            ("passwd: files systemd", Database::Users, false),
            ("group: files systemd", Database::Users, false),
            ("netgroup: files", Database::Netgroups, false),
        ] {
            assert_eq!(is_built_in(text, database), expected, "{text} {database:?}");
        }
    }
}
