//! The one table of keys. It drives reading, the hints for unknown keys, the "not served yet" errors, the
//! JSON Schema and the key reference of superd.toml(5): a key exists everywhere or nowhere.

use super::settings::Resource;

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds where it is not said, in words; empty for nothing.
    pub default: &'static str,
    /// One line for the manual.
    pub doc: &'static str,
    /// Does this version serve it?
    pub service: Served,
    /// For socket options: which sockets it is set on.
    pub set_on: Option<SetOn>,
}

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Yes.
    Now,
    /// In a later version.
    Later,
    /// It can't hold for the services of this version, and why.
    Never(&'static str),
}

/// The sockets that an option is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOn {
    /// The listening socket.
    Listener,
    /// Each accepted one.
    Connection,
    /// The listening one, whose connections inherit it.
    Both,
}

/// What a limit of setrlimit(2) counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Things.
    Count,
    /// Bytes.
    Size,
    /// Seconds.
    Seconds,
    /// Microseconds.
    Microseconds,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// true or false.
    Flag,
    /// A whole number.
    Number(i64, i64),
    /// A text.
    Text,
    /// A path; a relative one begins at the folder of the file.
    Path,
    /// A duration.
    Time,
    /// A duration of whole seconds.
    WholeSeconds,
    /// A size in bytes, at most so many.
    Size(u64),
    /// An octal number as a text.
    Octal,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// One of a few words, or a path.
    WordOrPath(&'static [&'static str]),
    /// A program and its arguments.
    Command,
    /// Names of variables.
    Variables,
    /// Variables and their values.
    Environment,
    /// A user: a name or a number.
    User,
    /// A group: a name or a number.
    Group,
    /// A list of groups.
    Groups,
    /// Where to listen.
    Listen,
    /// A text, or a file that holds it.
    Banner,
    /// A limit of setrlimit(2).
    Rlimit(Resource, Measure),
    /// A table that is merged with the defaults key by key.
    Table(&'static [Key]),
    /// A table that is one value.
    Inline(&'static [Key]),
    /// Named tables of keys: the services.
    Named(&'static [Key]),
    /// Files to include.
    Include,
    /// Addresses, networks and names of clients.
    Clients,
    /// Anything: what a later version looks at.
    Any,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, service: Served::Now, set_on: None }
}

const fn later(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", doc, service: Served::Later, set_on: None }
}

const fn never(name: &'static str, doc: &'static str, why: &'static str) -> Key {
    Key { name, kind: Kind::Any, default: "", doc, service: Served::Never(why), set_on: None }
}

const fn option(
    name: &'static str,
    kind: Kind,
    set_on: SetOn,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, doc, service: Served::Now, set_on: Some(set_on) }
}

const fn rlimit(name: &'static str, resource: Resource, measure: Measure, doc: &'static str) -> Key {
    key(name, Kind::Rlimit(resource, measure), "as superd was started with", doc)
}

use Kind::{
    Any, Banner, Clients, Command, Environment, Flag, Group, Groups, Include, Inline, Listen, Named, Number,
    Octal, Path, Size, Table, Text, Time, User, Variables, WholeSeconds, Word, WordOrPath,
};
use SetOn::{Both, Connection, Listener};

const KERNELS: &str = "the kernel's";
const U32: i64 = u32::MAX as i64;
const I32: i64 = i32::MAX as i64;
const NO_TRAFFIC: &str =
    "superd does not see the traffic of an exec service, the program has the connection itself";

/// The names that `[log] facility` may have.
pub static FACILITIES: [&str; 19] = facility_names();

const fn facility_names() -> [&'static str; 19] {
    let mut names = [""; 19];
    let mut i = 0;
    while i < names.len() {
        names[i] = super::settings::Facility::NAMES[i].0;
        i += 1;
    }
    names
}

/// Severities, gravest first.
pub static LEVELS: [&str; 6] = ["crit", "err", "warning", "notice", "info", "debug"];

/// The top of a file.
pub static TOP: &[Key] = &[
    key(
        "include",
        Include,
        "",
        "Files to read too, relative to this one; `*` in the last component; sorted by name.",
    ),
    key("daemon", Table(DAEMON), "", "superd itself."),
    key("log", Table(LOG), "", "Where superd's log goes."),
    key("defaults", Table(SERVICE), "", "Any key of a service: what holds where a service does not say it."),
    key("service", Named(SERVICE), "", "One table for each service, `[service.NAME]`."),
    later("sets", Any, "Named sets of addresses."),
    later("hours", Any, "Named times."),
];

/// `[daemon]`.
pub static DAEMON: &[Key] = &[
    key(
        "control",
        Path,
        "/run/superd/control.sock",
        "The control socket that superctl talks to. Without root it is below XDG_RUNTIME_DIR.",
    ),
    key(
        "control_group",
        Group,
        "root's own",
        "The group that owns the control socket and may ask; changing is for root.",
    ),
    key(
        "state_dir",
        Path,
        "/var/lib/superd",
        "Where state.json is written. Without root it is ~/.local/state/superd.",
    ),
    key("pid_file", Path, "/run/superd/superd.pid", "The locked pid file: the guard against a second start."),
    key(
        "helper_user",
        User,
        "superd",
        "Whom the helping processes of superd run as; without root, whoever runs superd.",
    ),
    key(
        "multiplexer",
        Word(&["auto", "poll", "epoll"]),
        "auto",
        "How listeners are waited for: poll, and with hundreds of them poll over an epoll set.",
    ),
    key("launcher", Word(&["auto", "staged"]), "auto", "How children are made."),
    key("max_sessions", Number(1, 4_000_000), "10000", "Sessions over all services, at most."),
    key("shutdown_grace", Time, "10s", "How long sessions may go on after superd was told to end."),
    key("zone", Text, "local", "The time zone: local, or a name like Europe/Warsaw."),
    later("never_ban", Any, "Clients that no service bans."),
    later("admin_group", Group, "The group that may change things through the control socket."),
];

/// `[log]`.
pub static LOG: &[Key] = &[
    key(
        "target",
        WordOrPath(&["auto", "syslog", "journal", "stderr"]),
        "auto",
        "Where lines go; a path is a file.",
    ),
    key("facility", Word(&FACILITIES), "daemon", "The syslog facility."),
    key("socket", Path, "/dev/log", "The syslog socket."),
    key("tag", Text, "superd", "The syslog tag."),
    key(
        "fallback",
        Word(&["console", "stderr", "none"]),
        "console",
        "Where errors go while no log daemon answers.",
    ),
    key("level", Word(&LEVELS), "info", "Less important lines are not written."),
    key(
        "format",
        Word(&["superd", "xinetd"]),
        "superd",
        "The wording; xinetd's is for filters that already match it.",
    ),
    key("client", Word(&["full", "prefix", "none"]), "full", "How much of a client's address is written."),
];

/// `[service.NAME]` and `[defaults]`.
pub static SERVICE: &[Key] = &[
    key(
        "listen",
        Listen,
        "must be said",
        "Where to listen, `tcp:[ADDRESS:]PORT[%INTERFACE]`: a text or a list of them.",
    ),
    key(
        "exec",
        Command,
        "must be said",
        "The program, by its absolute path, and its arguments; one process for each connection.",
    ),
    key("argv0", Text, "the path", "What the program finds as its own name."),
    key("user", User, "must be said as root", "Whom the program runs as; a number needs `group`."),
    key("group", Group, "the user's", "The group the program runs as."),
    key("groups", Groups, "the user's own", "Supplementary groups; [] for none."),
    key("umask", Octal, "022", "The file mode creation mask."),
    key("nice", Number(-20, 19), "0", "Added to superd's own niceness."),
    key("cwd", Path, "/", "The working directory, inside of `chroot`."),
    key("chroot", Path, "", "The root directory; the program is looked for inside of it."),
    key(
        "env",
        Environment,
        "",
        "Variables for the program, beside PATH, LANG, HOME, SHELL, USER and LOGNAME.",
    ),
    key(
        "pass_env",
        Variables,
        "[]",
        "Variables that the program gets from superd's own environment, where it has them.",
    ),
    key(
        "rlimits",
        Table(RLIMITS),
        "",
        "Limits of setrlimit(2): a value, or { soft, hard }; \"unlimited\" is one.",
    ),
    key("limits", Table(LIMITS), "", "How much of the service may be used at once."),
    key("timeout", Table(TIMEOUT), "", "Deadlines of a session."),
    key(
        "no_new_privileges",
        Flag,
        "false",
        "No set-user-ID program gains anything below the service (PR_SET_NO_NEW_PRIVS).",
    ),
    key("stderr", Word(&["socket", "log", "null"]), "socket", "Where the program's standard error goes."),
    key("banner", Table(BANNER), "", "Texts for clients, at most 4 KiB each."),
    key("socket", Table(SOCKET), "", "Socket options."),
    key("log", Table(SERVICE_LOG), "", "What of the service is logged."),
    key("enabled", Flag, "true", "false: the service is checked, but not bound."),
    later("wait", Any, "One process per listener, which gets the listening socket."),
    later("builtin", Any, "A service of superd itself."),
    later("pool", Any, "Workers that are started ahead."),
    later("relay", Any, "Pass the connection on to another host."),
    later("quotes", Any, "Quotes of the built-in qotd."),
    later("allow", Clients, "Clients that may use the service."),
    later("deny", Clients, "Clients that may not."),
    later("users", Any, "Users that may use the service."),
    later("hours", Any, "When the service may be used."),
    later("end_sessions", Any, "The end of `hours` ends sessions."),
    later("rule", Any, "Rules, the first that matches wins."),
    later("otherwise", Any, "What holds where no rule matches."),
    later("hosts_access", Any, "Also ask /etc/hosts.allow and /etc/hosts.deny."),
    later("ban", Any, "When a client is banned."),
    later("sandbox", Any, "What the program is shut in."),
    later("tls", Any, "Speak TLS to the client."),
    later("proxy_from", Any, "Proxies that are believed who the client is."),
    later("advertise", Any, "Make the service known on the network."),
];

static LIMITS: &[Key] = &[
    key("connections", Number(1, 4_000_000), "256", "Sessions of the service at once; \"none\" lifts it."),
    key(
        "per_source",
        Number(1, 4_000_000),
        "none",
        "Sessions of one source at once; a source beyond it is refused.",
    ),
    key(
        "on_limit",
        Word(&["queue", "close"]),
        "queue",
        "Clients beyond `connections` wait in the kernel's queue, or are closed with the `busy` banner.",
    ),
    key("source_prefix", Inline(SOURCE_PREFIX), "{ v4 = 32, v6 = 64 }", "What counts as one source."),
    later("rate", Any, "New sessions of the service in a time."),
    later("rate_per_source", Any, "New sessions of one source in a time."),
    later("load", Any, "The load average beyond which nobody is served."),
];

static SOURCE_PREFIX: &[Key] = &[
    key("v4", Number(0, 32), "32", "Leading bits of an IPv4 address."),
    key("v6", Number(0, 128), "64", "Leading bits of an IPv6 address."),
];

static TIMEOUT: &[Key] = &[
    key("session", Time, "none", "A session's whole life; at its end the program gets TERM."),
    key("kill_after", Time, "5s", "From TERM to KILL."),
    never("idle", "How long nothing may be said.", NO_TRAFFIC),
    never("handshake", "How long until the first byte.", NO_TRAFFIC),
    later("drain", Any, "How long what the client still sends is read after the program's end."),
];

static BANNER: &[Key] = &[
    key("accept", Banner, "", "To a client that is let in, before the program runs."),
    key("refuse", Banner, "", "To a client that is refused."),
    key("busy", Banner, "", "To a client beyond a limit."),
];

/// `banner.NAME = { … }`.
pub static BANNER_FILE: &[Key] = &[key("file", Path, "must be said", "The file that holds the text.")];

/// `rlimits.NAME = { … }`; the values are read as the limit itself is.
pub static SOFT_HARD: &[Key] = &[
    key("soft", Any, "must be said", "The limit in force."),
    key("hard", Any, "must be said", "How far the program may raise it."),
];

static SERVICE_LOG: &[Key] = &[
    key("success", Flag, "true", "Write start and end lines."),
    key("failure", Flag, "true", "Write refuse lines."),
    key("facility", Word(&FACILITIES), "that of [log]", "The syslog facility of the service."),
    key("level", Word(&LEVELS), "info", "The level of start and end lines."),
];

static RLIMITS: &[Key] = &[
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

static SOCKET: &[Key] = &[
    option(
        "backlog",
        Number(1, I32),
        Listener,
        "1024",
        "Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.",
    ),
    option(
        "keepalive",
        Inline(KEEPALIVE),
        Connection,
        KERNELS,
        "Ask silent clients whether they live (SO_KEEPALIVE); { } for the system's times.",
    ),
    option(
        "user_timeout",
        Time,
        Connection,
        KERNELS,
        "How long sent data may stay unacknowledged (TCP_USER_TIMEOUT).",
    ),
    option(
        "linger",
        WholeSeconds,
        Connection,
        KERNELS,
        "How long close waits (SO_LINGER); \"0s\" makes it send a reset.",
    ),
    option("nodelay", Flag, Connection, KERNELS, "Send small segments at once (TCP_NODELAY)."),
    option("receive_buffer", Size(I32 as u64), Both, KERNELS, "SO_RCVBUF."),
    option("send_buffer", Size(I32 as u64), Both, KERNELS, "SO_SNDBUF."),
    option("receive_timeout", Time, Connection, KERNELS, "SO_RCVTIMEO."),
    option("send_timeout", Time, Connection, KERNELS, "SO_SNDTIMEO."),
    option("receive_low_water", Size(I32 as u64), Connection, KERNELS, "SO_RCVLOWAT."),
    option("ttl", Number(1, 255), Both, KERNELS, "Hops that a packet may make (IP_TTL, IPV6_UNICAST_HOPS)."),
    option("min_ttl", Number(1, 255), Both, KERNELS, "Packets with fewer hops left are dropped (RFC 5082)."),
    option("tos", Number(0, 255), Both, KERNELS, "Type of service (IP_TOS, IPV6_TCLASS)."),
    option("max_segment", Number(88, 32_767), Both, KERNELS, "Bytes in a segment (TCP_MAXSEG)."),
    option("oob_inline", Flag, Connection, KERNELS, "Urgent data among the rest (SO_OOBINLINE)."),
    option("reuse_address", Flag, Listener, "true", "Bind while old connections linger (SO_REUSEADDR)."),
    option(
        "reuse_port",
        Flag,
        Listener,
        "false",
        "Share the port with other processes of the same user (SO_REUSEPORT).",
    ),
    option(
        "defer_accept",
        WholeSeconds,
        Listener,
        KERNELS,
        "Wake superd when data has come (TCP_DEFER_ACCEPT).",
    ),
    option(
        "fast_open",
        Number(0, I32),
        Listener,
        KERNELS,
        "Length of the queue of TCP Fast Open; 0 for none.",
    ),
    option(
        "free_bind",
        Flag,
        Listener,
        "false",
        "Bind an address that the host does not have yet (IP_FREEBIND).",
    ),
    option("transparent", Flag, Listener, "false", "Bind addresses of others (IP_TRANSPARENT)."),
    option("mark", Number(0, U32), Both, KERNELS, "SO_MARK."),
    option("priority", Number(0, I32), Both, KERNELS, "SO_PRIORITY."),
    later("broadcast", Any, "Receive broadcasts."),
    later("multicast_ttl", Any, "Hops of multicast packets."),
    later("multicast_loop", Any, "Hear one's own multicast packets."),
    later("multicast_interface", Any, "The interface for multicast packets."),
];

static KEEPALIVE: &[Key] = &[
    key("idle", WholeSeconds, KERNELS, "Silence before the first question (TCP_KEEPIDLE)."),
    key("interval", WholeSeconds, KERNELS, "Between two questions (TCP_KEEPINTVL)."),
    key(
        "count",
        Number(1, 127),
        KERNELS,
        "Questions without an answer that end the connection (TCP_KEEPCNT).",
    ),
];

/// The limits of setrlimit(2), with their keys.
pub fn resources() -> impl Iterator<Item = (Resource, &'static str)> {
    RLIMITS.iter().filter_map(|key| match key.kind {
        Kind::Rlimit(resource, _) => Some((resource, key.name)),
        _ => None,
    })
}

/// The key of a table by its name.
pub fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// The key that was probably meant: near in spelling.
pub fn nearest(keys: &'static [Key], name: &str) -> Option<&'static str> {
    nearest_word(keys.iter().map(|key| key.name), name)
}

/// The word that is nearest to `given`, if it is near at all.
pub fn nearest_word<'a>(words: impl Iterator<Item = &'a str>, given: &str) -> Option<&'a str> {
    if given.len() > 64 {
        return None;
    }
    let allowed = (given.chars().count() / 3).max(1);
    words.map(|word| (distance(word, given), word)).filter(|(d, _)| *d <= allowed).min().map(|(_, word)| word)
}

/// Where else a key of this name exists: `limits` for `per_source`.
pub fn home_of(name: &str) -> Option<&'static str> {
    let tables = [("[daemon]", DAEMON), ("[log]", LOG), ("a service", SERVICE)];
    let within = SERVICE.iter().filter_map(|key| match key.kind {
        Table(keys) => Some((key.name, keys)),
        _ => None,
    });
    within.chain(tables).find(|(_, keys)| find(keys, name).is_some()).map(|(home, _)| home)
}

/// How many insertions, deletions, replacements and swaps of neighbours lie between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = |i: usize, j: usize| table.get(i * width + j).copied().unwrap_or(usize::MAX / 2);
            let best = if i == 0 || j == 0 {
                i + j
            } else {
                let same = a.get(i - 1) == b.get(j - 1);
                let mut best =
                    (at(i - 1, j) + 1).min(at(i, j - 1) + 1).min(at(i - 1, j - 1) + usize::from(!same));
                if i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1) {
                    best = best.min(at(i - 2, j - 2) + 1);
                }
                best
            };
            if let Some(cell) = table.get_mut(i * width + j) {
                *cell = best;
            }
        }
    }
    table.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_small_for_slips() {
        for (a, b, expected) in [
            ("", "", 0),
            ("listen", "listen", 0),
            ("listen", "lisetn", 1),
            ("exec", "exce", 1),
            ("user", "usr", 1),
            ("nice", "ice", 1),
            ("a", "", 1),
            ("per_source", "persource", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_key_is_suggested() {
        for (given, expected) in [
            ("lisen", Some("listen")),
            ("uesr", Some("user")),
            ("passenv", Some("pass_env")),
            ("xyzzy", None),
        ] {
            assert_eq!(nearest(SERVICE, given), expected, "{given}");
        }
        assert_eq!(home_of("per_source"), Some("limits"));
        assert_eq!(home_of("control"), Some("[daemon]"));
        assert_eq!(home_of("xyzzy"), None);
    }

    #[test]
    fn every_key_is_unique_and_documented() {
        fn check(keys: &'static [Key]) {
            for (i, key) in keys.iter().enumerate() {
                assert!(key.doc.ends_with('.'), "{}: {:?}", key.name, key.doc);
                assert!(!keys[..i].iter().any(|other| other.name == key.name), "{} is there twice", key.name);
                if let Table(inner) | Inline(inner) | Named(inner) = key.kind {
                    check(inner);
                }
            }
        }
        check(TOP);
    }
}
