//! Both steps of a load, on this machine: what a start, a reload and `superd check --resolve` do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource as Limit, getrlimit};
use nix::unistd::Uid;

use crate::config::draft::Draft;
use crate::config::resolve::resolve;
use crate::config::settings::{Config, Resource};
use crate::config::situation::{Situation, runtime_dir};
use crate::config::{diagnostic::Diagnostic, diagnostic::Report, load::load};

use super::files::Disk;
use super::interfaces;
use super::system::Machine;

/// What came of a load.
pub struct Outcome {
    /// The configuration, if nothing is wrong with it.
    pub config: Option<Config>,
    /// All that is wrong, and all warnings.
    pub report: Report,
}

/// Reads a configuration and looks everything up.
pub fn load_from_disk(path: &Path, situation: &Situation) -> Outcome {
    let (draft, mut report) = load(path, &Disk, situation);
    let config = draft.and_then(|draft| resolve(&draft, &Machine::default(), situation, &mut report));
    Outcome { config, report }
}

/// As [`load_from_disk`], and holds the configuration against the interfaces that there are now.
pub fn check_on_disk(path: &Path, situation: &Situation) -> Report {
    let (draft, mut report) = load(path, &Disk, situation);
    let Some(draft) = draft else { return report };
    // The report alone counts here.
    let _ = resolve(&draft, &Machine::default(), situation, &mut report);
    match interfaces::interfaces() {
        Ok(all) => crate::config::interfaces::check(&draft, &all, &mut report),
        Err(why) => {
            report.add(Diagnostic::bare("interface", format!("the interfaces can't be looked at: {why}")));
        }
    }
    report
}

/// Reads a configuration, and looks nothing up.
pub fn read_from_disk(path: &Path, situation: &Situation) -> (Option<Draft>, Report) {
    load(path, &Disk, situation)
}

/// Who this process is.
pub fn own_situation() -> Situation {
    let uid = Uid::effective().as_raw();
    situation(uid == 0)
}

/// This process, judged as root or not.
pub fn situation(root: bool) -> Situation {
    let uid = Uid::effective().as_raw();
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let situation = Situation {
        uid,
        cwd: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        hard_limits: hard_limits(),
        ..Situation::of_root()
    };
    if root {
        return Situation { environment, ..situation };
    }
    Situation {
        root: false,
        runtime_dir: runtime_dir(environment.get("XDG_RUNTIME_DIR").map(String::as_str), uid),
        state_dir: state_dir(&environment, uid),
        environment,
        ..situation
    }
}

/// `$XDG_STATE_HOME/superd`, or ~/.local/state/superd.
fn state_dir(environment: &BTreeMap<String, String>, uid: u32) -> PathBuf {
    let dir = |name: &str| environment.get(name).filter(|dir| dir.starts_with('/'));
    match (dir("XDG_STATE_HOME"), dir("HOME")) {
        (Some(state), _) => Path::new(state).join("superd"),
        (None, Some(home)) => Path::new(home).join(".local/state/superd"),
        (None, None) => PathBuf::from(format!("/tmp/superd-{uid}")),
    }
}

fn hard_limits() -> BTreeMap<Resource, u64> {
    let all = [
        (Resource::As, Limit::RLIMIT_AS),
        (Resource::Core, Limit::RLIMIT_CORE),
        (Resource::Cpu, Limit::RLIMIT_CPU),
        (Resource::Data, Limit::RLIMIT_DATA),
        (Resource::Fsize, Limit::RLIMIT_FSIZE),
        (Resource::Locks, Limit::RLIMIT_LOCKS),
        (Resource::Memlock, Limit::RLIMIT_MEMLOCK),
        (Resource::Msgqueue, Limit::RLIMIT_MSGQUEUE),
        (Resource::Nice, Limit::RLIMIT_NICE),
        (Resource::Nofile, Limit::RLIMIT_NOFILE),
        (Resource::Nproc, Limit::RLIMIT_NPROC),
        (Resource::Rss, Limit::RLIMIT_RSS),
        (Resource::Rtprio, Limit::RLIMIT_RTPRIO),
        (Resource::Rttime, Limit::RLIMIT_RTTIME),
        (Resource::Sigpending, Limit::RLIMIT_SIGPENDING),
        (Resource::Stack, Limit::RLIMIT_STACK),
    ];
    all.into_iter().filter_map(|(name, limit)| Some((name, getrlimit(limit).ok()?.1))).collect()
}
