//! The stage: a fresh, single-threaded superd that takes on the whole world of a program, and becomes it.
//!
//! Being a process of its own, it may call whatever it likes. It notes each step in its slot before it takes
//! it, so that a launch that hangs can be named, and leaves the errno there if the step fails. The status pipe
//! closes with the exec or with the end of the process, whichever comes first.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::config::settings::{Program, Resource, RlimitPair, Stderr};
use crate::model::identity::Identity;
use crate::model::name::ServiceName;
use crate::protocol::launch::{Launch, Plan, SLOTS, Step};
use crate::protocol::plans;
use crate::service::environment;
use crate::sys::memory::{SealedMap, Slot, SlotTable};
use crate::sys::{fd, process, signal};

/// What one stage is to do, and under which numbers it finds its descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The launch.
    pub launch: Launch,
    /// The connection, or a role's channel.
    pub connection: i32,
    /// The pipe for standard error.
    pub stderr: Option<i32>,
    /// The block of plans.
    pub plans: i32,
    /// The slot table.
    pub slots: i32,
    /// superd's own binary.
    pub binary: i32,
    /// The writing end of the status pipe.
    pub status: i32,
}

impl Assignment {
    /// The arguments of the process that is to carry it out.
    pub fn arguments(&self) -> io::Result<[CString; 4]> {
        let json = CString::new(serde_json::to_vec(self)?)?;
        Ok([c"superd-stage".into(), c"--role".into(), c"stage".into(), json])
    }
}

/// Carries out an assignment. Returns only if it failed; the slot then says at what.
pub fn run(assignment: &OsStr) -> io::Result<()> {
    process::set_undumpable()?;
    let assignment: Assignment = serde_json::from_slice(assignment.as_bytes())?;
    let table = SlotTable::open(fd::take_inherited(assignment.slots)?, SLOTS)?;
    let slot = table.get(usize::from(assignment.launch.slot)).ok_or(io::ErrorKind::InvalidInput)?;
    // Open until the slot has the errno: its end is what makes the supervisor look.
    let _status = fd::take_inherited(assignment.status)?;
    let Err(error) = become_plan(&assignment, slot);
    slot.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
    // The slot has told it; standard error may be the client.
    std::process::exit(127)
}

enum Never {}

fn become_plan(assignment: &Assignment, slot: &Slot) -> io::Result<Never> {
    note(slot, Step::Stage);
    let connection = fd::take_inherited(assignment.connection)?;
    let stderr = assignment.stderr.map(fd::take_inherited).transpose()?;
    let binary = fd::take_inherited(assignment.binary)?;
    let plan = read_plan(&fd::take_inherited(assignment.plans)?, assignment.launch.plan)?;
    note(slot, Step::Signals);
    signal::set_all_default();
    signal::unblock_all()?;
    note(slot, Step::Session);
    process::new_session()?;
    match plan {
        Plan::Program { service, program, nofile } => {
            become_program(slot, &assignment.launch, &service, &program, nofile, &connection, stderr.as_ref())
        }
        Plan::Role { name, identity } => {
            become_role(slot, &name, identity.as_ref(), connection.as_fd(), binary.as_fd())
        }
    }
}

fn read_plan(block: &OwnedFd, index: u32) -> io::Result<Plan> {
    let block = SealedMap::open(block.as_fd())?;
    plans::decode(&block, index).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn become_program(
    slot: &Slot,
    launch: &Launch,
    service: &ServiceName,
    program: &Program,
    nofile: RlimitPair,
    connection: &OwnedFd,
    stderr: Option<&OwnedFd>,
) -> io::Result<Never> {
    // All that allocates comes before the resource limits, which may leave no memory for it.
    let path = c_string(program.path.as_os_str())?;
    let argv = program.argv.iter().map(|a| Ok(CString::new(a.as_str())?)).collect::<io::Result<Vec<_>>>()?;
    let envp = environment_of(service, launch, program)?;
    note(slot, Step::Stdio);
    install_stdio(connection.as_fd(), program.stderr, stderr)?;
    if let (Some(pipe), Some(identity)) = (stderr, &program.identity) {
        // A pipe is its maker's: without this the program could not open /dev/stderr.
        std::os::unix::fs::fchown(pipe, Some(identity.uid), Some(identity.gid))?;
    }
    note(slot, Step::Descriptors);
    fd::cloexec_from(3)?;
    note(slot, Step::Nice);
    if program.nice != 0 {
        process::add_nice(program.nice)?;
    }
    note(slot, Step::Umask);
    process::set_umask(program.umask);
    if let Some(root) = &program.chroot {
        note(slot, Step::Chroot);
        process::change_root(root)?;
    }
    note(slot, Step::WorkingDirectory);
    std::env::set_current_dir(&program.cwd)?;
    note(slot, Step::Rlimits);
    let inherited = [(Resource::Nofile, nofile)];
    let configured = program.rlimits.iter().map(|(&resource, &pair)| (resource, pair));
    for (resource, pair) in inherited.into_iter().chain(configured) {
        process::set_rlimit(rlimit_number(resource), pair.soft, pair.hard)?;
    }
    take_identity(slot, program.identity.as_ref())?;
    if program.no_new_privileges {
        note(slot, Step::NoNewPrivileges);
        process::set_no_new_privileges()?;
    }
    note(slot, Step::Exec);
    Err(process::execute(&path, &argv, &envp))
}

fn become_role(
    slot: &Slot,
    name: &str,
    identity: Option<&Identity>,
    channel: BorrowedFd<'_>,
    binary: BorrowedFd<'_>,
) -> io::Result<Never> {
    use std::os::fd::AsRawFd;
    // Executed by its path in /proc, which a chroot or a replaced binary does not change.
    let high = fd::duplicate_above(binary, 10)?;
    let path = CString::new(format!("/proc/self/fd/{}", high.as_raw_fd()))?;
    let argv = [CString::new(format!("superd-{name}"))?, c"--role".into(), CString::new(name)?];
    note(slot, Step::Stdio);
    let null = fd::open_null()?;
    fd::install(null.as_fd(), 0)?;
    fd::install(null.as_fd(), 1)?;
    note(slot, Step::Descriptors);
    let channel = fd::duplicate_above(channel, 10)?;
    fd::cloexec_from(3)?;
    fd::install(channel.as_fd(), 3)?;
    take_identity(slot, identity)?;
    note(slot, Step::Exec);
    let environment: [CString; 0] = [];
    Err(process::execute(&path, &argv, &environment))
}

fn take_identity(slot: &Slot, identity: Option<&Identity>) -> io::Result<()> {
    let Some(identity) = identity else { return Ok(()) };
    note(slot, Step::Groups);
    process::set_groups(&identity.groups)?;
    note(slot, Step::Group);
    process::set_group(identity.gid)?;
    note(slot, Step::User);
    process::set_user(identity.uid)
}

fn install_stdio(connection: BorrowedFd<'_>, stderr: Stderr, pipe: Option<&OwnedFd>) -> io::Result<()> {
    // A source below 3 would be overwritten by the first of these.
    let connection = fd::duplicate_above(connection, 10)?;
    let pipe = pipe.map(|pipe| fd::duplicate_above(pipe.as_fd(), 10)).transpose()?;
    fd::install(connection.as_fd(), 0)?;
    fd::install(connection.as_fd(), 1)?;
    match (stderr, pipe) {
        (Stderr::Socket, _) => fd::install(connection.as_fd(), 2),
        (Stderr::Log, Some(pipe)) => fd::install(pipe.as_fd(), 2),
        (Stderr::Log, None) | (Stderr::Null, _) => fd::install(fd::open_null()?.as_fd(), 2),
    }
}

fn environment_of(service: &ServiceName, launch: &Launch, program: &Program) -> io::Result<Vec<CString>> {
    let own = environment::of_connection(service, launch.session, launch.client, launch.local);
    let fixed = program.env.iter().map(|(key, value)| format!("{key}={value}"));
    let all = fixed.chain(own.into_iter().map(|(key, value)| format!("{key}={value}")));
    all.map(|text| Ok(CString::new(text)?)).collect()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

fn note(slot: &Slot, step: Step) {
    slot.step.store(step as u32, Ordering::Relaxed);
}

fn rlimit_number(resource: Resource) -> u32 {
    match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    }
}
