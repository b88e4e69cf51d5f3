//! What the machine that runs the tests has, and where the programs under test are.

use std::path::{Path, PathBuf};

/// Do the tests run as root?
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says that a test did not run, for `.ci/run` to list.
#[track_caller]
pub fn skipped(needs: &str) {
    let thread = std::thread::current();
    let at = std::panic::Location::caller();
    // Not println!: the test runner would swallow it.
    let line = format!("skipped: needs {needs}: {} ({})\n", thread.name().unwrap_or("?"), at.file());
    let _ = nix::unistd::write(std::io::stderr(), line.as_bytes());
}

/// The niceness that the tests run with.
pub fn nice() -> i64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is there");
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
    fields.split_whitespace().nth(16).and_then(|nice| nice.parse().ok()).expect("field 19")
}

/// Is a program installed?
pub fn have(program: &str) -> bool {
    find(program).is_some()
}

/// The path of an installed program, looked for where root's programs are, too.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin", "/usr/lib/git-core"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

/// A program under test. `SUPERD_TEST_BIN` names another folder, where the tests run as a user who can't
/// reach the tree.
pub fn built(program: &str) -> PathBuf {
    let folder = std::env::var_os("SUPERD_TEST_BIN").map(PathBuf::from);
    let folder = folder.or_else(|| Path::new(env!("CARGO_BIN_EXE_superd")).parent().map(Path::to_owned));
    let path = folder.expect("superd is in a folder").join(program);
    assert!(path.is_file(), "{} is missing: cargo build --bins --examples", path.display());
    path
}

/// May every user reach and run it?
pub fn is_for_everybody(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let open = |path: &Path| path.metadata().is_ok_and(|data| data.permissions().mode() & 0o1 == 0o1);
    path.ancestors().all(open)
}
