//! Each option on real sockets: set, read back, inherited by a connection, changed, and taken away.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::*;
use crate::config::settings::Keepalive;
use crate::model::endpoint::InterfaceName;

const OFF: SocketOptions = SocketOptions {
    backlog: None,
    keepalive: None,
    user_timeout: None,
    linger: None,
    nodelay: None,
    receive_buffer: None,
    send_buffer: None,
    receive_timeout: None,
    send_timeout: None,
    receive_low_water: None,
    ttl: None,
    min_ttl: None,
    tos: None,
    max_segment: None,
    oob_inline: None,
    reuse_address: None,
    reuse_port: None,
    defer_accept: None,
    fast_open: None,
    free_bind: None,
    transparent: None,
    mark: None,
    priority: None,
    broadcast: None,
    multicast_ttl: None,
    multicast_loop: None,
    multicast_interface: None,
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn tcp(v6: bool) -> SocketKind {
    if v6 { SocketKind::Tcp6 } else { SocketKind::Tcp }
}

fn listening(v6: bool, options: &SocketOptions) -> Socket {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let listener = Socket::new(domain, Type::STREAM, None).unwrap();
    apply(listener.as_fd(), tcp(v6), options).unwrap();
    let at: SocketAddr = if v6 { "[::1]:0" } else { "127.0.0.1:0" }.parse().unwrap();
    listener.bind(&at.into()).unwrap();
    listen(listener.as_fd(), options).unwrap();
    listener
}

/// A connection accepted from the listener.
fn accepted(listener: &Socket) -> Socket {
    let at: SockAddr = listener.local_addr().unwrap();
    let client = Socket::new(at.domain(), Type::STREAM, None).unwrap();
    client.connect(&at).unwrap();
    listener.accept().unwrap().0
}

/// The option is read back as `shown` on the listener and as `inherited` on a connection; without it both are
/// as they were before, or the listener is to be opened anew.
fn check(name: &str, options: &SocketOptions, shown: &str, inherited: &str) {
    for v6 in [false, true] {
        let plain = read_back(listening(v6, &OFF).as_fd(), tcp(v6));
        let listener = listening(v6, options);
        assert_eq!(read_back(listener.as_fd(), tcp(v6))[name], shown, "{name}, v6 {v6}: at the start");
        assert_ne!(plain[name], shown, "{name}, v6 {v6}: the default shows nothing");
        let connection = accepted(&listener);
        assert_eq!(read_back(connection.as_fd(), tcp(v6))[name], inherited, "{name}, v6 {v6}: inherited");

        let late = listening(v6, &OFF);
        assert_eq!(change(SocketKind::Tcp, &OFF, options), Change::Apply, "{name}");
        reapply(late.as_fd(), tcp(v6), &OFF, options).unwrap();
        assert_eq!(read_back(late.as_fd(), tcp(v6))[name], shown, "{name}, v6 {v6}: at a reload");

        if change(SocketKind::Tcp, options, &OFF) == Change::Apply {
            reapply(late.as_fd(), tcp(v6), options, &OFF).unwrap();
            assert_eq!(read_back(late.as_fd(), tcp(v6)), plain, "{name}, v6 {v6}: taken away");
        }
    }
}

#[test]
fn times_and_switches_are_inherited_and_undone() {
    let keepalive = Keepalive { idle: Some(seconds(77)), interval: Some(seconds(11)), count: Some(4) };
    let kept = SocketOptions { keepalive: Some(keepalive), ..OFF };
    check("keepalive", &kept, "on", "on");
    check("keepalive.idle", &kept, "77s", "77s");
    check("keepalive.interval", &kept, "11s", "11s");
    check("keepalive.count", &kept, "4", "4");
    let half = Some(Duration::from_millis(1500));
    check("user_timeout", &SocketOptions { user_timeout: half, ..OFF }, "1500ms", "1500ms");
    check("receive_timeout", &SocketOptions { receive_timeout: half, ..OFF }, "1500ms", "1500ms");
    check("send_timeout", &SocketOptions { send_timeout: Some(seconds(3)), ..OFF }, "3s", "3s");
    check("linger", &SocketOptions { linger: Some(seconds(7)), ..OFF }, "7s", "7s");
    check("linger", &SocketOptions { linger: Some(seconds(0)), ..OFF }, "0s", "0s");
    check("nodelay", &SocketOptions { nodelay: Some(true), ..OFF }, "on", "on");
    check("oob_inline", &SocketOptions { oob_inline: Some(true), ..OFF }, "on", "on");
    check("free_bind", &SocketOptions { free_bind: Some(true), ..OFF }, "on", "on");
    check("reuse_address", &SocketOptions { reuse_address: Some(false), ..OFF }, "off", "off");
    check("reuse_port", &SocketOptions { reuse_port: Some(true), ..OFF }, "on", "on");
}

#[test]
fn numbers_are_inherited_and_undone() {
    check("ttl", &SocketOptions { ttl: Some(33), ..OFF }, "33", "33");
    check("min_ttl", &SocketOptions { min_ttl: Some(5), ..OFF }, "5", "5");
    check("tos", &SocketOptions { tos: Some(0x10), ..OFF }, "16", "16");
    check("receive_buffer", &SocketOptions { receive_buffer: Some(50_000), ..OFF }, "50000", "50000");
    check("send_buffer", &SocketOptions { send_buffer: Some(60_000), ..OFF }, "60000", "60000");
    check("receive_low_water", &SocketOptions { receive_low_water: Some(100), ..OFF }, "100", "100");
    // Of a connection it is what is left for data after the 12 bytes of time stamps.
    check("max_segment", &SocketOptions { max_segment: Some(900), ..OFF }, "900", "888");
    check("priority", &SocketOptions { priority: Some(5), ..OFF }, "5", "0");
    // These mean the listener alone. The kernel rounds up to retransmissions: after 1, 2 and 4 seconds.
    check("fast_open", &SocketOptions { fast_open: Some(16), ..OFF }, "16", "0");
    let listener = listening(false, &SocketOptions { defer_accept: Some(seconds(5)), ..OFF });
    assert_eq!(read_back(listener.as_fd(), tcp(false))["defer_accept"], "7s");
}

fn plain(kind: SocketKind) -> Socket {
    let domain = match kind {
        _ if kind.is_unix() => Domain::UNIX,
        _ if kind.is_ipv6() => Domain::IPV6,
        _ => Domain::IPV4,
    };
    Socket::new(domain, if kind.is_datagram() { Type::DGRAM } else { Type::STREAM }, None).unwrap()
}

/// On a socket of this kind the option is read back as `shown`, and taken away nothing of it is left.
fn check_on(kinds: &[SocketKind], name: &str, options: &SocketOptions, shown: &str) {
    for &kind in kinds {
        assert!(holds(name, kind), "{name} on {kind:?}");
        let socket = plain(kind);
        let before = read_back(socket.as_fd(), kind);
        assert_eq!(change(kind, &OFF, options), Change::Apply, "{name} on {kind:?}");
        reapply(socket.as_fd(), kind, &OFF, options).unwrap();
        let asked = read_back(socket.as_fd(), kind);
        if (name, kind) != ("multicast_interface", SocketKind::Udp) {
            assert_eq!(asked.get(name).map(String::as_str), Some(shown), "{name} on {kind:?}");
            assert_ne!(before.get(name), asked.get(name), "{name} on {kind:?}: the default shows nothing");
        }
        assert_eq!(change(kind, options, &OFF), Change::Apply, "{name} on {kind:?}");
        reapply(socket.as_fd(), kind, options, &OFF).unwrap();
        assert_eq!(read_back(socket.as_fd(), kind), before, "{name} on {kind:?}: taken away");
    }
}

#[test]
fn datagrams_and_unix_sockets_have_options_too() {
    use SocketKind::{Udp, Udp6, UnixDatagram, UnixStream};
    let all = &[Udp, Udp6, UnixDatagram, UnixStream];
    let udp = &[Udp, Udp6];
    check_on(udp, "receive_buffer", &SocketOptions { receive_buffer: Some(50_000), ..OFF }, "50000");
    check_on(all, "send_buffer", &SocketOptions { send_buffer: Some(60_000), ..OFF }, "60000");
    check_on(all, "receive_timeout", &SocketOptions { receive_timeout: Some(seconds(3)), ..OFF }, "3s");
    check_on(&[UnixStream], "receive_low_water", &SocketOptions { receive_low_water: Some(9), ..OFF }, "9");
    check_on(udp, "ttl", &SocketOptions { ttl: Some(33), ..OFF }, "33");
    check_on(udp, "tos", &SocketOptions { tos: Some(0x10), ..OFF }, "16");
    check_on(udp, "broadcast", &SocketOptions { broadcast: Some(true), ..OFF }, "on");
    check_on(udp, "multicast_ttl", &SocketOptions { multicast_ttl: Some(9), ..OFF }, "9");
    check_on(udp, "multicast_loop", &SocketOptions { multicast_loop: Some(false), ..OFF }, "off");
    let options = SocketOptions { multicast_interface: InterfaceName::new("lo"), ..OFF };
    check_on(udp, "multicast_interface", &options, "lo");
}

#[test]
fn an_option_holds_where_it_means_something() {
    use SocketKind::{Group, Tcp, Tcp6, Udp, Udp6, UnixDatagram, UnixSeqPacket, UnixStream};
    let rows: [(&str, &[SocketKind], &[SocketKind]); 8] = [
        ("nodelay", &[Tcp, Tcp6], &[Udp, UnixStream]),
        ("reuse_address", &[Tcp, Tcp6, Group], &[Udp, Udp6, UnixStream]),
        ("reuse_port", &[Tcp, Udp, Group], &[UnixStream, UnixDatagram]),
        ("ttl", &[Tcp, Udp6, Group], &[UnixStream]),
        ("broadcast", &[Udp, Group], &[Tcp, UnixDatagram]),
        ("multicast_ttl", &[Udp6, Group], &[Tcp6, UnixDatagram]),
        ("linger", &[Tcp], &[Udp, UnixSeqPacket]),
        ("backlog", &[Tcp, UnixStream, UnixSeqPacket], &[Udp, UnixDatagram]),
    ];
    for (name, on, off) in rows {
        for kind in on {
            assert!(holds(name, *kind), "{name} on {kind:?}");
        }
        for kind in off {
            assert!(!holds(name, *kind), "{name} on {kind:?}");
        }
    }
    let socket = plain(Udp);
    apply(socket.as_fd(), Udp, &SocketOptions { reuse_address: Some(true), nodelay: Some(true), ..OFF })
        .unwrap();
    assert!(!socket.reuse_address().unwrap());
}

#[test]
fn options_of_the_administrator_are_inherited() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    check("mark", &SocketOptions { mark: Some(7), ..OFF }, "7", "7");
    check("mark", &SocketOptions { mark: Some(u32::MAX), ..OFF }, "4294967295", "4294967295");
    check("transparent", &SocketOptions { transparent: Some(true), ..OFF }, "on", "on");
}

#[test]
fn priority_is_set_on_the_connection_itself() {
    let options = SocketOptions { priority: Some(5), tos: Some(0x10), ..OFF };
    let listener = listening(false, &options);
    let connection = accepted(&listener);
    apply_to_connection(connection.as_fd(), &options).unwrap();
    assert_eq!(read_back(connection.as_fd(), tcp(false))["priority"], "5");
    // A change of tos alone leaves the priority that was asked for.
    reapply(listener.as_fd(), tcp(false), &options, &SocketOptions { tos: Some(8), ..options.clone() })
        .unwrap();
    assert_eq!(read_back(listener.as_fd(), tcp(false))["priority"], "5");
}

#[test]
fn the_backlog_changes_while_listening() {
    let options = SocketOptions { backlog: Some(3), ..OFF };
    let listener = listening(false, &options);
    assert_eq!(queue(listener.as_fd()), Some([0, 3]));
    let more = SocketOptions { backlog: Some(9), ..OFF };
    assert_eq!(change(SocketKind::Tcp, &options, &more), Change::Apply);
    reapply(listener.as_fd(), tcp(false), &options, &more).unwrap();
    assert_eq!(read_back(listener.as_fd(), tcp(false))["backlog"], "9");
}

#[test]
fn a_change_says_what_it_needs() {
    let tuned = SocketOptions { receive_buffer: Some(50_000), nodelay: Some(true), ..OFF };
    let rows = [
        (tuned.clone(), tuned.clone(), Change::Nothing),
        (OFF, tuned.clone(), Change::Apply),
        (tuned.clone(), SocketOptions { nodelay: None, ..tuned.clone() }, Change::Apply),
        (tuned.clone(), SocketOptions { receive_buffer: Some(1), ..tuned.clone() }, Change::Apply),
        (tuned.clone(), OFF, Change::Reopen("receive_buffer")),
    ];
    for (old, new, expected) in rows {
        assert_eq!(change(SocketKind::Tcp, &old, &new), expected, "{old:?} to {new:?}");
    }
}

#[test]
fn a_refused_option_is_named() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let error = apply(socket.as_fd(), tcp(false), &SocketOptions { ttl: Some(0), ..OFF }).unwrap_err();
    assert_eq!(error.name, "ttl");
    assert_eq!(error.source.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn every_option_of_the_configuration_has_a_row() {
    let all = SocketOptions {
        keepalive: Some(Keepalive { idle: Some(seconds(1)), interval: Some(seconds(1)), count: Some(1) }),
        user_timeout: Some(seconds(1)),
        linger: Some(seconds(1)),
        nodelay: Some(true),
        receive_buffer: Some(1),
        send_buffer: Some(1),
        receive_timeout: Some(seconds(1)),
        send_timeout: Some(seconds(1)),
        receive_low_water: Some(1),
        ttl: Some(1),
        min_ttl: Some(1),
        tos: Some(1),
        max_segment: Some(1),
        oob_inline: Some(true),
        reuse_address: Some(true),
        reuse_port: Some(true),
        defer_accept: Some(seconds(1)),
        fast_open: Some(1),
        free_bind: Some(true),
        transparent: Some(true),
        mark: Some(1),
        priority: Some(1),
        broadcast: Some(true),
        multicast_ttl: Some(1),
        multicast_loop: Some(true),
        multicast_interface: InterfaceName::new("lo"),
        backlog: Some(1),
    };
    let silent: Vec<_> = TABLE.iter().filter(|row| (row.asked)(&all).is_none()).map(|row| row.name).collect();
    assert!(silent.is_empty(), "{silent:?}");
    let fields = serde_json::to_value(&all).unwrap();
    for field in fields.as_object().unwrap().keys().filter(|field| *field != "backlog") {
        assert!(TABLE.iter().any(|row| row.name == field), "{field} has no row");
    }
}

/// What a configuration may say of a listener is what is set on it.
#[test]
fn the_configuration_allows_what_holds() {
    use crate::config::keys::option_holds_on;
    use crate::model::endpoint::{Endpoint, InetEndpoint, Transport, UnixEndpoint, UnixKind, UnixName};
    use crate::supervisor::bind::kind_of;
    let inet = |transport, ip: &str| {
        let ip = ip.parse().unwrap();
        Endpoint::Inet(InetEndpoint { transport, ip, port: 1, zone: None, interface: None, optional: false })
    };
    let unix = |kind| {
        let name = UnixName::Abstract("x".to_owned());
        Endpoint::Unix(UnixEndpoint { kind, name, owner: None, group: None, mode: 0 })
    };
    let endpoints = [
        inet(Transport::Tcp, "0.0.0.0"),
        inet(Transport::Tcp, "::"),
        inet(Transport::Udp, "0.0.0.0"),
        inet(Transport::Udp, "::"),
        inet(Transport::Udp, "239.1.2.3"),
        inet(Transport::Udp, "ff02::1"),
        unix(UnixKind::Stream),
        unix(UnixKind::Datagram),
        unix(UnixKind::SeqPacket),
    ];
    for endpoint in endpoints {
        let kind = kind_of(&endpoint).unwrap();
        for name in TABLE.iter().map(|row| row.name).filter(|name| !name.contains('.')).chain(["backlog"]) {
            assert_eq!(option_holds_on(name, &endpoint), holds(name, kind), "{name} on {endpoint}");
        }
    }
}
