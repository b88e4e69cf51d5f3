//! The options of hosts.allow and hosts.deny, as a client, a program, a log and a file system see them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::dns::{NameServer, Record, Says, own_resolver};
use harness::superd::severity;
use harness::world::{own_mounts, own_network};
use harness::{Superd, is_root, needs_root, until};
use serde_json::{Value, json};

const PLAIN: &str = "
[service.a]
listen = \"tcp4:127.0.0.1:0\"
exec = [\"{probe}\", \"json\"]
{user}
";

const ASKS: &str = "hosts_access = { allow = \"{dir}/hosts.allow\", deny = \"{dir}/hosts.deny\" }\n";

/// superd with one service, a probe, more of its keys, and both files.
#[track_caller]
fn start_with(keys: &str, allow: &str, deny: &str) -> Superd {
    let superd = Superd::with(PLAIN);
    let out = superd.dir().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(out, fs::Permissions::from_mode(0o777)).unwrap();
    write(&superd, allow, deny);
    superd.reload_with(&format!("{PLAIN}{keys}{ASKS}"));
    superd
}

#[track_caller]
fn start(allow: &str) -> Superd {
    start_with("", allow, "ALL: ALL\n")
}

fn write(superd: &Superd, allow: &str, deny: &str) {
    let dir = superd.dir().display().to_string();
    for (name, text) in [("hosts.allow", allow), ("hosts.deny", deny)] {
        fs::write(superd.dir().join(name), text.replace("{dir}", &dir)).unwrap();
    }
}

#[track_caller]
fn change(superd: &Superd, allow: &str, deny: &str) {
    write(superd, allow, deny);
    superd.reload().unwrap_or_else(|errors| panic!("{allow}{deny}{}", errors.join("\n")));
}

/// What a command has written to `out/NAME`, whole: it is renamed when it is done.
#[track_caller]
fn written(superd: &Superd, name: &str) -> String {
    let path = superd.dir().join("out").join(name);
    let text = until(&format!("{name} to be written"), || fs::read_to_string(&path).ok());
    fs::remove_file(path).unwrap();
    text
}

/// A command whose output is in `out/NAME` then.
fn saved(command: &str, name: &str) -> String {
    format!("({command}) > {{dir}}/out/.{name} && mv {{dir}}/out/.{name} {{dir}}/out/{name}")
}

/// The user that the service runs as.
fn service_user() -> (u32, u32) {
    let ids = || (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    if is_root() { (65534, 65534) } else { ids() }
}

// spawn

#[test]
fn a_command_runs_beside_as_the_services_user_and_without_the_client() {
    let superd = start(&format!("ALL: ALL: spawn {}\n", saved("{dir}/probe json", "probe")));
    let mut client = superd.connect("a");
    let served: Value = serde_json::from_str(&client.read_text()).unwrap();
    let probe: Value = serde_json::from_str(&written(&superd, "probe")).unwrap();
    let (uid, gid) = service_user();
    assert_eq!((&probe["uids"], &probe["gids"]), (&json!(vec![uid; 4]), &json!(vec![gid; 4])));
    assert_eq!(probe["groups"], served["groups"]);
    assert_eq!(probe["umask"], served["umask"]);
    let kinds = |probe: &Value| -> Vec<String> {
        let fds = probe["fds"].as_array().unwrap();
        fds.iter().map(|fd| format!("{} {}", fd["fd"], fd["target"].as_str().unwrap_or("?"))).collect()
    };
    let expected = ["0 /dev/null".to_owned(), format!("1 {}/out/.probe", superd.dir().display())];
    assert_eq!(kinds(&probe)[..2], expected);
    assert_eq!(kinds(&probe)[2..], ["2 /dev/null"]);
    for word in ["LISTEN_FDS", "SUPERD_POOL", "PROTO"] {
        assert_eq!(probe["env"][word], Value::Null, "{word}");
    }
}

#[test]
fn a_command_runs_for_who_is_refused_too() {
    let deny = format!("ALL: ALL: spawn {}\n", saved("echo %a %d %s", "refused"));
    let superd = start_with("argv0 = \"in.testd\"\n", "", &deny);
    assert!(superd.connect("a").read_until_closed().is_empty());
    assert_eq!(written(&superd, "refused"), "127.0.0.1 in.testd in.testd@127.0.0.1\n");
}

#[test]
fn letters_say_who_came() {
    let superd = start(&format!("ALL: ALL: spawn {}\n", saved("echo %a %A %r %R %d %h %c %%", "who")));
    let client = superd.connect("a");
    let (port, own) = (client.address().port(), superd.address("a").port());
    let expected = format!("127.0.0.1 127.0.0.1 {port} {own} probe 127.0.0.1 127.0.0.1 %\n");
    assert_eq!(written(&superd, "who"), expected);
}

/// Options hold for what stands behind them, and for the program.
#[test]
fn options_hold_in_their_order() {
    let first = saved("echo $A; umask", "first");
    let second = saved("echo $A; umask", "second");
    let superd =
        start(&format!("ALL: ALL: spawn {first}: setenv A %d: umask 027: spawn {second}: nice 3: nice 4\n"));
    let probe = superd.probe("a");
    assert_eq!(written(&superd, "first"), "\n0022\n");
    assert_eq!(written(&superd, "second"), "probe\n0027\n");
    assert_eq!((&probe["env"]["A"], &probe["umask"]), (&json!("probe"), &json!("0027")));
    assert_eq!(probe["ids"]["nice"], json!(harness::machine::nice() + 7));
}

/// The client chooses its name and what its ident server says. Neither is code.
#[test]
fn nothing_that_a_client_says_is_executed() {
    needs_root!();
    own_network();
    own_mounts();
    let folder = tempfile::TempDir::new().unwrap();
    own_resolver(folder.path(), "options timeout:1 attempts:1", "192.0.2.1 other\n");
    let _server = NameServer::start(|name, kind| match (name, kind) {
        ("1.0.0.127.in-addr.arpa", _) => {
            Says::Records(vec![Record::Pointer(vec![b"$(touch evil)`touch evil`;touch evil".to_vec()])])
        }
        _ => Says::Records(vec![Record::Address("127.0.0.1".parse().unwrap())]),
    });
    let ident = TcpListener::bind("127.0.0.1:113").unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = ident.accept() {
            let mut ports = String::new();
            BufReader::new(&stream).read_line(&mut ports).unwrap();
            let _ = write!(stream, "{} : USERID : UNIX : -a;touch evil`id`$(id)\r\n", ports.trim_end());
        }
    });
    let superd = start(&format!("ALL: ALL: spawn cd {{dir}}/out; {}\n", saved("echo %n %u %c %h", "said")));
    assert!(superd.probe("a").is_object());
    // The C library takes such a name for none.
    assert_eq!(
        written(&superd, "said"),
        "unknown _a_touch_evil_id___id_ _a_touch_evil_id___id_@127.0.0.1 127.0.0.1\n"
    );
    let left: Vec<_> = fs::read_dir(superd.dir().join("out")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// It holds up nobody, is one of 64, and ends with superd.
#[test]
fn commands_that_hang_are_bounded_and_hold_up_nobody() {
    let daemon = "[daemon]\nshutdown_grace = \"0s\"\n";
    let superd = start("ALL: ALL: spawn touch {dir}/out/$$; exec sleep 1000\n");
    superd.reload_with(&format!("{daemon}{PLAIN}{ASKS}limits = {{ connections = 256 }}\n"));
    let count = || fs::read_dir(superd.dir().join("out")).unwrap().count();
    for _ in 0..70 {
        assert!(superd.probe("a").is_object());
    }
    until("64 commands", || (count() == 64).then_some(()));
    superd.expect_log("a command of hosts.allow or hosts.deny for a is left out: there are too many");
    superd.until_idle();
    assert_eq!(count(), 64);
    let running = superd.children().into_iter().filter(|child| child.comm == "sleep").count();
    assert_eq!(running, 64);
}

/// What can't be launched is counted once: else more than 64 could run in the end, or none.
#[test]
fn commands_that_fail_give_their_places_back() {
    needs_root!();
    let superd = start_with("", "ALL: ALL: spawn /bin/true\n", "");
    let empty = superd.dir().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::copy(superd.dir().join("probe"), empty.join("probe")).unwrap();
    fs::set_permissions(empty.join("probe"), fs::Permissions::from_mode(0o755)).unwrap();
    // There is no shell in there.
    superd.reload_with(&format!("{}chroot = \"{{dir}}/empty\"\n{ASKS}", PLAIN.replace("{probe}", "/probe")));
    superd.allow_errors("launch-failed");
    for _ in 0..70 {
        superd.connect("a").read_until_closed();
    }
    superd.expect_log("a command of hosts.allow or hosts.deny for a failed at exec: ENOENT");
    superd.until_idle();
    change(&superd, &format!("ALL: ALL: spawn {}\n", saved("echo back", "back")), "");
    superd.reload_with(&format!("{PLAIN}{ASKS}"));
    superd.connect("a").read_until_closed();
    assert_eq!(written(&superd, "back"), "back\n");
    assert_eq!(superd.count_log("too many"), 0);
}

/// Its workers have a channel as descriptor 3; a command has not.
#[test]
fn a_command_of_a_pool_knows_nothing_of_channels() {
    let pool = "[service.app]\nlisten = \"tcp4:127.0.0.1:0\"\n{user}\n\
                pool = { command = [\"{member}\", \"fields\"], min = 1, max = 1 }\n";
    let superd = start(&format!("app: ALL: spawn {}\n", saved("{dir}/probe json", "probe")));
    superd.reload_with(&format!("{pool}{ASKS}"));
    assert!(superd.connect("app").read_text().starts_with("pid "));
    let probe: Value = serde_json::from_str(&written(&superd, "probe")).unwrap();
    let fds: Vec<&Value> = probe["fds"].as_array().unwrap().iter().map(|fd| &fd["fd"]).collect();
    assert_eq!(fds, [&json!(0), &json!(1), &json!(2)]);
    for word in ["LISTEN_FDS", "LISTEN_PID", "SUPERD_POOL", "NOTIFY_SOCKET"] {
        assert_eq!(probe["env"][word], Value::Null, "{word}");
    }
    assert_eq!(probe["uids"], json!(vec![service_user().0; 4]));
}

// twist

#[test]
fn a_twist_is_the_launch() {
    let keys = "limits = { connections = 1, on_limit = \"close\" }\n";
    let superd =
        start_with(keys, "ALL: ALL: setenv WORD twisted: twist echo $WORD %a; id -u; cat; exit 3\n", "");
    let mut client = superd.connect("a");
    assert_eq!(client.read_line(), "twisted 127.0.0.1");
    assert_eq!(client.read_line(), service_user().0.to_string());
    let start = superd.expect_log("start a session=");
    assert!(start.contains(&format!("client={}", client.address())), "{start}");
    // It has the service's places.
    assert!(superd.connect("a").read_until_closed().is_empty());
    superd.expect_log("reason=connections");
    client.write(b"to the end\n");
    client.finish();
    assert_eq!(client.read_text(), "to the end\n");
    superd.expect_log("status=3");
}

#[test]
fn a_twist_of_hosts_deny_is_served_too() {
    let superd = start_with("", "", "ALL: ALL: twist echo 421 %d is closed\n");
    assert_eq!(superd.connect("a").read_text(), "421 probe is closed\n");
}

/// Nothing is launched for its clients: they must not get the service instead.
#[test]
fn where_nothing_is_launched_a_twist_refuses() {
    let superd = start("ALL: ALL: twist echo no\n");
    let service = "[service.a]\nlisten = \"tcp4:127.0.0.1:0\"\nbuiltin = \"daytime\"\n";
    superd.reload_with(&format!("{service}{ASKS}"));
    assert!(superd.connect("a").read_until_closed().is_empty());
    superd.expect_log("reason=hosts_access");
    let path = superd.dir().join("superd.toml").display().to_string();
    let mut check = std::process::Command::new(harness::machine::built("superd"));
    let output = check.args(["check", "--resolve", &path]).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("`twist` can't hold for the built-in service `a`: its clients are refused"),
        "{text}"
    );
}

// What a client and a program see

#[test]
fn socket_options_are_set() {
    let superd = start("ALL: ALL: keepalive: linger 7\n");
    let probe = superd.probe("a");
    assert_eq!((&probe["keepalive"], &probe["linger"]), (&json!(1), &json!([1, 7])));
    change(&superd, "ALL: ALL\n", "");
    let probe = superd.probe("a");
    assert_eq!((&probe["keepalive"], &probe["linger"]), (&json!(0), &json!([0, 0])));
}

#[test]
fn banners_are_those_of_the_daemon() {
    let superd = start("");
    let folder: PathBuf = superd.dir().join("banners");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("probe"), "Hello %a,\n100%% %d\n").unwrap();
    fs::write(folder.join("other"), "other\n").unwrap();
    change(&superd, "", "ALL: ALL: banners {dir}/banners\n");
    assert_eq!(superd.connect("a").read_text(), "Hello 127.0.0.1,\r\n100% probe\r\n");
    change(&superd, "ALL: ALL: banners {dir}/banners\n", "");
    let text = superd.connect("a").read_text();
    assert!(text.starts_with("Hello 127.0.0.1,\r\n100% probe\r\n{"), "{text}");
    // It is read again at a reload, and may be missing.
    fs::write(folder.join("probe"), "new\n").unwrap();
    superd.reload().unwrap();
    assert!(superd.connect("a").read_text().starts_with("new\r\n{"));
    fs::remove_file(folder.join("probe")).unwrap();
    superd.reload().unwrap();
    assert!(superd.connect("a").read_text().starts_with('{'));
}

#[test]
fn a_program_gets_another_identity() {
    needs_root!();
    let superd = start("");
    // Of Debian's base-passwd: daemon is 1, bin 2, games 5 with the group 60, mail 8.
    for (options, uid, gid) in [
        ("user daemon", 1, 1),
        ("user games", 5, 60),
        ("user games.mail", 5, 8),
        ("group mail", 65534, 8),
        ("group mail: user games", 5, 8),
        ("user root", 0, 0),
    ] {
        let own = saved("{dir}/probe json", "own");
        change(&superd, &format!("ALL: ALL: {options}: spawn {own}\n"), "");
        for probe in [superd.probe("a"), serde_json::from_str(&written(&superd, "own")).unwrap()] {
            assert_eq!(
                (&probe["uids"], &probe["gids"]),
                (&json!(vec![uid; 4]), &json!(vec![gid; 4])),
                "{options}"
            );
        }
        fs::remove_file(superd.dir().join("out/.own")).unwrap_or_default();
    }
}

// The log

#[test]
fn severity_is_that_of_the_lines() {
    let superd = start("");
    // RFC 5424, section 6.2.1: facility times 8, and the level.
    for (option, pri) in [("mail.notice", 2 * 8 + 5), ("local3.debug", 19 * 8 + 7), ("warning", 3 * 8 + 4)] {
        change(&superd, &format!("ALL: ALL: severity {option}\n"), "");
        superd.reload_with(&format!("[log]\nlevel = \"debug\"\n{PLAIN}{ASKS}"));
        let mut client = superd.connect("a");
        client.read_text();
        check_pri(&superd, "start a", &client.address().to_string(), pri);
        check_pri(&superd, "end a", &client.address().to_string(), pri);
    }
    change(&superd, "", "ALL: ALL: severity auth.warning\n");
    let mut client = superd.connect("a");
    client.read_until_closed();
    check_pri(&superd, "refuse a", &client.address().to_string(), 4 * 8 + 4);
}

#[track_caller]
fn check_pri(superd: &Superd, word: &str, client: &str, pri: u8) {
    let line = superd.log.expect(word, |line| line.contains(word) && line.contains(client));
    assert!(line.starts_with(&format!("<{pri}>")), "{line}");
    assert!(severity(&line) > 3);
}

#[test]
fn a_rule_that_refuses_has_no_delay() {
    let superd = start("");
    let began = Instant::now();
    assert!(superd.connect("a").read_until_closed().is_empty());
    // tcpd sleeps for five.
    assert!(began.elapsed() < Duration::from_secs(4));
}
