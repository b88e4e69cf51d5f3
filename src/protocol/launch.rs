//! The launch protocol: what the supervisor asks of the launcher, and what comes back.
//!
//! Packets over a SEQPACKET channel: a word in the first byte, then little-endian numbers. Both ends are
//! superd; a packet that makes no sense ends the launcher, and the supervisor starts another.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::settings::{Program, RlimitPair};
use crate::model::client::Client;
use crate::model::identity::Identity;
use crate::model::name::ServiceName;
use crate::model::session::SessionId;

/// Launches in flight, over all services: the size of the slot table.
pub const SLOTS: usize = 256;

/// Launches in one packet, at most.
pub const BATCH: usize = 16;

/// The longest name that goes with a launch: a domain name is not longer (RFC 1035).
pub const MAX_NAME: usize = 255;

/// What a launch takes of a packet, at most, but for its overrides.
pub const MAX_LAUNCH: usize = 640;

/// The largest packet of this protocol.
pub const MAX_PACKET: usize = 16 * 1024;

/// The generation of the plans that every launcher is given first: those of superd's own roles.
pub const ROLES: u64 = 0;

/// Configurations whose plans are kept in any case: the one in force, and the one before it.
pub const KEPT_PLANS: usize = 2;

/// How to make one kind of child. A memfd of plans comes with [`Request::Plans`], see [`super::plans`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// A service's program.
    Program(Box<ProgramPlan>),
    /// superd serves it without a program.
    Nothing,
    /// superd itself, in a role, on a channel as descriptor 3.
    Role {
        /// Its word behind `--role`.
        name: String,
        /// Whom it runs as; `None` for superd's own identity.
        identity: Option<Identity>,
    },
}

/// How a service's program is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramPlan {
    /// Whose.
    pub service: ServiceName,
    /// The program and its world.
    pub program: Program,
    /// The limit of descriptors that superd was started with, before it raised its own.
    pub nofile: RlimitPair,
    /// What it finds itself connected to.
    pub gets: Gets,
}

/// The sockets that a program is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gets {
    /// A connection, as descriptors 0 and 1.
    Connection,
    /// A listener, as descriptors 0, 1 and 3.
    Listener,
    /// As descriptor 3 a channel on which it is handed connections; the name of the socket where it may say
    /// that it is ready.
    Channel(String),
    /// From descriptor 3 on the listeners of its service; the same name.
    Listeners(String),
}

impl Gets {
    /// Is the first socket standard input and output?
    pub fn is_stdio(&self) -> bool {
        matches!(self, Self::Connection | Self::Listener)
    }
}

/// One child to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The slot of the table, free until the launch is over.
    pub slot: u16,
    /// The generation of the plan.
    pub generation: u64,
    /// The plan's index.
    pub plan: u32,
    /// Sockets that come with it: a connection, a channel, or listeners.
    pub fds: u8,
    /// The pipe for standard error comes behind them.
    pub stderr: bool,
    /// The session.
    pub session: SessionId,
    /// The client, if there is one.
    pub client: Option<Client>,
    /// The address that the client asked, if there is one.
    pub local: Option<SocketAddr>,
    /// The client's confirmed name, if a rule asked for it, and what its ident server said; at most
    /// [`MAX_NAME`] bytes each.
    pub names: [Option<String>; 2],
    /// What differs from the plan: [`super::overrides`].
    pub overrides: Option<String>,
}

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// New plans, in the sealed memfd that comes with the packet.
    Plans {
        /// Their generation.
        generation: u64,
    },
    /// No launch has these plans any more.
    Forget {
        /// Their generation.
        generation: u64,
    },
    /// Children to make, at most [`BATCH`]; their descriptors come with the packet in the same order.
    Launch(Vec<Launch>),
}

/// From the launcher. The slot's memory says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// The child exists; its pid is in the slot. The supervisor may close its copies of the descriptors.
    Started(u16),
    /// The launch is over: the child runs its program, or the slot says which step failed, and why.
    Free(u16),
}

/// A packet that is none of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// In the place of an address' family.
const USER: u8 = b'U';

const PLANS: u8 = b'P';
const FORGET: u8 = b'G';
const LAUNCH: u8 = b'L';
const STARTED: u8 = b'S';
const FREE: u8 = b'F';

impl Request {
    /// Appends the packet's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plans { generation } => {
                out.push(PLANS);
                out.extend(generation.to_le_bytes());
            }
            Self::Forget { generation } => {
                out.push(FORGET);
                out.extend(generation.to_le_bytes());
            }
            Self::Launch(launches) => {
                out.push(LAUNCH);
                for launch in launches {
                    launch.encode(out);
                }
            }
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(packet);
        match reader.byte()? {
            PLANS => Ok(Self::Plans { generation: reader.u64()? }),
            FORGET => Ok(Self::Forget { generation: reader.u64()? }),
            LAUNCH => {
                let mut launches = Vec::with_capacity(BATCH);
                while !reader.0.is_empty() {
                    launches.push(Launch::decode(&mut reader)?);
                }
                Ok(Self::Launch(launches))
            }
            _ => Err(Malformed),
        }
    }
}

impl Launch {
    /// Descriptors that come with it.
    pub fn descriptors(&self) -> usize {
        usize::from(self.fds) + usize::from(self.stderr)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.slot.to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        out.extend(self.plan.to_le_bytes());
        out.push(self.fds);
        out.push(u8::from(self.stderr));
        out.extend(self.session.epoch.to_le_bytes());
        out.extend(self.session.serial.to_le_bytes());
        encode_client(self.client, out);
        encode_address(self.local, out);
        self.names.iter().for_each(|name| encode_name(name.as_deref(), out));
        encode_text(self.overrides.as_deref().unwrap_or_default(), out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            slot: reader.u16()?,
            generation: reader.u64()?,
            plan: reader.u32()?,
            fds: reader.byte()?,
            stderr: reader.byte()? != 0,
            session: SessionId { epoch: reader.u64()?, serial: reader.u64()? },
            client: reader.client()?,
            local: reader.address()?,
            names: [reader.name()?, reader.name()?],
            overrides: reader.text()?,
        })
    }
}

/// Appends one packet that holds all of `reports`.
pub fn encode_reports(reports: &[Report], out: &mut Vec<u8>) {
    for report in reports {
        let (word, slot) = match *report {
            Report::Started(slot) => (STARTED, slot),
            Report::Free(slot) => (FREE, slot),
        };
        out.push(word);
        out.extend(slot.to_le_bytes());
    }
}

/// Reads a packet of reports.
pub fn decode_reports(packet: &[u8]) -> Result<Vec<Report>, Malformed> {
    let mut reader = Reader(packet);
    let mut reports = Vec::with_capacity(BATCH);
    while !reader.0.is_empty() {
        let word = reader.byte()?;
        let slot = reader.u16()?;
        if usize::from(slot) >= SLOTS {
            return Err(Malformed);
        }
        reports.push(match word {
            STARTED => Report::Started(slot),
            FREE => Report::Free(slot),
            _ => return Err(Malformed),
        });
    }
    Ok(reports)
}

fn encode_client(client: Option<Client>, out: &mut Vec<u8>) {
    match client {
        None => encode_address(None, out),
        Some(Client::Inet(address)) => encode_address(Some(address), out),
        Some(Client::User { uid, gid, pid }) => {
            out.push(USER);
            out.extend(uid.to_le_bytes());
            out.extend(gid.to_le_bytes());
            out.extend(pid.to_le_bytes());
        }
    }
}

/// A longer one is left out: what is not there is never wrong.
fn encode_name(name: Option<&str>, out: &mut Vec<u8>) {
    let name = name.filter(|name| name.len() <= MAX_NAME).unwrap_or_default();
    out.push(u8::try_from(name.len()).unwrap_or(0));
    out.extend(name.bytes());
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(0);
    out.extend(length.to_le_bytes());
    out.extend(text.bytes().take(usize::from(length)));
}

fn encode_address(address: Option<SocketAddr>, out: &mut Vec<u8>) {
    match address {
        None => out.push(0),
        Some(SocketAddr::V4(a)) => {
            out.push(4);
            out.extend(a.ip().octets());
            out.extend(a.port().to_le_bytes());
        }
        Some(SocketAddr::V6(a)) => {
            out.push(6);
            out.extend(a.ip().octets());
            out.extend(a.port().to_le_bytes());
            out.extend(a.scope_id().to_le_bytes());
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.take()?))
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn client(&mut self) -> Result<Option<Client>, Malformed> {
        match self.byte()? {
            USER => {
                let (uid, gid) = (self.u32()?, self.u32()?);
                Ok(Some(Client::User { uid, gid, pid: i32::from_le_bytes(self.take()?) }))
            }
            family => Ok(self.address_of(family)?.map(Client::Inet)),
        }
    }

    fn name(&mut self) -> Result<Option<String>, Malformed> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }

    fn text(&mut self) -> Result<Option<String>, Malformed> {
        let length = usize::from(self.u16()?);
        self.string(length)
    }

    fn string(&mut self, length: usize) -> Result<Option<String>, Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        let name = String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)?;
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    fn address(&mut self) -> Result<Option<SocketAddr>, Malformed> {
        let family = self.byte()?;
        self.address_of(family)
    }

    fn address_of(&mut self, family: u8) -> Result<Option<SocketAddr>, Malformed> {
        match family {
            0 => Ok(None),
            4 => {
                let ip = IpAddr::from(self.take::<4>()?);
                Ok(Some(SocketAddr::new(ip, self.u16()?)))
            }
            6 => {
                let ip = self.take::<16>()?.into();
                let port = self.u16()?;
                Ok(Some(std::net::SocketAddrV6::new(ip, port, 0, self.u32()?).into()))
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(client: &str, local: Option<&str>) -> Launch {
        Launch {
            slot: 255,
            generation: 3,
            plan: 4999,
            fds: 1,
            stderr: true,
            session: SessionId { epoch: 0x6740_5a10, serial: 7 },
            client: client.parse().ok(),
            local: local.and_then(|text| text.parse().ok()),
            names: [Some("h".repeat(MAX_NAME)), None],
            overrides: Some("{}".to_owned()),
        }
    }

    #[test]
    fn requests_survive_the_way() {
        let user = Some(Client::User { uid: 1000, gid: u32::MAX, pid: i32::MAX });
        let batch = (0..BATCH).map(|_| launch("[fe80::1%3]:79", Some("[fe80::2%3]:79"))).collect();
        for request in [
            Request::Plans { generation: u64::MAX },
            Request::Forget { generation: 7 },
            Request::Launch(vec![
                launch("192.0.2.7:51234", Some("192.0.2.1:79")),
                launch("[2001:db8::1]:1", None),
            ]),
            Request::Launch(vec![Launch { client: user, ..launch("", None) }, launch("", None)]),
            Request::Launch(batch),
        ] {
            let mut packet = Vec::new();
            request.encode(&mut packet);
            assert!(
                packet.len() <= MAX_LAUNCH * BATCH && MAX_LAUNCH * BATCH <= MAX_PACKET,
                "{}",
                packet.len()
            );
            assert_eq!(Request::decode(&packet), Ok(request));
        }
    }

    #[test]
    fn reports_survive_the_way() {
        let reports = [Report::Started(0), Report::Free(255)];
        let mut packet = Vec::new();
        encode_reports(&reports, &mut packet);
        assert_eq!(decode_reports(&packet).as_deref(), Ok(&reports[..]));
    }

    #[test]
    fn cut_or_foreign_packets_are_malformed() {
        let mut packet = Vec::new();
        Request::Launch(vec![launch("192.0.2.7:51234", None)]).encode(&mut packet);
        for cut in 2..packet.len() {
            assert_eq!(Request::decode(&packet[..cut]), Err(Malformed), "{cut}");
        }
        for foreign in [&b""[..], b"X", b"P123", b"\xff\xff\xff"] {
            assert_eq!(Request::decode(foreign), Err(Malformed), "{foreign:?}");
        }
        for foreign in [&b"S"[..], b"S\x00\x01", b"X\x00\x00"] {
            assert_eq!(decode_reports(foreign), Err(Malformed), "{foreign:?}");
        }
    }
}
