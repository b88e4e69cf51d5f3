//! tcpmux (RFC 1078) from outside: who asks for a name gets that service, by that one's own rules, and no other.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::{Client, Superd, is_root, until};
use serde_json::Value;

const GO: &str = "+Go\r\n";
const REFUSED: &str = "-Refused\r\n";
const UNKNOWN: &str = "-Service not available\r\n";

/// A superd with tcpmux, and these services.
fn with(services: &str) -> Superd {
    Superd::with(&config(services))
}

fn config(services: &str) -> String {
    let mux = "[service.mux]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"tcpmux\"\n";
    format!("[daemon]\n{}\n{mux}{services}", helper())
}

fn helper() -> &'static str {
    if is_root() { "helper_user = \"nobody\"" } else { "" }
}

fn exec(name: &str, words: &str, more: &str) -> String {
    let words: Vec<String> = words.split(' ').map(|word| format!("\"{word}\"")).collect();
    let exec = format!("exec = [\"{{probe}}\", {}]", words.join(", "));
    format!("[service.{name}]\nlisten = \"tcpmux:{name}\"\n{exec}\n{{user}}\n{more}\n")
}

fn ask(superd: &Superd, name: &str) -> Client {
    let mut client = superd.connect("mux");
    client.write(name.as_bytes());
    client
}

/// All that a client is told that says this, and no more.
#[track_caller]
fn check(superd: &Superd, said: &str, told: &str) {
    let mut client = ask(superd, said);
    client.finish();
    assert_eq!(client.read_text(), told, "{said:?}");
}

#[test]
fn a_name_leads_to_its_service() {
    let services = [
        exec("hello", "hello", ""),
        exec("copy", "echo", ""),
        "[service.echo]\nlisten = [\"tcp4:127.0.0.1:0\", \"tcpmux:echo\"]\nbuiltin = \"echo\"\n".into(),
        "[service.qotd]\nlisten = \"tcpmux:qotd\"\nbuiltin = \"qotd\"\nquotes = [\"one\"]\n".into(),
    ];
    let superd = with(&services.concat());
    check(&superd, "hello\r\n", &format!("{GO}hello\n"));
    check(&superd, "HeLLo\r\n", &format!("{GO}hello\n"));
    check(&superd, "hello\n", &format!("{GO}hello\n"));
    check(&superd, "qotd\r\n", &format!("{GO}one"));
    // What is sent behind the name at once is the service's.
    for name in ["echo", "copy"] {
        check(&superd, &format!("{name}\r\n1\r\n2\r\n"), &format!("{GO}1\r\n2\r\n"));
        check(&superd, &format!("{name}\r\n\r\n"), &format!("{GO}\r\n"));
        let long = "x".repeat(100_000);
        check(&superd, &format!("{name}\r\n{long}"), &format!("{GO}{long}"));
    }
    superd.until_idle();
}

#[test]
fn a_name_may_come_byte_by_byte() {
    let superd = with(&exec("hello", "hello", ""));
    let mut client = superd.connect("mux");
    for byte in b"hello\r\n" {
        client.write(&[*byte]);
        assert!(*byte == b'\n' || client.is_silent(Duration::from_millis(5)));
    }
    assert_eq!(client.read_text(), format!("{GO}hello\n"));
}

#[test]
fn what_is_no_name_is_not_available() {
    let services = [
        exec("hello", "hello", ""),
        exec("off", "hello", "enabled = false"),
        "[service.other]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"echo\"\n".into(),
    ];
    let superd = with(&services.concat());
    let long = "x".repeat(64);
    // Services that do not listen there have no name, and nothing but superd's own word is said.
    for name in ["other", "mux", "off", "hell", "hello ", " hello", "+hello", "", "a b", "\u{1}", "é", &long]
    {
        check(&superd, &format!("{name}\r\n"), UNKNOWN);
    }
    check(&superd, &"x".repeat(10_000), UNKNOWN);
    check(&superd, "hello", "");
    check(&superd, "hello\r", "");
    assert_eq!(superd.service("other")["started"], 0);
    superd.until_idle();
}

#[test]
fn help_names_what_is_there() {
    let services = [
        exec("b", "hello", "deny = [\"any\"]"),
        exec("off", "hello", "enabled = false"),
        "[service.x]\nlisten = [\"tcp4:127.0.0.1:0\", \"tcpmux:C\", \"tcpmux:a\"]\nbuiltin = \"echo\"\n"
            .into(),
    ];
    let superd = with(&services.concat());
    for help in ["HELP\r\n", "help\r\n", "Help\nmore"] {
        check(&superd, help, "a\r\nb\r\nc\r\n");
    }
    let many = |n: usize| format!("[service.s{n}]\nlisten = \"tcpmux:{n:064}\"\nbuiltin = \"echo\"\n");
    superd.reload_with(&config(&(0..100).map(many).collect::<String>()));
    let mut client = ask(&superd, "HELP\r\n");
    let text = client.read_text();
    assert_eq!((text.len(), text.ends_with("\r\n")), (62 * 66, true));
}

/// Nothing is reached around its own policy, limits and bans, and what those say is logged with it.
#[test]
fn the_other_services_own_rules_hold() {
    let ban = "banner = { refuse = \"no\\n\", busy = \"busy\\n\", accept = \"welcome\\n\" }\n";
    let services = [
        exec("denied", "hello", &format!("deny = [\"127.0.0.1\"]\n{ban}")),
        exec("plain", "hello", "deny = [\"127.0.0.1\"]"),
        exec("one", "echo", &format!("limits = {{ connections = 1 }}\n{ban}")),
        exec("each", "echo", &format!("limits = {{ per_source = 1 }}\n{ban}")),
        exec(
            "rate",
            "hello",
            &format!("limits = {{ rate_per_source = \"1/h\" }}\nban = {{ after = 1, for = \"1h\" }}\n{ban}"),
        ),
    ];
    let superd = with(&services.concat());
    // What the client has said already must not destroy what it is told.
    check(&superd, "denied\r\nand more", &format!("{REFUSED}no\n"));
    check(&superd, "plain\r\nand more", REFUSED);
    let line = superd.expect_log("refuse denied");
    assert!(line.contains("reason=address") && line.contains("client=127.0.0.1:"), "{line}");
    for name in ["one", "each"] {
        let mut first = ask(&superd, &format!("{name}\r\n"));
        assert_eq!(first.read_line() + &first.read_line(), "+Go\rwelcome");
        check(&superd, &format!("{name}\r\n"), &format!("{REFUSED}busy\n"));
        first.finish();
        until("the first to end", || (superd.service(name)["sessions"] == 0).then_some(()));
        check(&superd, &format!("{name}\r\n"), &format!("{GO}welcome\n"));
    }
    check(&superd, "rate\r\n", &format!("{GO}welcome\nhello\n"));
    check(&superd, "rate\r\n", &format!("{REFUSED}busy\n"));
    check(&superd, "rate\r\n", &format!("{REFUSED}no\n"));
    superd.expect_log("ban rate source=127.0.0.1");
    assert_eq!(superd.service("mux")["refused"], serde_json::json!({}));
    superd.until_idle();
}

#[test]
fn the_program_is_whom_and_where_it_is_else() {
    let superd = with(&exec("json", "json", "umask = \"027\"\nrlimits = { nofile = 77 }"));
    let mut client = ask(&superd, "json\r\n");
    let (me, mux) = (client.address(), superd.address("mux"));
    assert_eq!(client.read_line(), "+Go\r");
    let probe: Value = serde_json::from_str(&client.read_text()).unwrap();
    if is_root() {
        assert_eq!(probe["uids"], serde_json::json!([65534, 65534, 65534, 65534]));
    }
    assert_eq!(probe["umask"], "0027");
    assert_eq!(probe["fds"].as_array().unwrap().len(), 3, "{}", probe["fds"]);
    assert_eq!(probe["env"]["SUPERD_SERVICE"], "json");
    assert_eq!(probe["env"]["TCPREMOTEPORT"], me.port().to_string());
    assert_eq!(probe["env"]["TCPLOCALPORT"], mux.port().to_string());
    // Two sessions, one after the other.
    let start = superd.expect_log("start json");
    assert!(start.contains(&format!("client={me}")) && start.contains(&format!("local={mux}")), "{start}");
    superd.expect_log("end json");
    let end = superd.expect_log("end mux");
    assert!(end.contains(&format!("client={me}")) && end.contains("in=6 out=0"), "{end}");
}

#[test]
fn who_says_no_name_has_ten_seconds_or_as_said() {
    let mux = "[service.quick]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"tcpmux\"\ntimeout = { handshake = \"200ms\" }\nlimits = { connections = 2 }\n";
    let superd = with(&(exec("until", "echo", "") + mux));
    let mut slow = superd.connect("quick");
    slow.write(b"unt");
    assert_eq!(slow.read_text(), "");
    let line = superd.expect_log("end quick");
    assert!(line.contains("in=3 out=0") && line.ends_with("cause=handshake"), "{line}");
    // Whoever got through has all the time, and does not count there any more.
    let clients: Vec<Client> = (0..5)
        .map(|_| {
            let mut client = superd.connect("quick");
            client.write(b"until\r\n");
            assert_eq!(client.read_line(), "+Go\r");
            client
        })
        .collect();
    assert_eq!(superd.service("until")["sessions"], 5);
    assert_eq!(superd.service("quick")["sessions"], 0);
    for mut client in clients {
        assert!(client.is_silent(Duration::from_millis(60)));
    }
    superd.until_idle();
}

#[test]
fn names_come_and_go() {
    let superd = with(&exec("a", "echo", ""));
    let mut old = ask(&superd, "a\r\n");
    assert_eq!(old.read_line(), "+Go\r");
    let listeners = superd.service("a")["listeners"].clone();
    assert_eq!((&listeners[0]["endpoint"], &listeners[0]["bound"]), (&"tcpmux:a".into(), &Value::Null));
    superd.reload_with(&config(&exec("b", "hello", "")));
    check(&superd, "a\r\n", UNKNOWN);
    check(&superd, "b\r\n", &format!("{GO}hello\n"));
    // A name goes from one service to another.
    superd.reload_with(&config(&exec("c", "hello", "").replace("tcpmux:c", "tcpmux:b")));
    check(&superd, "b\r\n", &format!("{GO}hello\n"));
    superd.expect_log("start c");
    assert!(old.is_silent(Duration::from_millis(50)), "its session goes on");
    superd.allow_errors("behind tcpmux");
    superd.rewrite(&exec("a", "hello", ""));
    let errors = superd.reload().unwrap_err().join("\n");
    assert!(errors.contains("behind tcpmux"), "{errors}");
    check(&superd, "b\r\n", &format!("{GO}hello\n"));
}

#[test]
fn a_unix_socket_leads_there_too() {
    let mux = "[service.local]\nlisten = \"unix:{dir}/mux\"\nbuiltin = \"tcpmux\"\n";
    let superd = with(&(exec("hello", "hello", "") + &exec("no", "hello", "deny = [\"unix\"]") + mux));
    for (name, told) in [("hello", format!("{GO}hello\n")), ("no", REFUSED.into())] {
        let mut client = UnixStream::connect(superd.dir().join("mux")).unwrap();
        client.set_read_timeout(Some(harness::DEADLINE)).unwrap();
        client.write_all(format!("{name}\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, told);
    }
}

/// A rule that asks for a name waits aside; the client's bytes wait with it.
#[test]
fn a_client_whose_name_is_asked_for_waits() {
    let superd =
        with(&exec("named", "echo", "deny = [\".nowhere.example\", \"unknown\"]\nallow = [\"any\"]"));
    let mut client = ask(&superd, "named\r\nwaiting");
    client.finish();
    let told = client.read_text();
    // Whether this machine has a name for itself is its own affair.
    assert!(told == REFUSED || told == format!("{GO}waiting"), "{told}");
    superd.until_idle();
}

#[test]
fn handlers_that_die_take_no_other_service_along() {
    let superd = with(&exec("until", "echo", ""));
    let mut there = ask(&superd, "until\r\n");
    assert_eq!(there.read_line(), "+Go\r");
    let mut asking = ask(&superd, "unt");
    until("it to be taken", || (superd.service("mux")["started"] == 2).then_some(()));
    let handlers =
        superd.children().into_iter().find(|child| child.arguments().contains("handlers")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(handlers.pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    assert_eq!(asking.read_until_closed(), b"");
    let line = superd.expect_log("cause=handler-lost");
    assert!(line.starts_with("end mux"), "{line}");
    assert!(there.is_silent(Duration::from_millis(50)));
    superd.allow_errors("handlers");
    let mut next = ask(&superd, "until\r\n");
    assert_eq!(next.read_line(), "+Go\r");
}

#[test]
fn who_leaves_without_a_name_leaves_nothing() {
    let superd = with(&exec("hello", "hello", ""));
    let address: SocketAddr = superd.address("mux");
    let clients: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    until("all to be taken", || (superd.service("mux")["sessions"] == 100).then_some(()));
    let before = superd.fds();
    drop(clients);
    superd.until_idle();
    assert!(superd.fds() + 100 <= before, "{} {before}", superd.fds());
}
