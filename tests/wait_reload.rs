//! Servers that wait, while superd gets another configuration or ends: a server keeps what it was given.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::UdpSocket;

use harness::{Asker, Process, Superd, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

fn waiting(name: &str, listen: &str, more: &str) -> String {
    format!(
        "[daemon]\nshutdown_grace = \"300ms\"\n[service.{name}]\nlisten = \"{listen}\"\nexec = [\"{{waiter}}\", \"datagrams\", \"9\"]\nwait = true\n{{user}}\n{more}\n"
    )
}

const ANY: &str = "udp4:127.0.0.1:0";

/// A superd whose server has the listener at `listen`: it, the asker, and the server's pid.
fn with_server(listen: &str) -> (Superd, Asker, i32) {
    let superd = Superd::with(&waiting("x", listen, ""));
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("hold");
    (superd, asker, pid)
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("the server's end", || Process::of(pid).is_none().then_some(()));
}

#[test]
fn a_server_goes_on_and_its_listener_stays() {
    let (superd, asker, pid) = with_server(ANY);
    let address = superd.address("x");
    for more in ["", "nice = 1", "nice = 2"] {
        let report = superd.reload_with(&waiting("x", ANY, more));
        let word = if more.is_empty() { "kept" } else { "changed" };
        assert_eq!(report[word], json!(["x"]));
        assert_eq!(superd.address("x"), address);
        assert!(Process::of(pid).is_some_and(|server| server.is_alive()));
        assert_eq!(superd.service("x")["sessions"], 1);
    }
    asker.send("next");
    end(pid);
    let next = asker.hear("next");
    assert_ne!(next, pid);
    assert_eq!(superd.service("x")["started"], 2);
}

#[test]
fn the_session_of_a_service_that_is_gone_stays() {
    let (superd, _asker, pid) = with_server(ANY);
    let report = superd.reload_with(&waiting("y", ANY, ""));
    assert_eq!((&report["closed"], &report["opened"]), (&json!(["x"]), &json!(["y"])));
    let service = superd.service("x");
    assert_eq!((&service["state"], &service["sessions"]), (&json!("draining"), &json!(1)));
    assert!(Process::of(pid).is_some_and(|server| server.is_alive()));
    assert_ne!(Asker::of(superd.address("y")).ask("other"), pid);
    end(pid);
    until("the service to be gone", || {
        let services = superd.status()["services"].as_array().cloned().unwrap();
        services.iter().all(|service| service["name"] != "x").then_some(())
    });
}

/// While the service is there, and while only its server is left.
#[test]
fn a_new_service_where_a_server_listens_is_refused() {
    let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = format!("udp4:127.0.0.1:{port}");
    let (superd, asker, pid) = with_server(&at);
    superd.allow_errors("service y: ");
    for round in 0..2 {
        superd.rewrite(&waiting("y", &at, ""));
        let errors = superd.reload().expect_err("the address is the server's").join("\n");
        assert!(
            errors.contains("service y: ") && errors.contains(&format!("pid {pid}")),
            "{round}: {errors}"
        );
        superd.reload_with(&waiting("z", ANY, ""));
    }
    end(pid);
    until("the address to be free", || {
        superd.rewrite(&waiting("y", &at, ""));
        superd.reload().ok()
    });
    assert_ne!(asker.ask("there"), pid);
}

/// What the service becomes meanwhile holds once the server has ended.
#[test]
fn a_service_changes_under_its_server() {
    let disabled = waiting("x", ANY, "enabled = false");
    let (superd, _asker, pid) = with_server(ANY);
    superd.reload_with(&disabled);
    assert!(Process::of(pid).is_some_and(|server| server.is_alive()));
    assert_eq!(superd.service("x")["sessions"], 1);
    end(pid);
    superd.until_idle();
    superd.reload_with(&waiting("x", ANY, ""));
    assert_ne!(Asker::of(superd.address("x")).ask("again"), pid);
}

#[test]
fn a_service_that_waits_no_more_serves_who_waits() {
    let superd = Superd::with(&stream("waiter", "hold", true));
    let mut held = superd.connect("x");
    superd.until_service("x", "lent", |service| service["sessions"] == 1);
    superd.reload_with(&stream("probe", "hello", false));
    let children = superd.children();
    end(children.iter().find(|child| child.comm == "waiter").unwrap().pid);
    // Nobody had taken it: it is served as the configuration has it now.
    assert_eq!(held.read_text(), "hello\n");
    assert_eq!(superd.connect("x").read_text(), "hello\n");
}

#[test]
fn a_service_that_rests_and_waits_no_more_serves() {
    let superd = Superd::with(&stream("waiter", "exit", true));
    let mut held = superd.connect("x");
    superd.expect_log("paused x reason=backoff");
    superd.reload_with(&stream("probe", "hello", false));
    assert_eq!(held.read_text(), "hello\n");
    assert_eq!(superd.connect("x").read_text(), "hello\n");
}

fn stream(program: &str, part: &str, wait: bool) -> String {
    format!(
        "[daemon]\nshutdown_grace = \"300ms\"\n[service.x]\nlisten = \"tcp4:127.0.0.1:0\"\n\
         exec = [\"{{{program}}}\", \"{part}\"]\nwait = {wait}\n{{user}}\n"
    )
}

#[test]
fn the_end_of_superd_is_its_servers_end() {
    let mut superd = Superd::with(&waiting("x", ANY, ""));
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("hold");
    superd.signal(Signal::SIGTERM);
    assert_eq!(superd.wait(), 0);
    assert!(Process::of(pid).is_none_or(|server| !server.is_alive()));
    let line = superd.expect_log("end x");
    assert!(line.contains("signal=TERM") && line.contains("cause=shutdown"), "{line}");
}

#[test]
fn a_server_may_end_by_itself_before_superd() {
    let config = waiting("x", ANY, "").replace("\"9\"", "\"2\"").replace("300ms", "10s");
    let mut superd = Superd::with(&config);
    let asker = Asker::of(superd.address("x"));
    let pid = asker.ask("first");
    superd.signal(Signal::SIGTERM);
    superd.expect_log("ending");
    assert_eq!(asker.ask("second"), pid);
    assert_eq!(superd.wait(), 0);
    assert!(superd.expect_log("end x").contains("status=0"));
}
