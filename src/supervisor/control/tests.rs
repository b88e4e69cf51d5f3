//! The server with real clients, all in one thread: the tests turn the loop by hand, and time is an argument.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::client::PATIENCE;
use super::*;
use crate::protocol::control::{Answer, MAX_REQUEST, ReloadReport, parse_reply};

const STATUS: &str = "{\"v\":1,\"do\":\"status\"}\n";
/// Just not too slow.
const ALMOST: Duration = PATIENCE.saturating_sub(Duration::from_millis(1));
const RELOAD: &str = "{\"v\":1,\"do\":\"reload\"}\n";

/// The server, a loop around it, and a clock that the test moves.
struct Rig {
    server: ControlServer,
    now: Instant,
    asked: Vec<(ClientId, Request)>,
    _directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with_clients_like(|socket| Ok(Credentials { uid: 0, ..peer::credentials(socket)? }))
    }

    fn with_clients_like(credentials: fn(BorrowedFd<'_>) -> io::Result<Credentials>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/superd/control.sock");
        let server = ControlServer { credentials, own_uid: 1, ..ControlServer::bind(&path, None).unwrap() };
        Self { server, now: Instant::now(), asked: Vec::new(), _directory: directory }
    }

    fn connect(&mut self) -> Guest {
        let stream = UnixStream::connect(self.server.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let guest = Guest { stream, heard: Vec::new(), closed: false };
        self.turn(0);
        guest
    }

    /// Returns whether poll told of anything.
    fn turn(&mut self, milliseconds: u16) -> bool {
        let mut interests = Vec::new();
        self.server.interests(&mut interests);
        let mut fds: Vec<PollFd<'_>> = interests.iter().map(to_pollfd).collect();
        poll(&mut fds, PollTimeout::from(milliseconds)).unwrap();
        let told = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        let ready: Vec<Token> = interests
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| told(fd))
            .map(|(interest, _)| interest.token)
            .collect();
        for token in &ready {
            self.server.on_ready(*token, self.now);
        }
        self.asked.extend(self.server.take_requests());
        !ready.is_empty()
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !done(self) {
            assert!(Instant::now() < end, "not within 10 s: {what}");
            self.turn(10);
        }
    }

    fn wait_for_requests(&mut self, count: usize) -> Vec<(ClientId, Request)> {
        self.until("requests", |rig| rig.asked.len() >= count);
        std::mem::take(&mut self.asked)
    }

    fn wait_for_line(&mut self, guest: &mut Guest) -> String {
        self.until("an answer", |_| guest.listen().contains(&b'\n'));
        let end = guest.heard.iter().position(|byte| *byte == b'\n').unwrap();
        String::from_utf8(guest.heard.drain(..=end).collect()).unwrap()
    }

    fn wait_for_end(&mut self, guest: &mut Guest) {
        self.until("the end", |_| {
            guest.listen();
            guest.closed
        });
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.on_deadline(self.now);
    }
}

fn to_pollfd<'a>(interest: &Interest<'a>) -> PollFd<'a> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, interest.read);
    events.set(PollFlags::POLLOUT, interest.write);
    PollFd::new(interest.fd, events)
}

/// A client.
struct Guest {
    stream: UnixStream,
    heard: Vec<u8>,
    closed: bool,
}

impl Guest {
    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    fn listen(&mut self) -> &[u8] {
        let mut bytes = vec![0; 1 << 20];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(count) => self.heard.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // Closed with bytes of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
            Err(error) => panic!("{error}"),
        }
        &self.heard
    }
}

fn reloaded(generation: u64) -> Reply {
    Reply::Done(Box::new(Answer::Reload(ReloadReport { generation, ..ReloadReport::default() })))
}

#[test]
fn a_request_and_its_answer() {
    let mut rig = Rig::new();
    let mut guest = rig.connect();
    guest.say("{\"v\":1,");
    rig.turn(0);
    guest.say("\"do\":\"reload\"}\n");
    let (id, request) = rig.wait_for_requests(1).remove(0);
    assert_eq!(request, Request::Reload);
    assert_eq!(rig.server.credentials(id).unwrap().pid, nix::unistd::getpid().as_raw());
    assert_eq!(rig.server.next_deadline(), None, "a request that is served has no deadline");
    rig.server.reply(id, &reloaded(2), rig.now);
    assert_eq!(parse_reply(rig.wait_for_line(&mut guest).as_bytes()), Ok(reloaded(2)));
}

#[test]
fn requests_of_one_client_are_served_one_after_the_other() {
    let mut rig = Rig::new();
    let mut guest = rig.connect();
    guest.say(format!("{STATUS}{RELOAD}"));
    guest.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let first = rig.wait_for_requests(1);
    assert!(!rig.turn(0), "the second request waits for the answer to the first, without spinning");
    assert_eq!(first[0].1, Request::Status);
    rig.server.reply(first[0].0, &reloaded(1), rig.now);
    let second = rig.wait_for_requests(1);
    assert_eq!(second, [(first[0].0, Request::Reload)]);
    rig.server.reply(second[0].0, &reloaded(2), rig.now);
    for generation in [1, 2] {
        assert_eq!(parse_reply(rig.wait_for_line(&mut guest).as_bytes()), Ok(reloaded(generation)));
    }
    rig.wait_for_end(&mut guest);
}

/// `sent`, with or without an end, is answered with an error that holds `word`, and no request comes of it.
fn check_refused(sent: &[u8], ends: bool, word: &str) {
    let mut rig = Rig::new();
    let mut guest = rig.connect();
    guest.say(sent);
    if ends {
        guest.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let line = rig.wait_for_line(&mut guest);
    assert!(line.contains("\"ok\":false") && line.contains(word), "{line}");
    rig.wait_for_end(&mut guest);
    assert!(rig.asked.is_empty() && rig.server.clients.is_empty());
}

#[test]
fn what_is_no_request_is_refused_and_the_client_let_go() {
    check_refused(b"\n", false, "JSON object");
    check_refused(b"\xff\x00\x1b\n{\"v\":1,\"do\":\"reload\"}\n", false, "JSON object");
    check_refused(b"GET / HTTP/1.0\r\n\r\n", false, "JSON object");
    check_refused(b"{\"v\":1,\"do\":\"reload\"}", true, "does not end in a newline");
    check_refused(&[b' '; MAX_REQUEST], false, "at most 4096");
    check_refused(&vec![b'x'; 100_000], false, "at most 4096");
}

#[test]
fn who_says_nothing_is_let_go_in_time() {
    let mut rig = Rig::new();
    let (mut silent, mut half) = (rig.connect(), rig.connect());
    half.say("{\"v\"");
    rig.turn(0);
    rig.pass(ALMOST);
    half.say(":1");
    rig.turn(0);
    assert_eq!(rig.server.clients.len(), 2);
    assert_eq!(rig.server.next_deadline(), Some(rig.now + Duration::from_millis(1)));
    rig.pass(Duration::from_millis(1));
    rig.wait_for_end(&mut silent);
    rig.wait_for_end(&mut half);
    assert_eq!((rig.server.clients.len(), rig.server.next_deadline()), (0, None));
}

#[test]
fn an_answer_of_4_mib_is_written_as_the_client_reads() {
    let mut rig = Rig::new();
    let mut guest = rig.connect();
    let reply = Reply::Refused(Refusal::new("x".repeat(4 << 20)));
    guest.say(STATUS);
    let (id, _) = rig.wait_for_requests(1)[0].clone();
    rig.server.reply(id, &reply, rig.now);
    assert!(!rig.turn(0), "a client that does not read costs no turn");
    for _ in 0..3 {
        rig.pass(ALMOST);
        guest.listen();
        rig.turn(0);
    }
    assert_eq!(parse_reply(rig.wait_for_line(&mut guest).as_bytes()), Ok(reply));
}

#[test]
fn who_never_reads_is_let_go_and_the_others_are_served() {
    let mut rig = Rig::new();
    let (mut deaf, mut other) = (rig.connect(), rig.connect());
    deaf.say(STATUS);
    let (id, _) = rig.wait_for_requests(1)[0].clone();
    rig.server.reply(id, &Reply::Refused(Refusal::new("x".repeat(4 << 20))), rig.now);
    other.say(STATUS);
    let (id, _) = rig.wait_for_requests(1)[0].clone();
    rig.server.reply(id, &reloaded(1), rig.now);
    rig.wait_for_line(&mut other);
    rig.pass(PATIENCE);
    assert!(rig.server.clients.is_empty());
}

#[test]
fn who_leaves_while_being_served_is_noticed() {
    let mut rig = Rig::new();
    let mut guest = rig.connect();
    guest.say(RELOAD);
    let (id, _) = rig.wait_for_requests(1)[0].clone();
    drop(guest);
    rig.until("it is gone", |rig| rig.server.clients.is_empty());
    rig.server.reply(id, &reloaded(2), rig.now);
    assert!(!rig.turn(0));
}

#[test]
fn the_seventeenth_is_sent_away() {
    let mut rig = Rig::new();
    let guests: Vec<Guest> = (0..MAX_CLIENTS).map(|_| rig.connect()).collect();
    let mut late = rig.connect();
    assert!(rig.wait_for_line(&mut late).contains("try again"));
    rig.wait_for_end(&mut late);
    drop(guests);
    rig.until("room", |rig| rig.server.clients.is_empty());
    rig.connect().say(STATUS);
    rig.wait_for_requests(1);
}

#[test]
fn readers_leave_room_for_root() {
    let mut rig = Rig::with_clients_like(as_reader);
    rig.server.group = Some(77);
    let mut readers: Vec<Guest> = (0..=MAX_CLIENTS - RESERVED).map(|_| rig.connect()).collect();
    assert!(rig.wait_for_line(readers.last_mut().unwrap()).contains("try again"));
    rig.server.credentials = |socket| Ok(Credentials { uid: 0, ..peer::credentials(socket)? });
    rig.connect().say(RELOAD);
    rig.wait_for_requests(1);
}

#[test]
fn a_reader_changes_nothing() {
    let mut rig = Rig::with_clients_like(as_reader);
    assert!(
        {
            let mut stranger = rig.connect();
            rig.wait_for_line(&mut stranger)
        }
        .contains("permission denied")
    );
    rig.server.group = Some(77);
    let mut guest = rig.connect();
    guest.say(STATUS);
    let (id, _) = rig.wait_for_requests(1)[0].clone();
    rig.server.reply(id, &reloaded(1), rig.now);
    rig.wait_for_line(&mut guest);
    guest.say(RELOAD);
    assert!(rig.wait_for_line(&mut guest).contains("permission denied"));
    assert!(rig.asked.is_empty());
}

fn as_reader(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    Ok(Credentials { uid: 1000, gid: 1000, groups: vec![4, 77], ..peer::credentials(socket)? })
}

fn check_rights((uid, gid, groups): (u32, u32, &[u32]), group: Option<u32>, expected: Option<Rights>) {
    let client = Credentials { pid: 1, uid, gid, groups: groups.to_vec() };
    assert_eq!(rights(&client, 500, group), expected, "{client:?}, {group:?}");
}

#[test]
fn rights_come_from_the_user_and_the_groups() {
    check_rights((0, 0, &[]), None, Some(Rights::Change));
    check_rights((500, 9, &[]), None, Some(Rights::Change));
    check_rights((1000, 9, &[]), None, None);
    check_rights((1000, 0, &[0]), None, None);
    check_rights((1000, 77, &[]), Some(77), Some(Rights::Read));
    check_rights((1000, 9, &[1, 77]), Some(77), Some(Rights::Read));
    check_rights((1000, 9, &[1, 78]), Some(77), None);
    check_rights((0, 9, &[]), Some(77), Some(Rights::Change));
}

#[test]
fn out_of_descriptors_the_listener_rests() {
    let mut rig = Rig::new();
    rig.server.resting_until = Some(rig.now + REST);
    let mut guest = rig.connect();
    guest.say(STATUS);
    assert!(!rig.turn(0), "a client in the queue is no reason to spin");
    assert_eq!(rig.server.next_deadline(), Some(rig.now + REST));
    rig.pass(REST);
    rig.wait_for_requests(1);
}

fn check_bind(make: impl FnOnce(&Path) -> Option<UnixListener>, expected: Result<(), ErrorKind>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let held = make(&path);
    let outcome = ControlServer::bind(&path, None);
    assert_eq!(outcome.as_ref().map(|_| ()).map_err(io::Error::kind), expected, "{outcome:?}");
    drop(outcome);
    assert_eq!(path.exists(), expected.is_err(), "what is its own is removed, what is another's stays");
    drop(held);
}

#[test]
fn only_a_socket_that_nobody_listens_at_is_replaced() {
    check_bind(|_| None, Ok(()));
    check_bind(|path| Some(UnixListener::bind(path).unwrap()), Err(ErrorKind::AddrInUse));
    check_bind(
        |path| {
            drop(UnixListener::bind(path).unwrap());
            None
        },
        Ok(()),
    );
    check_bind(
        |path| {
            std::fs::write(path, "precious").unwrap();
            None
        },
        Err(ErrorKind::AlreadyExists),
    );
}

#[test]
fn the_path_has_its_mode_and_another_superds_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/control.sock");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let private = ControlServer::bind(&path, None).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o755));
    std::fs::remove_file(&path).unwrap();
    let shared = ControlServer::bind(&path, Some(nix::unistd::getegid().as_raw())).unwrap();
    assert_eq!(mode(&path), 0o660);
    drop(private);
    assert!(path.exists());
    drop(shared);
    assert!(!path.exists());
}

#[test]
fn a_path_that_can_not_be_is_named() {
    let path = std::path::PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
    let error = ControlServer::bind(&path, None).unwrap_err().to_string();
    assert!(error.contains("xxx/") || error.contains("control socket /tmp/xxx"), "{error}");
}
