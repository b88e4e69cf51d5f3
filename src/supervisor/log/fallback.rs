//! Where errors go while no log daemon answers: the console, standard error, or nowhere.
//!
//! Best effort: what does not fit now is lost here, and waits in the ring all the same.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::config::settings;

use super::stderr::{MAX_WRITE, Stderr};

/// The fallback, and what it is to say at the end of the turn.
#[derive(Debug)]
pub(super) struct Fallback {
    kind: settings::Fallback,
    console: PathBuf,
    text: Vec<u8>,
}

impl Fallback {
    /// Nothing to say yet.
    pub(super) fn new(kind: settings::Fallback, console: PathBuf) -> Self {
        Self { kind, console, text: Vec::new() }
    }

    /// Takes the kind of a new configuration.
    pub(super) fn set_kind(&mut self, kind: settings::Fallback) {
        self.kind = kind;
    }

    /// Keeps a line for [`Self::flush`].
    pub(super) fn push(&mut self, tag: &str, line: &[u8]) {
        let before = self.text.len();
        // Writing to a Vec can't fail.
        drop(write!(self.text, "{tag}[{}]: ", std::process::id()));
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        if self.text.len() > MAX_WRITE {
            self.text.truncate(before);
        }
    }

    /// Writes what was kept, in one call.
    pub(super) fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let text = std::mem::take(&mut self.text);
        // There is nobody left to tell of an error here.
        match self.kind {
            settings::Fallback::Console => {
                let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
                let console = OpenOptions::new().append(true).custom_flags(flags).open(&self.console);
                drop(console.and_then(|mut console| console.write(&text)));
            }
            settings::Fallback::Stderr => drop(Stderr::open().and_then(|stderr| stderr.write(&text))),
            settings::Fallback::None => {}
        }
    }
}
