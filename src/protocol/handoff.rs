//! The hand-off protocol, superd-pool(7): how connections come to workers, and what workers say of them.
//!
//! Text packets over a SEQPACKET channel; a line each, or several lines with one line feed between. A line is a
//! word, then fields `name=value`. superd hands an external worker one connection in a packet; its own handlers
//! take several, and know a few private words more. A worker passes over words and fields that it does not know;
//! superd ends a worker that says what makes no sense.

use std::fmt::Write;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use crate::model::address::SourcePrefix;
use crate::model::client::Client;
use crate::model::mux::MuxName;
use crate::model::rate::Rate;
use crate::model::session::SessionId;

/// The longest packet, either way.
pub const MAX_PACKET: usize = 4096;

/// Connections that superd's own handlers are handed in one packet, at most.
pub const BATCH: usize = 16;

/// The longest line that superd makes, so that [`BATCH`] of them fit.
pub const MAX_LINE: usize = MAX_PACKET / BATCH;

/// A packet that is none of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// To a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Serve the connection that comes with the packet.
    Connection(Connection),
    /// Nothing more comes: end when all connections are done.
    Drain,
    /// The connection has had its time: close it.
    End(u64),
    /// Private: serve the connection that comes with the packet as a built-in service.
    Builtin(Stream),
    /// Private: answer the datagrams of the socket that comes with the packet; its quotes, or the time
    /// zone of daytime, come behind it.
    Listener(Datagrams),
    /// Private: let go of this socket.
    Forget(u64),
}

/// A connection that a worker is handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// What it is called on this channel.
    pub id: u64,
    /// Whose it is.
    pub service: String,
    /// The session, as the log names it.
    pub session: SessionId,
    /// The client.
    pub client: Option<Client>,
    /// The address that it asked.
    pub local: Option<SocketAddr>,
}

/// A connection of a built-in service. Times are in whole milliseconds; `None` is for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What it is called on this channel.
    pub id: u64,
    /// The service's word.
    pub builtin: String,
    /// Until the first byte.
    pub handshake: Option<Duration>,
    /// How long nothing may pass.
    pub idle: Option<Duration>,
    /// All of it.
    pub session: Option<Duration>,
}

/// A socket of a built-in datagram service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagrams {
    /// What it is called on this channel.
    pub id: u64,
    /// The service's word.
    pub builtin: String,
    /// How often it is answered.
    pub rates: Rates,
}

/// How often the datagrams of one socket are answered; what is `None` does not hold anybody up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// All of them.
    pub rate: Option<Rate>,
    /// Those of each source.
    pub per_source: Option<Rate>,
    /// What a source is.
    pub prefix: SourcePrefix,
}

/// What keeps handlers that were taken over from doing harm, besides their user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// No file is reached.
    Landlock,
    /// No system call but those that serving needs.
    Seccomp,
}

/// Which of its deadlines has ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// The client has not said what had to come first.
    Handshake,
    /// Nothing passed for too long.
    Idle,
    /// The session has had its time.
    Session,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It is there, and takes connections.
    Ready,
    /// Private: this kernel does not let it guard itself in this way.
    Lacks(Guard),
    /// It has taken this connection, and read no byte of it yet.
    Take(u64),
    /// It is done with this connection, which it has closed.
    Done {
        /// Which.
        id: u64,
        /// Bytes that came, and that were sent, if it says so.
        bytes: Option<(u64, u64)>,
        /// Private: the deadline that has ended it, if one has.
        why: Option<Lapse>,
    },
    /// Private: the client of this connection, which is closed here, asks tcpmux for a name; the supervisor has
    /// its own copy.
    Launch {
        /// Which.
        id: u64,
        /// The name; `None`: what came can't be one.
        name: Option<MuxName>,
        /// Bytes that came.
        received: u64,
    },
    /// Private: what became of a socket's datagrams since it was last said.
    Counts {
        /// Which socket.
        id: u64,
        /// Bytes that came, and that were sent.
        bytes: (u64, u64),
        /// Datagrams that were answered.
        answered: u64,
        /// Datagrams that may not be answered, from ports that could loop or to groups, and answers without a way.
        refused: u64,
    },
}

impl Order {
    /// Appends its line; packets of several lines get a line feed between.
    pub fn push(&self, out: &mut String) {
        if !out.is_empty() {
            out.push('\n');
        }
        // Writing to a String can't fail.
        let _ = match self {
            Self::Connection(connection) => connection.push(out),
            Self::Drain => write!(out, "DRAIN"),
            Self::End(id) => write!(out, "END id={id}"),
            Self::Builtin(stream) => stream.push(out),
            Self::Listener(listener) => listener.push(out),
            Self::Forget(id) => write!(out, "FORGET id={id}"),
        };
    }

    /// Reads a packet, as superd's own handlers do: any word that is unknown is an error.
    pub fn read(packet: &[u8]) -> Result<Vec<Self>, Malformed> {
        text(packet)?.lines().map(Self::read_line).collect()
    }

    fn read_line(line: &str) -> Result<Self, Malformed> {
        let (word, fields) = line.split_once(' ').unwrap_or((line, ""));
        let fields = Fields(fields);
        Ok(match word {
            "CONN" => Self::Connection(Connection::read(&fields)?),
            "DRAIN" => Self::Drain,
            "END" => Self::End(fields.number("id")?),
            "BUILTIN" => Self::Builtin(Stream {
                id: fields.number("id")?,
                builtin: fields.text("builtin")?,
                handshake: fields.time("handshake")?,
                idle: fields.time("idle")?,
                session: fields.time("session")?,
            }),
            "LISTENER" => Self::Listener(Datagrams::read(&fields)?),
            "FORGET" => Self::Forget(fields.number("id")?),
            _ => return Err(Malformed),
        })
    }
}

impl Connection {
    fn push(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "CONN id={} service={} session={}", self.id, self.service, self.session)?;
        match self.client {
            Some(Client::Inet(client)) => write!(out, " proto=tcp client={client}")?,
            Some(Client::User { uid, gid, pid }) => {
                write!(out, " proto=unix uid={uid} gid={gid} pid={pid}")?;
            }
            None => {}
        }
        self.local.map_or(Ok(()), |local| write!(out, " local={local}"))
    }

    fn read(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let client = match fields.get("proto") {
            Some("tcp") => Some(Client::Inet(fields.number("client")?)),
            Some("unix") => Some(Client::User {
                uid: fields.number("uid")?,
                gid: fields.number("gid")?,
                pid: fields.number("pid")?,
            }),
            _ => None,
        };
        let (epoch, serial) = fields.get("session").and_then(|text| text.split_once('-')).ok_or(Malformed)?;
        let hex = |text| u64::from_str_radix(text, 16).map_err(|_| Malformed);
        Ok(Self {
            id: fields.number("id")?,
            service: fields.text("service")?,
            session: SessionId { epoch: hex(epoch)?, serial: hex(serial)? },
            client,
            local: fields.get("local").map(|text| text.parse().map_err(|_| Malformed)).transpose()?,
        })
    }
}

impl Datagrams {
    fn push(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "LISTENER id={} builtin={}", self.id, self.builtin)?;
        let Rates { rate, per_source, prefix: SourcePrefix { v4, v6 } } = self.rates;
        for (name, rate) in [("rate", rate), ("rate_per_source", per_source)] {
            if let Some(rate) = rate {
                write!(out, " {name}={}", rate.word())?;
            }
        }
        write!(out, " prefix4={v4} prefix6={v6}")
    }

    fn read(fields: &Fields<'_>) -> Result<Self, Malformed> {
        let rate = |name| fields.get(name).map(|word| Rate::from_word(word).ok_or(Malformed)).transpose();
        let prefix = SourcePrefix { v4: fields.number("prefix4")?, v6: fields.number("prefix6")? };
        let rates = Rates { rate: rate("rate")?, per_source: rate("rate_per_source")?, prefix };
        Ok(Self { id: fields.number("id")?, builtin: fields.text("builtin")?, rates })
    }
}

impl Stream {
    fn push(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "BUILTIN id={} builtin={}", self.id, self.builtin)?;
        for (name, time) in [("handshake", self.handshake), ("idle", self.idle), ("session", self.session)] {
            if let Some(time) = time {
                write!(out, " {name}={}", time.as_millis())?;
            }
        }
        Ok(())
    }
}

impl Guard {
    const ALL: [Self; 2] = [Self::Landlock, Self::Seccomp];

    /// As the log has it, and the channel.
    pub fn word(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

impl Lapse {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Handshake, Self::Idle, Self::Session];

    /// As the log has it, and the channel.
    pub fn word(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Session => "session",
        }
    }

    fn of_word(word: &str) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|lapse| lapse.word() == word).ok_or(Malformed)
    }
}

impl Report {
    /// Appends its line; packets of several lines get a line feed between.
    pub fn push(&self, out: &mut String) {
        if !out.is_empty() {
            out.push('\n');
        }
        let _ = match self {
            Self::Ready => write!(out, "READY"),
            Self::Lacks(guard) => write!(out, "LACKS {}", guard.word()),
            Self::Take(id) => write!(out, "TAKE {id}"),
            Self::Done { id, bytes, why } => push_done(out, *id, *bytes, *why),
            Self::Launch { id, name, received } => {
                let _ = write!(out, "LAUNCH {id} in={received}");
                name.as_ref().map_or(Ok(()), |name| write!(out, " name={name}"))
            }
            Self::Counts { id, bytes: (received, sent), answered, refused } => {
                write!(out, "COUNTS {id} in={received} out={sent} answered={answered} refused={refused}")
            }
        };
    }

    /// Reads a packet, line by line. A worker of somebody else's may end its lines with a line feed.
    pub fn read_all(packet: &[u8]) -> impl Iterator<Item = Result<Self, Malformed>> {
        let (text, error) = match text(packet) {
            Ok(text) if !text.is_empty() => (text, None),
            _ => ("", Some(Err(Malformed))),
        };
        error.into_iter().chain(text.lines().map(Self::read_line))
    }

    fn read_line(line: &str) -> Result<Self, Malformed> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "READY" && rest.is_empty() {
            return Ok(Self::Ready);
        }
        if word == "LACKS" {
            return Guard::ALL
                .into_iter()
                .find(|guard| guard.word() == rest)
                .map(Self::Lacks)
                .ok_or(Malformed);
        }
        let (id, fields) = rest.split_once(' ').unwrap_or((rest, ""));
        let id = number(id)?;
        let fields = Fields(fields);
        let bytes = || Ok((fields.number("in")?, fields.number("out")?));
        match word {
            "TAKE" if fields.0.is_empty() => Ok(Self::Take(id)),
            "DONE" => {
                let bytes = if fields.0.is_empty() { None } else { Some(bytes()?) };
                Ok(Self::Done { id, bytes, why: fields.get("why").map(Lapse::of_word).transpose()? })
            }
            "LAUNCH" => {
                let name = fields.get("name").map(|name| MuxName::new(name.as_bytes()).ok_or(Malformed));
                Ok(Self::Launch { id, name: name.transpose()?, received: fields.number("in")? })
            }
            "COUNTS" => Ok(Self::Counts {
                id,
                bytes: bytes()?,
                answered: fields.number("answered")?,
                refused: fields.number("refused")?,
            }),
            _ => Err(Malformed),
        }
    }
}

fn push_done(out: &mut String, id: u64, bytes: Option<(u64, u64)>, why: Option<Lapse>) -> std::fmt::Result {
    write!(out, "DONE {id}")?;
    if let Some((received, sent)) = bytes {
        write!(out, " in={received} out={sent}")?;
    }
    why.map_or(Ok(()), |why| write!(out, " why={}", why.word()))
}

pub(super) fn text(packet: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(packet).map_err(|_| Malformed)
}

fn number<T: FromStr>(text: &str) -> Result<T, Malformed> {
    // FromStr of integers takes a sign, too.
    if text.starts_with('+') { Err(Malformed) } else { text.parse().map_err(|_| Malformed) }
}

/// `name=value`, with one blank between.
pub(super) struct Fields<'a>(pub(super) &'a str);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.split(' ').filter_map(|field| field.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    fn text(&self, name: &str) -> Result<String, Malformed> {
        self.get(name).filter(|text| !text.is_empty()).map(str::to_owned).ok_or(Malformed)
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<T, Malformed> {
        number(self.get(name).ok_or(Malformed)?)
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Duration>, Malformed> {
        self.get(name).map(|text| Ok(Duration::from_millis(number(text)?))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rate::Per;

    const SESSION: SessionId = SessionId { epoch: 0x6740_5a10, serial: 0x1f };

    #[test]
    fn orders_survive_the_way() {
        let connection = |client, local: Option<&str>| {
            let local = local.map(|text| text.parse().unwrap());
            Order::Connection(Connection { id: 7, service: "app".into(), session: SESSION, client, local })
        };
        let inet = Some("192.0.2.7:51234".parse().unwrap());
        let user = Some(Client::User { uid: 1000, gid: u32::MAX, pid: 77 });
        let time = Some(Duration::from_millis(1500));
        let stream = Stream { id: 8, builtin: "echo".into(), handshake: time, idle: None, session: time };
        let prefix = SourcePrefix { v4: 24, v6: 56 };
        let rates =
            Rates { rate: Rate::new(20, Per::Second, 40), per_source: Rate::new(1, Per::Hour, 1), prefix };
        let all = [
            connection(inet, Some("[fe80::1%3]:8000")),
            connection(user, None),
            connection(None, None),
            Order::Drain,
            Order::End(7),
            Order::Builtin(stream),
            Order::Listener(Datagrams { id: 3, builtin: "echo".into(), rates: Rates::default() }),
            Order::Listener(Datagrams { id: 4, builtin: "echo".into(), rates }),
            Order::Forget(3),
        ];
        let mut packet = String::new();
        for order in &all {
            order.push(&mut packet);
        }
        assert_eq!(Order::read(packet.as_bytes()).as_deref(), Ok(&all[..]), "{packet}");
        assert_eq!(
            packet.lines().next(),
            Some(
                "CONN id=7 service=app session=67405a10-1f proto=tcp client=192.0.2.7:51234 local=[fe80::1%3]:8000"
            )
        );
    }

    #[test]
    fn the_longest_lines_fit_into_a_packet() {
        let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535";
        let longest = Connection {
            id: u64::MAX,
            service: "s".repeat(64),
            session: SessionId { epoch: u64::MAX, serial: u64::MAX },
            client: address.parse().ok(),
            local: address.parse().ok(),
        };
        let time = Some(Duration::from_secs(100_000_000));
        let builtin =
            Stream { id: u64::MAX, builtin: "discard".into(), handshake: time, idle: time, session: time };
        let mut packet = String::new();
        Order::Connection(longest).push(&mut packet);
        assert!(packet.len() < MAX_PACKET, "{}", packet.len());
        packet.clear();
        Order::Builtin(builtin).push(&mut packet);
        assert!(packet.len() < MAX_LINE, "{}", packet.len());
    }

    #[track_caller]
    fn check(packet: &str, expected: &[Result<Report, Malformed>]) {
        assert_eq!(Report::read_all(packet.as_bytes()).collect::<Vec<_>>(), expected, "{packet:?}");
    }

    #[test]
    fn reports_are_read_line_by_line() {
        check("READY", &[Ok(Report::Ready)]);
        check("TAKE 7\n", &[Ok(Report::Take(7))]);
        let done = |id, bytes| Ok(Report::Done { id, bytes, why: None });
        check("DONE 7", &[done(7, None)]);
        check("TAKE 7\nDONE 7 in=3 out=4", &[Ok(Report::Take(7)), done(7, Some((3, 4)))]);
        check("DONE 7 out=4 in=3", &[done(7, Some((3, 4)))]);
        let idle = Report::Done { id: 7, bytes: Some((3, 4)), why: Some(Lapse::Idle) };
        check("DONE 7 in=3 out=4 why=idle", &[Ok(idle)]);
        for wrong in [
            "",
            "ready",
            "READY 1",
            "TAKE",
            "TAKE x",
            "TAKE +7",
            "TAKE -7",
            "TAKE 7 8",
            "DONE 7 in=3",
            "DONE 7 in=3 out=",
            "DONE 18446744073709551616",
            "LAUNCH 3",
            "LAUNCH 3 in=5 name=a\x01",
            "LAUNCH 3 in=5 name=",
            "LAUNCH 3 name=a",
            "DONE 7 in=3 out=4 why=x",
            "LACKS sleep",
            " TAKE 7",
            "TAKE  7",
        ] {
            check(wrong, &[Err(Malformed)]);
        }
        assert_eq!(Report::read_all(b"TAKE \xff").next(), Some(Err(Malformed)));
    }

    #[test]
    fn reports_survive_the_way() {
        let launch = |name: Option<&str>| {
            let name = name.and_then(|name| MuxName::new(name.as_bytes()));
            Report::Launch { id: 7, name, received: 9 }
        };
        let counts = Report::Counts { id: 3, bytes: (1, 2), answered: 3, refused: 4 };
        let all = [Report::Ready, Report::Take(u64::MAX), launch(Some("ftp=1")), launch(None), counts]
            .into_iter()
            .chain(Guard::ALL.map(Report::Lacks))
            .chain(Lapse::ALL.map(|why| Report::Done { id: 1, bytes: Some((2, 3)), why: Some(why) }))
            .chain([None, Some((2, 3))].map(|bytes| Report::Done { id: 1, bytes, why: None }));
        let mut packet = String::new();
        for report in all.clone() {
            report.push(&mut packet);
        }
        check(&packet, &all.map(Ok).collect::<Vec<_>>());
    }
}
