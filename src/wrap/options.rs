//! What hosts_options(5) has done for a client, in the order of the rule: to the connection, to this process, which
//! becomes the program, and beside it.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Group, User, getgrouplist};
use socket2::SockRef;

use crate::policy::hosts_access::expand::Template;
use crate::policy::hosts_access::options::Action;
use crate::sys::process;

use super::client::{By, Visit};
use super::hosts::Outcome;
use super::program::Launch;

/// A longer banner is not sent: it would not fit into the empty buffer of a connection.
const MOST_SENT: usize = 4096;

/// Does all of it. The first thing that can't be done refuses the client: a program must not run as more than its rule
/// says.
pub(super) fn obey(outcome: &Outcome, visit: &Visit, launch: &mut Launch) -> Result<(), String> {
    outcome.actions.iter().try_for_each(|action| one(action, outcome, visit, launch))
}

fn one(action: &Action, outcome: &Outcome, visit: &Visit, launch: &mut Launch) -> Result<(), String> {
    let stdin = io::stdin();
    let fd = stdin.as_fd();
    match action {
        // The line in the log has it, and the user is found out with the rule.
        Action::Severity { .. } | Action::Rfc931(_) => {}
        Action::Spawn(command) => spawn(&outcome.expand(command)?, launch),
        Action::Banners(folder) => banner(Path::new(folder), outcome, visit),
        // As with libwrap, a client is not refused for these.
        Action::KeepAlive if visit.by == By::Connection => drop(SockRef::from(&fd).set_keepalive(true)),
        Action::Linger(seconds) if visit.by == By::Connection => {
            let time = Duration::from_secs((*seconds).into());
            drop(SockRef::from(&fd).set_linger(Some(time)));
        }
        Action::KeepAlive | Action::Linger(_) => {}
        Action::Nice(by) => process::add_nice(*by).map_err(|error| format!("nice {by}: {error}"))?,
        Action::SetEnv { name, value } => launch.set_variable(name, &outcome.expand(value)?),
        Action::Umask(mask) => process::set_umask(*mask),
        Action::User { user, group } => become_user(user, group.as_deref())?,
        Action::Group(name) => {
            let gid = group(name)?;
            process::set_groups(&[gid.as_raw()])
                .and_then(|()| process::set_group(gid.as_raw()))
                .map_err(|error| format!("group {name}: {error}"))?;
        }
    }
    Ok(())
}

/// A shell command beside the program, with nothing of the client's at hand. It is waited for, unless it ends in `&`.
fn spawn(command: &str, launch: &Launch) {
    let variables = launch.environment().iter().filter_map(|variable| {
        let at = variable.as_bytes().iter().position(|byte| *byte == b'=')?;
        let (name, value) = variable.as_bytes().split_at_checked(at)?;
        Some((OsStr::from_bytes(name), OsStr::from_bytes(value.get(1..)?)))
    });
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env_clear().envs(variables);
    // Its outcome changes nothing, as with libwrap.
    let _ = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// The file of the daemon's name, its lines ended as clients expect it, its `%` filled in.
fn banner(folder: &Path, outcome: &Outcome, visit: &Visit) {
    let Ok(text) = std::fs::read_to_string(folder.join(outcome.daemon())) else { return };
    let Some(template) = Template::read(&text) else { return };
    if let Ok(text) = outcome.expand(&template) {
        let bytes = text.replace('\n', "\r\n").into_bytes();
        visit.send(bytes.get(..MOST_SENT).unwrap_or(&bytes));
    }
}

fn group(name: &str) -> Result<Gid, String> {
    let found = Group::from_name(name).map_err(|error| format!("group {name}: {error}"))?;
    found.map(|group| group.gid).ok_or_else(|| format!("there is no group {name}"))
}

fn become_user(name: &str, group_name: Option<&str>) -> Result<(), String> {
    let failed = |error: io::Error| format!("user {name}: {error}");
    let found = User::from_name(name).map_err(|error| failed(error.into()))?;
    let user = found.ok_or_else(|| format!("there is no user {name}"))?;
    let gid = group_name.map_or(Ok(user.gid), group)?;
    let text = CString::new(name).map_err(|_| format!("there is no user {name}"))?;
    let groups = getgrouplist(&text, gid).map_err(|error| failed(error.into()))?;
    let groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
    process::set_groups(&groups)
        .and_then(|()| process::set_group(gid.as_raw()))
        .and_then(|()| process::set_user(user.uid.as_raw()))
        .map_err(failed)
}
