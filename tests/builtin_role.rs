//! The handlers as a process, with all their guards on, and the test in the place of the supervisor.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{DEADLINE, needs_root, until};
use superd::protocol::builtin::{chargen, quotes};
use superd::protocol::handoff::{BATCH, Datagrams, MAX_PACKET, Order, Rates, Report, Stream};
use superd::sys::channel::{Channel, Received};
use superd::sys::memory::sealed;

struct Handlers {
    process: Child,
    channel: Option<Channel>,
    reports: Vec<Report>,
}

impl Handlers {
    fn start() -> Self {
        let (own, theirs) = Channel::pair().unwrap();
        // A role finds its channel as descriptor 3.
        let process = Command::new("sh")
            .args(["-c", "exec \"$0\" --role handlers 3<&0 0</dev/null", env!("CARGO_BIN_EXE_superd")])
            .env_clear()
            .stdin(Stdio::from(theirs.into_fd()))
            .spawn()
            .unwrap();
        let mut handlers = Self { process, channel: Some(own), reports: Vec::new() };
        handlers.expect("READY", |report| *report == Report::Ready);
        handlers
    }

    fn send(&self, orders: &[Order], fds: &[&OwnedFd]) {
        let mut packet = String::new();
        for order in orders {
            order.push(&mut packet);
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let channel = self.channel.as_ref().unwrap();
        until("room in the channel", || channel.send(packet.as_bytes(), &fds).ok());
    }

    fn expect(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        until(what, || {
            self.receive();
            let at = self.reports.iter().position(&wanted)?;
            Some(self.reports.swap_remove(at))
        })
    }

    fn receive(&mut self) {
        let mut packet = [0; MAX_PACKET];
        let channel = self.channel.as_ref().unwrap();
        while let Received::Packet { len, .. } = channel.receive(&mut packet).unwrap() {
            self.reports.extend(Report::read_all(&packet[..len]).map(Result::unwrap));
        }
    }

    fn client(&self, id: u64, builtin: &str) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let accepted = OwnedFd::from(listener.accept().unwrap().0);
        self.send(&[Order::Builtin(stream(id, builtin))], &[&accepted]);
        client
    }

    /// What /proc says of one of its threads, by name.
    fn statuses(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap()).collect()
    }

    /// Its own memory, in KiB: its code is shared with the other tests.
    fn memory(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id())).unwrap();
        field(&rollup, "Anonymous:").trim_end_matches(" kB").parse().unwrap()
    }

    /// Processor time, in hundredths of a second.
    fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        self.channel = None;
        let ended = until("the end of the role", || self.process.try_wait().unwrap());
        assert!(ended.success() || std::thread::panicking(), "{ended}");
    }
}

fn stream(id: u64, builtin: &str) -> Stream {
    Stream { id, builtin: builtin.into(), handshake: None, idle: None, session: None }
}

fn field<'t>(status: &'t str, name: &str) -> &'t str {
    status.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim()
}

#[test]
fn no_thread_has_a_right_and_all_is_served() {
    let mut handlers = Handlers::start();
    let statuses = handlers.statuses();
    assert!(statuses.len() >= 3, "{}", statuses.len());
    for status in &statuses {
        for (name, value) in [("NoNewPrivs:", "1"), ("Seccomp:", "2"), ("CapEff:", "0000000000000000")] {
            assert_eq!(field(status, name), value, "{name}");
        }
    }
    let mut echo = handlers.client(1, "echo");
    echo.write_all(b"hello").unwrap();
    echo.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    echo.read_to_string(&mut back).unwrap();
    assert_eq!(back, "hello");
    let mut generator = handlers.client(2, "chargen");
    let mut bytes = vec![0; 300_000];
    generator.read_exact(&mut bytes).unwrap();
    assert!(bytes == chargen::pattern(300_000)[..300_000]);
    let lengths = [("echo", 8), ("daytime", 26), ("time", 4), ("qotd", 7), ("chargen", 8)];
    for (id, (builtin, expected)) in (1..).zip(lengths) {
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let quotes = sealed("quotes", &quotes::encode(&[b"a quote".to_vec()])).unwrap();
        let order = Order::Listener(Datagrams { id, builtin: builtin.into(), rates: Rates::default() });
        let server = OwnedFd::from(server);
        let zone = sealed("zone", b"JST-9").unwrap();
        let fds: &[&OwnedFd] = match builtin {
            "qotd" => &[&server, &quotes],
            "daytime" => &[&server, &zone],
            _ => &[&server],
        };
        handlers.send(&[order], fds);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send_to(b"question", ("127.0.0.5", port)).unwrap();
        let (length, from) = client.recv_from(&mut [0; 600]).unwrap();
        assert_eq!((length, from.ip().to_string().as_str()), (expected, "127.0.0.5"), "{builtin}");
    }
    handlers.expect("DONE 1", |report| *report == Report::Done { id: 1, bytes: Some((5, 5)), why: None });
    handlers.receive();
    assert!(!handlers.reports.iter().any(|report| matches!(report, Report::Lacks(_))), "a guard is missing");
}

#[test]
fn a_connection_that_waits_costs_little() {
    const COUNT: u64 = 4096;
    // Its memory is nobody else's to look at.
    needs_root!();
    let mut handlers = Handlers::start();
    drop(handlers.client(COUNT, "echo"));
    handlers.expect("the end of the first", |report| matches!(report, Report::Done { .. }));
    let before = handlers.memory();
    let mut clients = Vec::new();
    for first in (0..COUNT).step_by(BATCH) {
        let pairs: Vec<_> = (0..BATCH).map(|_| std::os::unix::net::UnixStream::pair().unwrap()).collect();
        let (batch, accepted): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let accepted: Vec<_> = accepted.into_iter().map(OwnedFd::from).collect();
        let orders: Vec<_> = (first..)
            .take(BATCH)
            .map(|id| Order::Builtin(Stream { idle: Some(DEADLINE * 100), ..stream(id, "echo") }))
            .collect();
        handlers.send(&orders, &accepted.iter().collect::<Vec<_>>());
        handlers.receive();
        clients.extend(batch);
    }
    // All are there when it is said of all.
    for id in 0..COUNT {
        handlers.expect("TAKE", |report| *report == Report::Take(id));
    }
    let cost = (handlers.memory() - before) * 1024 / COUNT;
    assert!(cost <= 500, "{cost} bytes for each");
}

/// Neither a client that says nothing, nor one that reads nothing, nor one that has shut down its side.
#[test]
fn who_waits_costs_no_processor_time() {
    let mut handlers = Handlers::start();
    let _silent = handlers.client(1, "echo");
    let deaf = handlers.client(2, "chargen");
    deaf.shutdown(Shutdown::Write).unwrap();
    let mut full = handlers.client(3, "echo");
    full.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let much = vec![0; 65_536];
    while full.write(&much).is_ok() {}
    handlers.expect("TAKE 3", |report| *report == Report::Take(3));
    // What it takes to fill all buffers; then nothing for a while.
    let mut before = handlers.ticks();
    until("rest", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = handlers.ticks();
        let is_at_rest = now <= before;
        before = now;
        is_at_rest.then_some(())
    });
}
