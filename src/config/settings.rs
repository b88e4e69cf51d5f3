//! The checked configuration: what the rest of superd works with.
//!
//! Everything is resolved: users are numbers, ports are numbers, banner files are bytes, paths are absolute,
//! defaults are filled in. Only [`super::resolve`] makes a [`Config`] and [`super::wire`] carries one between
//! processes, so that to hold one means that it is valid. Nothing here reads a file or asks the kernel.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::address::SourcePrefix;
use crate::model::endpoint::{Endpoint, InterfaceName};
use crate::model::identity::{Account, Identity};
use crate::model::mux::MuxName;
use crate::model::name::ServiceName;
use crate::model::offence::Offence;
use crate::model::pattern::ClientPattern;
use crate::model::place::Place;
use crate::model::rate::{LoadAverage, Rate};

use super::access::{Access, Hours, Sets};

/// A whole configuration that is known to be good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub(super) daemon: Daemon,
    pub(super) log: Log,
    pub(super) services: Vec<Service>,
    pub(super) sets: Sets,
    pub(super) hours: Hours,
}

impl Config {
    /// `[daemon]`.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// `[log]`.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Every service, disabled ones too, sorted by name.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// `[sets]`, without what their files hold.
    pub fn sets(&self) -> &Sets {
        &self.sets
    }

    /// `[hours]`.
    pub fn hours(&self) -> &Hours {
        &self.hours
    }
}

/// `[daemon]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Path of the control socket.
    pub control: PathBuf,
    /// Group that owns the control socket.
    pub control_group: Option<u32>,
    /// Where state.json is written.
    pub state_dir: PathBuf,
    /// The locked pid file.
    pub pid_file: PathBuf,
    /// Whom helper roles run as; `None` where superd is not root: as superd runs.
    pub helper: Option<Identity>,
    /// How listeners are waited for.
    pub multiplexer: Multiplexer,
    /// How children are made.
    pub launcher: Launcher,
    /// Sessions over all services, at most.
    pub max_sessions: u32,
    /// How long sessions may go on after TERM.
    pub shutdown_grace: Duration,
    /// Who is never refused for a ban; known by its address alone.
    pub never_ban: Vec<ClientPattern>,
    /// Time zone: `local` or an IANA name.
    pub zone: String,
}

/// `[daemon] multiplexer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiplexer {
    /// poll, and poll over an epoll set from 256 listeners on.
    Auto,
    /// Always one array of descriptors.
    Poll,
    /// Always the epoll set.
    Epoll,
}

/// `[daemon] launcher`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Launcher {
    /// The best that this machine has.
    Auto,
    /// Through a fresh superd that becomes the program.
    Staged,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Where lines go.
    pub target: LogTarget,
    /// The syslog facility.
    pub facility: Facility,
    /// The syslog socket.
    pub socket: PathBuf,
    /// The syslog tag.
    pub tag: String,
    /// Where errors go while no log daemon answers.
    pub fallback: Fallback,
    /// Less important lines are not written.
    pub level: Level,
    /// The wording.
    pub format: Format,
    /// How much of a client's address is written.
    pub client: ClientDetail,
}

/// `[log] target`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// Journal, stderr or syslog, by how superd was started.
    Auto,
    /// The syslog socket.
    Syslog,
    /// journald's own protocol.
    Journal,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// `[log] fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// /dev/console.
    Console,
    /// Standard error.
    Stderr,
    /// Nowhere.
    None,
}

/// Syslog severities (RFC 3164 §4.1.1); the smaller, the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// 2: superd itself can't go on.
    Crit = 2,
    /// 3
    Err = 3,
    /// 4
    Warning = 4,
    /// 5: a refused client.
    Notice = 5,
    /// 6: a session begins or ends.
    Info = 6,
    /// 7
    Debug = 7,
}

/// A syslog facility by its number (RFC 3164 §4.1.1): kern is 0, daemon 3, local7 23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facility(pub u8);

impl Facility {
    /// The names that a configuration may use, with their numbers. No stranger to syslog.conf(5).
    pub const NAMES: [(&'static str, u8); 19] = [
        ("auth", 4),
        ("authpriv", 10),
        ("cron", 9),
        ("daemon", 3),
        ("ftp", 11),
        ("kern", 0),
        ("lpr", 6),
        ("mail", 2),
        ("news", 7),
        ("syslog", 5),
        ("user", 1),
        ("local0", 16),
        ("local1", 17),
        ("local2", 18),
        ("local3", 19),
        ("local4", 20),
        ("local5", 21),
        ("local6", 22),
        ("local7", 23),
    ];
}

/// `[log] format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `start finger session=… client=…`.
    Superd,
    /// `START: finger pid=… from=…`.
    Xinetd,
}

/// `[log] client`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientDetail {
    /// Address and port.
    Full,
    /// The /24 (IPv4) or /48 (IPv6) network alone.
    Prefix,
    /// `-`.
    None,
}

/// `[service.NAME]`, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The name.
    pub name: ServiceName,
    /// Where its table stands.
    pub place: Place,
    /// `false`: checked, but not bound.
    pub enabled: bool,
    /// What to bind; empty only where it has names of tcpmux.
    pub endpoints: Vec<Endpoint>,
    /// The names by which a client of tcpmux asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mux_names: Vec<MuxName>,
    /// Socket options.
    pub socket: SocketOptions,
    /// By what it is served.
    pub serves: Serves,
    /// Who may use it.
    pub access: Access,
    /// Limits on sessions.
    pub limits: Limits,
    /// When a source is banned.
    pub ban: Option<Ban>,
    /// Deadlines of a session.
    pub timeouts: Timeouts,
    /// Texts for clients.
    pub banners: Banners,
    /// What of it is logged.
    pub log: ServiceLog,
}

impl Service {
    /// The program that serves it; none of a built-in service.
    pub fn program(&self) -> Option<&Program> {
        match &self.serves {
            Serves::Exec(program) | Serves::Wait(program) => Some(program),
            Serves::Pool(pool) => Some(&pool.program),
            Serves::Builtin(_) => None,
        }
    }

    /// What hosts.allow and hosts.deny call it: the name of its process, as with tcpd; else its own.
    pub fn daemon_name(&self) -> &str {
        let program = match &self.serves {
            Serves::Exec(program) | Serves::Wait(program) => program.argv.first(),
            Serves::Pool(_) | Serves::Builtin(_) => None,
        };
        program.map_or(self.name.as_str(), |name| name.rsplit('/').next().unwrap_or(name))
    }

    /// Does one process for each listener get the listener itself?
    pub fn waits(&self) -> bool {
        matches!(self.serves, Serves::Wait(_))
    }

    /// Does superd accept the connections?
    pub fn is_accepted(&self) -> bool {
        match &self.serves {
            Serves::Exec(_) | Serves::Builtin(_) => true,
            Serves::Wait(_) => false,
            Serves::Pool(pool) => pool.protocol == PoolProtocol::Handoff,
        }
    }
}

/// By what a service is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serves {
    /// A process for each connection.
    Exec(Program),
    /// One process for each listener, which gets the listener itself. `limits.connections` is 1 then and counts
    /// by listener; there are no other limits, no banners and no `drain`.
    Wait(Program),
    /// superd itself.
    Builtin(Builtin),
    /// Workers that are started ahead.
    Pool(Pool),
}

/// `builtin`: a service of superd itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
    /// RFC 867.
    Daytime,
    /// RFC 868.
    Time,
    /// RFC 865, with its quotes: never none, each at most 512 bytes.
    Qotd(Vec<Vec<u8>>),
    /// RFC 1078: leads to the services that have names of it.
    TcpMux,
    /// A decoy: whoever comes is banned from all services.
    Sensor,
}

impl Builtin {
    /// As it is written, and said between processes.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Daytime => "daytime",
            Self::Time => "time",
            Self::Qotd(_) => "qotd",
            Self::TcpMux => "tcpmux",
            Self::Sensor => "sensor",
        }
    }

    /// Is a connection answered without a byte from its client? The supervisor does it by itself.
    pub fn answers_at_once(&self) -> bool {
        matches!(self, Self::Daytime | Self::Time | Self::Qotd(_) | Self::Sensor)
    }
}

/// `pool`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// What a worker is started as.
    pub program: Program,
    /// How it comes by its connections.
    pub protocol: PoolProtocol,
    /// Workers that are always there; 0 only with [`PoolProtocol::Handoff`]: the first is started for the first
    /// connection.
    pub min: u32,
    /// Workers that are kept without a connection.
    pub spare: u32,
    /// Workers, at most, at least 1; never less than `min` or `spare`. With [`PoolProtocol::Listen`] it is `min`,
    /// and nothing below it holds.
    pub max: u32,
    /// Connections after which a worker retires, give or take a tenth; `None`: never.
    pub max_connections: Option<u32>,
    /// Connections that a worker takes at once, at least 1.
    pub concurrency: u32,
    /// Workers beyond `min` and `spare` that had nothing to do for so long retire; `None`: never.
    pub idle_timeout: Option<Duration>,
}

/// `pool.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolProtocol {
    /// superd accepts, and hands connections over: superd-pool(7).
    Handoff,
    /// Workers get the listeners and accept by themselves.
    Listen,
}

/// A program and the whole world it is started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute path (inside of `chroot`, if there is one).
    pub path: PathBuf,
    /// `argv`, beginning with `argv[0]`.
    pub argv: Vec<String>,
    /// `None`: stay who superd is (it is not root).
    pub identity: Option<Identity>,
    /// The user database's word on the user, for the environment.
    pub account: Account,
    /// File mode creation mask.
    pub umask: u32,
    /// Added to superd's own niceness.
    pub nice: i32,
    /// Working directory (inside of `chroot`).
    pub cwd: PathBuf,
    /// New root directory.
    pub chroot: Option<PathBuf>,
    /// The fixed part of the environment, sorted by name: PATH and the like, `pass_env`, then `env`.
    pub env: BTreeMap<String, String>,
    /// Limits that differ from those that superd was started with, sorted by resource.
    pub rlimits: BTreeMap<Resource, RlimitPair>,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: bool,
    /// Where descriptor 2 goes; never [`Stderr::Socket`] for a worker, which has no connection when it starts.
    pub stderr: Stderr,
}

/// What `rlimits` may name: setrlimit(2) without its `RLIMIT_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // setrlimit(2) says it
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// A soft and a hard limit; `u64::MAX` is `RLIM_INFINITY`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RlimitPair {
    /// The limit in force.
    pub soft: u64,
    /// How far the process may raise it.
    pub hard: u64,
}

/// `stderr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stderr {
    /// The connection, as inetd does.
    Socket,
    /// superd's log, by lines.
    Log,
    /// /dev/null.
    Null,
}

/// `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions of the service; `None` for `"none"`, and where the workers of a pool accept. Of a pool that is
    /// handed connections, never more than its workers take.
    pub connections: Option<u32>,
    /// Sessions of one source.
    pub per_source: Option<u32>,
    /// New sessions of the service in a time; with `wait`, servers.
    pub rate: Option<Rate>,
    /// New sessions of one source in a time.
    pub rate_per_source: Option<Rate>,
    /// From this load average on nobody is served.
    pub load: Option<LoadAverage>,
    /// What becomes of clients beyond the service's own limits.
    pub on_limit: OnLimit,
    /// What counts as one source.
    pub source_prefix: SourcePrefix,
}

/// `ban`: what a source is banned for, from this service alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// So many offences …
    pub after: u32,
    /// … in this time …
    pub within: Duration,
    /// … bring a ban of this length.
    pub length: Duration,
    /// What is an offence.
    pub on: Vec<Offence>,
    /// Who is not banned; known by its address alone.
    pub never: Vec<ClientPattern>,
}

/// `limits.on_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLimit {
    /// They wait in the kernel's queue: the listener is not polled.
    Queue,
    /// They are accepted, sent the `busy` banner and closed.
    Close,
}

/// `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// A session's whole life: TERM at its end.
    pub session: Option<Duration>,
    /// From TERM to KILL.
    pub kill_after: Duration,
    /// How long what the client still sends is read and dropped after the program's end; never with `wait`.
    pub drain: Option<Duration>,
    /// How long a client of the built-in echo or discard may take to send its first byte, and a worker to take a
    /// connection.
    pub handshake: Duration,
    /// How long nothing may pass between a built-in service and its client.
    pub idle: Option<Duration>,
}

/// `banner`: bytes as they are sent, at most 4 KiB each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Banners {
    /// To a client that is let in, before the program runs.
    pub accept: Option<Vec<u8>>,
    /// To a client that policy refuses.
    pub refuse: Option<Vec<u8>>,
    /// To a client beyond a limit.
    pub busy: Option<Vec<u8>>,
}

/// A service's `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLog {
    /// start and end lines.
    pub success: bool,
    /// refuse lines.
    pub failure: bool,
    /// In place of `[log] facility`.
    pub facility: Option<Facility>,
    /// The level of start and end lines, in place of info.
    pub level: Option<Level>,
}

/// `socket`: each `None` leaves the kernel's default. Times that are sent in seconds are whole seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// listen(2)'s queue; the kernel cuts it to net.core.somaxconn.
    pub backlog: Option<u32>,
    /// `SO_KEEPALIVE`, with its times.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`, milliseconds.
    pub user_timeout: Option<Duration>,
    /// `SO_LINGER`, whole seconds; zero makes close send a reset.
    pub linger: Option<Duration>,
    /// `TCP_NODELAY`.
    pub nodelay: Option<bool>,
    /// `SO_RCVBUF`, bytes.
    pub receive_buffer: Option<u32>,
    /// `SO_SNDBUF`, bytes.
    pub send_buffer: Option<u32>,
    /// `SO_RCVTIMEO`.
    pub receive_timeout: Option<Duration>,
    /// `SO_SNDTIMEO`.
    pub send_timeout: Option<Duration>,
    /// `SO_RCVLOWAT`, bytes.
    pub receive_low_water: Option<u32>,
    /// `IP_TTL` or `IPV6_UNICAST_HOPS`, 1 to 255.
    pub ttl: Option<u8>,
    /// `IP_MINTTL` or `IPV6_MINHOPCOUNT`, 1 to 255 (RFC 5082).
    pub min_ttl: Option<u8>,
    /// `IP_TOS` or `IPV6_TCLASS`.
    pub tos: Option<u8>,
    /// `TCP_MAXSEG`, bytes.
    pub max_segment: Option<u16>,
    /// `SO_OOBINLINE`.
    pub oob_inline: Option<bool>,
    /// `SO_REUSEADDR`; unless said otherwise on for tcp and multicast, off for other udp.
    pub reuse_address: Option<bool>,
    /// `SO_REUSEPORT`.
    pub reuse_port: Option<bool>,
    /// `TCP_DEFER_ACCEPT`, whole seconds.
    pub defer_accept: Option<Duration>,
    /// `TCP_FASTOPEN`: the length of its queue.
    pub fast_open: Option<u32>,
    /// `IP_FREEBIND`.
    pub free_bind: Option<bool>,
    /// `IP_TRANSPARENT`.
    pub transparent: Option<bool>,
    /// `SO_MARK`.
    pub mark: Option<u32>,
    /// `SO_PRIORITY`.
    pub priority: Option<u32>,
    /// `SO_BROADCAST`: the program may send to broadcast addresses.
    pub broadcast: Option<bool>,
    /// `IP_MULTICAST_TTL` or `IPV6_MULTICAST_HOPS`.
    pub multicast_ttl: Option<u8>,
    /// `IP_MULTICAST_LOOP` or `IPV6_MULTICAST_LOOP`.
    pub multicast_loop: Option<bool>,
    /// `IP_MULTICAST_IF` or `IPV6_MULTICAST_IF`: where what the program sends to groups goes out.
    pub multicast_interface: Option<InterfaceName>,
}

/// `socket.keepalive`: `None` leaves the system's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepalive {
    /// `TCP_KEEPIDLE`, whole seconds.
    pub idle: Option<Duration>,
    /// `TCP_KEEPINTVL`, whole seconds.
    pub interval: Option<Duration>,
    /// `TCP_KEEPCNT`.
    pub count: Option<u8>,
}
