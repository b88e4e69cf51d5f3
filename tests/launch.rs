//! What a program finds when it runs: descriptors, signals, session, identity, limits, environment.
//!
//! The probe prints all of it; nothing but what the configuration says may differ from a clean start.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::collections::BTreeMap;

use harness::{Superd, is_root, needs_root};
use serde_json::{Value, json};

const PROBE: &str = r#"
[service.probe]
listen = "tcp4:127.0.0.1:0"
exec = ["{probe}", "json"]
{user}
"#;

#[test]
fn exactly_three_descriptors_and_all_are_the_connection() {
    let superd = Superd::with(PROBE);
    let seen = superd.probe("probe");
    let fds = seen["fds"].as_array().unwrap();
    let numbers: Vec<i64> = fds.iter().map(|fd| fd["fd"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2]);
    for fd in fds {
        assert_eq!(fd["kind"], "socket");
        assert_eq!(fd["inode"], fds[0]["inode"], "one socket under three numbers");
        assert_eq!(fd["nonblocking"], false);
        assert_eq!(fd["cloexec"], false);
    }
}

#[test]
fn its_own_connection_and_no_other() {
    let superd = Superd::with(PROBE);
    for _ in 0..20 {
        let mut client = superd.connect("probe");
        let address = client.address().to_string();
        let seen: Value = serde_json::from_str(&client.read_text()).unwrap();
        assert_eq!(seen["peername"], address);
        assert_eq!(seen["sockname"], superd.address("probe").to_string());
    }
}

#[test]
fn no_client_gets_the_program_of_another() {
    let superd =
        Superd::with(&PROBE.replace("\"json\"", "\"echo\"").replace("service.probe", "service.echo"));
    let address = superd.address("echo");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..50 {
                    let payload = format!("{thread}/{round};").repeat(500);
                    let mut client = harness::Client::connect(address);
                    client.write(payload.as_bytes());
                    client.finish();
                    assert_eq!(client.read_text(), payload);
                }
            });
        }
    });
    superd.until_idle();
    assert_eq!(superd.service("echo")["started"], 400);
}

#[test]
fn signals_are_as_after_boot() {
    let seen = Superd::with(PROBE).probe("probe");
    for set in ["blocked", "ignored", "caught", "pending"] {
        assert_eq!(seen["signals"][set], json!([]), "{set}");
    }
}

#[test]
fn signals_that_superd_was_started_with_do_not_reach_it() {
    let ignoring = ["bash", "-c", "trap '' HUP PIPE USR2 CHLD 40; exec \"$@\"", "sh"];
    let superd = harness::Start::new(PROBE).behind(&ignoring).start();
    let seen = superd.probe("probe");
    assert_eq!(seen["signals"]["ignored"], json!([]));
}

#[test]
fn a_session_of_its_own_without_a_terminal() {
    let superd = Superd::with(PROBE);
    let seen = superd.probe("probe");
    let ids = &seen["ids"];
    assert_eq!(ids["sid"], ids["pid"]);
    assert_eq!(ids["pgid"], ids["pid"]);
    assert_eq!(ids["ppid"], superd.pid(), "superd itself is the parent, not the launcher");
    assert_eq!(seen["tty"], false);
}

#[test]
fn an_ordinary_process_in_all_else() {
    let superd = Superd::with(PROBE);
    let seen = superd.probe("probe");
    assert_eq!(seen["argv"], json!([superd.dir().join("probe").to_str().unwrap(), "json"]));
    assert_eq!(seen["ids"]["dumpable"], 1);
    assert_eq!(seen["ids"]["nice"], harness::machine::nice());
    assert_eq!(seen["ids"]["timer_slack"], 50_000);
    assert_eq!(seen["ids"]["scheduler"], 0);
    assert_eq!(seen["cwd"], "/");
    assert_eq!(seen["root"], "/");
    assert_eq!(seen["umask"], "0022");
    assert_eq!(seen["comm"], "probe");
    assert_eq!(seen["threads"], "1");
    assert_eq!(seen["no_new_privileges"], "0");
    assert_eq!(seen["seccomp"], "0");
    assert_eq!(seen["inheritable"], "0000000000000000");
    assert_eq!(seen["ambient"], "0000000000000000");
}

#[test]
fn the_identity_is_complete() {
    needs_root!();
    let seen = Superd::with(PROBE).probe("probe");
    assert_eq!(seen["uids"], json!([65534, 65534, 65534, 65534]), "real, effective, saved, file system");
    assert_eq!(seen["gids"], json!([65534, 65534, 65534, 65534]));
    assert_eq!(seen["groups"], json!([65534]));
    assert_eq!(seen["capabilities"], "0000000000000000");
}

#[test]
fn groups_are_those_of_the_configuration() {
    needs_root!();
    let service = |name: &str, keys: &str| {
        format!("[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"json\"]\n{keys}\n")
    };
    let superd = Superd::with(
        &[
            service("none", "user = \"nobody\"\ngroups = []"),
            service("some", "user = \"nobody\"\ngroup = \"daemon\"\ngroups = [\"tty\", \"lp\"]"),
            service("numbers", "user = 61234\ngroup = 61235"),
            service("root", "user = \"root\""),
        ]
        .concat(),
    );
    let check = |name: &str, uid: u32, gid: u32, groups: Value| {
        let seen = superd.probe(name);
        assert_eq!(seen["uids"], json!([uid, uid, uid, uid]), "{name}");
        assert_eq!(seen["gids"], json!([gid, gid, gid, gid]), "{name}");
        assert_eq!(seen["groups"], groups, "{name}");
    };
    check("none", 65534, 65534, json!([]));
    check("some", 65534, 1, json!([5, 7]));
    check("numbers", 61234, 61235, json!([]));
    check("root", 0, 0, json!([0]));
}

#[test]
fn without_root_it_is_who_superd_is() {
    if is_root() {
        return harness::skipped("an ordinary user");
    }
    let seen = Superd::with(PROBE).probe("probe");
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(seen["uids"], json!([uid, uid, uid, uid]));
}

#[test]
fn rlimits_are_those_that_superd_was_started_with() {
    let limits = ["prlimit", "--nofile=700:900", "--core=0:4096", "--nproc=3000:3100"];
    let superd = harness::Start::new(PROBE).behind(&limits).start();
    let seen = superd.probe("probe");
    assert_eq!(seen["rlimits"]["nofile"], json!([700, 900]));
    assert_eq!(seen["rlimits"]["core"], json!([0, 4096]));
    assert_eq!(seen["rlimits"]["nproc"], json!([3000, 3100]));
}

#[test]
fn rlimits_of_the_configuration() {
    let config = format!(
        "{PROBE}rlimits = {{ nofile = 64, cpu = {{ soft = \"100s\", hard = \"200s\" }}, core = \"4KiB\" }}\n"
    );
    let superd = Superd::with(&config);
    let seen = superd.probe("probe");
    assert_eq!(seen["rlimits"]["nofile"], json!([64, 64]));
    assert_eq!(seen["rlimits"]["cpu"], json!([100, 200]));
    assert_eq!(seen["rlimits"]["core"], json!([4096, 4096]));
}

#[test]
fn the_environment_is_clean_and_complete() {
    let start = harness::Start::new(PROBE).env("LEAK", "1").env("LD_BIND_NOW", "1").env("SHELL", "/bin/x");
    let superd = start.start();
    let mut client = superd.connect("probe");
    let seen: Value = serde_json::from_str(&client.read_text()).unwrap();
    let (name, home, shell) = account();
    let line = superd.expect_log("start probe");
    let session = line.split("session=").nth(1).unwrap().split(' ').next().unwrap();
    let (ip, port) = ("127.0.0.1", client.address().port().to_string());
    let local = superd.address("probe").port().to_string();
    let expected: BTreeMap<&str, &str> = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("HOME", &home),
        ("SHELL", &shell),
        ("USER", &name),
        ("LOGNAME", &name),
        ("PROTO", "TCP"),
        ("TCPLOCALIP", ip),
        ("TCPLOCALPORT", &local),
        ("TCPREMOTEIP", ip),
        ("TCPREMOTEPORT", &port),
        ("REMOTE_HOST", ip),
        ("REMOTE_ADDR", ip),
        ("REMOTE_PORT", &port),
        ("SUPERD_SERVICE", "probe"),
        ("SUPERD_SESSION", session),
    ]
    .into();
    assert_eq!(seen["env"], json!(expected));
}

/// Name, home and shell of whom the probe runs as.
fn account() -> (String, String, String) {
    let uid = if is_root() { 65534 } else { nix::unistd::getuid().as_raw() };
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    entry.map_or((uid.to_string(), "/".to_owned(), "/bin/sh".to_owned()), |line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields[0].to_owned(), fields[5].to_owned(), fields[6].to_owned())
    })
}

#[test]
fn the_environment_of_the_configuration() {
    let config = format!(
        "{PROBE}pass_env = [\"PASSED\", \"MISSING\"]\nenv = {{ GREETING = \"a b\", HOME = \"/x\" }}\n"
    );
    let seen = harness::Start::new(&config).env("PASSED", "yes").start().probe("probe");
    assert_eq!(seen["env"]["PASSED"], "yes");
    assert_eq!(seen["env"]["MISSING"], Value::Null);
    assert_eq!(seen["env"]["GREETING"], "a b");
    assert_eq!(seen["env"]["HOME"], "/x");
}

#[test]
fn every_other_key_of_a_program() {
    let keys =
        "argv0 = \"other name\"\numask = \"027\"\nnice = 5\ncwd = \"{dir}\"\nno_new_privileges = true\n";
    let superd = Superd::with(&format!("{PROBE}{keys}"));
    let seen = superd.probe("probe");
    assert_eq!(seen["argv"], json!(["other name", "json"]));
    assert_eq!(seen["umask"], "0027");
    assert_eq!(seen["ids"]["nice"], (harness::machine::nice() + 5).min(19));
    assert_eq!(seen["cwd"], superd.dir().to_str().unwrap());
    assert_eq!(seen["no_new_privileges"], "1");
    // Its arguments do not name the folder, by which the harness finds what is left over.
    superd.until_idle();
}

#[test]
fn standard_error_goes_where_it_is_told() {
    let service = |name: &str| {
        format!(
            "[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", \"stderr\", \"2\"]\n{{user}}\nstderr = \"{name}\"\n"
        )
    };
    let superd = Superd::with(&[service("socket"), service("null")].concat());
    assert_eq!(superd.connect("socket").read_text(), "line 1\nline 2\nhello\n");
    assert_eq!(superd.connect("null").read_text(), "hello\n");
}

#[test]
fn a_program_in_another_root() {
    needs_root!();
    let place = tempfile::tempdir().unwrap();
    root_with_probe(place.path());
    let chroot = place.path().join("root");
    let config = format!(
        "[service.probe]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"/probe\", \"json\"]\n{{user}}\nchroot = \"{}\"\n",
        chroot.display()
    );
    let superd = Superd::with(&config);
    let seen = superd.probe("probe");
    let entries = seen["root_entries"].as_array().unwrap();
    assert!(entries.contains(&json!("probe")) && !entries.contains(&json!("etc")), "{entries:?}");
    assert_eq!(seen["env"]["SUPERD_SERVICE"], "probe");
    superd.until_idle();
}

/// A folder `root` that holds the probe and its libraries alone.
fn root_with_probe(place: &std::path::Path) {
    let script = r#"
        set -e; mkdir root; chmod 755 . root; cp "$0" root/probe
        for library in $(ldd "$0" | grep -o '/[^ ]*'); do cp -L --parents "$library" root; done"#;
    let probe = harness::machine::built("examples/probe");
    let mut command = std::process::Command::new("bash");
    let done = command.args(["-c", script]).arg(probe).current_dir(place).status().unwrap();
    assert!(done.success(), "make a root");
}

#[test]
fn ipv6_clients_are_named_as_they_are() {
    let superd = Superd::with(&PROBE.replace("tcp4:127.0.0.1:0", "tcp6:[::1]:0"));
    let seen = superd.probe("probe");
    assert_eq!(seen["env"]["TCPREMOTEIP"], "::1");
    assert_eq!(seen["env"]["REMOTE_HOST"], "::1");
    assert_eq!(seen["env"]["TCPLOCALIP"], "::1");
}

#[test]
fn how_a_program_ends_is_logged() {
    let service = |name: &str, arguments: &str| {
        format!(
            "[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", {arguments}]\n{{user}}\n"
        )
    };
    let config = [
        service("good", "\"hello\""),
        service("bad", "\"exit\", \"3\""),
        service("killed", "\"kill\", \"9\""),
    ];
    let superd = Superd::with(&config.concat());
    for (name, status) in [("good", "status=0"), ("bad", "status=3"), ("killed", "signal=KILL")] {
        let mut client = superd.connect(name);
        let address = client.address();
        client.read_until_closed();
        let start = superd.expect_log(&format!("start {name} "));
        let end = superd.expect_log(&format!("end {name} "));
        assert!(end.contains(status), "{end}");
        assert!(
            start.contains(&format!("client={address}")) && end.contains(&format!("client={address}")),
            "{end}"
        );
    }
}

#[test]
fn a_program_that_went_away_is_named_with_its_step() {
    let config = "[service.gone]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{dir}/gone\"]\n{user}\n";
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("gone");
    std::fs::copy("/bin/true", &program).unwrap();
    let superd = Superd::with(&config.replace("{dir}/gone", program.to_str().unwrap()));
    std::fs::remove_file(&program).unwrap();
    superd.allow_errors("launch-failed gone");
    assert_eq!(superd.connect("gone").read_until_closed(), b"");
    let line = superd.expect_log("launch-failed gone");
    assert!(line.contains("step=exec") && line.contains("error=ENOENT"), "{line}");
    superd.until_idle();
    assert_eq!(superd.service("gone")["launch_failed"], 1);
}
