//! The services over udp.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::model::rate::{Per, Rate};
use crate::protocol::builtin::quotes;
use crate::protocol::handoff::{Datagrams, Order, Rates, Report};
use crate::sys::memory::sealed;

use super::{Handlers, PATIENCE};

/// Has a service answered at a fresh port.
fn listen(handlers: &Handlers, id: u64, builtin: &str, bound: &str) -> SocketAddr {
    listen_at_rates(handlers, id, builtin, bound, Rates::default())
}

fn listen_at_rates(handlers: &Handlers, id: u64, builtin: &str, bound: &str, rates: Rates) -> SocketAddr {
    let server = UdpSocket::bind((bound, 0)).unwrap();
    let address = server.local_addr().unwrap();
    let quotes = sealed("quotes", &quotes::encode(&[b"a quote\r\n".to_vec()])).unwrap();
    let order = Order::Listener(Datagrams { id, builtin: builtin.into(), rates });
    let server = OwnedFd::from(server);
    let zone = sealed("zone", b"JST-9").unwrap();
    let fds: &[&OwnedFd] = match builtin {
        "qotd" => &[&server, &quotes],
        "daytime" => &[&server, &zone],
        _ => &[&server],
    };
    handlers.send(&[order], fds);
    address
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn answer(client: &UdpSocket, server: impl Into<SocketAddr>, question: &[u8]) -> Vec<u8> {
    let server = server.into();
    client.send_to(question, server).unwrap();
    let mut buffer = vec![0; 70_000];
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, server, "it comes from where it was asked");
    buffer[..length].to_vec()
}

#[test]
fn each_service_answers_in_its_way() {
    let mut handlers = Handlers::start();
    let client = client();
    let ask = |id, builtin, question: &[u8]| {
        let server = listen(&handlers, id, builtin, "127.0.0.1");
        answer(&client, server, question)
    };
    assert_eq!(ask(1, "echo", b"hello"), b"hello");
    assert_eq!(ask(2, "echo", b""), b"");
    let longest = vec![7; 65_507];
    assert!(ask(3, "echo", &longest) == longest);
    assert_eq!(ask(4, "chargen", b"0123456789"), b"!\"#$%&'()*");
    assert_eq!(ask(5, "chargen", b""), b"");
    assert_eq!(ask(6, "chargen", &[0; 2000]).len(), 512);
    assert_eq!(ask(7, "qotd", b""), b"a quote\r\n");
    let daytime = String::from_utf8(ask(8, "daytime", b"")).unwrap();
    assert!(daytime.len() == 26 && daytime.ends_with("\r\n"), "{daytime:?}");
    let time = u32::from_be_bytes(ask(9, "time", b"x").try_into().unwrap());
    assert!(time.wrapping_sub(2_208_988_800) > 1_700_000_000, "{time}");
    let counts = handlers.expect(|report| matches!(report, Report::Counts { id: 6, .. }));
    assert_eq!(counts, Report::Counts { id: 6, bytes: (2000, 512), answered: 1, refused: 0 });
    handlers.stop();
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let handlers = Handlers::start();
    for (id, bound) in [(1, "0.0.0.0"), (2, "::")] {
        let port = listen(&handlers, id, "echo", bound).port();
        let address: IpAddr = "127.0.0.5".parse().unwrap();
        assert_eq!(answer(&client(), (address, port), b"hello"), b"hello");
    }
    handlers.stop();
}

/// Two services that are told of each other's port: neither answers the other, as FreeBSD's does not.
#[test]
fn services_do_not_answer_each_other() {
    let mut handlers = Handlers::start();
    let first = UdpSocket::bind("127.0.0.1:0").unwrap();
    let order = Order::Listener(Datagrams { id: 1, builtin: "echo".into(), rates: Rates::default() });
    handlers.send(&[order], &[&first.try_clone().unwrap().into()]);
    let second = listen(&handlers, 2, "echo", "127.0.0.1");
    assert_eq!(answer(&client(), second, b"x"), b"x");
    assert_eq!(answer(&client(), first.local_addr().unwrap(), b"x"), b"x");
    first.send_to(b"ball", second).unwrap();
    let mut refused = 0;
    while refused == 0 {
        let counts = handlers.expect(|report| matches!(report, Report::Counts { id: 2, .. }));
        let Report::Counts { refused: now, .. } = counts else { unreachable!() };
        refused += now;
    }
    assert_eq!(refused, 1);
    handlers.stop();
}

/// Of so many questions at once from each of these sources: how many are answered in all.
#[track_caller]
fn check_rates(rates: Rates, sources: &[&str], each: u64, expected: u64) {
    let mut handlers = Handlers::start();
    let server = listen_at_rates(&handlers, 1, "echo", "127.0.0.1", rates);
    let clients: Vec<UdpSocket> = sources.iter().map(|ip| UdpSocket::bind((*ip, 0)).unwrap()).collect();
    for client in clients.iter().flat_map(|client| (0..each).map(move |_| client)) {
        client.send_to(b"x", server).unwrap();
    }
    let (mut yes, mut no) = (0, 0);
    while yes + no < each * sources.len() as u64 {
        let counts = handlers.expect(|report| matches!(report, Report::Counts { id: 1, .. }));
        let Report::Counts { answered, refused, .. } = counts else { unreachable!() };
        (yes, no) = (yes + answered, no + refused);
    }
    assert_eq!((yes, no), (expected, each * sources.len() as u64 - expected), "{rates:?}");
    handlers.stop();
}

#[test]
fn datagrams_that_come_too_often_are_dropped() {
    let rate = |count, burst| Rate::new(count, Per::Hour, burst);
    let sources = ["127.0.0.1", "127.0.0.2", "127.0.1.1"];
    check_rates(Rates::default(), &sources, 5, 15);
    check_rates(Rates { rate: rate(1, 4), ..Rates::default() }, &sources, 5, 4);
    check_rates(Rates { per_source: rate(1, 2), ..Rates::default() }, &sources, 5, 6);
    let mut wide = Rates { per_source: rate(1, 2), ..Rates::default() };
    wide.prefix.v4 = 24;
    check_rates(wide, &sources, 5, 4);
    check_rates(Rates { rate: rate(1, 3), per_source: rate(1, 2), ..Rates::default() }, &sources, 5, 3);
}

#[test]
fn discard_and_networks_get_no_answer() {
    let mut handlers = Handlers::start();
    let client = client();
    client.set_broadcast(true).unwrap();
    let discard = listen(&handlers, 1, "discard", "127.0.0.1");
    let echo = listen(&handlers, 2, "echo", "0.0.0.0");
    client.send_to(b"hello", discard).unwrap();
    client.send_to(b"hello", ("127.255.255.255", echo.port())).unwrap();
    let mut counts = Vec::new();
    for id in [1, 2] {
        counts.push(handlers.expect(|report| matches!(report, Report::Counts { id: of, .. } if *of == id)));
    }
    let expected = |id, refused| Report::Counts { id, bytes: (5, 0), answered: 0, refused };
    assert_eq!(counts, [expected(1, 0), expected(2, 1)]);
    client.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(client.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    handlers.stop();
}

/// The counts that were not said yet are said, and the socket is closed: its port is free.
#[test]
fn a_socket_is_let_go_of() {
    let mut handlers = Handlers::start();
    let address = listen(&handlers, 1, "echo", "127.0.0.1");
    answer(&client(), address, b"x");
    handlers.send(&[Order::Forget(1)], &[]);
    handlers.expect(|report| matches!(report, Report::Counts { id: 1, answered: 1, .. }));
    let deadline = std::time::Instant::now() + PATIENCE;
    while UdpSocket::bind(address).is_err() {
        assert!(std::time::Instant::now() < deadline, "it is still open");
        std::thread::yield_now();
    }
    handlers.stop();
}
