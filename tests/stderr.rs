//! `stderr = "log"`: what programs write to their standard error comes into superd's log, and harms nobody.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::collections::BTreeSet;
use std::time::Instant;

use harness::{Process, Start, Superd, is_root, needs_root, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The helpers' user that every machine has.
const DAEMON: &str = "[daemon]\nhelper_user = \"nobody\"\n";

fn service(name: &str, exec: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nstderr = \"log\"\n{{user}}\nexec = [{exec}]\n\
         limits = {{ connections = 1000 }}\n"
    )
}

fn probe(name: &str, arguments: &str) -> String {
    service(name, &format!("\"{{probe}}\", {arguments}"))
}

/// A shell as a program: it runs what the client sends as its first line.
fn shell(name: &str) -> String {
    service(name, r#""/bin/sh", "-c", "read -r line; eval \"$line\"""#)
}

/// Has a shell do something, and waits until it has ended.
#[track_caller]
fn run(superd: &Superd, name: &str, script: &str) -> String {
    let mut client = superd.connect(name);
    client.write(format!("{script}\n").as_bytes());
    client.read_text()
}

fn collector(superd: &Superd) -> Option<Process> {
    let is_collector = |process: &Process| process.comm == "superd-collect" && process.state != 'Z';
    superd.children().into_iter().find(is_collector)
}

/// The values of a key in lines with `part`.
fn values(superd: &Superd, part: &str, key: &str) -> Vec<String> {
    let value = |line: &String| {
        line.split(' ').find_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    superd.log_lines().iter().filter(|line| line.contains(part)).filter_map(value).collect()
}

fn sum(numbers: &[String]) -> u64 {
    numbers.iter().map(|number| number.parse::<u64>().unwrap()).sum()
}

#[test]
fn lines_come_with_their_session() {
    let superd = Superd::with(&(DAEMON.to_owned() + &probe("x", "\"stderr\", \"3\"")));
    for _ in 0..3 {
        assert_eq!(superd.connect("x").read_text(), "hello\n", "nothing of it goes to the client");
    }
    until("nine lines", || (superd.count_log("stderr x ") == 9).then_some(()));
    let sessions: BTreeSet<String> = until("three sessions", || {
        Some(values(&superd, "start x ", "session").into_iter().collect())
            .filter(|all: &BTreeSet<_>| all.len() == 3)
    });
    for session in &sessions {
        let head = format!("stderr x session={session} line=");
        let lines: Vec<String> =
            superd.log_lines().into_iter().filter(|line| line.starts_with(&head)).collect();
        let text = |n: u32| format!("{head}\"line {n}\"");
        assert_eq!(lines, [text(1), text(2), text(3)]);
    }
}

#[test]
fn what_is_written_is_one_line_and_harmless() {
    let superd = Superd::with(&(DAEMON.to_owned() + &shell("x")));
    run(&superd, "x", r#"printf 'a\033[31m "b"\nend x status=0\n\nno end' >&2"#);
    superd.expect_log("start x ");
    let session = values(&superd, "start x ", "session").remove(0);
    for text in [r#""a\x1b[31m \"b\"""#, "\"end x status=0\"", "\"no end\""] {
        superd.expect_log(&format!("stderr x session={session} line={text}"));
    }
    assert_eq!(superd.count_log("stderr x "), 3, "an empty line is none");
    superd.until_idle();
    assert_eq!(superd.log_lines().iter().filter(|line| line.starts_with("end x ")).count(), 1);
}

#[test]
fn long_lines_come_in_pieces() {
    let superd = Superd::with(&(DAEMON.to_owned() + &shell("x")));
    run(&superd, "x", "printf '%01500d\\n' 0 >&2");
    let lines =
        until("two pieces", || Some(values(&superd, "stderr x ", "line")).filter(|all| all.len() == 2));
    assert_eq!(lines, ["0".repeat(1024), "0".repeat(476)]);
}

#[test]
fn a_flood_is_bounded_and_counted() {
    let config = DAEMON.to_owned() + &probe("flood", "\"stderr\", \"100000\"") + &probe("x", "\"hello\"");
    let superd = Superd::with(&config);
    let began = Instant::now();
    assert_eq!(superd.connect("flood").read_text(), "hello\n", "the program never waits for its log");
    assert_eq!(superd.connect("x").read_text(), "hello\n");
    until("every line, said or counted", || {
        let said = superd.log_lines().iter().filter(|line| line.contains("line=\"line")).count();
        let dropped = sum(&values(&superd, "stderr flood ", "dropped"));
        (said as u64 + dropped == 100_000).then_some(())
    });
    let lines = superd.count_log("stderr flood ");
    // A burst, one every 50 ms, and the last word.
    let most = 20 + began.elapsed().as_millis() / 50 + 1;
    assert!(lines as u128 <= most, "{lines} lines, {most} at most");
}

#[test]
fn sessions_share_no_rate() {
    let superd = Superd::with(&(DAEMON.to_owned() + &probe("x", "\"stderr\", \"10\"")));
    let mut clients: Vec<_> = (0..20).map(|_| superd.connect("x")).collect();
    for client in &mut clients {
        assert_eq!(client.read_text(), "hello\n");
    }
    until("200 lines", || {
        let dropped = sum(&values(&superd, "stderr x ", "dropped"));
        assert_eq!(dropped, 0);
        (superd.count_log("stderr x ") == 200).then_some(())
    });
}

#[test]
fn the_collector_may_do_nothing() {
    let superd = Superd::with(&(DAEMON.to_owned() + &probe("x", "\"hello\"")));
    let process = until("the collector", || collector(&superd));
    until("their privileges to be gone", || {
        (processes::status_number(process.pid, "NoNewPrivs") == Some(1)).then_some(())
    });
    let own = u64::from(nix::unistd::getuid().as_raw());
    let expected = if is_root() { 65534 } else { own };
    assert_eq!(processes::status_number(process.pid, "Uid"), Some(expected));
}

#[test]
fn they_come_and_go_with_the_services_that_want_them() {
    let other = |stderr: &str| probe("x", "\"until-eof\"").replace("\"log\"", stderr);
    let (with, without) = (DAEMON.to_owned() + &other("\"log\""), DAEMON.to_owned() + &other("\"null\""));
    let superd = Superd::with(&without);
    assert!(collector(&superd).is_none());
    superd.reload_with(&with);
    until("the collector", || collector(&superd));
    let mut client = superd.connect("x");
    client.read_pid();
    superd.reload_with(&without);
    assert!(collector(&superd).is_some(), "a session has a pipe");
    client.finish();
    assert_eq!(client.read_text(), "bye\n");
    until("the collector to go", || collector(&superd).is_none().then_some(()));
    superd.until_idle();
}

#[test]
fn a_session_keeps_its_pipe_over_a_reload() {
    let config = DAEMON.to_owned() + &shell("x");
    let superd = Superd::with(&config);
    let mut client = superd.connect("x");
    client.write(b"echo first >&2; read -r line; echo second >&2\n");
    superd.expect_log("line=first");
    let before = collector(&superd).unwrap();
    superd.reload_with(&config.replace("connections = 1000", "connections = 900"));
    client.write(b"\n");
    assert_eq!(client.read_text(), "");
    superd.expect_log("line=second");
    assert_eq!(collector(&superd).unwrap().pid, before.pid, "nothing about them has changed");
}

#[test]
fn another_user_gets_other_handlers() {
    needs_root!();
    let config = DAEMON.to_owned() + &shell("x");
    let superd = Superd::with(&config);
    let mut client = superd.connect("x");
    client.write(b"echo first >&2; read -r line; echo second >&2\n");
    superd.expect_log("line=first");
    superd.reload_with(&config.replace("\"nobody\"\n[", "\"daemon\"\n["));
    run(&superd, "x", "echo third >&2");
    superd.expect_log("line=third");
    client.write(b"\n");
    assert_eq!(client.read_text(), "");
    superd.expect_log("line=second");
    until("the old collector to go", || {
        let all = superd.children().into_iter().filter(|process| process.comm == "superd-collect");
        let users: Vec<u64> =
            all.filter_map(|process| processes::status_number(process.pid, "Uid")).collect();
        (users == [1]).then_some(())
    });
}

#[test]
fn a_collector_that_is_killed_comes_back() {
    let superd = Superd::with(&(DAEMON.to_owned() + &shell("x") + &probe("y", "\"hello\"")));
    run(&superd, "x", "echo before >&2");
    superd.expect_log("line=before");
    for _ in 0..3 {
        let process = until("the collector", || collector(&superd));
        superd.until_service("x", "online", |service| service["state"] == "online");
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
        until("their end", || (!process.is_alive()).then_some(()));
        assert_eq!(superd.connect("y").read_text(), "hello\n", "services go on");
    }
    superd.until_service("x", "online", |service| service["state"] == "online");
    run(&superd, "x", "echo after >&2");
    superd.expect_log("line=after");
    let lost = superd.count_log("degraded reason=collector");
    assert_eq!(lost, 3);
    until("the last to be back", || (superd.count_log("online reason=collector") == 3).then_some(()));
}

#[test]
fn without_a_collector_it_is_dev_null() {
    let superd = Superd::with(&(DAEMON.to_owned() + &shell("x")));
    run(&superd, "x", "echo before >&2");
    superd.expect_log("line=before");
    let process = collector(&superd).unwrap();
    // The launcher can't make others while it is stopped, nor what clients ask for.
    let launcher = superd.children().into_iter().find(|process| process.comm == "superd-launcher").unwrap();
    kill(Pid::from_raw(launcher.pid), Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    superd.until_service("x", "degraded", |service| service["reason"] == "collector");
    let mut client = superd.connect("x");
    client.write(b"readlink /proc/self/fd/2\n");
    until("the session", || (superd.service("x")["sessions"] == 1).then_some(()));
    kill(Pid::from_raw(launcher.pid), Signal::SIGCONT).unwrap();
    assert_eq!(client.read_text(), "/dev/null\n");
    superd.until_service("x", "online", |service| service["state"] == "online");
    assert_eq!(run(&superd, "x", "echo after >&2; readlink /proc/self/fd/2 | cut -c1-4"), "pipe\n");
    superd.expect_log("line=after");
}

#[test]
fn the_program_may_open_its_standard_error_again() {
    let superd = Superd::with(&(DAEMON.to_owned() + &shell("x")));
    run(&superd, "x", "echo again > /dev/stderr");
    superd.expect_log("line=again");
}

#[test]
fn the_last_words_before_the_end_are_kept() {
    let script = "trap 'echo last words >&2; exit' TERM; echo ready; while :; do sleep 0.01; done";
    let config = "[daemon]\nhelper_user = \"nobody\"\nshutdown_grace = \"0s\"\n".to_owned() + &shell("x");
    let mut superd = Start::new(&config).start();
    let mut client = superd.connect("x");
    client.write(format!("{script}\n").as_bytes());
    assert_eq!(client.read_line(), "ready");
    superd.signal(Signal::SIGTERM);
    assert_eq!(superd.wait(), 0);
    superd.expect_log("line=\"last words\"");
}
