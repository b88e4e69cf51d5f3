//! superctl end to end: the program itself against the real control server, which a thread turns.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use superd::protocol::control::{
    Answer, ListenerStatus, Refusal, ReloadReport, Reply, Request, ServiceStatus, Status, encode_reply,
};
use superd::supervisor::control::{ControlServer, Interest, Token};
use tempfile::TempDir;

/// A superd that knows nothing but its control socket; ends when it is dropped.
struct Daemon {
    directory: TempDir,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start(group: Option<u32>, answer: impl Fn(&Request) -> Option<Reply> + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut server = ControlServer::bind(&directory.path().join("control.sock"), group).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                turn(&mut server, &answer);
            }
        });
        Self { directory, stop, thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    fn ask(&self, arguments: &str) -> Outcome {
        let path = self.path();
        superctl(&format!("--socket {} {arguments}", path.display()), &[])
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn turn(server: &mut ControlServer, answer: &impl Fn(&Request) -> Option<Reply>) {
    let mut interests: Vec<Interest<'_>> = Vec::new();
    server.interests(&mut interests);
    let events = |interest: &Interest<'_>| {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, interest.read);
        events.set(PollFlags::POLLOUT, interest.write);
        events
    };
    let mut fds: Vec<PollFd<'_>> = interests.iter().map(|i| PollFd::new(i.fd, events(i))).collect();
    poll(&mut fds, PollTimeout::from(20_u16)).unwrap();
    let ready: Vec<Token> = interests
        .iter()
        .zip(&fds)
        .filter(|(_, fd)| fd.any() == Some(true))
        .map(|(interest, _)| interest.token)
        .collect();
    for token in ready {
        server.on_ready(token, Instant::now());
    }
    for (client, request) in server.take_requests() {
        if let Some(reply) = answer(&request) {
            server.reply(client, &reply, Instant::now());
        }
    }
    server.on_deadline(Instant::now());
}

/// What a run of superctl came to.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn command(arguments: &str, environment: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_superctl"));
    command.args(arguments.split_whitespace()).env_clear().envs(environment.iter().copied());
    command
}

fn superctl(arguments: &str, environment: &[(&str, &Path)]) -> Outcome {
    command(arguments, environment).output().unwrap().into()
}

/// A superd with one service; `reload` fails or answers as `reload` says.
fn one_service(reload: Option<Reply>) -> Daemon {
    one_service_for(None, reload)
}

fn one_service_for(group: Option<u32>, reload: Option<Reply>) -> Daemon {
    Daemon::start(group, move |request| match request {
        Request::Status => Some(done(Answer::Status(status(1)))),
        Request::Reload => reload.clone(),
        Request::Socket { service } if service == "echo0" => Some(done(Answer::Socket(vec![listener()]))),
        Request::Socket { service } => {
            Some(Reply::Refused(Refusal::new(format!("there is no service {service:?}"))))
        }
        Request::Bans
        | Request::Ban { .. }
        | Request::Unban { .. }
        | Request::Pool { .. }
        | Request::Explain(_) => Some(Reply::Refused(Refusal::new("that is not here"))),
    })
}

fn done(answer: Answer) -> Reply {
    Reply::Done(Box::new(answer))
}

fn status(services: usize) -> Status {
    let service = |number| ServiceStatus {
        name: format!("echo{number}"),
        state: "online".to_owned(),
        reason: None,
        retry_in: None,
        listeners: vec![ListenerStatus { options: [].into(), queue: None, ..listener() }],
        sessions: 2,
        started: 4,
        launch_failed: 0,
        refused: [("per_source".to_owned(), 3)].into(),
        workers: 0,
        datagrams: None,
    };
    Status {
        version: "0.1.0".to_owned(),
        pid: 812,
        generation: 1,
        uptime: 61,
        fds: 9,
        services: (0..services).map(service).collect(),
        sessions: 2,
        workers: 0,
        launches: 0,
        pending: 0,
        strangers: 0,
        dropped_log_lines: 0,
    }
}

fn listener() -> ListenerStatus {
    ListenerStatus {
        endpoint: "tcp:127.0.0.1:7".to_owned(),
        bound: Some("127.0.0.1:7".to_owned()),
        error: None,
        options: [("backlog".to_owned(), "16".to_owned())].into(),
        queue: Some([0, 16]),
        dropped: None,
    }
}

#[test]
fn answers_are_shown() {
    let report = ReloadReport {
        generation: 2,
        kept: vec!["echo0".to_owned()],
        warnings: vec!["zone needs a restart".to_owned()],
        ..ReloadReport::default()
    };
    let superd = one_service(Some(done(Answer::Reload(report.clone()))));

    let shown = superd.ask("status");
    assert!(
        shown.out.starts_with("superd 0.1.0, pid 812, up 1m 1s, generation 1: services 1, sessions 2"),
        "{shown:?}"
    );
    assert!(shown.out.contains("echo0    online  2         127.0.0.1:7  per_source=3"), "{shown:?}");
    assert_eq!((shown.code, shown.err.as_str()), (Some(0), ""));
    let json = superd.ask("status --json");
    assert_eq!(serde_json::from_str::<Status>(&json.out).unwrap(), status(1));

    let reload = superd.ask("reload");
    assert_eq!(reload.out, "generation 2: 1 kept, 0 changed, 0 opened, 0 closed\n");
    assert_eq!((reload.code, reload.err.as_str()), (Some(0), "superctl: zone needs a restart\n"));
    let json = superd.ask("reload --json");
    assert_eq!(serde_json::from_str::<ReloadReport>(&json.out).unwrap(), report);

    let socket = superd.ask("socket echo0");
    assert!(socket.out.contains("tcp:127.0.0.1:7 bound to 127.0.0.1:7\n  queue    0 of 16\n"), "{socket:?}");
    let json = superd.ask("socket echo0 --json");
    assert_eq!(serde_json::from_str::<Vec<ListenerStatus>>(&json.out).unwrap(), [listener()]);
}

#[test]
fn what_is_refused_exits_1() {
    let refusal = Refusal { errors: vec!["superd.toml:3: one\n  ^".to_owned(), "two \u{1b}[2J".to_owned()] };
    let superd = one_service(Some(Reply::Refused(refusal.clone())));
    let reload = superd.ask("reload");
    assert_eq!(reload.err, "superctl: superd.toml:3: one\n  ^\nsuperctl: two \\x1b[2J\n");
    assert_eq!((reload.code, reload.out.as_str()), (Some(1), ""));
    let json = superd.ask("reload --json");
    assert_eq!((json.code, json.err.as_str()), (Some(1), ""));
    assert_eq!(json.out.as_bytes(), encode_reply(&Reply::Refused(refusal)));
    assert!(superd.ask("socket nope").err.contains("no service \"nope\""));
    let status = superd.ask("status nope");
    assert_eq!(status.code, Some(1));
    assert!(status.err.contains("no service \"nope\""), "{status:?}");
}

#[test]
fn a_superd_that_is_not_there_exits_2_and_names_the_places() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none.sock");
    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let config = directory.path().join("superd.toml");
    fs::write(&config, "[daemon]\ncontrol = \"none.sock\"\n").unwrap();

    let check = |arguments: String, environment: &[(&str, &Path)], parts: &[&str]| {
        let outcome = superctl(&arguments, environment);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(2), ""), "{outcome:?}");
        for part in ["superd is not running, or listens elsewhere"].iter().chain(parts) {
            assert!(outcome.err.contains(part), "{arguments}: no {part:?} in {outcome:?}");
        }
    };
    let none = nowhere.to_str().unwrap();
    check(format!("status --socket {none}"), &[], &[none, "(--socket): No such file"]);
    check(
        format!("status --socket {}", stale.display()),
        &[],
        &["stale.sock (--socket): Connection refused"],
    );
    check(format!("reload --config {}", config.display()), &[], &[none, "(--config)"]);
    check("status".to_owned(), &[("SUPERD_CONTROL", &nowhere)], &[none, "($SUPERD_CONTROL)"]);
}

#[test]
fn the_environment_and_the_configuration_find_it() {
    let superd = one_service(None);
    let path = superd.path();
    assert_eq!(superctl("status", &[("SUPERD_CONTROL", &path)]).code, Some(0));
    let config = superd.directory.path().join("superd.toml");
    fs::write(&config, "[daemon]\ncontrol = \"control.sock\"\n").unwrap();
    assert_eq!(superctl(&format!("status --config {}", config.display()), &[]).code, Some(0));
}

/// superctl as a user that is not root, with this group.
fn as_nobody(superd: &Daemon, group: u32, word: &str) -> Outcome {
    // A copy that others can execute, whatever stands above the target directory.
    let program = superd.directory.path().join("superctl");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_superctl"), &program).unwrap();
    }
    let mut command = Command::new(&program);
    command.args([word, "--socket"]).arg(superd.path()).env_clear().uid(65534).gid(group);
    command.output().unwrap().into()
}

#[test]
fn who_may_not_is_told_what_it_needs() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can become someone else
    }
    let superd = one_service(None);
    let mode = |mode| fs::set_permissions(superd.path(), fs::Permissions::from_mode(mode)).unwrap();
    let outcome = as_nobody(&superd, 65534, "status");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("permission denied: it needs root, or the user"), "{outcome:?}");
    mode(0o660);
    assert!(as_nobody(&superd, 65534, "status").err.contains("a member of the group root"));
    mode(0o666);
    let outcome = as_nobody(&superd, 65534, "status");
    assert_eq!(outcome.code, Some(1), "the server itself refuses: {outcome:?}");
    assert!(outcome.err.contains("permission denied"), "{outcome:?}");
}

#[test]
fn the_control_group_reads_and_changes_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root can become someone else
    }
    let group = 54321;
    let superd = one_service_for(Some(group), Some(done(Answer::Reload(ReloadReport::default()))));
    assert_eq!(as_nobody(&superd, group, "status").code, Some(0));
    let outcome = as_nobody(&superd, group, "reload");
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.err.contains("permission denied: to change anything needs root"), "{outcome:?}");
    let outcome = as_nobody(&superd, 65534, "status");
    assert!(outcome.err.contains("a member of the group 54321"), "{outcome:?}");
}

#[test]
fn an_answer_that_does_not_come_exits_2_in_time() {
    let superd = one_service(None);
    let outcome = superd.ask("reload --timeout 1");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.err.contains("no answer within 1 s; the reload may still"), "{outcome:?}");
}

#[test]
fn a_long_answer_comes_whole_and_a_closed_pipe_is_no_error() {
    let superd = Daemon::start(None, |_| Some(done(Answer::Status(status(5000)))));
    let json = superd.ask("status --json");
    assert_eq!(serde_json::from_str::<Status>(&json.out).unwrap(), status(5000));

    let arguments = format!("--socket {} status", superd.path().display());
    let mut child = command(&arguments, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let full = command(&arguments, &[]).stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
    assert_eq!(Outcome::from(full).code, Some(2));
}

#[test]
fn wrong_usage_exits_2() {
    for arguments in ["", "explode", "socket", "status --timeout 0", "reload now"] {
        assert_eq!(superctl(arguments, &[]).code, Some(2), "{arguments}");
    }
    assert_eq!(superctl("--help", &[]).code, Some(0));
}
