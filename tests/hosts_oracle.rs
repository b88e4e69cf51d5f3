//! The same rules, put to tcpd and xinetd and to superd: they let the same clients in. What they do not agree on
//! is in docs/differences.md.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::world::{own_mounts, own_network, run};
use harness::{Client, Superd, needs_program, needs_root, until};

/// hosts.allow, hosts.deny; all of 127.0.0.1, .2 and .33 are asked for. 127.0.0.1 is `localhost`, .2 is
/// `two.example`, and .33 has no name.
const TABLES: [(&str, &str); 42] = [
    ("", ""),
    ("", "ALL: ALL\n"),
    ("ALL: ALL\n", "ALL: ALL\n"),
    ("echo: 127.0.0.1\n", "ALL: ALL\n"),
    ("ECHO: 127.0.0.1\n", "ALL: ALL\n"),
    ("cat: ALL\n", "ALL: ALL\n"),
    ("cat echo: 127.0.0.2\n", "ALL: ALL\n"),
    ("ALL EXCEPT echo: ALL\n", "ALL: ALL\n"),
    ("ALL EXCEPT cat: ALL\n", "ALL: ALL\n"),
    ("in.echo: ALL\n", "ALL: ALL\n"),
    (".cho: ALL\n", "ALL: ALL\n"),
    ("e*o: ALL\n", "ALL: ALL\n"),
    ("", "echo: 127.\n"),
    ("", "echo: 127.0.0.3\n"),
    ("", "echo: 127.0.0.0/255.255.255.224\n"),
    ("", "echo: 127.0.0.32/27\n"),
    ("", "ALL: ALL EXCEPT 127.0.0.2\n"),
    ("", "ALL: 127. EXCEPT 127.0.0.1 127.0.0.33\n"),
    ("", "ALL: 127. EXCEPT 127.0.0. EXCEPT 127.0.0.2\n"),
    ("", "ALL: 127.0.0.?\n"),
    ("", "ALL: 127.0.0.*3\n"),
    ("", "ALL: [::1]\n"),
    ("ALL: two.example\n", "ALL: ALL\n"),
    ("ALL: .example\n", "ALL: ALL\n"),
    ("ALL: TWO.*\n", "ALL: ALL\n"),
    ("ALL: KNOWN\n", "ALL: ALL\n"),
    ("ALL: UNKNOWN\n", "ALL: ALL\n"),
    ("ALL: LOCAL\n", "ALL: ALL\n"),
    ("", "ALL: PARANOID\n"),
    ("ALL: 127.0.0.1: deny\n", "ALL: 127.0.0.2: allow\nALL: ALL\n"),
    ("ALL: 127.0.0.2: severity info: deny\nALL: ALL: allow\n", ""),
    ("echo@127.0.0.1: ALL\n", "ALL: ALL\n"),
    ("echo@127.0.0.2: ALL\n", "ALL: ALL\n"),
    ("echo@localhost: 127.0.0.33\n", "ALL: ALL\n"),
    ("ALL: /etc/hosts.list\n", "ALL: ALL\n"),
    ("ALL: ALL EXCEPT /etc/hosts.list\n", "ALL: ALL\n"),
    ("ALL: 127.0.0.1,127.0.0.2\t,\n", "ALL: ALL\n"),
    ("ALL: 127.0.0.\\\n1\n", "ALL: ALL\n"),
    ("# ALL: ALL\n\nALL: 127.0.0.33\n", "ALL: ALL\n"),
    ("ALL: nobody@ALL\n", "ALL: ALL\n"),
    ("ALL: UNKNOWN@127.0.0.2\n", "ALL: ALL\n"),
    ("ALL: ALL: twist /bin/echo hello\n", "ALL: ALL\n"),
];

const CLIENTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.33"];

#[test]
fn tcpd_lets_the_same_clients_in() {
    needs_root!();
    needs_program!("tcpd");
    own_network();
    own_mounts();
    let folder = tempfile::TempDir::new().unwrap();
    let etc = own_etc(folder.path(), "etc", "", "");
    run(&["mount", "--bind", &etc, "/etc"]);
    let superd = Superd::with(
        "[service.a]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"/bin/echo\", \"hello\"]\n{user}\nhosts_access = true\n",
    );
    // Each refusal takes tcpd five seconds: all are asked at once, each with files of its own.
    let asked: Vec<_> = TABLES
        .iter()
        .enumerate()
        .map(|(number, (allow, deny))| {
            let etc = own_etc(folder.path(), &format!("etc{number}"), allow, deny);
            std::thread::spawn(move || {
                own_mounts();
                run(&["mount", "--bind", &etc, "/etc"]);
                let children: Vec<_> = CLIENTS.iter().map(|from| ask_tcpd(from)).collect();
                children
                    .into_iter()
                    .map(|(mut client, mut child)| {
                        let text = client.read_until_closed();
                        child.wait().unwrap();
                        text == b"hello\n"
                    })
                    .collect::<Vec<bool>>()
            })
        })
        .collect();
    let (mut wrong, mut all) = (String::new(), Vec::new());
    for ((allow, deny), tcpd) in TABLES.iter().zip(asked) {
        fs::write("/etc/hosts.allow", allow).unwrap();
        fs::write("/etc/hosts.deny", deny).unwrap();
        superd.reload().unwrap_or_else(|errors| panic!("{allow}{deny}{}", errors.join("\n")));
        let ours = CLIENTS.map(|from| {
            let mut client = Client::connect_from(superd.address("a"), ip(from));
            client.read_until_closed() == b"hello\n"
        });
        let theirs = tcpd.join().expect("tcpd");
        all.extend(theirs.clone());
        if theirs != ours {
            writeln!(wrong, "{allow}{deny}tcpd {theirs:?}, superd {ours:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(all.contains(&true) && all.contains(&false), "tcpd tells nobody apart");
}

/// A copy of /etc with both files.
fn own_etc(folder: &Path, name: &str, allow: &str, deny: &str) -> String {
    let etc = folder.join(name).display().to_string();
    fs::create_dir(&etc).unwrap();
    for part in ["passwd", "group", "services", "protocols", "localtime", "ld.so.cache"] {
        // Not every system has them all.
        let _ = fs::copy(format!("/etc/{part}"), format!("{etc}/{part}"));
    }
    for (part, text) in [
        ("hosts", "127.0.0.1 localhost\n127.0.0.2 two.example\n"),
        ("nsswitch.conf", "hosts: files\npasswd: files\ngroup: files\n"),
        ("hosts.list", "127.0.0.2 127.0.0.33\n"),
        ("hosts.allow", allow),
        ("hosts.deny", deny),
    ] {
        fs::write(format!("{etc}/{part}"), text).unwrap();
    }
    etc
}

/// As inetd starts it: the connection is all of its descriptors, and its name is the program that it guards.
fn ask_tcpd(from: &str) -> (Client, std::process::Child) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::connect_from(listener.local_addr().unwrap(), ip(from));
    let connection: OwnedFd = listener.accept().unwrap().0.into();
    let stdio = || Stdio::from(connection.try_clone().unwrap());
    let mut command = Command::new(harness::machine::find("tcpd").unwrap());
    command.arg0("/bin/echo").arg("hello").stdin(stdio()).stdout(stdio()).stderr(Stdio::null());
    (client, command.spawn().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `only_from` and `no_access` of xinetd, allow and deny of superd.
type Lists = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Option<&'static str>);

/// The clients are those above.
const LISTS: [Lists; 20] = [
    (None, None, None, None),
    (Some("127.0.0.1"), None, Some("\"127.0.0.1\""), None),
    (Some("127.0.0.1 127.0.0.2"), None, Some("\"127.0.0.1\", \"127.0.0.2\""), None),
    (Some("127.0.0.0"), None, Some("\"127.0.0.0/8\""), None),
    (Some("127.0.0.0/8"), None, Some("\"127.0.0.0/8\""), None),
    (Some("127.0.0.0/27"), None, Some("\"127.0.0.0/27\""), None),
    (Some("127.0.0.32/27"), None, Some("\"127.0.0.32/27\""), None),
    (Some("127.0.0.{1,33}"), None, Some("\"127.0.0.1\", \"127.0.0.33\""), None),
    (Some("10.0.0.0/8"), None, Some("\"10.0.0.0/8\""), None),
    (Some("two.example"), None, Some("\"two.example\""), None),
    (Some(".example"), None, Some("\".example\""), None),
    (Some("0.0.0.0/0"), None, Some("\"0.0.0.0/0\""), None),
    (None, Some("127.0.0.1"), None, Some("\"127.0.0.1\"")),
    (None, Some("127.0.0.0/27"), None, Some("\"127.0.0.0/27\"")),
    (None, Some("127.0.0.0"), None, Some("\"127.0.0.0/8\"")),
    (None, Some("10.0.0.0/8"), None, Some("\"10.0.0.0/8\"")),
    (None, Some("127.0.0.2 127.0.0.33"), None, Some("\"127.0.0.2\", \"127.0.0.33\"")),
    (Some("127.0.0.0/8"), Some("127.0.0.2"), Some("\"127.0.0.0/8\""), Some("\"127.0.0.2\"")),
    (
        Some("127.0.0.1 127.0.0.2"),
        Some("127.0.0.33"),
        Some("\"127.0.0.1\", \"127.0.0.2\""),
        Some("\"127.0.0.33\""),
    ),
    (None, Some("two.example"), None, Some("\"two.example\"")),
];

#[test]
fn xinetd_lets_the_same_clients_in() {
    needs_root!();
    needs_program!("xinetd");
    own_network();
    own_mounts();
    let folder = tempfile::TempDir::new().unwrap();
    let etc = own_etc(folder.path(), "etc", "", "");
    run(&["mount", "--bind", &etc, "/etc"]);
    let (mut theirs, mut ours) = (String::new(), String::new());
    for (number, (only_from, no_access, allow, deny)) in (0..).zip(LISTS) {
        let line =
            |key: &str, value: Option<&str>| value.map(|v| format!("{key} = {v}\n")).unwrap_or_default();
        let list =
            |key: &str, value: Option<&str>| value.map(|v| format!("{key} = [{v}]\n")).unwrap_or_default();
        writeln!(
            theirs,
            "service s{number}\n{{\ntype = UNLISTED\nflags = IPv4 NOLIBWRAP\nport = {}\nprotocol = tcp\n\
             socket_type = stream\nwait = no\nuser = nobody\nserver = /bin/echo\nserver_args = hello\n\
             bind = 127.0.0.1\n{}{}}}",
            port(number),
            line("only_from", only_from),
            line("no_access", no_access),
        )
        .unwrap();
        writeln!(
            ours,
            "[service.s{number}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"/bin/echo\", \"hello\"]\n{{user}}\n{}{}",
            list("allow", allow),
            list("deny", deny),
        )
        .unwrap();
    }
    let config = folder.path().join("xinetd.conf");
    fs::write(&config, format!("defaults\n{{\ninstances = UNLIMITED\ncps = 1000 1\n}}\n{theirs}")).unwrap();
    let pid_file = folder.path().join("xinetd.pid");
    let mut xinetd = Command::new(harness::machine::find("xinetd").unwrap())
        .args(["-dontfork", "-stayalive", "-syslog", "daemon", "-pidfile"])
        .args([&pid_file, Path::new("-f"), &config])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("xinetd", || Client::try_connect(address(0)).ok());
    let superd = Superd::with(&ours);
    let (mut wrong, mut all) = (String::new(), Vec::new());
    for (number, lists) in (0..).zip(LISTS) {
        for from in CLIENTS {
            let at = [address(number), superd.address(&format!("s{number}"))];
            let [theirs, ours] = at.map(|at| {
                let mut client = Client::connect_from(at, ip(from));
                client.read_until_closed() == b"hello\n"
            });
            all.push(theirs);
            if theirs != ours {
                writeln!(wrong, "{lists:?} {from}: xinetd {theirs}, superd {ours}").unwrap();
            }
        }
    }
    xinetd.kill().unwrap();
    xinetd.wait().unwrap();
    assert!(wrong.is_empty(), "{wrong}");
    assert!(all.contains(&true) && all.contains(&false), "xinetd tells nobody apart");
}

fn port(number: u16) -> u16 {
    7000 + number
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::new(ip("127.0.0.1"), port(number))
}
