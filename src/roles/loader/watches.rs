//! Watches of the files that are to be read again when they change. They are set before the files are read, so
//! that no change is missed, and go to the supervisor, which never looks at a disk.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::config::admit;
use crate::config::diagnostic::{Diagnostic, Report, Spot};
use crate::config::draft::Draft;
use crate::protocol::load::{Changed, Watch};
use crate::sys::inotify::Inotify;

/// As many links as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// All watches of a configuration.
#[derive(Debug)]
pub struct Watches {
    /// Where their news come from.
    pub inotify: Inotify,
    /// What they are about.
    pub watches: Vec<Watch>,
}

/// Sets the watches that a configuration wants. One that can't be set is a warning.
pub fn set(draft: &Draft, report: &mut Report) -> Option<Watches> {
    let wanted = wanted(draft);
    let (_, first) = wanted.first()?;
    let inotify = match Inotify::new() {
        Ok(inotify) => inotify,
        Err(error) => {
            warn(first, "no file can be watched", &error, report);
            return None;
        }
    };
    let mut set = Watches { inotify, watches: Vec::new() };
    for (file, spot) in wanted {
        for (directory, name) in steps(&file) {
            if let Err(error) = set.add(&directory, name, &file) {
                warn(&spot, &format!("{} can't be watched", file.display()), &error, report);
                break;
            }
        }
    }
    Some(set)
}

fn warn(spot: &Spot, what: &str, error: &io::Error, report: &mut Report) {
    let hint = "until then a reload reads it again; see fs.inotify in sysctl(8)";
    report.add(Diagnostic::warning("watch", spot, format!("{what}: {error}")).hint(hint));
}

fn wanted(draft: &Draft) -> Vec<(PathBuf, Spot)> {
    let lists = draft.sets.values().filter(|set| set.watch).flat_map(|set| &set.files);
    let mut wanted: Vec<(PathBuf, Spot)> =
        lists.map(|said| (said.value.clone(), said.spot.clone())).collect();
    for service in &draft.services {
        let Some(said) = admit::hosts_access(&service.values).filter(|said| said.watch) else { continue };
        let Some(spot) = service.values.spot(("", "hosts_access")) else { continue };
        wanted.extend([said.allow, said.deny].map(|file| (file, spot.clone())));
    }
    wanted
}

impl Watches {
    fn add(&mut self, directory: &Path, name: OsString, file: &Path) -> io::Result<()> {
        let id = self.inotify.watch(directory)?;
        let named = (name, file.to_owned());
        if let Some(watch) = self.watches.iter_mut().find(|watch| watch.id == id) {
            if !watch.names.contains(&named) {
                watch.names.push(named);
            }
        } else {
            self.watches.push(Watch { id, directory: directory.to_owned(), names: vec![named] });
        }
        Ok(())
    }
}

/// Where a path leads, link by link: each link, and at last the file, by its directory and name. A change of any
/// of them changes what is read.
fn steps(path: &Path) -> BTreeSet<(PathBuf, OsString)> {
    let mut steps = BTreeSet::new();
    let mut rest: VecDeque<OsString> = words(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(word) = rest.pop_front() {
        if word == ".." {
            at.pop();
            continue;
        }
        let here = at.join(&word);
        match fs::read_link(&here) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                steps.insert((at.clone(), word));
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                for word in words(&target).into_iter().rev() {
                    rest.push_front(word);
                }
            }
            _ if rest.is_empty() => drop(steps.insert((at.clone(), word))),
            _ => at = here,
        }
    }
    steps
}

fn words(path: &Path) -> VecDeque<OsString> {
    let word = |part: Component<'_>| match part {
        Component::Normal(word) => Some(word.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(word).collect()
}

/// Those that are whole: a file that was made, and nothing else has happened to it, is still being written.
pub fn whole(changed: &[Changed]) -> Vec<&Changed> {
    let is_link =
        |path: &Path| path.symlink_metadata().is_ok_and(|about| about.is_symlink() || about.nlink() > 1);
    changed.iter().filter(|changed| !changed.made || is_link(&changed.path)).collect()
}

/// A list that is suddenly empty, or gone, is rather a mistake than the will of an admin, who can say so.
pub fn object(changed: &[&Changed], report: &mut Report) {
    for Changed { path, .. } in changed {
        let says_something = |line: &[u8]| line.trim_ascii().first().is_some_and(|byte| *byte != b'#');
        let what = match fs::read(path) {
            Ok(bytes) if bytes.split(|byte| *byte == b'\n').any(says_something) => continue,
            Ok(_) => "is empty".to_owned(),
            Err(error) => format!("can't be read: {error}"),
        };
        let message = format!("{} has changed, and {what}: reload if that is meant", path.display());
        report.add(Diagnostic::bare("watch", message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_link_on_the_way_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for dir in ["a", "v1", "etc"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        fs::write(root.join("v1/list"), "").unwrap();
        symlink("../v1", root.join("a/current")).unwrap();
        symlink(root.join("a/current/list"), root.join("etc/list")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let check = |path: &str, expected: &[(&str, &str)]| {
            let expected: BTreeSet<_> =
                expected.iter().map(|(dir, name)| (root.join(dir), OsString::from(name))).collect();
            let found: BTreeSet<_> =
                steps(&root.join(path)).into_iter().filter(|(dir, _)| dir.starts_with(&root)).collect();
            assert_eq!(found, expected, "{path}");
        };
        check("v1/list", &[("v1", "list")]);
        check("etc/list", &[("etc", "list"), ("a", "current"), ("v1", "list")]);
        check("etc/none", &[("etc", "none")]);
        assert!(!steps(&root.join("loop")).is_empty());
    }

    #[test]
    fn what_is_empty_or_gone_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        for (text, good) in
            [(Some("192.0.2.1\n"), true), (Some("# none\n \n"), false), (Some(""), false), (None, false)]
        {
            let path = folder.path().join("list");
            let _ = fs::remove_file(&path);
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let mut report = Report::default();
            object(&[&Changed { path, made: false }], &mut report);
            assert_eq!(!report.has_errors(), good, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let count = |path: &Path, made| whole(&[Changed { path: path.to_owned(), made }]).len();
        assert_eq!((count(&file, true), count(&file, false), count(&link, true)), (0, 1, 1));
        fs::hard_link(&file, folder.path().join("hard")).unwrap();
        assert_eq!(count(&file, true), 1);
    }
}
