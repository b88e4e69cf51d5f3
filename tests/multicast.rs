//! Groups and broadcasts: a server hears those of its service, on its interface, and no others.
//!
//! Each test has a network of its own, which only root can make, and another one at the far end of its links.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use harness::world::own_network;
use harness::{Link, Superd, needs_program, needs_root, until};
use socket2::SockRef;

fn waiting(name: &str, listen: &str) -> String {
    format!(
        "[service.{name}]\nlisten = \"{listen}\"\nexec = [\"{{waiter}}\", \"datagrams\", \"1\"]\nwait = true\n{{user}}\n"
    )
}

/// A client at the far end, for one group or address.
struct Far {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Far {
    fn of(link: &Link, to: &str) -> Self {
        let to: SocketAddr = to.parse().unwrap();
        let socket = link.at_far_end(|| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_broadcast(true).unwrap();
            SockRef::from(&socket).bind_device(Some(link.far.as_bytes())).unwrap();
            socket
        });
        Self { socket, to }
    }

    fn send(&self, text: &str) {
        self.socket.send_to(text.as_bytes(), self.to).unwrap();
    }

    /// An answer without the server's pid.
    fn hear(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).ok()?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        Some(answer.split_once(' ').unwrap().1.to_owned())
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        self.send(text);
        assert_eq!(self.hear(harness::DEADLINE).as_deref(), Some(text));
    }
}

/// A group's datagrams come from its interface; another group's at the same port, those of another interface, and
/// unicast ones do not, although this machine hears all of these groups on both.
#[track_caller]
fn check_group(group: &str, other: &str, unicast: &str) {
    let (one, two) = (Link::make("va", "fa", 2), Link::make("vb", "fb", 3));
    let at = |group: &str, via: &str| format!("udp:{group}:7079%{via}");
    // The others' servers never answer: they are told by the count of what was started.
    let config =
        waiting("x", &at(group, "va")) + &waiting("y", &at(other, "va")) + &waiting("z", &at(group, "vb"));
    let superd = Superd::with(&config);
    let to = |ip: &str| format!("{ip}:7079");
    let count = |name: &str| superd.service(name)["started"].as_u64().unwrap();
    Far::of(&two, &to(group)).expect("of the other interface");
    Far::of(&one, &to(other)).expect("of the other group");
    Far::of(&one, &to(unicast)).send("unicast");
    Far::of(&one, &to(group)).expect("of the group");
    superd.until_idle();
    assert_eq!([count("x"), count("y"), count("z")], [1, 1, 1], "{group}");
}

#[test]
fn a_group_of_ipv4_is_received() {
    needs_root!();
    needs_program!("ip");
    own_network();
    check_group("239.1.2.3", "239.1.2.4", "192.0.2.1");
}

#[test]
fn a_group_of_ipv6_is_received() {
    needs_root!();
    needs_program!("ip");
    own_network();
    check_group("[ff05::7079]", "[ff05::7080]", "[ff02::1]");
}

#[test]
fn broadcasts_are_received() {
    needs_root!();
    needs_program!("ip");
    own_network();
    let link = Link::make("va", "fa", 2);
    for to in ["192.0.2.255:7081", "255.255.255.255:7081"] {
        let superd = Superd::with(&waiting("x", &format!("udp:{to}")));
        Far::of(&link, "192.0.2.1:7081").send("unicast");
        Far::of(&link, to).expect("to all");
        superd.until_idle();
        assert_eq!(superd.service("x")["started"], 1);
    }
}

#[test]
fn a_group_is_joined_again_when_its_interface_comes_back() {
    needs_root!();
    needs_program!("ip");
    own_network();
    let link = Link::make("va", "fa", 2);
    for group in ["239.1.2.3", "[ff05::7079]"] {
        let _superd = Superd::with(&waiting("x", &format!("udp:{group}:7079%va")));
        let to = format!("{group}:7079");
        Far::of(&link, &to).expect("before");
        for round in 0..2 {
            link.unplug();
            link.plug_in();
            let client = Far::of(&link, &to);
            let text = format!("round {round}");
            // superd hears of the interface in its own time.
            until("the group to be joined again", || {
                client.send(&text);
                client.hear(Duration::from_millis(100))
            });
        }
    }
}

#[test]
fn a_group_waits_for_its_interface() {
    needs_root!();
    needs_program!("ip");
    own_network();
    let superd = Superd::with(&waiting("x", "udp:239.1.2.3:7079%va"));
    assert_eq!(superd.service("x")["state"], "degraded");
    let link = Link::make("va", "fa", 2);
    superd.until_service("x", "online", |service| service["state"] == "online");
    Far::of(&link, "239.1.2.3:7079").expect("hello");
}
