//! Pools whose workers die, hang or make no sense: no client is lost that a worker has not taken, no loop spins.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::time::{Duration, Instant};

use harness::{Client, Load, Process, Superd, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn pool(words: &[&str], keys: &str, more: &str) -> String {
    let words: Vec<String> = words.iter().map(|word| format!(", {word:?}")).collect();
    format!(
        "[service.app]\nlisten = \"tcp4:127.0.0.1:0\"\n\
         pool = {{ command = [\"{{member}}\"{}], {keys} }}\n{{user}}\n{more}\n",
        words.concat()
    )
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn what_a_worker_has_not_taken_another_one_gets() {
    let place = tempfile::tempdir().unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(place.path(), permissions).unwrap();
    for (round, min) in [1, 2, 3].into_iter().enumerate() {
        let file = place.path().join(round.to_string()).display().to_string();
        let superd = Superd::with(&pool(&["die-untaken", &file], &format!("min = {min}"), ""));
        superd.until_pool("app", "all", |pool| pool["idle"] == min);
        assert_eq!(superd.connect("app").read_text(), "hello\n");
        superd.until_idle();
        superd.until_pool("app", "all again", |pool| pool["idle"] == min && pool["restarts"] == 1);
        superd.expect_log("ended with status 3");
        assert_eq!(superd.count_log("refuse"), 0);
    }
}

#[test]
fn a_connection_that_kills_its_workers_is_refused_in_the_end() {
    let config = pool(&["poison"], "min = 1, max = 2", "banner = { busy = \"busy\\n\" }");
    let superd = Superd::with(&config);
    assert_eq!(superd.connect("app").read_text(), "busy\n");
    let line = superd.expect_log("refuse app");
    assert!(line.contains("reason=launch"), "{line}");
    superd.until_idle();
    superd.until_pool("app", "three ended", |pool| pool["restarts"] == 3);
}

#[test]
fn what_a_worker_has_taken_ends_with_it() {
    let superd = Superd::with(&pool(&["die-taken"], "min = 1", ""));
    for _ in 0..5 {
        assert_eq!(superd.connect("app").read_until_closed(), b"");
    }
    until("five lines", || (superd.count_log("cause=handler-lost") == 5).then_some(()));
    superd.until_idle();
}

#[test]
fn a_worker_that_ends_by_itself_is_replaced() {
    let superd = Superd::with(&pool(&["die-after", "3"], "min = 1, max = 2", ""));
    let load = Load::begin(superd.address("app"), 2, "hello\n");
    load.until_more(60);
    load.end();
    superd.until_idle();
    assert!(superd.pool("app")["restarts"].as_u64().unwrap() >= 15);
    assert_eq!(superd.count_log("degraded"), 0, "{:?}", superd.log_lines());
}

/// In so long a time, so many tries at most: 0.1, 0.2, 0.4, 0.8 … seconds lie between them.
fn check_backed_off(words: &[&str], keys: &str, allowed: u64) {
    let superd = Superd::with(&pool(words, keys, ""));
    superd.allow_errors("launch-failed");
    superd.until_service("app", "degraded", |service| service["state"] == "degraded");
    assert_eq!(superd.service("app")["reason"], "pool");
    let begun = Instant::now();
    until("the third try", || (superd.pool("app")["restarts"].as_u64() >= Some(3)).then_some(()));
    until("two seconds", || (begun.elapsed() > Duration::from_secs(2)).then_some(()));
    let tries = superd.pool("app")["restarts"].as_u64().unwrap();
    assert!(tries <= allowed, "{tries} tries of {words:?}");
    assert_eq!(superd.count_log("degraded app reason=pool"), 1);
    assert_eq!(superd.count_log("online app"), 0);
    assert!(superd.pool("app")["retry_in"].is_number() || superd.pool("app")["starting"] != 0);
}

#[test]
fn crash_loops_are_backed_off() {
    check_backed_off(&["exit"], "min = 1", 7);
    check_backed_off(&["exit"], "min = 3", 21);
    check_backed_off(&["crash"], "min = 1", 7);
}

#[test]
fn a_program_that_can_t_be_started_is_backed_off() {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("gone");
    std::fs::copy("/bin/true", &program).unwrap();
    let config = pool(&[], "min = 1", "").replace("{member}", &program.display().to_string());
    // It is there while the configuration is read.
    let superd = Superd::with(&config);
    superd.allow_errors("launch-failed app");
    std::fs::remove_file(&program).unwrap();
    let line = superd.expect_log("launch-failed app");
    assert!(line.contains("step=exec") && line.contains("ENOENT"), "{line}");
    superd.until_service("app", "degraded", |service| service["reason"] == "pool");
    until("two tries", || (superd.service("app")["launch_failed"].as_u64() >= Some(3)).then_some(()));
    assert_eq!(superd.count_log("launch-failed"), 1);
}

fn check_senseless(words: &[&str], said: &str) {
    let timeout = "timeout = { handshake = \"300ms\", kill_after = \"200ms\" }";
    let superd = Superd::with(&pool(words, "min = 1, max = 1", timeout));
    superd.allow_errors(said);
    let pid = superd.until_pool("app", "a worker", |pool| pool["idle"] == 1)["workers"][0]["pid"].clone();
    superd.connect("app").read_until_closed();
    let line = superd.expect_log(said);
    assert!(line.contains(&pid.to_string()), "{line}");
    superd.until_idle();
    until("another worker", || superd.workers("app").iter().all(|worker| *worker != pid).then_some(()));
}

#[test]
fn a_worker_that_makes_no_sense_is_killed() {
    let senseless = "has said what makes no sense: it is killed";
    for words in [
        "what?",
        "TAKE",
        "TAKE 99999999",
        "DONE ID",
        "TAKE ID;TAKE ID",
        "TAKE ID;DONE ID;DONE ID",
        "LAUNCH 1",
        "COUNTS ID in=1 out=1 answered=1 refused=1",
    ] {
        check_senseless(&["say", words], senseless);
    }
}

#[test]
fn a_worker_that_takes_nothing_is_killed() {
    check_senseless(&["deaf"], "does not take its connections: it is killed");
}

#[test]
fn a_worker_that_hangs_up_is_ended_and_its_connection_goes_on() {
    let timeout = "timeout = { kill_after = \"200ms\" }";
    let superd = Superd::with(&pool(&["hang-up"], "min = 1, max = 1", timeout));
    let worker = superd.until_pool("app", "a worker", |pool| pool["idle"] == 1)["workers"][0]["pid"].clone();
    superd.connect("app").read_until_closed();
    superd.until_idle();
    until("another worker", || superd.workers("app").iter().all(|pid| *pid != worker).then_some(()));
}

#[test]
fn a_worker_that_is_never_ready_gets_nobody() {
    let superd = Superd::with(&pool(&["never-ready"], "min = 1", ""));
    let mut client = superd.connect("app");
    assert!(client.is_silent(Duration::from_millis(300)));
    let pool = superd.until_pool("app", "one who waits", |pool| pool["waiting"] == 1);
    assert_eq!((&pool["starting"], &pool["idle"]), (&1.into(), &0.into()));
}

#[test]
fn a_hundred_deaths_under_load_leave_nothing() {
    let superd = Superd::with(&pool(&["hello"], "min = 3, max = 3", ""));
    superd.until_pool("app", "three", |pool| pool["idle"] == 3);
    let before = superd.fds();
    let (address, mut served) = (superd.address("app"), 0);
    for round in 0..100 {
        superd.until_pool("app", "one death more", |pool| pool["restarts"] == round);
        let worker = until("a worker", || superd.workers("app").into_iter().find(|pid| *pid != 0));
        let clients: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
        signal(worker, Signal::SIGKILL);
        for mut client in clients {
            served += usize::from(client.read_until_closed() == b"hello\n");
        }
    }
    superd.until_idle();
    superd.until_pool("app", "three again", |pool| pool["idle"] == 3 && pool["starting"] == 0);
    // Others than those that a worker had just taken were served; it may have answered, and not said so.
    let lost = superd.count_log("cause=handler-lost");
    assert!(served + lost >= 500, "{served} served, {lost} lost");
    assert_eq!(superd.pool("app")["restarts"], 100);
    until("descriptors as before", || (superd.fds() == before).then_some(()));
    assert_eq!(superd.status()["strangers"], 0);
    until("no zombie", || superd.zombies().is_empty().then_some(()));
}

#[test]
fn a_launcher_that_dies_while_workers_start_is_no_harm() {
    let superd = Superd::with(&pool(&["hello"], "min = 8, max = 8", ""));
    superd.allow_errors("reason=launcher");
    for _ in 0..5 {
        superd.until_pool("app", "all", |pool| pool["idle"] == 8);
        for pid in superd.workers("app") {
            signal(pid, Signal::SIGKILL);
        }
        let launcher = superd.children().into_iter().find(|child| child.arguments().contains("launcher"));
        signal(launcher.expect("a launcher").pid, Signal::SIGKILL);
        assert_eq!(superd.connect("app").read_text(), "hello\n");
    }
    superd.until_pool("app", "all", |pool| pool["idle"] == 8 && pool["starting"] == 0);
    let is_worker = |child: &Process| child.arguments().contains("member");
    until("the others' end", || {
        (superd.children().iter().filter(|child| is_worker(child)).count() == 8).then_some(())
    });
    assert_eq!(superd.status()["strangers"], 0);
}

#[test]
fn who_waits_for_a_worker_at_the_end_is_told() {
    let config = pool(&["deaf"], "min = 1, max = 1", "timeout = { kill_after = \"200ms\" }");
    let config = format!("[daemon]\nshutdown_grace = \"200ms\"\n{config}");
    let mut superd = Superd::with(&config);
    superd.until_pool("app", "one", |pool| pool["idle"] == 1);
    let mut client = superd.connect("app");
    superd.until_service("app", "busy", |service| service["sessions"] == 1);
    superd.signal(Signal::SIGTERM);
    client.read_until_closed();
    assert_eq!(superd.wait(), 0);
    superd.expect_log("stop sessions=0");
}

/// A connection that its only worker was handed and has not taken.
fn untaken(superd: &Superd) -> (Client, i32) {
    let worker = until("a worker", || superd.workers("app").first().copied());
    signal(worker, Signal::SIGSTOP);
    let client = superd.connect("app");
    superd.until_service("app", "busy", |service| service["sessions"] == 1);
    (client, worker)
}

#[test]
fn who_waits_for_workers_that_can_t_be_started_is_told() {
    for ends in [false, true] {
        let timeout = "timeout = { handshake = \"1s\" }\nbanner = { busy = \"busy\\n\" }";
        let config = pool(&["hello"], "min = 1, max = 1", timeout);
        let mut superd = Superd::with(&format!("[daemon]\nshutdown_grace = \"10s\"\n{config}"));
        superd.allow_errors("launch-failed");
        superd.until_pool("app", "one", |pool| pool["idle"] == 1);
        let (mut client, worker) = untaken(&superd);
        std::fs::remove_file(superd.dir().join("member")).unwrap();
        signal(worker, Signal::SIGKILL);
        superd.expect_log("launch-failed app");
        if ends {
            superd.signal(Signal::SIGTERM);
        }
        assert_eq!(client.read_text(), "busy\n");
        superd.expect_log(if ends { "reason=shutdown" } else { "reason=launch" });
        if ends {
            assert_eq!(superd.wait(), 0);
        } else {
            superd.until_idle();
        }
    }
}

#[test]
fn of_many_connections_the_untaken_go_on() {
    let superd = Superd::with(&pool(&["hold"], "min = 1, max = 2, concurrency = 3", ""));
    let mut taken = superd.connect("app");
    let worker = taken.read_pid();
    signal(worker, Signal::SIGSTOP);
    let mut others = [superd.connect("app"), superd.connect("app")];
    superd.until_service("app", "busy", |service| service["sessions"] == 3);
    signal(worker, Signal::SIGKILL);
    assert_eq!(taken.read_until_closed(), b"");
    for client in &mut others {
        assert_ne!(client.read_pid(), worker);
        client.finish();
        assert_eq!(client.read_to_end(), b"bye\n");
    }
    superd.until_idle();
    assert_eq!(superd.count_log("cause=handler-lost"), 1);
}

#[test]
fn a_service_that_goes_while_a_connection_is_handed_over() {
    for dies in [false, true] {
        let superd = Superd::with(&pool(&["hello"], "min = 1, max = 1", ""));
        superd.until_pool("app", "one", |pool| pool["idle"] == 1);
        let (mut client, worker) = untaken(&superd);
        superd.reload_with("");
        signal(worker, if dies { Signal::SIGKILL } else { Signal::SIGCONT });
        let answer = client.read_until_closed();
        assert_eq!(answer, if dies { b"".as_slice() } else { b"hello\n" });
        superd.until_idle();
        until("the service's end", || (superd.status()["services"] == serde_json::json!([])).then_some(()));
        until("the worker's end", || (superd.status()["workers"] == 0).then_some(()));
    }
}
