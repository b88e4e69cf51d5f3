//! Judging, as the configuration promises it: one row a case. And what files and memory may hold, mutated.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use superd::config::access::{Access, Action, Clauses, Placed, Rule, Rules};
use superd::model::client::Client;
use superd::model::host::HostName;
use superd::model::label::Label;
use superd::model::network::Network;
use superd::model::pattern::ClientPattern;
use superd::model::place::Place;
use superd::model::user::{UserPattern, UserWord};
use superd::model::window::Window;
use superd::policy::explain::explain;
use superd::policy::hours::Hours;
use superd::policy::judge::{Policy, Verdict};
use superd::policy::lint::lint;
use superd::policy::list;
use superd::policy::request::{Fact, Interfaces, Naming, Request, User};
use superd::policy::table::{self, Table};
use superd::policy::tables::Tables;

/// What a test asks: the client, and a word for each fact (`-` is not asked, `!` is failed).
#[derive(Clone, Copy)]
struct Ask {
    client: &'static str,
    name: &'static str,
    user: &'static str,
    ident: &'static str,
}

const fn client(client: &'static str) -> Ask {
    Ask { client, name: "-", user: "-", ident: "-" }
}

impl Ask {
    const fn name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn user(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    const fn ident(self, ident: &'static str) -> Self {
        Self { ident, ..self }
    }

    /// The verdict as one line: `allow`, `deny CAUSE LINE`, `need user`, `allow 3 observed 1 2`.
    fn of(self, access: &Access) -> String {
        let policy = Policy::new(access);
        let (interfaces, tables) = (interfaces(), tables());
        let names = [self.name.parse::<HostName>()];
        let names = names.into_iter().filter_map(Result::ok).collect::<Vec<_>>();
        let mut request = Request::new(who(self.client), noon(), &interfaces);
        request.name = match self.name {
            "-" => Fact::NotAsked,
            "!" => Fact::Failed,
            "none" => Fact::Known(Naming::NoName),
            "mismatch" => Fact::Known(Naming::Mismatch),
            _ => Fact::Known(Naming::Confirmed(&names)),
        };
        request.user = match self.user {
            "-" => Fact::NotAsked,
            "!" => Fact::Failed,
            uid => Fact::Known(User { uid: uid.parse().unwrap(), groups: &[10] }),
        };
        request.ident = match self.ident {
            "-" => Fact::NotAsked,
            "!" => Fact::Failed,
            name => Fact::Known(name),
        };
        let verdict = shown(&policy.judge(&request, &tables));
        assert!(explain(&policy, &request, &tables).to_string().lines().count() > 0);
        verdict
    }
}

fn shown(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::Allow { rule, observed } => {
            let mut text = "allow".to_owned();
            text.extend(rule.map(|rule| format!(" {}", rule.place.line)));
            text.extend(observed.first().map(|_| " observed".to_owned()));
            text.extend(observed.iter().map(|rule| format!(" {}", rule.place.line)));
            text
        }
        Verdict::Deny { cause, place, .. } => format!("deny {} {}", cause.word(), place.line),
        Verdict::Need(needs) => format!("need {}", needs.words()),
    }
}

fn who(text: &str) -> Client {
    match text.strip_prefix("uid:") {
        Some(uid) => Client::User { uid: uid.parse().unwrap(), gid: 100, pid: 1 },
        None => Client::Inet(SocketAddr::new(text.parse().unwrap(), 1234)),
    }
}

/// A Friday.
fn noon() -> SystemTime {
    "2026-11-20T12:00:00Z".parse::<Timestamp>().unwrap().into()
}

fn interfaces() -> Interfaces {
    let own = ["198.51.100.1", "2001:db8:1::1"].map(|own| own.parse::<IpAddr>().unwrap());
    let links = ["198.51.100.0/24", "2001:db8:1::/64"].map(|link| link.parse::<Network>().unwrap());
    Interfaces::new(own, links)
}

fn tables() -> Tables {
    let mut tables = Tables::default();
    let networks = ["192.0.2.0/24", "2001:db8:2::/48"].map(|network| network.parse().unwrap());
    tables.put_set("office".parse().unwrap(), Table::of(&networks));
    for (name, window) in [("day", "08:00-18:00"), ("night", "22:00-06:00")] {
        let hours = Hours::new(vec![window.parse().unwrap()], TimeZone::UTC);
        tables.put_hours(name.parse().unwrap(), hours);
    }
    tables
}

fn place(line: u32) -> Place {
    Place { file: "superd.toml".to_owned(), line }
}

fn patterns(text: &str) -> Vec<ClientPattern> {
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// `alice` is 1000, `wheel` is 10 with the member 1001.
fn users(text: &str) -> Vec<UserPattern> {
    let user = |text: &str| match text.parse().unwrap() {
        UserWord::Name(word) => UserPattern::User { uid: 1000, word },
        UserWord::Uid(uid) => UserPattern::User { uid, word: text.to_owned() },
        UserWord::Group(_) | UserWord::Gid(_) => {
            UserPattern::Group { gid: 10, members: vec![1001], word: text.to_owned() }
        }
        UserWord::Ident(name) => UserPattern::Ident(name),
        UserWord::AnyIdent => UserPattern::AnyIdent,
    };
    text.split_whitespace().map(user).collect()
}

/// deny on line 1, allow on 2, users on 3, hours on 4; an empty text is not said.
fn short(deny: &str, allow: &str, whose: &str, when: &str) -> Access {
    let list =
        |line, text: &str| (!text.is_empty()).then(|| Placed { place: place(line), value: patterns(text) });
    let clauses = Clauses {
        deny: list(1, deny),
        allow: list(2, allow),
        users: (!whose.is_empty()).then(|| Placed { place: place(3), value: users(whose) }),
        hours: (!when.is_empty()).then(|| Placed { place: place(4), value: when.parse().unwrap() }),
    };
    Access { rules: Rules::Short(clauses), ..Access::default() }
}

/// A rule a line, from line 1 on: `deny from PATTERNS users USERS hours NAME`; `observe` in place of `deny`
/// observes. The last line is what holds otherwise.
fn ordered(text: &str) -> Access {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (last, rules) = lines.split_last().unwrap();
    let action = |word: &str| if word == "allow" { Action::Allow } else { Action::Deny };
    let rule = |(line, text): (u32, &&str)| {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let part = |key: &str| {
            let (_, part) = rest.split_once(key)?;
            Some(part.split(['{', '}']).nth(1).unwrap().to_owned())
        };
        Rule {
            place: place(line),
            from: part("from").map(|text| patterns(&text)),
            users: part("users").map(|text| users(&text)),
            hours: part("hours").map(|text| text.parse().unwrap()),
            action: action(word),
            observe: word == "observe",
            banner: None,
            log: None,
        }
    };
    let otherwise = Placed { place: place(99), value: action(last) };
    let rules = (1..).zip(rules).map(rule).collect();
    Access { rules: Rules::Ordered { rules, otherwise }, ..Access::default() }
}

#[track_caller]
fn check(access: &Access, rows: &[(Ask, &str)]) {
    for (ask, expected) in rows {
        let Ask { client, name, user, ident } = ask;
        assert_eq!(ask.of(access), *expected, "{client} name {name} user {user} ident {ident}");
    }
}

#[test]
fn nothing_said_is_open() {
    check(&Access::default(), &[(client("192.0.2.1"), "allow"), (client("uid:0"), "allow")]);
}

#[test]
fn addresses_match() {
    check(
        &short("", "192.0.2.0/24 2001:db8::1 ::ffff:10.0.0.0/104", "", ""),
        &[
            (client("192.0.2.7"), "allow"),
            (client("::ffff:192.0.2.7"), "allow"),
            (client("10.9.9.9"), "allow"),
            (client("2001:db8::1"), "allow"),
            (client("2001:db8::2"), "deny address 2"),
            (client("192.0.3.0"), "deny address 2"),
            (client("uid:0"), "deny address 2"),
        ],
    );
    check(&short("", "any", "", ""), &[(client("2001:db8::2"), "allow"), (client("uid:7"), "allow")]);
    check(&short("", "unix", "", ""), &[(client("::1"), "deny address 2"), (client("uid:7"), "allow")]);
    check(
        &short("", "local", "", ""),
        &[
            (client("127.9.9.9"), "allow"),
            (client("::1"), "allow"),
            (client("198.51.100.1"), "allow"),
            (client("::ffff:198.51.100.1"), "allow"),
            (client("2001:db8:1::1"), "allow"),
            (client("198.51.100.2"), "deny address 2"),
        ],
    );
    check(
        &short("", "link", "", ""),
        &[
            (client("198.51.100.2"), "allow"),
            (client("2001:db8:1::2"), "allow"),
            (client("2001:db8:1:1::2"), "deny address 2"),
        ],
    );
    check(
        &short("@office", "", "", ""),
        &[
            (client("192.0.2.7"), "deny address 1"),
            (client("::ffff:192.0.2.7"), "deny address 1"),
            (client("2001:db8:2::"), "deny address 1"),
            (client("192.0.3.7"), "allow"),
        ],
    );
    // A set that is not there is not known: nobody passes by it, and nobody comes in by it.
    check(&short("@gone", "", "", ""), &[(client("192.0.2.7"), "deny undecided 1")]);
    check(&short("", "@gone", "", ""), &[(client("192.0.2.7"), "deny undecided 2")]);
}

/// From sixteen on, networks become a table: nothing else changes.
#[test]
fn long_lists_match_as_short_ones_do() {
    let many: Vec<String> = (0..40).map(|n| format!("10.0.{n}.0/24")).collect();
    check(
        &short("", &format!("{} host.example.org unix", many.join(" ")), "", ""),
        &[
            (client("10.0.39.1"), "allow"),
            (client("::ffff:10.0.0.1"), "allow"),
            (client("10.0.40.1"), "need the name"),
            (client("10.0.40.1").name("host.example.org"), "allow"),
            (client("uid:1"), "allow"),
        ],
    );
}

#[test]
fn names_match_when_they_are_confirmed() {
    let allow = short("", "host.example.org .example.com", "", "");
    let deny = short("host.example.org .example.com", "", "", "");
    for (name, by_allow, by_deny) in [
        ("-", "need the name", "need the name"),
        ("host.example.org", "allow", "deny name 1"),
        ("HOST.example.org.", "allow", "deny name 1"),
        ("a.b.example.com", "allow", "deny name 1"),
        ("example.com", "deny name 2", "allow"),
        ("other.example.org", "deny name 2", "allow"),
        ("none", "deny name 2", "allow"),
        ("mismatch", "deny name 2", "allow"),
        ("!", "deny undecided 2", "deny undecided 1"),
    ] {
        check(&allow, &[(client("192.0.2.1").name(name), by_allow)]);
        check(&deny, &[(client("192.0.2.1").name(name), by_deny)]);
    }
    let unknown = short("unknown", "", "", "");
    let paranoid = short("paranoid", "", "", "");
    for (name, by_unknown, by_paranoid) in [
        ("-", "need the name", "need the name"),
        ("host.example.org", "allow", "allow"),
        ("none", "deny name 1", "allow"),
        ("mismatch", "deny name 1", "deny name 1"),
        ("!", "deny undecided 1", "deny undecided 1"),
    ] {
        check(&unknown, &[(client("192.0.2.1").name(name), by_unknown)]);
        check(&paranoid, &[(client("192.0.2.1").name(name), by_paranoid)]);
    }
    // By a unix socket there is no name to ask for.
    check(&unknown, &[(client("uid:5"), "allow")]);
    check(&allow, &[(client("uid:5"), "deny name 2")]);
}

#[test]
fn users_match() {
    check(
        &short("", "", "alice group:wheel", ""),
        &[
            (client("uid:1000"), "allow"),
            (client("uid:1001"), "allow"),
            (client("uid:0"), "deny user 3"),
            (client("127.0.0.1"), "need the user"),
            (client("198.51.100.1"), "need the user"),
            (client("127.0.0.1").user("1000"), "allow"),
            (client("127.0.0.1").user("7"), "allow"),
            (client("127.0.0.1").user("!"), "deny undecided 3"),
            // Of somebody elsewhere the kernel knows nothing: nobody asks it.
            (client("192.0.2.1"), "deny undecided 3"),
        ],
    );
    check(&short("", "", "uid:1002", ""), &[(client("127.0.0.1").user("7"), "deny user 3")]);
    check(
        &short("", "", "alice ident:bob", ""),
        &[
            (client("192.0.2.1"), "need the ident answer"),
            (client("127.0.0.1"), "need the user"),
            (client("127.0.0.1").user("7"), "need the ident answer"),
            (client("192.0.2.1").ident("bob"), "allow"),
            (client("192.0.2.1").ident("Bob"), "deny undecided 3"),
            (client("127.0.0.1").user("7").ident("eve"), "deny user 3"),
            (client("192.0.2.1").ident("!"), "deny undecided 3"),
            (client("uid:5"), "deny undecided 3"),
        ],
    );
    check(&short("", "", "ident:*", ""), &[(client("192.0.2.1").ident("eve"), "allow")]);
}

#[test]
fn hours_hold() {
    check(&short("", "", "", "day"), &[(client("192.0.2.1"), "allow")]);
    check(&short("", "", "", "night"), &[(client("192.0.2.1"), "deny hours 4")]);
    check(&short("", "", "", "gone"), &[(client("192.0.2.1"), "deny undecided 4")]);
}

#[test]
fn sessions_know_the_hours_that_let_them_in() {
    let (interfaces, tables) = (interfaces(), tables());
    let request = Request::new(who("192.0.2.1"), noon(), &interfaces);
    for (access, expected) in [
        (short("", "", "", "day"), Some("day")),
        (short("", "any", "", ""), None),
        (ordered("deny hours {night}\nallow from {any} hours {day}\nallow"), Some("day")),
        (ordered("deny hours {night}\nallow"), None),
    ] {
        let policy = Policy::new(&access);
        let Verdict::Allow { rule, .. } = policy.judge(&request, &tables) else { panic!("it may") };
        assert_eq!(policy.hours(rule).map(Label::as_str), expected);
    }
}

/// What refuses by itself, or can't be told, leaves nothing to ask.
#[test]
fn cheap_tests_decide_before_dear_ones() {
    let named = client("192.0.2.1");
    check(&short("", "host.example.org", "", "night"), &[(named, "deny hours 4")]);
    check(&short("192.0.2.1", "host.example.org", "ident:bob", ""), &[(named, "deny address 1")]);
    check(&short("host.example.org 192.0.2.1", "", "", ""), &[(named, "deny address 1")]);
    check(&short("", "host.example.org 192.0.2.1", "", ""), &[(named, "allow")]);
    check(&short("", "host.example.org", "alice", ""), &[(named, "deny undecided 3")]);
    check(
        &short("", "host.example.org", "alice ident:bob", ""),
        &[
            (client("127.0.0.1"), "need the user"),
            (client("127.0.0.1").user("1000"), "need the name"),
            (client("127.0.0.1").user("1"), "need the name"),
            (client("127.0.0.1").user("1").name("host.example.org"), "need the ident answer"),
            (client("127.0.0.1").user("1").name("none"), "deny name 2"),
        ],
    );
}

#[test]
fn the_first_rule_that_matches_wins() {
    check(
        &ordered(
            "deny from {192.0.2.7}
            allow from {@office} hours {day}
            allow from {any} hours {night}
            deny from {any} users {alice}
            deny",
        ),
        &[
            (client("192.0.2.7"), "deny address 1"),
            (client("192.0.2.8"), "allow 2"),
            (client("uid:1000"), "deny user 4"),
            (client("uid:1"), "deny address 99"),
            (client("127.0.0.1"), "deny address 99"),
        ],
    );
    check(&ordered("allow"), &[(client("192.0.2.7"), "allow")]);
    check(&ordered("deny"), &[(client("192.0.2.7"), "deny address 99")]);
    check(&ordered("deny hours {day}\nallow"), &[(client("192.0.2.7"), "deny hours 1")]);
}

#[test]
fn what_is_unknown_never_lets_in_and_never_lets_by() {
    let asked = client("192.0.2.1");
    let allow = ordered("allow from {host.example.org}\ndeny");
    check(&allow, &[(asked, "need the name"), (asked.name("!"), "deny undecided 1")]);
    check(&allow, &[(asked.name("none"), "deny address 99"), (asked.name("host.example.org"), "allow 1")]);
    let deny = ordered("deny from {host.example.org}\nallow");
    check(&deny, &[(asked, "need the name"), (asked.name("!"), "deny undecided 1")]);
    check(&deny, &[(asked.name("none"), "allow"), (asked.name("host.example.org"), "deny name 1")]);
    check(&ordered("deny users {alice}\nallow"), &[(asked, "deny undecided 1")]);
    check(&ordered("deny hours {gone}\nallow"), &[(asked, "deny undecided 1")]);
    check(&ordered("allow hours {gone}\nallow from {@office}\ndeny"), &[(asked, "allow 2")]);
    // What is certain beside the doubt decides.
    check(&ordered("deny from {10.0.0.0/8} users {alice}\nallow"), &[(asked, "allow")]);
    check(&ordered("deny from {host.example.org 192.0.2.1}\nallow"), &[(asked.name("!"), "deny address 1")]);
}

#[test]
fn only_what_matters_is_asked() {
    let asked = client("192.0.2.1");
    check(&ordered("allow from {host.example.org}\nallow"), &[(asked, "allow")]);
    check(&ordered("deny from {host.example.org}\ndeny"), &[(asked, "deny address 99")]);
    check(
        &ordered("deny from {host.example.org}\ndeny from {192.0.2.1}\nallow"),
        &[(asked, "deny address 2")],
    );
    check(&ordered("allow from {192.0.2.1}\ndeny from {host.example.org}\ndeny"), &[(asked, "allow 1")]);
    check(&ordered("deny from {host.example.org} hours {night}\nallow"), &[(asked, "allow")]);
    let both = ordered("allow users {ident:bob}\ndeny from {host.example.org}\nallow");
    check(&both, &[(asked, "need the name"), (asked.name("none"), "allow")]);
    let named = asked.name("host.example.org");
    check(&both, &[(named, "need the ident answer"), (named.ident("bob"), "allow 1")]);
    check(&both, &[(named.ident("eve"), "deny name 2"), (named.ident("!"), "deny undecided 1")]);
}

#[test]
fn what_observes_decides_nothing() {
    let asked = client("192.0.2.1");
    check(
        &ordered(
            "observe from {@office}\nobserve from {10.0.0.0/8}\nobserve\nallow from {any}\nobserve\ndeny",
        ),
        &[(asked, "allow 4 observed 1 3"), (client("10.0.0.1"), "allow 4 observed 2 3")],
    );
    let named = ordered("observe from {host.example.org}\nallow");
    check(&named, &[(asked, "need the name"), (asked.name("none"), "allow")]);
    check(&named, &[(asked.name("!"), "allow observed 1")]);
    check(&ordered("observe from {host.example.org}\ndeny"), &[(asked, "deny address 99")]);
}

#[test]
fn an_explanation_names_each_step() {
    let access =
        ordered("deny from {10.0.0.0/8}\nallow from {@office .example.org} hours {day} users {alice}\ndeny");
    let (interfaces, tables) = (interfaces(), tables());
    let request = Request::new(who("192.0.2.1"), noon(), &interfaces);
    let explanation = explain(&Policy::new(&access), &request, &tables);
    let expected = "\
superd.toml:1: from: no
superd.toml:1: rule deny: no
superd.toml:2: from: yes: @office
superd.toml:2: hours day: yes: day
superd.toml:2: users: unknown: alice, no user of this machine is known
superd.toml:2: rule allow: unknown: no user of this machine is known
superd.toml:99: otherwise deny: yes
refused by superd.toml:2: undecided, no user of this machine is known";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    for (access, expected) in [
        (short("192.0.2.1", "any", "", ""), ""),
        (
            short("", "10.0.0.0/8 192.0.2.1 10.1.0.0/16", "", ""),
            "2 duplicate: `10.1.0.0/16` adds nothing to `10.0.0.0/8`",
        ),
        (short("", "@a @a", "", ""), "2 duplicate: `@a` is said twice"),
        (short("", "::ffff:10.0.0.1 10.0.0.1", "", ""), "2 duplicate: `10.0.0.1` is said twice"),
        (
            short("", "any 10.0.0.1", "", ""),
            "2 duplicate: `any` is every client: the rest of the list adds nothing",
        ),
        (short("any", "", "", ""), "1 nobody: `deny` matches every client: nobody may use the service"),
        (
            short("10.0.0.0/8", "10.1.0.0/16", "", ""),
            "2 shadowed: `10.1.0.0/16` of `allow` is refused by `10.0.0.0/8` of `deny`, which comes first",
        ),
        (
            short("", ".example.org", "", ""),
            "2 asks-name: `.example.org`: the name of a client must be asked for",
        ),
        (
            short(".example.org", "", "", ""),
            "1 asks-name: `.example.org`: the name of a client must be asked for
1 deny-by-name: a client is refused by its name alone: without a name it is not",
        ),
        (short("unknown", "", "", ""), "1 asks-name: `unknown`: the name of a client must be asked for"),
        (
            ordered("deny from {10.0.0.0/8}\nallow from {10.1.0.0/16}\nallow"),
            "2 unreachable: this rule is never reached: whoever it matches is matched at superd.toml:1",
        ),
        (ordered("deny from {10.0.0.0/8} hours {day}\nallow from {10.1.0.0/16}\nallow"), ""),
        (ordered("observe from {10.0.0.0/8}\nallow from {10.1.0.0/16}\ndeny"), ""),
        (
            ordered("allow\ndeny\ndeny"),
            "2 unreachable: this rule is never reached: whoever it matches is matched at superd.toml:1
99 unreachable: `otherwise` is never reached: the rule at superd.toml:1 matches everybody",
        ),
    ] {
        let warnings = lint(&access);
        let lines: Vec<String> = warnings
            .iter()
            .map(|warning| format!("{} {}: {}", warning.place.line, warning.code, warning.message))
            .collect();
        assert_eq!(lines.join("\n"), expected);
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    /// Addresses that are near each other, so that networks meet, touch and cover one another.
    fn address(&mut self) -> IpAddr {
        const EDGES: [u32; 5] = [0, 0x0a00_0000, 0x7fff_fff0, 0xffff_ff00, 0xffff_ffff];
        let near = u32::try_from(self.next() & 0xfff).unwrap();
        let edge = EDGES[self.below(EDGES.len())];
        let word = if self.below(4) == 0 { u32::try_from(self.next() >> 32).unwrap() } else { edge ^ near };
        match self.below(4) {
            0 => Ipv4Addr::from_bits(word).into(),
            1 => Ipv6Addr::from_bits(0xffff_0000_0000 | u128::from(word)).into(),
            2 => Ipv6Addr::from_bits(u128::from(word) << 64 | 0x2001_0db8 << 96).into(),
            _ => Ipv6Addr::from_bits(u128::from(word) | u128::from(self.next() % 3) << 64).into(),
        }
    }

    fn network(&mut self) -> Network {
        let address = self.address();
        let width = if address.is_ipv4() { 32 } else { 128 };
        let cut = if self.below(30) == 0 { self.below(width + 1) } else { self.below(12) };
        Network::around(address, u8::try_from(width - cut).unwrap())
    }
}

#[test]
fn a_table_answers_as_its_networks_do() {
    let mut random = Random(0x7ab1e);
    for round in 0..300 {
        let count = [0, 1, 2, 9, 17, 40, 300][round % 7];
        let networks: Vec<Network> = (0..count).map(|_| random.network()).collect();
        let table = Table::open(table::build(&networks)).unwrap();
        let edges = networks.iter().map(Network::address).collect::<Vec<_>>();
        for address in (0..300).map(|_| random.address()).chain(edges) {
            let expected = networks.iter().any(|network| network.contains(address));
            assert_eq!(table.contains(address), expected, "{address} in {networks:?}");
        }
    }
}

#[test]
fn a_large_table_is_small_and_right() {
    let mut random = Random(0x1a46e);
    let addresses: Vec<u32> = (0..1_000_000).map(|_| u32::try_from(random.next() >> 32).unwrap()).collect();
    let networks: Vec<Network> =
        addresses.iter().map(|bits| Network::host(Ipv4Addr::from_bits(*bits).into())).collect();
    let table = Table::of(&networks);
    assert!(table.size() <= 20 << 20, "{} bytes", table.size());
    let mut sorted = addresses.clone();
    sorted.sort_unstable();
    for bits in addresses.iter().take(10_000).flat_map(|bits| [*bits, bits.wrapping_add(1), bits ^ 0x8000]) {
        let expected = sorted.binary_search(&bits).is_ok();
        assert_eq!(table.contains(Ipv4Addr::from_bits(bits).into()), expected, "{bits:#x}");
    }
}

/// Whatever stands in the memory of a table: it opens or not, and answers or not, and nothing panics.
#[test]
fn no_bytes_of_a_table_panic() {
    let mut random = Random(0xb17e5);
    let networks: Vec<Network> = (0..200).map(|_| random.network()).collect();
    let good = table::build(&networks);
    let mut opened = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = if random.below(2) == 0 { random.below(48) } else { random.below(bytes.len()) };
            match random.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.resize(at * 2, 0xff),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = u8::try_from(random.below(256)).unwrap();
                    }
                }
            }
        }
        if let Ok(table) = Table::open(bytes) {
            opened += 1;
            for _ in 0..20 {
                let _ = table.contains(random.address());
            }
        }
    }
    assert!(opened > 1000, "{opened} of them opened: the mutations are too coarse");
}

#[test]
fn no_text_panics() {
    const WORDS: [&str; 16] = [
        "192.0.2.0/24",
        "::ffff:0:0/96",
        "#",
        "\n",
        "/",
        ":",
        "-",
        ",",
        "24:00",
        "Mon-Fri",
        "Sun",
        "ü",
        "\0",
        "99999999999999999999",
        " ",
        "::",
    ];
    let mut random = Random(0x7e47);
    for _ in 0..50_000 {
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..random.below(8) {
            bytes.extend_from_slice(WORDS[random.below(WORDS.len())].as_bytes());
            if random.below(8) == 0 {
                bytes.push(u8::try_from(random.below(256)).unwrap());
            }
        }
        if let Ok(networks) = list::parse(&bytes, 3) {
            let table = Table::of(&networks);
            assert!(networks.iter().all(|network| table.contains(network.address())));
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(window) = text.parse::<Window>() {
            assert_eq!(window.to_string().parse::<Window>().as_ref(), Ok(&window));
        }
        if let Ok(pattern) = text.parse::<ClientPattern>() {
            assert_eq!(pattern.to_string().parse::<ClientPattern>().as_ref(), Ok(&pattern));
        }
        let _ = text.parse::<UserWord>();
    }
}

/// Every change that is foretold is one, and none is left out.
#[test]
fn changes_of_hours_are_complete() {
    let mut random = Random(0x0c10c);
    for zone in ["Europe/Warsaw", "America/New_York", "Australia/Lord_Howe", "UTC"] {
        for _ in 0..40 {
            let windows: Vec<Window> = (0..=random.below(3)).map(|_| window(&mut random)).collect();
            let hours = Hours::new(windows.clone(), TimeZone::get(zone).unwrap());
            let start = 1_774_000_000 + random.below(30_000_000) as u64;
            let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(start - start % 60);
            let foretold = hours.next_change(now);
            let before = hours.is_inside(now);
            // Windows and jumps of the clock are at whole minutes.
            for _ in 0..3 * 24 * 60 {
                now += Duration::from_mins(1);
                if hours.is_inside(now) != before {
                    assert_eq!(foretold, Some(now), "{zone} {windows:?}");
                    break;
                }
                assert!(foretold.is_none_or(|at| at > now), "{zone} {windows:?} {foretold:?}");
            }
        }
    }
}

fn window(random: &mut Random) -> Window {
    const DAYS: [&str; 5] = ["", "Mon-Fri ", "Sat,Sun ", "Fri-Mon ", "Sun "];
    loop {
        let mut time = || format!("{:02}:{:02}", random.below(24), random.below(4) * 15);
        let (start, end) = (time(), time());
        let text = format!("{}{start}-{end}", DAYS[random.below(DAYS.len())]);
        if let Ok(window) = text.parse() {
            return window;
        }
    }
}
