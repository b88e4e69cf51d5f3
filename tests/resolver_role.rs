//! The resolver role, as the supervisor starts it: `superd --role resolver`, with its channel as descriptor 3. Name
//! servers that are right, lying, slow, and dead; text packets in, text packets out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::dns::{NameServer, Record, Says, own_resolver, pointer, reverse};
use harness::world::{own_mounts, own_network};
use harness::{DEADLINE, machine, needs_root, until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use tempfile::TempDir;

/// The role, in the namespaces of the thread that starts it.
struct Resolver {
    process: Child,
    channel: Option<OwnedFd>,
}

impl Resolver {
    #[track_caller]
    fn start() -> Self {
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (own, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let number = theirs.as_raw_fd();
        assert_ne!(number, 3, "the test runner has it");
        let mut command = Command::new(machine::built("superd"));
        command.args(["--role", "resolver"]).env_clear().stdin(Stdio::null());
        let install = move || match nix_dup2(number, 3) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        // SAFETY: what runs in the child calls dup2 alone, and allocates nothing.
        let process = unsafe { command.pre_exec(install) }.spawn().unwrap();
        let mut resolver = Self { process, channel: Some(own) };
        assert_eq!(resolver.hear(), "READY");
        resolver
    }

    fn ask(&self, question: &str) {
        let channel = self.channel.as_ref().unwrap();
        send(channel.as_raw_fd(), question.as_bytes(), MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    /// The next packet.
    #[track_caller]
    fn hear(&mut self) -> String {
        let channel = self.channel.as_ref().unwrap();
        let timeout = PollTimeout::try_from(DEADLINE).unwrap();
        let found = poll(&mut [PollFd::new(std::os::fd::AsFd::as_fd(channel), PollFlags::POLLIN)], timeout);
        assert_eq!(found, Ok(1), "no answer");
        let mut packet = [0; 4096];
        let length = recv(channel.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
        assert_ne!(length, 0, "the resolver has ended: {:?}", self.process.try_wait());
        String::from_utf8(packet[..length].to_vec()).unwrap()
    }

    /// What it says of an address, without the question's number.
    #[track_caller]
    fn named(&mut self, address: IpAddr, within: Duration) -> String {
        self.ask(&format!("NAME id=7 address={address} within={}", within.as_millis()));
        self.hear().strip_prefix("NAMED id=7 state=").expect("an answer to the question").to_owned()
    }

    fn status(&self, key: &str) -> String {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
        line.unwrap_or_default().trim().to_owned()
    }
}

fn nix_dup2(from: i32, to: i32) -> i32 {
    // SAFETY: dup2 takes numbers alone; what stands at `to` in the child is the test runner's.
    unsafe { libc::dup2(from, to) }
}

impl Drop for Resolver {
    /// It ends with its channel, also while look-ups hang.
    fn drop(&mut self) {
        drop(self.channel.take());
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(status)) if status.success() || std::thread::panicking() => return,
                other => panic!("the resolver ended by {other:?}"),
            }
        }
        let _ = self.process.kill();
        assert!(std::thread::panicking(), "the resolver does not end with its channel");
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(all: &[&str]) -> Says {
    Says::Records(all.iter().map(|text| Record::Address(ip(text))).collect())
}

fn names(all: &[&str]) -> Says {
    Says::Records(all.iter().map(|name| pointer(name)).collect())
}

/// A network, files of the resolver, and a name server with the script. The folder must live as long.
fn world(options: &str, script: impl Fn(&str, &str) -> Says + Send + 'static) -> (TempDir, NameServer) {
    own_network();
    own_mounts();
    let folder = TempDir::new().unwrap();
    own_resolver(folder.path(), options, "127.0.0.1 localhost\n192.0.2.50 Filed.Example filed\n");
    (folder, NameServer::start(script))
}

#[test]
fn a_role_like_the_others() {
    let resolver = Resolver::start();
    until("its name", || (resolver.status("Name") == "superd-resolver").then_some(()));
    assert_eq!(resolver.status("NoNewPrivs"), "1");
    drop(resolver);
}

#[test]
fn a_question_without_sense_ends_it() {
    let mut resolver = Resolver::start();
    resolver.ask("WHO id=7");
    let status = until("its end", || resolver.process.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    // Its end is looked at above.
    std::mem::forget(resolver);
}

/// Address, its names, the names' addresses, and what comes of it.
type Row = (&'static str, fn() -> Says, fn() -> Says, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 20] = [
    ("192.0.2.1", || names(&["host.example"]), || addresses(&["192.0.2.1"]), "confirmed name=host.example"),
    ("192.0.2.2", || names(&["Host2.EXAMPLE"]), || addresses(&["192.0.2.99", "192.0.2.2"]), "confirmed name=host2.example"),
    ("192.0.2.3", || names(&["single"]), || addresses(&["192.0.2.3"]), "confirmed name=single"),
    ("192.0.2.4", || names(&["alias.example"]), || Says::Records(vec![Record::Alias("real.example", ip("192.0.2.4"))]),
        "confirmed name=alias.example"),
    ("2001:db8::1", || names(&["six.example"]), || addresses(&["2001:db8::1"]), "confirmed name=six.example"),
    ("::ffff:192.0.2.5", || names(&["mapped.example"]), || addresses(&["192.0.2.5"]), "confirmed name=mapped.example"),
    ("192.0.2.10", || Says::NoName, || Says::NoName, "none"),
    ("192.0.2.11", || Says::NoData, || Says::NoName, "none"),
    ("2001:db8::2", || Says::NoName, || Says::NoName, "none"),
    // Lies: the name is somebody else's, nobody's, no name.
    ("192.0.2.20", || names(&["liar.example"]), || addresses(&["192.0.2.99"]), "mismatch name=liar.example"),
    ("192.0.2.21", || names(&["nobody.example"]), || Says::NoName, "mismatch name=nobody.example"),
    ("2001:db8::3", || names(&["four.example"]), || Says::NoData, "mismatch name=four.example"),
    ("192.0.2.22", || names(&["192.0.2.22"]), || addresses(&["192.0.2.22"]), "mismatch"),
    ("192.0.2.23", || names(&["3221226007"]), || addresses(&["192.0.2.23"]), "mismatch"),
    ("192.0.2.24", || names(&["localhost"]), || addresses(&["192.0.2.24"]), "mismatch name=localhost"),
    // A name that is there with a search list's domain alone.
    ("192.0.2.25", || names(&["ghost"]), || Says::NoName, "mismatch name=ghost"),
    ("192.0.2.26", || names(&["ghost.deep"]), || Says::NoName, "mismatch name=ghost.deep"),
    // A name service that fails calls nobody a liar.
    ("192.0.2.30", || Says::ServerFails, || Says::NoName, "failed"),
    ("192.0.2.31", || names(&["broken.example"]), || Says::ServerFails, "failed"),
    ("192.0.2.32", || names(&["mute.example"]), || Says::Nothing, "failed"),
];

/// The answer of the table; a name below the search list's domain is everybody's.
fn by_table(name: &str, kind: &str) -> Says {
    if name.ends_with(".search.example") {
        return addresses(&["192.0.2.25", "192.0.2.26"]);
    }
    let is_asked = |(address, pointers, _, _): &&Row| {
        let owns = || match pointers() {
            Says::Records(all) => all.iter().any(|record| is_pointer_to(record, name)),
            _ => false,
        };
        if kind == "PTR" { reverse(ip(address).to_canonical()) == name } else { owns() }
    };
    match ROWS.iter().find(is_asked) {
        Some((_, pointers, _, _)) if kind == "PTR" => pointers(),
        Some((_, _, addresses, _)) => addresses(),
        None => Says::NoName,
    }
}

fn is_pointer_to(record: &Record, name: &str) -> bool {
    match record {
        Record::Pointer(parts) => parts.join(&b'.').eq_ignore_ascii_case(name.as_bytes()),
        _ => false,
    }
}

#[test]
fn names_by_dns() {
    needs_root!();
    let (_folder, _server) = world("search search.example\noptions timeout:1 attempts:1", by_table);
    let mut resolver = Resolver::start();
    for (address, _, _, expected) in ROWS {
        assert_eq!(resolver.named(ip(address), DEADLINE), expected, "{address}");
    }
    assert_eq!(resolver.named(ip("192.0.2.50"), DEADLINE), "confirmed name=filed.example", "/etc/hosts");
}

#[test]
fn names_that_no_host_has_are_never_confirmed() {
    needs_root!();
    let odd: [&[u8]; 6] = [b"a b", b"\x1b[31mred", b"a\nb", b"$(id)", b"\xff\xfe", b"*"];
    let (_folder, _server) = world("options timeout:1 attempts:1", move |name, kind| match kind {
        "PTR" => {
            let last = name.split('.').next().unwrap().parse::<usize>().unwrap();
            Says::Records(vec![Record::Pointer(vec![odd[last].to_vec(), b"example".to_vec()])])
        }
        _ => Says::Records((0..6).map(|last| Record::Address(IpAddr::from([192, 0, 2, last]))).collect()),
    });
    let mut resolver = Resolver::start();
    for last in 0..6 {
        // glibc keeps some of these to itself, and says that there is no name or none now.
        let found = resolver.named(IpAddr::from([192, 0, 2, last]), DEADLINE);
        assert!(["mismatch", "none", "failed"].contains(&found.as_str()), "{found}");
    }
}

#[test]
fn a_slow_name_server_holds_up_nobody() {
    needs_root!();
    let slow = reverse(ip("192.0.2.1"));
    let (_folder, server) = world("options timeout:30 attempts:1", move |name, kind| match kind {
        "PTR" if name == slow => Says::Held(vec![pointer("slow.example")]),
        "PTR" => Says::NoName,
        _ => addresses(&["192.0.2.1"]),
    });
    let mut resolver = Resolver::start();
    let begin = Instant::now();
    let within = Duration::from_millis(200);
    assert_eq!(resolver.named(ip("192.0.2.1"), within), "failed");
    assert!(begin.elapsed() >= within);
    assert_eq!(resolver.named(ip("192.0.2.50"), DEADLINE), "confirmed name=filed.example");
    // Who asks again joins the look-up that is under way; what came of it is kept for the next.
    resolver.ask("NAME id=7 address=192.0.2.1 within=20000");
    server.release();
    assert_eq!(resolver.hear(), "NAMED id=7 state=confirmed name=slow.example");
    assert_eq!(resolver.named(ip("192.0.2.1"), Duration::ZERO), "confirmed name=slow.example");
}

#[test]
fn a_mute_name_server_takes_no_longer_than_the_question_says() {
    needs_root!();
    let (_folder, _server) = world("options timeout:30 attempts:5", |_, _| Says::Nothing);
    let mut resolver = Resolver::start();
    let begin = Instant::now();
    // More than there are threads; all in one packet.
    let question = |id| format!("NAME id={id} address=192.0.2.{id} within=500");
    resolver.ask(&(1..=60).map(question).collect::<Vec<_>>().join("\n"));
    let mut failed: Vec<String> = Vec::new();
    while failed.len() < 60 {
        failed.extend(resolver.hear().lines().map(str::to_owned));
    }
    assert!(failed.iter().all(|line| line.ends_with("state=failed")), "{failed:?}");
    assert!(
        begin.elapsed() >= Duration::from_millis(500) && begin.elapsed() < DEADLINE,
        "{:?}",
        begin.elapsed()
    );
}

#[test]
fn a_dead_name_server_has_failed() {
    needs_root!();
    let (_folder, server) = world("options timeout:1 attempts:1", |_, _| Says::NoName);
    drop(server);
    assert_eq!(Resolver::start().named(ip("192.0.2.1"), DEADLINE), "failed");
}

#[test]
fn what_the_name_server_says_is_kept_for_a_while() {
    needs_root!();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = std::sync::Arc::clone(&asked);
    let (_folder, _server) = world("options timeout:1 attempts:1", move |_, _| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Says::NoName
    });
    let mut resolver = Resolver::start();
    for _ in 0..50 {
        assert_eq!(resolver.named(ip("192.0.2.1"), DEADLINE), "none");
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn ident_servers_are_asked_at_their_port_from_the_address_that_was_asked() {
    needs_root!();
    own_network();
    let mut resolver = Resolver::start();
    for (client, local) in [("127.0.0.1", "127.0.0.9"), ("[::1]", "[::1]")] {
        let server = TcpListener::bind(format!("{client}:113")).unwrap();
        resolver.ask(&format!("IDENT id=7 client={client}:51234 local={local}:79 within=20000"));
        let (mut stream, from) = server.accept().unwrap();
        assert!(from.to_string().starts_with(&format!("{local}:")), "{from}");
        let mut question = String::new();
        BufReader::new(&stream).read_line(&mut question).unwrap();
        assert_eq!(question, "51234 , 79\r\n");
        stream.write_all(b"51234 , 79 : USERID : UNIX : alice\r\n").unwrap();
        assert_eq!(resolver.hear(), "USER id=7 state=user name=alice");
    }
}
