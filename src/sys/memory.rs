//! Memory that processes share: sealed files of bytes, and the table of launch slots.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU32};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Bytes in a memory file that nobody can change or cut any more.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.write_all(bytes)?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The bytes of a sealed file, mapped: shared with other processes, never copied.
#[derive(Debug)]
pub struct SealedMap {
    first: NonNull<u8>,
    length: usize,
}

impl SealedMap {
    /// Maps the file. `InvalidData` if somebody could still change or cut it.
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
        if !seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let length =
            usize::try_from(nix::sys::stat::fstat(fd)?.st_size).map_err(|_| io::ErrorKind::InvalidData)?;
        let Some(size) = NonZeroUsize::new(length) else {
            return Ok(Self { first: NonNull::dangling(), length: 0 });
        };
        // SAFETY: a new mapping at an address of the kernel's choice, as long as the file, which its seals
        // keep as it is.
        let first = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, fd, 0) }?;
        Ok(Self { first: first.cast(), length })
    }
}

impl Deref for SealedMap {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `length` bytes long (or empty, and the pointer dangling), lives as long as
        // `self`, and its file is sealed against writing.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.length) }
    }
}

impl Drop for SealedMap {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping that `open` made; no borrow of it outlives `self`.
            let _ = unsafe { munmap(self.first.cast(), self.length) };
        }
    }
}

/// What supervisor, launcher and a child that is being launched tell each other about one launch.
///
/// The kernel writes `pid` before the child runs its first instruction (`CLONE_PARENT_SETTID`), so that a
/// child that ends early, or a launcher that dies, leaves no pid unaccounted for.
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// The child, or 0 while there is none.
    pub pid: AtomicI32,
    /// The step that the child is at, or that failed.
    pub step: AtomicU32,
    /// Why it failed; 0 if it did not.
    pub errno: AtomicI32,
    reserved: u32,
}

/// A table of [`Slot`]s in memory that several processes map.
#[derive(Debug)]
pub struct SlotTable {
    fd: OwnedFd,
    first: NonNull<Slot>,
    count: usize,
}

impl SlotTable {
    /// A new table, all zero.
    pub fn create(count: usize) -> io::Result<Self> {
        let fd = memfd_create("superd-slots", MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&fd, i64::try_from(count * size_of::<Slot>()).unwrap_or(i64::MAX))?;
        Self::map(fd, count)
    }

    /// A table that another process made.
    pub fn open(fd: OwnedFd, count: usize) -> io::Result<Self> {
        let length = File::from(fd.try_clone()?).metadata()?.len();
        if length < (count * size_of::<Slot>()) as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(fd, count)
    }

    fn map(fd: OwnedFd, count: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(count * size_of::<Slot>()).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the file is at least `length` long
        // and is never cut, since only superd's own processes hold it.
        let first = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &fd, 0) }?;
        Ok(Self { fd, first: first.cast(), count })
    }
}

impl Deref for SlotTable {
    type Target = [Slot];
    fn deref(&self) -> &[Slot] {
        // SAFETY: the mapping is `count` slots long and lives as long as `self`; a page is aligned for Slot,
        // whose fields are atomics and valid for any bits, so that other processes may write meanwhile.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl AsFd for SlotTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SlotTable {
    fn drop(&mut self) {
        // SAFETY: this mapping was made by `map` with this length, and `deref` borrows end before the drop.
        let _ = unsafe { munmap(self.first.cast(), self.count * size_of::<Slot>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn sealed_bytes_come_back() {
        let fd = sealed("test", b"some text").unwrap();
        assert_eq!(&*SealedMap::open(fd.as_fd()).unwrap(), b"some text");
        assert!(File::from(fd).write_all(b"x").is_err());
        assert_eq!(&*SealedMap::open(sealed("empty", b"").unwrap().as_fd()).unwrap(), b"");
    }

    #[test]
    fn files_that_can_still_change_are_refused() {
        let fd = memfd_create("open", MFdFlags::MFD_CLOEXEC).unwrap();
        assert_eq!(SealedMap::open(fd.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn two_maps_show_one_table() {
        let table = SlotTable::create(4).unwrap();
        let other = SlotTable::open(table.as_fd().try_clone_to_owned().unwrap(), 4).unwrap();
        table[3].pid.store(42, Ordering::Release);
        assert_eq!(other[3].pid.load(Ordering::Acquire), 42);
        assert!(SlotTable::open(table.as_fd().try_clone_to_owned().unwrap(), 5).is_err());
    }
}
