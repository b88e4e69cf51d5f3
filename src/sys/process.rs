//! What a process is to the kernel, and how its children end.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid};

/// Nobody but root may look into this process's memory or descriptors, nor trace it, from now on. An exec
/// takes that back. Core files are not written either.
pub fn set_undumpable() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// The name that ps shows, cut to 15 bytes by the kernel.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(nix::sys::prctl::set_name(name)?)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub pid: i32,
    /// The argument of exit(2), or the number of the signal, negative.
    pub status: Status,
    /// User and system time.
    pub cpu: Duration,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// exit(2)'s argument.
    Code(i32),
    /// The signal's number.
    Signal(i32),
}

/// Takes one child that has ended, whichever; `None` when no child has ended (or there is none).
pub fn reap() -> Option<Ended> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value; wait4 fills in both before it returns a pid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are valid for writes during the call.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
        match Errno::result(pid) {
            Ok(0) => return None,
            Ok(pid) => return Some(Ended { pid, status: decode(status), cpu: cpu_time(&usage) }),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn decode(status: i32) -> Status {
    if libc::WIFSIGNALED(status) {
        Status::Signal(libc::WTERMSIG(status))
    } else {
        Status::Code(libc::WEXITSTATUS(status))
    }
}

fn cpu_time(usage: &libc::rusage) -> Duration {
    let part = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    part(usage.ru_utime) + part(usage.ru_stime)
}

/// Waits until the child `pid` has ended.
pub fn wait_for(pid: i32) -> io::Result<()> {
    loop {
        match nix::sys::wait::waitpid(Pid::from_raw(pid), None) {
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(|_| ())?),
        }
    }
}

/// Sends `signal` to a child that has not been reaped, and to the process group that it leads. The pid of a
/// child that nobody has reaped belongs to nobody else, and neither does the group's.
pub fn signal_child(pid: i32, signal: Signal) {
    // Both may fail: the child has not called setsid yet, or has ended and waits to be reaped.
    let _ = nix::sys::signal::killpg(Pid::from_raw(pid), signal);
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
}

/// Sends `signal` to every process that there is but this one. For pid 1 alone.
pub fn signal_everybody(signal: Signal) {
    let _ = nix::sys::signal::kill(Pid::from_raw(-1), signal);
}

/// The name of an error as the kernel has it: `EPERM`.
pub fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("errno {errno}"),
        known => format!("{known:?}"),
    }
}

/// The name of a signal without `SIG`: `TERM`.
pub fn signal_name(number: i32) -> String {
    Signal::try_from(number)
        .map_or_else(|_| number.to_string(), |s| s.as_str().trim_start_matches("SIG").to_owned())
}

/// Soft and hard limit of open descriptors.
pub fn descriptor_limit() -> io::Result<(u64, u64)> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?)
}

/// Raises the soft limit of open descriptors to the hard one.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (_, hard) = descriptor_limit()?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Sets a resource limit by its number in setrlimit(2); `u64::MAX` is infinity.
pub fn set_rlimit(resource: i32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` is valid during the call; pid 0 is this process, and nothing is to be read back.
    let result = unsafe {
        libc::prlimit64(0, resource as libc::__rlimit_resource_t, &raw const limit, std::ptr::null_mut())
    };
    Errno::result(result)?;
    Ok(())
}

/// Adds to this process's niceness.
pub fn add_nice(by: i32) -> io::Result<()> {
    Errno::clear();
    // SAFETY: getpriority and setpriority take numbers alone. -1 is a valid answer of the first, so that
    // errno alone tells.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if now == -1 && Errno::last_raw() != 0 {
        return Err(Errno::last().into());
    }
    // SAFETY: as above.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, now.saturating_add(by)) })?;
    Ok(())
}

/// Sets the file mode creation mask.
pub fn set_umask(mask: u32) {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask));
}

/// Leads a new session and process group, without a terminal.
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Changes the root directory.
pub fn change_root(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::chroot(path)?)
}

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    Ok(nix::unistd::setgroups(&groups)?)
}

/// Sets real, effective and saved group id.
pub fn set_group(gid: u32) -> io::Result<()> {
    let gid = Gid::from_raw(gid);
    Ok(nix::unistd::setresgid(gid, gid, gid)?)
}

/// Sets real, effective and saved user id, and makes sure that there is no way back.
pub fn set_user(uid: u32) -> io::Result<()> {
    let id = Uid::from_raw(uid);
    nix::unistd::setresuid(id, id, id)?;
    if uid != 0 && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

/// No exec gives more privileges from now on, in this process and all that come from it.
pub fn set_no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Becomes another program. Returns only if that failed.
pub fn execute(path: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    match nix::unistd::execve(path, argv, envp) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// Effective user id.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// This process's id.
pub fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_signals_have_names() {
        assert_eq!(errno_name(libc::EPERM), "EPERM");
        assert_eq!(errno_name(99_999), "errno 99999");
        assert_eq!(signal_name(libc::SIGTERM), "TERM");
        assert_eq!(signal_name(40), "40");
    }
}
