//! Names of signals, as kill(1) knows them, without `SIG`.
//!
//! The numbers of Linux on every machine but alpha, mips, parisc and sparc; asking libc would make this no
//! pure code, and a wrong name is worse than a number, so those machines get numbers, but for KILL and TERM.

use std::fmt;

/// A signal's number, shown by name where it has one.
pub(super) struct Name(pub(super) i32);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = usize::try_from(self.0).ok().and_then(|number| NAMES.get(number)).copied();
        match name {
            Some(name) if !name.is_empty() && (HAS_COMMON_NUMBERS || name == "TERM" || name == "KILL") => {
                f.write_str(name)
            }
            _ => self.0.fmt(f),
        }
    }
}

const HAS_COMMON_NUMBERS: bool = cfg!(not(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc",
    target_arch = "sparc64"
)));

const NAMES: [&str; 32] = [
    "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
