//! Signals: flags that handlers set, and the mask that decides when they come.
//!
//! The supervisor blocks its signals everywhere but inside ppoll. A signal that is sent while a turn is
//! worked off stays pending, and ends the next ppoll that would wait; one that comes inside ppoll runs its handler
//! there. Either way the flag is set when ppoll returns, and the turn looks at all flags: no pipe, no race.
//! Where ppoll never has to wait, [`PollSet::wait`] lets signals in by itself.
//!
//! [`PollSet::wait`]: super::poll::PollSet::wait

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

/// One signal's flag.
#[derive(Debug, Clone)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// Has the signal come since the last call?
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Installs a handler for `signal` that sets a flag and does nothing else.
pub fn flag(signal: Signal) -> io::Result<Flag> {
    let flag = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal as i32, Arc::clone(&flag))?;
    Ok(Flag(flag))
}

/// Blocks `signals` in this process; what comes stays pending.
pub fn block(signals: &[Signal]) -> io::Result<()> {
    let set = signals.iter().copied().collect::<SigSet>();
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?)
}

/// Nothing is blocked any more.
pub fn unblock_all() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Blocks every signal until the guard is dropped.
pub fn block_all() -> io::Result<Blocked> {
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    Ok(Blocked { before })
}

/// Every signal is blocked while this lives.
#[derive(Debug)]
pub struct Blocked {
    before: SigSet,
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // The mask was in force before; setting it can't fail.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// Handles `signals` by an empty function: a role survives what `killall` or a terminal sends, and, other
/// than with ignoring, no service inherits it, because exec sets handled signals back to their default.
pub fn shrug_off(signals: &[Signal]) -> io::Result<()> {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler touches nothing, so that it may run at any moment.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Sets one signal back to its default. Rust's runtime ignores SIGPIPE before main.
pub fn set_default(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: SIG_DFL is no handler.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// Sets every signal back to its default, also those that were ignored when this process was started, and
/// real-time ones.
///
/// By the bare system call: libc keeps 32 and 33 for itself and refuses to touch them, but its own `posix_spawn`
/// leaves them ignored in whatever it starts.
pub fn set_all_default() {
    // The kernel's sigaction: handler, flags, restorer, mask. All zeroes is SIG_DFL with an empty mask.
    let action = [0_u64; 4];
    for number in 1..=64_i32 {
        // SAFETY: `action` is as large as the kernel's structure, 8 is the size of its mask. KILL and STOP refuse
        // with EINVAL, and there is nothing to set.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, &raw const action, std::ptr::null_mut::<u64>(), 8);
        }
    }
}
