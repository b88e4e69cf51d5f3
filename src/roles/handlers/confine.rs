//! What the handlers give away before they read the first byte of a stranger: all rights, files, system calls
//! that serving does not need, and every way to another process.
//!
//! Each is done as far as this kernel can. What a call that is refused would have done, nothing here needs: it
//! fails with EPERM, and nobody is killed for it. glibc's allocator looks into /proc when it gives memory back, and
//! goes on without.

use std::collections::BTreeMap;
use std::error::Error;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::protocol::handoff::Guard;
use crate::sys::{privileges, process};

/// What landlock is asked to refuse: all that this version of it has a word for.
const LANDLOCK: ABI = ABI::V6;

/// System calls that serve, whatever their arguments.
const CALLS: &[c_long] = &[
    // Sockets that are there.
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_getsockname,
    libc::SYS_shutdown,
    // Descriptors that are there: bells, standard error, the quotes.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    // Memory, threads that wait for each other or end, the clock.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals that come, and the end by abort(3).
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
];

/// Gives away files and rights. For the first thread: those that come later have the same.
pub(super) fn give_up_files() -> Vec<Guard> {
    privileges::drop_capabilities();
    match refuse_files() {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Vec::new(),
        Ok(RulesetStatus::NotEnforced) | Err(_) => vec![Guard::Landlock],
    }
}

/// No path, no connection over tcp to elsewhere, no abstract socket, no signal to another process.
fn refuse_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset)
}

/// No system call but those of serving, for all threads, and no further thread or process.
pub(super) fn give_up_calls() -> Vec<Guard> {
    // For a kernel without filters; root has no such limit.
    let _ = process::set_rlimit(libc::RLIMIT_NPROC, 0, 0);
    let installed = filter().and_then(|filter| Ok(seccompiler::apply_filter_all_threads(&filter)?));
    if installed.is_ok() { Vec::new() } else { vec![Guard::Seccomp] }
}

fn filter() -> Result<BpfProgram, Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS.iter().map(|&call| (call, Vec::new())).collect();
    // No memory becomes code.
    let no_code = || rule(&[masked(2, libc::PROT_EXEC, 0)]);
    rules.insert(libc::SYS_mmap, vec![no_code()?]);
    rules.insert(libc::SYS_mprotect, vec![no_code()?]);
    // Not F_SETOWN, which sends signals.
    let questions = [libc::F_GETFD, libc::F_GETFL].map(|question| rule(&[equal(1, question)]));
    rules.insert(libc::SYS_fcntl, questions.into_iter().collect::<Result<_, _>>()?);
    let options = [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        (libc::IPPROTO_IP, libc::IP_PKTINFO),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    ];
    let options = options.map(|(level, name)| rule(&[equal(1, level), equal(2, name)]));
    rules.insert(libc::SYS_setsockopt, options.into_iter().collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_tgkill, vec![rule(&[equal(0, process::own_pid())])?]);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

/// An argument of the call: its place, how it is compared, and with what.
type Condition = (u8, SeccompCmpOp, i32);

fn equal(place: u8, value: i32) -> Condition {
    (place, SeccompCmpOp::Eq, value)
}

fn masked(place: u8, mask: i32, value: i32) -> Condition {
    (place, SeccompCmpOp::MaskedEq(mask.cast_unsigned().into()), value)
}

fn rule(conditions: &[Condition]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(place, how, value): &Condition| {
        SeccompCondition::new(*place, SeccompCmpArgLen::Dword, how.clone(), value.cast_unsigned().into())
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;
    use std::thread;

    fn is_refused<T>(outcome: std::io::Result<T>) -> bool {
        outcome.err().is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    }

    /// In a thread of its own, which is all that landlock binds.
    #[test]
    fn no_file_is_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let confined = thread::spawn(move || {
            let status = refuse_files().unwrap();
            if status == RulesetStatus::NotEnforced {
                return println!("skipped: this kernel has no landlock");
            }
            assert!(is_refused(File::open("/etc/passwd")));
            assert!(is_refused(File::open("/proc/self/status")));
            assert!(is_refused(File::create("/tmp/superd-confined")));
            let is_old = status == RulesetStatus::PartiallyEnforced;
            assert!(is_old || is_refused(std::net::TcpStream::connect(address)));
            assert!(give_up_files().is_empty());
        });
        confined.join().unwrap();
    }

    #[test]
    fn no_other_call_is_left_and_a_panic_ends_only_its_thread() {
        let confined = thread::spawn(|| {
            seccompiler::apply_filter(&filter().unwrap()).unwrap();
            assert!(is_refused(File::open("/dev/null")));
            assert!(is_refused(UdpSocket::bind("127.0.0.1:0")));
            assert!(is_refused(Command::new("/bin/true").status()));
            assert!(thread::Builder::new().spawn(|| ()).is_err());
            assert!(nix::sys::signal::kill(nix::unistd::getppid(), None).is_err());
            // The allocator: much, little, and back.
            for length in [1 << 10, 1 << 20, 64 << 20] {
                drop(std::hint::black_box(vec![1_u8; length]));
            }
            assert_ne!(std::time::Instant::now().elapsed().as_nanos(), u128::MAX);
            panic!("as told");
        });
        let error = confined.join().unwrap_err();
        assert_eq!(error.downcast_ref::<&str>(), Some(&"as told"));
    }
}
