//! Sockets that the service manager passed: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` of `sd_listen_fds(3)`.
//!
//! Taken over once, at the start; who wants one gets a copy.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use nix::sys::socket::{getsockopt, sockopt};

use super::fd::take_inherited;
use super::kind::SocketKind;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// More are not believed: the variable is a text that anybody may have set.
const MOST: RawFd = 4096;

/// What `sd_listen_fds_with_names(3)` calls a descriptor that came without a name.
const UNNAMED: &str = "unknown";

/// All that came, in its order.
#[derive(Debug, Default)]
pub struct Passed(Vec<PassedSocket>);

/// One descriptor.
#[derive(Debug)]
pub struct PassedSocket {
    /// The name of the unit's `FileDescriptorName=`, by default the socket unit's own.
    pub name: String,
    /// The descriptor, close-on-exec.
    pub fd: OwnedFd,
    /// What it is; `None` for what no service can be served by.
    pub kind: Option<SocketKind>,
    /// Does it listen for connections?
    pub listens: bool,
}

/// The three variables, as they stand in the environment.
#[derive(Debug, Default, Clone)]
pub struct Variables {
    /// `LISTEN_PID`
    pub pid: Option<String>,
    /// `LISTEN_FDS`
    pub fds: Option<String>,
    /// `LISTEN_FDNAMES`
    pub names: Option<String>,
}

impl Variables {
    /// Of this process.
    pub fn of_environment() -> Self {
        let text = |name: &str| std::env::var_os(name).as_deref().and_then(OsStr::to_str).map(str::to_owned);
        Self { pid: text("LISTEN_PID"), fds: text("LISTEN_FDS"), names: text("LISTEN_FDNAMES") }
    }
}

impl Passed {
    /// Takes over what was passed to process `pid` (this one, or the one that it was before it became a daemon).
    /// Nothing, if the variables are meant for another process. To be called once, before anything is opened.
    pub fn take(variables: &Variables, pid: u32) -> io::Result<Self> {
        let Some(names) = announced(variables, pid) else { return Ok(Self::default()) };
        let sockets =
            (FIRST..).zip(names).map(|(number, name)| Ok(PassedSocket::new(name, take_inherited(number)?)));
        sockets.collect::<io::Result<_>>().map(Self)
    }

    /// Those of one name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &PassedSocket> {
        self.0.iter().filter(move |socket| socket.name == name)
    }

    /// The names that came, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|socket| socket.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl FromIterator<(String, OwnedFd)> for Passed {
    fn from_iter<T: IntoIterator<Item = (String, OwnedFd)>>(sockets: T) -> Self {
        Self(sockets.into_iter().map(|(name, fd)| PassedSocket::new(name, fd)).collect())
    }
}

impl PassedSocket {
    fn new(name: String, fd: OwnedFd) -> Self {
        let kind = SocketKind::of(fd.as_fd()).ok();
        let listens = getsockopt(&fd.as_fd(), sockopt::AcceptConn).unwrap_or(false);
        Self { name, fd, kind, listens }
    }
}

/// The names of descriptors 3, 4, … that were passed to the process; `None` if that is not what was said.
fn announced(variables: &Variables, pid: u32) -> Option<Vec<String>> {
    if variables.pid.as_deref()?.parse() != Ok(pid) {
        return None;
    }
    let count = variables.fds.as_deref()?.parse::<RawFd>().ok().filter(|count| (0..=MOST).contains(count))?;
    let mut names = variables.names.as_deref().unwrap_or_default().split(':');
    let mut next = || names.next().filter(|name| !name.is_empty()).unwrap_or(UNNAMED).to_owned();
    Some((0..count).map(|_| next()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pid: &str, fds: &str, names: &str) -> Variables {
        let text = |text: &str| (text != "-").then(|| text.to_owned());
        Variables { pid: text(pid), fds: text(fds), names: text(names) }
    }

    #[test]
    fn what_is_announced_is_read_strictly() {
        let rows = [
            (("7", "2", "a:b"), Some("a b")),
            (("7", "2", "a"), Some("a unknown")),
            (("7", "2", ":b"), Some("unknown b")),
            (("7", "1", "a:b"), Some("a")),
            (("7", "1", "-"), Some("unknown")),
            (("7", "0", "-"), Some("")),
            (("8", "2", "a:b"), None),
            (("-", "2", "a:b"), None),
            (("7", "-", "a:b"), None),
            (("7", "-1", "a"), None),
            (("7", "99999", "a"), None),
            (("7", "x", "a"), None),
            (("x", "1", "a"), None),
        ];
        for ((pid, fds, names), expected) in rows {
            let found = announced(&variables(pid, fds, names), 7).map(|names| names.join(" "));
            assert_eq!(found.as_deref(), expected, "{pid} {fds} {names}");
        }
    }
}
