//! Servers that wait: each is given its listener, and gives it back as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::{Superd, needs_root, until};

fn waiting(listen: &str, part: &str) -> String {
    let words: Vec<String> = part.split(' ').map(|word| format!("\"{word}\"")).collect();
    let words = words.join(", ");
    format!("[service.x]\nlisten = \"{listen}\"\nexec = [\"{{waiter}}\", {words}]\nwait = true\n{{user}}\n")
}

const UDP: &str = "udp4:127.0.0.1:0";

struct Asker(UdpSocket);

impl Asker {
    fn of(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect(address).unwrap();
        Self(socket)
    }

    /// The server's pid, from its answer to `text`.
    #[track_caller]
    fn ask(&self, text: &str) -> u32 {
        self.0.send(text.as_bytes()).unwrap();
        self.hear(text)
    }

    #[track_caller]
    fn hear(&self, text: &str) -> u32 {
        let mut buffer = [0; 2048];
        let length = self.0.recv(&mut buffer).unwrap();
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (pid, rest) = answer.split_once(' ').unwrap();
        assert_eq!(rest, text);
        pid.parse().unwrap()
    }
}

#[test]
fn a_datagram_starts_a_server_and_another_the_next() {
    let superd = Superd::with(&waiting(UDP, "datagrams 1"));
    let asker = Asker::of(superd.address("x"));
    let pids: Vec<u32> = (0..5).map(|n| asker.ask(&format!("question {n}"))).collect();
    assert!(pids.windows(2).all(|two| two[0] != two[1]), "{pids:?}");
    superd.until_idle();
    assert_eq!(superd.service("x")["started"], 5);
    assert!(!superd.expect_log("start x").contains("client="));
}

#[test]
fn a_server_serves_all_that_it_wants() {
    let superd = Superd::with(&waiting(UDP, "datagrams 3"));
    let asker = Asker::of(superd.address("x"));
    let pids: Vec<u32> = (0..6).map(|n| asker.ask(&format!("question {n}"))).collect();
    assert_eq!((pids[0], pids[3]), (pids[2], pids[5]));
    assert_ne!(pids[0], pids[3]);
}

#[test]
fn datagrams_that_queue_are_all_served() {
    let superd = Superd::with(&waiting(UDP, "datagrams 1"));
    let asker = Asker::of(superd.address("x"));
    for _ in 0..20 {
        asker.0.send(b"same").unwrap();
    }
    let mut pids: Vec<u32> = (0..20).map(|_| asker.hear("same")).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 20);
}

#[test]
fn a_stream_server_finds_its_listener() {
    let superd = Superd::with(&waiting("tcp4:127.0.0.1:0", "accept 2"));
    let address = superd.address("x");
    let line = || {
        let mut text = String::new();
        BufReader::new(TcpStream::connect(address).unwrap()).read_line(&mut text).unwrap();
        let (pid, name) = text.trim().split_once(' ').map(|(p, n)| (p.to_owned(), n.to_owned())).unwrap();
        assert_eq!(name, "x");
        pid
    };
    let pids = [line(), line(), line(), line()];
    assert_eq!((&pids[0], &pids[2]), (&pids[1], &pids[3]));
    assert_ne!(pids[0], pids[2]);
}

#[test]
fn a_server_that_does_not_serve_is_backed_off() {
    for part in ["exit", "fail"] {
        let superd = Superd::with(&waiting(UDP, part));
        let asker = Asker::of(superd.address("x"));
        asker.0.send(b"never read").unwrap();
        superd.expect_log("paused x reason=backoff");
        let service = superd.until_service("x", "three tries", |s| s["started"].as_u64() >= Some(3));
        assert!(service["retry_in"].as_f64().is_none_or(|wait| wait < 31.0), "{service}");
        // 0.1, 0.2, 0.4 s: three starts take so long, and a hundred would be a spin.
        assert!(superd.service("x")["started"].as_u64() < Some(10));
        assert_eq!(superd.count_log("paused x"), 1);
    }
}

#[test]
fn what_a_server_does_to_its_listener_is_undone() {
    for what in ["nonblock", "async", "option", "shutdown", "connect"] {
        let superd = Superd::with(&waiting(UDP, &format!("spoil {what}")));
        let options = || superd.ask(&serde_json::json!({ "v": 1, "do": "socket", "service": "x" }));
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
fn a_unix_service_knows_its_client() {
    let listen = "unix:{dir}/x.sock";
    let service = format!(
        "[service.x]\nlisten = {{ at = \"{listen}\", mode = \"0666\" }}\nexec = [\"{{probe}}\", \"json\"]\n{{user}}\n"
    );
    let superd = Superd::with(&service);
    let path = superd.dir().join("x.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let mut text = String::new();
    UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    let uid = nix::unistd::geteuid().to_string();
    assert_eq!(seen["env"]["PROTO"], "IPC");
    assert_eq!(seen["env"]["IPCREMOTEEUID"], uid);
    superd.expect_log(&format!(
        "start x session={} client=uid:{uid}",
        seen["env"]["SUPERD_SESSION"].as_str().unwrap()
    ));
    drop(superd);
    assert!(!path.exists());
}

#[test]
fn a_unix_socket_has_its_owner() {
    needs_root!();
    let service = "[service.x]\nlisten = { at = \"unix:{dir}/x.sock\", owner = \"nobody\", group = \"nogroup\", mode = \"0600\" }\n\
                   exec = [\"{probe}\", \"hello\"]\n{user}\n";
    let superd = Superd::with(service);
    let metadata = std::fs::metadata(superd.dir().join("x.sock")).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65534, 0o600));
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
