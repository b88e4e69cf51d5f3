//! What stands around a line: RFC 3164 for syslog, an RFC 3339 stamp for a file, and the stamps themselves.
//!
//! Times are local, as readers of these two expect, and come in as values.

use std::io::Write;

use jiff::Zoned;
use syslog::{LogFormat, Severity};

use crate::config::settings::{Facility, Level};

/// A second of local time, written out as both frames want it; made once a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamp {
    /// `Nov  2 03:04:05` (RFC 3164 §4.1.2: the day is padded with a blank).
    syslog: String,
    /// `2026-11-02T03:04:05`, to which the milliseconds come.
    file: String,
    /// `+01:00`.
    offset: String,
}

impl Stamp {
    /// The stamp of a time.
    pub fn of(time: &Zoned) -> Self {
        Self {
            syslog: time.strftime("%b %e %H:%M:%S").to_string(),
            file: time.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            offset: time.strftime("%:z").to_string(),
        }
    }
}

/// `<PRI>STAMP tag[pid]: line`, as a format of the syslog crate.
///
/// The crate's own formatter writes UTC, zero-padded days and control bytes as they come, and parses its
/// format string for every line; so its severities and its trait are used, not its formatter.
#[derive(Debug, Clone, Copy)]
pub struct Rfc3164<'a> {
    /// The facility, as the configuration has it: a number that the crate's enumeration can't be made of.
    pub facility: Facility,
    /// The time.
    pub stamp: &'a Stamp,
    /// The program's name.
    pub tag: &'a str,
    /// Its process.
    pub pid: u32,
}

impl LogFormat<&[u8]> for Rfc3164<'_> {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, line: &[u8]) -> syslog::Result<()> {
        let priority = (u32::from(self.facility.0) << 3) | severity as u32;
        write!(out, "<{priority}>{} {}[{}]: ", self.stamp.syslog, self.tag, self.pid)
            .and_then(|()| out.write_all(line))
            .map_err(syslog::Error::Write)
    }
}

/// Appends a syslog datagram.
pub fn push_syslog(out: &mut Vec<u8>, frame: Rfc3164, level: Level, line: &[u8]) {
    // Writing to a Vec can't fail.
    drop(frame.format(out, severity(level), line));
}

/// Appends a line of the log file: `2026-11-22T03:04:05.123+01:00 superd[pid]: line`, and a newline.
pub fn push_file(out: &mut Vec<u8>, stamp: &Stamp, millisecond: u16, tag: &str, pid: u32, line: &[u8]) {
    let Stamp { file, offset, .. } = stamp;
    drop(write!(out, "{file}.{millisecond:03}{offset} {tag}[{pid}]: "));
    out.extend_from_slice(line);
    out.push(b'\n');
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Crit => Severity::LOG_CRIT,
        Level::Err => Severity::LOG_ERR,
        Level::Warning => Severity::LOG_WARNING,
        Level::Notice => Severity::LOG_NOTICE,
        Level::Info => Severity::LOG_INFO,
        Level::Debug => Severity::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::{TimeZone, offset};

    #[test]
    fn syslog_frames_are_rfc_3164() {
        check(3, Level::Info, "2026-11-02T02:04:05.9Z", "<30>Nov  2 03:04:05 superd[4711]: a b");
        check(23, Level::Debug, "2026-11-22T23:04:05Z", "<191>Nov 23 00:04:05 superd[4711]: a b");
        check(0, Level::Crit, "2026-01-01T00:00:00Z", "<2>Jan  1 01:00:00 superd[4711]: a b");
    }

    #[track_caller]
    fn check(facility: u8, level: Level, time: &str, expected: &str) {
        let mut out = Vec::new();
        let stamp = stamp(time);
        let frame = Rfc3164 { facility: Facility(facility), stamp: &stamp, tag: "superd", pid: 4711 };
        push_syslog(&mut out, frame, level, b"a b");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_of_a_file_are_rfc_3339() {
        let mut out = Vec::new();
        push_file(&mut out, &stamp("2026-11-22T02:04:05Z"), 7, "superd", 4711, b"a b");
        assert_eq!(String::from_utf8(out).unwrap(), "2026-11-22T03:04:05.007+01:00 superd[4711]: a b\n");
    }

    fn stamp(time: &str) -> Stamp {
        let time: jiff::Timestamp = time.parse().unwrap();
        Stamp::of(&time.to_zoned(TimeZone::fixed(offset(1))))
    }
}
