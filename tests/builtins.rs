//! The built-in services over connections, from outside: what each says, how it ends, what it costs, and that the
//! process which serves them may die at any moment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use harness::{Client, Process, Superd, is_root, needs_program, needs_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use superd::protocol::builtin::chargen;

const ALL: [&str; 6] = ["echo", "discard", "chargen", "daytime", "time", "qotd"];

fn daemon() -> &'static str {
    if is_root() {
        "[daemon]\nhelper_user = \"nobody\"\nzone = \"Asia/Tokyo\"\n"
    } else {
        "[daemon]\nzone = \"Asia/Tokyo\"\n"
    }
}

fn service(name: &str, more: &str) -> String {
    let quotes = if name == "qotd" { "quotes = [\"Festina lente.\\r\\n\"]\n" } else { "" };
    let listen = format!("[\"tcp4:127.0.0.1:0\", \"unix:{{dir}}/{name}\"]");
    format!("[service.{name}]\nlisten = {listen}\nbuiltin = \"{name}\"\n{quotes}{more}\n")
}

fn all() -> Superd {
    Superd::with(&(daemon().to_owned() + &ALL.map(|name| service(name, "")).concat()))
}

fn handlers(superd: &Superd) -> Option<Process> {
    superd.children().into_iter().find(|child| child.arguments().contains("--role handlers"))
}

/// What a client of a service gets over tcp and over a unix socket, having said this and no more.
#[track_caller]
fn check(superd: &Superd, name: &str, said: &[u8], is_right: impl Fn(&[u8]) -> bool) {
    let mut client = superd.connect(name);
    let _ = client.stream.write_all(said);
    client.finish();
    let told = client.read_to_end();
    assert!(is_right(&told), "{name} over tcp: {:?}", String::from_utf8_lossy(&told));
    let mut client = UnixStream::connect(superd.dir().join(name)).unwrap();
    client.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    let _ = client.write_all(said);
    let _ = client.shutdown(Shutdown::Write);
    let mut told = Vec::new();
    let _ = client.read_to_end(&mut told);
    assert!(is_right(&told), "{name} over a unix socket: {:?}", String::from_utf8_lossy(&told));
}

fn in_tokyo(text: &[u8]) -> bool {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::get("Asia/Tokyo").unwrap());
    (0..5).any(|ago| {
        let then = &now - jiff::SignedDuration::from_secs(ago);
        text == then.strftime("%a %b %e %H:%M:%S %Y\r\n").to_string().as_bytes()
    })
}

fn since_1900(bytes: &[u8]) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2_208_988_800;
    let told = bytes.try_into().map_or(0, u32::from_be_bytes);
    now.abs_diff(told.into()) < 5
}

#[test]
fn each_says_what_its_rfc_has_it_say() {
    let superd = all();
    let long = vec![b'x'; 300_000];
    for said in [&b""[..], b"hello\r\n", &[0, 255, 10], &long] {
        check(&superd, "echo", said, |told| told == said);
        check(&superd, "discard", said, <[u8]>::is_empty);
    }
    check(&superd, "daytime", b"", in_tokyo);
    check(&superd, "time", b"", since_1900);
    check(&superd, "qotd", b"", |told| told == b"Festina lente.\r\n");
    let mut client = superd.connect("chargen");
    let mut told = vec![0; 3 * chargen::PERIOD];
    client.stream.read_exact(&mut told).unwrap();
    assert_eq!(told, &chargen::pattern(2 * chargen::PERIOD)[..]);
    drop(client);
    superd.until_idle();
}

#[test]
fn nc_is_served() {
    needs_program!("nc");
    let superd = all();
    let nc = |name: &str, said: &str| {
        let at = superd.address(name);
        let line = format!("printf '{said}' | nc -N {} {}", at.ip(), at.port());
        let line = if name == "chargen" { line + " | head -c 148" } else { line };
        Command::new("sh").args(["-c", &line]).output().unwrap().stdout
    };
    assert_eq!(nc("echo", "a\\nb"), b"a\nb");
    assert_eq!(nc("discard", "a\\nb"), b"");
    assert_eq!(nc("chargen", ""), &chargen::pattern(148)[..148]);
    assert!(in_tokyo(&nc("daytime", "")));
    assert!(since_1900(&nc("time", "")));
    assert_eq!(nc("qotd", ""), b"Festina lente.\r\n");
}

/// Bytes are counted both ways, and the line says which deadline has ended a session.
#[test]
fn clients_that_dawdle_have_their_time() {
    let more = "timeout = { idle = \"300ms\", handshake = \"150ms\", session = \"2s\" }";
    let services = service("echo", more)
        + &service("discard", more)
        + &service("chargen", &more.replace("handshake = \"150ms\", ", ""));
    let superd = Superd::with(&(daemon().to_owned() + &services));
    let end = |name: &str| superd.expect_log(&format!("end {name} "));
    for name in ["echo", "discard"] {
        assert_eq!(superd.connect(name).read_until_closed(), b"");
        let line = end(name);
        assert!(line.contains("in=0 out=0") && line.ends_with("cause=handshake"), "{line}");
    }
    let mut client = superd.connect("echo");
    client.write(b"ab");
    assert_eq!(client.read_until_closed(), b"ab");
    until("its end", || superd.log_lines().iter().any(|l| l.contains("in=2 out=2 cause=idle")).then_some(()));
    // It never reads: what it is sent stops, and that is no traffic any more.
    let silent = superd.connect("chargen");
    let line = end("chargen");
    assert!(line.contains("in=0 out=") && line.ends_with("cause=idle"), "{line}");
    drop(silent);
    // A byte now and then holds it up, until the session has had its time.
    let mut slow = superd.connect("echo");
    let start = Instant::now();
    let mut byte = [0];
    while slow.stream.write_all(b"x").is_ok() && matches!(slow.stream.read(&mut byte), Ok(1)) {
        assert!(slow.is_silent(Duration::from_millis(100)) || start.elapsed() > Duration::from_millis(1900));
    }
    assert!(start.elapsed() > Duration::from_millis(1900), "{:?}", start.elapsed());
    until("its end", || superd.log_lines().iter().any(|l| l.ends_with("cause=session")).then_some(()));
}

/// What is known of a process whose memory is not its user's to read.
fn kilobytes(pid: i32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn thousands_of_idle_clients_cost_little() {
    needs_root!();
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard, hard);
    let count = usize::try_from(hard).unwrap().saturating_sub(1000).min(15_000);
    let limits =
        "limits = { connections = \"none\" }\ntimeout = { handshake = \"10min\" }\nlog = { success = false }";
    let config =
        daemon().replace("[daemon]\n", "[daemon]\nmax_sessions = 20000\n") + &service("echo", limits);
    let superd = Superd::with(&config);
    let at = superd.address("echo");
    let first = Client::connect(at);
    until("the handlers", || (superd.service("echo")["started"] == 1).then_some(()));
    let handlers = handlers(&superd).unwrap().pid;
    let memory = || kilobytes(superd.pid(), "Pss:") + kilobytes(handlers, "Pss:");
    let before = memory();
    let mut clients: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(at).unwrap()).collect();
    until("all of them", || (superd.service("echo")["started"] == count + 1).then_some(()));
    let each = (memory() - before) * 1024 / u64::try_from(count).unwrap();
    assert!(each <= 2048, "{each} bytes for each of {count} clients");
    let threads = harness::processes::status_number(handlers, "Threads").unwrap();
    assert!(threads <= 5, "{threads} threads");
    for client in clients.iter_mut().step_by(997) {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    drop((first, clients));
    superd.until_idle();
}

#[test]
fn who_serves_strangers_may_do_nothing() {
    needs_root!();
    let superd = all();
    let mut client = superd.connect("echo");
    client.write(b"x");
    // It has all its guards on before it serves anybody.
    client.stream.read_exact(&mut [0]).unwrap();
    let pid = handlers(&superd).unwrap().pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    let files = harness::processes::open_files(pid);
    let is_path = |target: &str| {
        target.starts_with('/') && !target.starts_with("/dev/null") && !target.starts_with("/memfd:")
    };
    assert!(files.iter().all(|(fd, target)| *fd <= 2 || !is_path(target)), "{files:?}");
}

/// Every client has an echo or an end; what it was counted in is given back.
#[test]
fn handlers_may_be_killed_under_load() {
    let superd = Superd::with(&(daemon().to_owned() + &service("echo", "")));
    superd.allow_errors("handlers");
    let at = superd.address("echo");
    let deadline = Instant::now() + Duration::from_secs(4);
    let clients: Vec<_> = (0..4).map(|_| std::thread::spawn(move || come_until(at, deadline))).collect();
    let mut killed = 0;
    while Instant::now() < deadline {
        if let Some(handlers) = handlers(&superd)
            && kill(Pid::from_raw(handlers.pid), Signal::SIGKILL).is_ok()
        {
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let (echoes, ends) =
        clients.into_iter().map(|client| client.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert!(killed >= 2 && echoes > 0, "{killed} were killed, {echoes} echoes, {ends} ends");
    superd.until_idle();
    assert_eq!(superd.service("echo")["sessions"], 0);
    let (starts, ended) = (superd.count_log("start echo"), superd.count_log("end echo"));
    assert_eq!((starts, starts >= echoes), (ended, true), "{echoes} {ends}");
    // Some were lost with their echo on its way; nobody had an end for another reason.
    assert!(ends <= superd.count_log("cause=handler-lost"));
    let mut next = superd.connect("echo");
    next.write(b"again");
    next.finish();
    assert_eq!(next.read_to_end(), b"again");
}

/// How many echoes, and how many ends without one.
fn come_until(at: SocketAddr, deadline: Instant) -> (usize, usize) {
    let (mut echoes, mut ends) = (0, 0);
    while Instant::now() < deadline {
        let mut client = Client::connect(at);
        let said = client.stream.write_all(b"x");
        let mut byte = [0];
        match said.and_then(|()| client.stream.read(&mut byte)) {
            Ok(1) => echoes += 1,
            Ok(_) => ends += 1,
            Err(error) => {
                // A client that waits for ever is the one thing that may not be.
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                ends += 1;
            }
        }
    }
    (echoes, ends)
}
