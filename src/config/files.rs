//! What the reader wants to know of files; the shell implements it, tests use a map.

use std::fmt;
use std::path::Path;

use super::situation::Situation;

/// A file, with what decides whether it may be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileText {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its owner.
    pub uid: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Device and inode: the same file under two names is one.
    pub id: (u64, u64),
}

/// Why a file or folder can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileProblem {
    /// There is none.
    Missing,
    /// It is a folder, a FIFO, a device, a socket.
    NotRegular,
    /// Larger than any configuration: bytes that were allowed.
    TooLarge(u64),
    /// What the kernel said.
    Failed(String),
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no such file"),
            Self::NotRegular => f.write_str("it is not a regular file"),
            Self::TooLarge(most) => write!(f, "it is larger than {most} bytes"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

/// Reads files.
pub trait Files {
    /// The contents of a regular file. Must not wait for a writer (a FIFO).
    fn read(&self, path: &Path) -> Result<FileText, FileProblem>;
    /// The names in a folder, in any order.
    fn list(&self, folder: &Path) -> Result<Vec<String>, FileProblem>;
}

/// Why a file must not decide what root runs; `None` if it may.
pub fn distrust(file: &FileText, situation: &Situation) -> Option<String> {
    if !situation.root {
        return None;
    }
    if file.uid != 0 && file.uid != situation.uid {
        return Some(format!("it belongs to uid {}, not to root or to whoever runs superd", file.uid));
    }
    (file.mode & 0o022 != 0).then(|| {
        let who = if file.mode & 0o002 != 0 { "everybody" } else { "its group" };
        format!("{who} can write it (mode {:04o})", file.mode & 0o7777)
    })
}

/// Does an include's last component want a file of this name? Left-overs of editors and dpkg are never
/// wanted by a pattern.
pub fn pattern_wants(pattern: &str, name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with('~') && !name.contains(".dpkg-") && matches_star(pattern, name)
}

/// `*` stands for any number of characters.
fn matches_star(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = rest.get(at + middle.len()..).unwrap_or_default();
        }
    }
    last.map_or(rest.is_empty(), |end| rest.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_configuration_files_alone() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", false),
            ("*.toml", ".a.toml", false),
            ("*.toml", "a.toml~", false),
            ("*", "a.toml.dpkg-old", false),
            ("*", "a~", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*", "anything", true),
        ] {
            assert_eq!(pattern_wants(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn root_distrusts_what_others_can_write() {
        for (uid, mode, root, trusted) in [
            (0, 0o644, true, true),
            (7, 0o644, true, true),
            (8, 0o644, true, false),
            (0, 0o664, true, false),
            (0, 0o646, true, false),
            (8, 0o666, false, true),
        ] {
            let file = FileText { bytes: Vec::new(), uid, mode, id: (0, 0) };
            let situation = Situation { root, uid: 7, ..Situation::of_root() };
            assert_eq!(distrust(&file, &situation).is_none(), trusted, "{uid} {mode:o} {root}");
        }
    }
}
