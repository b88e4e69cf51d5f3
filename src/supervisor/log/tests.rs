//! The log against real sockets, pipes and files: full, gone, back, frozen, renamed.

use crate::sys::channel::Received;
use std::io::{Read, pipe};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::config::settings::{ClientDetail, Facility, Fallback as FallbackKind, Format, LogTarget};
use crate::model::session::SessionId;
use crate::protocol::writer::{File, Order};
use crate::service::record::Event;
use stderr::Stderr;

/// A log in a directory of its own, with a console and sockets there.
struct Lab {
    directory: TempDir,
    log: Log,
}

impl Lab {
    fn new(target: LogTarget) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("console"), "").unwrap();
        let settings = settings(directory.path(), target);
        let start = Start {
            foreground: false,
            pid1: false,
            journal_stream: false,
            journal: directory.path().join("journal"),
            console: directory.path().join("console"),
        };
        Self { log: Log::open(&settings, &start), directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A log daemon, started again if there was one.
    fn daemon(&self, name: &str) -> Daemon {
        drop(std::fs::remove_file(self.path(name)));
        let socket = UnixDatagram::bind(self.path(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Daemon(socket)
    }

    fn say(&mut self, text: &str) {
        self.log.write(&Record::note(Level::Info, text));
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.path("console")).unwrap()
    }

    /// Reads all that the log has for the daemon, as the loop would: flush whenever poll says so.
    fn drain_into(&mut self, daemon: &Daemon) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            self.log.flush();
            lines.extend(daemon.lines());
            let Some(fd) = self.log.interest() else { return lines };
            assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], 5000u16), Ok(1), "POLLOUT");
        }
    }
}

fn settings(directory: &Path, target: LogTarget) -> settings::Log {
    settings::Log {
        target,
        facility: Facility(3),
        socket: directory.join("syslog"),
        tag: "superd".into(),
        fallback: FallbackKind::Console,
        level: Level::Info,
        format: Format::Superd,
        client: ClientDetail::Full,
    }
}

struct Daemon(UnixDatagram);

impl Daemon {
    /// What has arrived, without its frame.
    fn lines(&self) -> Vec<String> {
        let mut buffer = vec![0; 1 << 16];
        let mut lines = Vec::new();
        while let Ok(length) = self.0.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            lines.push(text.split_once("]: ").map_or(text.clone(), |(_, line)| line.to_owned()));
        }
        lines
    }
}

#[test]
fn lines_of_a_turn_leave_together() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let daemon = lab.daemon("syslog");
    lab.say("one");
    lab.log.write(&Record::note(Level::Debug, "below the level"));
    lab.say("two\n");
    assert!(daemon.lines().is_empty());
    lab.log.flush();
    assert_eq!(daemon.lines(), ["one", r"two\x0a"]);
    assert!(lab.log.interest().is_none() && lab.log.next_deadline().is_none());
}

#[test]
fn a_full_socket_keeps_lines_then_counts_them() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let daemon = lab.daemon("syslog");
    for number in 0..10_000 {
        lab.say(&number.to_string());
        if number % 100 == 99 {
            lab.log.flush();
        }
    }
    assert!(lab.log.interest().is_some());
    let dropped = lab.log.dropped();
    let lines = lab.drain_into(&daemon);
    let (numbers, prose): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.parse::<u32>().is_ok());
    assert_eq!(numbers.len() as u64 + dropped, 10_000);
    assert!(numbers.len() >= ring::MAX_LINES);
    assert_eq!(prose, [&format!("dropped {dropped} log lines")]);
    lab.say("after");
    assert_eq!(lab.drain_into(&daemon), ["after"]);
    assert_eq!(lab.log.dropped(), dropped);
}

#[test]
fn a_slow_daemon_is_told_once_of_what_was_dropped() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let daemon = lab.daemon("syslog");
    let mut lines = Vec::new();
    for round in 1..=5 {
        while lab.log.dropped() < round {
            lab.say("line");
        }
        lab.log.flush();
        lines.extend(daemon.lines());
        lab.log.flush();
    }
    lines.extend(lab.drain_into(&daemon));
    lines.retain(|line| line != "line");
    assert_eq!(lines, ["dropped 5 log lines"]);
}

#[test]
fn a_daemon_started_again_is_found_at_once() {
    let mut lab = Lab::new(LogTarget::Syslog);
    for round in 0..3 {
        let daemon = lab.daemon("syslog");
        lab.say(&format!("round {round}"));
        lab.log.flush();
        assert_eq!(daemon.lines(), [format!("round {round}")]);
    }
}

#[test]
fn a_daemon_that_is_gone_is_waited_for() {
    let mut lab = Lab::new(LogTarget::Syslog);
    drop(lab.daemon("syslog"));
    lab.say("waits");
    lab.log.write(&Record::note(Level::Err, "trouble"));
    lab.log.flush();
    lab.log.write(&Record::note(Level::Crit, "more"));
    lab.log.flush();
    let pid = std::process::id();
    assert_eq!(lab.console(), format!("superd[{pid}]: trouble\nsuperd[{pid}]: more\n"));

    let first = lab.log.next_deadline().unwrap();
    lab.log.on_deadline(first);
    assert!(lab.log.next_deadline().unwrap() > first);
    let daemon = lab.daemon("syslog");
    lab.log.on_deadline(lab.log.next_deadline().unwrap());
    assert_eq!(daemon.lines(), ["waits", "trouble", "more"]);
    assert!(lab.log.next_deadline().is_none());
    assert_eq!((lab.log.dropped(), lab.console().lines().count()), (0, 2));
}

#[test]
fn a_frozen_daemon_that_dies_wakes_the_log() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let frozen = lab.daemon("syslog");
    (0..3000).for_each(|number| lab.say(&number.to_string()));
    lab.log.flush();
    assert!(lab.log.interest().is_some());
    let fresh = lab.daemon("syslog");
    let kept = lab.log.ring.frames().count();
    drop(frozen);
    let lines = lab.drain_into(&fresh);
    assert_eq!(lines.len(), kept);
    assert_eq!(lines.last().map(String::as_str), Some("2999"));
}

#[test]
fn a_line_too_long_for_the_socket_is_cut() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let daemon = lab.daemon("syslog");
    lab.say("connects");
    lab.log.flush();
    let socket = lab.log.sink.fd(None).unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(1).unwrap();
    lab.say(&"x".repeat(8000));
    lab.say("next");
    let lines = lab.drain_into(&daemon);
    assert_eq!(lines, ["connects".into(), "x".repeat(CUT_LENGTH), "next".into()]);
    assert_eq!(lab.log.dropped(), 0);
}

#[test]
fn a_line_that_can_not_be_cut_enough_is_dropped() {
    let mut lab = Lab::new(LogTarget::Syslog);
    let daemon = lab.daemon("syslog");
    lab.say("connects");
    lab.log.flush();
    let socket = lab.log.sink.fd(None).unwrap();
    socket2::SockRef::from(&socket).set_send_buffer_size(1).unwrap();
    lab.log.settings.tag = "t".repeat(5000);
    lab.say("behind a long tag");
    lab.log.flush();
    assert_eq!(lab.log.dropped(), 1);
    lab.log.settings.tag = "superd".into();
    lab.say("next");
    assert_eq!(lab.drain_into(&daemon), ["connects", "next", "dropped 1 log lines"]);
}

#[test]
fn the_journal_gets_fields() {
    let mut lab = Lab::new(LogTarget::Journal);
    let daemon = lab.daemon("journal");
    let session = SessionId { epoch: 1, serial: 1 };
    let client = "192.0.2.7:5".parse().ok();
    let event = Event::Start { session, client, local: None, pid: Some(7) };
    lab.log.write(&Record { facility: Some(Facility(10)), ..Record::about("finger", event) });
    lab.log.flush();
    let entry = daemon.lines().concat();
    for field in
        ["MESSAGE=start finger session=1-1 ", "\nSYSLOG_FACILITY=10\n", "\nSUPERD_CLIENT=192.0.2.7:5\n"]
    {
        assert!(entry.contains(field), "{field:?} in {entry}");
    }
}

#[test]
fn what_waits_for_an_old_target_goes_to_the_new_one() {
    let mut lab = Lab::new(LogTarget::Syslog);
    lab.say("waits");
    lab.log.flush();
    let daemon = lab.daemon("journal");
    lab.log.reconfigure(&settings(lab.directory.path(), LogTarget::Journal));
    lab.log.flush();
    assert!(daemon.lines().concat().starts_with("MESSAGE=waits\nPRIORITY=6\n"));
    assert_eq!(lab.log.target(), "journal");
}

#[test]
fn a_full_pipe_keeps_lines_and_order() {
    let mut lab = Lab::new(LogTarget::Stderr);
    let (mut reader, writer) = pipe().unwrap();
    lab.log.sink = Sink::Stderr(Some(Stderr::of(writer.into())));
    let line = "x".repeat(100);
    (0..3000).for_each(|number| lab.say(&format!("{number} {line}")));
    lab.log.flush();
    assert!(lab.log.interest().is_some());
    let copy = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    lab.log.finish(Duration::from_secs(10));
    drop(lab);
    let text = copy.join().unwrap();
    let expected: Vec<_> = (0..3000).map(|number| format!("{number} {line}")).collect();
    assert!(text.lines().eq(&expected), "{} lines", text.lines().count());
}

#[test]
fn targets_are_chosen_by_how_superd_was_started() {
    let lab = Lab::new(LogTarget::Auto);
    let (with_syslog, path) = (tempfile::tempdir().unwrap(), lab.directory.path());
    let _daemon = UnixDatagram::bind(with_syslog.path().join("syslog")).unwrap();
    let plain = lab.log.start.clone();
    let syslog = format!("syslog:{}", with_syslog.path().join("syslog").display());
    let file = LogTarget::File("/var/log/superd".into());
    let rows = [
        (LogTarget::Auto, plain.clone(), with_syslog.path(), syslog.as_str()),
        (LogTarget::Auto, plain.clone(), path, "stderr"),
        (LogTarget::Auto, Start { foreground: true, ..plain.clone() }, with_syslog.path(), "stderr"),
        (LogTarget::Auto, Start { pid1: true, ..plain.clone() }, with_syslog.path(), "stderr"),
        (LogTarget::Auto, Start { journal_stream: true, foreground: true, ..plain.clone() }, path, "journal"),
        (LogTarget::Stderr, Start { journal_stream: true, ..plain.clone() }, path, "stderr"),
        (LogTarget::Journal, plain.clone(), path, "journal"),
        (file, plain, path, "/var/log/superd"),
    ];
    for (target, start, directory, expected) in rows {
        let settings = settings(directory, target);
        assert_eq!(Target::choose(&settings, &start).to_string(), expected, "{settings:?} {start:?}");
    }
}

#[test]
fn a_writer_that_hangs_holds_nothing() {
    let mut lab = Lab::new(LogTarget::File("/nowhere".into()));
    let (here, hung) = Channel::pair().unwrap();
    lab.log.attach_writer(here.into_fd());
    for number in 0..10_000 {
        lab.say(&number.to_string());
        lab.log.flush();
    }
    let waiting = lab.log.ring.frames().count();
    let mut arrived = 0;
    while let Ok(Received::Packet { .. }) = hung.receive(&mut [0; 200]) {
        arrived += 1;
    }
    // The order to open the file is the first packet.
    assert_eq!((arrived - 1 + waiting) as u64 + lab.log.dropped(), 10_000);
    assert!(lab.log.dropped() > 0);
}

#[test]
fn a_file_is_written_renamed_and_written_again() {
    let mut lab = Lab::new(LogTarget::Auto);
    let path = lab.path("log");
    lab.log.reconfigure(&settings(lab.directory.path(), LogTarget::File(path.clone())));
    assert_eq!(lab.log.wants_writer(), Some(path.as_path()));
    lab.say("before the writer");
    lab.log.flush();
    let writer = start_writer(&mut lab.log);
    lab.log.finish(Duration::from_secs(10));
    wait_until(|| read(&path).lines().count() == 1);

    std::fs::rename(&path, lab.path("log.1")).unwrap();
    lab.log.reopen();
    lab.say("after");
    lab.log.finish(Duration::from_secs(10));
    lab.log.detach_writer();
    writer.join().unwrap();
    assert_line(&read(&lab.path("log.1")), "before the writer");
    assert_line(&read(&path), "after");
}

#[test]
fn a_writer_that_nobody_needs_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut lab = Lab::new(LogTarget::File(path.clone()));
    let writer = start_writer(&mut lab.log);
    lab.say("before");
    lab.log.reconfigure(&settings(directory.path(), LogTarget::Syslog));
    assert!(lab.log.writer().is_none());
    writer.join().unwrap();
    assert_line(&read(&path), "before");
}

#[test]
fn a_disk_that_refuses_is_told_of_and_counted() {
    let mut lab = Lab::new(LogTarget::Auto);
    let path = lab.path("missing/log");
    lab.log.reconfigure(&settings(lab.directory.path(), LogTarget::File(path.clone())));
    let writer = start_writer(&mut lab.log);
    lab.say("lost");
    lab.log.finish(Duration::from_secs(10));
    wait_until(|| lab.log.on_writer().iter().any(|report| report.errno == libc::ENOENT));
    lab.log.write(&Record::note(Level::Err, "trouble"));
    lab.log.finish(Duration::from_secs(10));
    let console = lab.console();
    assert!(console.contains("missing/log: No such file") && console.contains("trouble"), "{console}");

    lab.log.reopen();
    lab.log.flush();
    wait_for_writer(&lab);
    std::fs::create_dir(lab.path("missing")).unwrap();
    wait_until(|| {
        lab.say("again");
        lab.log.flush();
        lab.log.on_writer().iter().any(|report| report.file == File::Log && report.errno == 0)
    });
    lab.log.finish(Duration::from_secs(10));
    lab.log.detach_writer();
    writer.join().unwrap();
    let text = read(&path);
    assert!(lab.log.dropped() >= 2, "{}", lab.log.dropped());
    assert!(
        text.contains("]: again\n") && text.contains(&format!("dropped {} log", lab.log.dropped())),
        "{text}"
    );
}

fn start_writer(log: &mut Log) -> thread::JoinHandle<()> {
    let (here, there) = Channel::pair().unwrap();
    log.attach_writer(here.into_fd());
    thread::spawn(move || crate::roles::writer::run(&there).unwrap())
}

/// The writer takes its orders one after the other: when it has dumped a state, it has done all before.
fn wait_for_writer(lab: &Lab) {
    let path = lab.path("state");
    let mut packet = Vec::new();
    Order::State { path: path.as_os_str().as_bytes() }.push(&mut packet);
    let text = tempfile::tempfile().unwrap();
    lab.log.writer().unwrap().send(&packet, &[text.as_fd()]).unwrap();
    wait_until(|| path.exists());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[track_caller]
fn assert_line(text: &str, expected: &str) {
    let (stamp, rest) = text.split_once(' ').unwrap();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{text}");
    assert_eq!(rest, format!("superd[{}]: {expected}\n", std::process::id()));
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not within 10 s");
        thread::yield_now();
    }
}
