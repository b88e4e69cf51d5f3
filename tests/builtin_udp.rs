//! The built-in services over datagrams, from outside: what each answers, to whom it answers nothing, and from
//! which address. Each test has a network of its own, which only root can make.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use harness::world::own_network;
use harness::{Link, Superd, needs_program, needs_root, until};
use superd::protocol::builtin::chargen;

fn config(zone: &str, quote: &str) -> String {
    let service = |(name, port): (&str, u16)| {
        let more = if name == "qotd" { format!("quotes = [\"{quote}\"]\n") } else { String::new() };
        format!("[service.{name}]\nlisten = \"udp4:{port}\"\nbuiltin = \"{name}\"\n{more}")
    };
    let services = [
        ("echo", 7007),
        ("discard", 7009),
        ("chargen", 7019),
        ("daytime", 7013),
        ("time", 7037),
        ("qotd", 7017),
    ];
    format!("[daemon]\nhelper_user = \"nobody\"\nzone = \"{zone}\"\n") + &services.map(service).concat()
}

/// A client that has bound this address.
struct Asker(UdpSocket);

impl Asker {
    fn at(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_broadcast(true).unwrap();
        Self(socket)
    }

    fn say(&self, to: &str, text: &[u8]) {
        self.0.send_to(text, to).unwrap();
    }

    /// What comes, and from where.
    fn hear(&self) -> (Vec<u8>, SocketAddr) {
        self.0.set_read_timeout(Some(harness::DEADLINE)).unwrap();
        let mut buffer = vec![0; 70_000];
        let (length, from) = self.0.recv_from(&mut buffer).expect("an answer");
        buffer.truncate(length);
        (buffer, from)
    }

    fn ask(&self, to: &str, text: &[u8]) -> Vec<u8> {
        self.say(to, text);
        self.hear().0
    }

    fn hears_nothing(&self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        self.0.recv(&mut [0; 1]).is_err()
    }
}

fn is_now_in(zone: &str, text: &[u8]) -> bool {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::get(zone).unwrap());
    (0..5).any(|ago| {
        let then = &now - jiff::SignedDuration::from_secs(ago);
        text == then.strftime("%a %b %e %H:%M:%S %Y\r\n").to_string().as_bytes()
    })
}

#[test]
fn each_answers_as_its_rfc_says() {
    needs_root!();
    own_network();
    let superd = Superd::with(&config("Asia/Tokyo", "one"));
    let asker = Asker::at("127.0.0.1:0");
    let long = vec![b'x'; 60_000];
    for said in [&b""[..], b"hello", &[0, 255], &long] {
        assert_eq!(asker.ask("127.0.0.1:7007", said), said);
    }
    let pattern = chargen::pattern(0);
    for (question, answer) in [(0, 0), (10, 10), (512, 512), (600, 512)] {
        assert_eq!(asker.ask("127.0.0.1:7019", &long[..question]), &pattern[..answer]);
    }
    let seconds = u32::from_be_bytes(asker.ask("127.0.0.1:7037", b"").try_into().unwrap());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 2_208_988_800;
    assert!(now.abs_diff(seconds.into()) < 5);
    asker.say("127.0.0.1:7009", b"x");
    assert!(asker.hears_nothing());
    assert_eq!(asker.ask("127.0.0.1:7017", b""), b"one");
    assert!(is_now_in("Asia/Tokyo", &asker.ask("127.0.0.1:7013", b"")));
    // What they know by themselves changes with the configuration, their sockets stay.
    superd.reload_with(&config("America/New_York", "two"));
    until("the new quote", || (asker.ask("127.0.0.1:7017", b"") == b"two").then_some(()));
    until("the new zone", || is_now_in("America/New_York", &asker.ask("127.0.0.1:7013", b"")).then_some(()));
}

/// RFC 1122, 4.1.3.5: an answer comes from the address that was asked.
#[test]
fn the_answer_comes_from_where_was_asked() {
    needs_root!();
    own_network();
    let _superd = Superd::with(&config("UTC", "one"));
    let asker = Asker::at("127.0.0.1:0");
    for asked in ["127.0.0.5:7007", "127.9.9.9:7007"] {
        asker.say(asked, b"x");
        assert_eq!(asker.hear(), (b"x".to_vec(), asked.parse().unwrap()));
    }
}

/// Whoever forges a source must not set two services on each other.
#[test]
fn who_may_be_a_service_gets_no_answer() {
    needs_root!();
    own_network();
    let _superd = Superd::with(&config("UTC", "one"));
    for port in [7, 13, 17, 19, 37, 53, 123, 1023, 2049] {
        let service = Asker::at(&format!("127.0.0.1:{port}"));
        for to in [7007, 7013, 7017, 7019, 7037] {
            service.say(&format!("127.0.0.1:{to}"), b"x");
        }
        // Those that follow are served: the ones before were not.
        assert_eq!(Asker::at("127.0.0.1:0").ask("127.0.0.1:7007", b"x"), b"x");
        assert!(service.hears_nothing(), "{port}");
    }
    let own = Asker::at("127.0.0.9:1024");
    assert_eq!(own.ask("127.0.0.1:7007", b"x"), b"x");
}

#[test]
fn what_many_hear_nobody_answers() {
    needs_root!();
    needs_program!("ip");
    own_network();
    let link = Link::make("va", "vb", 2);
    let group = "[service.group]\nlisten = \"udp:239.1.2.3:7008%va\"\nbuiltin = \"echo\"\n";
    let _superd = Superd::with(&(config("UTC", "one") + group));
    let asker = link.at_far_end(|| Asker::at("192.0.2.2:0"));
    for to in ["192.0.2.255:7007", "255.255.255.255:7007", "239.1.2.3:7008"] {
        asker.say(to, b"many");
        assert_eq!(asker.ask("192.0.2.1:7007", b"one"), b"one", "{to}");
    }
    assert!(asker.hears_nothing());
}
