//! Signals: what an admin, a shell or an init sends superd, and what becomes of sessions.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use harness::{Client, Process, Start, Superd, needs_program, needs_root, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn config(mode: &str, grace: &str) -> String {
    format!(
        "[daemon]\nshutdown_grace = \"{grace}\"\n\
         [service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"{mode}\"]\n{{user}}\n\
         timeout = {{ kill_after = \"300ms\" }}\n"
    )
}

#[test]
fn term_lets_sessions_end_in_their_grace() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut superd = Superd::with(&config("until-eof", "20s"));
        let (address, mut client) = (superd.address("x"), superd.connect("x"));
        let pid = client.read_pid();
        superd.signal(signal);
        until("the listener to be closed", || Client::try_connect(address).is_err().then_some(()));
        client.finish();
        assert_eq!(client.read_to_end(), b"bye\n");
        assert_eq!(superd.wait(), 0);
        superd.expect_log(&format!("pid={pid} status=0"));
        superd.expect_log("stop");
    }
}

#[test]
fn term_ends_sessions_after_their_grace() {
    for (mode, ended_by) in [("sleep", "signal=TERM"), ("ignore-term", "signal=KILL")] {
        let mut superd = Superd::with(&config(mode, "200ms"));
        let mut client = superd.connect("x");
        client.read_pid();
        superd.signal(Signal::SIGTERM);
        assert_eq!(client.read_until_closed(), b"");
        assert_eq!(superd.wait(), 0);
        let line = superd.expect_log("end x");
        assert!(line.contains(ended_by) && line.contains("cause=shutdown"), "{line}");
    }
}

#[test]
fn a_second_term_ends_the_grace() {
    let mut superd = Superd::with(&config("sleep", "600s"));
    let (address, mut client) = (superd.address("x"), superd.connect("x"));
    client.read_pid();
    superd.signal(Signal::SIGTERM);
    until("the listener to be closed", || Client::try_connect(address).is_err().then_some(()));
    superd.signal(Signal::SIGINT);
    assert_eq!(superd.wait(), 0);
    assert_eq!(client.read_until_closed(), b"");
}

#[test]
fn quit_ends_superd_alone() {
    let mut superd = Superd::with(&config("until-eof", "600s"));
    let mut client = superd.connect("x");
    let pid = client.read_pid();
    superd.leaves(pid);
    superd.signal(Signal::SIGQUIT);
    assert_eq!(superd.wait(), 0);
    assert!(Process::of(pid).is_some_and(|program| program.is_alive()));
    client.finish();
    assert_eq!(client.read_to_end(), b"bye\n", "the program lives on");
}

#[test]
fn usr1_writes_the_state() {
    let superd = Superd::with(&config("until-eof", "10s"));
    let mut client = superd.connect("x");
    client.read_pid();
    superd.signal(Signal::SIGUSR1);
    let path = superd.dir().join("state.json");
    let state: Value = until("state.json", || serde_json::from_slice(&std::fs::read(&path).ok()?).ok());
    superd.expect_log(&format!("the state is written to {}", path.display()));
    assert_eq!(state["pid"], superd.pid());
    assert_eq!(state["sessions"], 1);
    assert_eq!(state["services"][0]["name"], "x");
    assert_eq!(state["services"][0]["sessions"], 1);
    let status = superd.status();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&state), keys(&status), "the same object as status");
    client.finish();
    client.read_to_end();
}

#[test]
fn usr2_is_no_harm() {
    let superd = Superd::with(&config("hello", "10s"));
    superd.signal(Signal::SIGUSR2);
    superd.expect_log("USR2");
    assert_eq!(superd.connect("x").read_text(), "hello\n");
}

#[test]
fn grandchildren_are_not_waited_for() {
    let superd = Superd::with(&config("grandchild", "10s"));
    let mut client = superd.connect("x");
    let pid = client.read_pid();
    superd.leaves(pid);
    superd.until_idle();
    assert!(superd.expect_log("end x").contains("status=0"));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(client.read_until_closed(), b"");
}

#[test]
fn as_pid_1_it_reaps_what_is_not_its_own() {
    needs_root!();
    needs_program!("unshare");
    let unshare = ["unshare", "--pid", "--fork", "--mount-proc"];
    let mut superd = Start::new(&config("grandchild", "1s")).behind(&unshare).below_wrapper().start();
    let mut orphans = Vec::new();
    for _ in 0..5 {
        superd.connect("x").read_pid();
    }
    superd.until_idle();
    let grown = || superd.children().into_iter().filter(|child| child.arguments().ends_with("grandchild"));
    until("the orphans", || {
        orphans = grown().collect();
        (orphans.len() == 5).then_some(())
    });
    for orphan in &orphans {
        kill(Pid::from_raw(orphan.pid), Signal::SIGKILL).unwrap();
    }
    until("no zombie", || superd.zombies().is_empty().then_some(()));
    until("strangers to be counted", || (superd.status()["strangers"] == 5).then_some(()));
    superd.connect("x").read_pid();
    superd.signal(Signal::SIGTERM);
    assert_eq!(superd.wait(), 0, "pid 1 ends all that is left, then itself");
    let pid = superd.pid();
    assert!(processes::descendants(pid).is_empty());
}
