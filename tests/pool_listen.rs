//! Pools whose workers accept by themselves, from listeners that they share with superd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Client, Superd, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pool(words: &str, min: u32, more: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    format!(
        "[service.app]\nlisten = \"tcp4:127.0.0.1:PORT\"\n\
         pool = {{ command = [\"{{member}}\", {}], protocol = \"listen\", min = {min} }}\n{{user}}\n{more}\n",
        words.join(", ")
    )
    .replace("PORT", "0")
}

/// The pid of the worker that answers, and how many listeners it has.
fn ask(client: &mut Client) -> (i32, usize) {
    let line = client.read_text();
    let (pid, count) = line.trim().strip_prefix("pid ").unwrap().split_once(" of ").unwrap();
    (pid.parse().unwrap(), count.parse().unwrap())
}

#[test]
fn workers_accept_from_all_listeners() {
    let config = pool("accept", 2, "")
        .replace("\"tcp4:127.0.0.1:0\"", "[\"tcp4:127.0.0.1:0\", \"unix:{dir}/app.sock\"]");
    let superd = Superd::with(&config);
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    let workers = superd.workers("app");
    let (pid, count) = ask(&mut superd.connect("app"));
    assert!(workers.contains(&pid) && count == 2, "{pid} of {workers:?} has {count}");
    let mut text = String::new();
    UnixStream::connect(superd.dir().join("app.sock")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.ends_with(" of 2\n"), "{text}");
    let status = superd.pool("app");
    assert_eq!((&status["protocol"], &status["limits"]["max"]), (&"listen".into(), &().into()));
}

#[test]
fn one_that_never_says_that_it_is_ready_is_taken_for_it() {
    let superd = Superd::with(&pool("accept-silent", 1, ""));
    ask(&mut superd.connect("app"));
    superd.until_pool("app", "one", |pool| pool["idle"] == 1);
}

#[test]
fn a_worker_that_dies_is_replaced() {
    let superd = Superd::with(&pool("accept", 2, ""));
    for _ in 0..5 {
        let workers = superd.until_pool("app", "two", |pool| pool["idle"] == 2)["workers"].clone();
        let pid = i32::try_from(workers[0]["pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        until("another one", || (!superd.workers("app").contains(&pid)).then_some(()));
        assert_ne!(ask(&mut superd.connect("app")).0, pid);
    }
}

/// Whatever the workers do to the listener, the next ones serve.
fn check_spoilt(what: &str, anew: bool) {
    let superd = Superd::with(&pool(&format!("spoil {what}"), 1, ""));
    let mut pids = Vec::new();
    for _ in 0..4 {
        superd.until_pool("app", "one", |pool| pool["idle"] == 1);
        let client = Client::try_connect(superd.address("app"));
        pids.push(client.unwrap_or_else(|error| panic!("{what}: {error}")).read_pid());
        let last = pids.last().copied();
        until("its end", || superd.workers("app").iter().all(|pid| Some(*pid) != last).then_some(()));
    }
    pids.dedup();
    assert_eq!(pids.len(), 4, "{what}: {pids:?}");
    let options = superd.ask(&serde_json::json!({ "v": 1, "do": "socket", "service": "app" }));
    assert!(options["socket"][0]["bound"].is_string(), "{what}: {options}");
    assert_eq!(superd.count_log("opened anew") > 0, anew, "{what}: {:?}", superd.log_lines());
}

#[test]
fn what_workers_do_to_their_listener_is_undone() {
    check_spoilt("nonblock", false);
    check_spoilt("async", false);
}

#[test]
fn a_listener_that_was_shut_down_serves_on() {
    // The port that the kernel chose is lost with it.
    check_spoilt("shutdown", true);
    let config = pool("spoil shutdown", 1, "").replace("tcp4:127.0.0.1:0", "unix:{dir}/app.sock");
    let superd = Superd::with(&config);
    for _ in 0..3 {
        superd.until_pool("app", "one", |pool| pool["idle"] == 1);
        let mut text = String::new();
        let path = superd.dir().join("app.sock");
        let mut client = until("the listener", || UnixStream::connect(&path).ok());
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("pid "), "{text}");
        let pid: i32 = text.trim()[4..].parse().unwrap();
        until("its end", || (!superd.workers("app").contains(&pid)).then_some(()));
    }
    superd.expect_log("opened anew");
}

#[test]
fn a_listener_that_one_of_several_shuts_down_serves_on() {
    let superd = Superd::with(&pool("spoil shutdown", 3, ""));
    for _ in 0..4 {
        superd.until_pool("app", "one at least", |pool| {
            pool["idle"].as_u64() >= Some(1) && pool["starting"] == 0
        });
        until("an answer", || {
            let mut client = Client::try_connect(superd.address("app")).ok()?;
            client.read_until_closed().starts_with(b"pid ").then_some(())
        });
    }
}

/// Clients that are neither refused nor reset.
struct Askers {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Askers {
    fn begin(superd: &Superd) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted, address) = (Arc::clone(&stop), Arc::clone(&asked), superd.address("app"));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                ask(&mut Client::connect(address));
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, asked, thread }
    }

    fn until_more(&self, count: usize) {
        let goal = self.asked.load(Ordering::SeqCst) + count;
        until("clients to be served", || (self.asked.load(Ordering::SeqCst) >= goal).then_some(()));
    }

    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

#[test]
fn reloads_under_load_refuse_nobody() {
    let port = harness::world::free_port();
    let config = |min: u32, more: &str| pool("accept", min, more).replace(":0\"", &format!(":{port}\""));
    let superd = Superd::with(&config(2, ""));
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    let askers = Askers::begin(&superd);
    for round in 0..30_u32 {
        superd.reload_with(&config(1 + round % 3, &format!("umask = \"0{}2\"", round / 2 % 8)));
        askers.until_more(3);
    }
    superd.until_pool("app", "the newest alone", |pool| pool["next"].is_null() && pool["retiring"] == 0);
    askers.end();
    assert_eq!(superd.pool("app")["restarts"], 0);
}

#[test]
fn a_generation_that_fails_leaves_the_old_one_accepting() {
    let port = harness::world::free_port();
    let config = |words: &str| pool(words, 1, "").replace(":0\"", &format!(":{port}\""));
    let superd = Superd::with(&config("accept"));
    let old = superd.until_pool("app", "one", |pool| pool["idle"] == 1)["workers"][0]["pid"].clone();
    superd.reload_with(&config("exit"));
    superd.until_service("app", "degraded", |service| service["reason"] == "pool");
    assert_eq!(ask(&mut superd.connect("app")).0, old);
    superd.reload_with(&config("accept"));
    superd.until_service("app", "online", |service| service["state"] == "online");
    assert_eq!(ask(&mut superd.connect("app")).0, old);
}

#[test]
fn a_listen_pool_becomes_another_kind_and_back() {
    let port = harness::world::free_port();
    let listen = pool("accept", 1, "").replace(":0\"", &format!(":{port}\""));
    let handoff = listen.replace("\"accept\"", "\"hello\"").replace(", protocol = \"listen\"", "");
    let exec = format!(
        "[service.app]\nlisten = \"tcp4:127.0.0.1:{port}\"\nexec = [\"{{probe}}\", \"hello\"]\n{{user}}\n"
    );
    let superd = Superd::with(&listen);
    for other in [&handoff, &exec, &handoff] {
        superd.until_pool("app", "one", |pool| {
            pool["idle"] == 1 && pool["next"].is_null() && pool["retiring"] == 0
        });
        ask(&mut superd.connect("app"));
        superd.reload_with(other);
        until("the old workers' end", || {
            let workers =
                superd.children().into_iter().filter(|child| child.arguments().ends_with("member accept"));
            (workers.count() == 0).then_some(())
        });
        assert_eq!(superd.connect("app").read_text(), "hello\n");
        superd.reload_with(&listen);
    }
}

#[test]
fn without_its_address_no_worker_is_started() {
    // RFC 5737: nobody has it.
    let config = pool("accept", 1, "").replace("tcp4:127.0.0.1:0", "tcp4:192.0.2.77:7777");
    let hello = "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";
    let superd = Superd::with(&format!("{config}{hello}"));
    assert_eq!(superd.service("app")["state"], "degraded");
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    assert!(superd.workers("app").is_empty());
    assert_eq!(superd.service("hello")["state"], "online");
}

#[test]
fn term_ends_them_all() {
    let mut superd = Superd::with(&pool("accept", 3, ""));
    superd.until_pool("app", "three", |pool| pool["idle"] == 3);
    superd.signal(Signal::SIGTERM);
    assert_eq!(superd.wait(), 0);
}
