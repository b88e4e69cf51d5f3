//! The decoy: whoever makes a connection to it is refused by every service for a while.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, TcpStream};

use harness::{Client, Superd, is_root, until};

fn config(more: &str, decoy: &str) -> String {
    let helper = if is_root() { "helper_user = \"nobody\"\n" } else { "" };
    format!(
        "[daemon]\n{helper}{more}\n[service.decoy]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"sensor\"\n{decoy}\n\
         [service.mux]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"tcpmux\"\n\
         [service.time]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"time\"\n"
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

/// What a client from this address is told by a service, and how much it is.
#[track_caller]
fn length(superd: &Superd, service: &str, local: &str) -> usize {
    connect_from(local, superd.address(service)).read_until_closed().len()
}

#[test]
fn whoever_comes_is_banned_from_all() {
    let superd = Superd::with(&config("", "ban = { for = \"2h\" }"));
    assert_eq!(length(&superd, "time", "127.0.0.2"), 4);
    assert_eq!(length(&superd, "decoy", "127.0.0.2"), 0);
    assert!(superd.expect_log("ban ").ends_with("source=127.0.0.2 cause=sensor for=7200.000"));
    assert_eq!(length(&superd, "time", "127.0.0.2"), 0);
    assert_eq!(length(&superd, "decoy", "127.0.0.2"), 0);
    assert_eq!(length(&superd, "time", "127.0.0.3"), 4);
    until("the refusals", || (superd.service("decoy")["refused"]["ban"] == 1).then_some(()));
    assert_eq!(superd.count_log("cause=sensor"), 1);
    assert!(superd.superctl(&["unban", "127.0.0.2"]).status.success());
    assert_eq!(length(&superd, "time", "127.0.0.2"), 4);
}

#[test]
fn those_who_are_never_banned_are_not() {
    let superd = Superd::with(&config("never_ban = [\"127.0.0.2\"]", "ban = { never = [\"127.0.0.3\"] }"));
    for local in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(length(&superd, "decoy", local), 0);
        assert_eq!(length(&superd, "time", local), 4);
    }
    assert_eq!(superd.count_log("cause=sensor"), 0);
}

/// Nor is who its rules refuse; and the defaults' patience is not the decoy's.
#[test]
fn its_own_rules_and_patience_hold() {
    let defaults = "[defaults]\nban = { after = 20, within = \"1min\" }\n";
    let superd = Superd::with(&(config("", "deny = [\"127.0.0.2\"]") + defaults));
    assert_eq!(length(&superd, "decoy", "127.0.0.2"), 0);
    assert_eq!(length(&superd, "time", "127.0.0.2"), 4);
    assert_eq!(length(&superd, "decoy", "127.0.0.3"), 0);
    assert_eq!(length(&superd, "time", "127.0.0.3"), 0);
    superd.reload_with(&(config("", "ban = { after = 2 }") + defaults));
    for expected in [4, 0] {
        assert_eq!(length(&superd, "decoy", "127.0.0.4"), 0);
        assert_eq!(length(&superd, "time", "127.0.0.4"), expected);
    }
}

#[test]
fn behind_tcpmux_it_is_one_too() {
    let listens =
        ["tcp4:127.0.0.1:0", "tcpmux:telnet"].map(|listen| format!("\"{listen}\"\nbuiltin = \"sensor\""));
    let superd = Superd::with(&config("", "").replace(&listens[0], &listens[1]));
    let mut client = connect_from("127.0.0.2", superd.address("mux"));
    client.write(b"telnet\r\n");
    assert_eq!(client.read_until_closed(), b"+Go\r\n");
    assert_eq!(length(&superd, "time", "127.0.0.2"), 0);
    assert_eq!(length(&superd, "mux", "127.0.0.2"), 0);
}
