//! The log: its lines as they arrive at syslog, in a file and on standard error, and a log daemon that ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fs;

use harness::{Superd, until};
use nix::sys::signal::Signal;

const HELLO: &str =
    "[service.hello]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{probe}\", \"hello\"]\n{user}\n";

#[test]
fn lines_have_the_form_of_syslog() {
    let superd = Superd::with(&format!("[log]\nfacility = \"local3\"\ntag = \"inet\"\n{HELLO}"));
    superd.connect("hello").read_text();
    let line = superd.log.expect("start line", |line| line.contains("start hello"));
    // local3 is 19, info is 6 (RFC 3164 §4.1.1).
    assert!(line.starts_with("<158>"), "{line}");
    assert!(line.contains(&format!(" inet[{}]: start hello session=", superd.pid())), "{line}");
    let stamp = line.get(5..20).unwrap();
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    assert!(months.contains(&&stamp[..3]) && stamp[7..].matches(':').count() == 2, "{stamp}");
}

#[test]
fn a_session_is_told_from_start_to_end() {
    let superd = Superd::with(HELLO);
    let mut client = superd.connect("hello");
    let address = client.address();
    client.read_text();
    let start = superd.expect_log("start hello");
    let end = superd.expect_log("end hello");
    let value = |line: &str, key: &str| {
        let found = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no `{key}` in {line}")).to_owned()
    };
    assert_eq!(value(&start, "client"), address.to_string());
    assert_eq!(value(&start, "local"), superd.address("hello").to_string());
    for key in ["session", "pid", "client"] {
        assert_eq!(value(&start, key), value(&end, key));
    }
    assert_eq!(value(&end, "status"), "0");
    assert!(value(&end, "duration").parse::<f64>().unwrap() < 20.0);
}

#[test]
fn the_wording_of_xinetd() {
    let superd = Superd::with(&format!("[log]\nformat = \"xinetd\"\n{HELLO}"));
    superd.connect("hello").read_text();
    let start = superd.expect_log("START: hello");
    assert!(start.contains("pid=") && start.contains("from=127.0.0.1"), "{start}");
    let end = superd.expect_log("EXIT: hello");
    assert!(end.contains("status=0") && end.contains("duration="), "{end}");
}

#[test]
fn clients_may_be_left_out() {
    for (detail, shown) in [("prefix", "client=127.0.0.0/24"), ("none", "client=-")] {
        let superd = Superd::with(&format!("[log]\nclient = \"{detail}\"\n{HELLO}"));
        superd.connect("hello").read_text();
        assert!(superd.expect_log("end hello").contains(shown));
        assert_eq!(superd.count_log("127.0.0.1:"), superd.count_log("local="), "only the local address");
    }
}

#[test]
fn a_service_may_keep_silent() {
    let quiet = HELLO.replace("service.hello", "service.quiet");
    let superd = Superd::with(&format!("{quiet}log = {{ success = false }}\n{HELLO}"));
    superd.connect("quiet").read_text();
    superd.until_idle();
    superd.connect("hello").read_text();
    superd.expect_log("end hello");
    assert_eq!(superd.count_log(" quiet "), 0);
}

#[test]
fn levels_are_kept_apart() {
    let superd = Superd::with(&format!("[log]\nlevel = \"notice\"\n{HELLO}limits = {{ connections = 1 }}\n"));
    superd.connect("hello").read_text();
    superd.until_idle();
    assert_eq!(superd.count_log("start hello"), 0);
}

#[test]
fn a_log_daemon_that_is_started_again_is_found() {
    let mut superd = Superd::with(HELLO);
    superd.connect("hello").read_text();
    superd.expect_log("end hello");
    superd.log.close();
    let before = superd.log.messages().len();
    for _ in 0..20 {
        assert_eq!(superd.connect("hello").read_text(), "hello\n");
    }
    superd.until_idle();
    superd.log.reopen();
    assert_eq!(superd.connect("hello").read_text(), "hello\n");
    until("every line", || (superd.log.messages().len() >= before + 42).then_some(()));
    assert_eq!(superd.count_log("start hello"), 22, "lines of the meantime waited");
}

#[test]
fn a_log_file_is_opened_again_at_hup() {
    let config = format!("{HELLO}[log]\ntarget = \"{{dir}}/superd.log\"\n");
    let superd = Superd::with(&config);
    let path = superd.dir().join("superd.log");
    let has =
        |path: &std::path::Path, part: &str| fs::read_to_string(path).is_ok_and(|text| text.contains(part));
    superd.connect("hello").read_text();
    until("a line in the file", || has(&path, "end hello").then_some(()));
    let moved = superd.dir().join("superd.log.1");
    fs::rename(&path, &moved).unwrap();
    superd.signal(Signal::SIGHUP);
    until("the new file", || has(&path, "reload result=done").then_some(()));
    superd.connect("hello").read_text();
    until("a line in the new file", || has(&path, "end hello").then_some(()));
    assert_eq!(fs::read_to_string(&moved).unwrap().matches("end hello").count(), 1);
    let text = fs::read_to_string(&path).unwrap();
    let pid = format!("superd[{}]: ", superd.pid());
    assert!(text.lines().all(|line| line.contains(&pid) && line.contains('T')), "{text}");
}

#[test]
fn in_the_foreground_it_may_be_standard_error() {
    let superd = Superd::with(&format!("{HELLO}[log]\ntarget = \"stderr\"\n"));
    superd.connect("hello").read_text();
    let path = superd.dir().join("stderr");
    let line = until("a line", || {
        fs::read_to_string(&path).ok()?.lines().find(|line| line.contains("end hello")).map(str::to_owned)
    });
    assert!(line.contains("status=0"), "{line}");
}

#[test]
fn what_a_program_says_is_escaped() {
    let config = "[daemon]\nhelper_user = \"nobody\"\n\
                  [service.x]\nlisten = \"tcp4:127.0.0.1:0\"\nstderr = \"log\"\n{user}\n\
                  exec = [\"/bin/sh\", \"-c\", \"printf 'bad\\\\033[31m \\\"quote\\\"\\\\nend x status=0\\\\n' >&2\"]\n";
    let superd = Superd::with(config);
    superd.connect("x").read_text();
    let line = superd.expect_log("stderr x");
    assert!(line.contains(r"\x1b") && !line.contains('\u{1b}'), "{line}");
    superd.until_idle();
    superd.expect_log("end x session=");
    assert_eq!(superd.log_lines().iter().filter(|line| line.starts_with("end x")).count(), 1);
}
