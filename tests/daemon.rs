//! Start: in the foreground and as a daemon, the pid file, and every way in which a start fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::net::TcpListener;

use harness::{Client, Process, Start, Superd, is_root, needs_program, needs_root, processes, world};

const HELLO: &str =
    "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";

#[test]
fn without_foreground_it_is_a_daemon() {
    let superd = Start::new(HELLO).arguments(&[]).daemon().start();
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    let pid = superd.pid();
    assert_eq!(superd.status()["pid"], pid);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let (session, tty) = (fields[3], fields[4]);
    assert_ne!(session, own_session(), "a session of its own");
    assert_eq!(tty, "0", "no terminal");
    if is_root() {
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
        for (fd, target) in processes::open_files(pid).iter().take(3) {
            assert_eq!(target, "/dev/null", "descriptor {fd}");
        }
    }
}

fn own_session() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_fails() {
    let (status, stderr) = Start::new("[service.x]\nlissten = 1\n").arguments(&[]).fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("superd.toml:2:1") && stderr.contains("listen"), "{stderr}");
}

#[test]
fn the_pid_file_is_locked() {
    let superd = Superd::with(HELLO);
    let path = superd.dir().join("superd.pid");
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), superd.pid().to_string());
    let config = format!(
        "{HELLO}[daemon]\ncontrol = \"{{dir}}/c\"\nstate_dir = \"{{dir}}\"\npid_file = \"{}\"\n",
        path.display()
    );
    let (status, stderr) = Start::new(&config).own_daemon_table().fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("superd.pid") && stderr.contains(&superd.pid().to_string()), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), superd.pid().to_string(), "the file is as it was");
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
}

#[test]
fn its_files_go_with_it() {
    let superd = Superd::with(HELLO);
    let dir = superd.dir().to_owned();
    let copy = tempfile::tempdir().unwrap();
    assert!(dir.join("control.sock").exists());
    // The folder is removed with the test: what superd left is looked at before.
    let mut superd = superd;
    superd.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(superd.wait(), 0);
    assert!(!dir.join("control.sock").exists());
    drop(copy);
}

#[test]
fn a_port_that_is_taken_is_named_with_its_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let (status, stderr) = Start::new(&HELLO.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))).fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(&format!("tcp:127.0.0.1:{port}")) && stderr.contains("hello"), "{stderr}");
    assert!(stderr.contains("Address already in use"), "{stderr}");
    if is_root() {
        assert!(stderr.contains(&format!("pid {}", std::process::id())), "{stderr}");
    }
}

#[test]
fn a_port_that_only_root_may_have() {
    if is_root() {
        return harness::skipped("an ordinary user");
    }
    let (status, stderr) = Start::new(&HELLO.replace("127.0.0.1:0", "127.0.0.1:79")).fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("Permission denied") && stderr.contains("tcp:127.0.0.1:79"), "{stderr}");
}

#[test]
fn all_errors_of_a_start_are_told_at_once() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let taken = HELLO.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let config = format!("{taken}{}", taken.replace("service.hello", "service.second"));
    let (status, stderr) = Start::new(&config).fails();
    assert_eq!(status, Some(1));
    assert!(stderr.contains("hello") && stderr.contains("second"), "{stderr}");
}

#[test]
fn a_missing_configuration_is_an_error() {
    let start =
        Start::new(HELLO).arguments(&["--foreground", "--config", "{dir}/missing.toml"]).last_config();
    let (status, stderr) = start.fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("missing.toml") && stderr.contains("no such file"), "{stderr}");
}

#[test]
fn a_wildcard_is_both_families() {
    needs_root!();
    needs_program!("ip");
    world::own_network();
    let superd = Superd::with(&HELLO.replace("tcp4:127.0.0.1:0", "tcp:7000"));
    check_bound(&superd, &["0.0.0.0:7000", "[::]:7000"]);
    for address in ["127.0.0.1:7000", "[::1]:7000"] {
        assert_eq!(Client::connect(address.parse().unwrap()).read_text(), "hello\n");
    }
}

#[test]
fn a_kernel_without_ipv6_is_no_error() {
    needs_root!();
    needs_program!("ip", "python3");
    world::own_network();
    let start = Start::new(&HELLO.replace("tcp4:127.0.0.1:0", "tcp:7000"));
    let superd = start.behind(&world::WITHOUT_IPV6).start();
    check_bound(&superd, &["0.0.0.0:7000"]);
    assert_eq!(superd.service("hello")["state"], "online");
    let start = Start::new(&HELLO.replace("tcp4:127.0.0.1:0", "tcp6:7001"));
    let (status, stderr) = start.behind(&world::WITHOUT_IPV6).fails();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("tcp6:7001") && stderr.contains("Address family not supported"), "{stderr}");
}

#[track_caller]
fn check_bound(superd: &Superd, expected: &[&str]) {
    let listeners = superd.service("hello")["listeners"].as_array().cloned().unwrap();
    let mut bound: Vec<&str> = listeners.iter().filter_map(|listener| listener["bound"].as_str()).collect();
    bound.sort_unstable();
    assert_eq!(bound, expected);
}

#[test]
fn without_etc_services_numbers_are_enough() {
    needs_root!();
    world::own_mounts();
    world::run(&["mount", "--bind", "/dev/null", "/etc/services"]);
    assert_eq!(Superd::with(HELLO).connect("hello").read_text(), "hello\n");
}

#[test]
fn a_disabled_service_is_not_bound() {
    let off = HELLO.replace("service.hello", "service.off");
    let superd = Superd::with(&format!("{HELLO}{off}enabled = false\n"));
    let service = superd.service("off");
    assert_eq!(service["state"], "disabled");
    assert!(service["listeners"].as_array().unwrap().iter().all(|listener| listener["bound"].is_null()));
}

#[test]
fn superctl_shows_the_state() {
    let superd = Superd::with(HELLO);
    let plain = superd.superctl(&["status"]);
    let text = String::from_utf8_lossy(&plain.stdout).into_owned();
    let errors = String::from_utf8_lossy(&plain.stderr).into_owned();
    assert!(plain.status.success() && text.contains("hello") && text.contains("online"), "{text}{errors}");
    let json = superd.superctl(&["status", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["pid"], superd.pid());
    let reload = superd.superctl(&["reload"]);
    assert_eq!(reload.status.code(), Some(0));
    superd.rewrite("[service.x]\nlissten = 1\n");
    let reload = superd.superctl(&["reload"]);
    let text = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert_eq!(reload.status.code(), Some(1), "{text}");
    assert!(text.contains("superd.toml:2:1"), "{text}");
    let socket = superd.superctl(&["socket", "hello"]);
    let text = String::from_utf8_lossy(&socket.stdout).into_owned();
    assert!(socket.status.success() && text.contains("127.0.0.1"), "{text}");
    superd.allow_errors("superd.toml:");
}

#[test]
fn superds_own_processes_are_out_of_their_users_reach() {
    let superd = Superd::with(HELLO);
    let launcher =
        superd.children().into_iter().find(|child| child.arguments().contains("launcher")).unwrap();
    for process in [Process::of(superd.pid()).unwrap(), launcher] {
        // The kernel gives the files of a process that is not dumpable to root.
        use std::os::unix::fs::MetadataExt;
        let owner = fs::metadata(format!("/proc/{}/environ", process.pid)).unwrap().uid();
        assert_eq!(owner, 0, "{process:?}");
    }
}
