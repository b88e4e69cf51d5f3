//! A deadline for the whole process, whatever it is doing: in a read that hangs, in the name service, in a lock. When
//! it passes, a line that was laid out before goes to the log, and the process ends. An exec takes the deadline away:
//! timers of `timer_create(2)` do not outlive it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signal::{SigEvent, SigevNotify};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

/// What the handler says, and to whom. The line is leaked: the handler may read it at any time.
static LOG: AtomicI32 = AtomicI32::new(-1);
static LINE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
static STATUS: AtomicI32 = AtomicI32::new(1);

/// A deadline that is running.
#[derive(Debug)]
pub struct Deadline {
    timer: Timer,
    /// What SIGALRM was to this process before.
    action: SigAction,
    mask: SigSet,
}

impl Deadline {
    /// From now on, and for the whole process: when the time is over it ends with this status.
    pub fn set(within: Duration, status: i32) -> io::Result<Self> {
        STATUS.store(status, Ordering::Relaxed);
        let ends = SigAction::new(SigHandler::Handler(pass), SaFlags::empty(), SigSet::all());
        // SAFETY: the handler calls nothing but send(2) and _exit(2), and reads atomics and memory that is never freed.
        let action = unsafe { sigaction(Signal::SIGALRM, &ends) }?;
        let alarm = SigSet::from(Signal::SIGALRM);
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&alarm), Some(&mut mask))?;
        let notify = SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 };
        let timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        let mut deadline = Self { timer, action, mask };
        deadline.change(within)?;
        Ok(deadline)
    }

    /// Another time, from now on.
    pub fn change(&mut self, within: Duration) -> io::Result<()> {
        let time = TimeSpec::from_duration(within.max(Duration::from_nanos(1)));
        Ok(self.timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?)
    }

    /// What is said when it passes. The descriptor must stay open.
    pub fn say(&self, log: BorrowedFd<'_>, line: Vec<u8>) {
        // Without a line while it is exchanged: of two halves the handler would read too far.
        LENGTH.store(0, Ordering::SeqCst);
        let line = Box::leak(line.into_boxed_slice());
        LOG.store(log.as_raw_fd(), Ordering::SeqCst);
        LINE.store(line.as_mut_ptr(), Ordering::SeqCst);
        LENGTH.store(line.len(), Ordering::SeqCst);
    }

    /// There is none any more, and the signal is again what it was.
    pub fn lift(self) -> io::Result<()> {
        drop(self.timer);
        // SAFETY: it is the disposition that this process had before.
        unsafe { sigaction(Signal::SIGALRM, &self.action) }?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)?;
        Ok(())
    }
}

extern "C" fn pass(_: libc::c_int) {
    let (line, length) = (LINE.load(Ordering::SeqCst), LENGTH.load(Ordering::SeqCst));
    if !line.is_null() {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: a length that is not 0 is that of the line, which is never freed; both calls may be made in a handler.
        unsafe { libc::send(LOG.load(Ordering::SeqCst), line.cast(), length, flags) };
    }
    // SAFETY: it takes a number, runs nothing of this process, and does not return.
    unsafe { libc::_exit(STATUS.load(Ordering::Relaxed)) };
}
