//! Descriptors by number: what is left where a process takes over what another one opened for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;

/// Takes over a descriptor that this process was started with, by its number. `EBADF` if it is not open.
///
/// It is for the first moments of a role, where descriptors that the starter named wait for their owner:
/// each number may be taken once.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks at the descriptor table.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the descriptor is open, was left to this process under this number, and is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    set_cloexec(fd.as_fd(), true)?;
    Ok(fd)
}

/// Sets or clears close-on-exec.
pub fn set_cloexec(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let flags = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd, FcntlArg::F_SETFD(flags))?;
    Ok(())
}

/// Sets or clears `O_NONBLOCK`, which all copies of a descriptor share.
pub fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, on);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// A copy at the lowest free number from `least` on, close-on-exec.
pub fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel has just made this descriptor for this call.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `number` (0 to 3, in a process that is about to exec) a copy of `fd` that survives the exec.
pub fn install(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        return set_cloexec(fd, false);
    }
    // SAFETY: dup2 takes numbers alone; what was open at `number` is closed, which is the caller's wish.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
    Ok(())
}

/// Marks every descriptor from `first` on close-on-exec: `close_range(2)`, or one by one where the kernel
/// refuses it (before 5.11).
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes numbers alone, and with CLOSE_RANGE_CLOEXEC closes nothing now.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if result == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(number) = number.filter(|&number| number >= first) {
            // SAFETY: F_SETFD changes a flag of a number; one that is not open gives EBADF.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Opens /dev/null for reading and writing, close-on-exec.
pub fn open_null() -> io::Result<OwnedFd> {
    Ok(open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// The reading and the writing end of a pipe, close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// This program's own binary, for executing it again whatever becomes of its path. `O_PATH` would not do:
/// executing needs no read permission, but opening /proc/self/exe again later does.
pub fn open_own_binary() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?.into())
}

/// How many descriptors this process has open; 0 where /proc can't be read.
pub fn count_open() -> u32 {
    let count = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u32::try_from(count).map_or(u32::MAX, |count| count.saturating_sub(1))
}
