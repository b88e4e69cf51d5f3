//! Making processes: a copy of this program, started again.
//!
//! One way for all: clone(2) with `CLONE_VM | CLONE_VFORK`, so that the cost grows neither with memory nor
//! with page tables, and execveat(2) of a descriptor of superd's own binary. The parent sleeps until the
//! exec of superd itself, never until the exec of a service's program: that happens in the new process
//! (`roles::stage`), which can hang on a dead file system without anybody waiting.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicI32;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::signal;

/// What the new process executes.
#[derive(Debug)]
pub struct Image<'a> {
    /// superd's own binary.
    pub binary: BorrowedFd<'a>,
    /// Its arguments, `argv[0]` first.
    pub argv: &'a [CString],
    /// Its environment.
    pub envp: &'a [CString],
    /// Descriptors that stay open under their numbers. Everything else is close-on-exec.
    pub keep: &'a [BorrowedFd<'a>],
}

/// Whose child the new process is.
#[derive(Debug, Clone, Copy)]
pub enum Parentage<'a> {
    /// This process's: SIGCHLD comes here.
    Own,
    /// This process's parent's (`CLONE_PARENT`), which reaps it. The kernel writes the pid to the cell before
    /// the child runs.
    Sibling(&'a AtomicI32),
}

const STACK_SIZE: usize = 64 * 1024;
const GUARD_SIZE: usize = 4096;

/// A place for children to start from: a stack with a guard page below. Kept from spawn to spawn; since a
/// spawn lasts until the child's exec, one is enough.
#[derive(Debug)]
pub struct Spawner {
    stack: NonNull<c_void>,
}

struct Start {
    binary: RawFd,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    keep: Vec<RawFd>,
    errno: c_int,
}

impl Spawner {
    /// Maps the stack.
    pub fn new() -> io::Result<Self> {
        let size = std::num::NonZeroUsize::new(STACK_SIZE + GUARD_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_STACK;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let stack = unsafe { mmap_anonymous(None, size, access, flags) }?;
        // SAFETY: the first page of the mapping that was just made, which nothing uses.
        unsafe { mprotect(stack, GUARD_SIZE, ProtFlags::PROT_NONE) }?;
        // SAFETY: an advice about the same mapping; its outcome does not matter.
        let _ = unsafe { nix::sys::mman::madvise(stack, GUARD_SIZE, MmapAdvise::MADV_DONTDUMP) };
        Ok(Self { stack })
    }

    /// Starts a process and returns its pid once it has executed the image. An error is that of the clone or
    /// of the exec; after a failed exec a child of one's own is reaped, a sibling is the parent's to reap.
    pub fn spawn(&mut self, image: &Image<'_>, parentage: Parentage<'_>) -> io::Result<i32> {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let mut start = Start {
            binary: image.binary.as_raw_fd(),
            argv: pointers(image.argv),
            envp: pointers(image.envp),
            keep: image.keep.iter().map(AsRawFd::as_raw_fd).collect(),
            errno: 0,
        };
        let pid = self.clone_process(&mut start, parentage)?;
        if start.errno == 0 {
            return Ok(pid);
        }
        if matches!(parentage, Parentage::Own) {
            super::process::wait_for(pid)?;
        }
        Err(io::Error::from_raw_os_error(start.errno))
    }

    fn clone_process(&mut self, start: &mut Start, parentage: Parentage<'_>) -> io::Result<i32> {
        let shared = libc::CLONE_VM | libc::CLONE_VFORK;
        let (flags, pid_cell) = match parentage {
            Parentage::Own => (shared | libc::SIGCHLD, std::ptr::null_mut()),
            Parentage::Sibling(cell) => {
                (shared | libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID, cell.as_ptr())
            }
        };
        // No handler may run in the child: it would run on this process's memory.
        let _blocked = signal::block_all()?;
        // SAFETY: the top of a mapping of this size, aligned to a page; the stack grows down from it.
        let top = unsafe { self.stack.as_ptr().byte_add(STACK_SIZE + GUARD_SIZE) };
        // SAFETY: with CLONE_VFORK this process sleeps until the child has executed or ended, so that `start`,
        // all that it points to and the stack (exclusively borrowed) outlive the child's use of them; the
        // pid cell outlives the call. The child runs `execute` alone, which returns never.
        let pid = unsafe { libc::clone(execute, top, flags, std::ptr::from_mut(start).cast(), pid_cell) };
        Ok(Errno::result(pid)?)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, which no child uses any more: spawn returns after them.
        let _ = unsafe { munmap(self.stack, STACK_SIZE + GUARD_SIZE) };
    }
}

/// The child, on its parent's memory: system calls alone, no allocation, no lock.
extern "C" fn execute(argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Start` of the parent, which sleeps; see `clone_process`.
    let start = unsafe { &mut *argument.cast::<Start>() };
    for &fd in &start.keep {
        // SAFETY: the child's own copy of the descriptor table; a number that is not open gives EBADF, which
        // the image then finds.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    // SAFETY: both arrays are null-terminated and point to C strings that the parent keeps; the path is empty,
    // as AT_EMPTY_PATH wants it.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            start.binary,
            c"".as_ptr(),
            start.argv.as_ptr(),
            start.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    start.errno = Errno::last_raw();
    // SAFETY: ends the child at once, without running what the parent has registered for its own exit.
    unsafe { libc::_exit(127) }
}
