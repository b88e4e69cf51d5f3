//! Rates and load: of a whole service clients wait until there is room, a source beyond its own is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use harness::{Asker, Client, Superd, needs_root, until, world};

const MOMENT: Duration = Duration::from_millis(100);

fn hello(limits: &str) -> String {
    format!(
        "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"hello\"]\n{{user}}\n\
         limits = {{ {limits} }}\nbanner = {{ busy = \"busy\\n\" }}\n"
    )
}

fn connect_from(local: &str, remote: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{local}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&remote.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    Client { stream }
}

#[test]
fn clients_beyond_a_rate_wait_for_their_turn() {
    let superd = Superd::with(&hello("rate = \"5/s burst 1\""));
    let start = Instant::now();
    let mut clients: Vec<Client> = (0..6).map(|_| superd.connect("hello")).collect();
    for client in &mut clients {
        assert_eq!(client.read_text(), "hello\n");
    }
    // One at once, then one every 200 ms.
    assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    superd.expect_log("paused hello reason=rate");
    superd.expect_log("resumed hello");
    assert_eq!(superd.count_log("refuse"), 0);
    assert_eq!(superd.service("hello")["started"], 6);
}

#[test]
fn a_rate_is_counted_on_over_a_reload() {
    let config = hello("rate = \"1/h burst 2\"");
    let superd = Superd::with(&config);
    for _ in 0..2 {
        assert_eq!(superd.connect("hello").read_text(), "hello\n");
    }
    let state = superd.until_service("hello", "paused", |service| service["state"] == "paused");
    assert_eq!(state["reason"], "rate");
    assert!(state["retry_in"].as_f64().is_some_and(|wait| wait > 3000.0), "{state}");
    let mut third = superd.connect("hello");
    superd.reload_with(&config.replace("busy\\n", "later\\n"));
    assert!(third.is_silent(MOMENT));
    superd.reload_with(&hello("rate = \"1/h burst 3\""));
    assert_eq!(third.read_text(), "hello\n");
    // What is owed to a slow rate is no more than a burst of the fast one.
    let mut more: Vec<Client> = (0..3).map(|_| superd.connect("hello")).collect();
    superd.reload_with(&hello("rate = \"5/s\""));
    for client in &mut more {
        assert_eq!(client.read_text(), "hello\n");
    }
}

#[test]
fn a_rate_may_close_instead() {
    let superd = Superd::with(&hello("rate = \"1/h\", on_limit = \"close\""));
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    assert_eq!(superd.connect("hello").read_text(), "busy\n");
    superd.expect_log("reason=rate ");
    assert_eq!(superd.service("hello")["refused"]["rate"], 1);
}

#[test]
fn a_source_beyond_its_rate_is_refused_and_others_are_not() {
    let superd = Superd::with(&hello("rate_per_source = \"1/h burst 2\", rate = \"1/h burst 4\""));
    for expected in ["hello\n", "hello\n", "busy\n", "busy\n", "busy\n"] {
        assert_eq!(superd.connect("hello").read_text(), expected);
    }
    // What was refused has taken nothing of the service's own rate.
    for local in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(connect_from(local, superd.address("hello")).read_text(), "hello\n");
    }
    superd.expect_log("reason=rate_per_source");
    assert_eq!(superd.service("hello")["refused"]["rate_per_source"], 3);
}

#[test]
fn a_server_that_waits_is_not_started_beyond_a_rate() {
    let config = "[service.x]\nlisten = \"udp4:127.0.0.1:0\"\nexec = [\"{waiter}\", \"datagrams\", \"1\"]\n\
                  wait = true\n{user}\nlimits = { rate = \"1/h burst 2\" }\n";
    let superd = Superd::with(config);
    let asker = Asker::of(superd.address("x"));
    let first = asker.ask("one");
    assert_ne!(asker.ask("two"), first);
    asker.send("three");
    superd.until_service("x", "paused", |x| x["reason"] == "rate" && x["started"] == 2);
    superd.until_idle();
    assert_eq!(superd.service("x")["started"], 2);
}

#[test]
fn a_loaded_machine_lets_clients_wait() {
    needs_root!();
    world::own_mounts();
    let folder = tempfile::tempdir().unwrap();
    let load = folder.path().join("loadavg");
    std::fs::write(&load, "8.00 4.00 2.00 9/999 4711\n").unwrap();
    world::run(&["mount", "--bind", load.to_str().unwrap(), "/proc/loadavg"]);
    let superd = Superd::with(&hello("load = 8"));
    let mut client = superd.connect("hello");
    let state = superd.until_service("hello", "paused", |service| service["state"] == "paused");
    assert_eq!(state["reason"], "load");
    assert!(client.is_silent(MOMENT));
    std::fs::write(&load, "7.99 4.00 2.00 9/999 4711\n").unwrap();
    assert_eq!(client.read_text(), "hello\n");
    superd.expect_log("paused hello reason=load");
    until("the state", || (superd.service("hello")["state"] == "online").then_some(()));
}
