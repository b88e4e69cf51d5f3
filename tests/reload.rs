//! Reload: what stays is untouched, what changed is applied, and an error changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use harness::{Client, HungDisk, Load, Superd, needs_program, needs_root, until, world};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn service(name: &str, listen: &str, part: &str, more: &str) -> String {
    format!("[service.{name}]\nlisten = \"{listen}\"\nexec = [\"{{probe}}\", \"{part}\"]\n{{user}}\n{more}\n")
}

const ANY: &str = "tcp4:127.0.0.1:0";

#[test]
fn a_listener_that_stays_is_the_same_socket() {
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    let address = superd.address("a");
    let socket = listening_inode(address);
    let report = superd.reload_with(&format!("{config}{}", service("b", ANY, "hello", "")));
    assert_eq!((&report["kept"], &report["opened"]), (&json!(["a"]), &json!(["b"])));
    assert_eq!(superd.address("a"), address);
    assert_eq!(listening_inode(address), socket);
    for name in ["a", "b"] {
        assert_eq!(superd.connect(name).read_text(), "hello\n");
    }
}

/// The kernel's number of the socket that listens at an IPv4 address.
fn listening_inode(address: SocketAddr) -> String {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X} ", address.port());
    // 0A is LISTEN; the inode is the tenth column.
    let row = table.lines().find(|row| row.contains(&port) && row.contains(" 0A ")).unwrap();
    row.split_whitespace().nth(9).unwrap().to_owned()
}

#[test]
fn sessions_counters_and_waiting_clients_are_untouched() {
    let config = service("held", ANY, "until-eof", "limits = { connections = 1 }");
    let superd = Superd::with(&config);
    let (mut first, mut waiting) = (superd.connect("held"), superd.connect("held"));
    first.read_pid();
    superd.until_service("held", "paused", |service| service["state"] == "paused");
    let report = superd.reload_with(&format!("{config}{}", service("other", ANY, "hello", "")));
    assert_eq!(report["kept"], json!(["held"]));
    let service = superd.service("held");
    assert_eq!(
        (&service["sessions"], &service["started"], &service["state"]),
        (&json!(1), &json!(1), &json!("paused"))
    );
    assert!(waiting.is_silent(Duration::from_millis(100)));
    first.finish();
    assert_eq!(first.read_to_end(), b"bye\n");
    waiting.read_pid();
    waiting.finish();
    assert_eq!(waiting.read_to_end(), b"bye\n");
}

#[test]
fn a_larger_limit_lets_waiting_clients_in() {
    let config = |limit| service("held", ANY, "until-eof", &format!("limits = {{ connections = {limit} }}"));
    let superd = Superd::with(&config(1));
    let (mut first, mut waiting) = (superd.connect("held"), superd.connect("held"));
    first.read_pid();
    superd.until_service("held", "paused", |service| service["state"] == "paused");
    let report = superd.reload_with(&config(2));
    assert_eq!(report["changed"], json!(["held"]));
    waiting.read_pid();
    first.finish();
    waiting.finish();
    assert_eq!((first.read_to_end(), waiting.read_to_end()), (b"bye\n".to_vec(), b"bye\n".to_vec()));
}

#[test]
fn what_changed_holds_for_the_next_client() {
    let superd = Superd::with(&service("a", ANY, "hello", ""));
    let address = superd.address("a");
    superd.reload_with(&service("a", ANY, "json", "umask = \"077\""));
    assert_eq!(superd.address("a"), address, "the listener is the same");
    assert_eq!(superd.probe("a")["umask"], "0077");
    superd.reload_with(&service("a", ANY, "hello", "enabled = false"));
    assert!(Client::try_connect(address).is_err());
    assert_eq!(superd.service("a")["state"], "disabled");
}

#[test]
fn sessions_of_a_removed_service_run_on() {
    let config = service("stays", ANY, "hello", "");
    let superd = Superd::with(&format!("{config}{}", service("goes", ANY, "until-eof", "")));
    let (address, mut client) = (superd.address("goes"), superd.connect("goes"));
    client.read_pid();
    let report = superd.reload_with(&config);
    assert_eq!(report["closed"], json!(["goes"]));
    assert!(Client::try_connect(address).is_err());
    let gone = superd.service("goes");
    assert_eq!((&gone["sessions"], &gone["state"]), (&json!(1), &json!("draining")));
    superd.expect_log("draining goes");
    client.finish();
    assert_eq!(client.read_to_end(), b"bye\n");
    superd.expect_log("end goes");
    until("the service to be gone", || (superd.status()["services"].as_array()?.len() == 1).then_some(()));
}

#[test]
fn an_error_changes_nothing_and_says_so() {
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    superd.allow_errors("superd.toml:");
    let (address, generation) = (superd.address("a"), superd.status()["generation"].clone());
    let rows = [
        ("lissten = 1\n".to_owned(), "superd.toml:1:1"),
        (format!("{config}{}", service("b", ANY, "hello", "umask = 22")), "umask"),
        (service("a", ANY, "hello", "limits = { connections = -1 }"), "connections"),
        ("[service".to_owned(), "superd.toml:1"),
        (service("b", "tcp4:127.0.0.1:nosuchport", "hello", ""), "nosuchport"),
    ];
    for (text, expected) in rows {
        superd.rewrite(&text);
        let errors = superd.reload().unwrap_err().join("\n");
        assert!(errors.contains(expected), "`{expected}` in {errors}");
        assert_eq!(superd.status()["generation"], generation);
        assert_eq!(superd.address("a"), address);
        assert_eq!(superd.connect("a").read_text(), "hello\n");
    }
    superd.expect_log("reload result=refused");
    assert_eq!(superd.count_log("nosuchport"), 1, "an error is told once");
    superd.reload_with(&config);
    superd.reload_with(&format!("{config}enabled = false\n"));
    superd.expect_log("disabled a");
    superd.reload_with(&config);
    superd.expect_log("online a");
}

#[test]
fn a_port_that_is_taken_refuses_all_of_it() {
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    superd.allow_errors("Address already in use");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp4:{}", holder.local_addr().unwrap());
    let fds = superd.fds();
    superd.rewrite(&format!(
        "{}{}{}",
        service("a", ANY, "json", ""),
        service("b", ANY, "hello", ""),
        service("c", &taken, "hello", "")
    ));
    let errors = superd.reload().unwrap_err().join("\n");
    assert!(errors.contains("Address already in use") && errors.contains(" c"), "{errors}");
    assert_eq!(superd.connect("a").read_text(), "hello\n", "not the new program");
    assert_eq!(superd.status()["services"].as_array().unwrap().len(), 1);
    assert_eq!(superd.fds(), fds, "what was opened for it is closed");
    drop(holder);
    superd.reload().unwrap();
    assert_eq!(superd.connect("c").read_text(), "hello\n");
}

#[test]
fn an_address_may_change_its_service() {
    let port = world::free_port();
    let listen = format!("tcp4:127.0.0.1:{port}");
    let superd = Superd::with(&service("old", &listen, "hello", ""));
    // The plans of one configuration back are kept.
    superd.reload().unwrap();
    let fds = superd.fds();
    superd.reload_with(&service("new", &listen, "json", ""));
    assert_eq!(superd.probe("new")["env"]["SUPERD_SERVICE"], "new");
    superd.until_idle();
    assert_eq!(superd.fds(), fds);
}

#[test]
fn socket_options_that_changed_are_applied() {
    let config = |options: &str| service("a", ANY, "hello", &format!("socket = {{ {options} }}"));
    let superd = Superd::with(&config("backlog = 17, nodelay = true, ttl = 9"));
    let address = superd.address("a");
    let options = || superd.ask(&json!({ "v": 1, "do": "socket", "service": "a" })).to_string();
    assert!(options().contains(r#""ttl":"9""#), "{}", options());
    superd.reload_with(&config("backlog = 18, nodelay = true, ttl = 10, keepalive = { idle = \"33s\" }"));
    assert_eq!(superd.address("a"), address);
    for expected in [r#""ttl":"10""#, "33s", "18"] {
        assert!(options().contains(expected), "`{expected}` in {}", options());
    }
    superd.reload_with(&config("nodelay = false"));
    assert!(
        !options().contains(r#""ttl":"10""#),
        "an option that is gone is the kernel's again: {}",
        options()
    );
    assert_eq!(superd.connect("a").read_text(), "hello\n");
}

#[test]
fn a_storm_of_hups_is_a_few_reloads() {
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    superd.rewrite(&format!("{config}{}", service("b", ANY, "hello", "")));
    for _ in 0..500 {
        superd.signal(Signal::SIGHUP);
    }
    superd.rewrite(&format!("{config}{}", service("c", ANY, "hello", "")));
    superd.signal(Signal::SIGHUP);
    until("the last configuration", || {
        let status = superd.status();
        status["services"].as_array()?.iter().any(|service| service["name"] == "c").then_some(())
    });
    let generation = superd.status()["generation"].as_u64().unwrap();
    assert!(generation < 100, "{generation} reloads for 501 signals");
    assert_eq!(superd.count_log("result=done"), usize::try_from(generation).unwrap());
}

#[test]
fn wildcard_and_specific_address_swap_without_a_gap() {
    needs_root!();
    needs_program!("ip");
    // The wildcard is bound: not on this machine's network.
    world::own_network();
    let port = 7000;
    let (wide, narrow) = (format!("tcp4:{port}"), format!("tcp4:127.0.0.1:{port}"));
    let superd = Superd::with(&service("a", &wide, "hello", ""));
    let load = Load::begin(format!("127.0.0.1:{port}").parse().unwrap(), 2, "hello\n");
    for listen in [&narrow, &wide, &narrow, &wide] {
        load.until_more(20);
        let report = superd.reload_with(&service("a", listen, "hello", ""));
        assert_eq!(report["changed"], json!(["a"]));
    }
    load.until_more(20);
    load.end();
    superd.until_idle();
}

#[test]
fn an_address_that_is_not_there_yet() {
    needs_root!();
    needs_program!("ip");
    world::own_network();
    let absent = service("a", "tcp4:10.9.8.7:7000", "hello", "");
    let config = format!("{absent}{}", service("b", ANY, "hello", ""));
    let superd = Superd::with(&config);
    check_degraded(&superd);
    superd.reload_with(&config.replace("7000", "7001"));
    check_degraded(&superd);
    // The wait grows; when the address comes, nobody waits for its end.
    let wait = |service: &Value| service["retry_in"].as_f64().unwrap_or(0.0);
    superd.until_service("a", "waiting for some time", |service| wait(service) > 3.0);
    let began = std::time::Instant::now();
    world::run(&["ip", "address", "add", "10.9.8.7/32", "dev", "lo"]);
    superd.until_service("a", "online", |service| service["state"] == "online");
    assert!(began.elapsed() < Duration::from_secs(2), "at once: {:?}", began.elapsed());
    assert_eq!(superd.connect("a").read_text(), "hello\n");
    superd.expect_log("online a");
}

#[track_caller]
fn check_degraded(superd: &Superd) {
    let service = superd.service("a");
    assert_eq!(service["state"], "degraded", "{service}");
    assert!(service["reason"].as_str().unwrap().contains("EADDRNOTAVAIL"), "{service}");
    superd.expect_log("degraded a reason=EADDRNOTAVAIL");
    assert_eq!(superd.connect("b").read_text(), "hello\n");
}

#[test]
fn a_user_database_that_hangs_refuses_the_reload() {
    needs_root!();
    world::own_mounts();
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    superd.allow_errors("no answer within");
    let fifo = superd.dir().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    world::run(&["mount", "--bind", fifo.to_str().unwrap(), "/etc/passwd"]);
    check_hung_reload(&superd);
    world::run(&["umount", "/etc/passwd"]);
    superd.reload().unwrap();
}

#[test]
fn a_disk_that_hangs_refuses_the_reload() {
    needs_root!();
    world::own_mounts();
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = service("a", ANY, "hello", "");
    let superd = Superd::with(&config);
    superd.allow_errors("no answer within");
    let disk = HungDisk::mount(place.path());
    superd.rewrite(&format!("include = [\"{}/x.toml\"]\n{config}", place.path().display()));
    check_hung_reload(&superd);
    superd.rewrite(&config);
    superd.reload().unwrap();
    drop(disk);
}

/// While the reload hangs all goes on; at its deadline it is refused.
#[track_caller]
fn check_hung_reload(superd: &Superd) {
    let generation = superd.status()["generation"].clone();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| superd.reload());
        let mut served = 0;
        while !reload.is_finished() {
            assert_eq!(superd.connect("a").read_text(), "hello\n");
            served += 1;
        }
        assert!(served > 10, "{served} clients while the reload hung");
        let errors = reload.join().unwrap().unwrap_err();
        assert!(!errors.is_empty());
    });
    assert_eq!(superd.status()["generation"], generation);
    superd.expect_log("reload result=refused");
}
