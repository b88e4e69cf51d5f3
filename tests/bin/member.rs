//! A worker of the tests: it does well what superd-pool(7) says, or one thing wrong.
//!
//! | called as           | does                                                                                 |
//! |---------------------|--------------------------------------------------------------------------------------|
//! | `hello`             | takes connections, each in a thread; says `hello`                                    |
//! | `notify`            | the same, and says by `NOTIFY_SOCKET` alone that it is ready                         |
//! | `fields`            | says its pid, the line that came with the connection, and what it was started with   |
//! | `hold`              | says its pid, and `bye` when the client has finished                                 |
//! | `stubborn`          | the same, and heeds neither DRAIN nor TERM                                           |
//! | `complain`          | `hello`, and a line on standard error                                                |
//! | `die-after N`       | `hello` to N connections, then exits                                                 |
//! | `die-untaken FILE`  | exits before it takes a connection, if it is the one that can make FILE; else `hello`|
//! | `poison`            | exits before it takes a connection                                                   |
//! | `die-taken`         | takes a connection, and exits                                                        |
//! | `never-ready`       | says nothing, and waits for the end of the channel                                   |
//! | `exit`              | exits at once                                                                        |
//! | `crash`             | is ready, and exits                                                                  |
//! | `say WORDS`         | answers a connection with WORDS, in which `ID` is its id; a `;` parts packets        |
//! | `deaf`              | is ready, and reads nothing                                                          |
//! | `hang-up`           | is ready, closes its channel at the first connection, and lives on                   |
//! | `accept`            | accepts from the listeners that it was given; says its pid and how many they are     |
//! | `accept-silent`     | the same, and never says that it is ready                                            |
//! | `spoil WHAT`        | accepts one connection, does WHAT to the listener, and exits                         |
//!
//! Knows nothing of superd but that page and `sd_listen_fds(3)`.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, send};

const CHANNEL: RawFd = 3;

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    TERMINATED.store(true, Ordering::SeqCst);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mode = words.first().map_or("", String::as_str);
    match mode {
        "exit" => std::process::exit(1),
        "never-ready" => while receive().is_some() {},
        "accept" => accept(true),
        "accept-silent" => accept(false),
        "spoil" => spoil(&words[1]),
        "crash" => say("READY"),
        "deaf" => {
            say("READY");
            hold();
        }
        _ => work(mode, words.get(1).map_or("", String::as_str)),
    }
}

/// Serves what it is handed until it is told that nothing more comes.
fn work(mode: &str, argument: &str) {
    if mode == "stubborn" {
        heed(Signal::SIGTERM, SigHandler::SigIgn);
    }
    if mode == "notify" {
        notify();
    } else {
        say("READY");
    }
    let mut running: Vec<JoinHandle<()>> = Vec::new();
    let mut served = 0;
    while let Some((line, connection)) = receive() {
        if line == "DRAIN" && mode != "stubborn" {
            break;
        }
        let (Some(connection), Some(id)) = (connection, field(&line, "id")) else { continue };
        if misbehave(mode, argument, &id) {
            continue;
        }
        say(&format!("TAKE {id}"));
        let own = mode.to_owned();
        let serve = move || {
            let sent = serve(&own, &line, UnixStream::from(connection));
            say(&format!("DONE {id} in=0 out={sent}"));
        };
        running.push(thread::spawn(serve));
        served += 1;
        if mode == "die-after" && served.to_string() == argument {
            break;
        }
    }
    for thread in running {
        thread.join().unwrap();
    }
}

/// `true`: the connection is not served.
fn misbehave(mode: &str, argument: &str, id: &str) -> bool {
    match mode {
        "poison" => std::process::exit(3),
        "die-untaken" if File::create_new(argument).is_ok() => std::process::exit(3),
        "die-taken" => {
            say(&format!("TAKE {id}"));
            std::process::exit(4);
        }
        "say" => argument.split(';').for_each(|words| say(&words.replace("ID", id))),
        "hang-up" => {
            // SAFETY: nothing of this process uses the channel any more.
            drop(unsafe { OwnedFd::from_raw_fd(CHANNEL) });
            hold();
        }
        _ => return false,
    }
    true
}

/// The bytes that were sent.
fn serve(mode: &str, line: &str, mut client: UnixStream) -> usize {
    let pid = std::process::id();
    let text = match mode {
        "hold" | "stubborn" => format!("pid {pid}\n"),
        "fields" => format!("pid {pid}\n{line}\n{}", world()),
        _ => "hello\n".to_owned(),
    };
    if mode == "complain" {
        eprintln!("{pid} complains");
    }
    let _ = client.write_all(text.as_bytes());
    if matches!(mode, "hold" | "stubborn") {
        let _ = client.read_to_end(&mut Vec::new());
        let _ = client.write_all(b"bye\n");
    }
    text.len()
}

/// Environment, user and limits.
fn world() -> String {
    let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().0;
    lines.push(format!("uid={} gid={} nofile={limit}", nix::unistd::getuid(), nix::unistd::getgid()));
    lines.push(format!("cwd={}", std::env::current_dir().unwrap().display()));
    lines.join("\n") + "\n"
}

fn field(line: &str, name: &str) -> Option<String> {
    line.split(' ').find_map(|field| Some(field.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

fn say(line: &str) {
    if send(CHANNEL, line.as_bytes(), MsgFlags::MSG_NOSIGNAL).is_err() {
        std::process::exit(0);
    }
}

/// The next packet and its connection. None: superd is gone.
fn receive() -> Option<(String, Option<OwnedFd>)> {
    let mut packet = [0; 4096];
    let mut control = nix::cmsg_space!(RawFd);
    let mut vector = [IoSliceMut::new(&mut packet)];
    let message = recvmsg::<()>(CHANNEL, &mut vector, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let mut connection = None;
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made these descriptors for this process.
            connection = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
        }
    }
    let length = message.bytes;
    (length > 0).then(|| (String::from_utf8_lossy(&packet[..length]).into_owned(), connection))
}

fn notify() {
    let name = std::env::var("NOTIFY_SOCKET").unwrap();
    let address = SocketAddr::from_abstract_name(name.strip_prefix('@').unwrap()).unwrap();
    UnixDatagram::unbound().unwrap().send_to_addr(b"STATUS=up\nREADY=1", &address).unwrap();
}

fn heed(signal: Signal, handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic, or is none.
    unsafe { sigaction(signal, &action) }.unwrap();
}

fn listeners() -> Vec<ManuallyDrop<socket2::Socket>> {
    let count: RawFd = std::env::var("LISTEN_FDS").unwrap().parse().unwrap();
    assert_eq!(std::env::var("LISTEN_PID").unwrap(), std::process::id().to_string());
    // SAFETY: these were given to this process, and are never closed by it.
    (3..3 + count).map(|fd| ManuallyDrop::new(unsafe { socket2::Socket::from_raw_fd(fd) })).collect()
}

/// Ends at TERM, but not with a client half served.
fn accept(tells: bool) {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    heed(Signal::SIGTERM, SigHandler::Handler(note));
    let listeners = listeners();
    // Others accept from them too: who is too late must not wait.
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    if tells {
        notify();
    }
    while !TERMINATED.load(Ordering::SeqCst) {
        let mut fds: Vec<PollFd<'_>> =
            listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut fds, 50_u16);
        for listener in &listeners {
            if let Ok((mut client, _)) = listener.accept() {
                let _ = writeln!(client, "pid {} of {}", std::process::id(), listeners.len());
            }
        }
    }
}

fn spoil(what: &str) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let listener = &listeners()[0];
    notify();
    let (mut client, _) = listener.accept().unwrap();
    writeln!(client, "pid {}", std::process::id()).unwrap();
    match what {
        "nonblock" => listener.set_nonblocking(true).unwrap(),
        "async" => {
            // SAFETY: F_SETOWN takes a number.
            unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_SETOWN, libc::getpid()) };
            fcntl(&**listener, FcntlArg::F_SETFL(OFlag::O_ASYNC)).unwrap();
        }
        _ => listener.shutdown(std::net::Shutdown::Both).unwrap(),
    }
}

fn hold() -> ! {
    loop {
        thread::park();
    }
}
