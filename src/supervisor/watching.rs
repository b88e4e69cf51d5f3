//! Watched lists and hosts files: when they have changed and settled, they alone are loaded. A bad line, a file
//! that is empty or gone: what was in force stays.
//!
//! The loader sets the watches; here their news are read.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::diagnostic::Complaint;
use crate::config::settings::Level;
use crate::config::wire;
use crate::protocol::beside::{self, Beside};
use crate::protocol::load::{Changed, Watch};
use crate::service::admission::ServiceKey;
use crate::sys::inotify::{Inotify, Kind, News};
use crate::sys::memory::SealedMap;

use super::Supervisor;
use super::timers::{Due, TimerId};

/// Nothing more has happened for so long: the files are as they are meant.
const SETTLE: Duration = Duration::from_millis(300);

/// Where something happens all the time, they are read nevertheless.
const LATEST: Duration = Duration::from_secs(3);

/// Lines of a refused list that are logged.
const LOGGED: usize = 10;

/// What is watched, and what has happened to it.
#[derive(Debug, Default)]
pub(super) struct Watching {
    inotify: Option<Inotify>,
    watches: Vec<Watch>,
    /// Files that have changed; `true`: they were only made.
    changed: BTreeMap<PathBuf, bool>,
    settles: Option<Settling>,
}

#[derive(Debug)]
struct Settling {
    timer: TimerId,
    since: Instant,
}

impl Watching {
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Takes note of what has happened; the directories that are gone.
    fn note(&mut self, news: &[News]) -> Vec<PathBuf> {
        let mut gone = Vec::new();
        for News { watch, name, kind } in news {
            let of_watch = self.watches.iter().filter(|known| known.id == *watch || *kind == Kind::Lost);
            for known in of_watch {
                let meant =
                    |(named, _): &&(_, _)| named == name || matches!(kind, Kind::Lost | Kind::DirectoryGone);
                for (_, file) in known.names.iter().filter(meant) {
                    let made = *kind == Kind::Made;
                    self.changed
                        .entry(file.clone())
                        .and_modify(|only_made| *only_made &= made)
                        .or_insert(made);
                }
                if *kind == Kind::DirectoryGone {
                    gone.push(known.directory.clone());
                }
            }
        }
        self.watches.retain(|watch| !gone.contains(&watch.directory));
        gone
    }
}

impl Supervisor {
    /// Something has happened in a directory of a watched file.
    pub(super) fn on_watched(&mut self) {
        let Some(inotify) = &self.watching.inotify else { return };
        let news = inotify.drain();
        for directory in self.watching.note(&news) {
            let text = format!("{} is gone: its files are watched again after a reload", directory.display());
            self.note(Level::Warning, &text);
        }
        if !self.watching.changed.is_empty() {
            self.wait_until_settled();
        }
    }

    fn wait_until_settled(&mut self) {
        let before = self.watching.settles.take();
        let since = before.as_ref().map_or(self.now, |settling| settling.since);
        if let Some(Settling { timer, .. }) = before {
            self.timers.cancel(timer);
        }
        // Never in the past: a load that is under way is waited for.
        let at = (self.now + SETTLE).min((since + LATEST).max(self.now + SETTLE / 3));
        let timer = self.timers.set(at, Due::ListsSettled);
        self.watching.settles = Some(Settling { timer, since });
    }

    /// The files are as they are meant: they are read again.
    pub(super) fn lists_have_settled(&mut self) {
        self.watching.settles = None;
        if self.is_ending() {
            return;
        }
        if self.load.is_busy() {
            return self.wait_until_settled();
        }
        let changed = std::mem::take(&mut self.watching.changed);
        self.load_lists(changed.into_iter().map(|(path, made)| Changed { path, made }).collect());
    }

    /// The watches of a load, in place of those before: what has happened until then it has seen.
    pub(super) fn take_watches(&mut self, inotify: Option<OwnedFd>, watches: Vec<Watch>) {
        if let Some(Settling { timer, .. }) = self.watching.settles.take() {
            self.timers.cancel(timer);
        }
        let inotify = inotify.map(Inotify::from);
        self.watching = Watching { inotify, watches, ..Watching::default() };
    }

    /// The lists have been read; what else the files say now is for a reload.
    pub(super) fn take_lists(
        &mut self,
        config: &OwnedFd,
        tables: &OwnedFd,
        changed: &[Changed],
    ) -> Result<(), String> {
        let beside = self.read_lists(config, tables)?;
        self.admittance.replace_lists(beside);
        let keys: Vec<ServiceKey> = self.services.keys();
        for key in keys {
            if let Some(service) = self.services.get_mut(key).filter(|service| !service.is_gone) {
                let policy = Rc::clone(&service.rules.policy);
                service.rules = self.admittance.rules(&service.settings, Some(&policy));
            }
        }
        self.settle_datagram_rules();
        let names: Vec<String> = changed.iter().map(|changed| changed.path.display().to_string()).collect();
        self.note(Level::Notice, &format!("read again: {}", names.join(", ")));
        Ok(())
    }

    /// Every name that a rule in force uses must have something to stand for.
    fn read_lists(&self, config: &OwnedFd, tables: &OwnedFd) -> Result<Beside, String> {
        let map = SealedMap::open(config.as_fd()).map_err(|error| error.to_string())?;
        let reader = wire::Reader::new(&map).map_err(|error| error.to_string())?;
        let block = SealedMap::open(tables.as_fd()).map_err(|error| error.to_string())?;
        let named = beside::Named { sets: reader.sets(), hours: reader.hours(), zone: &reader.daemon().zone };
        let beside = beside::open(block, &named).map_err(|error| error.to_string())?;
        let are_there = |(name, _)| beside.tables.set(name).is_some();
        let is_whole = self.admittance.tables.sets().all(are_there)
            && self.services.iter().filter(|(_, service)| !service.is_gone).all(|(_, service)| {
                let access = &service.settings.access;
                access.hosts_access.is_none() || beside::hosts_of(&beside.hosts, access).is_some()
            });
        if is_whole { Ok(beside) } else { Err("the configuration has changed, too: reload it".to_owned()) }
    }

    /// What was in force stays.
    pub(super) fn refuse_lists(&mut self, errors: &[Complaint]) {
        for error in errors.iter().take(LOGGED) {
            self.note(Level::Warning, &format!("lists stay as they were: {}", error.line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_of_the_files_that_are_named() {
        let watch = |id, names: &[&str]| Watch {
            id,
            directory: format!("/d{id}").into(),
            names: names.iter().map(|name| ((*name).into(), format!("/{name}").into())).collect(),
        };
        let news = |watch, name: &str, kind| News { watch, name: name.into(), kind };
        let check = |all: &[News], changed: &[(&str, bool)], gone: &[&str]| {
            let watches = vec![watch(1, &["a", "b"]), watch(2, &["c"])];
            let mut watching = Watching { watches, ..Watching::default() };
            let found = watching.note(all);
            let expected: BTreeMap<PathBuf, bool> =
                changed.iter().map(|(path, made)| (path.into(), *made)).collect();
            assert_eq!(watching.changed, expected, "{all:?}");
            assert_eq!(found, gone.iter().map(PathBuf::from).collect::<Vec<_>>(), "{all:?}");
        };
        check(&[news(1, "x", Kind::Changed), news(2, "a", Kind::Changed)], &[], &[]);
        check(&[news(1, "a", Kind::Made)], &[("/a", true)], &[]);
        check(&[news(1, "a", Kind::Made), news(1, "a", Kind::Changed)], &[("/a", false)], &[]);
        check(&[news(2, "", Kind::DirectoryGone)], &[("/c", false)], &["/d2"]);
        check(&[news(-1, "", Kind::Lost)], &[("/a", false), ("/b", false), ("/c", false)], &[]);
    }
}
