//! Programs that were made for inetd, with their real clients.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use harness::world::run;
use harness::{Superd, is_root, needs_program, needs_root};

fn path(program: &str) -> String {
    harness::machine::find(program).unwrap().display().to_string()
}

fn service(name: &str, words: &[&str], user: &str) -> String {
    // Rust's escapes of plain text are TOML's.
    let exec: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [{}]\n{user}\n", exec.join(", "))
}

#[test]
fn sshd_and_ssh() {
    needs_program!("sshd", "ssh", "ssh-keygen");
    if !is_root() && !may_log_in() {
        return harness::skipped("a user who may log in");
    }
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str| place.path().join(name).display().to_string();
    for key in ["host", "client"] {
        run(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &file(key)]);
    }
    fs::rename(place.path().join("client.pub"), place.path().join("authorized")).unwrap();
    let config = format!(
        "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\nAuthenticationMethods publickey\n",
        file("host"),
        file("authorized")
    );
    fs::write(file("sshd_config"), config).unwrap();
    if is_root() {
        // sshd wants it, and nobody makes it where no service manager runs.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let words = [&path("sshd"), "-i", "-f", &file("sshd_config"), "-E", &file("sshd.log")];
    let superd = Superd::with(&service("ssh", &words, if is_root() { "user = \"root\"" } else { "" }));
    let port = superd.address("ssh").port().to_string();
    let remote = |command: &str| {
        let options = [
            "-oBatchMode=yes",
            "-oStrictHostKeyChecking=no",
            "-oUserKnownHostsFile=/dev/null",
            "-oLogLevel=ERROR",
        ];
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-p", &port, "-i", &file("client")]).args(options);
        let output = ssh.args(["127.0.0.1", command]).output().unwrap();
        let log = fs::read_to_string(file("sshd.log")).unwrap_or_default();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), log)
    };
    let (status, text, log) = remote("echo $SSH_CONNECTION; exit 3");
    assert_eq!(status, Some(3), "{log}");
    assert!(text.starts_with("127.0.0.1 "), "{text}");
    let (status, text, log) = remote("head -c 3000000 /dev/zero | wc -c");
    assert_eq!((status, text.trim()), (Some(0), "3000000"), "{log}");
    superd.until_idle();
    assert!(superd.expect_log("end ssh").contains("status="));
}

/// sshd lets nobody in whose account has no shell.
fn may_log_in() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.is_some_and(|user| !user.shell.ends_with("nologin") && !user.shell.ends_with("false"))
}

#[test]
fn git_daemon_and_git_clone() {
    needs_program!("git", "git-daemon");
    let place = tempfile::tempdir().unwrap();
    let (origin, copy) = (place.path().join("origin"), place.path().join("copy"));
    make_repository(&origin);
    let base = format!("--base-path={}", place.path().display());
    let words = [&path("git"), "daemon", "--inetd", "--export-all", &base];
    // git serves a repository only to its owner.
    let superd = Superd::with(&service("git", &words, if is_root() { "user = \"root\"" } else { "" }));
    let url = format!("git://{}/origin", superd.address("git"));
    run(&["git", "clone", "-q", &url, copy.to_str().unwrap()]);
    assert_eq!(fs::read(copy.join("data")).unwrap(), fs::read(origin.join("data")).unwrap());
    superd.until_idle();
    assert!(superd.expect_log("end git").contains("status=0"));
}

fn make_repository(origin: &Path) {
    let folder = origin.to_str().unwrap();
    run(&["git", "init", "-q", folder]);
    let data: Vec<u8> = (0..500_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(origin.join("data"), data).unwrap();
    run(&["git", "-C", folder, "add", "data"]);
    let who = ["-c", "user.name=test", "-c", "user.email=test@example.org"];
    let words = [["git", "-C", folder].as_slice(), &who, &["commit", "-qm", "data"]].concat();
    run(&words);
}

#[test]
fn rsync_daemon_and_rsync() {
    needs_program!("rsync");
    let place = tempfile::tempdir().unwrap();
    let (source, target) = (place.path().join("source"), place.path().join("target"));
    fs::create_dir(&source).unwrap();
    for n in 0..50_u8 {
        fs::write(source.join(format!("file-{n}")), vec![n; 20_000]).unwrap();
    }
    let config = place.path().join("rsyncd.conf");
    let module = format!("use chroot = no\n[data]\npath = {}\nread only = yes\n", source.display());
    fs::write(&config, module).unwrap();
    let option = format!("--config={}", config.display());
    let words = [&path("rsync"), "--daemon", &option];
    let superd = Superd::with(&service("rsync", &words, if is_root() { "user = \"root\"" } else { "" }));
    let url = format!("rsync://{}/data/", superd.address("rsync"));
    run(&["rsync", "-a", &url, target.to_str().unwrap()]);
    run(&["diff", "-r", source.to_str().unwrap(), target.to_str().unwrap()]);
    superd.until_idle();
    assert!(superd.expect_log("end rsync").contains("status=0"));
}

#[test]
fn a_web_page_by_a_shell_and_curl() {
    needs_program!("curl");
    // What is left unread at the end of a program makes the kernel send a reset instead of an end.
    let script = r#"read -r line; while read -r header && [ "$header" != "$(printf '\r')" ]; do :; done
        printf 'HTTP/1.0 200 OK\r\n\r\n%s from %s\n' "$line" "$REMOTE_ADDR""#;
    let superd = Superd::with(&service("web", &["/bin/sh", "-c", script], "{user}"));
    let address: SocketAddr = superd.address("web");
    let page = run(&["curl", "-sS", "--http0.9", &format!("http://{address}/page")]);
    assert!(page.starts_with("GET /page HTTP/1.1") && page.ends_with("from 127.0.0.1\n"), "{page}");
    superd.until_idle();
}

#[test]
fn tftpd_and_fifty_clients_at_once() {
    const CLIENTS: u8 = 50;
    needs_root!();
    needs_program!("in.tftpd", "tftp");
    let place = tempfile::tempdir().unwrap();
    let (served, got) = (place.path().join("served"), place.path().join("got"));
    for folder in [place.path(), &served, &got] {
        let _ = fs::create_dir(folder);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for n in 0..CLIENTS {
        // No two have the same length, some end with a whole block of 512.
        fs::write(served.join(format!("file-{n}")), vec![n; 20_000 + 256 * usize::from(n)]).unwrap();
    }
    let words = [&path("in.tftpd"), "--secure", "--user", "nobody", served.to_str().unwrap()];
    // It stays for a quarter of an hour after its last client.
    let daemon = "[daemon]\nshutdown_grace = \"300ms\"\n";
    let config = service("tftp", &words, "user = \"root\"\nwait = true").replace("tcp4:", "udp:");
    let superd = Superd::with(&format!("{daemon}{config}"));
    let address = superd.address("tftp");
    let get = &|n: u8| {
        let (port, file) = (address.port().to_string(), format!("file-{n}"));
        let target = got.join(&file).display().to_string();
        let ip = address.ip().to_string();
        run(&["tftp", "-m", "binary", &ip, &port, "-c", "get", &file, &target]);
        assert_eq!(fs::read(&target).unwrap(), fs::read(served.join(&file)).unwrap(), "{file}");
    };
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            scope.spawn(move || get(n));
        }
    });
    assert_eq!(superd.service("tftp")["started"], 1);
    assert_eq!(superd.service("tftp")["state"], "online");
}

/// What `sd_listen_fds(3)` and `sd_is_socket(3)` ask for; it goes when nobody has come for a moment.
const ACTIVATED: &str = r"
import os, select, socket
assert os.environ['LISTEN_PID'] == str(os.getpid()) and os.environ['LISTEN_FDS'] == '1'
listener = socket.socket(fileno=3)
assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
listener.setblocking(False)
served = 0
while select.select([listener], [], [], 0.3)[0]:
    connection, _ = listener.accept()
    connection.setblocking(True)
    served += 1
    text = connection.recv(100).decode()
    name = os.environ['LISTEN_FDNAMES']
    connection.sendall(f'{name} {os.getpid()} {served} {text}'.encode())
    connection.close()
";

/// Not the first in PATH, which may be one user's own.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_daemon_made_for_socket_activation() {
    if !Path::new(PYTHON).exists() {
        return harness::skipped(PYTHON);
    }
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("daemon.py");
    fs::write(&script, ACTIVATED).unwrap();
    for path in [place.path(), &script] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let words = [PYTHON, script.to_str().unwrap()];
    let tcp = service("tcp", &words, "{user}\nwait = true");
    let unix =
        service("unix", &words, "{user}\nwait = true").replace("tcp4:127.0.0.1:0", "unix:{dir}/x.sock");
    let superd = Superd::with(&(tcp + &unix));
    let ask_tcp = || talk(superd.connect("tcp").stream);
    let ask_unix = || talk(UnixStream::connect(superd.dir().join("x.sock")).unwrap());
    for (name, ask) in [("tcp", &ask_tcp as &dyn Fn() -> String), ("unix", &ask_unix)] {
        let mut pids = Vec::new();
        for _ in 0..2 {
            let (one, two) = (ask(), ask());
            let pid =
                one.strip_prefix(name).and_then(|rest| rest.strip_suffix(" 1 hello")).unwrap().to_owned();
            assert_eq!(two, format!("{name}{pid} 2 hello"));
            pids.push(pid);
            // The daemon goes and leaves O_NONBLOCK set; the next client starts it again.
            superd.until_idle();
        }
        assert_ne!(pids[0], pids[1]);
    }
}

fn talk(mut stream: impl Read + Write) -> String {
    stream.write_all(b"hello").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Health checkers send a request, and the program answers whatever it is.
#[test]
fn a_health_check_that_reads_no_request() {
    needs_program!("curl");
    // Without a length the end of the connection is the end of the page, and a reset is none.
    let script = r"printf 'HTTP/1.0 200 OK\r\n\r\nhealthy\n'";
    let config = service("health", &["/bin/sh", "-c", script], "{user}\ntimeout = { drain = \"2s\" }");
    let superd = Superd::with(&config);
    let url = format!("http://{}/health", superd.address("health"));
    let long = "x".repeat(4000);
    for _ in 0..20 {
        assert_eq!(run(&["curl", "-sS", &url]), "healthy\n");
        assert_eq!(
            run(&["curl", "-sS", "--data", &long, "-H", &format!("X-Long: {long}"), &url]),
            "healthy\n"
        );
    }
    superd.until_idle();
    assert_eq!(superd.service("health")["started"], 40);
}

/// The agent of a monitoring system: sections, a good deal of text, for a server that sends nothing.
#[test]
fn an_agent_that_reports() {
    const SERVERS: usize = 10;
    let script = r#"echo '<<<check_mk>>>'; echo "Version: 1"; echo "OnlyFrom: $REMOTE_HOST"
        echo '<<<df>>>'; df -P /; echo '<<<numbers>>>'; seq 1 40000; echo '<<<uptime>>>'; cat /proc/uptime"#;
    let superd = Superd::with(&service("agent", &["/bin/sh", "-c", script], "{user}"));
    let ask = || {
        let text = superd.connect("agent").read_text();
        let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("<<<")).collect();
        assert_eq!(sections, ["<<<check_mk>>>", "<<<df>>>", "<<<numbers>>>", "<<<uptime>>>"]);
        assert!(text.contains("\nOnlyFrom: 127.0.0.1\n") && text.contains("\n39999\n40000\n<<<uptime>>>\n"));
    };
    std::thread::scope(|scope| {
        for _ in 0..SERVERS {
            scope.spawn(ask);
        }
    });
    superd.until_idle();
}

#[test]
fn the_demo_does_what_it_says() {
    needs_root!();
    needs_program!("ip");
    // Its ports are fixed.
    harness::world::own_network();
    let superd = Superd::with(include_str!("../etc/demo.toml"));
    let ask = |service: &str, text: &str| {
        let mut client = superd.connect(service);
        client.write(text.as_bytes());
        client.finish();
        client.read_text()
    };
    assert_eq!(ask("echo", "hello\n"), "hello\n");
    assert_eq!(ask("daytime", "").matches(':').count(), 2);
    assert_eq!(ask("date", "").matches(':').count(), 2);
    let quotes = ["Festina lente.\r\n", "Well begun is half done.\r\n", "More haste, less speed.\r\n"];
    assert!(quotes.contains(&ask("quote", "").as_str()));
    assert!(ask("env", "").contains("GREETING=set in demo.toml\n"));
    assert!(ask("finger", "root\n").starts_with("root:"));
    let page = ask("status", "GET / HTTP/1.0\r\n\r\n");
    assert!(page.starts_with("HTTP/1.0 200 OK\r\n") && page.contains("of status, for 127.0.0.1\n"), "{page}");
    let mut first = superd.connect("slow");
    assert_eq!(first.read_line(), "please wait ten seconds");
    assert!(ask("slow", "").starts_with("somebody else"));
    assert!(first.read_text().ends_with("done\n"));
    superd.until_idle();
}
