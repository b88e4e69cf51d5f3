//! A running superd: ask it, signal it, read its log, and see at its end that it leaves nothing behind.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::client::Client;
use super::inbox::Inbox;
use super::machine::built;
use super::processes::{self, Process};
use super::start::{Folder, Place, Start};
use super::{DEADLINE, until};

/// A superd of the test's own; dropping it stops it and checks its end.
pub struct Superd {
    folder: Folder,
    child: Mutex<Child>,
    pid: i32,
    place: Place,
    /// Its log daemon.
    pub log: Inbox,
    /// Its service manager.
    pub notify: Inbox,
    allowed: Mutex<Vec<String>>,
    left: Mutex<Vec<Process>>,
    ended: bool,
}

impl Superd {
    /// Starts superd with a configuration (`Start` says what it may leave out) and waits until it is ready.
    #[track_caller]
    pub fn with(config: &str) -> Self {
        Start::new(config).start()
    }

    #[track_caller]
    pub(super) fn started(folder: Folder, mut child: Child, log: Inbox, notify: Inbox, place: Place) -> Self {
        until("superd to be ready", || {
            if notify.messages().iter().any(|message| message.contains("READY=1")) {
                return Some(());
            }
            let ended = child.try_wait().expect("wait for superd");
            if let Some(status) = ended.filter(|status| !matches!(place, Place::Daemon) || !status.success())
            {
                log.settle();
                panic!("superd ended with {status}:\n{}{}", folder.stderr(), log.messages().join("\n"));
            }
            None
        });
        let pid = supervisor_of(&folder, &mut child, place);
        Self {
            folder,
            child: Mutex::new(child),
            pid,
            place,
            log,
            notify,
            allowed: Mutex::default(),
            left: Mutex::default(),
            ended: false,
        }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The supervisor's process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    // Clients

    /// Where a service listens: its first bound listener.
    #[track_caller]
    pub fn address(&self, service: &str) -> SocketAddr {
        let entry = self.service(service);
        let listeners = entry["listeners"].as_array().cloned().unwrap_or_default();
        let bound = listeners.iter().find_map(|listener| listener["bound"].as_str()?.parse().ok());
        let mut address: SocketAddr = bound.unwrap_or_else(|| panic!("`{service}` is not bound: {entry}"));
        if address.ip().is_unspecified() {
            let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
            address.set_ip(loopback.parse().unwrap());
        }
        address
    }

    /// Connects to a service.
    #[track_caller]
    pub fn connect(&self, service: &str) -> Client {
        Client::connect(self.address(service))
    }

    /// What the probe that is `service` was started with.
    #[track_caller]
    pub fn probe(&self, service: &str) -> Value {
        let text = self.connect(service).read_text();
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error} in what the probe wrote: `{text}`"))
    }

    // Control

    /// Asks the control socket; the whole answer.
    #[track_caller]
    pub fn ask(&self, request: &Value) -> Value {
        let path = self.dir().join("control.sock");
        let mut stream =
            UnixStream::connect(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        stream.set_read_timeout(Some(3 * DEADLINE)).expect("SO_RCVTIMEO");
        stream.write_all(format!("{request}\n").as_bytes()).expect("ask superd");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("read superd's answer");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in the answer `{answer}`"))
    }

    /// The state of everything.
    #[track_caller]
    pub fn status(&self) -> Value {
        let answer = self.ask(&json!({ "v": 1, "do": "status" }));
        if answer["status"].is_object() { answer["status"].clone() } else { answer }
    }

    /// The state of one service.
    #[track_caller]
    pub fn service(&self, name: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let found = services.into_iter().find(|service| service["name"] == name);
        found.unwrap_or_else(|| panic!("no service `{name}` in {status}"))
    }

    /// The pool of one service, as `superctl pool` has it.
    #[track_caller]
    pub fn pool(&self, name: &str) -> Value {
        let answer = self.ask(&json!({ "v": 1, "do": "pool", "service": name }));
        answer["pool"].get(0).cloned().unwrap_or_else(|| panic!("no pool: {answer}"))
    }

    /// Waits until a pool holds what is wanted.
    #[track_caller]
    pub fn until_pool(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("the pool of `{name}` to have {what}"), || {
            Some(self.pool(name)).filter(|pool| wanted(pool))
        })
    }

    /// The processes of a pool's workers.
    #[track_caller]
    pub fn workers(&self, name: &str) -> Vec<i32> {
        let pids = self.pool(name)["workers"].as_array().cloned().unwrap_or_default();
        let pids = pids.iter().filter_map(|worker| worker["pid"].as_i64()?.try_into().ok());
        // 0 is one that does not exist yet, and would be the test itself for kill(2).
        pids.filter(|pid| *pid != 0).collect()
    }

    /// Waits until a service's state holds what is wanted.
    #[track_caller]
    pub fn until_service(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("`{name}` to be {what}"), || {
            Some(self.service(name)).filter(|service| wanted(service))
        })
    }

    /// Waits until no session of any service is left.
    #[track_caller]
    pub fn until_idle(&self) {
        until("the end of all sessions", || {
            let status = self.status();
            (status["sessions"] == 0 && status["launches"] == 0).then_some(())
        });
    }

    /// Runs superctl against this superd.
    pub fn superctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(built("superctl"));
        command.arg("--socket").arg(self.dir().join("control.sock")).args(arguments);
        command.output().expect("run superctl")
    }

    /// Puts another configuration in place; nothing reads it yet.
    pub fn rewrite(&self, config: &str) {
        self.folder.write_config(config);
    }

    /// Reloads and waits for the outcome: the report, or the errors.
    #[track_caller]
    pub fn reload(&self) -> Result<Value, Vec<String>> {
        let answer = self.ask(&json!({ "v": 1, "do": "reload" }));
        if answer["ok"] == true {
            return Ok(if answer["reload"].is_object() { answer["reload"].clone() } else { answer });
        }
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        Err(errors.iter().filter_map(|error| error.as_str().map(str::to_owned)).collect())
    }

    /// `rewrite` and a `reload` that must succeed.
    #[track_caller]
    pub fn reload_with(&self, config: &str) -> Value {
        self.rewrite(config);
        self.reload().unwrap_or_else(|errors| panic!("the reload was refused:\n{}", errors.join("\n")))
    }

    /// Sends superd a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("signal superd");
    }

    // Log

    /// Waits for a log line with `part` in it.
    #[track_caller]
    pub fn expect_log(&self, part: &str) -> String {
        let line = self.log.expect(&format!("log line with `{part}`"), |line| text_of(line).contains(part));
        text_of(&line).to_owned()
    }

    /// All log lines so far, without what syslog puts in front.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.settle();
        self.log.messages().iter().map(|line| text_of(line).to_owned()).collect()
    }

    /// How many log lines have `part` in them so far.
    pub fn count_log(&self, part: &str) -> usize {
        self.log_lines().iter().filter(|line| line.contains(part)).count()
    }

    /// Lines of level err or worse are a failure at the end, but those with `part` in them.
    pub fn allow_errors(&self, part: &str) {
        self.allowed.lock().unwrap().push(part.to_owned());
    }

    // Processes

    /// Living and dead children of the supervisor.
    pub fn children(&self) -> Vec<Process> {
        processes::children(self.pid)
    }

    /// Children that ended and were not reaped. One may be seen for an instant: `until` there are none.
    pub fn zombies(&self) -> Vec<Process> {
        self.children().into_iter().filter(|child| child.state == 'Z').collect()
    }

    /// Open descriptors of the supervisor, by its own count (which it takes without the ones that come and
    /// go with the question).
    #[track_caller]
    pub fn fds(&self) -> u64 {
        self.status()["fds"].as_u64().expect("fds is a number")
    }

    /// This process may live on after superd: the test ends it.
    pub fn leaves(&self, pid: i32) {
        self.left.lock().unwrap().extend(Process::of(pid));
    }

    // The end

    /// Waits for the end of superd, which the test has asked for: its exit status, or 128 and the signal.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.ended = true;
        if let (Place::Daemon, Some(daemon)) = (self.place, Process::of(self.pid)) {
            until("superd to end", || (!daemon.is_alive()).then_some(()));
            return 0;
        }
        let child = self.child.get_mut().unwrap();
        let status = until("superd to end", || child.try_wait().expect("wait for superd"));
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Stops superd and checks that it ends well and leaves nothing. Dropping does the same.
    #[track_caller]
    pub fn stop(mut self) {
        self.finish();
    }

    #[track_caller]
    fn finish(&mut self) {
        let running = processes::descendants(self.pid);
        if !self.ended {
            self.signal(Signal::SIGTERM);
            let status = self.wait();
            assert_eq!(status, 0, "superd's exit status\n{}{}", self.folder.stderr(), self.log_text());
        }
        self.check_processes(&running);
        self.check_log();
    }

    /// Those that ran before the end, and any that names this superd's folder: a service lives in sessions
    /// of its own and would survive its daemon unseen.
    fn check_processes(&self, running: &[Process]) {
        let left = self.left.lock().unwrap().clone();
        let marker = self.dir().display().to_string();
        until("the end of every process", || {
            let named = processes::all().into_iter().filter(|process| process.arguments().contains(&marker));
            let all = running.iter().cloned().chain(named);
            let leftover: Vec<Process> =
                all.filter(|process| !left.contains(process) && process.is_alive()).collect();
            leftover.is_empty().then_some(())
        });
    }

    fn check_log(&self) {
        self.log.settle();
        let allowed = self.allowed.lock().unwrap();
        for line in self.log.messages().iter().filter(|line| severity(line) <= 3) {
            let expected = allowed.iter().any(|part| line.contains(part.as_str()));
            assert!(expected, "an error that the test did not expect: {line}\n{}", self.log_text());
        }
    }

    /// The end of the log, for a test that failed.
    fn log_text(&self) -> String {
        const SHOWN: usize = 50;
        let lines = self.log.messages();
        lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n")
    }
}

fn supervisor_of(folder: &Folder, child: &mut Child, place: Place) -> i32 {
    let started = i32::try_from(child.id()).expect("a pid");
    match place {
        Place::Started => started,
        Place::Below => {
            let is_superd = |process: &Process| process.comm == "superd";
            processes::descendants(started).into_iter().find(is_superd).expect("superd is below").pid
        }
        Place::Daemon => {
            let status = until("the parent's return", || child.try_wait().expect("wait for superd"));
            assert!(status.success(), "the parent's {status}");
            let text = std::fs::read_to_string(folder.path().join("superd.pid")).expect("the pid file");
            text.trim().parse().expect("a pid")
        }
    }
}

impl Drop for Superd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("stderr of superd:\n{}log:\n{}", self.folder.stderr(), self.log_text());
            for process in processes::descendants(self.pid) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        } else {
            self.finish();
        }
    }
}

/// `<30>Nov 22 03:04:05 superd[4711]: text` without what stands in front of the text.
pub fn text_of(line: &str) -> &str {
    line.split_once("]: ").map_or(line, |(_, text)| text)
}

/// The severity in a line's `<PRI>` (RFC 3164 §4.1.1); 7 where there is none.
pub fn severity(line: &str) -> u8 {
    let number = line.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(number, _)| number);
    number.and_then(|number| number.parse::<u8>().ok()).map_or(7, |priority| priority % 8)
}

/// The path of a file in superd's folder.
pub fn file(superd: &Superd, name: &str) -> PathBuf {
    superd.dir().join(name)
}
