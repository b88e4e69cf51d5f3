//! The program of a service: is it there, may it be executed, and the world that it is started in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::identity::{Account, Identity};

use super::check::is_raised;
use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Said, Values};
use super::keys;
use super::pools;
use super::resolve::{PathFacts, PathKind, System};
use super::settings::{Program, Resource, RlimitPair, Stderr};
use super::situation::Situation;

/// Looks at the program, `cwd` and `chroot`.
pub fn check(
    values: &Values,
    identity: Option<&Identity>,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) {
    let slash = PathBuf::from("/");
    if let (Some(chroot), Some(spot)) = (values.path(("", "chroot")), values.spot(("", "chroot")))
        && !directory(&slash, chroot, "chroot", spot, system, report)
        && situation.root
    {
        // Nothing is inside of what is not there.
        return;
    }
    // Where chroot is not taken, the program is that of the real root.
    let root = values.path(("", "chroot")).filter(|_| situation.root).unwrap_or(&slash);
    if let (Some(cwd), Some(spot)) = (values.path(("", "cwd")), values.spot(("", "cwd"))) {
        directory(root, cwd, "cwd", spot, system, report);
    }
    if let Some(program) = command(values).first() {
        let own_uid = situation.uid;
        executable(root, Path::new(&program.value), &program.spot, (identity, own_uid), system, report);
    }
}

/// What is started, and its arguments.
fn command(values: &Values) -> &[Said<String>] {
    let exec = values.texts(("", "exec"));
    if exec.is_empty() { pools::command(values) } else { exec }
}

/// Is there a directory? Complains if not.
pub fn directory(
    root: &Path,
    path: &Path,
    key: &str,
    spot: &Spot,
    system: &dyn System,
    report: &mut Report,
) -> bool {
    let why = match system.path(root, path) {
        Ok(Some(PathFacts { kind: PathKind::Directory, .. })) => return true,
        Ok(Some(_)) => "is not a directory".to_owned(),
        Ok(None) => "does not exist".to_owned(),
        Err(why) => format!("can't be looked at: {why}"),
    };
    report.add(Diagnostic::error(
        "directory",
        spot,
        format!("`{key}`: {} {why}{}", path.display(), inside(root)),
    ));
    false
}

fn executable(
    root: &Path,
    path: &Path,
    spot: &Spot,
    (identity, own_uid): (Option<&Identity>, u32),
    system: &dyn System,
    report: &mut Report,
) {
    let (why, hint) = match system.path(root, path) {
        Ok(Some(facts)) if facts.kind != PathKind::File => ("is not a regular file".to_owned(), None),
        Ok(Some(facts)) if may_execute(facts, identity, own_uid) => return,
        Ok(Some(facts)) => (
            format!("can't be executed by the service's user (mode {:04o})", facts.mode & 0o7777),
            Some(format!("chmod +x {}", root.join(path.strip_prefix("/").unwrap_or(path)).display())),
        ),
        Ok(None) => ("does not exist".to_owned(), None),
        Err(why) => (format!("can't be looked at: {why}"), None),
    };
    let message = format!("the program {} {why}{}", path.display(), inside(root));
    report.add(Diagnostic::error("program", spot, message).maybe_hint(hint));
}

fn inside(root: &Path) -> String {
    if root == Path::new("/") { String::new() } else { format!(" inside of {}", root.display()) }
}

/// As the kernel decides it by the permission bits. Where nobody's identity is taken on it is superd itself,
/// whose groups are not known here: only what none of them may execute is sure.
fn may_execute(facts: PathFacts, identity: Option<&Identity>, own_uid: u32) -> bool {
    let bits = match identity {
        _ if identity.map_or(own_uid, |who| who.uid) == 0 => 0o111,
        None if own_uid == facts.uid => 0o100,
        None => 0o011,
        Some(who) if who.uid == facts.uid => 0o100,
        Some(who) if who.gid == facts.gid || who.groups.contains(&facts.gid) => 0o010,
        Some(_) => 0o001,
    };
    facts.mode & bits != 0
}

/// The program with everything that is laid out before it starts.
pub fn build(
    values: &Values,
    identity: Option<Identity>,
    account: Account,
    situation: &Situation,
) -> Option<Program> {
    let command = command(values);
    let path = PathBuf::from(&command.first()?.value);
    let mut argv: Vec<String> = command.iter().map(|said| said.value.clone()).collect();
    if let (Some(name), Some(first)) = (values.text(("", "argv0")), argv.first_mut()) {
        name.clone_into(first);
    }
    let chroot = values.path(("", "chroot")).filter(|_| situation.root).cloned();
    let nice = values.number(("", "nice")).unwrap_or(0);
    let is_pool = values.get(("", "pool")).is_some();
    Some(Program {
        path,
        argv,
        identity,
        umask: values.size(("", "umask")).unwrap_or(0o022),
        nice: if situation.root { nice } else { nice.max(0) },
        cwd: values.path(("", "cwd")).cloned().unwrap_or_else(|| PathBuf::from("/")),
        chroot,
        env: environment(values, &account, situation),
        account,
        rlimits: rlimits(values, situation),
        no_new_privileges: values.flag(("", "no_new_privileges")).unwrap_or(false),
        stderr: match values.text(("", "stderr")) {
            Some("log") => Stderr::Log,
            Some("null") => Stderr::Null,
            // A worker has no connection when it is started.
            _ if is_pool => Stderr::Log,
            _ => Stderr::Socket,
        },
    })
}

/// What every program finds, then what superd passes on, then what the service says.
fn environment(values: &Values, account: &Account, situation: &Situation) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("HOME", &account.home),
        ("SHELL", &account.shell),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
    ];
    let mut env: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for name in values.texts(("", "pass_env")) {
        if let Some(value) = situation.environment.get(&name.value) {
            env.insert(name.value.clone(), value.clone());
        }
    }
    env.extend(values.variables(("", "env")).map(|(name, value)| (name.clone(), value.clone())));
    env
}

fn rlimits(values: &Values, situation: &Situation) -> BTreeMap<Resource, RlimitPair> {
    keys::resources()
        .filter_map(|(resource, name)| Some((resource, values.rlimit(("rlimits", name))?.0)))
        .filter(|(resource, pair)| situation.root || !is_raised(situation, *resource, pair.hard))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_execute_is_the_kernels_rule() {
        for (mode, uid, gid, groups, expected) in [
            (0o755, 1, 1, vec![], true),
            (0o750, 1, 1, vec![], false),
            (0o750, 1, 8, vec![], true),
            (0o750, 1, 1, vec![8], true),
            (0o655, 9, 1, vec![], false),
            (0o644, 0, 0, vec![], false),
            (0o100, 0, 0, vec![], true),
        ] {
            let facts = PathFacts { kind: PathKind::File, mode, uid: 9, gid: 8 };
            let identity = Identity { uid, gid, groups: groups.clone() };
            assert_eq!(may_execute(facts, Some(&identity), 5), expected, "{mode:o} {uid} {gid} {groups:?}");
        }
        for (mode, own_uid, expected) in
            [(0o700, 0, true), (0o700, 9, true), (0o700, 5, false), (0o011, 9, false), (0o010, 5, true)]
        {
            let facts = PathFacts { kind: PathKind::File, mode, uid: 9, gid: 8 };
            assert_eq!(may_execute(facts, None, own_uid), expected, "{mode:o} {own_uid}");
        }
    }
}
