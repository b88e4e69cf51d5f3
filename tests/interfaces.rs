//! What is not there yet comes: news of an interface or an address are heard, and the bind then succeeds.
//!
//! Each test runs itself again in a network of its own, which only root can make.
#![allow(clippy::unwrap_used)] // a test that can't go on ends

use std::env;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use superd::config::settings::SocketOptions;
use superd::model::endpoint::{InetEndpoint, InterfaceName, Transport};
use superd::supervisor::bind::{BindError, open_listener};
use superd::sys::rtnetlink::InterfaceNews;

const INSIDE: &str = "SUPERD_TEST_OWN_NETWORK";

#[test]
fn an_address_that_comes_is_bound() {
    in_own_network("an_address_that_comes_is_bound", || {
        ip("link set lo up");
        check(&endpoint("192.0.2.7"), "addr add 192.0.2.7/32 dev lo");
    });
}

#[test]
fn an_interface_that_comes_is_bound() {
    in_own_network("an_interface_that_comes_is_bound", || {
        let interface = InterfaceName::new("veth7");
        check(&InetEndpoint { interface, ..endpoint("0.0.0.0") }, "link add veth7 type veth peer name veth8");
    });
}

/// Duplicate detection takes a second, in which the address is there but can't be bound.
#[test]
fn an_ipv6_address_is_bound_after_its_detection() {
    in_own_network("an_ipv6_address_is_bound_after_its_detection", || {
        ip("link add veth7 type veth peer name veth8");
        ip("link set veth8 up");
        ip("link set veth7 up");
        check(&endpoint("2001:db8::7"), "addr add 2001:db8::7/64 dev veth7");
        let zone = InterfaceName::new("veth7");
        check(&InetEndpoint { zone, ..endpoint("fe80::7") }, "addr add fe80::7/64 dev veth7");
    });
}

/// The endpoint is absent, the command brings it, and superd's way of trying again at every news finds it.
fn check(endpoint: &InetEndpoint, command: &str) {
    let mut news = InterfaceNews::open().unwrap();
    assert!(open(endpoint).unwrap_err().is_absence());
    ip(command);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        assert!(wait(&news, deadline), "no news, and {endpoint} could not be bound");
        if news.drain().is_any() && open(endpoint).inspect_err(|e| assert!(e.is_absence(), "{e}")).is_ok() {
            return;
        }
    }
}

fn wait(news: &InterfaceNews, deadline: Instant) -> bool {
    let left = PollTimeout::try_from(deadline.saturating_duration_since(Instant::now())).unwrap();
    poll(&mut [PollFd::new(news.as_fd(), PollFlags::POLLIN)], left).unwrap() == 1
}

fn open(endpoint: &InetEndpoint) -> Result<OwnedFd, BindError> {
    open_listener(&endpoint.clone().into(), &SocketOptions::default(), false)
}

fn endpoint(ip: &str) -> InetEndpoint {
    let transport = Transport::Tcp;
    InetEndpoint {
        transport,
        ip: ip.parse().unwrap(),
        port: 7079,
        zone: None,
        interface: None,
        optional: false,
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn in_own_network(test: &str, body: fn()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let mut again = Command::new("unshare");
    again.arg("--net").arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    assert!(again.env(INSIDE, "1").status().unwrap().success());
}
