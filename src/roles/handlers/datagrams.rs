//! The built-in services over udp: what came is answered in one go, what may not be answered is dropped.
//!
//! RFC 862, 864, 865, 867 and 868 have any datagram answered. Here that holds for those that may be a client's
//! (`protocol::builtin::loops`), and chargen's answer is never longer than its question. Echo's never is. That
//! of time has 4 bytes, of daytime 26, of qotd 512 at most, whatever was asked: who forges an empty datagram's
//! source has up to 19 times its length on the wire sent there. These are what the services are; who offers qotd
//! to everybody should know.

use std::borrow::Cow;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::Instant;

use jiff::{Timestamp, tz::TimeZone};

use super::lock;
use super::pace::Pace;
use crate::config::settings::Builtin;
use crate::protocol::builtin::loops::{Question, may_be_answered};
use crate::protocol::builtin::{self, chargen, quotes};
use crate::protocol::handoff::{Datagrams, Report};
use crate::protocol::tables;
use crate::sys::mailbox::{self, Letter, Mailbox};
use crate::sys::socket;

/// More bytes than all quotes of a service, or a time zone, have.
const MAX_BYTES: usize = 64 << 20;

/// Ids of sockets are below it.
const MAX_ID: u64 = 1 << 62;

/// A socket of a datagram service, which all threads read.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: u64,
    pub(super) port: u16,
    builtin: Builtin,
    /// Daytime's.
    zone: TimeZone,
    pace: Option<Mutex<Pace>>,
    socket: OwnedFd,
}

/// What became of a socket's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    bytes: (u64, u64),
    answered: u64,
    refused: u64,
}

impl Listener {
    /// The socket, and the quotes of qotd or the time zone of daytime.
    pub(super) fn new(order: &Datagrams, socket: OwnedFd, more: Option<OwnedFd>) -> io::Result<Self> {
        let more = || read_all(more.ok_or(io::ErrorKind::InvalidData)?);
        let mut zone = TimeZone::UTC;
        let builtin = match order.builtin.as_str() {
            "echo" => Builtin::Echo,
            "discard" => Builtin::Discard,
            "chargen" => Builtin::Chargen,
            "daytime" => {
                zone = tables::zone("", &more()?).ok_or(io::ErrorKind::InvalidData)?;
                Builtin::Daytime
            }
            "time" => Builtin::Time,
            "qotd" => Builtin::Qotd(quotes::decode(&more()?).map_err(|_| io::ErrorKind::InvalidData)?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        if order.id >= MAX_ID {
            return Err(io::ErrorKind::InvalidData.into());
        }
        mailbox::tell_targets(socket.as_fd())?;
        let port = socket::local_address(socket.as_fd()).map_or(0, |address| address.port());
        let pace = Pace::of(order.rates).map(Mutex::new);
        Ok(Self { id: order.id, port, builtin, zone, pace, socket })
    }

    /// Answers what is there, a batch at most. `ports` are those of all listeners.
    pub(super) fn serve(
        &self,
        mailbox: &mut Mailbox,
        ports: &[u16],
        pattern: &[u8],
        moment: Instant,
    ) -> Counts {
        let mut counts = Counts::default();
        // What was wrong with the socket is told once, and gone.
        let received = mailbox.receive(self.socket.as_fd()).unwrap_or(0);
        if received == 0 {
            return counts;
        }
        // A batch has it as a whole: what it does meanwhile takes less than to lock it once for each.
        let mut pace = self.pace.as_ref().map(lock);
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let mut answers: Vec<(usize, Cow<'_, [u8]>)> = Vec::with_capacity(received);
        for index in 0..received {
            let Some(letter) = mailbox.letter(index) else {
                counts.refused += 1;
                continue;
            };
            counts.bytes.0 += letter.bytes.len() as u64;
            if !pace.as_mut().is_none_or(|pace| pace.lets_in(letter.source, moment)) {
                counts.refused += 1;
                continue;
            }
            match self.builtin {
                Builtin::Discard => {}
                _ if !is_answerable(&letter, ports) => counts.refused += 1,
                Builtin::Echo => answers.push((index, letter.bytes.into())),
                Builtin::Chargen => {
                    let length = chargen::answer_length(letter.bytes.len());
                    answers.push((index, pattern.get(..length).unwrap_or_default().into()));
                }
                _ => answers.push((index, builtin::answer(&self.builtin, &now, random()))),
            }
        }
        drop(pace);
        let answers: Vec<(usize, &[u8])> = answers.iter().map(|(index, bytes)| (*index, &**bytes)).collect();
        (counts.answered, counts.bytes.1) = mailbox.answer(self.socket.as_fd(), &answers);
        counts.refused += answers.len() as u64 - counts.answered;
        counts
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Counts {
    pub(super) fn add(&mut self, more: Self) {
        self.bytes.0 += more.bytes.0;
        self.bytes.1 += more.bytes.1;
        self.answered += more.answered;
        self.refused += more.refused;
    }

    pub(super) fn report(self, id: u64) -> Report {
        Report::Counts { id, bytes: self.bytes, answered: self.answered, refused: self.refused }
    }
}

fn is_answerable(letter: &Letter<'_>, ports: &[u16]) -> bool {
    let (asked, unicast) = (letter.target.address, letter.target.unicast);
    may_be_answered(&Question { source: letter.source, asked, unicast }, ports)
}

/// Another number each time; nothing depends on its being hard to guess.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// By bare reads: to ask for the length of a file is more than the filter allows.
fn read_all(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match file.read_at(&mut chunk, bytes.len() as u64)? {
            0 => return Ok(bytes),
            length if bytes.len() + length > MAX_BYTES => return Err(io::ErrorKind::InvalidData.into()),
            length => bytes.extend_from_slice(chunk.get(..length).unwrap_or_default()),
        }
    }
}
