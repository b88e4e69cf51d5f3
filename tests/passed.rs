//! Sockets that the service manager passes by name: a launcher in its place binds them, and becomes superd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::Read;
use std::os::unix::net::UnixStream;

use harness::{Asker, Start, Superd, needs_program};
use serde_json::json;

/// Takes `NAME=KIND:ADDRESS` words up to `--`, binds them as descriptors 3, 4, …, and execs what follows.
const LAUNCHER: &str = "
import os, socket, sys
words = sys.argv[1:]
specs, command = words[:words.index('--')], words[words.index('--') + 1:]
sockets, names = [], []
for spec in specs:
    name, where = spec.split('=', 1)
    kind, address = where.split(':', 1)
    family = socket.AF_UNIX if kind.startswith('unix') else socket.AF_INET
    kinds = {'udp': socket.SOCK_DGRAM, 'unix-dgram': socket.SOCK_DGRAM}
    made = socket.socket(family, kinds.get(kind, socket.SOCK_STREAM))
    made.bind(address if family == socket.AF_UNIX else ('127.0.0.1', int(address)))
    if made.type == socket.SOCK_STREAM:
        made.listen()
    if family == socket.AF_UNIX:
        os.chmod(address, 0o666)
    sockets.append(made)
    names.append(name)
high = [os.dup2(made.fileno(), 100 + n) for n, made in enumerate(sockets)]
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n)
for fd in high:
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=':'.join(names))
os.execvp(command[0], command)
";

fn with_sockets(config: &str, sockets: &[&str]) -> Start {
    let launcher = [&["python3", "-c", LAUNCHER], sockets, &["--"]].concat();
    Start::new(config).behind(&launcher)
}

fn service(name: &str, listen: &str, how: &str) -> String {
    format!("[service.{name}]\nlisten = \"systemd:{listen}\"\n{how}\n{{user}}\n")
}

const HELLO: &str = "exec = [\"{probe}\", \"hello\"]";
const WAITER: &str = "exec = [\"{waiter}\", \"datagrams\", \"1\"]\nwait = true";
const ACCEPTER: &str = "exec = [\"{waiter}\", \"accept\", \"1\"]\nwait = true";

fn text_of(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn passed_sockets_are_served_by_their_names() {
    needs_program!("python3");
    let config = [
        service("web", "web", HELLO),
        service("both", "both", HELLO),
        service("ask", "questions", WAITER),
        service("local", "local", HELLO),
        service("lent", "lent", ACCEPTER),
    ];
    let sockets =
        ["web=tcp:0", "questions=udp:0", "local=unix:{dir}/l.sock", "both=tcp:0", "lent=tcp:0", "both=tcp:0"];
    let superd = with_sockets(&config.concat(), &sockets).start();
    for _ in 0..3 {
        assert_eq!(superd.connect("web").read_text(), "hello\n");
        let unix = UnixStream::connect(superd.dir().join("l.sock")).unwrap();
        assert_eq!(text_of(unix), "hello\n");
        Asker::of(superd.address("ask")).ask("question");
        assert!(superd.connect("lent").read_text().ends_with(" lent\n"));
    }
    let both = superd.service("both")["listeners"].as_array().cloned().unwrap();
    assert_eq!(both.len(), 2, "{both:?}");
    for listener in &both {
        let at = listener["bound"].as_str().unwrap().parse().unwrap();
        assert_eq!(harness::Client::connect(at).read_text(), "hello\n");
    }
    // What was superd's alone is no service's.
    let seen = superd.reload_with(&config.concat().replacen("\"hello\"", "\"json\"", 1));
    assert_eq!(seen["changed"], json!(["web"]));
    let environment = superd.probe("web")["env"].clone();
    assert!(
        environment.get("LISTEN_FDS").is_none() && environment.get("LISTEN_PID").is_none(),
        "{environment}"
    );
}

#[test]
fn a_passed_socket_stays_over_reloads() {
    needs_program!("python3");
    let config = service("web", "web", HELLO);
    let superd = with_sockets(&config, &["web=tcp:0"]).start();
    let address = superd.address("web");
    let still = |superd: &Superd, name: &str| {
        assert_eq!(superd.address(name), address);
        assert_eq!(superd.connect(name).read_text(), "hello\n");
    };
    superd.reload_with(&format!("{config}nice = 1\n"));
    still(&superd, "web");
    superd.reload_with(&service("other", "web", HELLO));
    still(&superd, "other");
    superd.reload_with("");
    superd.reload_with(&config);
    still(&superd, "web");
}

#[test]
fn a_name_that_did_not_come_is_an_error_that_tells_which_did() {
    needs_program!("python3");
    let (status, errors) = with_sockets(&service("x", "mail", HELLO), &["web=tcp:0", "dns=udp:0"]).fails();
    assert_eq!(status, Some(1));
    assert!(
        errors.contains("service x: systemd:mail: no socket of this name was passed (passed: dns, web)"),
        "{errors}"
    );
    let (status, errors) = Start::new(&service("x", "mail", HELLO)).fails();
    assert_eq!(status, Some(1));
    assert!(errors.contains("(none was passed at all)"), "{errors}");
}

/// What a socket is shows when it is there.
#[test]
fn datagrams_need_a_server_that_waits() {
    needs_program!("python3");
    for socket in ["q=udp:0", "q=unix-dgram:{dir}/q.sock"] {
        let (status, errors) = with_sockets(&service("x", "q", HELLO), &[socket]).fails();
        assert_eq!(status, Some(1));
        let expected = "service x: systemd:q is a socket of datagrams, which needs `wait = true`";
        assert!(errors.contains(expected), "{errors}");
    }
}

const BRIEF_GRACE: &str = "[daemon]\nshutdown_grace = \"300ms\"\n";

/// A service of the passed socket `q`, whose server answers two datagrams.
fn held(name: &str) -> String {
    let how = "exec = [\"{waiter}\", \"datagrams\", \"2\"]\nwait = true";
    format!("{BRIEF_GRACE}{}", service(name, "q", how))
}

#[test]
fn a_socket_that_a_server_has_is_not_anothers() {
    needs_program!("python3");
    let superd = with_sockets(&held("x"), &["q=udp:0"]).start();
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("first");
    superd.allow_errors("service y: ");
    superd.rewrite(&held("y"));
    let errors = superd.reload().expect_err("the socket is the server's").join("\n");
    assert!(errors.contains(&format!("the server of x (pid {pid}) still has it")), "{errors}");
    assert_eq!(asker.ask("second"), pid);
    superd.until_idle();
    superd.reload_with(&held("y"));
    assert_ne!(asker.ask("third"), pid);
}

/// A service that goes leaves its server the socket: a later one gets it when that server has ended.
#[test]
fn a_socket_that_was_left_to_a_server_is_not_anothers() {
    needs_program!("python3");
    let superd = with_sockets(&held("x"), &["q=udp:0"]).start();
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("first");
    superd.allow_errors("service y: ");
    superd.reload_with(BRIEF_GRACE);
    superd.rewrite(&held("y"));
    let errors = superd.reload().expect_err("the socket is the server's").join("\n");
    assert!(errors.contains(&format!("(pid {pid}) still has it")), "{errors}");
    assert_eq!(asker.ask("second"), pid);
    superd.until_idle();
    superd.reload_with(&held("y"));
    assert_ne!(asker.ask("third"), pid);
}
