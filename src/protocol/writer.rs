//! What the supervisor and the writer say to each other: one packet each, a letter and what belongs to it.
//!
//! Paths are bytes: what a file system takes is not always text.

/// The longest packet.
pub const MAX_PACKET: usize = 16 * 1024;

/// To the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// Write lines to the end of this file from now on.
    Open {
        /// Absolute.
        path: &'a [u8],
    },
    /// Append these bytes: a line of the log and its newline.
    Line(&'a [u8]),
    /// The file may have been renamed: open its path again.
    Reopen,
    /// Make this file hold what the memfd that comes with the packet holds.
    State {
        /// Absolute.
        path: &'a [u8],
    },
}

impl<'a> Order<'a> {
    /// Appends the packet.
    pub fn push(self, out: &mut Vec<u8>) {
        let (letter, rest): (u8, &[u8]) = match self {
            Self::Open { path } => (b'O', path),
            Self::Line(line) => (b'L', line),
            Self::Reopen => (b'R', &[]),
            Self::State { path } => (b'S', path),
        };
        out.push(letter);
        out.extend_from_slice(rest);
    }

    /// Reads a packet.
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (letter, rest) = packet.split_first()?;
        match (letter, rest) {
            (b'O', path) => Some(Self::Open { path }),
            (b'L', line) => Some(Self::Line(line)),
            (b'R', []) => Some(Self::Reopen),
            (b'S', path) => Some(Self::State { path }),
            _ => None,
        }
    }
}

/// From the writer: how a file is, said when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which file.
    pub file: File,
    /// Why it can't be written; 0 when it can again.
    pub errno: i32,
    /// Lines that were lost since the last report.
    pub lost: u64,
}

/// The writer's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// The log.
    Log,
    /// The state dump.
    State,
}

/// The length of a report's packet.
pub const REPORT_LENGTH: usize = 13;

impl Report {
    /// The packet.
    pub fn bytes(self) -> [u8; REPORT_LENGTH] {
        let mut packet = [0; REPORT_LENGTH];
        let letter = match self.file {
            File::Log => b'l',
            File::State => b's',
        };
        let parts = [letter].into_iter().chain(self.errno.to_le_bytes()).chain(self.lost.to_le_bytes());
        packet.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        packet
    }

    /// Reads a packet.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let packet: &[u8; REPORT_LENGTH] = packet.try_into().ok()?;
        let [letter, e0, e1, e2, e3, lost @ ..] = *packet;
        let file = match letter {
            b'l' => File::Log,
            b's' => File::State,
            _ => return None,
        };
        Some(Self { file, errno: i32::from_le_bytes([e0, e1, e2, e3]), lost: u64::from_le_bytes(lost) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_as_they_were() {
        let path = b"/var/log/\xff";
        for order in [Order::Open { path }, Order::Line(b"a\n"), Order::Reopen, Order::State { path }] {
            let mut packet = Vec::new();
            order.push(&mut packet);
            assert_eq!(Order::read(&packet), Some(order));
        }
        for bad in [&b""[..], b"X", b"Rx"] {
            assert_eq!(Order::read(bad), None);
        }
    }

    #[test]
    fn reports_come_back_as_they_were() {
        for report in [
            Report { file: File::Log, errno: 28, lost: u64::MAX },
            Report { file: File::State, errno: 0, lost: 0 },
        ] {
            assert_eq!(Report::read(&report.bytes()), Some(report));
        }
        for bad in [&b""[..], b"l", &[b'x'; REPORT_LENGTH], &[b'l'; REPORT_LENGTH + 1]] {
            assert_eq!(Report::read(bad), None);
        }
    }
}
