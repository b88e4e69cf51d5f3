//! Where the log goes, how that was chosen, and the frame that a line gets there.

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::sys::stat::fstat;

use crate::config::settings::{self, Facility, Level, LogTarget};
use crate::protocol::log::frame::{self, Rfc3164, Stamp};
use crate::protocol::log::journal;
use crate::protocol::writer::Order;
use crate::service::record::Record;

/// How superd was started, as far as the log is concerned.
#[derive(Debug, Clone)]
pub struct Start {
    /// superd stays with its terminal or its service manager.
    pub foreground: bool,
    /// superd is the first process of its machine or container.
    pub pid1: bool,
    /// Standard error is a stream to the journal, by `JOURNAL_STREAM`.
    pub journal_stream: bool,
    /// The journal's socket.
    pub journal: PathBuf,
    /// The console.
    pub console: PathBuf,
}

impl Start {
    /// Looks at this process.
    pub fn look(foreground: bool) -> Self {
        Self {
            foreground,
            pid1: std::process::id() == 1,
            journal_stream: stderr_is_journal(),
            journal: PathBuf::from(journal::SOCKET),
            console: PathBuf::from("/dev/console"),
        }
    }
}

/// systemd.exec(5): `JOURNAL_STREAM` is device and inode; it must be compared, since a descriptor may have
/// been redirected while the variable was inherited.
fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr().as_fd()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// A syslog daemon's socket.
    Syslog(PathBuf),
    /// The journal's socket.
    Journal(PathBuf),
    /// Standard error.
    Stderr,
    /// A file, through the writer.
    File(PathBuf),
}

impl Target {
    /// The target that the settings mean, for a superd that was started so.
    pub(super) fn choose(settings: &settings::Log, start: &Start) -> Self {
        match &settings.target {
            LogTarget::Auto if start.journal_stream => Self::Journal(start.journal.clone()),
            LogTarget::Auto if start.foreground || start.pid1 || !is_socket(&settings.socket) => Self::Stderr,
            LogTarget::Auto | LogTarget::Syslog => Self::Syslog(settings.socket.clone()),
            LogTarget::Journal => Self::Journal(start.journal.clone()),
            LogTarget::Stderr => Self::Stderr,
            LogTarget::File(path) => Self::File(path.clone()),
        }
    }

    /// The file, if it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syslog(path) => write!(f, "syslog:{}", path.display()),
            Self::Journal(_) => f.write_str("journal"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

/// Puts frames around lines.
#[derive(Debug)]
pub(super) struct Framer {
    pid: u32,
    zone: TimeZone,
    second: i64,
    stamp: Stamp,
}

/// A line on its way into a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bare<'a> {
    /// What it was rendered from; none for a line that is put into another frame.
    pub(super) record: Option<&'a Record<'a>>,
    /// How important it is.
    pub(super) level: Level,
    /// Its facility.
    pub(super) facility: Facility,
    /// The line.
    pub(super) text: &'a [u8],
}

impl Framer {
    /// The time zone is read once: the loop reads no file afterwards.
    pub(super) fn new() -> Self {
        let (second, stamp) = (i64::MIN, Stamp::default());
        Self { pid: std::process::id(), zone: TimeZone::system(), second, stamp }
    }

    /// Appends the line in the target's frame to the empty `out`; where in it the line stands.
    pub(super) fn push(
        &mut self,
        out: &mut Vec<u8>,
        target: &Target,
        settings: &settings::Log,
        line: Bare,
    ) -> Range<usize> {
        let Bare { record, level, facility, text } = line;
        let tag = settings.tag.as_str();
        match target {
            Target::Syslog(_) => {
                self.tick();
                let frame = Rfc3164 { facility, stamp: &self.stamp, tag, pid: self.pid };
                frame::push_syslog(out, frame, level, text);
                out.len() - text.len()..out.len()
            }
            Target::Journal(_) => {
                let entry = journal::Entry { tag, facility, line: text };
                match record {
                    Some(record) => journal::push_record(out, record, settings.client, entry),
                    None => journal::push_plain(out, level, entry),
                }
                journal::BEFORE_LINE..journal::BEFORE_LINE + text.len()
            }
            Target::Stderr => {
                out.extend_from_slice(text);
                out.push(b'\n');
                0..text.len()
            }
            Target::File(_) => {
                let millisecond = self.tick();
                Order::Line(&[]).push(out);
                frame::push_file(out, &self.stamp, millisecond, tag, self.pid, text);
                out.len() - 1 - text.len()..out.len() - 1
            }
        }
    }

    /// Brings the stamp up to the second; the millisecond.
    fn tick(&mut self) -> u16 {
        let now = Timestamp::now();
        if now.as_second() != self.second {
            self.second = now.as_second();
            self.stamp = Stamp::of(&now.to_zoned(self.zone.clone()));
        }
        u16::try_from(now.subsec_millisecond()).unwrap_or(0)
    }
}

/// The packet that makes the writer open a file.
pub(super) fn open_order(path: &Path) -> Vec<u8> {
    let mut packet = Vec::new();
    Order::Open { path: path.as_os_str().as_bytes() }.push(&mut packet);
    packet
}
