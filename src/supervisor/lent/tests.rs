//! A table of what a server may do to the listener that it was lent.

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use socket2::{SockFilter, TcpKeepalive};

use super::*;
use crate::model::endpoint::{InetEndpoint, InterfaceName, Transport, UnixEndpoint, UnixKind, UnixName};
use crate::supervisor::bind::open_listener;
use crate::sys::sockopt::{Knob, bytes, set_int};

fn inet(transport: Transport, ip: &str) -> Endpoint {
    let ip = ip.parse().unwrap();
    Endpoint::Inet(InetEndpoint { transport, ip, port: 0, zone: None, interface: None, optional: false })
}

/// With a port: only then does a disconnect leave it bound.
fn udp(ip: &str) -> Endpoint {
    let free = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap().port();
    match inet(Transport::Udp, ip) {
        Endpoint::Inet(inet) => Endpoint::Inet(InetEndpoint { port: free, ..inet }),
        other => other,
    }
}

fn tcp(ip: &str) -> Endpoint {
    inet(Transport::Tcp, ip)
}

fn unix(kind: UnixKind) -> Endpoint {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = UnixName::Abstract(format!("superd-lent-{}-{number}", std::process::id()));
    Endpoint::Unix(UnixEndpoint { kind, name, owner: None, group: None, mode: 0o600 })
}

/// Everything that can be read of it, a line each.
fn state(fd: BorrowedFd<'_>) -> BTreeSet<String> {
    let levels = [libc::SOL_SOCKET, libc::IPPROTO_IP, libc::IPPROTO_IPV6, libc::IPPROTO_TCP];
    let knobs = levels.into_iter().flat_map(|level| (1..80).map(move |name| Knob { level, name }));
    let socket = SockRef::from(&fd);
    knobs
        .filter(|knob| !UNSTEADY.contains(&(knob.level, knob.name)))
        .map(|knob| format!("{knob:?} {:?}", bytes(fd, knob).ok().map(without_idle_linger(knob))))
        .chain([
            format!("{:?} {:?}", SocketKind::of(fd).unwrap(), Description::of(fd).unwrap()),
            format!("{:?}", socket.local_addr().unwrap().as_socket()),
            format!("{:?}", socket.peer_addr().map(|peer| peer.len()).ok()),
        ])
        .collect()
}

/// The kernel keeps the time of a linger that is off.
fn without_idle_linger(knob: Knob) -> impl Fn(Vec<u8>) -> Vec<u8> {
    let is_linger = knob == Knob { level: libc::SOL_SOCKET, name: libc::SO_LINGER };
    move |value| if is_linger && value.first() == Some(&0) { Vec::new() } else { value }
}

/// Values that change by themselves, or are no values.
const UNSTEADY: [(i32, i32); 10] = [
    (libc::SOL_SOCKET, libc::SO_ERROR),
    (libc::SOL_SOCKET, libc::SO_GET_FILTER),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU),
    (libc::SOL_SOCKET, libc::SO_MEMINFO),
    (libc::SOL_SOCKET, libc::SO_COOKIE),
    (libc::SOL_SOCKET, 56), // SO_INCOMING_NAPI_ID
    (libc::SOL_SOCKET, 77), // SO_PEERPIDFD
    (libc::IPPROTO_TCP, libc::TCP_INFO),
    (libc::IPPROTO_TCP, libc::TCP_TIMESTAMP),
    (libc::IPPROTO_TCP, 26), // TCP_CC_INFO
];

fn assert_same(before: &BTreeSet<String>, after: &BTreeSet<String>, what: &str) {
    let was: Vec<_> = before.difference(after).collect();
    let is: Vec<_> = after.difference(before).collect();
    assert!(was.is_empty() && is.is_empty(), "{what}: was {was:#?}, is {is:#?}");
}

type Deed = fn(BorrowedFd<'_>);

/// After the deed it is told what was changed, and the socket is as it was.
fn check(endpoint: &Endpoint, options: &SocketOptions, deed: Deed, expected: &[&str]) {
    let fd = open_listener(endpoint, options, true).unwrap();
    let before = state(fd.as_fd());
    let lent = Lent::remember(fd.as_fd()).unwrap();
    assert_eq!(lent.restore(fd.as_fd(), endpoint, options), Restored::Same, "{endpoint}");
    deed(fd.as_fd());
    let changed = state(fd.as_fd());
    match lent.restore(fd.as_fd(), endpoint, options) {
        Restored::Changed(found) => assert_eq!(found, expected, "{endpoint}"),
        other => panic!("{endpoint}: {other:?}, not {expected:?}"),
    }
    assert!(before != changed, "{endpoint} {expected:?}: the deed did nothing");
    assert_same(&before, &state(fd.as_fd()), &format!("{endpoint} {expected:?}"));
    assert_eq!(lent.restore(fd.as_fd(), endpoint, options), Restored::Same, "{endpoint}");
}

fn check_gone(endpoint: &Endpoint, deed: Deed, expected: &str) {
    let options = SocketOptions::default();
    let fd: OwnedFd = open_listener(endpoint, &options, true).unwrap();
    let lent = Lent::remember(fd.as_fd()).unwrap();
    deed(fd.as_fd());
    match lent.restore(fd.as_fd(), endpoint, &options) {
        Restored::Gone(found) => assert_eq!(found, expected, "{endpoint}"),
        other => panic!("{endpoint}: {other:?}, not gone for {expected}"),
    }
}

fn every_kind() -> Vec<Endpoint> {
    let kinds = [UnixKind::Stream, UnixKind::Datagram, UnixKind::SeqPacket].map(unix);
    [tcp("127.0.0.1"), tcp("::1"), udp("127.0.0.1"), udp("::1")].into_iter().chain(kinds).collect()
}

fn set_flags(fd: BorrowedFd<'_>, flags: OFlag) {
    fcntl(fd, FcntlArg::F_SETFL(flags)).unwrap();
}

#[test]
fn flags_and_owners_are_put_back() {
    for endpoint in every_kind() {
        let check = |deed: Deed, expected| check(&endpoint, &SocketOptions::default(), deed, &[expected]);
        check(|fd| set_flags(fd, OFlag::O_NONBLOCK), "flags");
        check(|fd| set_flags(fd, OFlag::O_APPEND), "flags");
        check(
            |fd| {
                Description::of(fd).unwrap().owned_by(std::process::id(), libc::SIGURG).set(fd).unwrap();
                set_flags(fd, OFlag::O_ASYNC);
            },
            "flags",
        );
        check(
            |fd| Description::of(fd).unwrap().owned_by(std::process::id(), libc::SIGURG).set(fd).unwrap(),
            "owner",
        );
    }
}

#[test]
fn options_of_every_kind_are_put_back() {
    let time = Some(Duration::from_secs(9));
    for endpoint in every_kind() {
        let kind = crate::supervisor::bind::kind_of(&endpoint).unwrap();
        let check =
            |deed: Deed, expected: &[&str]| check(&endpoint, &SocketOptions::default(), deed, expected);
        check(
            |fd| SockRef::from(&fd).set_read_timeout(Some(Duration::from_secs(9))).unwrap(),
            &["receive_timeout"],
        );
        check(
            |fd| SockRef::from(&fd).set_write_timeout(Some(Duration::from_secs(9))).unwrap(),
            &["send_timeout"],
        );
        check(|fd| SockRef::from(&fd).set_linger(Some(Duration::from_secs(9))).unwrap(), &["linger"]);
        check(|fd| SockRef::from(&fd).set_keepalive(true).unwrap(), &["keepalive"]);
        check(
            |fd| SockRef::from(&fd).set_recv_buffer_size(9999).unwrap(),
            &["receive_buffer", "SO_BUF_LOCK"],
        );
        check(|fd| SockRef::from(&fd).set_send_buffer_size(9999).unwrap(), &["send_buffer", "SO_BUF_LOCK"]);
        if kind.is_unix() {
            check(|fd| SockRef::from(&fd).set_passcred(true).unwrap(), &["SO_PASSCRED"]);
        }
        let configured =
            SocketOptions { receive_timeout: time, send_buffer: Some(50_000), ..Default::default() };
        super::tests::check(
            &endpoint,
            &configured,
            |fd| {
                SockRef::from(&fd).set_read_timeout(None).unwrap();
                SockRef::from(&fd).set_send_buffer_size(9999).unwrap();
            },
            &["send_buffer", "receive_timeout"],
        );
        if !kind.is_unix() {
            check(
                |fd| set_int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_DONTROUTE }, 1).unwrap(),
                &["SO_DONTROUTE"],
            );
        }
    }
}

#[test]
fn options_of_the_internet_are_put_back() {
    let none = SocketOptions::default();
    for endpoint in [tcp("127.0.0.1"), udp("127.0.0.1")] {
        check(&endpoint, &none, |fd| SockRef::from(&fd).set_ttl_v4(9).unwrap(), &["ttl"]);
        // The kernel derives the priority from it, and does so again.
        check(&endpoint, &none, |fd| SockRef::from(&fd).set_tos_v4(0x10).unwrap(), &["tos"]);
        let ttl = SocketOptions { ttl: Some(33), ..SocketOptions::default() };
        check(&endpoint, &ttl, |fd| SockRef::from(&fd).set_ttl_v4(9).unwrap(), &["ttl"]);
        let knob = Knob { level: libc::IPPROTO_IP, name: libc::IP_PKTINFO };
        assert!(bytes(open_listener(&endpoint, &none, true).unwrap().as_fd(), knob).is_ok());
        check(
            &endpoint,
            &none,
            |fd| set_int(fd, Knob { level: libc::IPPROTO_IP, name: libc::IP_PKTINFO }, 1).unwrap(),
            &["IP_PKTINFO"],
        );
    }
    check(&tcp("::1"), &none, |fd| SockRef::from(&fd).set_unicast_hops_v6(9).unwrap(), &["ttl"]);
    check(&tcp("127.0.0.1"), &none, |fd| SockRef::from(&fd).set_tcp_nodelay(true).unwrap(), &["nodelay"]);
    let kept = |fd: BorrowedFd<'_>| {
        let times = TcpKeepalive::new().with_time(Duration::from_secs(77));
        SockRef::from(&fd).set_tcp_keepalive(&times).unwrap();
    };
    check(&tcp("127.0.0.1"), &none, kept, &["keepalive", "keepalive.idle"]);
    let broadcast = |fd: BorrowedFd<'_>| SockRef::from(&fd).set_broadcast(true).unwrap();
    check(&udp("127.0.0.1"), &none, broadcast, &["broadcast"]);
    check(
        &udp("127.0.0.1"),
        &none,
        |fd| SockRef::from(&fd).set_multicast_ttl_v4(9).unwrap(),
        &["multicast_ttl"],
    );
    check(
        &udp("::1"),
        &none,
        |fd| SockRef::from(&fd).set_multicast_loop_v6(false).unwrap(),
        &["multicast_loop"],
    );
    // Any local user could take the datagrams of an address that may be used again.
    check(
        &udp("127.0.0.1"),
        &none,
        |fd| SockRef::from(&fd).set_reuse_address(true).unwrap(),
        &["reuse_address"],
    );
}

#[test]
fn what_it_was_shut_off_from_comes_back_or_is_opened_anew() {
    let none = SocketOptions::default();
    let shut = |fd: BorrowedFd<'_>, how| {
        // A datagram socket says ENOTCONN, and is shut down all the same.
        let _ = SockRef::from(&fd).shutdown(how);
    };
    let shut_read: Deed = |fd| {
        let _ = SockRef::from(&fd).shutdown(Shutdown::Read);
    };
    let shut_write: Deed = |fd| {
        let _ = SockRef::from(&fd).shutdown(Shutdown::Write);
    };
    let shut_both: Deed = |fd| {
        let _ = SockRef::from(&fd).shutdown(Shutdown::Both);
    };
    for ip in ["127.0.0.1", "::1"] {
        let free = std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        let Endpoint::Inet(inet) = tcp(ip) else { panic!("of the internet") };
        let endpoint = Endpoint::Inet(InetEndpoint { port: free, ..inet });
        check(&endpoint, &none, shut_read, &["listening"]);
        check(&endpoint, &none, shut_both, &["listening"]);
        // Of a listener the direction of sending means nothing.
        let fd = open_listener(&endpoint, &none, true).unwrap();
        let lent = Lent::remember(fd.as_fd()).unwrap();
        shut(fd.as_fd(), Shutdown::Write);
        assert_eq!(lent.restore(fd.as_fd(), &endpoint, &none), Restored::Same);
        for deed in [shut_read, shut_write, shut_both] {
            check_gone(&udp(ip), deed, "shutdown");
        }
    }
    for deed in [shut_read, shut_both] {
        check_gone(&unix(UnixKind::Stream), deed, "shutdown");
        check_gone(&unix(UnixKind::SeqPacket), deed, "shutdown");
    }
    for deed in [shut_read, shut_write, shut_both] {
        check_gone(&unix(UnixKind::Datagram), deed, "shutdown");
    }
}

#[test]
fn a_connected_datagram_socket_hears_everybody_again() {
    let none = SocketOptions::default();
    let connect: Deed = |fd| {
        let at = SockRef::from(&fd).local_addr().unwrap();
        SockRef::from(&fd).connect(&at).unwrap();
    };
    check(&udp("127.0.0.1"), &none, connect, &["connected"]);
    check(&udp("::1"), &none, connect, &["connected"]);
    check(&udp("0.0.0.0"), &none, |fd| connect_to(fd, "127.0.0.1:9"), &["connected"]);
    check(&udp("::"), &none, |fd| connect_to(fd, "[::1]:9"), &["connected"]);
    check(&unix(UnixKind::Datagram), &none, connect, &["connected"]);
    // Where the kernel chose the port, disconnecting gives it away.
    check_gone(&inet(Transport::Udp, "127.0.0.1"), connect, "address");
}

fn connect_to(fd: BorrowedFd<'_>, address: &str) {
    SockRef::from(&fd).connect(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
}

#[test]
fn filters_are_taken_away_unless_they_are_locked() {
    const EVERYTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, u32::MAX)];
    let attach: Deed = |fd| SockRef::from(&fd).attach_filter(&EVERYTHING).unwrap();
    let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
    if SockRef::from(&probe).attach_filter(&EVERYTHING).is_err() {
        eprintln!("skipped: needs root");
        return;
    }
    for endpoint in [tcp("127.0.0.1"), udp("127.0.0.1"), unix(UnixKind::Datagram)] {
        let fd = open_listener(&endpoint, &SocketOptions::default(), true).unwrap();
        let lent = Lent::remember(fd.as_fd()).unwrap();
        attach(fd.as_fd());
        let restored = lent.restore(fd.as_fd(), &endpoint, &SocketOptions::default());
        assert_eq!(restored, Restored::Changed(vec!["filter"]), "{endpoint}");
        assert!(attached(fd.as_fd()).unwrap().is_empty(), "{endpoint}");
    }
    let locked: Deed = |fd| {
        SockRef::from(&fd).attach_filter(&EVERYTHING).unwrap();
        set_int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_LOCK_FILTER }, 1).unwrap();
    };
    check_gone(&udp("127.0.0.1"), locked, "filter");
}

#[test]
fn it_is_bound_to_its_interface_again() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let none = SocketOptions::default();
    let bind: Deed = |fd| SockRef::from(&fd).bind_device(Some(b"lo")).unwrap();
    check(&tcp("127.0.0.1"), &none, bind, &["interface"]);
    check(&udp("127.0.0.1"), &none, bind, &["interface"]);
    let Endpoint::Inet(inet) = udp("127.0.0.1") else { panic!("of the internet") };
    let on_lo = Endpoint::Inet(InetEndpoint { interface: InterfaceName::new("lo"), ..inet });
    check(&on_lo, &none, |fd| SockRef::from(&fd).bind_device(None).unwrap(), &["interface"]);
    assert!(open_listener(&on_lo, &none, true).unwrap().as_raw_fd() > 2);
}
