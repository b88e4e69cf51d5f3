//! The rows of the key table for `rlimits`: the limits of setrlimit(2).

use super::key_table::key;
use super::keys::{Key, Kind, Measure};
use super::settings::Resource;

/// `rlimits`.
pub static RLIMITS: &[Key] = &[
    rlimit("as", Resource::As, Measure::Size, "Address space."),
    rlimit("core", Resource::Core, Measure::Size, "Core files."),
    rlimit("cpu", Resource::Cpu, Measure::Seconds, "Processor time, in whole seconds."),
    rlimit("data", Resource::Data, Measure::Size, "Data segment."),
    rlimit("fsize", Resource::Fsize, Measure::Size, "Size of a file."),
    rlimit("locks", Resource::Locks, Measure::Count, "File locks."),
    rlimit("memlock", Resource::Memlock, Measure::Size, "Locked memory."),
    rlimit("msgqueue", Resource::Msgqueue, Measure::Size, "POSIX message queues."),
    rlimit("nice", Resource::Nice, Measure::Count, "Ceiling of the niceness, 20 minus it."),
    rlimit("nofile", Resource::Nofile, Measure::Count, "Open files."),
    rlimit("nproc", Resource::Nproc, Measure::Count, "Processes of the user."),
    rlimit("rss", Resource::Rss, Measure::Size, "Resident memory."),
    rlimit("rtprio", Resource::Rtprio, Measure::Count, "Real-time priority."),
    rlimit(
        "rttime",
        Resource::Rttime,
        Measure::Microseconds,
        "Real-time processor time without a blocking call.",
    ),
    rlimit("sigpending", Resource::Sigpending, Measure::Count, "Pending signals."),
    rlimit("stack", Resource::Stack, Measure::Size, "Stack."),
];

/// `rlimits.NAME = { … }`; the values are read as the limit itself is.
pub static SOFT_HARD: &[Key] = &[
    key("soft", Kind::Any, "must be said", "The limit in force."),
    key("hard", Kind::Any, "must be said", "How far the program may raise it."),
];

const fn rlimit(name: &'static str, resource: Resource, measure: Measure, doc: &'static str) -> Key {
    key(name, Kind::Rlimit(resource, measure), "as superd was started with", doc)
}
