//! Whether something comes too often: the generic cell rate algorithm (ITU-T I.371), one moment of state.
//!
//! What is kept is when the last one would have come if all had come evenly. That may lie ahead of now by a
//! burst, never by more. What is refused leaves no trace, so that asking again and again does not make it later.

use std::time::Instant;

use crate::model::rate::Rate;

/// One more at `now`: the state after it, or when there is room for it again.
pub fn step(state: Instant, rate: Rate, now: Instant) -> Result<Instant, Instant> {
    let after = state.max(now) + rate.interval();
    let latest = now + rate.allowance();
    if after <= latest { Ok(after) } else { Err(now + after.duration_since(latest)) }
}

/// The state where the rate may have been a slower one before: what is owed to that is no more than a burst.
pub fn bounded(state: Instant, rate: Rate, now: Instant) -> Instant {
    state.min(now + rate.allowance())
}

/// The state of one rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    state: Option<Instant>,
}

impl Meter {
    /// When there is room for one more; `None`: now. Counts nothing.
    pub fn retry_at(self, rate: Rate, now: Instant) -> Option<Instant> {
        step(self.state.unwrap_or(now), rate, now).err()
    }

    /// The rate is another one from now on.
    pub fn change(&mut self, rate: Rate, now: Instant) {
        self.state = self.state.map(|state| bounded(state, rate, now));
    }

    /// Counts one, or says when there is room for it again.
    pub fn allow(&mut self, rate: Rate, now: Instant) -> Result<(), Instant> {
        self.state = Some(step(self.state.unwrap_or(now), rate, now)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rate::Per;
    use std::time::Duration;

    /// At these milliseconds one is let in, or has to wait until then.
    #[track_caller]
    fn check(count: u32, burst: u32, steps: &[(u64, Result<(), u64>)]) {
        let rate = Rate::new(count, Per::Second, burst).unwrap();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut meter = Meter::default();
        for (number, (ms, expected)) in steps.iter().enumerate() {
            assert_eq!(meter.retry_at(rate, at(*ms)), expected.err().map(at), "step {number}");
            assert_eq!(meter.allow(rate, at(*ms)), expected.map_err(at), "step {number}");
        }
    }

    #[test]
    fn a_burst_comes_at_once_and_the_rest_evenly() {
        check(
            2,
            3,
            &[
                (0, Ok(())),
                (0, Ok(())),
                (0, Ok(())),
                (0, Err(500)),
                (499, Err(500)),
                (500, Ok(())),
                (501, Err(1000)),
                (1500, Ok(())),
                (1500, Ok(())),
                (1500, Err(2000)),
            ],
        );
    }

    #[test]
    fn what_was_not_used_is_not_saved_beyond_a_burst() {
        check(10, 2, &[(0, Ok(())), (60_000, Ok(())), (60_000, Ok(())), (60_000, Err(60_100))]);
    }

    #[test]
    fn without_a_burst_they_come_one_by_one() {
        check(1, 1, &[(0, Ok(())), (0, Err(1000)), (999, Err(1000)), (1000, Ok(())), (1000, Err(2000))]);
    }

    #[test]
    fn a_faster_rate_holds_at_once() {
        let (slow, fast) = (Rate::new(1, Per::Hour, 2).unwrap(), Rate::new(10, Per::Second, 10).unwrap());
        let (mut meter, now) = (Meter::default(), Instant::now());
        assert_eq!((meter.allow(slow, now), meter.allow(slow, now)), (Ok(()), Ok(())));
        meter.change(fast, now);
        let later = now + fast.interval();
        assert_eq!(meter.retry_at(fast, now), Some(later));
        assert_eq!(meter.allow(fast, later), Ok(()));
    }

    #[test]
    fn refusals_do_not_make_it_later() {
        let steps: Vec<_> = std::iter::once((0, Ok(())))
            .chain((1..1000).map(|ms| (ms, Err(1000))))
            .chain([(1000, Ok(()))])
            .collect();
        check(1, 1, &steps);
    }
}
