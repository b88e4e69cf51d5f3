//! The role in a thread, at the other end of a channel: this machine's own names, and ident servers of the tests.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use crate::protocol::ident::Reply;

const LONG: Duration = Duration::from_secs(20);

/// A time that is over soon.
const SHORT: Duration = Duration::from_millis(100);

fn started(look_up: pool::LookUp<IpAddr, Named>, ident_port: u16) -> (Channel, JoinHandle<io::Result<()>>) {
    let (own, theirs) = Channel::pair().unwrap();
    let role = thread::spawn(move || {
        let names = LookUps::new(look_up, NAME_THREADS).unwrap();
        let netgroups = LookUps::new(|asked: Netgroup| Some(asked.group == "staff"), 1).unwrap();
        Resolver::new(&theirs, names, netgroups, Idents::at_port(ident_port)).serve()
    });
    (own, role)
}

fn ask(channel: &Channel, questions: &[Question]) {
    let mut packet = String::new();
    for question in questions {
        question.push(&mut packet);
    }
    channel.send(packet.as_bytes(), &[]).unwrap();
}

fn name(id: u64, address: &str, within: Duration) -> Question {
    Question::Name { id, address: address.parse().unwrap(), within }
}

fn answers(channel: &Channel, count: usize) -> Vec<Answer> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut poll = PollSet::default();
        poll.push(channel.as_fd(), true, false);
        poll.wait(Some(LONG), &SigSet::empty()).unwrap();
        let mut packet = [0; MAX_PACKET];
        let Received::Packet { len, .. } = channel.receive(&mut packet).unwrap() else {
            panic!("no packet; so far {all:?}")
        };
        all.extend(Answer::read(&packet[..len]).unwrap());
    }
    all
}

fn end(channel: Channel, role: JoinHandle<io::Result<()>>) {
    drop(channel);
    role.join().unwrap().unwrap();
}

#[test]
fn loopback_is_localhost() {
    let (channel, role) = started(confirm::confirmed_name, 113);
    ask(
        &channel,
        &[name(7, "127.0.0.1", Duration::from_millis(u64::MAX)), name(8, "::ffff:127.0.0.1", LONG)],
    );
    for answer in answers(&channel, 2) {
        let Answer::Name { named: Named::Confirmed(found), .. } = &answer else { panic!("{answer:?}") };
        assert!(found.as_str().contains("localhost"), "{found}");
    }
    end(channel, role);
}

#[test]
fn a_look_up_that_hangs_has_failed_in_time_and_the_others_have_not() {
    let hangs = |address: IpAddr| {
        if address == IpAddr::from(Ipv4Addr::LOCALHOST) {
            loop {
                thread::park();
            }
        }
        Named::NoName
    };
    let (channel, role) = started(hangs, 113);
    let begin = Instant::now();
    ask(&channel, &[name(1, "127.0.0.1", SHORT), name(2, "192.0.2.7", LONG)]);
    let named = |id, named| Answer::Name { id, named };
    assert_eq!(answers(&channel, 2), [named(2, Named::NoName), named(1, Named::Failed)]);
    assert!(begin.elapsed() >= SHORT);
    end(channel, role);
}

#[test]
fn a_supervisor_that_does_not_read_gets_every_answer_later() {
    let (channel, role) = started(|_| Named::NoName, 113);
    let send = |first: u64| {
        let mut packet = String::new();
        for id in first..first + 50 {
            name(id, "192.0.2.7", LONG).push(&mut packet);
        }
        channel.send(packet.as_bytes(), &[])
    };
    let asked = (0..).step_by(50).take_while(|first| send(*first).is_ok()).count() * 50;
    assert!(asked > MAX_UNREAD, "{asked}");
    assert_eq!(answers(&channel, asked).len(), asked);
    end(channel, role);
}

#[test]
fn what_makes_no_sense_ends_it() {
    let (channel, role) = started(|_| Named::NoName, 113);
    channel.send(b"WHO id=7 address=192.0.2.7 within=5", &[]).unwrap();
    assert_eq!(role.join().unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// An ident server for one connection: it reads the question, and does as it likes.
fn ident_server(serve: impl FnOnce(&str, TcpStream, SocketAddr) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (stream, from) = listener.accept().unwrap();
        let mut question = String::new();
        BufReader::new(&stream).read_line(&mut question).unwrap();
        serve(&question, stream, from);
    });
    (port, server)
}

fn ident(id: u64, within: Duration) -> Question {
    let (client, local) = ("[::ffff:127.0.0.1]:51234".parse().unwrap(), "127.0.0.9:79".parse().unwrap());
    Question::Ident { id, client, local, within }
}

/// What comes of a server that sends these pieces.
#[track_caller]
fn check_ident(pieces: &'static [&'static [u8]], expected: &str) {
    let (port, server) = ident_server(move |question, mut stream, from| {
        assert_eq!(question, "51234 , 79\r\n");
        assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 9), "the address that the client asked");
        for piece in pieces {
            // The resolver may have heard enough.
            let _ = stream.write_all(piece);
            thread::yield_now();
        }
    });
    let (channel, role) = started(|_| Named::NoName, port);
    ask(&channel, &[ident(7, LONG)]);
    let all = answers(&channel, 1);
    let [Answer::Ident { id: 7, reply }] = &all[..] else { panic!("{all:?}") };
    let found = match reply {
        Reply::User(name) => name.as_str(),
        Reply::NoUser => "(none)",
        Reply::Failed => "(failed)",
    };
    assert_eq!(found, expected, "{pieces:?}");
    server.join().unwrap();
    end(channel, role);
}

#[test]
fn ident_servers_are_heard() {
    check_ident(&[b"51234 , 79 : USERID : UNIX : alice\r\n"], "alice");
    check_ident(&[b"51234 , ", b"79 : USERID : ", b"UNIX : al", b"ice\r\n"], "alice");
    check_ident(&[b"51234 , 79 : ERROR : HIDDEN-USER\r\n"], "(none)");
    check_ident(&[b"51234 , 80 : USERID : UNIX : alice\r\n"], "(failed)");
    check_ident(&[], "(failed)");
    check_ident(&[&[b'x'; 10_000]], "(failed)");
}

#[test]
fn an_ident_server_that_drips_or_hangs_has_its_time() {
    let (port, server) = ident_server(|_, mut stream, _| {
        stream.write_all(b"51234 , 79 : USERID").unwrap();
        // Until the resolver closes.
        assert!(stream.write_all(b" ").is_ok());
        let mut rest = String::new();
        let _ = BufReader::new(&stream).read_line(&mut rest);
    });
    let (channel, role) = started(|_| Named::NoName, port);
    let begin = Instant::now();
    ask(&channel, &[ident(7, SHORT)]);
    assert_eq!(answers(&channel, 1), [Answer::Ident { id: 7, reply: Reply::Failed }]);
    assert!(begin.elapsed() >= SHORT);
    server.join().unwrap();
    end(channel, role);
}

#[test]
fn nobody_at_the_ident_port_is_said_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (channel, role) = started(|_| Named::NoName, port);
    let foreign = Question::Ident {
        id: 8,
        client: "127.0.0.1:5".parse().unwrap(),
        local: "192.0.2.99:79".parse().unwrap(),
        within: LONG,
    };
    let begin = Instant::now();
    ask(&channel, &[ident(7, LONG), foreign]);
    let failed = Reply::Failed;
    let all = answers(&channel, 2);
    for id in [7, 8] {
        assert!(all.contains(&Answer::Ident { id, reply: failed.clone() }), "{all:?}");
    }
    assert!(begin.elapsed() < LONG / 2);
    end(channel, role);
}

#[test]
fn ident_questions_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (channel, role) = started(|_| Named::NoName, listener.local_addr().unwrap().port());
    for id in 0..=idents::MAX_OPEN as u64 {
        ask(&channel, &[ident(id, LONG)]);
    }
    let full = Answer::Ident { id: idents::MAX_OPEN as u64, reply: Reply::Failed };
    assert_eq!(answers(&channel, 1), [full]);
    end(channel, role);
}

#[test]
fn netgroups_are_asked_and_answered() {
    let (channel, role) = started(|_| Named::NoName, 113);
    let asked = |id, group: &str| {
        let netgroup = Netgroup { group: group.to_owned(), member: Member::User("joe".to_owned()) };
        Question::Netgroup { id, netgroup, within: LONG }
    };
    ask(&channel, &[asked(7, "staff"), asked(8, "guests")]);
    let found = answers(&channel, 2);
    for (id, is_member) in [(7, Some(true)), (8, Some(false))] {
        assert!(found.contains(&Answer::Netgroup { id, is_member }), "{found:?}");
    }
    end(channel, role);
}
