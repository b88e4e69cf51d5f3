//! The handlers: the built-in services, on a few threads, as a user who may do nothing.
//!
//! They read what strangers send, and hold nothing but their sockets: no file, no other process, no right. Each
//! thread takes connections from the channel, and serves what it took to the end; datagram sockets are served
//! by all. They know no client, no service and no limit, only the numbers that the supervisor gave. All end when
//! the channel closes, or carries what makes no sense.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use crate::protocol::builtin::chargen;
use crate::protocol::handoff::{Guard, Report};
use crate::sys::channel::Channel;
use crate::sys::process;

mod confine;
mod datagrams;
mod deadlines;
mod inbox;
mod listeners;
mod name;
mod outbox;
mod pace;
mod stream;
mod worker;

use inbox::Inbox;
use outbox::Outbox;
use worker::Worker;

/// What is read from a connection, or written to it, before the next one has its turn.
const WINDOW: usize = 128 * 1024;

/// Threads: as many as there are processors, within these bounds.
const THREADS: std::ops::RangeInclusive<usize> = 2..=4;

/// What the threads have in common.
struct Shared<'c> {
    channel: &'c Channel,
    /// Held while a packet is taken and passed on, so that what follows it is passed on behind it.
    taking: Mutex<()>,
    inboxes: Vec<Inbox>,
    stopped: AtomicBool,
    /// chargen's, with a full window at each offset.
    pattern: Vec<u8>,
}

impl Shared<'_> {
    /// All threads end.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.inboxes.iter().for_each(Inbox::wake);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// Serves the channel until it closes.
pub fn run(channel: &Channel) -> io::Result<()> {
    process::set_no_new_privileges()?;
    process::raise_descriptor_limit()?;
    serve(channel, confine::give_up_files, confine::give_up_calls)
}

/// The first guard is called before there are threads, the last when all are there and none has begun. They tell
/// what they could not do.
fn serve(channel: &Channel, first: fn() -> Vec<Guard>, last: fn() -> Vec<Guard>) -> io::Result<()> {
    let threads =
        thread::available_parallelism().map_or(1, usize::from).clamp(*THREADS.start(), *THREADS.end());
    let shared = Shared {
        channel,
        taking: Mutex::new(()),
        inboxes: (0..threads).map(|_| Inbox::new()).collect::<io::Result<_>>()?,
        stopped: AtomicBool::new(false),
        pattern: chargen::pattern(WINDOW),
    };
    let workers: Vec<_> =
        shared.inboxes.iter().map(|inbox| Worker::new(&shared, inbox)).collect::<io::Result<_>>()?;
    let mut lacks = first();
    let gate = Mutex::new(());
    let (arrived, arrivals) = mpsc::channel();
    thread::scope(|scope| {
        let closed = gate.lock();
        let crew: io::Result<Vec<_>> = workers
            .into_iter()
            .map(|worker| {
                let (arrived, gate, shared) = (arrived.clone(), &gate, &shared);
                thread::Builder::new().spawn_scoped(scope, move || {
                    // Who counts the arrivals outlives all threads.
                    let _ = arrived.send(());
                    drop(gate.lock());
                    let _end = EndOfAll(shared);
                    worker.run()
                })
            })
            .collect();
        let crew = crew.inspect_err(|_| shared.stop())?;
        // The first steps of a thread are libc's, and need calls that the last guard refuses.
        arrivals.iter().take(crew.len()).for_each(drop);
        let mut outbox = Outbox::default();
        outbox.push(&Report::Ready);
        lacks.extend(last());
        for lack in lacks {
            outbox.push(&Report::Lacks(lack));
        }
        outbox.flush(channel);
        drop(closed);
        let outcomes = crew
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked"))));
        outcomes.collect()
    })
}

/// The thread that holds it takes the others along, however it ends.
struct EndOfAll<'s>(&'s Shared<'s>);

impl Drop for EndOfAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A lock whose holder panicked is still a lock: what it guards here is whole at each moment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
