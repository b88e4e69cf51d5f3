//! Limits: the service's own queue or close, a source's always refuse that source; and what the kernel
//! runs out of is a state, not an end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::{Client, Start, Superd, needs_program, needs_root, until};

const MOMENT: Duration = Duration::from_millis(100);

/// A service whose sessions last until their client ends them.
fn held(limits: &str) -> String {
    format!(
        "[service.held]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"until-eof\"]\n{{user}}\n\
         limits = {{ {limits} }}\nbanner = {{ busy = \"busy\\n\" }}\n"
    )
}

fn running(superd: &Superd) -> Client {
    let mut client = superd.connect("held");
    client.read_pid();
    client
}

fn end(mut client: Client) {
    client.finish();
    assert_eq!(client.read_to_end(), b"bye\n");
}

#[test]
fn a_full_service_lets_clients_wait() {
    let superd = Superd::with(&held("connections = 2"));
    let (first, second) = (running(&superd), running(&superd));
    let mut third = superd.connect("held");
    superd.until_service("held", "paused", |service| service["state"] == "paused");
    assert_eq!(superd.service("held")["reason"], "connections");
    assert!(third.is_silent(MOMENT));
    superd.expect_log("paused held reason=connections");
    end(first);
    third.read_pid();
    end(second);
    end(third);
    superd.until_idle();
    superd.expect_log("resumed held");
    assert_eq!(superd.service("held")["state"], "online");
    assert_eq!(superd.service("held")["started"], 3);
    assert_eq!(superd.count_log("refuse"), 0);
}

#[test]
fn a_full_service_may_close_instead() {
    let superd = Superd::with(&held("connections = 1, on_limit = \"close\""));
    let first = running(&superd);
    let mut second = superd.connect("held");
    assert_eq!(second.read_text(), "busy\n");
    let line = superd.expect_log("refuse held");
    assert!(line.contains(&format!("client={}", second.address())), "{line}");
    assert!(line.contains("reason=connections"), "{line}");
    assert_eq!(superd.service("held")["refused"]["connections"], 1);
    end(first);
    superd.until_idle();
    end(running(&superd));
}

#[test]
fn a_source_at_its_limit_is_refused_and_others_are_not() {
    let superd = Superd::with(&held("per_source = 1"));
    let first = running(&superd);
    let mut second = superd.connect("held");
    assert_eq!(second.read_text(), "busy\n");
    let mut other = connect_from("127.0.0.2:0", superd.address("held"));
    other.read_pid();
    let line = superd.expect_log("refuse held");
    assert!(line.contains("reason=per_source") && line.contains("superd.toml:1"), "{line}");
    end(first);
    end(other);
    superd.until_idle();
    end(running(&superd));
}

fn connect_from(local: &str, remote: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&local.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&remote.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    Client { stream }
}

#[test]
fn a_flood_of_refusals_is_one_line_at_once() {
    let superd = Superd::with(&held("per_source = 1"));
    let first = running(&superd);
    for _ in 0..200 {
        superd.connect("held").read_until_closed();
    }
    until("200 refusals", || (superd.service("held")["refused"]["per_source"] == 200).then_some(()));
    assert_eq!(superd.count_log("refuse held"), 1);
    end(first);
}

#[test]
fn all_services_together_have_a_limit() {
    let other = held("connections = 5").replace("service.held", "service.other");
    let config = format!("[daemon]\nmax_sessions = 2\n{}{other}", held("connections = 5"));
    let superd = Superd::with(&config);
    let (first, mut second) = (running(&superd), superd.connect("other"));
    second.read_pid();
    let mut third = superd.connect("held");
    superd.until_service("held", "paused", |service| service["reason"] == "max_sessions");
    assert!(third.is_silent(MOMENT));
    end(second);
    third.read_pid();
    end(third);
    end(first);
}

#[test]
fn a_launch_that_fails_gives_its_place_back() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("gone");
    std::fs::copy("/bin/true", &program).unwrap();
    let config = held("connections = 2, per_source = 2");
    let config = config.replace("\"{probe}\", \"until-eof\"", &format!("\"{}\"", program.display()));
    let superd = Superd::with(&config);
    superd.allow_errors("launch-failed held");
    std::fs::remove_file(&program).unwrap();
    for count in 1..=50 {
        assert_eq!(superd.connect("held").read_until_closed(), b"");
        superd.until_idle();
        assert_eq!(superd.service("held")["launch_failed"], count, "{}", superd.service("held"));
    }
    assert_eq!(superd.service("held")["state"], "online");
}

#[test]
fn a_session_has_its_time() {
    let service = "[service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"MODE\"]\n{user}\n";
    let timeout = "timeout = { session = \"200ms\", kill_after = \"200ms\" }\n";
    for (mode, signal) in [("sleep", "signal=TERM"), ("ignore-term", "signal=KILL")] {
        let superd = Superd::with(&format!("{}{timeout}", service.replace("MODE", mode)));
        let mut client = superd.connect("x");
        client.read_pid();
        assert_eq!(client.read_until_closed(), b"");
        let line = superd.expect_log("end x");
        assert!(line.contains(signal) && line.contains("cause=timeout"), "{line}");
    }
}

#[test]
fn without_descriptors_superd_waits_and_says_so_once() {
    needs_program!("prlimit");
    let superd = Superd::with(&held("connections = 50"));
    superd.allow_errors("EMFILE");
    let first = running(&superd);
    until("its launch to be over", || (superd.status()["launches"] == 0).then_some(()));
    let (address, limits) = (superd.address("held"), superd_nofile(&superd));
    // What it has stays, and the lowest numbers are all taken. Not less: ppoll takes no more entries.
    set_nofile(&superd, 6, limits.1);
    let mut second = Client::connect(address);
    superd.expect_log("paused reason=EMFILE");
    assert!(second.is_silent(MOMENT));
    assert_eq!(superd.count_log("EMFILE"), 1);
    set_nofile(&superd, limits.0, limits.1);
    second.read_pid();
    end(second);
    end(first);
    superd.until_idle();
    superd.expect_log("resumed");
}

fn superd_nofile(superd: &Superd) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", superd.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn set_nofile(superd: &Superd, soft: u64, hard: u64) {
    let pid = superd.pid().to_string();
    harness::world::run(&["prlimit", "--pid", &pid, &format!("--nofile={soft}:{hard}")]);
}

/// What the kernel answers a few times to a call of superd's, before it goes on as ever.
#[track_caller]
fn check_fault(call: &str, error: &str, when: &str, logged: usize) {
    let inject = format!("inject={call}:error={error}:when={when}");
    // Without -f: what superd starts is not traced.
    let strace = ["strace", "-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject];
    let superd = Start::new(&held("connections = 5")).behind(&strace).below_wrapper().start();
    superd.allow_errors(error);
    for _ in 0..5 {
        let mut client = superd.connect("held");
        client.read_line();
        client.finish();
        client.read_until_closed();
    }
    superd.until_idle();
    assert_eq!(superd.count_log(error), logged, "{:?}", superd.log_lines());
    assert_eq!(superd.service("held")["state"], "online");
}

#[test]
fn accept_may_fail_for_a_while() {
    needs_root!();
    needs_program!("strace");
    check_fault("accept4", "ENFILE", "2..4", 1);
    check_fault("accept4", "ENOMEM", "2..4", 1);
    check_fault("accept4", "ECONNABORTED", "2..4", 0);
    check_fault("accept4", "EINTR", "2..4", 0);
}

#[test]
fn waiting_may_fail_for_a_while() {
    needs_root!();
    needs_program!("strace");
    check_fault("ppoll", "ENOMEM", "8..10", 1);
    check_fault("ppoll", "EINTR", "3+2", 0);
}

#[test]
fn making_a_child_may_fail_for_a_while() {
    needs_root!();
    needs_program!("strace");
    // Counted in each process: the launcher is the one that makes so many.
    let inject = ["-e", "trace=clone", "-e", "inject=clone:error=EAGAIN:when=3..5"];
    let strace = [["strace", "-f", "-q"].as_slice(), &["-o", "/dev/null"], &inject].concat();
    let superd = Start::new(&held("connections = 5")).behind(&strace).below_wrapper().start();
    superd.allow_errors("EAGAIN");
    let mut served = 0;
    until("clients to be served again", || {
        let mut client = superd.connect("held");
        client.finish();
        served += usize::from(client.read_until_closed().ends_with(b"bye\n"));
        (served == 3).then_some(())
    });
    superd.until_idle();
    assert!(superd.count_log("EAGAIN") >= 1, "{:?}", superd.log_lines());
    assert_eq!(superd.service("held")["sessions"], 0);
}
