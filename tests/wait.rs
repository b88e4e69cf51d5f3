//! Servers that wait: each is given its listener, and gives it back as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::{Asker, Superd, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

fn waiting(listen: &str, part: &str) -> String {
    let words: Vec<String> = part.split(' ').map(|word| format!("\"{word}\"")).collect();
    let words = words.join(", ");
    format!(
        "[daemon]\nshutdown_grace = \"300ms\"\n[service.x]\nlisten = \"{listen}\"\n\
         exec = [\"{{waiter}}\", {words}]\nwait = true\n{{user}}\n"
    )
}

const UDP: &str = "udp4:127.0.0.1:0";

#[test]
fn a_datagram_starts_a_server_and_another_the_next() {
    let superd = Superd::with(&waiting(UDP, "datagrams 1"));
    let asker = Asker::of(superd.address("x"));
    let pids: Vec<i32> = (0..5).map(|n| asker.ask(&format!("question {n}"))).collect();
    assert!(pids.windows(2).all(|two| two[0] != two[1]), "{pids:?}");
    superd.until_idle();
    assert_eq!(superd.service("x")["started"], 5);
    assert!(!superd.expect_log("start x").contains("client="));
}

#[test]
fn a_server_serves_all_that_it_wants() {
    let superd = Superd::with(&waiting(UDP, "datagrams 3"));
    let asker = Asker::of(superd.address("x"));
    let pids: Vec<i32> = (0..6).map(|n| asker.ask(&format!("question {n}"))).collect();
    assert_eq!((pids[0], pids[3]), (pids[2], pids[5]));
    assert_ne!(pids[0], pids[3]);
}

#[test]
fn datagrams_that_queue_are_all_served() {
    let superd = Superd::with(&waiting(UDP, "datagrams 1"));
    let asker = Asker::of(superd.address("x"));
    for _ in 0..20 {
        asker.send("same");
    }
    let mut pids: Vec<i32> = (0..20).map(|_| asker.hear("same")).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 20);
}

/// The server's pid, from what `waiter accept` says to a client.
#[track_caller]
fn pid_of_line(stream: impl Read) -> i32 {
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).unwrap();
    let (pid, name) = text.trim().split_once(' ').unwrap();
    assert_eq!(name, "x");
    pid.parse().unwrap()
}

/// Two clients to a server: the third finds another one.
fn check_stream(connect: impl Fn() -> i32) {
    let pids = [connect(), connect(), connect(), connect()];
    assert_eq!((pids[0], pids[2]), (pids[1], pids[3]));
    assert_ne!(pids[0], pids[2]);
}

#[test]
fn a_stream_server_finds_its_listener() {
    let superd = Superd::with(&waiting("tcp4:127.0.0.1:0", "accept 2"));
    let address = superd.address("x");
    check_stream(|| pid_of_line(TcpStream::connect(address).unwrap()));
    let superd = Superd::with(&waiting("unix:{dir}/x.sock", "accept 2"));
    let path = superd.dir().join("x.sock");
    check_stream(|| pid_of_line(UnixStream::connect(&path).unwrap()));
}

#[test]
fn datagrams_of_unix_clients_are_served() {
    let superd = Superd::with(&waiting("unix-dgram:{dir}/x.sock", "datagrams 2"));
    let asker = Asker::at(&superd.dir().join("x.sock"), &superd.dir().join("own.sock"));
    let pids: Vec<i32> = (0..4).map(|n| asker.ask(&format!("question {n}"))).collect();
    assert_eq!((pids[0], pids[2]), (pids[1], pids[3]));
    assert_ne!(pids[0], pids[2]);
}

#[test]
fn both_families_have_a_server_each() {
    let superd = Superd::with(&waiting("udp:0", "datagrams 2"));
    let service = superd.service("x");
    let bound = |family: &str| {
        let listeners = service["listeners"].as_array().unwrap();
        let bound = listeners.iter().filter_map(|listener| listener["bound"].as_str());
        bound.filter_map(|at| at.strip_prefix(family)).map(|port| port.parse().unwrap()).next()
    };
    let (four, six): (Option<u16>, Option<u16>) = (bound("0.0.0.0:"), bound("[::]:"));
    let (Some(four), Some(six)) = (four, six) else { return harness::skipped("IPv6") };
    let four = Asker::of(([127, 0, 0, 1], four).into());
    let six = Asker::of((std::net::Ipv6Addr::LOCALHOST, six).into());
    let first = (four.ask("four"), six.ask("six"));
    assert_ne!(first.0, first.1);
    assert_eq!(superd.service("x")["sessions"], 2);
    assert_eq!((four.ask("four"), six.ask("six")), first);
}

/// Waits until superd stands still, then for as long as a spin would be seen.
#[track_caller]
fn check_still(superd: &Superd) {
    let switches = || processes::status_number(superd.pid(), "voluntary_ctxt_switches").unwrap();
    let mut before = switches();
    until("superd to settle", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = switches();
        std::mem::replace(&mut before, now).eq(&now).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(), before);
}

#[test]
fn a_server_that_takes_nothing_costs_nothing() {
    let superd = Superd::with(&waiting(UDP, "hold"));
    let asker = Asker::of(superd.address("x"));
    for _ in 0..10 {
        asker.send("never read");
    }
    superd.expect_log("start x");
    check_still(&superd);
    let superd = Superd::with(&waiting("tcp4:127.0.0.1:0", "hold"));
    let _clients = [superd.connect("x"), superd.connect("x")];
    superd.expect_log("start x");
    check_still(&superd);
    assert_eq!(superd.service("x")["started"], 1);
}

#[test]
fn two_thousand_datagrams_have_a_server_each() {
    const COUNT: usize = 2000;
    // The kernel's queue holds about 250 small ones.
    const AHEAD: usize = 100;
    let superd = Superd::with(&waiting(UDP, "datagrams 1"));
    let asker = Asker::of(superd.address("x"));
    let mut pids = Vec::new();
    for sent in 0..COUNT {
        asker.send("same");
        if sent >= AHEAD {
            pids.push(asker.hear("same"));
        }
    }
    pids.extend((0..AHEAD).map(|_| asker.hear("same")));
    superd.until_idle();
    assert_eq!(superd.service("x")["started"], COUNT);
    assert_eq!(pids.len(), COUNT);
    assert!(pids.windows(2).all(|two| two[0] != two[1]));
}

#[test]
fn a_killed_server_leaves_what_is_queued() {
    let superd = Superd::with(&waiting(UDP, "datagrams 9"));
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("hold");
    for n in 0..9 {
        asker.send(&format!("question {n}"));
    }
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    for n in 0..9 {
        assert_ne!(asker.hear(&format!("question {n}")), pid);
    }
    superd.expect_log("signal=KILL");
}

#[test]
fn a_server_has_its_time() {
    let config = format!("{}timeout = {{ session = \"200ms\" }}\n", waiting(UDP, "datagrams 9"));
    let superd = Superd::with(&config);
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("hold");
    let line = superd.expect_log("end x");
    assert!(line.contains("cause=timeout") && line.contains("signal=TERM"), "{line}");
    assert_ne!(asker.ask("hold"), pid);
}

#[test]
fn a_server_that_does_not_serve_is_backed_off() {
    for part in ["exit", "fail"] {
        let superd = Superd::with(&waiting(UDP, part));
        let asker = Asker::of(superd.address("x"));
        asker.send("never read");
        superd.expect_log("paused x reason=backoff");
        let service = superd.until_service("x", "three tries", |s| s["started"].as_u64() >= Some(3));
        assert!(service["retry_in"].as_f64().is_none_or(|wait| wait < 31.0), "{service}");
        // 0.1, 0.2, 0.4 s: three starts take so long, and a hundred would be a spin.
        assert!(superd.service("x")["started"].as_u64() < Some(10));
        assert_eq!(superd.count_log("paused x"), 1);
    }
}

#[test]
fn what_a_server_does_to_its_socket_is_undone() {
    for what in ["nonblock", "async", "option", "shutdown", "shutdown-read", "connect"] {
        let superd = Superd::with(&waiting(UDP, &format!("spoil {what}")));
        let options = || superd.ask(&json!({ "v": 1, "do": "socket", "service": "x" }));
        let before = options()["socket"][0]["options"].clone();
        for round in 0..3 {
            let asker = Asker::of(superd.address("x"));
            asker.ask(&format!("{what} {round}"));
            superd.until_idle();
        }
        assert_eq!(options()["socket"][0]["options"], before, "{what}");
        assert_eq!(superd.service("x")["state"], "online", "{what}");
    }
}

#[test]
fn what_a_server_does_to_its_listener_is_undone() {
    for listen in ["tcp4:127.0.0.1:0", "unix:{dir}/x.sock"] {
        for what in ["nonblock", "async", "option", "shutdown", "shutdown-read"] {
            let superd = Superd::with(&waiting(listen, &format!("spoil-stream {what}")));
            let options = || {
                let answer = superd.ask(&json!({ "v": 1, "do": "socket", "service": "x" }));
                answer["socket"][0]["options"].clone()
            };
            let before = options();
            for _ in 0..3 {
                let path = superd.dir().join("x.sock");
                if listen.starts_with("unix") {
                    pid_of_line(UnixStream::connect(path).unwrap());
                } else {
                    pid_of_line(superd.connect("x").stream);
                }
                superd.until_idle();
            }
            assert_eq!(options(), before, "{listen} {what}");
            assert_eq!(superd.service("x")["state"], "online", "{listen} {what}");
        }
    }
}

#[test]
fn an_answer_outlives_a_client_that_was_not_read() {
    let service = "[service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\ntimeout = { drain = \"2s\" }\n";
    let superd = Superd::with(service);
    for _ in 0..20 {
        let mut client = superd.connect("x");
        client.write(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.read_text(), "hello\n");
        drop(client);
    }
    superd.until_idle();
    until("all descriptors to be closed", || (superd.status()["fds"].as_u64()? < 40).then_some(()));
}
