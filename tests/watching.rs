//! Watched lists: what becomes of them is in force soon after, without a word from the admin, and no mistake is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use harness::{Superd, until};

const SERVICE: &str = "[service.a]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n\
                       banner = { refuse = \"no\\n\" }\ndeny = [\"@list\"]\n";

const SETS: &str = "[sets]\nlist = { files = [\"lists/list\"], watch = true }\n";

const HARMLESS: &str = "192.0.2.1\n";
const OWN: &str = "192.0.2.1\n127.0.0.0/8\n";

struct Watched {
    superd: Superd,
    lists: PathBuf,
}

/// A superd with the list `lists/list`, as `make` has put it there.
fn watched(make: impl FnOnce(&Path)) -> Watched {
    let superd = Superd::with(&SERVICE.replace("deny = [\"@list\"]\n", ""));
    let lists = superd.dir().join("lists");
    fs::create_dir(&lists).unwrap();
    make(&lists);
    superd.reload_with(&format!("{SERVICE}{SETS}"));
    assert_eq!(superd.connect("a").read_text(), "hello\n");
    Watched { superd, lists }
}

impl Watched {
    /// Until clients are told this.
    #[track_caller]
    fn until_told(&self, expected: &str) {
        until(expected, || (self.superd.connect("a").read_text() == expected).then_some(()));
    }

    fn list(&self) -> PathBuf {
        self.lists.join("list")
    }

    /// Puts another file in its place, as careful programs do.
    fn replace(&self, text: &str) {
        fs::write(self.lists.join("new"), text).unwrap();
        fs::rename(self.lists.join("new"), self.list()).unwrap();
    }
}

fn plain(lists: &Path) {
    fs::write(lists.join("list"), HARMLESS).unwrap();
}

#[test]
fn what_is_written_or_moved_there_holds_soon() {
    let watched = watched(plain);
    fs::write(watched.list(), OWN).unwrap();
    watched.until_told("no\n");
    watched.superd.expect_log("read again: ");
    watched.replace(HARMLESS);
    watched.until_told("hello\n");
    // A link is whole when it is made.
    fs::write(watched.superd.dir().join("other"), OWN).unwrap();
    fs::remove_file(watched.list()).unwrap();
    fs::hard_link(watched.superd.dir().join("other"), watched.list()).unwrap();
    watched.until_told("no\n");
    // The generation is that of the configuration.
    assert_eq!(watched.superd.status()["generation"], 2);
}

#[test]
fn a_mistake_keeps_what_was_and_says_where() {
    let watched = watched(plain);
    watched.replace("127.0.0.0/8\n127.0.0.1/8\n");
    let line = watched.superd.expect_log("lists stay as they were");
    assert!(line.contains("list:2:"), "{line}");
    assert_eq!(watched.superd.connect("a").read_text(), "hello\n");
    watched.replace(OWN);
    watched.until_told("no\n");
    watched.replace("# nobody\n");
    watched.superd.expect_log("has changed, and is empty");
    fs::remove_file(watched.list()).unwrap();
    watched.superd.expect_log("can't be read");
    assert_eq!(watched.superd.connect("a").read_text(), "no\n");
    fs::write(watched.list(), "").unwrap();
    assert!(watched.superd.reload().is_ok());
    assert_eq!(watched.superd.connect("a").read_text(), "hello\n");
}

#[test]
fn links_are_followed() {
    let watched = watched(|lists| {
        for (version, text) in [("v1", HARMLESS), ("v2", OWN)] {
            fs::create_dir(lists.join(version)).unwrap();
            fs::write(lists.join(version).join("list"), text).unwrap();
        }
        symlink("v1", lists.join("current")).unwrap();
        symlink("current/list", lists.join("list")).unwrap();
    });
    symlink("v2", watched.lists.join("next")).unwrap();
    fs::rename(watched.lists.join("next"), watched.lists.join("current")).unwrap();
    watched.until_told("no\n");
    fs::write(watched.lists.join("v2/list"), HARMLESS).unwrap();
    watched.until_told("hello\n");
}

#[test]
fn a_storm_is_a_few_loads() {
    let watched = watched(plain);
    for _ in 0..500 {
        fs::write(watched.list(), HARMLESS).unwrap();
    }
    fs::write(watched.list(), OWN).unwrap();
    watched.until_told("no\n");
    assert!(watched.superd.count_log("read again") <= 5);
}

#[test]
fn a_directory_that_goes_changes_nothing() {
    let watched = watched(plain);
    fs::rename(&watched.lists, watched.superd.dir().join("gone")).unwrap();
    watched.superd.expect_log("is gone: its files are watched again after a reload");
    watched.superd.expect_log("lists stay as they were");
    assert_eq!(watched.superd.connect("a").read_text(), "hello\n");
    fs::create_dir(&watched.lists).unwrap();
    plain(&watched.lists);
    assert!(watched.superd.reload().is_ok());
    watched.replace(OWN);
    watched.until_told("no\n");
}

#[test]
fn an_edit_of_the_configuration_is_not_taken_with_a_list() {
    let watched = watched(plain);
    watched.superd.rewrite(&format!("{SERVICE}{SETS}").replace("\"hello\"", "\"exit\", \"3\""));
    watched.replace("192.0.2.2\n");
    watched.superd.expect_log("read again");
    assert_eq!(watched.superd.connect("a").read_text(), "hello\n");
}
