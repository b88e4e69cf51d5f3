//! Both steps of a load, on this machine: what a start, a reload and `superd check --resolve` do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource as Limit, getrlimit};
use nix::unistd::Uid;

use crate::config::draft::Draft;
use crate::config::files::Files;
use crate::config::resolve::{System, resolve};
use crate::config::settings::{Config, Resource};
use crate::config::situation::{Situation, runtime_dir};
use crate::config::{diagnostic::Diagnostic, diagnostic::Report, load::load};

use crate::policy::{table, warnings};
use crate::protocol::tables::{Hosts, HostsFiles, Parts};

use super::files::Disk;
use super::interfaces;
use super::lists::{self, Contents};
use super::system::Machine;
use super::watches::{self, Watches};
use super::{hosts, zones};

/// What came of a load.
pub struct Outcome {
    /// The configuration, if nothing is wrong with it.
    pub config: Option<Config>,
    /// What its rules need beside it.
    pub parts: Parts<Vec<u8>>,
    /// The watches of files that are to be read again when they change.
    pub watches: Option<Watches>,
    /// All that is wrong, and all warnings.
    pub report: Report,
}

/// Reads a configuration and looks everything up.
pub fn load_from_disk(path: &Path, situation: &Situation) -> Outcome {
    let (draft, mut report) = load(path, &Disk, situation);
    let Some(draft) = draft else {
        return Outcome { config: None, parts: Parts::default(), watches: None, report };
    };
    let machine = Machine::default();
    let watches = watches::set(&draft, &mut report);
    let beside = read_beside(&draft, &Disk, Some(&machine), situation, &mut report);
    let config = resolve(&draft, &machine, situation, &mut report);
    let zones = config.as_ref().map(|config| zones::read(config, &situation.environment, &mut report));
    // A zone that can't be read is found last.
    let config = config.filter(|_| !report.has_errors());
    let parts = if config.is_some() { beside.parts(zones.unwrap_or_default()) } else { Parts::default() };
    Outcome { config, parts, watches, report }
}

/// What the files say that a configuration names.
#[derive(Debug, Default)]
pub struct Beside {
    sets: Contents,
    hosts: Vec<(HostsFiles, Hosts)>,
}

/// Reads the lists and the hosts files that a configuration names, and warns of rules that are hardly meant.
/// Without a system nobody is looked up.
pub fn read_beside(
    draft: &Draft,
    files: &dyn Files,
    system: Option<&dyn System>,
    situation: &Situation,
    report: &mut Report,
) -> Beside {
    let sets = lists::read(draft, files, situation, report);
    let hosts = hosts::compile(draft, files, system, situation, report);
    warnings::warn(draft, report);
    Beside { sets, hosts }
}

impl Beside {
    fn parts(self, zones: BTreeMap<String, Vec<u8>>) -> Parts<Vec<u8>> {
        let sets = self.sets.into_iter().map(|(name, networks)| (name, table::build(&networks)));
        let hosts = self.hosts.into_iter();
        // What is made of strings and numbers is always JSON.
        let hosts = hosts.map(|(files, hosts)| (files, serde_json::to_vec(&hosts).unwrap_or_default()));
        Parts { sets: sets.collect(), zones, hosts: hosts.collect() }
    }
}

/// As [`load_from_disk`], and holds the configuration against the interfaces that there are now.
pub fn check_on_disk(path: &Path, situation: &Situation) -> Report {
    let (draft, mut report) = load(path, &Disk, situation);
    let Some(draft) = draft else { return report };
    // The report alone counts here.
    let machine = Machine::default();
    let _ = read_beside(&draft, &Disk, Some(&machine), situation, &mut report);
    let _ = resolve(&draft, &machine, situation, &mut report);
    match interfaces::interfaces() {
        Ok(all) => crate::config::interfaces::check(&draft, &all, &mut report),
        Err(why) => {
            report.add(Diagnostic::bare("interface", format!("the interfaces can't be looked at: {why}")));
        }
    }
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let (nsswitch, resolv) = (text("/etc/nsswitch.conf"), text("/etc/resolv.conf"));
    crate::config::exposure::names(&draft, nsswitch.as_deref(), resolv.as_deref(), &mut report);
    report
}

/// Reads a configuration and the files that it names, and looks nothing up.
pub fn read_from_disk(path: &Path, situation: &Situation) -> (Option<Draft>, Report) {
    let (draft, mut report) = load(path, &Disk, situation);
    if let Some(draft) = &draft {
        let _ = read_beside(draft, &Disk, None, situation, &mut report);
    }
    (draft, report)
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
