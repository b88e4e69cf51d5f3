//! The workers that ship with superd as examples, in C, Python, Perl and Rust, each behind a pool.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::process::Command;

use harness::machine::built;
use harness::world::run;
use harness::{Client, Superd, needs_program, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOURCES: [(&str, &str); 4] = [
    ("worker.c", include_str!("../etc/workers/worker.c")),
    ("worker.py", include_str!("../etc/workers/worker.py")),
    ("worker.pl", include_str!("../etc/workers/worker.pl")),
    ("http_worker.py", include_str!("../etc/workers/http_worker.py")),
];

/// A folder where a worker of another user finds its program.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
    place
}

/// Writes the sources there; the path of the first.
fn sources(place: &tempfile::TempDir, names: &[&str]) -> String {
    for (name, text) in SOURCES.iter().filter(|(name, _)| names.contains(name)) {
        std::fs::write(place.path().join(name), text).unwrap();
    }
    place.path().join(names[0]).display().to_string()
}

fn service(command: &[&str]) -> String {
    let words: Vec<String> = command.iter().map(|word| format!("{word:?}")).collect();
    format!(
        "[service.app]\nlisten = \"tcp4:127.0.0.1:0\"\n\
         pool = {{ command = [{}], min = 2, max = 4, max_connections = 50 }}\n{{user}}\n",
        words.join(", ")
    )
}

fn one(superd: &Superd) -> String {
    let mut client = superd.connect("app");
    client.write(b"hello?\n");
    let expected = format!("hello {}\n", client.address());
    let answer = client.read_text();
    assert_eq!(answer, expected);
    answer
}

/// It serves many, one that goes early, one after a death and one after a reload; and it ends when it is told to.
#[track_caller]
fn check(command: &[&str]) {
    let config = service(command);
    let superd = Superd::with(&config);
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    for _ in 0..120 {
        one(&superd);
    }
    for _ in 0..3 {
        let mut client = superd.connect("app");
        client.write(b"hello?");
        client.reset();
        drop(superd.connect("app"));
    }
    superd.until_idle();
    assert_eq!(superd.pool("app")["restarts"], 0, "{:?}", superd.log_lines());
    let worker = superd.until_pool("app", "one", |pool| pool["idle"] != 0)["workers"][0]["pid"].clone();
    let pid = i32::try_from(worker.as_i64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("its end", || (!superd.workers("app").contains(&pid)).then_some(()));
    one(&superd);
    superd.reload_with(&format!("{config}umask = \"077\"\n"));
    superd.until_pool("app", "the new ones alone", |pool| pool["next"].is_null() && pool["retiring"] == 0);
    one(&superd);
    superd.until_idle();
    assert_eq!(superd.count_log("makes no sense"), 0);
}

#[test]
fn in_c() {
    needs_program!("cc");
    let place = place();
    let program = place.path().join("worker").display().to_string();
    let source = sources(&place, &["worker.c"]);
    run(&["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", &program, &source]);
    check(&[&program]);
}

#[test]
fn in_python() {
    needs_program!("python3");
    let place = place();
    check(&["/usr/bin/python3", &sources(&place, &["worker.py"])]);
}

#[test]
fn in_perl() {
    needs_program!("perl");
    if !Command::new("perl").args(["-MSocket::MsgHdr", "-e1"]).output().unwrap().status.success() {
        return harness::skipped("Socket::MsgHdr");
    }
    let place = place();
    check(&["/usr/bin/perl", &sources(&place, &["worker.pl"])]);
}

#[test]
fn in_rust() {
    let place = place();
    // By a process of its own: see tests/harness/start.rs on ETXTBSY.
    run(&["cp", &built("examples/worker").display().to_string(), &place.path().display().to_string()]);
    check(&[&place.path().join("worker").display().to_string()]);
}

/// Asks for pages until it is told to stop; all of them must come.
fn load(superd: &Superd, threads: usize, requests: usize) {
    let address = superd.address("app");
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..requests {
                    page(address);
                }
            });
        }
    });
}

fn page(address: std::net::SocketAddr) {
    let mut client = Client::connect(address);
    client.write(b"GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let text = client.read_text();
    let head = text.lines().next().unwrap_or_default();
    assert!(head.starts_with("HTTP/1.") && head.ends_with(" 200 OK"), "{text}");
}

fn curl(superd: &Superd) -> String {
    run(&["curl", "-sS", "--max-time", "20", &format!("http://{}/page", superd.address("app"))])
}

#[test]
fn a_web_server_in_python_behind_curl_and_a_load() {
    needs_program!("python3", "curl");
    let place = place();
    let program = sources(&place, &["http_worker.py", "worker.py"]);
    let config =
        service(&["/usr/bin/python3", &program]).replace("max_connections = 50", "max_connections = 300");
    let superd = Superd::with(&config);
    superd.until_pool("app", "two", |pool| pool["idle"] == 2);
    assert!(curl(&superd).starts_with("/page answered by "));
    load(&superd, 4, 500);
    assert!(curl(&superd).starts_with("/page answered by "));
    superd.until_idle();
    assert_eq!(superd.service("app")["started"], 2002);
    assert_eq!(superd.pool("app")["restarts"], 0, "{:?}", superd.log_lines());
    assert_eq!(superd.count_log("cause="), 0);
}

#[test]
fn gunicorn_takes_the_listener_and_reloads_gracefully() {
    needs_program!("gunicorn", "curl");
    let place = place();
    let application = "def app(environ, start):\n    start('200 OK', [('Content-Length', '6')])\n    return [b'hello\\n']\n";
    std::fs::write(place.path().join("page.py"), application).unwrap();
    let gunicorn = harness::machine::find("gunicorn").unwrap().display().to_string();
    let folder = place.path().display().to_string();
    let port = harness::world::free_port();
    let config = |workers: &str| {
        let words =
            [&gunicorn, "--workers", workers, "--chdir", &folder, "--worker-tmp-dir", "/dev/shm", "page:app"];
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        format!(
            "[service.app]\nlisten = \"tcp4:127.0.0.1:{port}\"\nenv = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
             pool = {{ command = [{}], protocol = \"listen\" }}\n{{user}}\n",
            words.join(", ")
        )
    };
    let superd = Superd::with(&config("1"));
    superd.until_pool("app", "gunicorn", |pool| pool["idle"] == 1);
    assert_eq!(curl(&superd), "hello\n");
    let before = superd.workers("app");
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load(&superd, 2, 300));
        superd.reload_with(&config("2"));
        superd.until_pool("app", "the new one alone", |pool| {
            pool["next"].is_null() && pool["retiring"] == 0 && pool["idle"] == 1
        });
        load.join().unwrap();
    });
    assert_ne!(superd.workers("app"), before);
    assert_eq!(curl(&superd), "hello\n");
    assert_eq!(superd.pool("app")["restarts"], 0);
}
