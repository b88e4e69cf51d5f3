//! `superd check` and `superd schema`, as programs.

#![allow(clippy::unwrap_used)] // a test that can't go on has failed

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOOD: &str = "[service.a]\nlisten = \"tcp:127.0.0.1:0\"\nexec = [\"/bin/cat\"]\nuser = \"root\"\n";

#[test]
fn the_exit_status_says_whether_all_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.toml", GOOD, 0o644);
    let bad = file(folder.path(), "bad.toml", "umask = 22\n", 0o644);
    let missing = folder.path().join("missing.toml");
    check(&[], &[&good], 0, &[]);
    check(&["--resolve"], &[&good], 0, &[]);
    check(&[], &[&bad], 1, &["bad.toml:1:1", "no key `umask`"]);
    check(&[], &[&good, &bad, &missing], 1, &["bad.toml:1:1", "missing.toml: there is no such file"]);
    check(&[], &[&missing], 1, &["there is no such file"]);
    check(&["--colour=blue"], &[&good], 2, &["--colour"]);
}

#[test]
fn names_are_looked_up_on_request_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = GOOD.replace("\"root\"", "\"no-such-user\"").replace("/bin/cat", "/bin/no-such-program");
    let path = file(folder.path(), "a.toml", &text.replace(":0", ":no-such-port"), 0o644);
    check(&[], &[&path], 0, &[]);
    let wrong =
        ["`no-such-user`", "/bin/no-such-program does not exist", "tcp port `no-such-port`", "3 errors"];
    check(&["--resolve"], &[&path], 1, &wrong);
}

#[test]
fn what_others_can_write_is_refused_for_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "a.toml", GOOD, 0o666);
    check(&[], &[&path], 1, &["everybody can write it (mode 0666)"]);
    check(&["--unprivileged"], &[&path], 0, &["superd is not root: user can't be taken"]);
}

#[test]
fn an_include_that_is_a_fifo_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("b.toml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = file(folder.path(), "a.toml", "include = [\"b.toml\"]\n", 0o644);
    check(&[], &[&path], 1, &["a.toml:1:12", "it is not a regular file"]);
}

#[test]
fn includes_are_found_beside_their_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("superd.d")).unwrap();
    file(folder.path(), "superd.d/b.toml", "nise = 1\n", 0o644);
    file(folder.path(), "superd.d/c.toml~", "nise = 1\n", 0o644);
    std::os::unix::fs::symlink("../a.toml", folder.path().join("superd.d/d.toml")).unwrap();
    let path = file(folder.path(), "a.toml", "include = [\"superd.d/*.toml\"]\n", 0o644);
    check(
        &[],
        &[&path],
        1,
        &["superd.d/b.toml:1:1", "includes go in a circle", "superd.d/d.toml", "2 errors"],
    );
}

#[test]
fn the_examples_run_here() {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc");
    check(&["--unprivileged", "--resolve"], &[&etc.join("demo.toml")], 0, &["user can't be taken"]);
    check(&["--unprivileged", "--resolve"], &[&etc.join("superd.toml")], 0, &[]);
}

#[test]
fn the_schema_is_json() {
    let output = superd(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["properties"]["daemon"]["type"], "object");
    assert!(output.status.success());
}

fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    // Set apart from the umask of whoever runs the tests.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn superd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_superd")).args(arguments).output().unwrap()
}

#[track_caller]
fn check(options: &[&str], files: &[&PathBuf], status: i32, parts: &[&str]) {
    let mut arguments = vec!["check"];
    arguments.extend(options);
    arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
    let output = superd(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!parts.is_empty() || said.is_empty(), "{said}");
}
