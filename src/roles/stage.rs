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

use crate::config::settings::{Resource, Stderr};
use crate::model::client::Client;
use crate::model::identity::Identity;
use crate::protocol::environment;
use crate::protocol::launch::{Gets, Launch, Plan, ProgramPlan, SLOTS};
use crate::protocol::overrides::Overrides;
use crate::protocol::plans;
use crate::protocol::step::Step;
use crate::sys::memory::{SealedMap, Slot, SlotTable};
use crate::sys::{fd, privileges, process, signal, socket};

/// What one stage is to do, and under which numbers it finds its descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The launch.
    pub launch: Launch,
    /// A connection, a channel, or listeners; never none.
    pub sockets: Vec<i32>,
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

/// What a program is not to find, and must stay open, is above of what it is given: standard descriptors and its
/// sockets. Not higher than need be: the limit of descriptors may be small.
fn above(sockets: usize) -> i32 {
    i32::try_from(sockets).unwrap_or(0).saturating_add(4).max(10)
}

/// Carries out an assignment. Returns only if it failed; the slot then says at what.
pub fn run(assignment: &OsStr) -> io::Result<()> {
    process::set_undumpable()?;
    let assignment: Assignment = serde_json::from_slice(assignment.as_bytes())?;
    let table = SlotTable::open(fd::take_inherited(assignment.slots)?, SLOTS)?;
    let slot = table.get(usize::from(assignment.launch.slot)).ok_or(io::ErrorKind::InvalidInput)?;
    // Open until the slot has the errno: its end is what makes the supervisor look.
    let mut status = fd::take_inherited(assignment.status)?;
    if assignment.sockets.len() > 1 && assignment.status < above(assignment.sockets.len()) {
        status = fd::duplicate_above(status.as_fd(), above(assignment.sockets.len()))?;
    }
    let _status = status;
    let Err(error) = become_plan(&assignment, slot);
    slot.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
    // The slot has told it; standard error may be the client.
    std::process::exit(127)
}

enum Never {}

fn become_plan(assignment: &Assignment, slot: &Slot) -> io::Result<Never> {
    note(slot, Step::Stage);
    let sockets: Vec<OwnedFd> =
        assignment.sockets.iter().map(|&number| fd::take_inherited(number)).collect::<io::Result<_>>()?;
    let first = sockets.first().ok_or(io::ErrorKind::InvalidInput)?;
    let stderr = assignment.stderr.map(fd::take_inherited).transpose()?;
    let binary = fd::take_inherited(assignment.binary)?;
    let plan = read_plan(&fd::take_inherited(assignment.plans)?, assignment.launch.plan)?;
    note(slot, Step::Signals);
    signal::set_all_default();
    signal::unblock_all()?;
    note(slot, Step::Session);
    process::new_session()?;
    match plan {
        Plan::Program(mut plan) => {
            let overrides = assignment.launch.overrides.as_deref();
            if let Some(overrides) =
                overrides.map(|text| Overrides::decode(text).ok_or(io::ErrorKind::InvalidInput))
            {
                let overrides = overrides?;
                if overrides.command.is_some() {
                    // A shell knows nothing of channels, also where the program would get one.
                    plan.gets = Gets::Connection;
                }
                overrides.apply(&mut plan.program);
            }
            become_program(slot, &assignment.launch, &plan, &sockets, stderr.as_ref())
        }
        Plan::Nothing => Err(io::ErrorKind::InvalidInput.into()),
        Plan::Role { name, identity } => {
            become_role(slot, &name, identity.as_ref(), first.as_fd(), binary.as_fd())
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
    plan: &ProgramPlan,
    sockets: &[OwnedFd],
    stderr: Option<&OwnedFd>,
) -> io::Result<Never> {
    let program = &plan.program;
    // All that allocates comes before the resource limits, which may leave no memory for it.
    let path = c_string(program.path.as_os_str())?;
    let argv = program.argv.iter().map(|a| Ok(CString::new(a.as_str())?)).collect::<io::Result<Vec<_>>>()?;
    let envp = environment_of(plan, launch, sockets)?;
    note(slot, Step::Stdio);
    // Sockets that come from descriptor 3 on are kept out of the way first.
    let sockets = sockets
        .iter()
        .map(|socket| fd::duplicate_above(socket.as_fd(), above(sockets.len())))
        .collect::<io::Result<Vec<_>>>()?;
    let stdio = sockets.first().filter(|_| plan.gets.is_stdio());
    install_stdio(stdio, program.stderr, stderr)?;
    if let (Some(pipe), Some(identity)) = (stderr, &program.identity) {
        // A pipe is its maker's: without this the program could not open /dev/stderr.
        std::os::unix::fs::fchown(pipe, Some(identity.uid), Some(identity.gid))?;
    }
    note(slot, Step::Descriptors);
    fd::cloexec_from(3)?;
    if plan.gets != Gets::Connection {
        // sd_listen_fds(3): from the first descriptor behind the standard ones on.
        for (socket, number) in sockets.iter().zip(3..) {
            fd::install(socket.as_fd(), number)?;
        }
    }
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
    let inherited = [(Resource::Nofile, plan.nofile)];
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
    if identity.is_some() {
        // Whoever serves strangers has no use for any; later it may not see to that.
        privileges::empty_bounding_set();
    }
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

/// Descriptors 0, 1 and 2. All sources are above of them, else one would be overwritten by the one before.
fn install_stdio(socket: Option<&OwnedFd>, stderr: Stderr, pipe: Option<&OwnedFd>) -> io::Result<()> {
    let pipe = pipe.map(|pipe| fd::duplicate_above(pipe.as_fd(), above(0))).transpose()?;
    let null;
    let stdio = if let Some(socket) = socket {
        socket.as_fd()
    } else {
        null = fd::duplicate_above(fd::open_null()?.as_fd(), above(0))?;
        null.as_fd()
    };
    fd::install(stdio, 0)?;
    fd::install(stdio, 1)?;
    match (stderr, pipe) {
        (Stderr::Socket, _) => fd::install(stdio, 2),
        (Stderr::Log, Some(pipe)) => fd::install(pipe.as_fd(), 2),
        (Stderr::Log, None) | (Stderr::Null, _) => fd::install(fd::open_null()?.as_fd(), 2),
    }
}

fn environment_of(plan: &ProgramPlan, launch: &Launch, sockets: &[OwnedFd]) -> io::Result<Vec<CString>> {
    let mut own = environment::of_connection(&plan.service, launch.session, launch.client, launch.local);
    let names = ["TCPREMOTEHOST", "TCPREMOTEINFO"].into_iter().zip(&launch.names);
    own.extend(names.filter_map(|(key, name)| Some((key, name.clone()?))));
    own.extend(environment::of_sockets(&plan.service, &plan.gets, sockets.len(), std::process::id()));
    if matches!(launch.client, Some(Client::User { .. }))
        && let Some(path) = sockets.first().and_then(|socket| socket::client_path(socket.as_fd()))
    {
        own.push(("IPCREMOTEPATH", path));
    }
    let fixed = plan.program.env.iter().map(|(key, value)| format!("{key}={value}"));
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
