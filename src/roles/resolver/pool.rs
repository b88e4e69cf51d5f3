//! Threads that wait for the system's resolver, so that nobody else does. Each asks about one address at a time.
//!
//! A call of the system's resolver can't be broken off: a thread that hangs in one is one less, until it returns.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::protocol::resolve::Named;

/// Look-ups at the same time.
pub(super) const MAX_THREADS: usize = 16;

/// One look-up; it may take as long as it likes.
pub(super) type LookUp = fn(IpAddr) -> Named;

/// The threads, made as they are needed.
pub(super) struct Pool {
    shared: Arc<Shared>,
    look_up: LookUp,
    threads: usize,
    results: Receiver<(IpAddr, Named)>,
    /// Every thread has one.
    sender: Sender<(IpAddr, Named)>,
}

struct Shared {
    work: Mutex<Work>,
    more: Condvar,
    /// Readable while there are results.
    bell: EventFd,
}

#[derive(Default)]
struct Work {
    queue: VecDeque<IpAddr>,
    /// Threads that wait for work.
    idle: usize,
    /// Nobody wants results any more.
    over: bool,
}

impl Pool {
    /// Without threads yet.
    pub(super) fn new(look_up: LookUp) -> io::Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared { work: Mutex::default(), more: Condvar::new(), bell });
        let (sender, results) = channel();
        Ok(Self { shared, look_up, threads: 0, results, sender })
    }

    /// Readable when there are results.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// Has an address looked up when a thread has time.
    pub(super) fn enqueue(&mut self, address: IpAddr) {
        let mut work = self.shared.work();
        work.queue.push_back(address);
        let short = work.queue.len() > work.idle;
        drop(work);
        self.shared.more.notify_one();
        if short && self.threads < MAX_THREADS {
            self.start_thread();
        }
    }

    /// Takes back what no thread has begun yet: `true` if so.
    pub(super) fn forget(&mut self, address: IpAddr) -> bool {
        let mut work = self.shared.work();
        let place = work.queue.iter().position(|queued| *queued == address);
        place.and_then(|place| work.queue.remove(place)).is_some()
    }

    /// The results that are there.
    pub(super) fn results(&mut self) -> impl Iterator<Item = (IpAddr, Named)> {
        // What comes after this rings again.
        let _ = self.shared.bell.read();
        self.results.try_iter()
    }

    /// Without memory for a thread there is one less; the next question tries again.
    fn start_thread(&mut self) {
        let (shared, look_up, sender) = (Arc::clone(&self.shared), self.look_up, self.sender.clone());
        let body = move || {
            while let Some(address) = shared.next() {
                if sender.send((address, look_up(address))).is_err() {
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

impl Drop for Pool {
    /// Idle threads end at once, busy ones when their call returns.
    fn drop(&mut self) {
        self.shared.work().over = true;
        self.shared.more.notify_all();
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        // No thread panics while it holds the lock.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work; `None`: there will be none.
    fn next(&self) -> Option<IpAddr> {
        let mut work = self.work();
        loop {
            if work.over {
                return None;
            }
            if let Some(address) = work.queue.pop_front() {
                return Some(address);
            }
            work.idle += 1;
            work = self.more.wait(work).unwrap_or_else(PoisonError::into_inner);
            work.idle -= 1;
        }
    }
}
