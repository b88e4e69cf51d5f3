//! Both tables together: what is refused at load, what is decided, what is asked for, and that no text does harm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::request::{End, Member, Naming, Netgroup, User};
use super::*;

/// Files in memory, and one user.
#[derive(Default)]
pub(super) struct World {
    files: BTreeMap<String, Vec<u8>>,
}

impl World {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| ((*path).to_owned(), text.as_bytes().to_vec());
        Self { files: files.iter().map(file).collect() }
    }
}

impl Surroundings for World {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.files.get(path).cloned().ok_or_else(|| "No such file or directory".to_owned())
    }

    fn has_user(&mut self, name: &str) -> bool {
        name == "nobody"
    }

    fn has_group(&mut self, name: &str) -> bool {
        name == "nogroup"
    }
}

const FILES: &[(&str, &str)] = &[("/ban", "192.0.2.1 [2001:db8::]/32\n.bad.example\n"), ("/dead", "10.1")];

/// The tables, and what is said about them.
fn compile(allow: &str, deny: &str) -> (Option<Tables>, Vec<String>) {
    let mut report = Report::default();
    let tables = Tables::compile(
        ("hosts.allow", TableText::Text(allow.as_bytes())),
        ("hosts.deny", TableText::Text(deny.as_bytes())),
        &mut World::with(FILES),
        &mut report,
    );
    let (errors, warnings) = report.complaints();
    (tables, errors.into_iter().chain(warnings).map(|complaint| complaint.line).collect())
}

/// A client: its address, its names (`unknown`, `paranoid` and `failed` are what they say), its user.
type Client<'a> = (&'a str, &'a str, &'a str);

const SOMEBODY: Client<'_> = ("10.1.2.3", "pc1.win.tue.nl", "unknown");

/// Everything is known from the start.
fn decide<'t>(tables: &'t Tables, daemon: &str, client: Client<'_>) -> Answer<'t> {
    let address = |ip: &str| ip.parse().ok().map(|ip| SocketAddr::new(ip, 4711));
    let local: SocketAddr = "192.0.2.80:22".parse().unwrap();
    let request = Request { daemon, client: address(client.0), local: Some(local) };
    let naming = match client.1 {
        "unknown" => Naming::Unknown,
        "failed" => Naming::Failed,
        names => Naming::confirmed(names.split('|')),
    };
    let user = if client.2 == "failed" { User::Failed } else { User::named(client.2) };
    let member = || Member::Host("pc1.win.tue.nl".to_owned());
    let in_group = |group: &str, is| (Netgroup { group: group.to_owned(), member: member() }, Some(is));
    let facts = Facts {
        client_name: Some(naming),
        local_name: Some(Naming::confirmed(["www.example"])),
        user: Some(user),
        netgroups: vec![in_group("staff", true), in_group("guests", false)],
    };
    tables.decide(&request, &facts)
}

/// The client in the form that a list of hosts names it: does `ALL: list` match it, where the rest is refused?
#[track_caller]
fn check(list: &str, client: Client<'_>, expected: bool) {
    check_rule(&format!("ALL: {list}"), "sshd", client, expected);
}

#[track_caller]
fn check_rule(rule: &str, daemon: &str, client: Client<'_>, expected: bool) {
    let (tables, said) = compile(&format!("{rule}\n"), "ALL: ALL\n");
    let tables = tables.unwrap_or_else(|| panic!("{rule}: {said:?}"));
    let Answer::Decided(decision) = decide(&tables, daemon, client) else { panic!("{rule} needs more") };
    assert_eq!(decision.is_allowed(), expected, "{rule} {client:?}: {:?}", decision.because);
}

#[test]
fn addresses_match() {
    let at = |address| (address, "unknown", "unknown");
    for (list, address, expected) in [
        ("10.1.2.3", "10.1.2.3", true),
        ("10.1.2.3", "::ffff:10.1.2.3", true),
        ("10.1.2.4", "10.1.2.3", false),
        ("10.", "10.1.2.3", true),
        ("10.1.", "10.11.2.3", false),
        ("10", "10.1.2.3", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("10.1.2.2/31", "10.1.2.3", true),
        ("10.1.2.4/31", "10.1.2.3", false),
        ("131.155.72.0/255.255.254.0", "131.155.73.9", true),
        ("131.155.72.0/255.255.254.0", "131.155.74.0", false),
        ("10.0.2.0/255.0.255.0", "10.1.2.3", true),
        ("10.0.3.0/255.0.255.0", "10.1.2.3", false),
        ("0.0.0.0/0.0.0.0", "10.1.2.3", true),
        ("0.0.0.0/0", "10.1.2.3", false),
        ("10.1.*", "10.1.2.3", true),
        ("10.1.2.?", "10.1.2.3", true),
        ("10.1.2.?", "10.1.2.33", false),
        ("[2001:db8:1:2::55]", "2001:DB8:1:2::55", true),
        ("[2001:db8:1:2::99]/64", "2001:db8:1:2::55", true),
        ("[2001:db8:1:2::]/63", "2001:db8:1:4::1", false),
        ("[::]/0", "2001:db8::1", true),
        ("[::]/0", "10.1.2.3", false),
        ("[::ffff:0:0]/96", "10.1.2.3", false),
        ("2001?db8?1?2?*", "2001:db8:1:2::55", true),
        ("127.0.0.1", "::1", false),
        ("/ban", "192.0.2.1", true),
        ("/ban", "2001:db8:ffff::1", true),
        ("/ban", "192.0.2.2", false),
        ("ALL", "none", true),
        ("*", "none", true),
        ("10.", "none", false),
        ("UNKNOWN", "none", true),
        (" 192.0.2.1 ,\t10.1.2.3,,", "10.1.2.3", true),
    ] {
        check(list, at(address), expected);
    }
}

#[test]
fn names_match() {
    for (list, name, expected) in [
        ("PC1.Win.TUE.nl", "pc1.win.tue.nl", true),
        (".tue.nl", "pc1.win.tue.nl.", true),
        (".tue.nl", "evil-tue.nl", false),
        ("tue.nl", "pc1.win.tue.nl", false),
        ("pc1.", "pc1.win.tue.nl", true),
        ("*.tue.nl", "pc1.win.tue.nl", true),
        ("/ban", "x.bad.example", true),
        ("@staff", "pc1.win.tue.nl", true),
        ("@guests", "pc1.win.tue.nl", false),
        ("@staff", "unknown", false),
        ("LOCAL", "pc1", true),
        ("LOCAL", "pc1.win.tue.nl", false),
        ("LOCAL", "paranoid", false),
        ("KNOWN", "pc1.win.tue.nl", true),
        ("KNOWN", "unknown", false),
        ("KNOWN", "paranoid", false),
        ("KNOWN", "failed", false),
        ("UNKNOWN", "unknown", true),
        ("UNKNOWN", "failed", true),
        ("UNKNOWN", "paranoid", false),
        ("PARANOID", "paranoid", true),
        ("PARANOID", "unknown", false),
        ("ALL EXCEPT PARANOID", "paranoid", false),
        ("FAIL", "fail", true),
        // Of several names each leads back.
        (".tue.nl", "x.example|pc1.win.tue.nl", true),
        ("ALL EXCEPT .bad.example", "x.example|pc.bad.example", false),
        // A client chooses its name: none is matched by what looks like an address.
        ("10.9.9.9", "10.9.9.9", false),
        ("10.9.", "10.9.9.9.evil.example", false),
        ("10.9.*", "10.9.9.9.evil.example", false),
        ("*", "unknown", true),
        ("*known", "unknown", false),
    ] {
        check(list, ("10.1.2.3", name, "unknown"), expected);
    }
}

#[test]
fn users_match() {
    for (list, user, expected) in [
        ("joe@10.1.2.3", "joe", true),
        ("JOE@ALL", "joe", true),
        ("joe@10.9.9.9", "joe", false),
        ("joe@10.1.2.3", "ann", false),
        ("joe@10.1.2.3", "unknown", false),
        ("KNOWN@ALL", "unknown", false),
        ("UNKNOWN@ALL", "unknown", true),
        ("ALL@ALL", "failed", true),
        ("j*@10.", "joe", true),
        (".adm@ALL", "db.adm", true),
        ("joe@.tue.nl", "joe", true),
        ("ALL@10. EXCEPT root@ALL", "root", false),
        ("ALL@10. EXCEPT root@ALL", "ann", true),
        ("ALL EXCEPT joe@ALL", "failed", false),
    ] {
        check(list, ("10.1.2.3", "pc1.win.tue.nl", user), expected);
    }
    check("joe@[2001:db8::]/32", ("2001:db8::5", "unknown", "joe"), true);
}

#[test]
fn daemons_match() {
    for (rule, expected) in [
        ("sshd: ALL", true),
        ("SSHD: ALL", true),
        ("ftpd, sshd imapd: ALL", true),
        ("ssh: ALL", false),
        ("in.: ALL", false),
        ("s*: ALL", true),
        ("KNOWN: ALL", true),
        ("LOCAL: ALL", false),
        ("/usr/sbin/sshd: ALL", false),
        ("22: ALL", true),
        ("23: ALL", false),
        ("ALL EXCEPT sshd: ALL", false),
        ("ALL EXCEPT ftpd: 10. EXCEPT 10.9.", true),
        ("sshd@192.0.2.80: ALL", true),
        ("sshd@192.0.2.81: ALL", false),
        ("sshd@www.example: ALL", true),
        ("ALL@.example: ALL", true),
        ("sshd@[2001:db8::1]: ALL", false),
    ] {
        check_rule(rule, "sshd", SOMEBODY, expected);
    }
}

#[test]
fn the_first_rule_decides() {
    for (allow, deny, expected) in [
        ("", "", (true, None)),
        ("ALL: ALL\n", "ALL: ALL\n", (true, Some("hosts.allow:1"))),
        ("ALL: 192.0.2.1\n", "ALL: 192.0.2.2\n", (true, None)),
        ("", "# all of them\nALL: 10.\n", (false, Some("hosts.deny:2"))),
        ("ALL: 10.1.2.3 : deny\nALL: 10. : allow\n", "", (false, Some("hosts.allow:1"))),
        ("", "ALL: 10. : ALLOW\nALL: ALL\n", (true, Some("hosts.deny:1"))),
        ("sshd: 10.9.9.9\nftpd: 10.1.2.3\n", "ALL: ALL\n", (false, Some("hosts.deny:1"))),
        ("ALL: .friendly.domain: ALLOW\nALL: ALL: DENY\n", "", (false, Some("hosts.allow:2"))),
        ("\nALL: 192.0.2.1 \\\n  10.1.2.3\n", "ALL: ALL\n", (true, Some("hosts.allow:2"))),
        ("ALL: 10.1.2.3\r\n", "ALL: ALL\r\n", (true, Some("hosts.allow:1"))),
        ("ALL:ALL:spawn a\\:b:allow\n", "", (true, Some("hosts.allow:1"))),
        ("ALL: ALL: twist /bin/echo no\n", "", (false, Some("hosts.allow:1"))),
    ] {
        let (tables, said) = compile(allow, deny);
        let tables = tables.unwrap_or_else(|| panic!("{said:?}"));
        let Answer::Decided(decision) = decide(&tables, "sshd", SOMEBODY) else { panic!("{allow:?}") };
        let place = match decision.because {
            Because::Rule(place) => Some(place.to_string()),
            _ => None,
        };
        assert_eq!((decision.is_allowed(), place.as_deref()), expected, "{allow:?} {deny:?}");
    }
}

/// A rule that refuses takes what can't be told for a yes, one that allows for a no.
#[test]
fn a_failed_look_up_opens_nothing() {
    for (allow, deny, name, expected) in [
        ("", "ALL: .evil.example\n", "paranoid", false),
        ("", "ALL: .evil.example\n", "failed", false),
        ("", "ALL: .evil.example\n", "unknown", true),
        ("", "ALL: .evil.example\n", "pc1.win.tue.nl", true),
        ("ALL: 10. EXCEPT bad.example\n", "ALL: ALL\n", "paranoid", false),
        ("ALL: 10. EXCEPT bad.example\n", "ALL: ALL\n", "unknown", true),
        ("ALL: .tue.nl\n", "ALL: ALL\n", "failed", false),
        ("", "ALL: ALL EXCEPT .tue.nl\n", "failed", false),
        ("", "ALL: @guests\n", "failed", false),
        ("", "ALL: PARANOID\n", "failed", false),
        ("ALL: .tue.nl : deny\n", "", "failed", false),
        ("ALL: .tue.nl : twist /bin/echo no\n", "", "failed", false),
    ] {
        let (tables, said) = compile(allow, deny);
        let tables = tables.unwrap_or_else(|| panic!("{said:?}"));
        let Answer::Decided(decision) = decide(&tables, "sshd", ("10.1.2.3", name, "unknown")) else {
            panic!("{deny:?} needs more")
        };
        assert_eq!(decision.is_allowed(), expected, "{allow:?} {deny:?} {name}: {:?}", decision.because);
    }
}

#[test]
fn a_table_that_is_not_there_has_no_rules_and_one_that_cant_be_read_refuses() {
    let all = TableText::Text(b"ALL: ALL\n");
    for (allow, deny, expected) in [
        (TableText::Missing, TableText::Missing, true),
        (TableText::Missing, TableText::Unreadable, false),
        (all, TableText::Unreadable, true),
        (TableText::Unreadable, TableText::Missing, false),
    ] {
        let (mut world, mut report) = (World::default(), Report::default());
        let tables = Tables::compile(("allow", allow), ("deny", deny), &mut world, &mut report).unwrap();
        let Answer::Decided(decision) = decide(&tables, "sshd", SOMEBODY) else { panic!() };
        assert_eq!(decision.is_allowed(), expected, "{allow:?} {deny:?}");
    }
}

/// Look-ups are asked for one after the other, and none that could not change the answer.
#[test]
fn what_is_needed_is_asked_for() {
    let name = || Need::Name(End::Client);
    for (rule, expected) in [
        ("ALL: 10.", None),
        ("ALL: 10. .tue.nl", None),
        ("ALL: .tue.nl 10.", None),
        ("ftpd: .tue.nl", None),
        ("ALL: joe@192.0.2.1", None),
        ("ALL: 10. EXCEPT 10.1.", None),
        ("ALL: 192.0.2.1 EXCEPT .tue.nl", None),
        ("ALL: ALL: spawn echo %a %h %c", None),
        ("ALL: .tue.nl", Some(name())),
        ("ALL: 10. EXCEPT .tue.nl", Some(name())),
        ("ALL: LOCAL", Some(name())),
        ("ALL: joe@10.", Some(Need::User(None))),
        ("ALL: @staff", Some(name())),
        ("ALL@www.example: ALL", Some(Need::Name(End::Local))),
        ("ALL: ALL: spawn echo %n", Some(name())),
        ("ALL: ALL: setenv A %u", Some(Need::User(None))),
        ("ALL: ALL: twist echo %N", Some(Need::Name(End::Local))),
        ("ALL: ALL: rfc931 5", Some(Need::User(Some(Duration::from_secs(5))))),
    ] {
        let (tables, said) = compile(&format!("{rule}\n"), "");
        let tables = tables.unwrap_or_else(|| panic!("{said:?}"));
        let request = Request {
            daemon: "sshd",
            client: "10.1.2.3:5".parse().ok(),
            local: "192.0.2.80:22".parse().ok(),
        };
        let needed = match tables.decide(&request, &Facts::default()) {
            Answer::Need(need) => Some(need),
            Answer::Decided(_) => None,
        };
        assert_eq!(needed, expected, "{rule}");
    }
}

#[test]
fn wrong_lines_are_shown_with_their_place() {
    for (allow, deny, expected) in [
        ("ALL ALL\n", "", "hosts.allow:1:1: a line without a colon"),
        ("", "\nALL = ALL\n", "hosts.deny:2:1: a line without a colon"),
        (": ALL\n", "", "hosts.allow:1:1: a list with nothing in it"),
        ("ALL:\n", "", "hosts.allow:1:5: a list with nothing in it"),
        ("ALL: ALL:\n", "", "hosts.allow:1:10: an empty option"),
        ("ALL: ALL: alow\n", "", "hosts.allow:1:11: no option `alow`"),
        ("ALL: \\\n 192.0.2.1 \\\n 10.0.0.0/33\n", "", "hosts.allow:3:2: what follows `10.0.0.0/`"),
        ("ALL: 2001:db8::1\n", "", "hosts.allow:1:6: an IPv6 address without brackets"),
        ("ALL: joe@::1/128: allow\n", "", "hosts.allow:1:10: an IPv6 address without brackets"),
        ("ALL: [2001:db8::1 ALL : deny\n", "", "hosts.allow:1:6: a bracket that is not closed"),
        ("  # ALL: ALL\n", "", "hosts.allow:1:3: a comment that does not begin in column 1"),
        ("ALL: 192.0.2.1 # office\n", "", "hosts.allow:1:16: `#` can't be a host"),
        ("ALL: EXCEPT 10.\n", "", "hosts.allow:1:6: EXCEPT has nothing"),
        ("ALL: joe@\n", "", "hosts.allow:1:6: a host is missing"),
        ("", "ALL: /nope\n", "hosts.deny:1:6: can't read `/nope`"),
        // What never matches is a warning where it keeps somebody out, and an error where it lets somebody in.
        ("ALL: 10.1\n", "", "hosts.allow:1:6: `10.1` matches nobody"),
        ("", "ALL: 10.1\n", "hosts.deny:1:6: `10.1` matches nobody"),
        ("ALL: ALL EXCEPT 10.1\n", "", "hosts.allow:1:17: `10.1` matches nobody"),
        ("ALL: 10.1 : deny\n", "", "hosts.allow:1:6: `10.1` matches nobody"),
        ("", "ALL: ALL EXCEPT 10.1\n", "hosts.deny:1:17: `10.1` matches nobody"),
        ("", "ALL: /dead\n", "/dead:1:1: `10.1` matches nobody"),
        ("", "/usr/sbin/sshd: ALL\n", "hosts.deny:1:1: `/usr/sbin/sshd` matches nobody"),
        ("", "ALL: .evil.example\n", "hosts.deny:1:1: this refuses clients by their name"),
    ] {
        let (tables, said) = compile(allow, deny);
        let [line] = said.as_slice() else { panic!("{allow:?} {deny:?}: {said:?}") };
        assert!(line.starts_with(expected), "{allow:?} {deny:?}: {line}");
        let warned = ["ALL: 10.1\n", "ALL: ALL EXCEPT 10.1\n", "ALL: .evil.example\n"];
        let is_warning = (warned[0] == allow) || warned[1..].contains(&deny);
        assert_eq!(tables.is_some(), is_warning, "{allow:?} {deny:?}");
    }
}

#[test]
fn tables_survive_the_wire() {
    let allow =
        "sshd@192.0.2.80: joe@.tue.nl /ban @staff EXCEPT 10.0.2.0/255.0.255.0: spawn echo %h: umask 022\n";
    let (tables, _) = compile(allow, "ALL: ALL: twist /bin/echo 421\n");
    let tables = tables.unwrap();
    let wire = serde_json::to_string(&tables).unwrap();
    assert_eq!(serde_json::from_str::<Tables>(&wire).unwrap(), tables);
    assert_eq!(tables.rules().count(), 2);
}

/// A long run of addresses is asked at once, and its first rule decides, as in a short one.
#[test]
fn many_rules_answer_as_few() {
    let line = |n| format!("sshd: 192.0.2.{n} [2001:db8::{n}]\n");
    let ban = |from: u8| (from..from + 50).map(line).collect::<Vec<_>>().concat();
    let text = format!(
        "{}sshd: 192.0.2.0/24: allow\nftpd: 192.0.2.200\n{}sshd: 192.0.2.7: twist echo\nsshd: .a.example\n",
        ban(1),
        ban(1)
    );
    let (tables, said) = compile("", &text);
    let tables = tables.unwrap_or_else(|| panic!("{said:?}"));
    for (daemon, address, name, expected) in [
        ("sshd", "192.0.2.1", "unknown", Some(1)),
        ("sshd", "192.0.2.7", "unknown", Some(7)),
        ("sshd", "192.0.2.50", "unknown", Some(50)),
        ("sshd", "192.0.2.51", "unknown", Some(51)),
        ("sshd", "2001:db8::50", "unknown", Some(50)),
        ("sshd", "2001:db8::51", "unknown", None),
        ("ftpd", "192.0.2.7", "unknown", None),
        ("ftpd", "192.0.2.200", "unknown", Some(52)),
        ("sshd", "10.1.2.3", "x.a.example", Some(104)),
        ("sshd", "none", "unknown", None),
    ] {
        let Answer::Decided(decision) = decide(&tables, daemon, (address, name, "unknown")) else { panic!() };
        let line = match decision.because {
            Because::Rule(place) => Some(place.line),
            _ => None,
        };
        assert_eq!(line, expected, "{daemon} {address}");
    }
}

/// A file of mistakes is not looked at to its end.
#[test]
fn errors_have_a_bound() {
    let (tables, said) = compile(&"ALL\n".repeat(100_000), "");
    assert!(tables.is_none());
    assert_eq!(said.len(), complaints::MAX_ERRORS);
}

const SEEDS: [&str; 6] = [
    "ALL: ALL EXCEPT 10. EXCEPT 10.1.2.3\n",
    "sshd@[2001:db8::1]: joe@[2001:db8::]/32 @staff@10.0.0.0/8\n# comment\n",
    "in.ftpd, 22: .tue.nl pc?.tue.nl 10.1.* /ban UNKNOWN PARANOID: deny\n",
    "ALL: 131.155.72.0/255.255.254.0 \\\n 10.0.2.0/255.0.255.0: severity mail.info: keepalive\r\n",
    "ALL: LOCAL KNOWN: spawn echo %a\\:%h %% %u: setenv A %c: nice 5: umask 022: allow\n",
    "ALL: ALL: rfc931 5: linger 3: banners /x: user nobody.nogroup: twist /bin/echo %s\n",
];

const SPICE: [&str; 24] = [
    ":",
    "\\",
    "\n",
    "\\\n",
    "[",
    "]",
    "@",
    "EXCEPT",
    " ",
    ",",
    "#",
    "%",
    "*",
    "?",
    "/",
    ".",
    "=",
    "\0",
    "\u{feff}",
    "\u{fffd}",
    "é",
    "-1",
    "99999999999999999999",
    "/ban",
];

/// Tables that are nearly right, changed by a fixed generator: they are read or refused, and what is read decides.
#[test]
fn mutated_tables_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below.max(1) as u64).unwrap()
    };
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut text = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..=random(3) {
            let at = random(text.len() + 1);
            match random(5) {
                0 if at < text.len() => text[at] = random(256).try_into().unwrap(),
                1 => drop(text.splice(at..at, SPICE[random(SPICE.len())].bytes())),
                2 => text.truncate(at),
                3 => text.extend_from_within(at..),
                _ => text.extend_from_slice(SEEDS[random(SEEDS.len())].as_bytes()),
            }
        }
        let (mut report, table) = (Report::default(), TableText::Text(&text));
        let (allow, deny) =
            if round % 2 == 0 { (table, TableText::Missing) } else { (TableText::Missing, table) };
        let tables = Tables::compile(("allow", allow), ("deny", deny), &mut World::with(FILES), &mut report);
        assert_eq!(tables.is_some(), !report.has_errors());
        if let Some(tables) = tables {
            read += 1;
            assert!(matches!(decide(&tables, "sshd", SOMEBODY), Answer::Decided(_) | Answer::Need(_)));
        } else {
            refused += 1;
            assert!(!report.rendered(false).is_empty());
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused: the generator is too dull");
}

#[test]
fn rules_tell_whom_they_may_be_about() {
    for (daemons, expected) in [
        ("ALL", true),
        ("in.ftpd", true),
        ("IN.FTPD@192.0.2.80", true),
        ("sshd", false),
        ("sshd 22", true),
        ("ALL EXCEPT in.ftpd", false),
        ("ALL EXCEPT in.ftpd@192.0.2.80", true),
    ] {
        let (tables, said) = compile(&format!("{daemons}: ALL\n"), "");
        let tables = tables.unwrap_or_else(|| panic!("{daemons}: {said:?}"));
        assert_eq!(tables.rules().next().unwrap().may_concern("in.ftpd"), expected, "{daemons}");
    }
}

/// A netgroup that nobody answers for never lets in, and never lets by.
#[test]
fn a_netgroup_without_an_answer_is_doubt() {
    let request = Request { daemon: "sshd", client: "10.1.2.3:4711".parse().ok(), local: None };
    let member = Member::Host("pc1.example".to_owned());
    let facts = |is_member| Facts {
        client_name: Some(Naming::confirmed(["pc1.example"])),
        netgroups: vec![(Netgroup { group: "staff".to_owned(), member: member.clone() }, is_member)],
        ..Facts::default()
    };
    for (allow, yes, no, none) in [
        ("ALL: @staff\n", true, false, false),
        ("ALL: @staff: deny\nALL: ALL\n", false, true, false),
        ("ALL: ALL EXCEPT @staff\n", false, true, false),
    ] {
        let (tables, _) = compile(allow, "ALL: ALL\n");
        for (answer, expected) in [(Some(true), yes), (Some(false), no), (None, none)] {
            let facts = facts(answer);
            let Answer::Decided(decision) = tables.as_ref().unwrap().decide(&request, &facts) else {
                panic!("{allow} needs more")
            };
            assert_eq!(decision.is_allowed(), expected, "{allow}{answer:?}");
        }
    }
}
