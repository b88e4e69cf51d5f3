//! The rows of the key table that are about access, but for those that stand in a service itself: rules, and what
//! sets, hours and `hosts_access` take as a table.

use super::key_table::key;
use super::keys::{Key, Kind};

use Kind::{Banner, Clients, Files, Flag, HoursName, Path, Text, Users, Windows, Word};

/// What becomes of a client.
pub(super) static ACTIONS: [&str; 2] = ["allow", "deny"];

/// `[[service.NAME.rule]]`.
pub static RULE: &[Key] = &[
    key("from", Clients, "any", "Clients that it matches."),
    key("users", Users, "", "Users that it matches."),
    key("hours", HoursName, "always", "When it matches."),
    key("action", Word(&ACTIONS), "must be said", "What becomes of who matches."),
    key(
        "mode",
        Word(&["observe"]),
        "",
        "observe: the rule decides nothing, and whom it would have refused is logged.",
    ),
    key("banner", Banner, "that of the service", "What is sent to who is refused by it."),
    key("log", Flag, "that of the service", "Is it logged what the rule decides?"),
];

/// `hosts_access = { … }`.
pub(super) static HOSTS_FILES: &[Key] = &[
    key("allow", Path, "/etc/hosts.allow", "Who is let in."),
    key("deny", Path, "/etc/hosts.deny", "Who is refused."),
    key("watch", Flag, "false", "They are read again when they change."),
];

/// A set of `[sets]` that is a table.
pub static SET_FILES: &[Key] = &[
    key("files", Files, "must be said", "List files: an address or a network a line, `#` begins a comment."),
    key("watch", Flag, "false", "The files are read again when they change."),
];

/// Hours of `[hours]` that are a table.
pub static HOURS_TIMES: &[Key] = &[
    key("times", Windows, "must be said", "The windows."),
    key("zone", Text, "that of [daemon]", "Their time zone."),
];
