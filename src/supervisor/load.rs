//! Loading: a loader is asked for a configuration, and what it answers is put in force or refused.
//!
//! One load at a time. Whatever asks meanwhile, once or a thousand times, is served by one more load that begins
//! when this one is over, so that what was written before the last signal is what is in force at the end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::config::diagnostic::Complaint;
use crate::config::settings::Level;
use crate::protocol::control::{Answer, Refusal, Reply};
use crate::protocol::load::{Changed, Loaded, Request};
use crate::service::record::Event;
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::{SealedMap, sealed};

use super::Supervisor;
use super::control::ClientId;
use super::roles::RoleKind;
use super::timers::{Due, TimerId};

/// How long a load may take: the user database may be a server that does not answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// Errors of a refused load that have a line of their own in the log.
const LOGGED_ERRORS: usize = 10;

/// The load that is under way, and who waits for the one after it.
#[derive(Debug, Default)]
pub(super) struct Loads {
    current: Option<Load>,
    next: Option<Vec<ClientId>>,
}

#[derive(Debug)]
struct Load {
    channel: Channel,
    timer: TimerId,
    waiting: Vec<ClientId>,
    /// Lists alone are read again, since these have changed.
    changed: Option<Vec<Changed>>,
}

impl Loads {
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.current.as_ref().map(|load| load.channel.as_fd())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }
}

impl Supervisor {
    /// Loads the configuration, now or after the load that is under way.
    pub(super) fn request_load(&mut self, client: Option<ClientId>) {
        if self.load.current.is_some() {
            self.load.next.get_or_insert_default().extend(client);
        } else {
            self.start_load(client.into_iter().collect());
        }
    }

    fn start_load(&mut self, waiting: Vec<ClientId>) {
        self.notify_reloading();
        match self.ask_loader(None) {
            Ok(channel) => {
                let timer = self.timers.set(self.now + DEADLINE, Due::LoaderTimeout);
                self.load.current = Some(Load { channel, timer, waiting, changed: None });
            }
            Err(error) => {
                self.refuse_load(own(format!("the configuration can't be loaded: {error}")), &waiting);
            }
        }
    }

    /// Loads the lists alone, while nothing else is loaded.
    pub(super) fn load_lists(&mut self, changed: Vec<Changed>) {
        match self.ask_loader(Some(changed.clone())) {
            Ok(channel) => {
                let timer = self.timers.set(self.now + DEADLINE, Due::LoaderTimeout);
                self.load.current =
                    Some(Load { channel, timer, waiting: Vec::new(), changed: Some(changed) });
            }
            Err(error) => self.refuse_lists(&own(format!("they can't be loaded: {error}"))),
        }
    }

    fn ask_loader(&mut self, changed: Option<Vec<Changed>>) -> std::io::Result<Channel> {
        let request = Request {
            path: self.options.config.clone(),
            situation: self.options.situation.clone(),
            nofile: self.nofile,
            notify: self.readiness.name().to_owned(),
            changed,
        };
        let text = sealed("superd-load", &serde_json::to_vec(&request)?)?;
        let channel = self.start_role(RoleKind::Loader)?;
        channel.send(b"load", &[text.as_fd()])?;
        Ok(channel)
    }

    /// The loader has answered, or is gone.
    pub(super) fn on_loader(&mut self) {
        let Some(load) = &self.load.current else { return };
        let mut packet = [0; 64];
        let answer = match load.channel.receive(&mut packet) {
            Ok(Received::Empty) => return,
            Ok(Received::Packet { fds, .. }) => Some(fds),
            Ok(Received::Closed) | Err(_) => None,
        };
        let Some(load) = self.load.current.take() else { return };
        self.timers.cancel(load.timer);
        match (answer, &load.changed) {
            (Some(fds), Some(changed)) => self.on_lists(fds, changed),
            (Some(fds), None) => self.on_answer(fds, &load.waiting),
            (None, _) => self.load_failed(&load, own("the loader ended without an answer")),
        }
        self.load_next();
    }

    /// The loader hangs: in the user database, or on a disk. It is killed; everything stays as it is.
    pub(super) fn loader_timeout(&mut self) {
        let Some(load) = self.load.current.take() else { return };
        self.kill_role(RoleKind::Loader);
        let seconds = DEADLINE.as_secs();
        let error =
            format!("no answer within {seconds} s: a user database, a disk or a file does not answer");
        self.load_failed(&load, own(error));
        self.load_next();
    }

    /// superd is ending: nothing that a loader still says is put in force.
    pub(super) fn forget_loads(&mut self) {
        let current = self.load.current.take();
        let mut waiting = self.load.next.take().unwrap_or_default();
        if let Some(load) = current {
            self.timers.cancel(load.timer);
            waiting.extend(load.waiting);
        }
        self.reply_to(&waiting, &Reply::Refused(Refusal { errors: vec!["superd is ending".to_owned()] }));
    }

    fn load_next(&mut self) {
        if let Some(waiting) = self.load.next.take() {
            self.start_load(waiting);
        }
    }

    fn load_failed(&mut self, load: &Load, errors: Vec<Complaint>) {
        match load.changed {
            Some(_) => self.refuse_lists(&errors),
            None => self.refuse_load(errors, &load.waiting),
        }
    }

    fn on_lists(&mut self, fds: Vec<OwnedFd>, changed: &[Changed]) {
        let mut fds = fds.into_iter();
        let loaded = fds.next().and_then(|fd| Loaded::decode(&SealedMap::open(fd.as_fd()).ok()?).ok());
        let Some(loaded) = loaded else { return self.refuse_lists(&own("the loader's answer is malformed")) };
        // Without any of them there was nothing to read, or it was no good.
        let (Some(config), Some(_), Some(tables)) = (fds.next(), fds.next(), fds.next()) else {
            return self.refuse_lists(&loaded.errors);
        };
        match self.take_lists(&config, &tables, changed) {
            Ok(()) => self.take_watches(fds.next(), loaded.watches),
            Err(error) => self.refuse_lists(&own(error)),
        }
    }

    fn on_answer(&mut self, fds: Vec<OwnedFd>, waiting: &[ClientId]) {
        let mut fds = fds.into_iter();
        let loaded = fds.next().and_then(|fd| Loaded::decode(&SealedMap::open(fd.as_fd()).ok()?).ok());
        let Some(loaded) = loaded else {
            return self.refuse_load(own("the loader's answer is malformed"), waiting);
        };
        let (Some(config), Some(plans), Some(tables)) = (fds.next(), fds.next(), fds.next()) else {
            return self.refuse_load(loaded.errors, waiting);
        };
        match self.prepare(&config, plans, &tables) {
            Ok(prepared) => {
                let mut report = self.commit(prepared);
                self.take_watches(fds.next(), loaded.watches);
                let lines = loaded.warnings.iter().map(|w| &w.line).chain(&report.warnings).cloned();
                for line in lines.collect::<Vec<_>>() {
                    self.note(Level::Warning, &line);
                }
                report.warnings.splice(0..0, loaded.warnings.into_iter().map(|warning| warning.text));
                self.notify_ready();
                self.reply_to(waiting, &Reply::Done(Box::new(Answer::Reload(report))));
            }
            Err(errors) => self.refuse_load(errors.into_iter().flat_map(own).collect(), waiting),
        }
    }

    /// Nothing changes. The admin is told; at the start, so is whoever started superd.
    fn refuse_load(&mut self, errors: Vec<Complaint>, waiting: &[ClientId]) {
        if self.generation == 0 {
            let texts: Vec<String> = errors.into_iter().map(|error| error.text).collect();
            self.start_errors = Some(texts.join("\n\n"));
            return self.end_at_once();
        }
        let first = errors.first().map_or("", |error| error.line.as_str());
        let event = Event::ReloadRefused { error: first, errors: errors.len() };
        self.log_event(Level::Err, event);
        for error in errors.iter().take(LOGGED_ERRORS).skip(1) {
            self.note(Level::Err, &error.line);
        }
        self.notify_ready();
        let errors = errors.into_iter().map(|error| error.text).collect();
        self.reply_to(waiting, &Reply::Refused(Refusal { errors }));
    }

    fn reply_to(&mut self, clients: &[ClientId], reply: &Reply) {
        if let Some(control) = &mut self.control {
            for client in clients {
                control.reply(*client, reply, self.now);
            }
        }
    }
}

/// An error of superd's own, which is the same in one line and in several.
fn own(error: impl Into<String>) -> Vec<Complaint> {
    let line = error.into();
    vec![Complaint { text: line.clone(), line }]
}
