//! Who may come in: rules of a running superd, what its log says of them, and that `superctl explain` says the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use harness::{Client, Superd, needs_program, needs_root, until};
use serde_json::Value;

const HEAD: &str = "[service.a]\nlisten = [\"tcp:0\", \"unix:{dir}/a.sock\"]\nexec = [\"{probe}\", \"hello\"]\n\
                    {user}\nbanner = { refuse = \"no\\n\", busy = \"busy\\n\" }\nlimits = { per_source = 3 }\n";

fn superd(more: &str) -> Superd {
    Superd::with(&format!("{HEAD}{more}"))
}

/// Connects from this address, IPv4 or IPv6, to the listener of its family.
fn connect(superd: &Superd, local: &str) -> Client {
    let local: SocketAddr = format!("{local}:0").parse().unwrap();
    let socket =
        socket2::Socket::new(socket2::Domain::for_address(local), socket2::Type::STREAM, None).unwrap();
    socket.bind(&local.into()).unwrap();
    socket.connect(&address(superd, local.is_ipv4()).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    Client { stream }
}

fn address(superd: &Superd, v4: bool) -> SocketAddr {
    let listeners = superd.service("a")["listeners"].clone();
    let bound =
        listeners.as_array().unwrap().iter().filter_map(|l| l["bound"].as_str()?.parse::<SocketAddr>().ok());
    let mut address = bound.rev().find(|address| address.is_ipv4() == v4).unwrap();
    address.set_ip(if v4 { "127.0.0.1".parse().unwrap() } else { "::1".parse().unwrap() });
    address
}

#[track_caller]
fn told(superd: &Superd, local: &str) -> String {
    connect(superd, local).read_text()
}

/// `superd.toml:LINE` of a text in the configuration.
fn place(superd: &Superd, text: &str) -> String {
    let path = superd.dir().join("superd.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let line = config.lines().position(|line| line.contains(text)).unwrap() + 1;
    format!("{}:{line}", path.display())
}

/// A client from `local` is refused for this reason, by what stands where `text` does.
#[track_caller]
fn check_refused(superd: &Superd, local: &str, reason: &str, text: &str) {
    let client = connect(superd, local);
    let port = client.address();
    let mut client = client;
    assert_eq!(client.read_text(), "no\n", "{local}");
    let line = superd.expect_log(&format!("refuse a client={port} "));
    let rule = place(superd, text);
    assert!(line.contains(&format!("reason={reason} rule={rule}")), "{line}: {rule}");
}

#[test]
fn short_rules_say_who_and_why() {
    let users = format!("users = [\"uid:4294967294\", \"{}\"]\n", me());
    let superd = superd(&format!("deny = [\"127.0.0.2\", \"::1\"]\nallow = [\"127.0.0.0/29\"]\n{users}"));
    assert_eq!(told(&superd, "127.0.0.3"), "hello\n");
    check_refused(&superd, "127.0.0.2", "address", "deny =");
    check_refused(&superd, "[::1]", "address", "deny =");
    check_refused(&superd, "127.0.0.9", "address", "allow =");
    // Whoever is refused costs no process.
    let counts = superd.until_service("a", "through", |service| service["sessions"] == 0);
    assert_eq!((&counts["refused"]["address"], &counts["started"]), (&3.into(), &1.into()), "{counts}");
}

/// The user that the tests run as, in the words of a rule.
fn me() -> String {
    format!("uid:{}", nix::unistd::geteuid())
}

#[test]
fn users_behind_loopback_and_unix_sockets() {
    needs_root!();
    let superd = superd("users = [\"uid:0\"]\n");
    let check = |user: &str, expected: &str| {
        let (port, path) = (address(&superd, true).port(), superd.dir().join("a.sock"));
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let tcp = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3");
        let unix =
            "socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or die $!; print <S>";
        let path = path.to_str().unwrap();
        let as_user = |words: &[&str]| {
            let who = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
            let output = Command::new("setpriv").args(who).args(words).current_dir("/").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(as_user(&["bash", "-c", &tcp]), expected, "{user} by tcp");
        assert_eq!(as_user(&["perl", "-MSocket", "-e", unix, path]), expected, "{user} by unix");
        let explained =
            |client: &str| superd.superctl(&["explain", "a", client, "--user", user]).status.code();
        let code = Some(i32::from(expected != "hello\n"));
        assert_eq!((explained("127.0.0.1"), explained(&format!("uid:{user}"))), (code, code), "{user}");
    };
    needs_program!("setpriv", "perl", "bash");
    check("0", "hello\n");
    check("65534", "no\n");
    assert!(superd.expect_log("refuse a client=uid:65534 ").contains("reason=user"));
}

#[test]
fn a_refusal_without_a_banner_is_a_plain_end() {
    let config = HEAD.replace("banner = { refuse = \"no\\n\", busy = \"busy\\n\" }\n", "");
    let superd = Superd::with(&format!("{config}deny = [\"127.0.0.2\"]\n"));
    let mut client = connect(&superd, "127.0.0.2");
    let mut bytes = Vec::new();
    match client.stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(bytes, b"");
    assert_eq!(told(&superd, "127.0.0.3"), "hello\n");
}

#[test]
fn the_first_rule_that_matches_wins() {
    let rules = "otherwise = \"deny\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.2\"] # first\naction = \"deny\"\nbanner = \"go away\\n\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.3\"] # silent\naction = \"deny\"\nlog = false\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.4\"] # observe\naction = \"deny\"\nmode = \"observe\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.0/28\"] # allow\naction = \"allow\"\n";
    let superd = superd(rules);
    for (local, expected) in [
        ("127.0.0.2", "go away\n"),
        ("127.0.0.3", "no\n"),
        ("127.0.0.4", "hello\n"),
        ("127.0.0.5", "hello\n"),
        ("127.0.0.16", "no\n"),
    ] {
        assert_eq!(told(&superd, local), expected, "{local}");
    }
    superd.expect_log("observe a client=127.0.0.4:");
    check_refused(&superd, "127.0.0.17", "address", "otherwise =");
    superd.expect_log("refuse a client=127.0.0.2:");
    assert_eq!(superd.count_log("client=127.0.0.3:"), 0);
    assert_eq!(superd.service("a")["refused"]["address"], 4);
}

#[test]
fn limits_per_source_hold_beside_rules() {
    let config = format!("{HEAD}allow = [\"127.0.0.0/29\"]\n").replace("\"hello\"", "\"until-eof\"");
    let superd = Superd::with(&config);
    let mut served: Vec<Client> = (0..3).map(|_| connect(&superd, "127.0.0.2")).collect();
    for client in &mut served {
        client.read_pid();
    }
    assert_eq!(told(&superd, "127.0.0.2"), "busy\n");
    let explained = superd.superctl(&["explain", "a", "127.0.0.2"]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(1), "{text}");
    assert!(text.contains("of this source 3 of 3") && text.contains(": per_source"), "{text}");
    // Who is refused by a rule takes no place.
    assert_eq!(told(&superd, "127.0.0.9"), "no\n");
    assert_eq!(superd.service("a")["sessions"], 3);
    served.iter().for_each(Client::finish);
}

/// A day of the week that is not today, nor near it.
fn another_day() -> &'static str {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let today = (since.as_secs() / 86_400 + 3) % 7;
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    days[usize::try_from(today + 3).unwrap() % 7]
}

#[test]
fn explain_says_what_a_connection_finds() {
    let far = another_day();
    let rules = format!(
        "otherwise = \"deny\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.2\", \"@few\"]\naction = \"deny\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.8/30\"]\nhours = \"never\"\naction = \"deny\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.0/28\"]\nusers = [\"{}\"]\naction = \"allow\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.20\"]\nusers = [\"uid:4294967294\"]\naction = \"allow\"\n\
        [[service.a.rule]]\nfrom = [\"127.0.0.16/29\"]\nhours = \"always\"\naction = \"allow\"\n\
        [sets]\nfew = [\"127.0.0.4\", \"127.0.0.17\"]\n\
        [hours]\nalways = [\"00:00-24:00\"]\nnever = {{ times = [\"{far}\"], zone = \"UTC\" }}\n",
        me()
    );
    let superd = superd(&rules);
    let user = nix::unistd::geteuid().to_string();
    let config = superd.dir().join("superd.toml");
    let mut allowed = 0;
    for last in 1..=30 {
        let local = format!("127.0.0.{last}");
        let found = told(&superd, &local) == "hello\n";
        let online = superd.superctl(&["explain", "a", &local, "--user", &user, "--json"]);
        let offline = superd.superctl(&[
            "explain",
            "a",
            &local,
            "--user",
            &user,
            "--json",
            "--config",
            config.to_str().unwrap(),
        ]);
        let code = Some(i32::from(!found));
        assert_eq!((online.status.code(), offline.status.code()), (code, code), "{local}");
        let read =
            |output: &std::process::Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
        let (mut online, offline) = (read(&online), read(&offline));
        online.as_object_mut().unwrap().remove("now");
        assert_eq!(online, offline, "{local}");
        if !found {
            let line = superd.expect_log(&format!("refuse a client={local}:"));
            let rule = format!("{}:{}", online["rule"]["file"].as_str().unwrap(), online["rule"]["line"]);
            assert!(
                line.contains(&format!("reason={} rule={rule}", online["reason"].as_str().unwrap())),
                "{line} {online}"
            );
        }
        allowed += u32::from(found);
    }
    assert!((5..25).contains(&allowed), "{allowed}");
    superd.until_idle();
}

#[test]
fn explain_has_its_own_exit_statuses() {
    let superd = superd("allow = [\"127.0.0.0/8\", \".example.org\"]\n");
    let check = |words: &str, code: i32, part: &str| {
        let output = superd.superctl(&words.split(' ').collect::<Vec<_>>());
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words}: {text}");
        assert!(text.contains(part), "{words}: {text}");
    };
    check("explain a 127.0.0.1", 0, "127.0.0.1 at a: allowed");
    check("explain a ::ffff:127.0.0.1", 0, "127.0.0.1 at a: allowed");
    check("explain a 192.0.2.1", 1, "not told, and so unknown: the name");
    check("explain a 192.0.2.1 --name host.example.org", 0, "allow");
    check("explain a 192.0.2.1 --name unknown", 1, "refused by");
    check("explain b 192.0.2.1", 2, "no service `b`");
    check("explain a nonsense", 2, "is no client");
    check("explain a 192.0.2.1 --at 25:00", 2, "is no time");
    superd.superctl(&["ban", "127.0.0.7"]);
    check("explain a 127.0.0.7", 1, "127.0.0.7 is banned from every service");
    check("explain a 127.0.0.7 --at 03:00", 0, "allowed");
}

#[test]
fn the_end_of_hours_ends_sessions() {
    let far = another_day();
    let config = |times: &str, end: bool| {
        format!("{HEAD}hours = \"open\"\nend_sessions = {end}\n[hours]\nopen = {{ times = [\"{times}\"], zone = \"UTC\" }}\n")
            .replace("\"hello\"", "\"sleep\"")
    };
    let superd = Superd::with(&config("00:00-24:00", true));
    let mut client = connect(&superd, "127.0.0.2");
    client.read_pid();
    // The same hours end nobody.
    superd.reload_with(&config("00:00-24:00", true));
    assert_eq!(superd.service("a")["sessions"], 1);
    superd.reload_with(&config(far, true));
    let line = superd.expect_log("end a ");
    assert!(line.contains("cause=hours") && line.contains("signal=TERM"), "{line}");
    client.read_until_closed();
    check_refused(&superd, "127.0.0.2", "hours", "hours = \"open\"");
    superd.reload_with(&config("00:00-24:00", false));
    let mut client = connect(&superd, "127.0.0.2");
    client.read_pid();
    superd.reload_with(&config(far, false));
    check_refused(&superd, "127.0.0.3", "hours", "hours = \"open\"");
    assert_eq!(superd.service("a")["sessions"], 1);
}

#[test]
fn a_unix_client_has_no_address() {
    let superd = superd("allow = [\"127.0.0.0/8\"]\n");
    let mut stream = UnixStream::connect(superd.dir().join("a.sock")).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "no\n");
    superd.reload_with(&format!("{HEAD}allow = [\"unix\"]\n"));
    until("the new rules", || {
        let mut text = String::new();
        UnixStream::connect(superd.dir().join("a.sock")).unwrap().read_to_string(&mut text).unwrap();
        (text == "hello\n").then_some(())
    });
    assert_eq!(told(&superd, "127.0.0.1"), "no\n");
}
