//! The end of superd: with grace, without, or at once.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::config::settings::Level;
use crate::service::record::Event;
use crate::sys::process;

use super::Supervisor;
use super::notify::notify_stopping;
use super::sessions::SessionKey;
use super::timers::{Due, TimerId};
use super::workers::WorkerKind;

/// How long the lines that programs wrote last may take; a process that a program has left behind may hold its
/// standard error for ever.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How long the last lines of the log may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// After the last KILL: how long processes may take to die. A request to a file system that never answers keeps
/// one for ever.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// How far the end has come.
#[derive(Debug)]
pub(super) struct Ending {
    stage: Stage,
    timer: Option<TimerId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Sessions may end by themselves.
    Grace,
    /// They were sent TERM; each has its own time until KILL.
    Terminated,
    /// What they wrote last is on its way into the log, and the bans into their file.
    LastLines,
    /// As pid 1: everybody else was sent TERM.
    Everybody,
    /// Nothing is waited for any more.
    Done,
}

impl Supervisor {
    /// Is the loop to end?
    pub(super) fn is_done(&mut self) -> bool {
        let Some(stage) = self.ending.as_ref().map(|ending| ending.stage) else { return false };
        match stage {
            Stage::Everybody => {}
            Stage::Grace | Stage::Terminated
                if !self.sessions.table.is_empty()
                    || self.workers.has_pools()
                    || self.commands.are_running() => {}
            Stage::LastLines if self.is_still_writing() => {}
            Stage::Grace | Stage::Terminated if self.is_still_writing() => {
                self.set_stage(Stage::LastLines, Some(LAST_LINES));
            }
            Stage::Grace | Stage::Terminated | Stage::LastLines if self.is_init => self.end_everybody(),
            Stage::Grace | Stage::Terminated | Stage::LastLines | Stage::Done => return true,
        }
        false
    }

    /// Is there anything on its way to the log or a disk that would be lost?
    fn is_still_writing(&mut self) -> bool {
        if self.bans.writer().is_none() {
            self.keep_bans();
        }
        self.collecting.is_busy() || self.bans.writer().is_some()
    }

    /// May sessions still end by themselves?
    pub(super) fn is_in_grace(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.stage == Stage::Grace)
    }

    /// TERM or INT: nobody is let in any more; a second one takes the grace away.
    pub(super) fn begin_ending(&mut self) {
        if self.is_ending() {
            return self.terminate_sessions();
        }
        notify_stopping();
        self.forget_loads();
        for key in self.listeners.keys() {
            self.listeners.close(key);
        }
        let grace = self.daemon.as_ref().map_or(Duration::ZERO, |daemon| daemon.shutdown_grace);
        let timer = self.timers.set(self.now + grace, Due::Shutdown);
        self.ending = Some(Ending { stage: Stage::Grace, timer: Some(timer) });
        self.settle_datagrams();
        self.retire_all_workers();
        self.fail_all_questions();
        let sessions = self.sessions.table.len();
        if sessions > 0 {
            let text = format!("ending: {sessions} sessions have {} s", grace.as_secs());
            self.note(Level::Notice, &text);
        }
    }

    /// The time of a stage is over.
    pub(super) fn continue_ending(&mut self) {
        match self.ending.as_ref().map(|ending| ending.stage) {
            Some(Stage::Grace) => self.terminate_sessions(),
            Some(Stage::Terminated) => self.leave_sessions(),
            Some(Stage::LastLines) if self.is_init => self.end_everybody(),
            Some(Stage::LastLines) => self.set_stage(Stage::Done, None),
            Some(Stage::Everybody) => {
                process::signal_everybody(Signal::SIGKILL);
                self.set_stage(Stage::Done, None);
            }
            _ => {}
        }
    }

    fn terminate_sessions(&mut self) {
        if self.ending.as_ref().is_some_and(|ending| ending.stage != Stage::Grace) {
            return;
        }
        let sessions = self.sessions.table.iter().map(|(_, session)| &session.settings);
        let workers = self.workers.table.iter().filter_map(|(_, worker)| match &worker.kind {
            WorkerKind::Pool { settings, .. } => Some(settings),
            WorkerKind::Handlers => None,
        });
        let kill_after = sessions.chain(workers).map(|settings| settings.timeouts.kill_after);
        self.set_stage(Stage::Terminated, Some(kill_after.max().unwrap_or_default() + LAST_BREATH));
        let keys: Vec<SessionKey> = self.sessions.table.keys();
        for key in keys {
            self.end_session(key, "shutdown");
        }
        self.terminate_workers();
        self.kill_commands();
    }

    /// What KILL has not ended is waited for no longer.
    fn leave_sessions(&mut self) {
        let sessions = self.sessions.table.len();
        let who = if sessions > 0 { format!("{sessions} sessions") } else { "some processes".to_owned() };
        self.note(Level::Err, &format!("{who} can't be ended: superd ends without them"));
        if self.is_init {
            self.end_everybody();
        } else {
            self.set_stage(Stage::Done, None);
        }
    }

    /// pid 1 is the last: what is left in its name space gets TERM, a grace, and KILL from the kernel.
    fn end_everybody(&mut self) {
        process::signal_everybody(Signal::SIGTERM);
        self.set_stage(Stage::Everybody, Some(Duration::from_secs(1)));
    }

    /// QUIT: superd ends, launched programs live on.
    pub(super) fn end_at_once(&mut self) {
        self.set_stage(Stage::Done, None);
    }

    fn set_stage(&mut self, stage: Stage, wait: Option<Duration>) {
        if let Some(timer) = self.ending.as_mut().and_then(|ending| ending.timer.take()) {
            self.timers.cancel(timer);
        }
        let timer = wait.map(|wait| self.timers.set(self.now + wait, Due::Shutdown));
        self.ending = Some(Ending { stage, timer });
    }

    /// The last words.
    pub(super) fn say_goodbye(&mut self) {
        // After QUIT they are still open; their paths go with them.
        for key in self.listeners.keys() {
            self.listeners.close(key);
        }
        self.write_all_refusals();
        let sessions = self.sessions.table.len();
        self.log_event(Level::Notice, Event::Stop { sessions });
        self.log.finish(LAST_WORDS);
    }
}
