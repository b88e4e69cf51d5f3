//! Pools and reloads: the next generation takes over when it is ready, and never leaves a client without a worker.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::path::Path;

use harness::{Load, Superd, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pool(words: &str, keys: &str, more: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    format!(
        "[service.app]\nlisten = \"unix:{{dir}}/app.sock\"\n\
         pool = {{ command = [\"{{member}}\", {}], {keys} }}\n{{user}}\n{more}\n",
        words.join(", ")
    )
    .replace("unix:{dir}/app.sock", "tcp4:127.0.0.1:PORT")
}

/// The same port in every configuration: one whose port is another has another listener.
struct Port(u16);

impl Port {
    fn free() -> Self {
        Self(harness::world::free_port())
    }

    fn pool(&self, words: &str, keys: &str, more: &str) -> String {
        pool(words, keys, more).replace("PORT", &self.0.to_string())
    }

    fn hello(&self) -> String {
        let exec =
            "[service.app]\nlisten = \"tcp4:127.0.0.1:PORT\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";
        exec.replace("PORT", &self.0.to_string())
    }
}

fn generation(superd: &Superd) -> u64 {
    superd.pool("app")["generation"].as_u64().unwrap()
}

#[test]
fn numbers_change_under_the_same_workers() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 2, max = 2", ""));
    let before = superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    superd.reload_with(&port.pool("hello", "min = 4, max = 4", "timeout = { handshake = \"5s\" }"));
    let more = superd.until_pool("app", "four", |pool| pool["idle"] == 4);
    assert_eq!(before["generation"], more["generation"]);
    let pids = |pool: &serde_json::Value| {
        let workers = pool["workers"].as_array().unwrap().clone();
        workers.iter().map(|worker| worker["pid"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert!(pids(&before).iter().all(|pid| pids(&more).contains(pid)));
    superd.reload_with(&port.pool("hello", "min = 0, max = 1", ""));
    superd
        .until_pool("app", "one", |pool| pool["idle"] == 1 && pool["workers"].as_array().unwrap().len() == 1);
}

#[test]
fn a_new_generation_takes_over_and_the_old_one_finishes() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hold", "min = 1", ""));
    let mut old = superd.connect("app");
    let pid = old.read_pid();
    let before = generation(&superd);
    superd.reload_with(&port.pool("hold", "min = 1", "umask = \"077\""));
    superd.until_pool("app", "another generation", |pool| {
        pool["generation"] != before && pool["next"].is_null()
    });
    let mut new = superd.connect("app");
    assert_ne!(new.read_pid(), pid);
    superd.until_pool("app", "one that retires", |pool| pool["retiring"] == 1);
    old.finish();
    assert_eq!(old.read_to_end(), b"bye\n");
    superd.until_pool("app", "none that retires", |pool| pool["retiring"] == 0);
    assert_eq!(superd.pool("app")["restarts"], 0);
}

#[test]
fn one_that_never_gets_ready_leaves_the_old_one_at_work() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 2", ""));
    let before = superd.until_pool("app", "two", |pool| pool["idle"] == 2)["generation"].clone();
    // More often than plans are kept for.
    for umask in ["011", "022", "033", "044"] {
        superd.reload_with(&port.pool("exit", "min = 2", &format!("umask = {umask:?}")));
    }
    superd.until_service("app", "degraded", |service| service["reason"] == "pool");
    let pool = superd.pool("app");
    assert_eq!(pool["generation"], before);
    assert!(pool["next"].is_number(), "{pool}");
    assert_eq!(superd.connect("app").read_text(), "hello\n");
    // Those that die are replaced by their own kind.
    for pid in superd.workers("app") {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for _ in 0..10 {
        assert_eq!(superd.connect("app").read_text(), "hello\n");
    }
    superd.reload_with(&port.pool("hello", "min = 2", ""));
    superd.until_pool("app", "the old one alone", |pool| pool["next"].is_null() && pool["idle"] == 2);
    assert_eq!(generation(&superd), before);
    superd.until_service("app", "online", |service| service["state"] == "online");
}

#[test]
fn one_that_says_nothing_leaves_the_old_one_at_work() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 1", ""));
    superd.until_pool("app", "one", |pool| pool["idle"] == 1);
    superd.reload_with(&port.pool("never-ready", "min = 1", ""));
    superd.until_pool("app", "one that starts", |pool| pool["starting"] == 1 && pool["idle"] == 1);
    assert_eq!(superd.connect("app").read_text(), "hello\n");
    superd.reload_with(&port.pool("notify", "min = 1", ""));
    superd.until_pool("app", "the third", |pool| pool["next"].is_null() && pool["starting"] == 0);
    assert_eq!(superd.connect("app").read_text(), "hello\n");
}

#[test]
fn three_hundred_reloads_under_load_lose_nobody() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 2, max = 4", ""));
    let load = Load::begin(superd.address("app"), 2, "hello\n");
    for round in 0..300 {
        // Every third one is a new generation.
        let umask = format!("umask = \"0{}2\"", round / 3 % 8);
        let keys = format!("min = {}, max = 4", 1 + round % 3);
        superd.reload_with(&port.pool("hello", &keys, &umask));
    }
    load.until_more(50);
    load.end();
    superd.until_idle();
    superd.until_pool("app", "none that retires", |pool| pool["retiring"] == 0 && pool["next"].is_null());
    assert_eq!(superd.pool("app")["restarts"], 0);
    assert_eq!(superd.status()["strangers"], 0);
    until("no zombie", || superd.zombies().is_empty().then_some(()));
}

#[test]
fn a_pool_becomes_a_program_and_a_pool_again_under_load() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 2", ""));
    let load = Load::begin(superd.address("app"), 2, "hello\n");
    for _ in 0..20 {
        superd.reload_with(&port.hello());
        load.until_more(5);
        superd.reload_with(&port.pool("hello", "min = 2", ""));
        load.until_more(5);
    }
    load.end();
    superd.until_idle();
    // One more may have been started for a client that found both busy.
    let rests = |pool: &serde_json::Value| {
        pool["idle"].as_u64() >= Some(2) && pool["busy"] == 0 && pool["retiring"] == 0
    };
    superd.until_pool("app", "two or three", rests);
}

#[test]
fn a_renamed_service_keeps_its_listener() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hello", "min = 2", ""));
    let load = Load::begin(superd.address("app"), 2, "hello\n");
    for round in 0..20 {
        let name = ["[service.web]", "[service.app]"][round % 2];
        superd.reload_with(&port.pool("hello", "min = 2", "").replace("[service.app]", name));
        load.until_more(5);
    }
    load.end();
    superd.until_idle();
}

#[test]
fn a_service_that_goes_keeps_its_sessions_and_no_worker_else() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hold", "min = 3", ""));
    superd.until_pool("app", "three", |pool| pool["idle"] == 3);
    for end in ["", "disabled"] {
        let mut client = superd.connect("app");
        let pid = client.read_pid();
        superd.reload_with(match end {
            "" => "",
            _ => "[service.app]\nenabled = false\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\"]\n{user}\n",
        });
        until("the idle ones' end", || {
            let workers = superd.children().into_iter().filter(|child| child.arguments().contains("member"));
            let pids: Vec<i32> = workers.map(|worker| worker.pid).collect();
            (pids == [pid]).then_some(())
        });
        // It gets no worker any more, but has its own to the end.
        client.finish();
        assert_eq!(client.read_to_end(), b"bye\n");
        superd.until_idle();
        superd.reload_with(&port.pool("hold", "min = 3", ""));
        superd.until_pool("app", "three", |pool| pool["idle"] == 3);
    }
}

#[test]
fn a_new_service_has_nothing_of_the_one_before() {
    let port = Port::free();
    let superd = Superd::with(&port.pool("hold", "min = 1", ""));
    superd.until_pool("app", "one", |pool| pool["idle"] == 1);
    let old = superd.workers("app");
    kill(Pid::from_raw(old[0]), Signal::SIGSTOP).unwrap();
    superd.reload_with("");
    superd.reload_with(&port.pool("hello", "min = 1", "").replace("[service.app]", "[service.new]"));
    superd.until_pool("new", "one", |pool| pool["idle"] == 1);
    // KILL ends what is stopped, too.
    kill(Pid::from_raw(old[0]), Signal::SIGKILL).unwrap();
    until("its end", || (!Path::new(&format!("/proc/{}", old[0])).exists()).then_some(()));
    assert_eq!(superd.pool("new")["restarts"], 0);
    assert_eq!(superd.connect("new").read_text(), "hello\n");
}
