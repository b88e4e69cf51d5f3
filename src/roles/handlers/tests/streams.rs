//! Connections of echo, discard and chargen.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::model::mux::MuxName;
use crate::protocol::builtin::chargen;
use crate::protocol::handoff::{Order, Report, Stream};

use super::{Handlers, PATIENCE, stream};

/// A client, and the connection as it is accepted.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    (client, listener.accept().unwrap().0)
}

fn client_of(handlers: &Handlers, order: Stream) -> TcpStream {
    let (client, accepted) = connection();
    handlers.serve(order, accepted);
    client
}

fn read_all(mut client: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn echo_sends_back_all_and_then_closes() {
    let mut handlers = Handlers::start();
    let mut client = client_of(&handlers, stream(1, "echo"));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let writer = {
        let (mut client, sent) = (client.try_clone().unwrap(), sent.clone());
        std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        })
    };
    let mut back = vec![0; sent.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == sent);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "it closes when all is sent back");
    writer.join().unwrap();
    assert_eq!(handlers.expect_done(1), (3_000_000, 3_000_000));
    handlers.stop();
}

/// The rest is whoever's that the supervisor gives the connection to.
#[test]
fn a_name_is_read_and_what_follows_stays() {
    let mut handlers = Handlers::start();
    for (said, name, received) in [("FTP\r\nrest", "ftp", 5), ("a\n\r\nrest", "a", 2), ("a b\r\nrest", "", 5)]
    {
        let (mut client, accepted) = connection();
        let own = accepted.try_clone().unwrap();
        handlers.serve(stream(1, "tcpmux"), accepted);
        let (first, last) = said.split_at(1);
        client.write_all(first.as_bytes()).unwrap();
        handlers.expect(|report| *report == Report::Take(1));
        client.write_all(last.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let launch = handlers.expect(|report| matches!(report, Report::Launch { .. }));
        let name = MuxName::new(name.as_bytes());
        assert_eq!(launch, Report::Launch { id: 1, name, received: received as u64 });
        assert_eq!(read_all(&own), &said.as_bytes()[received..]);
    }
    handlers.stop();
}

#[test]
fn echo_works_byte_by_byte() {
    let mut handlers = Handlers::start();
    let mut client = client_of(&handlers, stream(1, "echo"));
    client.set_nodelay(true).unwrap();
    for byte in 0..=255 {
        client.write_all(&[byte]).unwrap();
        let mut back = [0];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
    drop(client);
    assert_eq!(handlers.expect_done(1), (256, 256));
    handlers.stop();
}

/// All that the client sends, and half-closes, is there before the connection is handed over.
#[test]
fn what_came_before_is_served_as_well() {
    let mut handlers = Handlers::start();
    let (mut client, accepted) = connection();
    client.write_all(b"early").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    handlers.serve(stream(1, "echo"), accepted);
    assert_eq!(read_all(&client), b"early");
    assert_eq!(handlers.expect_done(1), (5, 5));
    handlers.stop();
}

#[test]
fn a_client_that_never_reads_is_not_read_either() {
    let mut handlers = Handlers::start();
    let (mut client, accepted) = connection();
    for socket in [&client, &accepted] {
        SockRef::from(socket).set_recv_buffer_size(16 * 1024).unwrap();
        SockRef::from(socket).set_send_buffer_size(16 * 1024).unwrap();
    }
    handlers.serve(stream(1, "echo"), accepted);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    let error = loop {
        match client.write(&[b'x'; 4096]) {
            Ok(length) => sent += length,
            Err(error) => break error,
        }
        assert!(sent < 2_000_000, "somebody keeps it");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // Nor does it hold up another.
    let mut other = client_of(&handlers, stream(2, "echo"));
    other.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client).len(), sent, "it comes back when the client reads");
    assert_eq!(handlers.expect_done(1), (sent as u64, sent as u64));
    handlers.stop();
}

#[test]
fn discard_reads_and_says_nothing() {
    let mut handlers = Handlers::start();
    let mut client = client_of(&handlers, stream(1, "discard"));
    client.write_all(&vec![b'x'; 1_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), b"");
    assert_eq!(handlers.expect_done(1), (1_000_000, 0));
    handlers.stop();
}

/// Bytes that come are thrown away, and a client that has shut down its side still gets the pattern.
#[test]
fn chargen_sends_its_pattern_until_the_client_goes() {
    let mut handlers = Handlers::start();
    let mut client = client_of(&handlers, stream(1, "chargen"));
    client.write_all(b"ignored").unwrap();
    let mut bytes = vec![0; 1_000_000];
    client.read_exact(&mut bytes[..500_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    client.read_exact(&mut bytes[500_000..]).unwrap();
    assert!(bytes == chargen::pattern(1_000_000)[..1_000_000]);
    drop(client);
    let (received, sent) = handlers.expect_done(1);
    assert!(received == 7 && sent >= 1_000_000, "{received}, {sent}");
    handlers.stop();
}

#[test]
fn a_connection_that_is_reset_is_done() {
    let mut handlers = Handlers::start();
    for (id, builtin) in [(1, "echo"), (2, "discard"), (3, "chargen")] {
        let mut client = client_of(&handlers, stream(id, builtin));
        client.write_all(b"x").unwrap();
        handlers.expect(|report| *report == Report::Take(id));
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        handlers.expect(|report| matches!(report, Report::Done { id: of, .. } if *of == id));
    }
    handlers.stop();
}

#[test]
fn unix_sockets_are_served_as_well() {
    let mut handlers = Handlers::start();
    let (mut client, accepted) = UnixStream::pair().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    handlers.serve(stream(1, "echo"), accepted);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    client.read_to_string(&mut back).unwrap();
    assert_eq!((back.as_str(), handlers.expect_done(1)), ("hello", (5, 5)));
    handlers.stop();
}

#[test]
fn an_order_ends_a_connection() {
    let mut handlers = Handlers::start();
    let mut clients: Vec<_> = (1..=8).map(|id| client_of(&handlers, stream(id, "echo"))).collect();
    let ends: Vec<_> = (1..=8).map(Order::End).collect();
    handlers.send(&ends, &[]);
    handlers.send(&[Order::End(99)], &[]);
    for (id, client) in (1..).zip(&mut clients) {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(handlers.expect_done(id), (0, 0));
    }
    handlers.stop();
}

/// How long a connection with this deadline lives whose client does what `client` does.
fn lifetime(builtin: &str, deadlines: [Option<u64>; 3], client: fn(&mut TcpStream)) -> Duration {
    let mut handlers = Handlers::start();
    let [handshake, idle, session] = deadlines.map(|time| time.map(Duration::from_millis));
    let order = Stream { handshake, idle, session, ..stream(1, builtin) };
    let start = Instant::now();
    let mut connection = client_of(&handlers, order);
    client(&mut connection);
    handlers.expect_done(1);
    let lived = start.elapsed();
    handlers.stop();
    lived
}

#[track_caller]
fn check(builtin: &str, deadlines: [Option<u64>; 3], client: fn(&mut TcpStream), at_least: u64) {
    let lived = lifetime(builtin, deadlines, client);
    let least = Duration::from_millis(at_least);
    assert!(lived >= least && lived < least + Duration::from_secs(5), "{builtin}: {lived:?}");
}

#[test]
fn deadlines_end_connections() {
    const HOUR: u64 = 3_600_000;
    let silent = |_: &mut TcpStream| {};
    check("echo", [Some(100), Some(HOUR), Some(HOUR)], silent, 100);
    check("echo", [None, Some(100), None], silent, 100);
    check("echo", [None, None, Some(100)], silent, 100);
    check("discard", [Some(100), None, None], silent, 100);
    let eager = |client: &mut TcpStream| client.write_all(b"x").unwrap();
    check("echo", [Some(100), Some(300), None], eager, 300);
    check("chargen", [Some(100), None, Some(300)], silent, 300);
    // Nobody reads: the buffers are full, and nothing passes.
    check("chargen", [None, Some(100), None], silent, 100);
}

/// As long as something passes, the idle time begins again.
#[test]
fn who_is_active_is_not_idle() {
    let active = |client: &mut TcpStream| {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700) {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
    };
    check("echo", [None, Some(300), None], active, 900);
}
