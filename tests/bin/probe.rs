//! The service of the tests: it tells what it was started with, or plays a small part.
//!
//! It has a C `main`, so that it sees its signals as exec left them: Rust's runtime would ignore SIGPIPE and
//! install handlers before anything could look. Knows nothing of superd.
//!
//! | called as        | does                                                                     |
//! |------------------|--------------------------------------------------------------------------|
//! | `json`           | one line of JSON with everything it was started with                     |
//! | `hello`          | writes `hello`                                                           |
//! | `echo`           | copies descriptor 0 to 1 until its end                                   |
//! | `exit N`         | exits with N                                                             |
//! | `kill N`         | ends itself by signal N                                                  |
//! | `sleep`          | writes `pid N`, then waits for a signal                                  |
//! | `ignore-term`    | ignores TERM, writes `pid N`, then waits                                 |
//! | `grandchild`     | leaves a process that waits, writes `pid N` of it, exits                 |
//! | `stderr N`       | writes N lines to descriptor 2, then `hello` to 1                        |
//! | `fill N`         | writes N bytes                                                           |
//! | `until-eof`      | writes `pid N`, reads to the end of 0, writes `bye`                      |

#![no_main]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::fs;

use serde_json::{Value, json};

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, arguments: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: the kernel gives `argc` pointers to NUL-terminated strings that live as long as the process.
    let words: Vec<String> = (0..count).map(|n| unsafe { text(*arguments.add(n)) }).collect();
    let number = words.get(2).and_then(|n| n.parse::<i32>().ok()).unwrap_or(0);
    match words.get(1).map_or("json", String::as_str) {
        "json" => write(1, format!("{}\n", report(&words)).as_bytes()),
        "hello" => write(1, b"hello\n"),
        "echo" => copy(),
        "exit" => return number,
        "kill" => kill_self(number),
        "sleep" => sleep(),
        "ignore-term" => {
            // SAFETY: SIG_IGN is a valid disposition.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            sleep();
        }
        "grandchild" => grandchild(),
        "stderr" => {
            for line in 1..=number {
                write(2, format!("line {line}\n").as_bytes());
            }
            write(1, b"hello\n");
        }
        "fill" => (0..number / 1000).for_each(|_| write(1, &[b'x'; 1000])),
        "until-eof" => {
            write(1, pid_line(std::process::id()).as_bytes());
            while read(&mut [0; 4096]) > 0 {}
            write(1, b"bye\n");
        }
        _ => return 64,
    }
    0
}

/// # Safety
/// `pointer` is a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn write(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the buffer is `bytes`, whole.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        let Ok(written) = usize::try_from(written) else { return };
        bytes = bytes.get(written..).unwrap_or_default();
    }
}

fn read(buffer: &mut [u8]) -> usize {
    // SAFETY: the buffer is `buffer`, whole.
    let count = unsafe { libc::read(0, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).unwrap_or(0)
}

fn copy() {
    let mut buffer = [0; 16384];
    loop {
        match read(&mut buffer) {
            0 => return,
            count => write(1, buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn pid_line(pid: impl std::fmt::Display) -> String {
    format!("pid {pid}\n")
}

fn sleep() {
    write(1, pid_line(std::process::id()).as_bytes());
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

fn kill_self(signal: c_int) {
    // SAFETY: takes numbers alone.
    unsafe { libc::raise(signal) };
}

fn grandchild() {
    // SAFETY: one thread; the child only waits.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: takes nothing.
            unsafe { libc::pause() };
        },
        child => write(1, pid_line(child).as_bytes()),
    }
}

fn report(words: &[String]) -> Value {
    let fds = descriptors();
    let status = Status::read();
    // SAFETY: these take nothing, or numbers alone.
    let ids = unsafe {
        json!({
            "pid": libc::getpid(), "ppid": libc::getppid(), "sid": libc::getsid(0), "pgid": libc::getpgid(0),
            "nice": libc::getpriority(libc::PRIO_PROCESS, 0),
            "dumpable": libc::prctl(libc::PR_GET_DUMPABLE),
            "timer_slack": libc::prctl(libc::PR_GET_TIMERSLACK),
            "scheduler": libc::sched_getscheduler(0),
        })
    };
    json!({
        "argv": words,
        "env": environment(),
        "ids": ids,
        "uids": status.numbers("Uid"),
        "gids": status.numbers("Gid"),
        "groups": status.numbers("Groups"),
        "fds": fds,
        "cwd": link("/proc/self/cwd"),
        "root": link("/proc/self/root"),
        "root_entries": entries("/"),
        "umask": status.word("Umask"),
        "signals": {
            "blocked": status.signals("SigBlk"),
            "ignored": status.signals("SigIgn"),
            "caught": status.signals("SigCgt"),
            "pending": ([status.signals("SigPnd"), status.signals("ShdPnd")].concat()),
        },
        "capabilities": status.word("CapEff"),
        "inheritable": status.word("CapInh"),
        "ambient": status.word("CapAmb"),
        "bounding": status.word("CapBnd"),
        "no_new_privileges": status.word("NoNewPrivs"),
        "seccomp": status.word("Seccomp"),
        "threads": status.word("Threads"),
        "rlimits": rlimits(),
        "tty": fs::File::open("/dev/tty").is_ok(),
        "oom_score_adj": trimmed("/proc/self/oom_score_adj"),
        "comm": trimmed("/proc/self/comm"),
        "exe": link("/proc/self/exe"),
        "sockname": address(libc::getsockname),
        "peername": address(libc::getpeername),
        "keepalive": option::<c_int>(libc::SO_KEEPALIVE),
        "linger": option::<libc::linger>(libc::SO_LINGER).map(|linger| [linger.l_onoff, linger.l_linger]),
    })
}

/// Looked for one by one: a directory of /proc would need a descriptor itself.
fn descriptors() -> Vec<Value> {
    (0..65536).filter_map(descriptor).collect()
}

fn descriptor(fd: c_int) -> Option<Value> {
    // SAFETY: fcntl with commands that take no pointer; fd may be any number.
    let (flags, status) = unsafe { (libc::fcntl(fd, libc::F_GETFD), libc::fcntl(fd, libc::F_GETFL)) };
    if flags < 0 {
        return None;
    }
    // SAFETY: all zeroes is a valid stat.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is writable and of the right type.
    unsafe { libc::fstat(fd, &raw mut stat) };
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFSOCK => "socket",
        libc::S_IFIFO => "pipe",
        libc::S_IFCHR => "device",
        libc::S_IFREG => "file",
        libc::S_IFDIR => "directory",
        _ => "other",
    };
    Some(json!({
        "fd": fd,
        "kind": kind,
        "inode": stat.st_ino,
        "nonblocking": status & libc::O_NONBLOCK != 0,
        "cloexec": flags & libc::FD_CLOEXEC != 0,
        "target": link(&format!("/proc/self/fd/{fd}")),
    }))
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect()
}

fn link(path: &str) -> Option<String> {
    fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned())
}

fn entries(path: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .map(|found| found.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    names.sort();
    names
}

fn trimmed(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// /proc/self/status, by its names.
struct Status(BTreeMap<String, String>);

impl Status {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        let text = self.word(name).unwrap_or_default();
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    fn signals(&self, name: &str) -> Vec<u32> {
        let mask = u64::from_str_radix(self.word(name).unwrap_or_default(), 16).unwrap_or(u64::MAX);
        (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
    }
}

fn rlimits() -> BTreeMap<&'static str, [u64; 2]> {
    const NAMES: [(&str, libc::__rlimit_resource_t); 16] = [
        ("as", libc::RLIMIT_AS),
        ("core", libc::RLIMIT_CORE),
        ("cpu", libc::RLIMIT_CPU),
        ("data", libc::RLIMIT_DATA),
        ("fsize", libc::RLIMIT_FSIZE),
        ("locks", libc::RLIMIT_LOCKS),
        ("memlock", libc::RLIMIT_MEMLOCK),
        ("msgqueue", libc::RLIMIT_MSGQUEUE),
        ("nice", libc::RLIMIT_NICE),
        ("nofile", libc::RLIMIT_NOFILE),
        ("nproc", libc::RLIMIT_NPROC),
        ("rss", libc::RLIMIT_RSS),
        ("rtprio", libc::RLIMIT_RTPRIO),
        ("rttime", libc::RLIMIT_RTTIME),
        ("sigpending", libc::RLIMIT_SIGPENDING),
        ("stack", libc::RLIMIT_STACK),
    ];
    let limit = |resource| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable and of the right type.
        unsafe { libc::getrlimit(resource, &raw mut limit) };
        [limit.rlim_cur, limit.rlim_max]
    };
    NAMES.into_iter().map(|(name, resource)| (name, limit(resource))).collect()
}

type AddressCall = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

/// An option of descriptor 0, of the level of sockets.
fn option<T: Copy>(name: c_int) -> Option<T> {
    // SAFETY: all zeroes is valid for the plain numbers that options are.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<T>()).ok()?;
    let place = (&raw mut value).cast();
    // SAFETY: `value` has `length` writable bytes.
    let outcome = unsafe { libc::getsockopt(0, libc::SOL_SOCKET, name, place, &raw mut length) };
    (outcome == 0).then_some(value)
}

/// Of descriptor 0, as `192.0.2.7:51234`.
fn address(call: AddressCall) -> Option<String> {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&storage)).ok()?;
    // SAFETY: `storage` has `length` writable bytes.
    if unsafe { call(0, (&raw mut storage).cast(), &raw mut length) } != 0 {
        return None;
    }
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in is in it.
            let v4 = unsafe { *(&raw const storage).cast::<libc::sockaddr_in>() };
            let ip = std::net::Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(format!("{ip}:{}", u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 is in it.
            let v6 = unsafe { *(&raw const storage).cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(format!("[{ip}]:{}", u16::from_be(v6.sin6_port)))
        }
        other => Some(format!("family {other}")),
    }
}
