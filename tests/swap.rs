//! A listener gives way to an overlapping one under load: no client is refused, none is reset, none has to ask twice.
//!
//! Clients connect without a pause while listeners take turns; the server answers each with one byte. What clients
//! see of a careless swap is counted too: a test of nothing would find no fault with that either.
#![allow(clippy::unwrap_used)] // a test that can't go on ends

use std::env;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use superd::config::settings::SocketOptions;
use superd::model::endpoint::Endpoint;
use superd::supervisor::bind::{bound_address, open_beside, open_listener};
use superd::sys::overlap::{allow_overlap, stop_new_handshakes};

const SWAPS: u32 = 30;

/// From one swap to the next.
const TURN: Duration = Duration::from_millis(40);

/// How long a listener that gives way is still accepted from; it outlasts a turn.
const HANDSHAKES: Duration = Duration::from_millis(100);

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ANY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Close the old one: what waits in its queue is reset.
    Close,
    /// Accept until there is none, then close: a handshake under way is reset.
    Empty,
    /// As superd does: no new handshakes, accept for a while, close.
    Retire,
}

#[derive(Debug, Default)]
struct Figures {
    served: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
}

#[test]
fn no_client_notices_a_swap() {
    check(4, &[Way::Close]);
}

/// The same with 10 ms from a client to the server and back, so that there always are handshakes under way.
#[test]
fn no_client_far_away_notices_a_swap() {
    const INSIDE: &str = "SUPERD_TEST_SLOW_NETWORK";
    if env::var_os(INSIDE).is_some() {
        return check(16, &[Way::Close, Way::Empty]);
    }
    let network = "ip link set lo up && tc qdisc add dev lo root netem delay 5ms";
    let inside = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", command, "sh"]).arg(env::current_exe().unwrap());
        unshare
    };
    if !inside(network).output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: needs root and netem");
        return;
    }
    let test = format!("{network} && exec \"$1\" --exact no_client_far_away_notices_a_swap --nocapture");
    assert!(inside(&test).env(INSIDE, "1").status().unwrap().success());
}

/// Clients notice the careless ways, and do not notice superd's.
fn check(clients: usize, careless: &[Way]) {
    for turns in [[LOCALHOST, ANY], [LOCALHOST, LOCALHOST]] {
        for way in [Way::Close, Way::Empty, Way::Retire] {
            let figures = swap_under_load(way, turns, clients);
            eprintln!("{turns:?} {way:?}: {figures:?} in {SWAPS} swaps");
            let [served, failed, slow] =
                [&figures.served, &figures.failed, &figures.slow].map(|n| n.load(Ordering::Relaxed));
            if careless.contains(&way) {
                assert!(failed > 0, "{way:?} harms no client: the test proves nothing");
            }
            if way == Way::Retire {
                assert!(served > u64::from(SWAPS), "too few clients to prove anything");
                assert_eq!((failed, slow), (0, 0), "refused or reset, and had to ask again");
            }
        }
    }
}

/// Swaps listeners back and forth while clients come, and says what became of these.
fn swap_under_load(way: Way, turns: [Ipv4Addr; 2], clients: usize) -> Figures {
    let figures = Arc::new(Figures::default());
    let stop = Arc::new(AtomicBool::new(false));
    let first = open_listener(&endpoint(turns[0], 0), &SocketOptions::default()).unwrap();
    let port = bound_address(first.as_fd()).unwrap().port();
    let mut listeners = vec![(first, None)];
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let (figures, stop) = (Arc::clone(&figures), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    visit(port, &figures);
                }
            })
        })
        .collect();
    for next in turns.iter().rev().cycle().take(SWAPS as usize) {
        serve(&mut listeners, Instant::now() + TURN);
        swap_once(way, &endpoint(*next, port), &mut listeners);
    }
    stop.store(true, Ordering::Relaxed);
    while clients.iter().any(|client| !client.is_finished()) {
        serve(&mut listeners, Instant::now() + TURN);
    }
    for client in clients {
        client.join().unwrap();
    }
    Arc::into_inner(figures).unwrap()
}

/// A listener, and when it is closed if it gives way.
type Listener = (OwnedFd, Option<Instant>);

fn swap_once(way: Way, next: &Endpoint, listeners: &mut Vec<Listener>) {
    for (old, _) in &*listeners {
        allow_overlap(old.as_fd(), true).unwrap();
    }
    let new = open_beside(next, &SocketOptions::default()).unwrap();
    allow_overlap(new.as_fd(), false).unwrap();
    for (old, end) in listeners.iter_mut().filter(|(_, end)| end.is_none()) {
        match way {
            Way::Close => {}
            Way::Empty => accept_all(old),
            Way::Retire => stop_new_handshakes(old.as_fd()).unwrap(),
        }
        *end = Some(Instant::now() + HANDSHAKES);
    }
    if way != Way::Retire {
        listeners.clear();
    }
    listeners.push((new, None));
}

/// Accepts from all listeners until the deadline, and closes those whose end has come.
fn serve(listeners: &mut Vec<Listener>, deadline: Instant) {
    while Instant::now() < deadline {
        let now = Instant::now();
        for (listener, _) in &*listeners {
            accept_all(listener);
        }
        listeners.retain(|(_, end)| end.is_none_or(|end| now < end));
        wait(listeners);
    }
}

fn wait(listeners: &[Listener]) {
    let mut fds: Vec<_> =
        listeners.iter().map(|(fd, _)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::from(5u8)).unwrap();
}

fn accept_all(listener: &OwnedFd) {
    while let Ok((connection, _)) = SockRef::from(listener).accept() {
        let _ = connection.send(b"k");
    }
}

/// One client: it counts as served if it was given its byte.
fn visit(port: u16, figures: &Figures) {
    let start = Instant::now();
    let mut byte = [0];
    let served = TcpStream::connect(SocketAddr::from((LOCALHOST, port)))
        .and_then(|mut connection| {
            connection.set_read_timeout(Some(Duration::from_secs(5)))?;
            // No TIME_WAIT is left behind, and so no client runs out of ports.
            SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
            connection.read_exact(&mut byte)
        })
        .is_ok();
    let counter = if served { &figures.served } else { &figures.failed };
    counter.fetch_add(1, Ordering::Relaxed);
    if start.elapsed() > Duration::from_millis(900) {
        figures.slow.fetch_add(1, Ordering::Relaxed);
    }
}

fn endpoint(ip: Ipv4Addr, port: u16) -> Endpoint {
    Endpoint { ip: ip.into(), port, zone: None, interface: None, optional: false }
}
