//! Why a key can't hold, by the way a service is served. Knows no form of a value.

use crate::model::endpoint::Endpoint;

use super::draft::{Path, Values};
use super::keys;
use super::pools;
use super::values::Complaint;
use super::ways::Way;

/// What a program is started with. superd's own handlers have no such thing for each service.
const OF_A_PROGRAM: [&str; 12] = [
    "argv0",
    "user",
    "group",
    "groups",
    "umask",
    "nice",
    "cwd",
    "chroot",
    "env",
    "pass_env",
    "no_new_privileges",
    "stderr",
];

/// Where superd does not accept, it can't count, refuse or greet clients.
const OF_CONNECTIONS: [Path; 7] = [
    ("limits", "connections"),
    ("limits", "per_source"),
    ("limits", "on_limit"),
    ("limits", "source_prefix"),
    ("banner", "accept"),
    ("banner", "refuse"),
    ("banner", "busy"),
];

const SESSION_INSTEAD: &str =
    "`timeout.session` bounds the whole session; `socket.keepalive` finds clients that are gone";

/// Why a key of the service can't hold; `None` if it can.
pub fn of_key(path: Path, values: &Values, way: Way, endpoints: &[Endpoint]) -> Option<Complaint> {
    match path {
        ("socket", _) => None,
        ("", "wait") => wait(way),
        ("", "quotes") => quotes(values, way),
        ("timeout", name) => timeout(name, values, way, endpoints),
        ("limits", "connections") if way == Way::Handoff => beyond_the_pool(values),
        ("rlimits", _) if way == Way::Builtin => Some(no_program()),
        ("", name) if way == Way::Builtin && OF_A_PROGRAM.contains(&name) => Some(no_program()),
        ("", "stderr") => stderr(values, way),
        ("limits", "rate" | "load") if way == Way::Listen => Some(no_accept(path, way)),
        ("limits", "rate_per_source") | ("ban", _) if !way.accepts() => Some(no_accept(path, way)),
        ("ban", _) if only_datagrams(endpoints) => Some(forged()),
        _ if OF_CONNECTIONS.contains(&path) && !way.accepts() => Some(no_accept(path, way)),
        // A source is one for the rate of its datagrams, too.
        ("limits", "source_prefix") => None,
        _ if OF_CONNECTIONS.contains(&path) && only_datagrams(endpoints) => Some(no_connection()),
        _ => None,
    }
}

/// Why a socket option can't hold; it needs one listener of the right kind.
pub fn of_option(name: &str, endpoints: &[Endpoint]) -> Option<Complaint> {
    let (_, fits) = keys::find(keys::SOCKET, name)?.option?;
    let holds = endpoints.is_empty() || endpoints.iter().any(|endpoint| fits.holds_on(endpoint));
    (!holds).then(|| Complaint::new(format!("it is {}, and the service has no such listener", fits.words())))
}

/// Why no socket option of a service can hold that has no listener of its own.
pub fn of_option_behind_tcpmux() -> Complaint {
    Complaint::new(
        "its connections come through the listener of `tcpmux`, and the service has none of its own",
    )
    .hint("it is a key of the service with `builtin = \"tcpmux\"`")
}

/// Does no listener make connections?
pub fn only_datagrams(endpoints: &[Endpoint]) -> bool {
    !endpoints.is_empty() && endpoints.iter().all(Endpoint::is_datagram)
}

/// Is the answer of this built-in service one text, sent before a client says anything?
pub fn answers_at_once(builtin: &str) -> bool {
    matches!(builtin, "daytime" | "time" | "qotd" | "sensor")
}

fn wait(way: Way) -> Option<Complaint> {
    let complaint = Complaint::new("a process that waits is one of `exec`");
    match way {
        Way::Exec | Way::Wait => None,
        Way::Listen => Some(complaint.hint("leave it out: the workers of a `listen` pool have the listener")),
        Way::Builtin | Way::Handoff | Way::Relay => {
            Some(complaint.hint("leave it out: superd accepts by itself"))
        }
    }
}

fn quotes(values: &Values, way: Way) -> Option<Complaint> {
    let has_quotes = way == Way::Builtin
        && (values.is_wrong(("", "builtin")) || values.text(("", "builtin")) == Some("qotd"));
    (!has_quotes).then(|| Complaint::new("only the built-in service `qotd` has quotes"))
}

fn stderr(values: &Values, way: Way) -> Option<Complaint> {
    let is_pool = matches!(way, Way::Handoff | Way::Listen);
    (is_pool && values.text(("", "stderr")) == Some("socket")).then(|| {
        Complaint::new("a worker has no connection when it is started")
            .hint("`stderr = \"log\"`, which is a pool's default, or \"null\"")
    })
}

fn beyond_the_pool(values: &Values) -> Option<Complaint> {
    let capacity = pools::capacity(values)?;
    let most: u32 = values.number(("limits", "connections"))?;
    (most > capacity).then(|| {
        Complaint::new(format!("the workers of the pool take {capacity} connections at once, all together"))
            .hint("that is `pool.max` times `pool.concurrency`: raise one of them, or leave the limit out")
    })
}

fn timeout(name: &str, values: &Values, way: Way, endpoints: &[Endpoint]) -> Option<Complaint> {
    match (name, way) {
        ("drain", Way::Exec) => None,
        ("drain", Way::Wait) => {
            Some(with_the_listener(way).hint("the program has to read to the end by itself"))
        }
        ("drain", _) => Some(Complaint::new("a service that is not `exec` reads to the end by itself")),
        ("kill_after", Way::Builtin) => Some(Complaint::new("a built-in service has no process to kill")),
        ("idle" | "handshake", Way::Exec | Way::Wait) => Some(
            Complaint::new(
                "superd does not see the traffic of an exec service, the program has the connection itself",
            )
            .hint(SESSION_INSTEAD),
        ),
        ("idle", Way::Handoff) => Some(
            Complaint::new("superd does not see the traffic of a pool, a worker has the connection itself")
                .hint(SESSION_INSTEAD),
        ),
        ("session" | "idle" | "handshake", Way::Listen) => {
            Some(with_the_listener(way).hint("`protocol = \"handoff\"` lets superd accept"))
        }
        ("session" | "idle" | "handshake", Way::Builtin) => of_a_builtin(name, values, endpoints),
        _ => None,
    }
}

fn of_a_builtin(name: &str, values: &Values, endpoints: &[Endpoint]) -> Option<Complaint> {
    let builtin = values.text(("", "builtin"))?;
    if only_datagrams(endpoints) {
        return Some(no_connection());
    }
    match name {
        _ if builtin == "sensor" => Some(Complaint::new("`sensor` closes at once")),
        "session" | "idle" if builtin == "tcpmux" => Some(
            Complaint::new("`tcpmux` waits for the name alone; then the other service's timeouts hold")
                .hint("`timeout.handshake` is for the name"),
        ),
        _ if answers_at_once(builtin) => Some(Complaint::new(format!(
            "the answer of `{builtin}` is sent at once, superd waits for nothing"
        ))),
        "handshake" if builtin == "chargen" => {
            Some(Complaint::new("`chargen` waits for no byte of its client").hint("`timeout.idle` can hold"))
        }
        _ => None,
    }
}

fn no_program() -> Complaint {
    Complaint::new("a built-in service has no program of its own")
        .hint("superd's own handlers serve it, as `helper_user` of [daemon]: leave it out")
}

fn no_connection() -> Complaint {
    Complaint::new("datagrams make no connection, and the service has no other listener")
}

fn forged() -> Complaint {
    Complaint::new("anybody can send a datagram in another one's name, and would have that one banned")
        .hint("`limits.rate_per_source` is for datagrams, too")
}

fn with_the_listener(way: Way) -> Complaint {
    Complaint::new(match way {
        Way::Listen => "the workers of a `listen` pool have the listener, and superd sees no client",
        _ => "with `wait` the program has the listener, and superd sees no client",
    })
}

/// superd does not accept, and so can't refuse.
pub fn no_accept(path: Path, way: Way) -> Complaint {
    let complaint = with_the_listener(way);
    match (path, way) {
        (("limits", "connections"), Way::Listen) => complaint
            .hint("there are `pool.min` workers; how many clients one serves is the program's own setting"),
        (("limits", "connections"), _) => complaint
            .hint("there is one process for each listener; how many it serves is the program's own setting"),
        (_, Way::Listen) => complaint.hint("`protocol = \"handoff\"` lets superd accept"),
        _ => complaint.hint("without `wait` superd accepts, and starts a process for each connection"),
    }
}
