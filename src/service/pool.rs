//! How many workers a pool has: pure arithmetic over counts. Knows no process.

use crate::config::settings::{Pool, PoolProtocol};

/// The workers of one pool as they are now; those that retire are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Asked for, and not ready yet.
    pub starting: u32,
    /// Ready, and without a connection.
    pub idle: u32,
    /// With a connection.
    pub busy: u32,
    /// Connections that could be handed over now.
    pub room: u32,
}

impl Counts {
    fn all(self) -> u32 {
        self.starting + self.idle + self.busy
    }
}

/// How many workers to start. `waits`: a client is there, and nobody to take it.
pub fn to_start(pool: &Pool, counts: Counts, waits: bool) -> u32 {
    if pool.protocol == PoolProtocol::Listen {
        return pool.min.saturating_sub(counts.all());
    }
    let for_client = u32::from(waits && counts.room == 0 && counts.starting == 0);
    let wanted = (counts.busy + pool.spare).max(pool.min).max(counts.all() + for_client).min(pool.max);
    wanted.saturating_sub(counts.all())
}

/// May a worker that had nothing to do for long go?
pub fn may_retire(pool: &Pool, counts: Counts) -> bool {
    counts.idle > pool.spare && counts.all() > pool.min
}

/// How many are beyond `max`, after a reload has lowered it.
pub fn to_retire(pool: &Pool, counts: Counts) -> u32 {
    let most = if pool.protocol == PoolProtocol::Listen { pool.min } else { pool.max };
    counts.all().saturating_sub(most)
}

/// The connections after which the worker with this number retires: `max_connections` give or take a tenth, so
/// that workers which were started together do not all go together.
pub fn lifetime(pool: &Pool, worker: u64) -> Option<u32> {
    let most = pool.max_connections?;
    let tenth = most / 10;
    // Neighbours are spread by a multiplier that is coprime to every range (Knuth's, 32 bits).
    let spread = (worker.wrapping_mul(2_654_435_761) >> 7) % (2 * u64::from(tenth) + 1);
    Some(u32::try_from(u64::from(most - tenth) + spread).unwrap_or(most).max(1))
}

/// Must workers of `old` make room for new ones under `new`? Their number and their deadlines alone may change
/// under them.
pub fn is_other_generation(old: &Pool, new: &Pool) -> bool {
    old.program != new.program || old.protocol != new.protocol || old.concurrency != new.concurrency
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Program, Stderr};
    use crate::model::identity::Account;

    fn pool(min: u32, spare: u32, max: u32) -> Pool {
        let account = Account { name: String::new(), home: String::new(), shell: String::new() };
        let program = Program {
            path: "/bin/true".into(),
            argv: vec!["true".into()],
            identity: None,
            account,
            umask: 0o022,
            nice: 0,
            cwd: "/".into(),
            chroot: None,
            env: std::collections::BTreeMap::new(),
            rlimits: std::collections::BTreeMap::new(),
            no_new_privileges: false,
            stderr: Stderr::Log,
        };
        Pool {
            program,
            protocol: PoolProtocol::Handoff,
            min,
            spare,
            max,
            max_connections: None,
            concurrency: 1,
            idle_timeout: None,
        }
    }

    #[track_caller]
    fn check(
        (min, spare, max): (u32, u32, u32),
        [starting, idle, busy]: [u32; 3],
        waits: bool,
        expected: u32,
    ) {
        let counts = Counts { starting, idle, busy, room: idle };
        assert_eq!(to_start(&pool(min, spare, max), counts, waits), expected, "{counts:?}");
    }

    #[test]
    fn a_pool_has_its_least_its_spare_and_never_more_than_its_most() {
        check((2, 0, 4), [0, 0, 0], false, 2);
        check((2, 0, 4), [1, 0, 0], false, 1);
        check((2, 0, 4), [0, 2, 0], false, 0);
        check((2, 1, 4), [0, 0, 2], false, 1);
        check((2, 3, 4), [0, 0, 2], false, 2);
        check((2, 3, 4), [0, 0, 4], true, 0);
        check((0, 0, 4), [0, 0, 0], false, 0);
        check((0, 0, 4), [0, 0, 0], true, 1);
        check((0, 0, 4), [1, 0, 0], true, 0);
        check((0, 0, 4), [0, 1, 0], true, 0);
        check((1, 0, 1), [0, 0, 1], true, 0);
        check((2, 0, 1), [0, 0, 0], false, 1);
    }

    #[test]
    fn a_listen_pool_has_its_least() {
        let listen = Pool { protocol: PoolProtocol::Listen, ..pool(3, 0, 3) };
        assert_eq!(to_start(&listen, Counts::default(), false), 3);
        assert_eq!(to_start(&listen, Counts { busy: 1, idle: 1, ..Counts::default() }, true), 1);
        assert_eq!(to_retire(&listen, Counts { idle: 5, ..Counts::default() }), 2);
    }

    #[test]
    fn only_the_idle_beyond_spare_and_least_may_go() {
        for ((min, spare, max), idle, busy, expected) in [
            ((1, 0, 4), 2, 0, true),
            ((2, 0, 4), 2, 0, false),
            ((1, 2, 4), 2, 1, false),
            ((1, 1, 4), 2, 1, true),
            ((0, 0, 4), 1, 0, true),
        ] {
            let counts = Counts { idle, busy, ..Counts::default() };
            assert_eq!(may_retire(&pool(min, spare, max), counts), expected, "{counts:?}");
        }
        assert_eq!(to_retire(&pool(1, 0, 2), Counts { busy: 3, ..Counts::default() }), 1);
    }

    #[test]
    fn lifetimes_are_spread_over_a_tenth() {
        let with = |most| Pool { max_connections: Some(most), ..pool(1, 0, 1) };
        let lives: Vec<u32> = (0..200).filter_map(|worker| lifetime(&with(1000), worker)).collect();
        assert!(lives.iter().all(|life| (900..=1100).contains(life)), "{lives:?}");
        let distinct: std::collections::BTreeSet<_> = lives.iter().collect();
        assert!(distinct.len() > 50, "{}", distinct.len());
        assert_eq!(lifetime(&with(1), 7), Some(1));
        assert_eq!(lifetime(&pool(1, 0, 1), 7), None);
    }

    #[test]
    fn what_a_worker_was_started_as_makes_a_generation() {
        let old = pool(1, 0, 1);
        let mut program = old.program.clone();
        program.env.insert("A".into(), "1".into());
        for (new, expected) in [
            (Pool { max: 9, min: 3, spare: 2, ..old.clone() }, false),
            (Pool { concurrency: 2, ..old.clone() }, true),
            (Pool { protocol: PoolProtocol::Listen, ..old.clone() }, true),
            (Pool { program, ..old.clone() }, true),
        ] {
            assert_eq!(is_other_generation(&old, &new), expected, "{new:?}");
        }
    }
}
