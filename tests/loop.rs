//! The loop: it sleeps when there is nothing to do, loses nothing in a storm, and is held up by nobody.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use harness::{HungDisk, Load, Superd, needs_root, processes, until, world};
use nix::sys::signal::Signal;

const HELLO: &str =
    "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";

#[test]
fn an_idle_superd_sleeps() {
    let superd = Superd::with(HELLO);
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    superd.until_idle();
    let family: Vec<i32> = superd.children().iter().map(|child| child.pid).chain([superd.pid()]).collect();
    let switches = || -> Vec<Option<u64>> {
        let count = |name| move |&pid: &i32| processes::status_number(pid, name);
        family.iter().map(count("voluntary_ctxt_switches")).collect()
    };
    // What still goes on after the last session (a log line, say) ends first.
    let mut before = switches();
    until("superd to settle", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = switches();
        std::mem::replace(&mut before, now.clone()).eq(&now).then_some(())
    });
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(switches(), before, "voluntary context switches of {family:?}");
}

#[test]
fn clients_that_reset_before_they_are_accepted() {
    let config = HELLO.replace("{user}", "{user}\nlimits = { connections = 8, per_source = \"none\" }");
    let superd = Superd::with(&config);
    let (address, fds) = (superd.address("hello"), superd.fds());
    for _ in 0..10_000 {
        match harness::Client::try_connect(address) {
            Ok(client) => client.reset(),
            // The kernel's queue is full for a moment: superd is behind, which is the point.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    superd.until_idle();
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    superd.until_idle();
    assert_eq!(superd.fds(), fds);
    until("no zombie", || superd.zombies().is_empty().then_some(()));
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let superd = Superd::with(HELLO);
    let load = Load::begin(superd.address("hello"), 2, "hello\n");
    let storm = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCHLD, Signal::SIGPIPE];
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        for signal in storm {
            superd.signal(signal);
        }
        std::thread::yield_now();
    }
    load.until_more(20);
    let served = load.end();
    superd.until_idle();
    let service = superd.service("hello");
    assert_eq!(service["started"], served);
    assert_eq!(superd.count_log("start hello"), served);
    assert_eq!(superd.count_log("end hello"), served);
    until("no zombie", || superd.zombies().is_empty().then_some(()));
}

#[test]
fn a_launcher_that_dies_is_started_again() {
    let config = format!(
        "{HELLO}[service.held]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"until-eof\"]\n{{user}}\n"
    );
    let superd = Superd::with(&config);
    superd.allow_errors("launcher");
    let mut held = superd.connect("held");
    held.read_pid();
    for _ in 0..3 {
        let launcher = launcher_of(&superd);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(launcher.pid), Signal::SIGKILL).unwrap();
        until("the launcher's end", || (!launcher.is_alive()).then_some(()));
        until("a client to be served", || {
            (superd.connect("hello").read_until_closed() == b"hello\n").then_some(())
        });
    }
    held.finish();
    assert_eq!(held.read_to_end(), b"bye\n", "no session ends with the launcher");
    superd.until_idle();
    assert_eq!(superd.service("hello")["state"], "online");
}

fn launcher_of(superd: &Superd) -> harness::Process {
    let is_launcher = |child: &harness::Process| child.arguments().contains("--role launcher");
    until("a launcher", || superd.children().into_iter().find(is_launcher))
}

#[test]
fn control_clients_that_say_nothing_or_nonsense_harm_nobody() {
    let superd = Superd::with(HELLO);
    let path = superd.dir().join("control.sock");
    let mut silent: Vec<UnixStream> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for (stream, text) in
        silent.iter_mut().zip(["", "{", "\0\0\n", "[]\n", "{\"v\":9}\n", "{\"v\":1,\"do\":\"x\"}\n"])
    {
        stream.write_all(text.as_bytes()).unwrap();
    }
    let mut big = UnixStream::connect(&path).unwrap();
    let _ = big.write_all(&vec![b'x'; 100_000]);
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    assert_eq!(superd.service("hello")["state"], "online");
}

/// Every request to its file system waits for ever: the kernel lets such a process be killed as long as
/// nobody has read the request.
/// A superd with the service `stuck`, and the folder of its program, where a disk may be mounted.
fn with_program_elsewhere() -> (Superd, tempfile::TempDir) {
    world::own_mounts();
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    let stuck = format!(
        "[service.stuck]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{}\"]\n{{user}}\n",
        program.display()
    );
    let superd = Superd::with(&format!("{HELLO}{stuck}"));
    superd.allow_errors("stuck");
    (superd, place)
}

#[test]
fn a_program_on_a_hung_disk_holds_up_nobody_else() {
    needs_root!();
    let (superd, place) = with_program_elsewhere();
    let disk = HungDisk::mount(place.path());
    let mut waiting = superd.connect("stuck");
    until("the launch", || (superd.status()["launches"] == 1).then_some(()));
    for _ in 0..20 {
        assert_eq!(superd.connect("hello").read_text(), "hello\n");
    }
    // Its deadline.
    assert_eq!(waiting.read_until_closed(), b"");
    let line = superd.expect_log("launch-failed stuck");
    assert!(line.contains("step=exec"), "{line}");
    superd.until_idle();
    drop(disk);
}

/// A child that waits for a file system which has its request can't be killed: it holds its place, and nothing else.
#[test]
fn a_program_that_cannot_be_killed_holds_its_place_alone() {
    needs_root!();
    let (superd, place) = with_program_elsewhere();
    let disk = HungDisk::mount_silent(place.path());
    let _waiting = superd.connect("stuck");
    superd.expect_log("launch of stuck stuck at exec");
    for _ in 0..20 {
        assert_eq!(superd.connect("hello").read_text(), "hello\n");
    }
    until("the other launches", || (superd.status()["launches"] == 1).then_some(()));
    assert_eq!(superd.count_log("stuck at exec"), 1);
    drop(disk);
    superd.expect_log("launch-failed stuck");
    superd.until_idle();
}

/// A listener that is shut down by whoever holds it (a server that it was lent to, a debugger) polls as broken
/// for ever: it is made again.
#[test]
fn a_listener_that_is_shut_down_is_made_again() {
    needs_root!();
    let superd = Superd::with(HELLO);
    let address = superd.address("hello");
    shut_down_listener(superd.pid(), address);
    superd.expect_log("is broken");
    assert_eq!(superd.address("hello").ip(), address.ip());
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    let turns = || processes::status_number(superd.pid(), "voluntary_ctxt_switches").unwrap();
    superd.until_idle();
    let before = turns();
    std::thread::sleep(Duration::from_secs(1));
    assert!(turns() < before + 10, "superd does not rest");
}

/// Takes a copy of a process's listener, and shuts it down.
fn shut_down_listener(pid: i32, address: std::net::SocketAddr) {
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, FromRawFd};
    // SAFETY: both calls take numbers and give new descriptors or errors.
    let (copy, process) = unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (move |number: i32| libc::syscall(libc::SYS_pidfd_getfd, process, number, 0), process)
    };
    assert!(process >= 0, "pidfd_open");
    for (number, _) in processes::open_files(pid) {
        let Ok(fd @ 0..) = i32::try_from(copy(number)) else { continue };
        // SAFETY: pidfd_getfd has just made it.
        let listener = unsafe { TcpListener::from_raw_fd(fd) };
        if listener.local_addr().is_ok_and(|at| at == address) {
            nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Read).unwrap();
        }
    }
}
