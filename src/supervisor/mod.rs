//! The supervisor: one thread that waits, accepts, decides, and keeps account of everything.
//!
//! It never forks (but for the launcher), never asks the user database, never waits for a disk. What may wait
//! is a role's. Its state is one struct; each file here adds what one subject does with it.
//!
//! | file | subject |
//! |---|---|
//! | `start`, `turn`, `shutdown` | the life of superd |
//! | `accept`, `answers`, `muxing`, `launches`, `lifecycle` | the life of a connection |
//! | `load`, `prepare`, `commit`, `binding`, `watching` | the life of a configuration |
//! | `lending`, `lent` | listeners that are lent to servers which wait |
//! | `bind`, `options`, `holder` | sockets of every kind, and their options |
//! | `datagram_rules` | rules that the kernel holds |
//! | `judging`, `hosts`, `admittance`, `resolving`, `hours`, `explaining` | who may come in, and what that depends on |
//! | `listeners`, `services`, `sessions`, `slab`, `timers` | tables |
//! | `workers`, `handover`, `losses`, `pools`, `staff`, `shared`, `handlers` | workers, and handing connections to them |
//! | `collecting` | standard errors on their way into the log |
//! | `pause`, `load_average`, `bans` | who has to wait, or to stay away |
//! | `farewells`, `status`, `pool_status`, `journal`, `roles`, `admin` | what else there is to do |

use std::rc::Rc;
use std::time::Instant;

use crate::config::settings::{self, Level};
use crate::service::admission::{Admission, ServiceKey};
use crate::service::backoff::Backoff;
use crate::service::refusals::Refusals;
use crate::sys::channel::Channel;
use crate::sys::passed::Passed;
use crate::sys::readiness::Readiness;
use crate::sys::rtnetlink::InterfaceNews;

pub mod bind;
pub mod control;
pub mod lent;
pub mod log;
pub mod options;

mod accept;
mod admin;
mod admittance;
mod answers;
mod bans;
mod binding;
mod collecting;
mod commit;
mod datagram_rules;
mod directory;
mod explaining;
mod farewells;
mod handlers;
mod handover;
mod holder;
mod hosts;
mod hours;
mod journal;
mod judging;
mod launches;
mod lending;
mod lifecycle;
mod listeners;
mod load;
mod load_average;
mod losses;
mod muxing;
mod notify;
mod pause;
mod pidfile;
mod pool_status;
mod pools;
mod prepare;
mod resolving;
mod roles;
mod services;
mod sessions;
mod shared;
mod shutdown;
mod signals;
mod slab;
mod staff;
mod start;
mod status;
mod timers;
mod turn;
mod watching;
mod workers;

pub use start::{Options, run};

/// Everything that the supervisor knows.
struct Supervisor {
    options: Options,
    /// Seconds since 1970 at the start.
    epoch: u64,
    started: Instant,
    /// The time of this turn.
    now: Instant,
    /// Session numbers given out.
    serial: u64,
    is_init: bool,
    /// What rules are judged by, but for the rules.
    admittance: admittance::Admittance,
    judging: judging::Judging,
    commands: hosts::Commands,
    resolver: resolving::Resolver,
    /// The next look at the hours of sessions, while there are such sessions.
    minute: Option<timers::TimerId>,
    /// Whose local connections are; opened when somebody asks.
    socket_tables: Option<crate::sys::sock_diag::SocketTables>,
    /// The limit of descriptors before superd raised its own.
    nofile: settings::RlimitPair,

    signals: signals::Signals,
    timers: timers::Timers,
    log: log::Log,
    refusals: Refusals,
    control: Option<control::ControlServer>,
    interface_news: Option<InterfaceNews>,
    /// Sockets that the service manager passed.
    passed: Passed,
    pid_file: Option<pidfile::PidFile>,
    writer_backoff: Backoff,
    state_writer: Option<Channel>,
    collecting: collecting::Collecting,
    /// Where workers of pools say that they are ready.
    readiness: Readiness,

    /// Of the configuration in force; 0 before the first.
    generation: u64,
    daemon: Option<Rc<settings::Daemon>>,
    log_settings: Option<settings::Log>,
    load: load::Loads,
    watching: watching::Watching,
    /// Why the start has failed, for whoever started superd.
    start_errors: Option<String>,

    services: services::Services,
    listeners: listeners::Listeners,
    admission: Admission,
    load_average: load_average::Reading,
    bans: bans::Bans,
    datagram_rules: datagram_rules::DatagramRules,
    sessions: sessions::Sessions,
    launches: launches::Launches,
    workers: workers::Workers,
    handlers: handlers::Handlers,
    /// Generations of pools that there were.
    generation_serial: u64,
    farewells: farewells::Farewells,

    /// Services whose room may have changed in this turn.
    touched: Vec<ServiceKey>,
    /// That of all services may have.
    all_touched: bool,
    launcher_was_lost: bool,
    exhaustion: Option<pause::Exhaustion>,
    spell: Option<pause::Spell>,
    /// Closed when descriptors run out, so that an admin can still connect.
    reserve: Option<std::os::fd::OwnedFd>,
    strangers: u64,
    ending: Option<shutdown::Ending>,
}

impl Supervisor {
    /// A word to the admin.
    fn note(&mut self, level: Level, text: &str) {
        self.log.write(&crate::service::record::Record::note(level, text));
    }

    /// Is superd on its way out?
    fn is_ending(&self) -> bool {
        self.ending.is_some()
    }
}
