//! Rules by name, with a name server of the test's own: right, lying, slow and dead.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

use harness::dns::{NameServer, Record, Says, own_resolver, pointer, reverse};
use harness::world::{own_mounts, own_network};
use harness::{Client, Superd, needs_root, until};
use tempfile::TempDir;

const CONFIG: &str = "[daemon]\nhelper_user = \"nobody\"\n\
    [defaults]\nexec = [\"{probe}\", \"hello\"]\n{user}\nbanner = { refuse = \"no\\n\" }\n\
    [service.named]\nlisten = \"tcp4:127.0.0.1:4001\"\nallow = [\".example\"]\n\
    [service.plain]\nlisten = \"tcp4:127.0.0.1:4002\"\nallow = [\"127.0.0.0/8\", \".example\"]\n\
    [service.wary]\nlisten = \"tcp4:127.0.0.1:4003\"\ndeny = [\"paranoid\", \"unknown\"]\n";

/// A superd in a network whose name server has the script.
fn world(
    options: &str,
    script: impl Fn(&str, &str) -> Says + Send + 'static,
) -> (Superd, NameServer, TempDir) {
    own_network();
    own_mounts();
    let folder = TempDir::new().unwrap();
    own_resolver(folder.path(), options, "127.0.0.1 localhost\n");
    let server = NameServer::start(script);
    (Superd::with(CONFIG), server, folder)
}

fn connect(local: &str, port: u16) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{local}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    Client { stream }
}

#[track_caller]
fn check(local: &str, port: u16, expected: &str) {
    assert_eq!(connect(local, port).read_text(), expected, "{local} at {port}");
}

/// 127.0.1.1 has a name, 127.0.1.2 lies, 127.0.1.3 has none, of 127.0.1.4 the server itself says nothing good.
fn script(name: &str, kind: &str) -> Says {
    let of = |last: u8| reverse([127, 0, 1, last].into());
    let address = |last: u8| Says::Records(vec![Record::Address([127, 0, 1, last].into())]);
    match (name, kind) {
        (name, "PTR") if name == of(1) => Says::Records(vec![pointer("good.example")]),
        (name, "PTR") if name == of(2) => Says::Records(vec![pointer("liar.example")]),
        (name, "PTR") if name == of(3) => Says::NoName,
        (name, "PTR") if name == of(4) => Says::ServerFails,
        ("good.example", "A") => address(1),
        ("liar.example", "A") => address(9),
        ("good.example" | "liar.example", _) => Says::NoData,
        _ => Says::NoName,
    }
}

#[test]
fn only_a_confirmed_name_counts() {
    needs_root!();
    let (superd, _server, _folder) = world("options timeout:1 attempts:1", script);
    for (local, named, wary) in [
        ("127.0.1.1", "hello\n", "hello\n"),
        ("127.0.1.2", "no\n", "no\n"),
        ("127.0.1.3", "no\n", "no\n"),
        ("127.0.1.4", "no\n", "no\n"),
    ] {
        check(local, 4001, named);
        check(local, 4002, "hello\n");
        check(local, 4003, wary);
    }
    for (local, part) in
        [("127.0.1.2", "reason=name "), ("127.0.1.3", "reason=name "), ("127.0.1.4", "reason=undecided ")]
    {
        let line = superd.expect_log(&format!("refuse named client={local}:"));
        assert!(line.contains(part) && line.contains("naming="), "{line}");
    }
}

#[test]
fn a_dead_name_server_refuses_in_time_and_delays_nobody_else() {
    needs_root!();
    let (superd, _server, _folder) = world("options timeout:30 attempts:1", |_, _| Says::Nothing);
    let mut waiting: Vec<Client> = (0..16).map(|_| connect("127.0.2.1", 4001)).collect();
    until("all to wait", || (superd.status()["pending"] == 16).then_some(()));
    // The seventeenth of a source is told at once; others, and other services, notice nothing.
    check("127.0.2.1", 4001, "no\n");
    check("127.0.2.1", 4002, "hello\n");
    assert_eq!(superd.status()["pending"], 16);
    let mut other = connect("127.0.2.2", 4001);
    until("another one to wait", || (superd.status()["pending"] == 17).then_some(()));
    for client in waiting.iter_mut().chain([&mut other]) {
        let mut text = String::new();
        client.stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "no\n");
    }
    assert_eq!(superd.status()["pending"], 0);
    assert_eq!(superd.service("named")["refused"]["undecided"], 18);
    assert_eq!(superd.service("named")["started"], 0);
}

#[test]
fn a_slow_answer_is_waited_for() {
    needs_root!();
    let (superd, server, _folder) =
        world("options timeout:30 attempts:1", |name, kind| match script(name, kind) {
            Says::Records(records) if kind == "PTR" => Says::Held(records),
            says => says,
        });
    let mut client = connect("127.0.1.1", 4001);
    until("it to wait", || (superd.status()["pending"] == 1).then_some(()));
    check("127.0.1.1", 4002, "hello\n");
    server.release();
    assert_eq!(client.read_text(), "hello\n");
}

#[test]
fn a_resolver_that_keeps_dying_is_said_and_refuses_those_alone_who_need_it() {
    needs_root!();
    let (superd, _server, _folder) = world("options timeout:30 attempts:1", |_, _| Says::Nothing);
    superd.allow_errors("resolver");
    until("a degraded service", || {
        let resolver =
            superd.children().into_iter().find(|child| child.comm == "superd-resolver" && child.state != 'Z');
        if let Some(resolver) = resolver {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(resolver.pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let service = superd.service("named");
        (service["state"] == "degraded" && service["reason"] == "resolver").then_some(())
    });
    check("127.0.2.1", 4002, "hello\n");
    superd.until_service("named", "online", |service| service["state"] == "online");
}
