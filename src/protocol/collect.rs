//! What the supervisor and the collector say to each other about the standard error of programs: one packet
//! each, a letter and what belongs to it. Numbers are little-endian.
//!
//! The collector names sessions that the supervisor gave them, and nothing else: who a line belongs to, and how it
//! is logged, is the supervisor's to know.

use crate::model::session::SessionId;
use crate::service::lines::MAX_LINE;

/// The longest packet.
pub const MAX_PACKET: usize = 1 + SESSION_LENGTH + 8 + MAX_LINE;

const SESSION_LENGTH: usize = 16;

const COLLECT: u8 = b'C';
const READY: u8 = b'R';
const LINE: u8 = b'L';
const ENDED: u8 = b'E';

/// To the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read lines from the pipe that comes with the packet, up to its end.
    Collect {
        /// Whose standard error it is.
        session: SessionId,
    },
}

/// From the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report<'a> {
    /// They are there. It comes first, and once.
    Ready,
    /// A line.
    Line {
        /// Whose.
        session: SessionId,
        /// Lines that were dropped before it.
        dropped: u64,
        /// The line without its end, untrusted, at most [`MAX_LINE`].
        bytes: &'a [u8],
    },
    /// Nothing more comes of this session.
    Ended {
        /// Which.
        session: SessionId,
        /// Lines that were dropped since the last one that came.
        dropped: u64,
    },
}

impl Order {
    /// Appends the packet.
    pub fn push(self, out: &mut Vec<u8>) {
        let Self::Collect { session } = self;
        out.push(COLLECT);
        push_session(session, out);
    }

    /// Reads a packet.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (&COLLECT, rest) = packet.split_first()? else { return None };
        let (session, rest) = read_session(rest)?;
        rest.is_empty().then_some(Self::Collect { session })
    }
}

impl<'a> Report<'a> {
    /// Appends the packet.
    pub fn push(self, out: &mut Vec<u8>) {
        let (letter, session, dropped, bytes) = match self {
            Self::Ready => return out.push(READY),
            Self::Line { session, dropped, bytes } => (LINE, session, dropped, bytes),
            Self::Ended { session, dropped } => (ENDED, session, dropped, &[][..]),
        };
        out.push(letter);
        push_session(session, out);
        out.extend(dropped.to_le_bytes());
        out.extend(bytes);
    }

    /// Reads a packet.
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (&letter, rest) = packet.split_first()?;
        if letter == READY {
            return rest.is_empty().then_some(Self::Ready);
        }
        let (session, rest) = read_session(rest)?;
        let (dropped, bytes) = read_number(rest)?;
        match letter {
            LINE if bytes.len() <= MAX_LINE => Some(Self::Line { session, dropped, bytes }),
            ENDED if bytes.is_empty() => Some(Self::Ended { session, dropped }),
            _ => None,
        }
    }
}

fn push_session(session: SessionId, out: &mut Vec<u8>) {
    out.extend(session.epoch.to_le_bytes());
    out.extend(session.serial.to_le_bytes());
}

fn read_session(bytes: &[u8]) -> Option<(SessionId, &[u8])> {
    let (epoch, rest) = read_number(bytes)?;
    let (serial, rest) = read_number(rest)?;
    Some((SessionId { epoch, serial }, rest))
}

fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { epoch: 0x6740_5a10, serial: u64::MAX };

    #[test]
    fn orders_come_back_as_they_were() {
        let order = Order::Collect { session: SESSION };
        let mut packet = Vec::new();
        order.push(&mut packet);
        assert_eq!(Order::read(&packet), Some(order));
        check_malformed(&packet, |bytes| Order::read(bytes).is_none());
    }

    #[test]
    fn reports_come_back_as_they_were() {
        let longest = [b'x'; MAX_LINE];
        for report in [
            Report::Ready,
            Report::Line { session: SESSION, dropped: 0, bytes: b"a\0\xff\n" },
            Report::Line { session: SESSION, dropped: u64::MAX, bytes: &longest },
            Report::Ended { session: SESSION, dropped: 3 },
        ] {
            let mut packet = Vec::new();
            report.push(&mut packet);
            assert!(packet.len() <= MAX_PACKET);
            assert_eq!(Report::read(&packet), Some(report));
        }
    }

    #[test]
    fn what_makes_no_sense_is_no_report() {
        let mut packet = Vec::new();
        Report::Ended { session: SESSION, dropped: 3 }.push(&mut packet);
        check_malformed(&packet, |bytes| Report::read(bytes).is_none());
        let mut line = Vec::new();
        Report::Line { session: SESSION, dropped: 0, bytes: &[b'x'; MAX_LINE] }.push(&mut line);
        line.push(b'x');
        assert_eq!(Report::read(&line), None, "too long");
        assert_eq!(Report::read(b"R\0"), None);
    }

    /// Whatever is cut, longer, or begins with another letter.
    #[track_caller]
    fn check_malformed(packet: &[u8], is_refused: impl Fn(&[u8]) -> bool) {
        for cut in 0..packet.len() {
            assert!(is_refused(&packet[..cut]), "{cut}");
        }
        assert!(is_refused(&[packet, b"x"].concat()));
        assert!(is_refused(&[b"X", &packet[1..]].concat()));
    }
}
