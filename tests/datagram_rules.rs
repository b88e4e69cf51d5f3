//! Rules of datagram services: the kernel drops what is refused, before a server or a handler could read it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod harness;

use std::fmt::Write;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use harness::world::{own_network, run};
use harness::{Superd, needs_program, needs_root, until};

fn waiting(listen: &str, part: &str, rules: &str) -> String {
    let words: Vec<String> = part.split(' ').map(|word| format!("\"{word}\"")).collect();
    let words = words.join(", ");
    format!(
        "[daemon]\nshutdown_grace = \"300ms\"\n[sets]\noffice = [\"127.0.0.2\", \"127.1.0.0/16\"]\n\
         [hours]\nalways = [\"00:00-24:00\"]\nnever = [\"{NEVER}\"]\n\
         [service.x]\nlisten = \"{listen}\"\nexec = [\"{{waiter}}\", {words}]\nwait = true\n{{user}}\n{rules}\n",
        NEVER = another_day(),
    )
}

/// A minute of a day that is neither today nor tomorrow, in any zone.
fn another_day() -> String {
    let days = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    // 1970-01-01 was a Thursday.
    let day = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][usize::try_from((days + 3) % 7).unwrap()];
    format!("{day} 00:00-00:01")
}

const UDP: &str = "udp4:127.0.0.1:0";
const MANY: &str = "datagrams 100000";

/// A client at an address of its own.
struct From(UdpSocket);

impl From {
    fn at(ip: &str) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(harness::DEADLINE)).unwrap();
        Self(socket)
    }

    fn send(&self, to: SocketAddr, text: &str) {
        self.0.send_to(text.as_bytes(), to).unwrap();
    }

    fn hear(&self) -> Option<String> {
        let mut buffer = [0; 2048];
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    #[track_caller]
    fn is_answered(&self, to: SocketAddr) {
        self.send(to, "question");
        let answer = self.hear().unwrap_or_else(|| panic!("{:?} got no answer", self.0.local_addr()));
        assert!(answer.ends_with("question"), "{answer}");
    }

    /// How often it has asked.
    fn asks_until_answered(&self, to: SocketAddr) -> u64 {
        self.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut asked = 0;
        until("an answer", || {
            asked += 1;
            self.send(to, "again");
            self.hear()
        });
        self.0.set_read_timeout(Some(harness::DEADLINE)).unwrap();
        asked
    }

    /// Nothing is on its way: whoever was asked later has answered already.
    #[track_caller]
    fn has_heard_nothing(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert_eq!(self.hear(), None, "{:?}", self.0.local_addr());
        self.0.set_nonblocking(false).unwrap();
    }
}

fn dropped(superd: &Superd) -> u64 {
    let output = superd.superctl(&["socket", "x", "--json"]);
    let listeners: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    listeners[0]["dropped"].as_u64().unwrap()
}

#[track_caller]
fn check_superd(superd: &Superd, allowed: &[&str], refused: &[&str]) {
    let (address, before) = (superd.address("x"), dropped(superd));
    let refused: Vec<From> = refused.iter().map(|ip| From::at(ip)).collect();
    refused.iter().for_each(|client| client.send(address, "refused"));
    assert_eq!(dropped(superd) - before, refused.len() as u64, "dropped");
    allowed.iter().for_each(|ip| From::at(ip).is_answered(address));
    refused.iter().for_each(From::has_heard_nothing);
}

#[track_caller]
fn check(rules: &str, allowed: &[&str], refused: &[&str]) {
    let superd = Superd::with(&waiting(UDP, MANY, rules));
    check_superd(&superd, allowed, refused);
    superd.until_service("x", "one server, or none", |x| x["started"] == u64::from(!allowed.is_empty()));
}

#[test]
fn rules_hold_for_a_server_that_waits() {
    let (two, three) = (&["127.0.0.2"], &["127.0.0.3"]);
    check("deny = [\"127.0.0.2\"]", three, two);
    check("allow = [\"127.0.0.2/31\"]\ndeny = [\"127.0.0.3\"]", two, &["127.0.0.3", "127.0.0.4"]);
    check("allow = [\"@office\"]", &["127.0.0.2", "127.1.2.3"], &["127.0.0.3", "127.2.0.0"]);
    check("deny = [\"local\"]", &[], two);
    check("allow = [\"local\"]", two, &[]);
    check("hours = \"always\"", two, &[]);
    check("hours = \"never\"", &[], two);
    check(
        "otherwise = \"deny\"\n[[service.x.rule]]\nfrom = [\"127.0.0.3\"]\nhours = \"never\"\naction = \"deny\"\n\
         [[service.x.rule]]\nfrom = [\"127.0.0.2\"]\naction = \"deny\"\n\
         [[service.x.rule]]\nfrom = [\"127.0.0.0/24\"]\naction = \"allow\"",
        three,
        &["127.0.0.2", "127.0.1.1"],
    );
}

#[test]
fn a_refused_datagram_costs_itself_alone() {
    let superd = Superd::with(&waiting(UDP, "datagrams 1", "deny = [\"127.0.0.2\"]"));
    let (address, good, bad) = (superd.address("x"), From::at("127.0.0.3"), From::at("127.0.0.2"));
    // At the head of the queue it starts no server.
    bad.send(address, "first");
    assert_eq!(dropped(&superd), 1);
    assert_eq!(superd.service("x")["started"], 0);
    for (client, text) in [(&good, "one"), (&bad, "between"), (&good, "two"), (&bad, "last")] {
        client.send(address, text);
    }
    let answers = [good.hear().unwrap(), good.hear().unwrap()];
    assert!(answers[0].ends_with(" one") && answers[1].ends_with(" two"), "{answers:?}");
    superd.until_idle();
    bad.has_heard_nothing();
    assert_eq!((superd.service("x")["started"].as_u64(), dropped(&superd)), (Some(2), 3));
}

#[test]
fn a_server_that_runs_gets_the_rules_of_a_reload() {
    let superd = Superd::with(&waiting(UDP, MANY, ""));
    check_superd(&superd, &["127.0.0.2", "127.0.0.3"], &[]);
    superd.reload_with(&waiting(UDP, MANY, "deny = [\"127.0.0.2\"]"));
    check_superd(&superd, &["127.0.0.3"], &["127.0.0.2"]);
    superd.reload_with(&waiting(UDP, MANY, "allow = [\"127.0.0.2\"]"));
    check_superd(&superd, &["127.0.0.2"], &["127.0.0.3"]);
    superd.reload_with(&waiting(UDP, MANY, ""));
    check_superd(&superd, &["127.0.0.2", "127.0.0.3"], &[]);
    superd.until_service("x", "one server", |x| x["started"] == 1);
}

#[test]
fn bans_hold_while_they_last() {
    let superd = Superd::with(&waiting(UDP, MANY, ""));
    let superctl = |words: &str| {
        let output = superd.superctl(&words.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    };
    check_superd(&superd, &["127.0.0.2", "127.0.0.3"], &[]);
    superctl("ban 127.0.0.2");
    check_superd(&superd, &["127.0.0.3"], &["127.0.0.2"]);
    superctl("ban 127.0.0.4/30 --service x");
    check_superd(&superd, &["127.0.0.3", "127.0.0.8"], &["127.0.0.2", "127.0.0.4", "127.0.0.7"]);
    superctl("unban 127.0.0.2");
    check_superd(&superd, &["127.0.0.2"], &["127.0.0.5"]);
    superctl("ban 127.0.0.9 --for 1s");
    let (address, client) = (superd.address("x"), From::at("127.0.0.9"));
    assert!(client.asks_until_answered(address) > 1);
}

/// What a server does to the filter is undone when it has ended.
#[track_caller]
fn check_spoilt(what: &str) {
    let superd = Superd::with(&waiting(UDP, &format!("spoil {what}"), "deny = [\"127.0.0.2\"]"));
    From::at("127.0.0.3").is_answered(superd.address("x"));
    superd.until_idle();
    // A socket that is opened anew is at another port, and drops nothing yet.
    check_superd(&superd, &["127.0.0.3"], &["127.0.0.2"]);
}

#[test]
fn the_filter_is_set_right_after_its_server() {
    check_spoilt("nothing");
    check_spoilt("detach-filter");
    check_spoilt("lock-filter");
}

#[test]
fn a_ban_reaches_a_server_that_has_taken_the_filter_away() {
    let superd = Superd::with(&waiting(UDP, "spoil-on detach-filter", "deny = [\"127.0.0.2\"]"));
    let address = superd.address("x");
    From::at("127.0.0.3").is_answered(address);
    let output = superd.superctl(&["ban", "127.0.0.4"]);
    assert!(output.status.success());
    check_superd(&superd, &["127.0.0.3"], &["127.0.0.2", "127.0.0.4"]);
}

#[test]
fn rules_of_ipv6_hold() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return harness::skipped("IPv6");
    }
    for (rules, is_allowed) in [
        ("deny = [\"::1\"]", false),
        ("deny = [\"::2\"]", true),
        ("deny = [\"::/0\"]", false),
        ("allow = [\"::/127\"]", true),
        ("allow = [\"::/128\", \"0.0.0.0/0\", \"2001:db8::/32\"]", false),
    ] {
        let superd = Superd::with(&waiting("udp6:[::1]:0", MANY, rules));
        let (allowed, refused): (&[&str], &[&str]) =
            if is_allowed { (&["::1"], &[]) } else { (&[], &["::1"]) };
        check_superd(&superd, allowed, refused);
    }
}

#[test]
fn a_thousand_networks_hold_and_are_replaced() {
    let list = |odd: u32| {
        let mut text = String::from("deny = [");
        for n in 0..1000 {
            write!(text, "\"127.{}.{}.{}\",", 1 + (n >> 7), n & 0x7f, 2 + odd).unwrap();
        }
        text + "]"
    };
    let superd = Superd::with(&waiting(UDP, MANY, &list(0)));
    check_superd(
        &superd,
        &["127.0.0.1", "127.1.0.3", "127.8.103.1"],
        &["127.1.0.2", "127.8.103.2", "127.4.5.2"],
    );
    superd.reload_with(&waiting(UDP, MANY, &list(1)));
    check_superd(
        &superd,
        &["127.0.0.1", "127.1.0.2", "127.8.103.2"],
        &["127.1.0.3", "127.8.103.3", "127.4.5.3"],
    );
}

#[test]
fn a_filter_that_has_no_room_refuses_the_reload() {
    needs_root!();
    needs_program!("ip");
    own_network();
    if std::fs::write("/proc/sys/net/core/optmem_max", "20480").is_err() {
        return harness::skipped("a limit for each network");
    }
    let some = |count: u32| {
        let list: Vec<String> =
            (0..count).map(|n| format!("\"127.{}.{}.2\"", 1 + (n >> 7), n & 0x7f)).collect();
        waiting(UDP, MANY, &format!("deny = [{}]", list.join(", ")))
    };
    let superd = Superd::with(&some(100));
    check_superd(&superd, &["127.1.0.1"], &["127.1.0.2"]);
    superd.rewrite(&some(1000));
    let errors = superd.reload().unwrap_err();
    assert!(errors[0].contains("net.core.optmem_max is too small"), "{errors:?}");
    superd.allow_errors("optmem_max");
    check_superd(&superd, &["127.1.0.1", "127.7.0.2"], &["127.1.0.2"]);
    // Both at once have no room.
    superd.reload_with(&some(300));
    check_superd(&superd, &["127.1.0.1"], &["127.1.0.2", "127.3.10.2"]);
    superd.reload_with(&some(299));
    check_superd(&superd, &["127.1.0.1"], &["127.1.0.2", "127.3.10.2"]);
}

#[test]
fn local_follows_the_addresses_of_this_host() {
    needs_root!();
    needs_program!("ip");
    own_network();
    let superd = Superd::with(&waiting("udp4:0.0.0.0:7090", MANY, "allow = [\"local\"]"));
    run(&["ip", "address", "add", "192.0.2.9/32", "dev", "lo"]);
    From::at("192.0.2.9").asks_until_answered("127.0.0.1:7090".parse().unwrap());
    drop(superd);
}

#[test]
fn rules_of_a_group_hold() {
    needs_root!();
    needs_program!("ip");
    own_network();
    run(&["ip", "link", "set", "lo", "multicast", "on"]);
    run(&["ip", "route", "add", "239.0.0.0/8", "dev", "lo"]);
    let superd = Superd::with(&waiting("udp:239.1.2.3:7091%lo", MANY, "allow = [\"127.0.0.2\"]"));
    let group: SocketAddr = "239.1.2.3:7091".parse().unwrap();
    let (good, bad) = (From::at("127.0.0.2"), From::at("127.0.0.3"));
    bad.send(group, "refused");
    good.is_answered(group);
    bad.has_heard_nothing();
    assert_eq!(dropped(&superd), 1);
}

fn echo(more: &str) -> String {
    format!(
        "[daemon]\nhelper_user = \"nobody\"\n[service.x]\nlisten = \"udp4:127.0.0.1:0\"\nbuiltin = \"echo\"\n{more}\n"
    )
}

#[test]
fn rules_hold_for_a_built_in_service() {
    let superd = Superd::with(&echo("deny = [\"127.0.0.2\"]"));
    check_superd(&superd, &["127.0.0.3"], &["127.0.0.2"]);
    superd.reload_with(&echo("allow = [\"127.0.0.2\"]"));
    check_superd(&superd, &["127.0.0.2"], &["127.0.0.3"]);
    assert!(superd.superctl(&["ban", "127.0.0.2"]).status.success());
    let client = From::at("127.0.0.2");
    client.send(superd.address("x"), "banned");
    assert_eq!(dropped(&superd), 3);
}

#[test]
fn rates_hold_for_a_built_in_service() {
    let superd =
        Superd::with(&echo("limits = { rate_per_source = \"1/h burst 2\", rate = \"1/h burst 3\" }"));
    let address = superd.address("x");
    let (one, two) = (From::at("127.0.0.2"), From::at("127.0.0.3"));
    one.is_answered(address);
    one.is_answered(address);
    one.send(address, "too many of one");
    two.is_answered(address);
    two.send(address, "too many of all");
    superd.until_service("x", "two are refused", |x| x["datagrams"]["refused"] == 2);
    one.has_heard_nothing();
    two.has_heard_nothing();
    assert_eq!(superd.service("x")["datagrams"]["answered"], 3);
    superd.reload_with(&echo("limits = { rate_per_source = \"1/h burst 1\" }"));
    // The process of the service hears of it in its own time.
    let asked = one.asks_until_answered(address);
    two.is_answered(address);
    one.send(address, "too many");
    superd.until_service("x", "one more is refused", |x| x["datagrams"]["refused"] == 2 + asked);
}
