//! Socket options that show: a client that vanished gives its slot back, and what lingers at the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::world::own_network;
use harness::{Client, Link, Superd, needs_program, needs_root};
use serde_json::json;
use socket2::{Domain, Socket, Type};

/// One slot, which the client of a link has when the link fails; then another client needs it.
#[track_caller]
fn check_slot(exec: &str, option: &str) {
    own_network();
    let link = Link::make("va", "fa", 2);
    let config = format!(
        "[daemon]\nshutdown_grace = \"300ms\"\n[service.x]\nlisten = \"tcp:192.0.2.1:7079\"\nexec = {exec}\n\
         {{user}}\nlimits = {{ connections = 1 }}\nsocket = {{ {option} }}\n"
    );
    let superd = Superd::with(&config);
    let at: SocketAddr = "192.0.2.1:7079".parse().unwrap();
    let mut gone = link.at_far_end(|| Client::connect(at).stream);
    gone.read_exact(&mut [0; 4]).unwrap();
    let mut next = Client::connect(at);
    superd.until_service("x", "paused", |service| service["state"] == "paused");
    link.deafen();
    // Its end, after some seconds, lets the next one in; nothing else would within the test's time.
    next.stream.read_exact(&mut [0; 4]).unwrap();
    superd.until_service("x", "served twice", |service| service["started"] == 2);
}

#[test]
fn keepalive_ends_a_silent_session() {
    needs_root!();
    needs_program!("ip");
    let option = "keepalive = { idle = \"1s\", interval = \"1s\", count = 2 }";
    check_slot("[\"{probe}\", \"until-eof\"]", option);
}

#[test]
fn user_timeout_ends_a_session_that_sends() {
    needs_root!();
    needs_program!("ip");
    check_slot("[\"/bin/cat\", \"/dev/zero\"]", "user_timeout = \"2s\"");
}

const LENGTH: usize = 100_000;

/// A program that writes more than its client takes, and closes the connection before it ends.
fn lingering(linger: &str) -> Superd {
    let script = format!("head -c {LENGTH} /dev/zero; exec <&- >&- 2>&-; exit 0");
    Superd::with(&format!(
        "[service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n{{user}}\n\
         socket = {{ send_buffer = \"200KiB\"{linger} }}\n"
    ))
}

/// A client with little room.
fn small_client(superd: &Superd) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&superd.address("x").into()).unwrap();
    socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    superd.expect_log("start x");
    socket.into()
}

#[test]
fn without_linger_the_program_ends_and_the_rest_arrives() {
    let superd = lingering("");
    let mut client = small_client(&superd);
    superd.until_idle();
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), LENGTH);
}

#[test]
fn a_linger_of_nothing_resets() {
    let superd = lingering(", linger = \"0s\"");
    let mut client = small_client(&superd);
    superd.until_idle();
    let error = client.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_linger_holds_the_program_until_the_rest_has_arrived() {
    let superd = lingering(", linger = \"15s\"");
    let mut client = small_client(&superd);
    // Without it the program is gone by now.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(superd.service("x")["sessions"], json!(1));
    assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), LENGTH);
    superd.until_idle();
    let line = superd.expect_log("end x");
    let duration = line.split_once("duration=").unwrap().1.split(' ').next().unwrap();
    assert!(duration.parse::<f64>().unwrap() < 10.0, "{line}");
}
