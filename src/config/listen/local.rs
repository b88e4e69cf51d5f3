//! `unix:PATH`, `unix:@NAME` and their like, `systemd:NAME` and `tcpmux:NAME`. Knows no address and no port.

use std::path::Path;

use crate::config::draft::{Said, Who};
use crate::config::values::Complaint;
use crate::model::endpoint::{UnixEndpoint, UnixKind, UnixName};
use crate::model::mux::{self, MuxName};

/// `sun_path` has 108 bytes (unix(7)): a path ends with a NUL, an abstract name begins with one and may not
/// be longer.
const MAX_PATH: usize = 107;
const MAX_ABSTRACT: usize = 106;

/// The longest name of a passed socket (`LISTEN_FDNAMES` of `sd_listen_fds(3)`).
const MAX_PASSED: usize = 255;

/// Others than owner and group have to be let in by a `mode` that says so.
const DEFAULT_MODE: u32 = 0o660;

/// A place of the unix protocol, its owner not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixListen {
    /// Stream, datagram or seqpacket.
    pub kind: UnixKind,
    /// Where.
    pub name: UnixName,
    /// Who shall own the path.
    pub owner: Option<Said<Who>>,
    /// The path's group.
    pub group: Option<Said<Who>>,
    /// The path's mode.
    pub mode: u32,
}

impl UnixListen {
    /// Reads what follows `unix:`; a relative path begins at `folder`.
    pub(super) fn parse(kind: UnixKind, rest: &str, folder: &Path) -> Result<Self, Complaint> {
        let name = match rest.strip_prefix('@') {
            Some(name) => abstract_name(name)?,
            None => path(rest, folder)?,
        };
        Ok(Self { kind, name, owner: None, group: None, mode: DEFAULT_MODE })
    }

    /// The socket that it stands for, once the owner and the group are numbers.
    pub fn endpoint(&self, owner: Option<u32>, group: Option<u32>) -> UnixEndpoint {
        UnixEndpoint { kind: self.kind, name: self.name.clone(), owner, group, mode: self.mode }
    }
}

fn abstract_name(name: &str) -> Result<UnixName, Complaint> {
    match name.len() {
        0 => Err(Complaint::new("the name is missing").hint("for example `unix:@finger`")),
        1..=MAX_ABSTRACT => Ok(UnixName::Abstract(name.to_owned())),
        n => Err(Complaint::new(format!("the name has {n} bytes, and {MAX_ABSTRACT} are the most"))),
    }
}

fn path(text: &str, folder: &Path) -> Result<UnixName, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("the path is missing").hint("for example `unix:/run/finger.sock`"));
    }
    if text.ends_with('/') {
        return Err(Complaint::new(format!("`{text}` names a folder, not a socket")));
    }
    let whole = folder.join(text);
    match whole.as_os_str().len() {
        0..=MAX_PATH => Ok(UnixName::Path(whole)),
        n => Err(Complaint::new(format!("`{}` has {n} bytes, and {MAX_PATH} are the most", whole.display()))
            .hint("the kernel takes no longer path for a socket")),
    }
}

/// Reads what follows `systemd:`.
pub(super) fn passed(name: &str) -> Result<String, Complaint> {
    let hint = "it is the `FileDescriptorName=` of the socket unit";
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b':';
    match name.len() {
        0 => Err(Complaint::new("the name is missing").hint(hint)),
        1..=MAX_PASSED if name.bytes().all(printable) => Ok(name.to_owned()),
        1..=MAX_PASSED => Err(Complaint::new(format!(
            "`{name}` is no name of a passed socket: they are printable ASCII without `:`"
        ))
        .hint(hint)),
        n => Err(Complaint::new(format!("the name has {n} bytes, and {MAX_PASSED} are the most")).hint(hint)),
    }
}

/// Reads what follows `tcpmux:`, which a client of RFC 1078 sends as one line.
pub(super) fn through_tcpmux(name: &str) -> Result<MuxName, Complaint> {
    let message = match (name, MuxName::new(name.as_bytes())) {
        (_, Some(known)) if known.is_help() => {
            format!("`{name}` is no name of a service: a client of tcpmux asks for the list by it")
        }
        (_, Some(known)) => return Ok(known),
        ("", None) => "the name is missing".to_owned(),
        (_, None) if name.len() > mux::LONGEST => {
            format!("the name has {} bytes, and {} are the most", name.len(), mux::LONGEST)
        }
        (_, None) => format!("`{name}` is no name of tcpmux: they are printable ASCII without blanks"),
    };
    Err(Complaint::new(message).hint("for example `tcpmux:finger`"))
}
