//! The start of superd, as a checklist: what it is, what it keeps, what it loads, and when it is ready.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use crate::config::settings::{ClientDetail, Facility, Fallback, Format, Level, Log, LogTarget, RlimitPair};
use crate::config::situation::Situation;
use crate::service::admission::Admission;
use crate::service::backoff::Backoff;
use crate::service::refusals::Refusals;
use crate::sys::daemonize::{self, Side, Starter};
use crate::sys::passed::{Passed, Variables};
use crate::sys::readiness::Readiness;
use crate::sys::rtnetlink::InterfaceNews;
use crate::sys::{fd, process};

use super::Supervisor;
use super::admittance::Admittance;
use super::signals::Signals;
use super::{
    bans, collecting, farewells, launches, listeners, load, load_average, log, services, sessions, timers,
};

/// How superd is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file, absolute.
    pub config: PathBuf,
    /// Stay with the terminal or service manager.
    pub foreground: bool,
    /// Whom the configuration is judged for.
    pub situation: Situation,
}

/// Runs superd to its end.
pub fn run(mut options: Options) -> ExitCode {
    // The first process of a machine or container has nobody to return to.
    options.foreground |= process::own_pid() == 1;
    // What the service manager passed is meant for the process that it started, not for the daemon's.
    let passed = match Passed::take(&Variables::of_environment(), std::process::id()) {
        Ok(passed) => passed,
        Err(error) => return fail(None, &format!("superd can't take the sockets that were passed: {error}")),
    };
    if options.foreground {
        return start(options, passed, None);
    }
    match daemonize::daemonize() {
        Ok(Side::Starter(code)) => code,
        Ok(Side::Daemon(starter)) => start(options, passed, Some(starter)),
        Err(error) => fail(None, &format!("superd can't become a daemon: {error}")),
    }
}

fn start(options: Options, passed: Passed, starter: Option<Starter>) -> ExitCode {
    let mut supervisor = match Supervisor::new(options, passed) {
        Ok(supervisor) => supervisor,
        Err(error) => return fail(starter, &format!("superd can't start: {error}")),
    };
    supervisor.start_launcher();
    supervisor.request_load(None);
    supervisor.turn_until(|supervisor| supervisor.generation > 0);
    if let Some(errors) = supervisor.start_errors.take() {
        return fail(starter, &errors);
    }
    if supervisor.generation == 0 {
        // TERM or QUIT came first.
        let Some(starter) = starter else { return ExitCode::SUCCESS };
        return fail(Some(starter), "superd was ended by a signal before it was started");
    }
    if let Some(starter) = starter {
        // What is said from here on is the log's.
        let _ = daemonize::detach_stderr();
        starter.started();
    }
    supervisor.turn_until(|_| false);
    supervisor.say_goodbye();
    ExitCode::SUCCESS
}

/// A start that failed: whoever started superd is told why.
fn fail(starter: Option<Starter>, errors: &str) -> ExitCode {
    let text = format!("{}\nsuperd: not started\n", errors.trim_end());
    match starter {
        Some(starter) => starter.failed(&text),
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
    ExitCode::FAILURE
}

impl Supervisor {
    fn new(options: Options, passed: Passed) -> io::Result<Self> {
        let signals = Signals::install()?;
        process::set_undumpable()?;
        // What superd and its roles make is nobody else's to write, whoever started it.
        process::set_umask(0o022);
        let (soft, hard) = process::descriptor_limit()?;
        process::raise_descriptor_limit()?;
        let now = Instant::now();
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Self {
            epoch,
            started: now,
            now,
            serial: 0,
            is_init: process::own_pid() == 1,
            admittance: Admittance::default(),
            datagram_rules: super::datagram_rules::DatagramRules::default(),
            commands: super::hosts::Commands::default(),
            judging: super::judging::Judging::default(),
            resolver: super::resolving::Resolver::default(),
            minute: None,
            socket_tables: None,
            nofile: RlimitPair { soft, hard },
            signals,
            timers: timers::Timers::default(),
            log: log::Log::open(&first_log(), &log::Start::look(options.foreground)),
            refusals: Refusals::default(),
            control: None,
            // Without netlink (a sandbox may forbid it) what is missing is tried again by time alone.
            interface_news: InterfaceNews::open().ok(),
            passed,
            pid_file: None,
            writer_backoff: Backoff::delayed(Duration::from_secs(1), Duration::from_secs(30)),
            state_writer: None,
            collecting: collecting::Collecting::default(),
            readiness: Readiness::bind()?,
            generation: 0,
            daemon: None,
            log_settings: None,
            load: load::Loads::default(),
            watching: super::watching::Watching::default(),
            start_errors: None,
            services: services::Services::default(),
            listeners: listeners::Listeners::new(),
            admission: Admission::new(0),
            load_average: load_average::Reading::default(),
            bans: bans::Bans::new(),
            sessions: sessions::Sessions::default(),
            launches: launches::Launches::new()?,
            workers: super::workers::Workers::default(),
            handlers: super::handlers::Handlers::default(),
            generation_serial: 0,
            farewells: farewells::Farewells::default(),
            touched: Vec::new(),
            all_touched: false,
            launcher_was_lost: false,
            exhaustion: None,
            spell: None,
            reserve: fd::open_null().ok(),
            strangers: 0,
            ending: None,
            options,
        })
    }
}

/// The log until the configuration says where it goes.
fn first_log() -> Log {
    Log {
        target: LogTarget::Stderr,
        facility: Facility(3),
        socket: PathBuf::from("/dev/log"),
        tag: "superd".to_owned(),
        fallback: Fallback::None,
        level: Level::Info,
        format: Format::Superd,
        client: ClientDetail::Full,
    }
}
