//! Questions to one of the system's databases: from the cache, or put to a thread, and answered in time whatever becomes of it.
//!
//! What is asked for again while it is looked up is looked up once. A look-up goes on when the time of
//! all who asked is over, and its answer is kept for the next. What has not begun by then never does.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::cache::{Cache, Outcome};
use super::pool::{LookUp, Pool};

/// Questions that wait at the same time.
pub(super) const MAX_WAITING: usize = 1024;

/// Questions and answers about one kind of thing.
pub(super) struct LookUps<Q, A> {
    pool: Pool<Q, A>,
    cache: Cache<Q, A>,
    waiting: BTreeMap<Ticket, Waiting<Q>>,
    /// What is queued or looked up, with those who wait for them; maybe nobody any more.
    wanted: HashMap<Q, Vec<Ticket>>,
    serial: u64,
}

/// The deadline, and a number that makes it the only one.
type Ticket = (Instant, u64);

struct Waiting<Q> {
    id: u64,
    about: Q,
}

impl<Q: Clone + Eq + Hash + Send + 'static, A: Outcome> LookUps<Q, A> {
    /// With a way to look something up, by so many threads at most.
    pub(super) fn new(look_up: LookUp<Q, A>, threads: usize) -> io::Result<Self> {
        Ok(Self {
            pool: Pool::new(look_up, threads)?,
            cache: Cache::default(),
            waiting: BTreeMap::new(),
            wanted: HashMap::new(),
            serial: 0,
        })
    }

    /// Readable when [`LookUps::go_on`] has something to do before the next deadline.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.pool.bell()
    }

    /// When the first question has to be answered.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(deadline, _)| *deadline)
    }

    /// The answer, if it is there already; else it comes later.
    pub(super) fn ask(&mut self, id: u64, about: Q, deadline: Instant, now: Instant) -> Option<A> {
        if let Some(answer) = self.cache.find(&about, now) {
            return Some(answer.clone());
        }
        if self.waiting.len() >= MAX_WAITING {
            return Some(A::FAILED);
        }
        self.serial += 1;
        let ticket = (deadline, self.serial);
        self.waiting.insert(ticket, Waiting { id, about: about.clone() });
        let Self { wanted, pool, .. } = self;
        wanted
            .entry(about)
            .or_insert_with_key(|about| {
                pool.enqueue(about.clone());
                Vec::new()
            })
            .push(ticket);
        None
    }

    /// Gives the answers that have come, and those whose time is over.
    pub(super) fn go_on(&mut self, now: Instant, mut answer: impl FnMut(u64, A)) {
        let results: Vec<(Q, A)> = self.pool.results().collect();
        for (about, found) in results {
            for ticket in self.wanted.remove(&about).unwrap_or_default() {
                if let Some(waiting) = self.waiting.remove(&ticket) {
                    answer(waiting.id, found.clone());
                }
            }
            self.cache.keep(about, found, now);
        }
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let (ticket, waiting) = first.remove_entry();
            answer(waiting.id, A::FAILED);
            self.give_up(ticket, &waiting.about);
        }
    }

    fn give_up(&mut self, ticket: Ticket, about: &Q) {
        let Some(tickets) = self.wanted.get_mut(about) else { return };
        tickets.retain(|other| *other != ticket);
        if tickets.is_empty() && self.pool.forget(about) {
            self.wanted.remove(about);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use crate::protocol::resolve::Named;
    use crate::sys::poll::PollSet;
    use nix::sys::signal::SigSet;

    const LONG: Duration = Duration::from_mins(1);
    const MAX_THREADS: usize = 16;

    type Names = LookUps<IpAddr, Named>;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    /// Goes on until so many answers are there.
    fn answers(names: &mut Names, count: usize) -> Vec<(u64, Named)> {
        let mut all = Vec::new();
        while all.len() < count {
            let mut poll = PollSet::default();
            poll.push(names.bell(), true, false);
            let wait =
                names.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            poll.wait(wait, &SigSet::empty()).unwrap();
            names.go_on(Instant::now(), |id, named| all.push((id, named)));
        }
        all
    }

    #[test]
    fn an_address_is_looked_up_once_and_kept() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let mut names = Names::new(
            |_| {
                CALLS.fetch_add(1, Ordering::SeqCst);
                Named::NoName
            },
            MAX_THREADS,
        )
        .unwrap();
        let now = Instant::now();
        for id in 0..100 {
            assert_eq!(names.ask(id, address(7), now + LONG, now), None);
        }
        assert_eq!(answers(&mut names, 100).len(), 100);
        assert_eq!(names.ask(100, address(7), now + LONG, now), Some(Named::NoName));
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        assert!(names.waiting.is_empty() && names.wanted.is_empty());
    }

    #[test]
    fn threads_that_hang_hold_up_nobody() {
        static OPEN: Mutex<bool> = Mutex::new(false);
        static OPENED: Condvar = Condvar::new();
        let mut names = Names::new(
            |_| {
                drop(OPENED.wait_while(OPEN.lock().unwrap(), |open| !*open).unwrap());
                Named::NoName
            },
            MAX_THREADS,
        )
        .unwrap();
        let now = Instant::now();
        let soon = now + Duration::from_millis(50);
        let full = MAX_WAITING as u64;
        for (id, number) in (0..full).zip(0..) {
            assert_eq!(names.ask(id, address(number), soon, now), None);
        }
        assert_eq!(names.ask(full, address(u32::MAX), soon, now), Some(Named::Failed), "no room");
        // Those that hang are what is left of them: the queue is empty again.
        let failed = answers(&mut names, MAX_WAITING);
        assert!(failed.iter().all(|(_, named)| *named == Named::Failed));
        assert_eq!(names.wanted.len(), MAX_THREADS);
        // Who asks for one of them joins its look-up, and gets what comes of it.
        assert_eq!(names.ask(1, address(0), Instant::now() + LONG, now), None);
        *OPEN.lock().unwrap() = true;
        OPENED.notify_all();
        assert_eq!(answers(&mut names, 1), [(1, Named::NoName)]);
        assert_eq!(names.ask(2, address(u32::MAX), Instant::now() + LONG, now), None, "all threads are back");
        assert_eq!(answers(&mut names, 1), [(2, Named::NoName)]);
    }
}
