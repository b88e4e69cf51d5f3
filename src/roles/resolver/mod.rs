//! The resolver: asks who a client is, where that takes time: the name service for names of addresses, the netgroups,
//! the client's own machine for RFC 1413 names.
//!
//! It runs as a user who may do nothing, and says what it is told, no more: it knows no service, no rule, no client
//! but as an address. Every question has its answer within its time, if only `failed`, also while the system's
//! resolver hangs. It ends when its channel closes.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use crate::policy::hosts_access::request::{Member, Netgroup};
use crate::protocol::resolve::{Answer, MAX_LINE, MAX_PACKET, Named, Question};
use crate::sys::channel::{Channel, Received};
use crate::sys::poll::PollSet;
use crate::sys::{process, resolve};

use self::cache::Outcome;
use self::idents::Idents;
use self::look_ups::LookUps;

mod cache;
pub(crate) mod confirm;
pub(crate) mod idents;
mod look_ups;
mod pool;

/// Answers that the supervisor has not read yet; with more of them no question is read.
const MAX_UNREAD: usize = 1024;

/// No question takes longer, whatever it says.
const LONGEST: Duration = Duration::from_mins(10);

/// Names that are looked up at the same time.
const NAME_THREADS: usize = 16;

/// Netgroups: the C library has one walk through them for the whole process.
const NETGROUP_THREADS: usize = 1;

/// After a wait that itself had no memory.
const REST: Duration = Duration::from_millis(100);

/// Serves the channel until it closes.
pub fn run(channel: &Channel) -> io::Result<()> {
    process::set_no_new_privileges()?;
    process::raise_descriptor_limit()?;
    resolve::forget_search_list();
    let names = LookUps::new(confirm::confirmed_name, NAME_THREADS)?;
    let netgroups = LookUps::new(|asked| Some(is_member(&asked)), NETGROUP_THREADS)?;
    let mut resolver = Resolver::new(channel, names, netgroups, Idents::default());
    resolver.unread.push_back(Answer::Ready);
    resolver.serve()
}

impl Outcome for Named {
    const FAILED: Self = Self::Failed;
}

/// Is somebody in a netgroup?
impl Outcome for Option<bool> {
    const FAILED: Self = None;
}

/// innetgr(3) does not tell "no" from a database that has failed.
fn is_member(asked: &Netgroup) -> bool {
    match &asked.member {
        Member::Host(host) => resolve::is_in_netgroup(&asked.group, Some(host), None),
        Member::User(user) => resolve::is_in_netgroup(&asked.group, None, Some(user)),
    }
}

struct Resolver<'c> {
    channel: &'c Channel,
    names: LookUps<IpAddr, Named>,
    netgroups: LookUps<Netgroup, Option<bool>>,
    idents: Idents,
    /// What the channel has not taken yet.
    unread: VecDeque<Answer>,
}

impl<'c> Resolver<'c> {
    fn new(
        channel: &'c Channel,
        names: LookUps<IpAddr, Named>,
        netgroups: LookUps<Netgroup, Option<bool>>,
        idents: Idents,
    ) -> Self {
        Self { channel, names, netgroups, idents, unread: VecDeque::new() }
    }

    fn serve(mut self) -> io::Result<()> {
        self.say();
        while self.turn()? {}
        Ok(())
    }

    /// Waits for something, and does it. `false`: the supervisor is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let mut poll = PollSet::default();
        let listens = self.unread.len() < MAX_UNREAD;
        let channel = poll.push(self.channel.as_fd(), listens, !self.unread.is_empty());
        poll.push(self.names.bell(), true, false);
        poll.push(self.netgroups.bell(), true, false);
        self.idents.push_to(&mut poll);
        if poll.wait(self.next_deadline(), &SigSet::empty()).is_err() {
            // ENOMEM: what is ready stays ready.
            std::thread::sleep(REST);
        }
        let now = Instant::now();
        let unread = &mut self.unread;
        self.idents.go_on(&poll, now, |id, reply| unread.push_back(Answer::Ident { id, reply }));
        self.names.go_on(now, |id, named| unread.push_back(Answer::Name { id, named }));
        self.netgroups.go_on(now, |id, is_member| unread.push_back(Answer::Netgroup { id, is_member }));
        let goes_on = !poll.ready(channel).read || self.take_questions(now)?;
        self.say();
        Ok(goes_on)
    }

    fn next_deadline(&self) -> Option<Duration> {
        let next = [self.names.next_deadline(), self.netgroups.next_deadline(), self.idents.next_deadline()];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Takes what was asked, as far as there is room for answers that may come at once.
    fn take_questions(&mut self, now: Instant) -> io::Result<bool> {
        let mut packet = [0; MAX_PACKET];
        while self.unread.len() < MAX_UNREAD {
            let length = match self.channel.receive(&mut packet)? {
                Received::Packet { len, .. } => len,
                Received::Empty => return Ok(true),
                Received::Closed => return Ok(false),
            };
            let questions = Question::read(packet.get(..length).unwrap_or_default());
            for question in questions.map_err(|_| io::ErrorKind::InvalidData)? {
                let answer = self.ask(question, now);
                self.unread.extend(answer);
            }
        }
        Ok(true)
    }

    /// The answer, if it is there already.
    fn ask(&mut self, question: Question, now: Instant) -> Option<Answer> {
        match question {
            Question::Name { id, address, within } => {
                let named = self.names.ask(id, address.to_canonical(), now + within.min(LONGEST), now)?;
                Some(Answer::Name { id, named })
            }
            Question::Netgroup { id, netgroup, within } => {
                let is_member = self.netgroups.ask(id, netgroup, now + within.min(LONGEST), now)?;
                Some(Answer::Netgroup { id, is_member })
            }
            Question::Ident { id, client, local, within } => {
                let reply = self.idents.ask(id, client, local, now + within.min(LONGEST))?;
                Some(Answer::Ident { id, reply })
            }
        }
    }

    /// Sends what there is, in packets as full as can be. What the channel does not take now is sent when there
    /// is room.
    fn say(&mut self) {
        while !self.unread.is_empty() {
            let mut packet = String::new();
            let mut count = 0;
            while let Some(answer) = self.unread.get(count).filter(|_| packet.len() + MAX_LINE <= MAX_PACKET)
            {
                answer.push(&mut packet);
                count += 1;
            }
            match self.channel.send(packet.as_bytes(), &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A channel that is broken is found at its end.
                Ok(()) | Err(_) => drop(self.unread.drain(..count)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
