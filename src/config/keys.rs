//! What a key is, and finding one in the key table ([`super::key_table`]). The table drives reading, the hints for unknown keys, the "not served yet" errors, the
//! JSON Schema and the key reference of superd.toml(5): a key exists everywhere or nowhere.

pub use super::access_table::{HOURS_TIMES, RULE, SET_FILES};
pub use super::key_table::{BANNER_FILE, DAEMON, LISTEN_AT, LOG, QUOTES_FILE, SERVICE, TOP, WRAP};
pub use super::option_table::SOCKET;
pub use super::rlimit_table::SOFT_HARD;

use crate::model::endpoint::{Endpoint, Transport, UnixKind};

use super::rlimit_table::RLIMITS;
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
    /// For socket options: which sockets it is set on, and of which kinds.
    pub option: Option<(SetOn, Fits)>,
}

/// Whether a key can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Yes.
    Now,
    /// In a later version.
    Later,
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

/// The kinds of listener that an option can hold on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fits {
    /// All.
    All,
    /// tcp and udp.
    Internet,
    /// tcp.
    Tcp,
    /// tcp, and groups of multicast.
    TcpAndGroups,
    /// udp.
    Udp,
    /// tcp and `unix:`: a stream of bytes.
    Stream,
    /// Whatever makes connections.
    Connections,
}

impl Fits {
    /// Can it hold there? Of a passed socket it is known when the socket is there.
    pub fn holds_on(self, endpoint: &Endpoint) -> bool {
        match endpoint {
            Endpoint::Passed(_) => true,
            Endpoint::Inet(inet) => match self {
                Self::All | Self::Internet => true,
                Self::Tcp | Self::Stream | Self::Connections => inet.transport == Transport::Tcp,
                Self::Udp => inet.transport == Transport::Udp,
                Self::TcpAndGroups => inet.transport == Transport::Tcp || inet.ip.is_multicast(),
            },
            Endpoint::Unix(unix) => match self {
                Self::All => true,
                Self::Stream => unix.kind == UnixKind::Stream,
                Self::Connections => unix.kind != UnixKind::Datagram,
                Self::Internet | Self::Tcp | Self::TcpAndGroups | Self::Udp => false,
            },
        }
    }

    /// Which kinds, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::All => "for every kind of listener",
            Self::Internet => "for tcp and udp",
            Self::Tcp => "for tcp",
            Self::TcpAndGroups => "for tcp and multicast groups",
            Self::Udp => "for udp",
            Self::Stream => "for tcp and `unix:`",
            Self::Connections => "for tcp, `unix:` and `unix-seqpacket:`",
        }
    }
}

/// Can the key `socket.NAME` hold on a listener of this kind?
pub fn option_holds_on(name: &str, endpoint: &Endpoint) -> bool {
    find(SOCKET, name).and_then(|key| key.option).is_some_and(|(_, fits)| fits.holds_on(endpoint))
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
    /// A duration of at least and at most so many seconds.
    TimeBetween(u64, u64),
    /// A size in bytes, at most so many.
    Size(u64),
    /// An octal number as a text.
    Octal,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// One of a few words; those of the second list are for a later version.
    Words(&'static [&'static str], &'static [&'static str]),
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
    /// The name of a network interface.
    Interface,
    /// A text, or a file that holds it.
    Banner,
    /// Texts, or a file that holds them.
    Quotes,
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
    /// How often something may happen.
    Rate,
    /// A load average.
    Load,
    /// What counts towards a ban.
    Offences,
    /// Clients that are known by their address alone.
    Exempt,
    /// Addresses, networks and names of clients.
    Clients,
    /// Users of clients.
    Users,
    /// A name of hours.
    HoursName,
    /// Tables in their order.
    Rows(&'static [Key]),
    /// true or false, or a table that says more.
    FlagOr(&'static [Key]),
    /// Named sets: lists of networks, or tables that name files.
    Sets,
    /// Named hours: lists of windows, or tables that say their zone too.
    Hours,
    /// Files.
    Files,
    /// Windows of time.
    Windows,
    /// Anything: what a later version looks at.
    Any,
}

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
        Kind::Table(keys) => Some((key.name, keys)),
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
                if let Kind::Table(inner) | Kind::Inline(inner) | Kind::Named(inner) = key.kind {
                    check(inner);
                }
            }
        }
        check(TOP);
    }
}
