//! A listener gives way to an overlapping one under load: no client is refused, none is reset.
//!
//! Clients connect without a pause while listeners take turns; the server answers each with one byte. What clients
//! see of a careless swap is counted too: a test of nothing would find no fault with that either.
#![allow(clippy::unwrap_used)] // a test that can't go on ends

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use superd::config::settings::SocketOptions;
use superd::model::endpoint::{Endpoint, InetEndpoint, Transport};
use superd::supervisor::bind::{bound_address, open_beside, open_listener};
use superd::sys::overlap::{allow_overlap, stop_new_handshakes};

const CLIENTS: usize = 4;
const SWAPS: u32 = 30;

/// From one swap to the next.
const TURN: Duration = Duration::from_millis(40);

/// How long a listener that gives way is still accepted from.
const HANDSHAKES: Duration = Duration::from_millis(30);

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LOCALHOST6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

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
    for turns in [[LOCALHOST, ANY], [LOCALHOST, LOCALHOST]] {
        for way in [Way::Close, Way::Empty, Way::Retire] {
            let figures = swap_under_load(way, turns);
            eprintln!("{turns:?} {way:?}: {figures:?} in {SWAPS} swaps");
            let [served, failed, slow] =
                [figures.served, figures.failed, figures.slow].map(AtomicU64::into_inner);
            match way {
                Way::Close => assert!(failed > 0, "a careless swap harms no client: this proves nothing"),
                Way::Empty => {}
                Way::Retire => {
                    assert!(served > u64::from(SWAPS), "too few clients to prove anything");
                    assert_eq!(failed, 0, "refused or reset");
                    // A SYN that was being looked up while its listener was hidden is sent again.
                    assert!(slow <= u64::from(SWAPS) / 10, "{slow} had to ask again");
                }
            }
        }
    }
}

/// With `defer_accept` a handshake stays under way until the client sends something.
#[test]
fn a_handshake_under_way_is_completed() {
    for turns in
        [[LOCALHOST, ANY], [ANY, LOCALHOST], [LOCALHOST, LOCALHOST], [LOCALHOST6, ANY6], [ANY6, LOCALHOST6]]
    {
        for (way, served) in [(Way::Empty, false), (Way::Retire, true)] {
            let deferring = Some(Duration::from_secs(10));
            let options = SocketOptions { defer_accept: deferring, ..SocketOptions::default() };
            let old = open_listener(&endpoint(turns[0], 0), &options, false).unwrap();
            let port = bound_address(old.as_fd()).unwrap().port();
            let mut client =
                TcpStream::connect((if turns[0].is_ipv4() { LOCALHOST } else { LOCALHOST6 }, port)).unwrap();
            let mut listeners = vec![(old, None)];
            swap_once(way, &endpoint(turns[1], port), &mut listeners);
            let sent = client.write_all(b"hello").is_ok();
            serve(&mut listeners, Instant::now() + TURN);
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let answered = sent && client.read_exact(&mut [0]).is_ok();
            assert_eq!(answered, served, "{turns:?} {way:?}");
        }
    }
}

/// Swaps listeners back and forth while clients come, and says what became of these.
fn swap_under_load(way: Way, turns: [IpAddr; 2]) -> Figures {
    let figures = Arc::new(Figures::default());
    let stop = Arc::new(AtomicBool::new(false));
    let first = open_listener(&endpoint(turns[0], 0), &SocketOptions::default(), false).unwrap();
    let port = bound_address(first.as_fd()).unwrap().port();
    let mut listeners = vec![(first, None)];
    let clients: Vec<_> = (0..CLIENTS)
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
    let new = open_beside(next, &SocketOptions::default(), false, &[]).unwrap();
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

fn endpoint(ip: IpAddr, port: u16) -> Endpoint {
    let transport = Transport::Tcp;
    InetEndpoint { transport, ip, port, zone: None, interface: None, optional: false }.into()
}
