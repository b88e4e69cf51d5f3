//! Asking who a client is, where that takes time: its name, its ident server. Each has its own time, within that of
//! the decision.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use crate::protocol::ident::Reply;
use crate::protocol::resolve::Named;
use crate::roles::resolver::confirm::confirmed_name;
use crate::roles::resolver::idents::Idents;
use crate::sys::poll::PollSet;
use crate::sys::resolve;
use crate::sys::sock_diag::{Owner, SocketTables};

use super::Start;
use super::nss::{self, Database};

/// How long the name service and a client's ident server have, as with the daemon.
const NAME_WITHIN: Duration = Duration::from_secs(5);
const IDENT_WITHIN: Duration = Duration::from_secs(3);

/// Of the time of the decision, what is kept for the rest of it.
const RESERVE: Duration = Duration::from_millis(100);

/// The confirmed name of an address. The call can't be broken off: a thread makes it, which the exec ends.
pub(super) fn name(address: IpAddr, start: &Start, until: Instant) -> Result<Named, String> {
    nss::need(Database::Hosts, start)?;
    resolve::forget_search_list();
    let (sender, answers) = channel();
    let asked = thread::Builder::new().spawn(move || sender.send(confirmed_name(address)));
    if asked.is_err() {
        return Ok(Named::Failed);
    }
    let within = left(NAME_WITHIN, until);
    Ok(answers.recv_timeout(within).unwrap_or(Named::Failed))
}

/// Whose process has the other end of a connection within this machine.
pub(super) fn owner(client: SocketAddr, local: SocketAddr) -> Result<u32, ()> {
    match SocketTables::open().and_then(|mut tables| tables.owner(client, local)) {
        Ok(Owner::User(uid)) => Ok(uid),
        Ok(Owner::NotFound | Owner::Unsure) | Err(_) => Err(()),
    }
}

/// What the client's RFC 1413 server says.
pub(super) fn ident(client: SocketAddr, local: SocketAddr, until: Instant) -> Reply {
    let deadline = Instant::now() + left(IDENT_WITHIN, until);
    let mut idents = Idents::default();
    if let Some(reply) = idents.ask(0, client, local, deadline) {
        return reply;
    }
    let mut answer = None;
    while answer.is_none() {
        let mut poll = PollSet::default();
        idents.push_to(&mut poll);
        let wait = deadline.saturating_duration_since(Instant::now());
        if poll.wait(Some(wait), &SigSet::empty()).is_err() {
            return Reply::Failed;
        }
        idents.go_on(&poll, Instant::now(), |_, reply| answer = Some(reply));
    }
    answer.unwrap_or(Reply::Failed)
}

fn left(within: Duration, until: Instant) -> Duration {
    within.min(until.saturating_duration_since(Instant::now() + RESERVE))
}
