//! What passes over the channel, and what becomes of the handlers when something is wrong with it.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::protocol::handoff::{BATCH, MAX_PACKET, Order, Report};
use crate::sys::channel::Received;

use super::{Handlers, PATIENCE, stream};

/// Clients and their connections.
fn connections(count: usize) -> (Vec<UnixStream>, Vec<OwnedFd>) {
    let pairs = (0..count).map(|_| UnixStream::pair().unwrap());
    pairs
        .map(|(client, accepted)| {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            (client, OwnedFd::from(accepted))
        })
        .unzip()
}

#[test]
fn a_packet_brings_many_connections_in_their_order() {
    let mut handlers = Handlers::start();
    let (mut clients, accepted) = connections(BATCH);
    let kind = |id: u64| if id.is_multiple_of(2) { "echo" } else { "chargen" };
    let orders: Vec<_> = (0..BATCH as u64).map(|id| Order::Builtin(stream(id, kind(id)))).collect();
    handlers.send(&orders, &accepted.iter().collect::<Vec<_>>());
    drop(accepted);
    for (id, client) in (0..).zip(&mut clients) {
        client.write_all(b"0").unwrap();
        let mut first = [0];
        client.read_exact(&mut first).unwrap();
        assert_eq!(first, if kind(id) == "echo" { *b"0" } else { *b"!" });
    }
    drop(clients);
    (0..BATCH as u64).for_each(|id| assert!(handlers.expect_done(id).0 <= 1));
    handlers.stop();
}

#[test]
fn a_connection_that_did_not_arrive_is_done() {
    let mut handlers = Handlers::start();
    let (_clients, accepted) = connections(1);
    let orders = [1, 2].map(|id| Order::Builtin(stream(id, "echo")));
    handlers.send(&orders, &[&accepted[0]]);
    assert_eq!(handlers.expect_done(2), (0, 0));
    handlers.stop();
}

/// While the supervisor reads nothing, the channel fills up; then everything comes, once, and in its order, and
/// no connection was read before it was said that it is taken.
#[test]
fn a_supervisor_that_does_not_read_misses_nothing() {
    const CONNECTIONS: u64 = 1000;
    let handlers = Handlers::start();
    handlers.channel.set_buffer(1 << 20).unwrap();
    let mut sent = 0;
    let (mut taken, mut done) = (Vec::new(), Vec::new());
    let mut packet = [0; MAX_PACKET];
    while done.len() < CONNECTIONS.try_into().unwrap() {
        if sent < CONNECTIONS && hand_over(&handlers, sent) {
            sent += 1;
            continue;
        }
        let Received::Packet { len, .. } = handlers.channel.receive(&mut packet).unwrap() else {
            std::thread::yield_now();
            continue;
        };
        for report in Report::read_all(&packet[..len]) {
            match report.unwrap() {
                Report::Take(id) => taken.push(id),
                Report::Done { id, bytes: Some((5, _)), .. } if taken.contains(&id) => done.push(id),
                other => panic!("{other:?}"),
            }
        }
    }
    for mut ids in [taken, done] {
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..CONNECTIONS));
    }
    handlers.stop();
}

/// A connection whose client has said all, and is gone. `false`: the channel is full.
fn hand_over(handlers: &Handlers, id: u64) -> bool {
    let (mut clients, accepted) = connections(1);
    clients[0].write_all(b"hello").unwrap();
    let mut text = String::new();
    Order::Builtin(stream(id, "echo")).push(&mut text);
    handlers.channel.send(text.as_bytes(), &[accepted[0].as_fd()]).is_ok()
}

#[test]
fn what_makes_no_sense_ends_them() {
    for wrong in ["nonsense", "BUILTIN id=1 builtin=finger", "BUILTIN id=18446744073709551615 builtin=echo"] {
        let handlers = Handlers::start();
        let (_clients, accepted) = connections(1);
        handlers.channel.send(wrong.as_bytes(), &[accepted[0].as_fd()]).unwrap();
        assert_eq!(handlers.role.join().unwrap().unwrap_err().kind(), ErrorKind::InvalidData, "{wrong}");
    }
}

#[test]
fn they_end_with_the_channel_and_with_them_all_connections() {
    let handlers = Handlers::start();
    let (mut clients, accepted) = connections(1);
    handlers.send(&[Order::Builtin(stream(1, "echo"))], &[&accepted[0]]);
    drop(accepted);
    clients[0].write_all(b"x").unwrap();
    clients[0].read_exact(&mut [0]).unwrap();
    handlers.stop();
    assert_eq!(clients[0].read(&mut [0]).unwrap(), 0);
}
