//! Threads that wait for the system's databases, so that nobody else does. Each asks about one thing at a time.
//!
//! A call of the C library can't be broken off: a thread that hangs in one is one less, until it returns.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// One look-up; it may take as long as it likes.
pub(super) type LookUp<Q, A> = fn(Q) -> A;

/// The threads, made as they are needed.
pub(super) struct Pool<Q, A> {
    shared: Arc<Shared<Q>>,
    look_up: LookUp<Q, A>,
    threads: usize,
    most: usize,
    results: Receiver<(Q, A)>,
    /// Every thread has one.
    sender: Sender<(Q, A)>,
}

struct Shared<Q> {
    work: Mutex<Work<Q>>,
    more: Condvar,
    /// Readable while there are results.
    bell: EventFd,
}

struct Work<Q> {
    queue: VecDeque<Q>,
    /// Threads that wait for work.
    idle: usize,
    /// Nobody wants results any more.
    over: bool,
}

impl<Q, A> Pool<Q, A> {
    /// Without threads yet; there will be so many at most.
    pub(super) fn new(look_up: LookUp<Q, A>, most: usize) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let work = Mutex::new(Work { queue: VecDeque::new(), idle: 0, over: false });
        let shared = Arc::new(Shared { work, more: Condvar::new(), bell });
        let (sender, results) = channel();
        Ok(Self { shared, look_up, threads: 0, most, results, sender })
    }
}

impl<Q: Clone + Eq + Send + 'static, A: Send + 'static> Pool<Q, A> {
    /// Readable when there are results.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// Has something looked up when a thread has time.
    pub(super) fn enqueue(&mut self, about: Q) {
        let mut work = self.shared.work();
        work.queue.push_back(about);
        let short = work.queue.len() > work.idle;
        drop(work);
        self.shared.more.notify_one();
        if short && self.threads < self.most {
            self.start_thread();
        }
    }

    /// Takes back what no thread has begun yet: `true` if so.
    pub(super) fn forget(&mut self, about: &Q) -> bool {
        let mut work = self.shared.work();
        let place = work.queue.iter().position(|queued| queued == about);
        place.and_then(|place| work.queue.remove(place)).is_some()
    }

    /// The results that are there.
    pub(super) fn results(&mut self) -> impl Iterator<Item = (Q, A)> {
        // What comes after this rings again.
        let _ = self.shared.bell.read();
        self.results.try_iter()
    }

    /// Without memory for a thread there is one less; the next question tries again.
    fn start_thread(&mut self) {
        let (shared, look_up, sender) = (Arc::clone(&self.shared), self.look_up, self.sender.clone());
        let body = move || {
            while let Some(about) = shared.next() {
                let answer = look_up(about.clone());
                if sender.send((about, answer)).is_err() {
                    break;
                }
                let _ = shared.bell.write(1);
            }
        };
        if thread::Builder::new().name("look-up".to_owned()).spawn(body).is_ok() {
            self.threads += 1;
        }
    }
}

impl<Q, A> Drop for Pool<Q, A> {
    /// Idle threads end at once, busy ones when their call returns.
    fn drop(&mut self) {
        self.shared.work().over = true;
        self.shared.more.notify_all();
    }
}

impl<Q> Shared<Q> {
    fn work(&self) -> MutexGuard<'_, Work<Q>> {
        // No thread panics while it holds the lock.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work; `None`: there will be none.
    fn next(&self) -> Option<Q> {
        let mut work = self.work();
        loop {
            if work.over {
                return None;
            }
            if let Some(about) = work.queue.pop_front() {
                return Some(about);
            }
            work.idle += 1;
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }
}
