//! Pools whose workers are handed connections: how many there are, what they find, what limits and ends do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::{Client, Load, Process, Superd, is_root, needs_root, processes, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MOMENT: Duration = Duration::from_millis(100);

/// A service whose workers do what `words` say.
fn pool(words: &str, keys: &str, more: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    format!(
        "[service.app]\nlisten = \"tcp4:127.0.0.1:0\"\npool = {{ command = [\"{{member}}\", {}], {keys} }}\n\
         {{user}}\n{more}\n",
        words.join(", ")
    )
}

fn held(superd: &Superd) -> (Client, i32) {
    let mut client = superd.connect("app");
    let pid = client.read_pid();
    (client, pid)
}

fn end(mut client: Client) {
    client.finish();
    assert_eq!(client.read_to_end(), b"bye\n");
}

fn kill_worker(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn workers_are_started_ahead_and_serve_one_after_the_other() {
    let superd = Superd::with(&pool("fields", "min = 1, max = 1", ""));
    let ready = superd.until_pool("app", "a worker", |pool| pool["idle"] == 1);
    let pid = ready["workers"][0]["pid"].clone();
    for served in 1..=5 {
        let mut client = superd.connect("app");
        let address = client.address();
        let text = client.read_text();
        assert!(text.starts_with(&format!("pid {pid}\n")), "{text}");
        assert!(text.contains(&format!("client={address}")), "{text}");
        superd.until_pool("app", "served", |pool| pool["workers"][0]["served"] == served);
    }
    superd.until_idle();
    let line = superd.expect_log("end app");
    assert!(line.contains(&format!("pid={pid}")) && line.contains("in=0 out="), "{line}");
    assert!(!line.contains("status="), "{line}");
    assert_eq!(superd.service("app")["started"], 5);
    assert_eq!(superd.status()["workers"], 1);
}

#[test]
fn a_worker_finds_its_channel_and_its_world() {
    let superd = Superd::with(&pool(
        "fields",
        "min = 1",
        "rlimits = { nofile = 99 }\nenv = { COLOUR = \"red\" }\ncwd = \"/usr\"",
    ));
    let mut client = superd.connect("app");
    let (address, local) = (client.address(), superd.address("app"));
    let text = client.read_text();
    let pid = text.lines().next().unwrap().strip_prefix("pid ").unwrap().to_owned();
    let conn = text.lines().nth(1).unwrap();
    let fields: Vec<&str> = conn.split(' ').collect();
    assert_eq!(fields[0], "CONN", "{conn}");
    assert_eq!(fields[2], "service=app", "{conn}");
    assert_eq!(fields[4..], ["proto=tcp", &format!("client={address}"), &format!("local={local}")], "{conn}");
    for line in [
        "SUPERD_POOL=1",
        "SUPERD_SERVICE=app",
        "LISTEN_FDS=1",
        "LISTEN_FDNAMES=superd-pool",
        "COLOUR=red",
        &format!("LISTEN_PID={pid}"),
        "cwd=/usr",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(text.contains("NOTIFY_SOCKET=@") && text.contains(" nofile=99"), "{text}");
    if is_root() {
        assert!(text.contains("uid=65534 gid=65534"), "{text}");
    }
}

#[test]
fn a_unix_client_is_told_by_its_user() {
    let config = pool("fields", "min = 1", "").replace("tcp4:127.0.0.1:0", "unix:{dir}/app.sock");
    let superd = Superd::with(&config);
    let mut client = UnixStream::connect(superd.dir().join("app.sock")).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let expected = format!(" proto=unix uid={uid} gid={gid} pid={}", std::process::id());
    assert!(text.lines().nth(1).unwrap().ends_with(&expected), "{text}");
}

#[test]
fn there_are_as_many_as_the_load_wants_and_no_more() {
    let superd = Superd::with(&pool("hold", "min = 1, spare = 1, max = 3, idle_timeout = \"200ms\"", ""));
    superd.until_pool("app", "its least", |pool| pool["idle"] == 1);
    let first = held(&superd);
    superd.until_pool("app", "a spare one", |pool| pool["busy"] == 1 && pool["idle"] == 1);
    let (second, third) = (held(&superd), held(&superd));
    let mut pids = [first.1, second.1, third.1];
    pids.sort_unstable();
    assert!(pids.windows(2).all(|pair| pair[0] != pair[1]), "{pids:?}");
    let mut fourth = superd.connect("app");
    superd.until_pool("app", "one who waits", |pool| pool["busy"] == 3 && pool["waiting"] == 1);
    assert!(fourth.is_silent(MOMENT));
    end(first.0);
    fourth.read_pid();
    [second.0, third.0, fourth].into_iter().for_each(end);
    superd.until_pool("app", "its spare alone", |pool| {
        pool["idle"] == 1 && pool["retiring"] == 0 && pool["busy"] == 0
    });
    assert_eq!(superd.pool("app")["restarts"], 0);
}

#[test]
fn without_a_least_the_first_client_starts_one() {
    let superd = Superd::with(&pool("hello", "min = 0, idle_timeout = \"100ms\"", ""));
    assert_eq!(superd.pool("app")["workers"], serde_json::json!([]));
    assert_eq!(superd.connect("app").read_text(), "hello\n");
    superd.until_pool("app", "none again", |pool| pool["workers"] == serde_json::json!([]));
    assert_eq!(superd.connect("app").read_text(), "hello\n");
}

#[test]
fn one_worker_may_have_many_connections() {
    let superd = Superd::with(&pool("hold", "min = 1, max = 1, concurrency = 3", ""));
    let clients: Vec<(Client, i32)> = (0..3).map(|_| held(&superd)).collect();
    assert!(clients.iter().all(|(_, pid)| *pid == clients[0].1));
    let mut fourth = superd.connect("app");
    assert!(fourth.is_silent(MOMENT));
    assert_eq!(superd.pool("app")["connections"], 3);
    let worker = clients[0].1;
    kill_worker(worker);
    for (mut client, _) in clients {
        assert_eq!(client.read_until_closed(), b"");
    }
    assert_ne!(fourth.read_pid(), worker);
    until("three lost", || (superd.count_log("cause=handler-lost") == 3).then_some(()));
    end(fourth);
    superd.until_idle();
}

#[test]
fn a_worker_is_replaced_after_its_connections() {
    let superd = Superd::with(&pool("fields", "min = 1, max = 1, max_connections = 2", ""));
    let mut pids: Vec<String> = Vec::new();
    for _ in 0..6 {
        let text = superd.connect("app").read_text();
        pids.push(text.lines().next().unwrap().to_owned());
    }
    assert!(pids.chunks(2).all(|pair| pair[0] == pair[1]), "{pids:?}");
    pids.dedup();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert_eq!(superd.pool("app")["restarts"], 0);
}

#[test]
fn ready_may_be_said_by_notify_socket_alone() {
    let superd = Superd::with(&pool("notify", "min = 2", ""));
    superd.until_pool("app", "both", |pool| pool["idle"] == 2);
    assert_eq!(superd.connect("app").read_text(), "hello\n");
}

#[test]
fn lines_of_standard_error_are_logged() {
    let superd = Superd::with(&pool("complain", "min = 1", "stderr = \"log\""));
    assert_eq!(superd.connect("app").read_text(), "hello\n");
    let line = superd.expect_log("stderr app");
    assert!(line.contains(&format!("{} complains", superd.workers("app")[0])), "{line}");
}

#[test]
fn limits_hold_and_are_given_back_however_a_session_ends() {
    let limits = "limits = { connections = 2, per_source = 1 }\nbanner = { busy = \"busy\\n\" }";
    let superd = Superd::with(&pool("hold", "min = 1, max = 4", limits));
    for way in 0..6 {
        let (client, pid) = held(&superd);
        assert_eq!(superd.connect("app").read_text(), "busy\n");
        match way % 3 {
            0 => end(client),
            1 => kill_worker(pid),
            _ => client.reset(),
        }
        superd.until_idle();
    }
    let refused = superd.service("app")["refused"]["per_source"].clone();
    assert_eq!(refused, 6);
    end(held(&superd).0);
}

#[test]
fn a_full_pool_may_close_instead() {
    let limits = "limits = { connections = 1, on_limit = \"close\" }\nbanner = { busy = \"busy\\n\" }";
    let superd = Superd::with(&pool("hold", "min = 2, max = 2", limits));
    let (client, _) = held(&superd);
    assert_eq!(superd.connect("app").read_text(), "busy\n");
    end(client);
}

#[test]
fn a_session_has_its_time() {
    let timeout = "timeout = { session = \"200ms\", kill_after = \"200ms\" }";
    for (mode, concurrency) in [("hold", 1), ("stubborn", 1), ("hold", 2)] {
        let superd = Superd::with(&pool(mode, &format!("min = 1, concurrency = {concurrency}"), timeout));
        let (mut client, _) = held(&superd);
        assert_eq!(client.read_until_closed(), b"");
        let line = superd.expect_log("end app");
        assert!(line.contains("cause=timeout"), "{line}");
        superd.until_idle();
        held(&superd);
    }
}

#[test]
fn term_lets_workers_finish_and_leaves_none() {
    let mut superd = Superd::with(
        &pool("hold", "min = 3", "")
            .replace("[service.app]", "[daemon]\nshutdown_grace = \"20s\"\n[service.app]"),
    );
    superd.until_pool("app", "three", |pool| pool["idle"] == 3);
    let (client, pid) = held(&superd);
    let workers = superd.workers("app");
    superd.signal(Signal::SIGTERM);
    for worker in workers.into_iter().filter(|worker| *worker != pid) {
        until("an idle worker's end", || Process::of(worker).is_none().then_some(()));
    }
    assert!(Process::of(pid).is_some());
    end(client);
    assert_eq!(superd.wait(), 0);
}

#[test]
fn workers_that_heed_nothing_are_killed_at_the_end() {
    let config = pool("stubborn", "min = 2", "timeout = { kill_after = \"300ms\" }");
    let mut superd =
        Superd::with(&config.replace("[service.app]", "[daemon]\nshutdown_grace = \"100ms\"\n[service.app]"));
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    let (_client, _) = held(&superd);
    superd.signal(Signal::SIGTERM);
    assert_eq!(superd.wait(), 0);
}

#[test]
fn quit_closes_the_channels() {
    let mut superd = Superd::with(&pool("hold", "min = 2", ""));
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    superd.signal(Signal::SIGQUIT);
    superd.wait();
}

#[test]
fn ten_thousand_connections_leave_nothing() {
    let superd = Superd::with(&pool("hello", "min = 2, max = 4", ""));
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    let before = superd.fds();
    let load = Load::begin(superd.address("app"), 4, "hello\n");
    while load.served() < 10_000 {
        load.until_more(500);
    }
    let served = load.end();
    superd.until_idle();
    assert_eq!(superd.service("app")["started"], served);
    superd.until_pool("app", "no process on the way", |pool| pool["starting"] == 0);
    let more = superd.workers("app").len() - 2;
    assert_eq!(superd.fds(), before + more as u64, "a channel for each worker");
    assert_eq!(superd.pool("app")["restarts"], 0);
}

#[test]
fn pools_and_programs_beside_each_other() {
    let hello = "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";
    let other = pool("hello", "min = 2", "").replace("service.app", "service.other");
    let superd = Superd::with(&format!("{}{other}{hello}", pool("hello", "min = 1, concurrency = 4", "")));
    let loads = ["app", "other", "hello"].map(|name| Load::begin(superd.address(name), 2, "hello\n"));
    for load in &loads {
        load.until_more(200);
    }
    for load in loads {
        load.end();
    }
    superd.until_idle();
}

#[test]
fn without_descriptors_nobody_is_lost() {
    harness::needs_program!("prlimit");
    let superd = Superd::with(&pool("hold", "min = 1, max = 4", ""));
    superd.allow_errors("EMFILE");
    superd.until_pool("app", "one", |pool| pool["idle"] == 1);
    let address = superd.address("app");
    let (first, _) = held(&superd);
    let limit = |soft: &str| {
        harness::world::run(&["prlimit", "--pid", &superd.pid().to_string(), &format!("--nofile={soft}:")])
    };
    limit("6");
    let mut second = Client::connect(address);
    superd.expect_log("paused reason=EMFILE");
    assert!(second.is_silent(MOMENT));
    limit("1024");
    second.read_pid();
    end(second);
    end(first);
    superd.until_idle();
    superd.until_service("app", "online", |service| service["state"] == "online");
}

#[test]
fn no_client_sees_the_channel_of_a_worker() {
    needs_root!();
    let superd = Superd::with(&pool("hold", "min = 2", ""));
    let (client, pid) = held(&superd);
    let files = processes::open_files(pid);
    let sockets = files.iter().filter(|(_, name)| name.starts_with("socket:")).count();
    assert_eq!(sockets, 2, "the channel and the connection: {files:?}");
    end(client);
}

#[test]
fn a_client_that_writes_at_once_is_read_by_its_worker() {
    let superd = Superd::with(&pool("hold", "min = 1", ""));
    for _ in 0..20 {
        let mut client = superd.connect("app");
        client.stream.write_all(b"x").unwrap();
        client.finish();
        assert!(client.read_text().ends_with("bye\n"));
    }
}

#[test]
fn superctl_shows_pools_and_their_workers() {
    let plain = "[service.plain]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\"]\n{user}\n";
    let superd = Superd::with(&format!("{}{plain}", pool("hold", "min = 1, spare = 1, max = 2", "")));
    let (client, pid) = held(&superd);
    superd.until_pool("app", "a spare one", |pool| pool["idle"] == 1);
    let shown = |words: &[&str]| {
        let output = superd.superctl(words);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = shown(&["pool"]);
    let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(row[..8], ["app", "handoff", "1", "1", "0", "0", "0", "0"], "{text}");
    assert!(text.contains("min=1 spare=1 max=2 concurrency=1 idle_timeout=60s"), "{text}");
    let text = shown(&["pool", "app"]).1;
    let worker = text.lines().find(|line| line.starts_with(&pid.to_string())).unwrap();
    assert!(worker.contains("ready") && text.lines().count() == 6, "{text}");
    assert!(shown(&["pool", "--json"]).1.contains(&format!("\"pid\":{pid}")));
    assert!(shown(&["status"]).1.contains("workers 2"));
    assert_eq!(superd.superctl(&["pool", "plain"]).status.code(), Some(1));
    assert_eq!(superd.superctl(&["pool", "nobody"]).status.code(), Some(1));
    end(client);
}
