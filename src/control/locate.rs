//! Where the control socket is: what the admin said, else where superd puts it.
//!
//! What was said is the only place: whoever names one superd must not reload another.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::situation;

use super::Arguments;

/// Where superd listens when it runs as root.
const SYSTEM: &str = "/run/superd/control.sock";

/// A place where superd may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The socket.
    pub(super) path: PathBuf,
    /// Who says so.
    pub(super) origin: Origin,
}

/// Where a path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// `--socket`
    Argument,
    /// `control` of `--config`
    Config,
    /// `$SUPERD_CONTROL`
    Environment,
    /// Where a superd of this user has it.
    User,
    /// Root's.
    System,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argument => "--socket",
            Self::Config => "--config",
            Self::Environment => "$SUPERD_CONTROL",
            Self::User => "your own",
            Self::System => "root's",
        })
    }
}

/// What decides besides the arguments.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    superd_control: Option<OsString>,
    /// Where a superd of this user has its socket; root has but the system's.
    runtime_dir: Option<PathBuf>,
}

impl Surroundings {
    pub(super) fn of_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let uid = nix::unistd::geteuid().as_raw();
        let xdg = std::env::var("XDG_RUNTIME_DIR").ok();
        Self {
            superd_control: variable("SUPERD_CONTROL"),
            runtime_dir: (uid != 0).then(|| situation::runtime_dir(xdg.as_deref(), uid)),
        }
    }
}

/// The places to try, in order. Root has one; others may have a superd of their own, or may read the system's.
pub(super) fn candidates(arguments: &Arguments, around: &Surroundings) -> Result<Vec<Candidate>, String> {
    let said = |path: PathBuf, origin| Ok(vec![Candidate { path, origin }]);
    if let Some(path) = &arguments.socket {
        return said(path.clone(), Origin::Argument);
    }
    if let Some(file) = &arguments.config
        && let Some(path) = control_key(file)?
    {
        return said(path, Origin::Config);
    }
    if let Some(path) = &around.superd_control {
        return said(path.into(), Origin::Environment);
    }
    let system = Candidate { path: SYSTEM.into(), origin: Origin::System };
    let user = around
        .runtime_dir
        .as_ref()
        .map(|directory| Candidate { path: directory.join("control.sock"), origin: Origin::User });
    Ok(user.into_iter().chain([system]).collect())
}

/// `[daemon] control` of `file`, and nothing else of it: superd itself may not have understood the rest yet.
fn control_key(file: &Path) -> Result<Option<PathBuf>, String> {
    #[derive(Deserialize)]
    struct Config {
        daemon: Option<Daemon>,
    }
    #[derive(Deserialize)]
    struct Daemon {
        control: Option<PathBuf>,
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config: Config = toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let control = config.daemon.and_then(|daemon| daemon.control);
    Ok(control.map(|path| file.parent().map_or(path.clone(), |directory| directory.join(path))))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn check(arguments: &str, environment: [&str; 2], expected: &[(&str, Origin)]) {
        let words = ["superctl", "status"].into_iter().chain(arguments.split_whitespace());
        let [superd_control, runtime_dir] = environment.map(|text| (!text.is_empty()).then(|| text.into()));
        let around =
            Surroundings { superd_control: superd_control.map(PathBuf::into_os_string), runtime_dir };
        let found = candidates(&Arguments::parse_from(words), &around).unwrap();
        let found: Vec<_> = found.iter().map(|c| (c.path.to_str().unwrap(), c.origin)).collect();
        assert_eq!(found, expected, "{arguments} {environment:?}");
    }

    #[test]
    fn what_was_said_comes_first_and_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let absolute = format!("--config {}", file("a.toml", "[daemon]\ncontrol = '/c'\nnew = { x = 1 }\n"));
        let relative = format!("--config {}", file("r.toml", "[daemon]\ncontrol = 'run/c'\n[service.x]\n"));
        let beside = directory.path().join("run/c");
        let silent = format!("--config {}", file("s.toml", "include = ['x']\n"));
        let environment = ["/e", "/run/user/1000/superd"];
        check("--socket /s", environment, &[("/s", Origin::Argument)]);
        check(&format!("--socket /s {absolute}"), environment, &[("/s", Origin::Argument)]);
        check(&absolute, environment, &[("/c", Origin::Config)]);
        check(&relative, environment, &[(beside.to_str().unwrap(), Origin::Config)]);
        check(&silent, environment, &[("/e", Origin::Environment)]);
        check("", environment, &[("/e", Origin::Environment)]);
    }

    #[test]
    fn else_it_is_where_superd_puts_it() {
        let user = ("/run/user/1000/superd/control.sock", Origin::User);
        check("", ["", "/run/user/1000/superd"], &[user, (SYSTEM, Origin::System)]);
        check("", ["", ""], &[(SYSTEM, Origin::System)]);
    }

    #[test]
    fn a_configuration_that_can_not_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("superd.toml");
        assert!(control_key(&path).unwrap_err().contains("No such file"));
        fs::write(&path, "[daemon\n").unwrap();
        assert!(control_key(&path).unwrap_err().contains("superd.toml: TOML parse error at line 1"));
    }
}
