//! The resolver's protocol: what the supervisor asks about clients, and the answers.
//!
//! Text packets over a SEQPACKET channel, as in the hand-off protocol: a line each, or several lines with one line
//! feed between; a word, then fields `name=value`. Whatever comes from the name service or from a client's ident
//! server is clean and of bounded length before it becomes an answer.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::model::host::HostName;
use crate::policy::hosts_access::request::{Member, Netgroup};
use crate::policy::request::{Fact, Naming};
use crate::service::record::Told;

use super::handoff::{Fields, Malformed, text};
use super::ident::{IdentName, Reply};

/// The longest packet, either way.
pub const MAX_PACKET: usize = 4096;

/// The longest line, either way.
pub const MAX_LINE: usize = 512;

/// To the resolver. An answer comes within the time that it names, whatever else happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What is the confirmed name of this address?
    Name {
        /// What the question is called on this channel.
        id: u64,
        /// Folded, if it was IPv4-mapped.
        address: IpAddr,
        /// The time that the answer may take, in whole milliseconds.
        within: Duration,
    },
    /// Is somebody in a netgroup?
    Netgroup {
        /// What the question is called on this channel.
        id: u64,
        /// The group, and who.
        netgroup: Netgroup,
        /// The time that the answer may take, in whole milliseconds.
        within: Duration,
    },
    /// What does the client's RFC 1413 server say of this connection?
    Ident {
        /// What the question is called on this channel.
        id: u64,
        /// The client's end.
        client: SocketAddr,
        /// superd's end.
        local: SocketAddr,
        /// The time that the answer may take, in whole milliseconds.
        within: Duration,
    },
}

/// From the resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is there, and takes questions.
    Ready,
    /// What the name service says.
    Name {
        /// Of which question.
        id: u64,
        /// The outcome.
        named: Named,
    },
    /// What the netgroups say.
    Netgroup {
        /// Of which question.
        id: u64,
        /// None: no answer.
        is_member: Option<bool>,
    },
    /// What the client's RFC 1413 server says: its own word.
    Ident {
        /// Of which question.
        id: u64,
        /// The outcome.
        reply: Reply,
    },
}

/// What the name service says of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// The address has this name, and the name this address.
    Confirmed(HostName),
    /// The address has no name.
    NoName,
    /// It has one, which has other addresses or none. Here it is, unless it is none that a host can have.
    Mismatch(Option<HostName>),
    /// The name service is dead or too slow; another time it may know.
    Failed,
}

impl Named {
    /// As the judge takes it.
    pub fn fact(&self) -> Fact<Naming<'_>> {
        match self {
            Self::Confirmed(name) => Fact::Known(Naming::Confirmed(std::slice::from_ref(name))),
            Self::NoName => Fact::Known(Naming::NoName),
            Self::Mismatch(_) => Fact::Known(Naming::Mismatch),
            Self::Failed => Fact::Failed,
        }
    }

    /// As the log says it.
    pub fn told(&self) -> Told<'_> {
        Told { name: self.name().map(HostName::as_str), naming: self.word() }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Confirmed(_) => "confirmed",
            Self::NoName => "none",
            Self::Mismatch(_) => "mismatch",
            Self::Failed => "failed",
        }
    }

    fn name(&self) -> Option<&HostName> {
        match self {
            Self::Confirmed(name) | Self::Mismatch(Some(name)) => Some(name),
            _ => None,
        }
    }
}

/// A name as the name service gives it, which may be any bytes. What reads as an address is none: `getaddrinfo`
/// takes `192.0.2.7`, `3221225991` and `0xc0.2.7` for addresses without asking anybody, and so "confirms" them.
pub fn host_name(bytes: &[u8]) -> Option<HostName> {
    let name: HostName = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    let last = name.as_str().rsplit('.').next()?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = digits(last) || last.strip_prefix("0x").is_some_and(hex);
    (!is_number).then_some(name)
}

impl Question {
    /// What it is called on its channel.
    pub fn id(&self) -> u64 {
        match self {
            Self::Name { id, .. } | Self::Netgroup { id, .. } | Self::Ident { id, .. } => *id,
        }
    }

    /// Appends its line; packets of several lines get a line feed between.
    pub fn push(&self, out: &mut String) {
        separate(out);
        // Writing to a String can't fail.
        let _ = match self {
            Self::Name { id, address, within } => {
                write!(out, "NAME id={id} address={address} within={}", within.as_millis())
            }
            Self::Netgroup { id, netgroup: Netgroup { group, member }, within } => {
                let (kind, who) = match member {
                    Member::Host(host) => ("host", host),
                    Member::User(user) => ("user", user),
                };
                write!(out, "NETGROUP id={id} group={group} {kind}={who} within={}", within.as_millis())
            }
            Self::Ident { id, client, local, within } => {
                write!(out, "IDENT id={id} client={client} local={local} within={}", within.as_millis())
            }
        };
    }

    /// Reads a packet. Any word that is unknown is an error.
    pub fn read(packet: &[u8]) -> Result<Vec<Self>, Malformed> {
        lines(packet)?.map(Self::read_line).collect()
    }

    fn read_line(line: &str) -> Result<Self, Malformed> {
        let (word, fields) = line.split_once(' ').ok_or(Malformed)?;
        let fields = Fields(fields);
        let id = fields.number("id")?;
        let within = fields.time("within")?.ok_or(Malformed)?;
        match word {
            "NAME" => Ok(Self::Name { id, address: fields.number("address")?, within }),
            "NETGROUP" => Ok(Self::Netgroup { id, netgroup: read_netgroup(&fields)?, within }),
            "IDENT" => {
                let (client, local) = (fields.number("client")?, fields.number("local")?);
                Ok(Self::Ident { id, client, local, within })
            }
            _ => Err(Malformed),
        }
    }
}

impl Answer {
    /// Appends its line; packets of several lines get a line feed between.
    pub fn push(&self, out: &mut String) {
        separate(out);
        let _ = match self {
            Self::Ready => write!(out, "READY"),
            Self::Name { id, named } => {
                let name = named.name().map(|name| format!(" name={name}")).unwrap_or_default();
                write!(out, "NAMED id={id} state={}{name}", named.word())
            }
            Self::Netgroup { id, is_member } => {
                let state = is_member.map_or("failed", |yes| if yes { "yes" } else { "no" });
                write!(out, "MEMBER id={id} state={state}")
            }
            Self::Ident { id, reply: Reply::User(name) } => {
                write!(out, "USER id={id} state=user name={name}")
            }
            Self::Ident { id, reply: Reply::NoUser } => write!(out, "USER id={id} state=none"),
            Self::Ident { id, reply: Reply::Failed } => write!(out, "USER id={id} state=failed"),
        };
    }

    /// Reads a packet. Any word that is unknown is an error.
    pub fn read(packet: &[u8]) -> Result<Vec<Self>, Malformed> {
        lines(packet)?.map(Self::read_line).collect()
    }

    fn read_line(line: &str) -> Result<Self, Malformed> {
        let (word, fields) = line.split_once(' ').unwrap_or((line, ""));
        let fields = Fields(fields);
        match word {
            "READY" if line == word => Ok(Self::Ready),
            "NAMED" => Ok(Self::Name { id: fields.number("id")?, named: read_named(&fields)? }),
            "MEMBER" => Ok(Self::Netgroup { id: fields.number("id")?, is_member: read_member(&fields)? }),
            "USER" => Ok(Self::Ident { id: fields.number("id")?, reply: read_reply(&fields)? }),
            _ => Err(Malformed),
        }
    }
}

fn read_netgroup(fields: &Fields<'_>) -> Result<Netgroup, Malformed> {
    let text = |name| fields.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let member = match (text("host"), text("user")) {
        (Some(host), None) => Member::Host(host),
        (None, Some(user)) => Member::User(user),
        _ => return Err(Malformed),
    };
    Ok(Netgroup { group: text("group").ok_or(Malformed)?, member })
}

fn read_member(fields: &Fields<'_>) -> Result<Option<bool>, Malformed> {
    match fields.get("state") {
        Some("yes") => Ok(Some(true)),
        Some("no") => Ok(Some(false)),
        Some("failed") => Ok(None),
        _ => Err(Malformed),
    }
}

fn read_named(fields: &Fields<'_>) -> Result<Named, Malformed> {
    let name = fields.get("name").map(|text| host_name(text.as_bytes()).ok_or(Malformed)).transpose()?;
    match (fields.get("state"), name) {
        (Some("confirmed"), Some(name)) => Ok(Named::Confirmed(name)),
        (Some("none"), None) => Ok(Named::NoName),
        (Some("mismatch"), name) => Ok(Named::Mismatch(name)),
        (Some("failed"), None) => Ok(Named::Failed),
        _ => Err(Malformed),
    }
}

fn read_reply(fields: &Fields<'_>) -> Result<Reply, Malformed> {
    match (fields.get("state"), fields.get("name")) {
        (Some("user"), Some(name)) => IdentName::read(name).map(Reply::User).ok_or(Malformed),
        (Some("none"), None) => Ok(Reply::NoUser),
        (Some("failed"), None) => Ok(Reply::Failed),
        _ => Err(Malformed),
    }
}

fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push('\n');
    }
}

/// A packet without a line makes no sense: it is how the kernel says that a channel is closed.
fn lines(packet: &[u8]) -> Result<std::str::Lines<'_>, Malformed> {
    let text = text(packet)?;
    if text.is_empty() { Err(Malformed) } else { Ok(text.lines()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::policy::hosts_access::pattern::MAX_NETGROUP;

    const SECOND: Duration = Duration::from_secs(1);

    fn name(text: &str) -> HostName {
        text.parse().unwrap()
    }

    fn netgroup(id: u64, group: &str, member: Member) -> Question {
        Question::Netgroup { id, netgroup: Netgroup { group: group.to_owned(), member }, within: SECOND }
    }

    fn questions() -> Vec<Question> {
        vec![
            Question::Name { id: 7, address: "192.0.2.7".parse().unwrap(), within: 5 * SECOND },
            Question::Name { id: u64::MAX, address: "2001:db8::7".parse().unwrap(), within: Duration::ZERO },
            Question::Ident {
                id: 8,
                client: "192.0.2.7:51234".parse().unwrap(),
                local: "192.0.2.1:79".parse().unwrap(),
                within: 3 * SECOND,
            },
            Question::Ident {
                id: 9,
                client: "[fe80::7%3]:51234".parse().unwrap(),
                local: "[fe80::1%3]:79".parse().unwrap(),
                within: SECOND,
            },
            netgroup(10, "staff", Member::User("joe".to_owned())),
            netgroup(11, "hosts", Member::Host("pc1.example.org".to_owned())),
        ]
    }

    fn answers() -> Vec<Answer> {
        let named = |id, named| Answer::Name { id, named };
        let ident = |id, reply| Answer::Ident { id, reply };
        vec![
            Answer::Ready,
            named(7, Named::Confirmed(name("host.example.org"))),
            named(8, Named::NoName),
            named(9, Named::Mismatch(None)),
            named(10, Named::Mismatch(Some(name("evil.example")))),
            named(11, Named::Failed),
            ident(12, Reply::User(IdentName::clean(b"alice").unwrap())),
            ident(13, Reply::NoUser),
            ident(u64::MAX, Reply::Failed),
            Answer::Netgroup { id: 14, is_member: Some(true) },
            Answer::Netgroup { id: 15, is_member: Some(false) },
            Answer::Netgroup { id: 16, is_member: None },
        ]
    }

    fn packet<T>(all: &[T], push: impl Fn(&T, &mut String)) -> String {
        let mut packet = String::new();
        for one in all {
            push(one, &mut packet);
        }
        packet
    }

    #[test]
    fn questions_survive_the_way() {
        let text = packet(&questions(), Question::push);
        assert_eq!(Question::read(text.as_bytes()), Ok(questions()), "{text}");
        assert_eq!(text.lines().next(), Some("NAME id=7 address=192.0.2.7 within=5000"));
        assert_eq!(questions()[0].id(), 7);
    }

    #[test]
    fn answers_survive_the_way() {
        let text = packet(&answers(), Answer::push);
        assert_eq!(Answer::read(text.as_bytes()), Ok(answers()), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "NAMED id=7 state=confirmed name=host.example.org");
        assert_eq!(lines[6], "USER id=12 state=user name=alice");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            "",
            "NAME",
            "NAME id=7 address=192.0.2.7",
            "NAME id=7 within=5",
            "NAME id=7 address=host within=5",
            "NAME id=-7 address=192.0.2.7 within=5",
            "NAME id=7 address=192.0.2.7:5 within=5",
            "IDENT id=7 client=192.0.2.7 local=192.0.2.1:79 within=5",
            "IDENT id=7 client=192.0.2.7:5 within=5",
            "name id=7 address=192.0.2.7 within=5",
            "NETGROUP id=7 group=a within=5",
            "NETGROUP id=7 group= user=b within=5",
            "NETGROUP id=7 group=a user=b host=c within=5",
            "NAME id=7 address=192.0.2.7 within=5\n\nNAME id=8 address=192.0.2.7 within=5",
        ] {
            assert_eq!(Question::read(wrong.as_bytes()), Err(Malformed), "{wrong:?}");
        }
        for wrong in [
            "",
            "READY 1",
            "NAMED id=7",
            "NAMED id=7 state=confirmed",
            "NAMED id=7 state=confirmed name=",
            "NAMED id=7 state=confirmed name=1.2.3.4",
            "NAMED id=7 state=confirmed name=a..b",
            "NAMED id=7 state=none name=a",
            "NAMED id=7 state=good name=a",
            "USER id=7 state=user",
            "USER id=7 state=user name=",
            "USER id=7 state=user name=a;b",
            "USER id=7 state=none name=a",
            "USER state=none",
            "MEMBER id=7 state=maybe",
            "NAMED id=7 state=none\nX",
        ] {
            assert_eq!(Answer::read(wrong.as_bytes()), Err(Malformed), "{wrong:?}");
        }
        assert_eq!(Answer::read(b"NAMED id=7 state=confirmed name=\xff"), Err(Malformed));
    }

    /// Whatever single byte is changed or lost: it is refused, or says something that survives the way.
    #[test]
    fn mutations_harm_nobody() {
        let text = packet(&answers(), Answer::push).into_bytes();
        let asked = packet(&questions(), Question::push).into_bytes();
        for (text, at) in
            [&text, &asked].into_iter().flat_map(|text| (0..text.len()).map(move |at| (text, at)))
        {
            for byte in [0, b' ', b'\n', b'=', b'9', b'x', b'-', 0xff] {
                let mut bytes = text.clone();
                bytes[at] = byte;
                survives(&bytes);
            }
            let mut bytes = text.clone();
            bytes.remove(at);
            survives(&bytes);
            survives(&text[..at]);
        }
    }

    fn survives(bytes: &[u8]) {
        if let Ok(read) = Answer::read(bytes) {
            assert_eq!(Answer::read(packet(&read, Answer::push).as_bytes()), Ok(read));
        }
        if let Ok(read) = Question::read(bytes) {
            assert_eq!(Question::read(packet(&read, Question::push).as_bytes()), Ok(read));
        }
    }

    #[test]
    fn the_longest_lines_have_room() {
        let longest = ["x".repeat(63), "x".repeat(63), "x".repeat(63), "x".repeat(61)].join(".");
        let address: SocketAddr =
            "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().unwrap();
        let within = Duration::from_millis(u64::MAX);
        let question = Question::Ident { id: u64::MAX, client: address, local: address, within };
        let answer = Answer::Name { id: u64::MAX, named: Named::Confirmed(name(&longest)) };
        let group = "g".repeat(MAX_NETGROUP);
        let in_group = netgroup(u64::MAX, &group, Member::Host(longest.clone()));
        assert!(packet(&[in_group], Question::push).len() < MAX_LINE);
        assert!(packet(&[question], Question::push).len() < MAX_LINE);
        assert!(packet(&[answer], Answer::push).len() < MAX_LINE);
    }

    #[test]
    fn names_are_names_and_no_addresses() {
        for (bytes, expected) in [
            (&b"Host.Example.ORG."[..], Some("host.example.org")),
            (b"localhost", Some("localhost")),
            (b"7.example", Some("7.example")),
            (b"3com", Some("3com")),
            (b"host.0xyz", Some("host.0xyz")),
            (b"192.0.2.7", None),
            (b"192.0.2.7.", None),
            (b"3221225991", None),
            (b"192.0.519", None),
            (b"0xC0.0x2.0x7", None),
            (b"host.0x", None),
            (b"host.7", None),
            (b"2001:db8::7", None),
            (b"", None),
            (b".", None),
            (b"a b.example", None),
            (b"a\n.example", None),
            (b"*.example", None),
            (b"\xc3\xa4.example", None),
            (b"\xff.example", None),
        ] {
            let found = host_name(bytes);
            assert_eq!(found.as_ref().map(HostName::as_str), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_judge_gets_facts() {
        let host = name("host.example.org");
        let confirmed = Named::Confirmed(host.clone());
        assert_eq!(confirmed.fact(), Fact::Known(Naming::Confirmed(&[host])));
        assert_eq!(Named::NoName.fact(), Fact::Known(Naming::NoName));
        assert_eq!(Named::Mismatch(None).fact(), Fact::Known(Naming::Mismatch));
        assert_eq!(Named::Failed.fact(), Fact::Failed);
    }
}
