//! hosts.allow and hosts.deny, asked by a running superd: who is let in, by address, name, user and netgroup, and
//! what a reload makes of changed files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::dns::{NameServer, Record, Says, own_resolver, pointer};
use harness::world::{own_mounts, own_network, run};
use harness::{Client, Superd, needs_root, until};
use nix::sys::signal::Signal;
use serde_json::json;

/// A service whose daemon is called `in.testd`, and two that superd serves itself.
const SERVICES: &str = "
[defaults]
hosts_access = { allow = \"{dir}/hosts.allow\", deny = \"{dir}/hosts.deny\" }
[service.a]
listen = \"tcp4:127.0.0.1:0\"
exec = [\"{probe}\", \"hello\"]
argv0 = \"/usr/sbin/in.testd\"
{user}
[service.b]
listen = \"tcp4:127.0.0.1:0\"
exec = [\"{probe}\", \"hello\"]
{user}
[service.day]
listen = \"tcp4:127.0.0.1:0\"
builtin = \"daytime\"
";

/// superd with both files in its folder.
#[track_caller]
fn start(allow: &str, deny: &str) -> Superd {
    let superd =
        Superd::with("[service.a]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n");
    write(&superd, allow, deny);
    superd.reload_with(SERVICES);
    superd
}

fn write(superd: &Superd, allow: &str, deny: &str) {
    let dir = superd.dir().display().to_string();
    for (name, text) in [("hosts.allow", allow), ("hosts.deny", deny)] {
        fs::write(superd.dir().join(name), text.replace("{dir}", &dir)).unwrap();
    }
}

/// Other files, by a reload.
#[track_caller]
fn change(superd: &Superd, allow: &str, deny: &str) {
    write(superd, allow, deny);
    superd.reload().unwrap_or_else(|errors| panic!("{allow}{deny}{}", errors.join("\n")));
}

/// Is a client from there served?
#[track_caller]
fn is_served(superd: &Superd, service: &str, from: &str) -> bool {
    let mut client = Client::connect_from(superd.address(service), ip(from));
    !client.read_until_closed().is_empty()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let superd = start("", "");
    for (allow, deny, from, served) in [
        ("", "", "127.0.0.1", true),
        ("", "ALL: ALL\n", "127.0.0.1", false),
        ("ALL: 127.0.0.1\n", "ALL: ALL\n", "127.0.0.1", true),
        ("ALL: 127.0.0.1\n", "ALL: ALL\n", "127.0.0.2", false),
        ("", "ALL: 127.0.0.0/255.255.255.0\n", "127.0.0.9", false),
        ("", "ALL: 127.0.0.0/24 EXCEPT 127.0.0.9\n", "127.0.0.9", true),
        ("ALL: 127.0. EXCEPT 127.0.0.9\n", "ALL: ALL\n", "127.0.0.9", false),
        ("ALL: ALL: deny\n", "", "127.0.0.1", false),
        ("", "ALL: ALL: allow\n", "127.0.0.1", true),
        ("in.testd: ALL\n", "ALL: ALL\n", "127.0.0.1", true),
        ("in.testd: 127.0.0.1\nALL: ALL: deny\n", "", "127.0.0.2", false),
        ("testd a: ALL\n", "ALL: ALL\n", "127.0.0.1", false),
        ("a probe: ALL\n", "ALL: ALL\n", "127.0.0.1", false),
        ("ALL EXCEPT in.testd: ALL\n", "ALL: ALL\n", "127.0.0.1", false),
        ("in.testd@127.0.0.1: ALL\n", "ALL: ALL\n", "127.0.0.2", true),
        ("in.testd@127.0.0.2: ALL\n", "ALL: ALL\n", "127.0.0.2", false),
        ("ALL: {dir}/list\n", "ALL: ALL\n", "127.0.0.7", true),
        ("ALL: {dir}/list\n", "ALL: ALL\n", "127.0.0.8", false),
    ] {
        fs::write(superd.dir().join("list"), "127.0.0.7\n").unwrap();
        change(&superd, allow, deny);
        assert_eq!(is_served(&superd, "a", from), served, "{allow}{deny}{from}");
    }
}

/// The name of the program, else the service's.
#[test]
fn a_daemon_has_the_name_of_its_program() {
    let superd = start("", "");
    for (name, served) in [("in.testd", "a"), ("probe", "b"), ("day", "day")] {
        change(&superd, &format!("{name}: ALL\n"), "ALL: ALL\n");
        for service in ["a", "b", "day"] {
            assert_eq!(is_served(&superd, service, "127.0.0.1"), service == served, "{name} {service}");
        }
    }
}

#[test]
fn a_refusal_names_its_rule() {
    let superd = start("ALL: 127.0.0.2\n", "# Nobody\n\nALL: ALL\n");
    let mut client = Client::connect_from(superd.address("a"), ip("127.0.0.1"));
    client.read_until_closed();
    let line = superd.expect_log(&format!("refuse a client={}", client.address()));
    let rule = superd.dir().join("hosts.deny").display().to_string();
    assert!(line.contains("reason=hosts_access"), "{line}");
    assert!(line.contains(&format!("rule={rule}:3")), "{line}");
    assert_eq!(superd.service("a")["refused"]["hosts_access"], json!(1));
}

#[test]
fn a_changed_file_holds_after_hup() {
    let superd = start("", "ALL: 127.0.0.2\n");
    assert!(!is_served(&superd, "a", "127.0.0.2"));
    write(&superd, "", "ALL: 127.0.0.3\n");
    assert!(!is_served(&superd, "a", "127.0.0.2"), "nobody has asked for a reload");
    superd.signal(Signal::SIGHUP);
    until("the new rules", || is_served(&superd, "a", "127.0.0.2").then_some(()));
    assert!(!is_served(&superd, "a", "127.0.0.3"));
}

#[test]
fn a_mistake_refuses_the_reload_and_the_old_rules_stay() {
    let superd = start("ALL: 127.0.0.1\n", "ALL: ALL\n");
    superd.allow_errors("result=refused");
    for (allow, deny, told) in [
        ("ALL: 127.0.0.1\n\nALL\n", "", "hosts.allow:3:"),
        ("", "ALL: ALL\nALL: 127.0.0.1 : alow\n", "hosts.deny:2:"),
        ("ALL: {dir}/nothing\n", "ALL: ALL\n", "hosts.allow:1:"),
        ("", "ALL: ALL: user superd-nobody\n", "hosts.deny:1:"),
        ("", "ALL: ALL: banners {dir}/bad\n", "in.testd"),
    ] {
        let bad = superd.dir().join("bad");
        fs::create_dir_all(&bad).unwrap();
        fs::write(bad.join("in.testd"), "100% \n").unwrap();
        write(&superd, allow, deny);
        let errors = superd.reload().unwrap_err().join("\n");
        assert!(errors.contains(told), "{told} is not in:\n{errors}");
        assert!(is_served(&superd, "a", "127.0.0.1") && !is_served(&superd, "a", "127.0.0.2"), "{told}");
    }
    fs::remove_file(superd.dir().join("hosts.deny")).unwrap();
    assert!(superd.reload().is_err(), "a file that is named must be there");
}

/// It has no address, no name and no ident server, and is not undecided for that.
#[test]
fn a_client_of_a_unix_socket_is_unknown() {
    let superd = start("", "");
    let at = superd.dir().join("socket");
    superd.reload_with(&SERVICES.replacen("tcp4:127.0.0.1:0", "unix:{dir}/socket", 1));
    for (allow, served) in [
        ("ALL: ALL\n", true),
        ("ALL: UNKNOWN\n", true),
        ("ALL: 127.\n", false),
        ("ALL: KNOWN\n", false),
        ("ALL: .example\nALL: ALL\n", true),
        ("ALL: .example: deny\nALL: ALL\n", true),
        ("ALL: root@ALL\n", false),
        ("ALL: UNKNOWN@ALL\n", true),
    ] {
        change(&superd, allow, "ALL: ALL\n");
        let stream = std::os::unix::net::UnixStream::connect(&at).unwrap();
        let text = std::io::read_to_string(stream).unwrap_or_default();
        assert_eq!(!text.is_empty(), served, "{allow}");
    }
}

/// 127.0.0.2 is pc.good.example; .3 says so, too; .4 has no name; the name server fails for .5.
fn script(name: &str, kind: &str) -> Says {
    let is = |text: &str| Says::Records(vec![Record::Address(ip(text))]);
    let named = |text: &str| Says::Records(vec![pointer(text)]);
    match (name, kind) {
        ("1.0.0.127.in-addr.arpa", _) => named("server.good.example"),
        ("2.0.0.127.in-addr.arpa" | "3.0.0.127.in-addr.arpa", _) => named("pc.good.example"),
        ("5.0.0.127.in-addr.arpa", _) => Says::ServerFails,
        ("server.good.example", "A") => is("127.0.0.1"),
        ("pc.good.example", "A") => is("127.0.0.2"),
        _ => Says::NoName,
    }
}

#[test]
fn names_are_those_that_lead_back() {
    needs_root!();
    own_network();
    own_mounts();
    let folder = tempfile::TempDir::new().unwrap();
    own_resolver(folder.path(), "options timeout:1 attempts:1", "192.0.2.1 other\n");
    let _server = NameServer::start(script);
    let superd = start("", "");
    let good = ["127.0.0.2"].as_slice();
    for (allow, served) in [
        ("ALL: .good.example\n", good),
        ("ALL: pc.good.example\n", good),
        ("ALL: KNOWN\n", good),
        ("ALL: PARANOID\n", &["127.0.0.3"]),
        ("ALL: UNKNOWN\n", &["127.0.0.4", "127.0.0.5"]),
        ("ALL: LOCAL\n", &[]),
        // Doubt never lets by.
        ("ALL: .good.example: deny\nALL: ALL\n", &["127.0.0.4"]),
        ("ALL: ALL EXCEPT .good.example\n", &["127.0.0.4"]),
        ("in.testd@server.good.example: 127.0.0.4\n", &["127.0.0.4"]),
        ("in.testd@other.good.example: 127.0.0.4\n", &[]),
    ] {
        change(&superd, allow, "ALL: ALL\n");
        for from in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"] {
            assert_eq!(is_served(&superd, "a", from), served.contains(&from), "{allow}{from}");
        }
    }
    let rule = superd.dir().join("hosts.allow").display().to_string();
    superd.expect_log(&format!("reason=undecided rule={rule}:1"));
}

/// An ident server at port 113 that says the same to everybody; the end of its network ends it.
fn ident_server(answer: &'static str) -> JoinHandle<()> {
    let listener = TcpListener::bind("127.0.0.1:113").unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            if line.starts_with('0') {
                return;
            }
            let _ = write!(stream, "{} : {answer}\r\n", line.trim_end());
        }
    })
}

fn end_ident_server(server: JoinHandle<()>) {
    let mut client = std::net::TcpStream::connect("127.0.0.1:113").unwrap();
    client.write_all(b"0\n").unwrap();
    server.join().unwrap();
}

#[test]
fn users_are_those_that_ident_servers_name() {
    needs_root!();
    own_network();
    let superd = start("", "");
    for (answer, allow, served) in [
        ("USERID : UNIX : joe", "ALL: joe@127.0.0.1\n", true),
        ("USERID : UNIX : joe", "ALL: jim@127.0.0.1\n", false),
        ("USERID : UNIX : joe", "ALL: joe@127.0.0.2\n", false),
        ("USERID : UNIX : joe", "ALL: KNOWN@ALL\n", true),
        ("ERROR : NO-USER", "ALL: KNOWN@ALL\n", false),
        ("ERROR : NO-USER", "ALL: UNKNOWN@ALL\n", true),
        ("ERROR : NO-USER", "ALL: joe@ALL: deny\nALL: ALL\n", true),
        ("nonsense", "ALL: joe@ALL: deny\nALL: ALL\n", false),
    ] {
        let server = ident_server(answer);
        change(&superd, allow, "ALL: ALL\n");
        assert_eq!(is_served(&superd, "a", "127.0.0.1"), served, "{answer} {allow}");
        end_ident_server(server);
    }
    // Nobody listens at port 113.
    change(&superd, "ALL: joe@ALL\n", "ALL: ALL\n");
    assert!(!is_served(&superd, "a", "127.0.0.1"));
}

#[test]
fn a_mute_ident_server_has_the_time_of_the_rule() {
    needs_root!();
    own_network();
    let _mute = TcpListener::bind("127.0.0.1:113").unwrap();
    let superd = start("ALL: ALL: rfc931 1: allow\n", "");
    let began = Instant::now();
    assert!(is_served(&superd, "a", "127.0.0.1"));
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn netgroups_are_those_of_the_system() {
    needs_root!();
    own_network();
    own_mounts();
    let folder = tempfile::TempDir::new().unwrap();
    let etc = folder.path().join("etc").display().to_string();
    run(&["cp", "-a", "/etc", &etc]);
    for (name, text) in [
        ("hosts", "127.0.0.1 pc.good.example\n127.0.0.2 other.example\n"),
        ("nsswitch.conf", "hosts: files\npasswd: files\ngroup: files\nnetgroup: files\n"),
        ("netgroup", "machines (PC.good.example,-,) (nowhere,-,)\nall machines\npeople (,joe,)\n"),
    ] {
        fs::write(format!("{etc}/{name}"), text).unwrap();
    }
    run(&["mount", "--bind", &etc, "/etc"]);
    let superd = start("", "");
    let server = ident_server("USERID : UNIX : joe");
    for (allow, served) in [
        ("ALL: @machines\n", &["127.0.0.1"][..]),
        ("ALL: @all\n", &["127.0.0.1"]),
        ("ALL: @Machines\n", &[]),
        ("ALL: @nothing\n", &[]),
        ("ALL: ALL EXCEPT @machines\n", &["127.0.0.2", "127.0.0.3"]),
        ("ALL: @people@127.0.0.1\n", &["127.0.0.1"]),
        ("ALL: @machines@ALL\n", &[]),
    ] {
        change(&superd, allow, "ALL: ALL\n");
        for from in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
            // No ident server is at the others.
            assert_eq!(is_served(&superd, "a", from), served.contains(&from), "{allow}{from}");
        }
    }
    end_ident_server(server);
}
