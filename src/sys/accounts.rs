//! The accounts of the user database, one after the other: what getpwnam(3) can't tell, who is there at all.

use std::sync::Mutex;

use nix::errno::Errno;

/// The walk through the database is one of the whole process.
static WALK: Mutex<()> = Mutex::new(());

/// Every user with the primary group. May wait for a server, as every question to that database may.
pub fn all() -> Result<Vec<(u32, u32)>, Errno> {
    let _walk = WALK.lock();
    let mut all = Vec::new();
    // SAFETY: takes nothing; `WALK` keeps others of this process from the same walk.
    unsafe { libc::setpwent() };
    loop {
        Errno::clear();
        // SAFETY: as above; what it points to is valid until the next call, and is read before.
        let entry = unsafe { libc::getpwent().as_ref() };
        let Some(entry) = entry else { break };
        all.push((entry.pw_uid, entry.pw_gid));
    }
    let errno = Errno::last();
    // SAFETY: as above.
    unsafe { libc::endpwent() };
    match errno {
        // Both mean that there are no more.
        Errno::UnknownErrno | Errno::ENOENT => Ok(all),
        errno => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_among_them() {
        assert!(all().unwrap().contains(&(0, 0)));
    }
}
