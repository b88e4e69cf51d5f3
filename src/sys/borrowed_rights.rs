//! Rights that a program's file lends to whoever runs it: set-user-ID, set-group-ID, capabilities. Whether there are
//! any, whose they are, and giving them back.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

use nix::unistd::{getgroups, getresgid, getresuid, setresgid, setresuid};

/// Who runs this process: the real user, whatever its file lends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The real user.
    pub uid: u32,
    /// The real group.
    pub gid: u32,
    /// The program's file lends rights that the caller has not: nothing that the caller says can be believed.
    pub is_lent: bool,
}

impl Caller {
    /// Looks at this process. The kernel says itself (`AT_SECURE`) whether an exec gave it rights.
    pub fn look() -> io::Result<Self> {
        let (users, groups) = (getresuid()?, getresgid()?);
        // SAFETY: it takes a number, and reads what the kernel left at the start.
        let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
        let differ = users.real != users.effective || groups.real != groups.effective;
        Ok(Self { uid: users.real.as_raw(), gid: groups.real.as_raw(), is_lent: secure || differ })
    }

    /// The supplementary groups of this process.
    pub fn groups(&self) -> io::Result<Vec<u32>> {
        let groups = getgroups()?.into_iter().map(nix::unistd::Gid::as_raw);
        Ok(groups.chain([self.gid]).collect())
    }

    /// Gives back what was lent, with no way to have it again.
    pub fn give_back(&self) -> io::Result<()> {
        let (uid, gid) = (nix::unistd::Uid::from_raw(self.uid), nix::unistd::Gid::from_raw(self.gid));
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        let (users, groups) = (getresuid()?, getresgid()?);
        let kept =
            users.effective != uid || users.saved != uid || groups.effective != gid || groups.saved != gid;
        if kept { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
    }
}

/// Takes every variable out of this process's own environment, so that no library of it reads one. Before any thread.
pub fn clear_environment() {
    // SAFETY: no other thread exists yet, and nobody holds a pointer into the environment.
    unsafe { libc::clearenv() };
}

/// Becomes another program, found by PATH of this process's own environment where the name has no `/`, as execvp(3)
/// does. Returns only if that failed.
pub fn execute_by_path(file: OsString, argv: Vec<OsString>, environment: Vec<OsString>) -> io::Error {
    let texts = |all: Vec<OsString>| {
        all.into_iter().map(|text| CString::new(text.into_vec())).collect::<Result<Vec<_>, _>>()
    };
    let (Ok(file), Ok(argv), Ok(environment)) =
        (CString::new(file.into_vec()), texts(argv), texts(environment))
    else {
        return io::ErrorKind::InvalidInput.into();
    };
    match nix::unistd::execvpe(&file, &argv, &environment) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}
