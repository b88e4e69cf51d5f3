//! What rules need beside the configuration, loaded by a running superd: lists, hosts.allow, time zones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fmt::Write as _;
use std::fs;

use harness::{Start, Superd};
use serde_json::json;

const SERVICE: &str = "[service.a]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";

fn with_list(dir: &str) -> String {
    format!("[sets]\nlist = {{ files = [\"{dir}/list.txt\"] }}\n{SERVICE}deny = [\"@list\"]\n")
}

#[test]
fn a_bad_list_changes_nothing_and_says_so() {
    let superd = Superd::with(SERVICE);
    let list = superd.dir().join("list.txt");
    superd.allow_errors("list.txt:2:1");
    fs::write(&list, "192.0.2.1\n192.0.2.1/24\n").unwrap();
    superd.rewrite(&with_list("{dir}"));
    let errors = superd.reload().unwrap_err().join("\n");
    for part in ["list.txt:2:1", "192.0.2.1/24", "write `192.0.2.0/24` for the network", "superd.toml:2"] {
        assert!(errors.contains(part), "{part} is not in:\n{errors}");
    }
    assert_eq!(superd.connect("a").read_text(), "hello\n");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    assert_eq!(superd.reload().unwrap()["changed"], json!(["a"]));
}

#[test]
fn a_set_that_changes_changes_no_service() {
    let superd = Superd::with(SERVICE);
    let list = superd.dir().join("list.txt");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    superd.reload_with(&with_list("{dir}"));
    fs::write(&list, "192.0.2.0/25\n2001:db8::/32\n").unwrap();
    assert_eq!(superd.reload().unwrap()["kept"], json!(["a"]));
    let moved = format!("\n\n{}", with_list("{dir}"));
    assert_eq!(superd.reload_with(&moved)["kept"], json!(["a"]));
}

#[test]
fn a_list_of_a_million_lines_is_taken() {
    let superd = Superd::with(SERVICE);
    let mut text = String::new();
    for number in 0..1_000_000_u32 {
        let [_, a, b, c] = (number * 2).to_be_bytes();
        writeln!(text, "10.{a}.{b}.{c}").unwrap();
    }
    fs::write(superd.dir().join("list.txt"), text).unwrap();
    assert_eq!(superd.reload_with(&with_list("{dir}"))["changed"], json!(["a"]));
    assert_eq!(superd.connect("a").read_text(), "hello\n");
}

#[test]
fn a_mistake_in_hosts_deny_refuses_the_reload() {
    let superd = Superd::with(SERVICE);
    let (allow, deny) = (superd.dir().join("hosts.allow"), superd.dir().join("hosts.deny"));
    superd.allow_errors("hosts.deny:1:1");
    fs::write(allow, "ALL: 192.0.2.0/24\n").unwrap();
    fs::write(&deny, "ALL 10.0.0.1\n").unwrap();
    let hosts = "hosts_access = { allow = \"{dir}/hosts.allow\", deny = \"{dir}/hosts.deny\" }\n";
    superd.rewrite(&format!("{SERVICE}{hosts}"));
    let errors = superd.reload().unwrap_err().join("\n");
    assert!(errors.contains("hosts.deny:1:"), "{errors}");
    fs::write(&deny, "ALL: 10.0.0.1\n").unwrap();
    assert_eq!(superd.reload().unwrap()["changed"], json!(["a"]));
}

/// That of TZ, or the one that [daemon] says: minutes tell them apart.
#[test]
fn daytime_is_in_the_zone_of_the_daemon() {
    let service = "[service.day]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"daytime\"\n";
    let superd = Start::new(service).env("TZ", "XYZ-5:45").start();
    check(&superd, 45);
    superd.reload_with(&format!("[daemon]\nzone = \"Asia/Kolkata\"\n{service}"));
    check(&superd, 30);
}

/// The minute may end between the two looks.
#[track_caller]
fn check(superd: &Superd, ahead: u64) {
    let before = utc_minutes();
    let shown = minutes(superd);
    let after = utc_minutes();
    assert!((before..=after).any(|minute| (minute + ahead) % 60 == shown), "{shown} {before} {after}");
}

/// `Sun Nov 22 06:28:41 2026`: the minute.
fn minutes(superd: &Superd) -> u64 {
    let answer = superd.connect("day").read_text();
    answer.get(14..16).unwrap().parse().unwrap()
}

fn utc_minutes() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() / 60
}
