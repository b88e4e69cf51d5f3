//! Long runs: reloads, broken files and a frozen log under load, and what ten thousand clients leave behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::collections::BTreeMap;

use harness::{Load, Superd, processes, until};
use nix::sys::signal::Signal;

const HELLO: &str =
    "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";

/// KiB: what an allocator may keep here and there; 10,000 sessions that leaked would be more.
const GROWTH: u64 = 512;

#[test]
fn three_hundred_reloads_under_load() {
    let superd = Superd::with(HELLO);
    let load = Load::begin(superd.address("hello"), 2, "hello\n");
    for round in 0..300 {
        let other = HELLO.replace("service.hello", &format!("service.other-{}", round % 3));
        let changed = format!("{HELLO}umask = \"0{}2\"\n", round % 8);
        let report = superd.reload_with(&format!("{changed}{other}"));
        assert_eq!(report["generation"], round + 2);
    }
    load.until_more(10);
    load.end();
    superd.until_idle();
    until("no zombie", || superd.zombies().is_empty().then_some(()));
}

#[test]
fn ten_thousand_clients_leave_nothing() {
    let superd = Superd::with(HELLO);
    let load = Load::begin(superd.address("hello"), 4, "hello\n");
    // What is allocated once, is by then: the log's ring, too, which is full of 4,096 lines, two a client.
    superd.log.freeze();
    load.until_more(3000);
    superd.log.thaw();
    load.until_more(1000);
    let memory = memory_of(&superd);
    let begun = load.served();
    while load.served() < begun + 10_000 {
        load.until_more(500);
    }
    let served = load.end();
    superd.until_idle();
    let status = superd.status();
    assert_eq!(status["services"][0]["started"], served);
    assert_eq!(status["strangers"], 0);
    until("no zombie", || superd.zombies().is_empty().then_some(()));
    assert_eq!(superd.fds(), Superd::with(HELLO).fds(), "as many as after a start");
    let now = memory_of(&superd);
    // A child that has not executed anything yet looks like the launcher: both are in the list for a moment.
    let lasting: Vec<_> =
        memory.iter().filter_map(|(pid, before)| Some((pid, before, now.get(pid)?))).collect();
    assert_eq!(lasting.len(), 2, "superd and its launcher: {memory:?}, {now:?}");
    for (pid, before, after) in lasting {
        assert!(*after <= before + GROWTH, "process {pid} grew from {before} to {after} KiB");
    }
    let starts = superd.count_log("start hello");
    let dropped = status["dropped_log_lines"].as_u64().unwrap();
    assert!(starts == served || dropped > 0, "{starts} start lines of {served}, none said to be dropped");
}

/// Of superd and its launcher: KiB.
fn memory_of(superd: &Superd) -> BTreeMap<i32, u64> {
    let children = superd.children().into_iter().filter(|child| child.arguments().contains("launcher"));
    let family = children.map(|child| child.pid).chain([superd.pid()]);
    family.filter_map(|pid| Some((pid, processes::status_number(pid, "VmRSS")?))).collect()
}

#[test]
fn broken_files_under_load() {
    let superd = Superd::with(HELLO);
    superd.allow_errors("superd.toml:");
    let load = Load::begin(superd.address("hello"), 2, "hello\n");
    for _ in 0..20 {
        superd.rewrite("[service.hello\n");
        superd.signal(Signal::SIGHUP);
        load.until_more(3);
    }
    superd.expect_log("reload result=refused");
    superd.rewrite(HELLO);
    superd.reload().unwrap();
    load.until_more(10);
    load.end();
    superd.until_idle();
}

#[test]
fn a_frozen_log_daemon_under_load() {
    let superd = Superd::with(HELLO);
    let load = Load::begin(superd.address("hello"), 2, "hello\n");
    load.until_more(10);
    superd.log.freeze();
    // Two lines a client: more than its ring holds.
    while load.served() < 3000 {
        load.until_more(200);
    }
    superd.log.thaw();
    load.until_more(10);
    load.end();
    superd.until_idle();
    let dropped = superd.expect_log("dropped ");
    let told: u64 = dropped.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    let counted = superd.status()["dropped_log_lines"].as_u64().unwrap();
    assert!(told > 0 && counted >= told, "{counted} counted, `{dropped}`");
}
