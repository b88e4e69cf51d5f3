//! The lines of a program's standard error: found in what it writes, cut to a length, held to a rate.
//!
//! Fed with bytes and the time; knows neither pipes nor the log. A program decides how much it writes, and often
//! its client does: what is kept of it is bounded, and so is what it may put into the log.

use std::time::{Duration, Instant};

/// The longest line. A longer one is cut into pieces of this length, each a line of its own.
pub const MAX_LINE: usize = 1024;

/// Lines that may come at once.
const BURST: u32 = 20;

/// The time in which one line more may come: 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);

/// The lines of one session.
#[derive(Debug)]
pub struct Lines {
    /// The line that has no end yet.
    open: Vec<u8>,
    rate: Rate,
    dropped: u64,
}

impl Lines {
    /// Nothing was written yet.
    pub fn new(now: Instant) -> Self {
        Self { open: Vec::new(), rate: Rate { full_at: now }, dropped: 0 }
    }

    /// Takes what the program wrote. `say` gets each line that the rate allows, without its end, and how many
    /// were dropped before it; `false` from it drops the line, too. Empty lines are passed over.
    pub fn feed(&mut self, bytes: &[u8], now: Instant, mut say: impl FnMut(&[u8], u64) -> bool) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (mut text, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            while self.open.len() + text.len() > MAX_LINE {
                let (head, tail) = text.split_at((MAX_LINE - self.open.len()).min(text.len()));
                self.open.extend_from_slice(head);
                self.close(now, &mut say);
                text = tail;
            }
            self.open.extend_from_slice(text);
            if is_whole {
                self.close(now, &mut say);
            }
        }
    }

    /// The program writes no more: an open line counts as whole. Gives how many lines were dropped since the
    /// last that was said.
    pub fn finish(&mut self, now: Instant, mut say: impl FnMut(&[u8], u64) -> bool) -> u64 {
        self.close(now, &mut say);
        std::mem::take(&mut self.dropped)
    }

    fn close(&mut self, now: Instant, say: &mut impl FnMut(&[u8], u64) -> bool) {
        if self.open.is_empty() {
            return;
        }
        if self.rate.allows(now) && say(&self.open, self.dropped) {
            self.dropped = 0;
        } else {
            self.dropped += 1;
        }
        self.open.clear();
    }
}

/// A bucket of [`BURST`] tokens, as the moment at which it is full again.
#[derive(Debug)]
struct Rate {
    full_at: Instant,
}

impl Rate {
    /// Takes a token, if there is one.
    fn allows(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        let allowed = full_at <= now + INTERVAL * BURST;
        if allowed {
            self.full_at = full_at;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came out, as `line` or `dropped:line`.
    #[track_caller]
    fn check(writes: &[&str], lines: &[&str], dropped: u64) {
        let now = Instant::now();
        let mut subject = Lines::new(now);
        let mut said = Vec::new();
        for bytes in writes {
            subject.feed(bytes.as_bytes(), now, |line, n| note(&mut said, line, n));
        }
        let rest = subject.finish(now, |line, n| note(&mut said, line, n));
        assert_eq!((said, rest), (lines.iter().map(|&line| line.to_owned()).collect(), dropped));
    }

    fn note(said: &mut Vec<String>, line: &[u8], dropped: u64) -> bool {
        let line = String::from_utf8_lossy(line);
        said.push(if dropped == 0 { line.into_owned() } else { format!("{dropped}:{line}") });
        true
    }

    #[test]
    fn lines_are_found_whatever_the_writes() {
        check(&[], &[], 0);
        check(&["one\ntwo\n"], &["one", "two"], 0);
        check(&["o", "ne", "\nt", "wo\n"], &["one", "two"], 0);
        check(&["one\n\n\ntwo"], &["one", "two"], 0);
        check(&["one\r\n"], &["one\r"], 0);
        check(&["no end"], &["no end"], 0);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let of = |length| "x".repeat(length);
        let (full, line) = (of(MAX_LINE), of(MAX_LINE) + "\n");
        check(&[&line], &[&full], 0);
        check(&[&full, "\n"], &[&full], 0);
        check(&[&full], &[&full], 0);
        check(&[&of(MAX_LINE + 1), "\n"], &[&full, "x"], 0);
        check(&[&of(2 * MAX_LINE), "\nnext"], &[&full, &full, "next"], 0);
        check(&[&of(MAX_LINE - 1), "yz\n"], &[&(of(MAX_LINE - 1) + "y"), "z"], 0);
    }

    #[test]
    fn a_burst_is_cut_and_counted() {
        let writes: Vec<String> = (1..=25).map(|n| format!("{n}\n")).collect();
        let writes: Vec<&str> = writes.iter().map(String::as_str).collect();
        let lines: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
        check(&writes, &lines.iter().map(String::as_str).collect::<Vec<_>>(), 5);
    }

    #[test]
    fn twenty_lines_a_second_go_through() {
        let start = Instant::now();
        let mut subject = Lines::new(start);
        let mut said = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            subject.feed(b"line\n", now, |_, _| {
                said += 1;
                true
            });
        }
        assert_eq!(said, 20 + 199, "a burst, then one every 50 ms");
    }

    #[test]
    fn the_next_line_tells_what_was_dropped() {
        let start = Instant::now();
        let mut subject = Lines::new(start);
        let mut said = Vec::new();
        subject.feed("x\n".repeat(30).as_bytes(), start, |_, _| true);
        subject.feed(b"late\n", start + INTERVAL, |line, n| note(&mut said, line, n));
        subject.feed(b"later\n", start + 2 * INTERVAL, |line, n| note(&mut said, line, n));
        assert_eq!(said, ["10:late", "later"]);
    }

    #[test]
    fn what_nobody_takes_is_dropped() {
        let now = Instant::now();
        let mut subject = Lines::new(now);
        let mut said = Vec::new();
        subject.feed(b"lost\nlost\n", now, |_, _| false);
        subject.feed(b"taken\n", now, |line, n| note(&mut said, line, n));
        subject.feed(b"lost\n", now, |_, _| false);
        assert_eq!((said, subject.finish(now, |_, _| true)), (vec!["2:taken".to_owned()], 1));
    }
}
