//! The one table of keys: a key exists everywhere or nowhere. A row is a key: its name, what it takes, what holds
//! where it is not said, and its line of the manual. Knows no code that reads.
//!
//! Tables below a service have files of their own: [`super::option_table`], [`super::access_table`],
//! [`super::rlimit_table`].

use super::access_table::{ACTIONS, HOSTS_FILES, RULE};
use super::keys::{Key, Kind, Served};
use super::option_table::SOCKET;
use super::rlimit_table::RLIMITS;

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, service: Served::Now, option: None }
}

const fn later(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", doc, service: Served::Later, option: None }
}

use Kind::{
    Any, Banner, Clients, Command, Environment, Exempt, Flag, FlagOr, Group, Groups, Hours, HoursName,
    Include, Inline, Listen, Load, Named, Number, Octal, Offences, Path, Quotes, Rate, Rows, Sets, Table,
    Text, Time, TimeBetween, User, Users, Variables, Word, WordOrPath, Words,
};

/// The built-in services, and those of later versions.
pub(super) static BUILTINS: [&str; 8] =
    ["echo", "discard", "chargen", "daytime", "time", "qotd", "tcpmux", "sensor"];
static LATER_BUILTINS: [&str; 5] = ["metrics", "stun", "turn", "ident", "health"];

/// The names that `[log] facility` may have.
static FACILITIES: [&str; 19] = facility_names();

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
static LEVELS: [&str; 6] = ["crit", "err", "warning", "notice", "info", "debug"];

/// The top of a file.
pub static TOP: &[Key] = &[
    key(
        "include",
        Include,
        "",
        "Files to read too, relative to this one; `*` in the last component; sorted by name.",
    ),
    key("daemon", Table(DAEMON), "", "superd itself."),
    key("wrap", Table(WRAP), "", "superwrap; in its policy file alone, as superwrap(8) says."),
    key("log", Table(LOG), "", "Where superd's log goes."),
    key("defaults", Table(SERVICE), "", "Any key of a service: what holds where a service does not say it."),
    key("service", Named(SERVICE), "", "One table for each service, `[service.NAME]`."),
    key(
        "sets",
        Sets,
        "",
        "Named sets of addresses and networks, for rules as `@NAME`: a list of them, or files that hold one in each line.",
    ),
    key(
        "hours",
        Hours,
        "",
        "Named times: a list of windows like `Mon-Fri 08:00-18:00`, or a table that says their zone too.",
    ),
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
    key(
        "zone",
        Text,
        "local",
        "The time zone of hours that say none, and of the built-in daytime: local, or a name like Europe/Warsaw.",
    ),
    key(
        "never_ban",
        Exempt,
        "[]",
        "Clients that are never refused for a ban, whoever banned them: addresses, networks, local, link, @SET, any, unix.",
    ),
    later("admin_group", Group, "The group that may change things through the control socket."),
];

/// `[wrap]`.
pub static WRAP: &[Key] = &[
    key(
        "programs",
        Path,
        "/usr/lib/superwrap, then /usr/sbin",
        "Where the real programs are, for links to superwrap.",
    ),
    key(
        "deadline",
        TimeBetween(1, 600),
        "10s",
        "The time that a decision may take; after it the client is refused.",
    ),
    key("state", Path, "/var/lib/superd/superwrap.state", "The file that counts how often clients come."),
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
        "Where to listen: one endpoint or a list of them, as LISTENERS says.",
    ),
    key(
        "exec",
        Command,
        "one of exec, builtin and pool must be said",
        "The program, by its absolute path, and its arguments; one process for each connection, or with `wait` for each listener.",
    ),
    key(
        "builtin",
        Words(&BUILTINS, &LATER_BUILTINS),
        "",
        "A service of superd itself, as BUILT-IN SERVICES says; no program and no user of its own.",
    ),
    key(
        "quotes",
        Quotes,
        "must be said with qotd",
        "The quotes of the built-in qotd, at most 512 bytes each; a file has a line `%` between them.",
    ),
    key("pool", Inline(POOL), "", "Workers that are started ahead, as POOLS says."),
    key(
        "wait",
        Flag,
        "false",
        "true: one process for each listener, which gets the listener itself and has it until it ends.",
    ),
    key("argv0", Text, "the path", "What the program finds as its own name."),
    key(
        "user",
        User,
        "must be said as root where there is a program",
        "Whom the program runs as; a number needs `group`.",
    ),
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
    key(
        "ban",
        Table(BAN),
        "none; a sensor always has one",
        "When a source is banned from the service: it is refused until the ban ends. One key of it is enough.",
    ),
    key("timeout", Table(TIMEOUT), "", "Deadlines of a session."),
    key(
        "no_new_privileges",
        Flag,
        "false",
        "No set-user-ID program gains anything below the service (PR_SET_NO_NEW_PRIVS).",
    ),
    key(
        "stderr",
        Word(&["socket", "log", "null"]),
        "socket; log for a pool",
        "Where the program's standard error goes: to the client (with `wait` it is the listener; not for a pool), to superd's log, nowhere.",
    ),
    key("banner", Table(BANNER), "", "Texts for clients, at most 4 KiB each."),
    key("socket", Table(SOCKET), "", "Socket options."),
    key("log", Table(SERVICE_LOG), "", "What of the service is logged."),
    key("enabled", Flag, "true", "false: the service is checked, but not bound."),
    later("relay", Any, "Pass the connection on to another host."),
    key("deny", Clients, "", "Clients that may not use the service, as ACCESS says."),
    key("allow", Clients, "any", "Clients that may."),
    key(
        "users",
        Users,
        "",
        "Whom the client's process must belong to: users, group:NAME, uid:NUMBER, gid:NUMBER, or ident:NAME by its own word.",
    ),
    key("hours", HoursName, "always", "When the service may be used: a name of [hours]."),
    key("end_sessions", Flag, "false", "The end of `hours` ends sessions, too."),
    key(
        "rule",
        Rows(RULE),
        "",
        "In place of the five keys before: rules, each a table `[[service.NAME.rule]]`; the first that matches wins.",
    ),
    key(
        "otherwise",
        Word(&ACTIONS),
        "must be said with rules",
        "What becomes of a client that no rule matches.",
    ),
    key(
        "hosts_access",
        FlagOr(HOSTS_FILES),
        "false",
        "true: hosts.allow(5) and hosts.deny(5) are asked too; a table names other files.",
    ),
    later("sandbox", Any, "What the program is shut in."),
    later("tls", Any, "Speak TLS to the client."),
    later("proxy_from", Any, "Proxies that are believed who the client is."),
    later("advertise", Any, "Make the service known on the network."),
];

/// `pool`.
static POOL: &[Key] = &[
    key("command", Command, "must be said", "What a worker is started as: like `exec`."),
    key(
        "protocol",
        Word(&["handoff", "listen"]),
        "handoff",
        "handoff: superd accepts, and hands each connection to a worker; listen: the workers have the listeners and accept by themselves, and beside `command` there is `min` alone.",
    ),
    key(
        "min",
        Number(0, MOST_WORKERS),
        "1",
        "Workers that are always there; with 0 the first one is started for the first client (not for `listen`).",
    ),
    key("spare", Number(0, MOST_WORKERS), "0", "Workers that are kept without a connection, up to `max`."),
    key("max", Number(1, MOST_WORKERS), "16, or more if `min` or `spare` is", "Workers, at most."),
    key(
        "max_connections",
        Number(1, u32::MAX as i64),
        "none",
        "Connections after which a worker retires, give or take a tenth.",
    ),
    key("concurrency", Number(1, 65_536), "1", "Connections that a worker takes at once."),
    key(
        "idle_timeout",
        Time,
        "1min",
        "A worker beyond `min` and `spare` that had nothing to do for so long retires; \"none\": never.",
    ),
];

/// More workers than this are a slip of the pen.
const MOST_WORKERS: i64 = 4096;

static LIMITS: &[Key] = &[
    key(
        "connections",
        Number(1, 4_000_000),
        "256; 4096 for a built-in service; what the workers of a pool take, `max` times `concurrency`, and never more; with `wait` 1 for each listener",
        "Sessions of the service at once; \"none\" lifts it.",
    ),
    key(
        "per_source",
        Number(1, 4_000_000),
        "none",
        "Sessions of one source at once; a source beyond it is refused.",
    ),
    key(
        "rate",
        Rate,
        "none",
        "How often sessions of the service may begin, or with `wait` its servers: so many in a second, minute or hour, and at once as many, or `burst`.",
    ),
    key(
        "rate_per_source",
        Rate,
        "none",
        "How often one source may come; beyond it, it is refused. 65,536 sources at a time are told apart; more than these share 64 such rates.",
    ),
    key("load", Load, "none", "From this load average of the last minute on nobody is served."),
    key(
        "on_limit",
        Word(&["queue", "close"]),
        "queue",
        "Clients beyond `connections`, `rate` or `load` wait in the kernel's queue, or are closed with the `busy` banner.",
    ),
    key("source_prefix", Inline(SOURCE_PREFIX), "{ v4 = 32, v6 = 64 }", "What counts as one source."),
];

static BAN: &[Key] = &[
    key("after", Number(1, 1_000_000), "20; 1 for a sensor", "So many offences of one source bring a ban."),
    key(
        "within",
        TimeBetween(1, 86_400),
        "1min",
        "The time in which they are counted, from the first one on; at most a day.",
    ),
    key("for", TimeBetween(1, 31_622_400), "1h", "The length of a ban; at most 366 days."),
    key(
        "on",
        Offences,
        "[\"refused\", \"rate\"]; [] for a sensor",
        "What is an offence: to be refused by a rule or by `per_source`; to come beyond `rate_per_source`; to be served by a program that exits with status N, or that a signal ends. To come to a sensor always is one.",
    ),
    key(
        "never",
        Exempt,
        "[]",
        "Clients that this service does not ban, beside those of [daemon] never_ban, in the same words.",
    ),
];

static SOURCE_PREFIX: &[Key] = &[
    key("v4", Number(0, 32), "32", "Leading bits of an IPv4 address."),
    key("v6", Number(0, 128), "64", "Leading bits of an IPv6 address."),
];

static TIMEOUT: &[Key] = &[
    key("session", Time, "none", "A session's whole life; at its end the program gets TERM."),
    key("kill_after", Time, "5s", "From TERM to KILL."),
    key(
        "idle",
        Time,
        "none",
        "How long nothing may pass between a client and the built-in echo, discard or chargen.",
    ),
    key(
        "handshake",
        Time,
        "10s",
        "How long a client of the built-in echo or discard may take to send its first byte, one of tcpmux to send its name, and the worker of a pool to take a connection.",
    ),
    key(
        "drain",
        Time,
        "none",
        "How long what the client still sends is read and dropped after the program's end, so that the last answer is not lost; not with `wait`.",
    ),
];

static BANNER: &[Key] = &[
    key("accept", Banner, "", "To a client that is let in, before the program runs."),
    key("refuse", Banner, "", "To a client that may not use the service."),
    key("busy", Banner, "", "To a client beyond a limit."),
];

/// `listen = { … }`.
pub static LISTEN_AT: &[Key] = &[
    key("at", Text, "must be said", "The endpoint: a path, `unix:/run/x.sock`."),
    key("owner", User, "superd's own user", "Who owns the path."),
    key("group", Group, "superd's own group", "The path's group."),
    key("mode", Octal, "0660", "The path's mode: whoever may write may connect."),
];

/// `banner.NAME = { … }`.
pub static BANNER_FILE: &[Key] = &[key("file", Path, "must be said", "The file that holds the text.")];

/// `quotes = { … }`.
pub static QUOTES_FILE: &[Key] =
    &[key("file", Path, "must be said", "The file that holds the quotes, with a line `%` between them.")];

static SERVICE_LOG: &[Key] = &[
    key("success", Flag, "true", "Write start and end lines."),
    key("failure", Flag, "true", "Write refuse lines."),
    key("facility", Word(&FACILITIES), "that of [log]", "The syslog facility of the service."),
    key("level", Word(&LEVELS), "info", "The level of start and end lines."),
];
