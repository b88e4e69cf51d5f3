//! The signals of the supervisor, and what each asks for.

use std::io;

use nix::sys::signal::{SigSet, Signal};

use crate::config::settings::Level;
use crate::sys::signal::{self, Flag};

use super::Supervisor;

/// A flag for each signal that superd handles. See [`crate::sys::signal`] for why none is lost.
#[derive(Debug)]
pub(super) struct Signals {
    pub(super) child: Flag,
    hangup: Flag,
    terminate: Flag,
    interrupt: Flag,
    quit: Flag,
    dump: Flag,
    upgrade: Flag,
}

impl Signals {
    const HANDLED: [Signal; 7] = [
        Signal::SIGCHLD,
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ];

    /// Blocks the signals but inside of a wait, and installs their handlers.
    pub(super) fn install() -> io::Result<Self> {
        signal::block(&Self::HANDLED)?;
        Ok(Self {
            child: signal::flag(Signal::SIGCHLD)?,
            hangup: signal::flag(Signal::SIGHUP)?,
            terminate: signal::flag(Signal::SIGTERM)?,
            interrupt: signal::flag(Signal::SIGINT)?,
            quit: signal::flag(Signal::SIGQUIT)?,
            dump: signal::flag(Signal::SIGUSR1)?,
            upgrade: signal::flag(Signal::SIGUSR2)?,
        })
    }

    /// The mask inside of a wait: nothing is blocked.
    pub(super) fn mask() -> SigSet {
        SigSet::empty()
    }
}

impl Supervisor {
    /// Does what the signals since the last turn ask for.
    pub(super) fn on_signals(&mut self) {
        if self.signals.child.take() {
            self.reap();
        }
        if self.signals.hangup.take() && !self.is_ending() {
            self.log.reopen();
            self.request_load(None);
        }
        if self.signals.dump.take() {
            self.dump_state();
        }
        if self.signals.upgrade.take() {
            self.note(Level::Notice, "SIGUSR2 is ignored: this version of superd can't be upgraded in place");
        }
        if self.signals.quit.take() {
            self.end_at_once();
        }
        let (terminate, interrupt) = (self.signals.terminate.take(), self.signals.interrupt.take());
        if terminate || interrupt {
            self.begin_ending();
        }
    }
}
