//! The program that superwrap becomes: where it is, and what it finds.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::borrowed_rights::execute_by_path;

use super::Start;
use super::policy::Rules;

/// Where the real programs of links are, as tcpd's REAL_DAEMON_DIR: its own folder, and that of a line of inetd.conf
/// which names superwrap as the path and the program alone as its name.
const PROGRAMS: [&str; 2] = ["/usr/lib/superwrap", "/usr/sbin"];

const OWN_NAME: &str = "superwrap";

/// A program on its way.
pub(super) struct Launch {
    /// A path, or a name for PATH.
    file: OsString,
    argv: Vec<OsString>,
    environment: Vec<OsString>,
    /// Folders to find it in by the last part of its name; `None`: it is what was said.
    folders: Option<Vec<PathBuf>>,
}

/// This process's environment, each as `NAME=value`.
pub(super) fn environment() -> Vec<OsString> {
    let variable = |(mut name, value): (OsString, OsString)| {
        name.push("=");
        name.push(value);
        name
    };
    std::env::vars_os().map(variable).collect()
}

/// Becomes superwrap's twin. Returns only if that failed.
pub(super) fn become_twin(twin: &OsStr, start: &Start) -> io::Error {
    execute_by_path(twin.to_owned(), std::env::args_os().collect(), start.environment.clone())
}

impl Launch {
    /// The program that was asked for.
    pub(super) fn of(start: &Start, rules: &Rules) -> Self {
        let argv = start.arguments.argv.clone();
        let folders = start.arguments.by_name.then(|| match &rules.wrap.programs {
            Some(folder) => vec![folder.clone()],
            None => PROGRAMS.map(PathBuf::from).to_vec(),
        });
        let file = argv.first().cloned().unwrap_or_default();
        Self { file, argv, environment: start.environment.clone(), folders }
    }

    /// No program: for what is done beside a refusal.
    pub(super) fn nothing(start: &Start) -> Self {
        let (file, argv, environment) = (OsString::new(), Vec::new(), start.environment.clone());
        Self { file, argv, environment, folders: None }
    }

    /// A shell command in its place, which has the connection as its input and output.
    pub(super) fn twist(&mut self, command: String) {
        self.file = "/bin/sh".into();
        self.argv = vec!["sh".into(), "-c".into(), command.into()];
        self.folders = None;
    }

    /// Sets a variable.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        let front = format!("{name}=");
        self.environment.retain(|variable| !variable.as_bytes().starts_with(front.as_bytes()));
        self.environment.push(format!("{front}{value}").into());
    }

    /// What it finds, each as `NAME=value`.
    pub(super) fn environment(&self) -> &[OsString] {
        &self.environment
    }

    /// As the log calls it.
    pub(super) fn program(&self) -> String {
        self.file.to_string_lossy().into_owned()
    }

    /// Finds the program of a link. It must not be superwrap again.
    pub(super) fn find(&mut self) -> io::Result<()> {
        let Some(folders) = &self.folders else { return Ok(()) };
        let said = Path::new(&self.file);
        if said.is_absolute() && said.exists() && !is_self(said) {
            return Ok(());
        }
        let name = said.file_name().unwrap_or_default();
        let found =
            folders.iter().map(|folder| folder.join(name)).find(|path| path.exists() && !is_self(path));
        let Some(found) = found else {
            let folders: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let why = format!("it is not in {}", folders.join(" or "));
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        };
        self.file = found.into_os_string();
        Ok(())
    }

    /// Becomes it. Returns only if that failed.
    pub(super) fn execute(&self) -> io::Error {
        execute_by_path(self.file.clone(), self.argv.clone(), self.environment.clone())
    }
}

/// Does the path lead to superwrap, or to its twin?
fn is_self(path: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino()));
    let real = fs::canonicalize(path).unwrap_or_default();
    let same = id(path).ok().zip(id(Path::new("/proc/self/exe")).ok()).is_some_and(|(a, b)| a == b);
    same || real.file_name() == Some(OsStr::new(OWN_NAME))
}
