//! Bans: a source that gives offence is refused for a while, and an admin sees, makes and lifts bans.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, TcpStream};

use harness::{Client, Start, Superd, until};
use serde_json::Value;

const BANNER: &str = "banner = { refuse = \"banned\\n\", busy = \"busy\\n\" }\n";

fn service(name: &str, words: &str, more: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("\"{word}\"")).collect();
    let words = words.join(", ");
    format!(
        "[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", {words}]\n{{user}}\n{more}\n{BANNER}"
    )
}

fn two_services() -> String {
    service("a", "hello", "") + &service("b", "hello", "")
}

fn connect_from(local: &str, remote: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&format!("{local}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&remote.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(harness::DEADLINE)).unwrap();
    Client { stream }
}

/// What a client from this address is told.
#[track_caller]
fn told(superd: &Superd, service: &str, local: &str) -> String {
    connect_from(local, superd.address(service)).read_text()
}

#[track_caller]
fn superctl(superd: &Superd, words: &str) -> String {
    let output = superd.superctl(&words.split(' ').collect::<Vec<_>>());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn superctl_fails(superd: &Superd, words: &str) -> String {
    let output = superd.superctl(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "{words}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_source_that_comes_too_often_is_banned_from_that_service() {
    let more = "limits = { rate_per_source = \"1/h\" }\nban = { after = 2, for = \"2h\" }";
    let superd = Superd::with(&(service("a", "hello", more) + &service("b", "hello", "")));
    for expected in ["hello\n", "busy\n", "busy\n", "banned\n", "banned\n"] {
        assert_eq!(told(&superd, "a", "127.0.0.2"), expected);
    }
    assert_eq!(superd.expect_log("ban a "), "ban a source=127.0.0.2 cause=rate for=7200.000");
    assert!(superd.expect_log("reason=ban").contains("rule="));
    let refused = superd.service("a")["refused"].clone();
    assert_eq!((&refused["rate_per_source"], &refused["ban"]), (&2.into(), &2.into()));
    assert_eq!(told(&superd, "b", "127.0.0.2"), "hello\n");
    assert_eq!(told(&superd, "a", "127.0.0.3"), "hello\n");
    let bans: Value = serde_json::from_str(&superctl(&superd, "bans --json")).unwrap();
    assert_eq!((&bans[0]["who"], &bans[0]["service"]), (&"127.0.0.2".into(), &"a".into()));
    assert_eq!(superctl(&superd, "unban 127.0.0.2 --service a --json").matches("who").count(), 1);
    assert_eq!(superd.expect_log("unban a"), "unban a source=127.0.0.2");
    // It is let in again, as far as its rate lets it.
    assert_eq!(told(&superd, "a", "127.0.0.2"), "busy\n");
}

#[test]
fn refusals_bring_a_ban() {
    let more = "limits = { per_source = 1 }\nban = { after = 2, on = [\"refused\"] }";
    let superd = Superd::with(&service("a", "until-eof", more));
    let mut first = superd.connect("a");
    first.read_pid();
    for expected in ["busy\n", "busy\n", "banned\n"] {
        assert_eq!(superd.connect("a").read_text(), expected);
    }
    first.finish();
    assert_eq!(first.read_to_end(), b"bye\n");
}

#[track_caller]
fn check_end(words: &str, on: &str, cause: &str) {
    let more = format!("ban = {{ after = 2, on = [\"{on}\"] }}");
    let superd = Superd::with(&service("a", words, &more));
    for _ in 0..2 {
        assert_eq!(told(&superd, "a", "127.0.0.2"), "");
    }
    superd.expect_log(&format!("ban a source=127.0.0.2 cause={cause} for=3600.000"));
    assert_eq!(told(&superd, "a", "127.0.0.2"), "banned\n");
    assert_eq!(told(&superd, "a", "127.0.0.3"), "");
}

#[test]
fn the_end_of_a_program_brings_a_ban() {
    check_end("exit 3", "exit:3", "exit:3");
    check_end("kill 9", "signal", "signal");
}

#[test]
fn other_ends_bring_none() {
    let more = "ban = { after = 1, on = [\"exit:4\", \"signal\"] }\ntimeout = { session = \"100ms\" }";
    let superd = Superd::with(&(service("a", "exit 3", more) + &service("b", "sleep", more)));
    for _ in 0..2 {
        assert_eq!(told(&superd, "a", "127.0.0.2"), "");
        // The signal that ends it is superd's own.
        assert!(told(&superd, "b", "127.0.0.2").starts_with("pid"));
    }
    superd.until_idle();
    assert_eq!(superctl(&superd, "bans"), "nobody is banned\n");
}

#[test]
fn some_are_never_banned() {
    let own = "limits = { rate_per_source = \"1/h\" }\nban = { after = 1, never = [\"127.0.0.2\"] }";
    let config = format!("[daemon]\nnever_ban = [\"127.0.0.3\"]\n{}", service("a", "hello", own));
    let superd = Superd::with(&config);
    for local in ["127.0.0.2", "127.0.0.3"] {
        for expected in ["hello\n", "busy\n", "busy\n"] {
            assert_eq!(told(&superd, "a", local), expected);
        }
    }
    assert!(superctl_fails(&superd, "ban 127.0.0.3").contains("127.0.0.3 is never banned"));
    superctl(&superd, "ban 127.0.0.0/8");
    assert_eq!(
        (told(&superd, "a", "127.0.0.3"), told(&superd, "a", "127.0.0.2")),
        ("busy\n".into(), "banned\n".into())
    );
}

#[test]
fn an_admin_bans_and_lifts() {
    let superd = Superd::with(&two_services());
    let done = superctl(&superd, "ban 127.0.0.0/30 --for 2d");
    assert!(done.starts_with("banned: 127.0.0.0/30 from every service, "), "{done}");
    superctl(&superd, "ban 127.0.0.9 --service b");
    for (local, from_a, from_b) in
        [("127.0.0.2", true, true), ("127.0.0.9", false, true), ("127.0.0.8", false, false)]
    {
        for (service, banned) in [("a", from_a), ("b", from_b)] {
            let expected = if banned { "banned\n" } else { "hello\n" };
            assert_eq!(told(&superd, service, local), expected, "{local} at {service}");
        }
    }
    superd.expect_log("ban - source=127.0.0.0/30 cause=admin for=172800.000");
    assert!(superctl_fails(&superd, "unban 127.0.0.5").contains("127.0.0.5 is not banned"));
    assert!(superctl_fails(&superd, "ban 127.0.0.5 --service x").contains("no service `x`"));
    assert!(superctl_fails(&superd, "ban 127.0.0.5/8").contains("write `127.0.0.0/8`"));
    assert!(superctl(&superd, "unban 127.0.0.2").starts_with("lifted: 127.0.0.0/30 from every service"));
    assert_eq!(told(&superd, "a", "127.0.0.2"), "hello\n");
    assert_eq!(superctl(&superd, "bans").lines().count(), 2);
}

#[test]
fn a_ban_ends() {
    let superd = Superd::with(&two_services());
    superctl(&superd, "ban 127.0.0.2 --for 1s");
    assert_eq!(told(&superd, "a", "127.0.0.2"), "banned\n");
    until("the end of the ban", || (told(&superd, "a", "127.0.0.2") == "hello\n").then_some(()));
    assert_eq!(superctl(&superd, "bans"), "nobody is banned\n");
}

#[test]
fn bans_are_kept_over_a_reload_and_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let config = format!(
        "[daemon]\ncontrol = \"{{dir}}/control.sock\"\npid_file = \"{{dir}}/superd.pid\"\nstate_dir = \"{}\"\n\
         [log]\nsocket = \"{{dir}}/log\"\ntarget = \"syslog\"\n{}",
        state.path().display(),
        two_services()
    );
    let superd = Start::new(&config).own_daemon_table().start();
    superctl(&superd, "ban 127.0.0.2");
    superctl(&superd, "ban 127.0.0.3 --service a --for 1s");
    assert_eq!(superd.reload().map(|report| report["generation"].clone()), Ok(2.into()));
    assert_eq!(told(&superd, "b", "127.0.0.2"), "banned\n");
    superd.stop();
    let kept: Value =
        serde_json::from_slice(&std::fs::read(state.path().join("bans.json")).unwrap()).unwrap();
    assert_eq!(kept["bans"].as_array().map(Vec::len), Some(2), "{kept}");
    let superd = Start::new(&config).own_daemon_table().start();
    assert_eq!(told(&superd, "b", "127.0.0.2"), "banned\n");
    until("the end of the shorter ban", || (told(&superd, "a", "127.0.0.3") == "hello\n").then_some(()));
    // A crash may lose what was changed in the last seconds, and nothing else.
    superctl(&superd, "unban 127.0.0.2");
    until("the file", || {
        let kept: Value =
            serde_json::from_slice(&std::fs::read(state.path().join("bans.json")).ok()?).ok()?;
        kept["bans"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
}

#[test]
fn a_file_that_is_none_is_said_and_left_out() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("bans.json"), "{").unwrap();
    let config = format!(
        "[daemon]\ncontrol = \"{{dir}}/control.sock\"\npid_file = \"{{dir}}/superd.pid\"\nstate_dir = \"{}\"\n\
         [log]\nsocket = \"{{dir}}/log\"\ntarget = \"syslog\"\n{}",
        state.path().display(),
        two_services()
    );
    let superd = Start::new(&config).own_daemon_table().start();
    superd.allow_errors("can't be taken");
    superd.expect_log("can't be taken");
    assert_eq!(told(&superd, "a", "127.0.0.2"), "hello\n");
}
