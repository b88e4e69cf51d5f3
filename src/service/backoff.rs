//! How long to wait before the next try of something that fails.

use std::time::Duration;

/// Waits that double from a first one up to a most; the first try may be at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// 0, then `first`, twice that, and so on up to `most`.
    pub fn immediate(first: Duration, most: Duration) -> Self {
        Self { first, most, next: Duration::ZERO }
    }

    /// `first`, twice that, and so on up to `most`.
    pub fn delayed(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// How long to wait now; the next wait is longer.
    pub fn wait(&mut self) -> Duration {
        let now = self.next;
        self.next = if now.is_zero() { self.first } else { (now * 2).min(self.most) };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_most() {
        let seconds = |backoff: &mut Backoff| (0..5).map(|_| backoff.wait().as_secs()).collect::<Vec<_>>();
        let (one, five) = (Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!(seconds(&mut Backoff::immediate(one, five)), [0, 1, 2, 4, 5]);
        assert_eq!(seconds(&mut Backoff::delayed(one, five)), [1, 2, 4, 5, 5]);
    }
}
