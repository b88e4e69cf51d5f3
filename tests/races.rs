//! What comes at the worst moment: clients between a load and its commit, a launcher that stops or dies, an end
//! while something is under way. Processes are frozen by signals where a moment has to be held.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use harness::{Client, Superd, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn service(name: &str, words: &str) -> String {
    format!("[service.{name}]\nlisten = \"tcp4:127.0.0.1:0\"\nexec = [\"{{probe}}\", {words}]\n{{user}}\n")
}

/// Services enough to keep a loader busy for a moment.
fn bulk() -> String {
    (0..1000).map(|n| service(&format!("z{n}"), "\"hello\"") + "enabled = false\n").collect()
}

/// A role of this superd, by the name that ps shows.
fn role(superd: &Superd, comm: &str) -> Option<Pid> {
    let found = superd.children().into_iter().find(|child| child.comm == comm && child.state != 'Z');
    found.map(|child| Pid::from_raw(child.pid))
}

/// Holds superd between a load and its commit, for as long as `moment` takes.
fn between_load_and_commit(superd: &Superd, moment: impl Fn()) {
    until("a loader to be caught", || {
        superd.signal(Signal::SIGHUP);
        let loader = role(superd, "superd-loader")?;
        // One that has ended already is a zombie or gone: the next try.
        let _ = kill(loader, Signal::SIGSTOP);
        superd.signal(Signal::SIGSTOP);
        let state = || harness::Process::of(loader.as_raw()).map_or('Z', |loader| loader.state);
        until("the loader to stop or end", || matches!(state(), 'T' | 'Z').then_some(()));
        let caught = state() == 'T';
        if caught {
            moment();
            let _ = kill(loader, Signal::SIGCONT);
            until("the loader's end", || (state() == 'Z').then_some(()));
        }
        superd.signal(Signal::SIGCONT);
        caught.then_some(())
    });
}

#[test]
fn who_waits_at_a_service_that_goes_gets_its_program_and_no_other() {
    let (a, b) = (service("a", "\"hello\""), service("b", "\"exit\", \"7\"") + &bulk());
    let superd = Superd::with(&format!("{a}{b}"));
    let address = superd.address("a");
    superd.rewrite(&b);
    let clients = std::sync::Mutex::new(Vec::new());
    between_load_and_commit(&superd, || {
        clients.lock().unwrap().extend((0..5).map(|_| Client::connect(address)));
    });
    superd.expect_log("closed=1");
    for client in clients.lock().unwrap().iter_mut() {
        assert_eq!(client.read_text(), "hello\n");
    }
    superd.until_idle();
    assert_eq!(superd.count_log("start b"), 0);
}

#[test]
fn a_launcher_that_does_not_answer_is_replaced() {
    let superd = Superd::with(&service("a", "\"hello\""));
    superd.allow_errors("degraded reason=launcher");
    let launcher = role(&superd, "superd-launcher").unwrap();
    kill(launcher, Signal::SIGSTOP).unwrap();
    let mut clients: Vec<Client> = (0..20).map(|_| superd.connect("a")).collect();
    for client in &mut clients {
        assert_eq!(client.read_text(), "hello\n");
    }
    superd.until_idle();
    assert_eq!(superd.service("a")["started"], 20);
}

#[test]
fn a_launcher_without_room_for_a_batch_takes_what_it_can() {
    let superd = Superd::with(&service("a", "\"hello\""));
    superd.allow_errors("paused reason=EMFILE");
    let launcher = role(&superd, "superd-launcher").unwrap();
    let (pid, limit) = (launcher.to_string(), "--nofile=14:");
    harness::world::run(&["prlimit", "--pid", &pid, limit]);
    let address = superd.address("a");
    superd.signal(Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..16).map(|_| Client::connect(address)).collect();
    superd.signal(Signal::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.read_text(), "hello\n");
    }
    superd.until_idle();
    assert_eq!(role(&superd, "superd-launcher"), Some(launcher));
}

#[test]
fn a_load_that_ends_after_term_binds_nothing() {
    let hold = "[daemon]\nshutdown_grace = \"20s\"\n".to_owned() + &service("a", "\"until-eof\"");
    let mut superd = Superd::with(&(hold.clone() + &bulk()));
    let mut client = superd.connect("a");
    client.read_pid();
    let port = harness::world::free_port();
    let late = service("late", "\"hello\"").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    superd.rewrite(&(hold + &bulk() + &late));
    between_load_and_commit(&superd, || superd.signal(Signal::SIGTERM));
    superd.expect_log("ending");
    client.write(b"x");
    assert!(Client::try_connect(([127, 0, 0, 1], port).into()).is_err(), "it listens");
    assert_eq!(superd.status()["generation"], 1);
    client.finish();
    assert_eq!(client.read_to_end(), b"bye\n");
    assert_eq!(superd.wait(), 0);
}

#[test]
fn an_end_does_not_wait_for_a_launcher_that_does_not_answer() {
    let config = "[daemon]\nshutdown_grace = \"100ms\"\n[defaults]\ntimeout = { kill_after = \"100ms\" }\n";
    let mut superd = Superd::with(&(config.to_owned() + &service("a", "\"sleep\"")));
    superd.allow_errors("degraded reason=launcher");
    kill(role(&superd, "superd-launcher").unwrap(), Signal::SIGSTOP).unwrap();
    let clients: Vec<Client> = (0..20).map(|_| superd.connect("a")).collect();
    until("launches to be asked for", || (superd.status()["launches"] == 16).then_some(()));
    superd.signal(Signal::SIGTERM);
    let start = std::time::Instant::now();
    assert_eq!(superd.wait(), 0);
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    drop(clients);
}
