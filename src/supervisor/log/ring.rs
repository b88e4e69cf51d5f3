//! The lines that wait for their way out: at most [`MAX_LINES`] of them, and [`MAX_BYTES`] bytes.
//!
//! Knows frames and their text, not where they go.

use std::collections::VecDeque;
use std::ops::Range;

use crate::config::settings::{Facility, Level};

/// Lines that wait, at most.
pub(super) const MAX_LINES: usize = 4096;

/// Bytes that wait, at most, but for the last line.
const MAX_BYTES: usize = 4 << 20;

/// Buffers that are kept for lines to come.
const MAX_SPARE: usize = 64;

/// One line, in the frame of its target.
#[derive(Debug)]
pub(super) struct Line {
    /// What is sent.
    pub(super) frame: Vec<u8>,
    /// Where in it the line itself stands.
    pub(super) text: Range<usize>,
    /// How important it is.
    pub(super) level: Level,
    /// Its facility.
    pub(super) facility: Facility,
    /// The fallback has it already.
    pub(super) in_fallback: bool,
    /// It was too long for the socket, and is cut.
    pub(super) cut: bool,
}

impl Line {
    /// The line without its frame.
    pub(super) fn text(&self) -> &[u8] {
        self.frame.get(self.text.clone()).unwrap_or_default()
    }
}

/// The lines, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// Bytes of the first line that a stream has taken already.
    taken: usize,
    spare: Vec<Vec<u8>>,
}

impl Ring {
    /// Is there no room for another line?
    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= MAX_LINES || self.bytes >= MAX_BYTES
    }

    /// Is there room again, and not just for one line?
    pub(super) fn has_much_room(&self) -> bool {
        self.lines.len() < MAX_LINES / 2 && self.bytes < MAX_BYTES / 2
    }

    /// Does nothing wait?
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// An empty buffer for the next frame.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Adds a line; whether there is room, [`Self::is_full`] has said.
    pub(super) fn push(&mut self, line: Line) {
        self.bytes += line.frame.len();
        self.lines.push_back(line);
    }

    /// What is to be sent, oldest first.
    pub(super) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().enumerate().map(|(index, line)| {
            line.frame.get(if index == 0 { self.taken } else { 0 }..).unwrap_or_default()
        })
    }

    /// Every line, oldest first.
    pub(super) fn lines_mut(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.iter_mut()
    }

    /// Takes out the oldest line.
    pub(super) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.frame.len();
        self.taken = 0;
        Some(line)
    }

    /// Puts a line back in the first place.
    pub(super) fn push_front(&mut self, line: Line) {
        self.bytes += line.frame.len();
        self.lines.push_front(line);
    }

    /// The first `count` lines have left.
    pub(super) fn sent(&mut self, count: usize) {
        for _ in 0..count {
            let Some(Line { mut frame, .. }) = self.pop() else { return };
            if self.spare.len() < MAX_SPARE {
                frame.clear();
                self.spare.push(frame);
            }
        }
    }

    /// A stream has taken so many bytes.
    pub(super) fn sent_bytes(&mut self, count: usize) {
        self.taken += count;
        while let Some(length) = self.lines.front().map(|line| line.frame.len()).filter(|n| *n <= self.taken)
        {
            let rest = self.taken - length;
            self.sent(1);
            self.taken = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_may_stop_anywhere() {
        let mut ring = Ring::default();
        for text in ["one\n", "two\n", "three\n"] {
            ring.push(line(text));
        }
        for (bytes, left) in [(0, "one\ntwo\nthree\n"), (2, "e\ntwo\nthree\n"), (6, "three\n"), (1, "hree\n")]
        {
            ring.sent_bytes(bytes);
            assert_eq!(ring.frames().collect::<Vec<_>>().concat(), left.as_bytes());
        }
        ring.sent_bytes(5);
        assert!(ring.is_empty() && ring.bytes == 0 && ring.taken == 0);
    }

    #[test]
    fn lines_and_bytes_are_bounded() {
        for (length, expected) in [(10, MAX_LINES), (64 << 10, 64)] {
            let mut ring = Ring::default();
            let mut count = 0;
            while !ring.is_full() {
                ring.push(line(&"x".repeat(length)));
                count += 1;
            }
            assert_eq!(count, expected);
            ring.sent(1);
            assert!(!ring.is_full() && !ring.has_much_room());
            ring.sent(count / 2);
            assert!(ring.has_much_room());
        }
    }

    fn line(text: &str) -> Line {
        let frame = text.as_bytes().to_vec();
        let text = 0..frame.len();
        let (level, facility) = (Level::Info, Facility(3));
        Line { frame, text, level, facility, in_fallback: false, cut: false }
    }
}
