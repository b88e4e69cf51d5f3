//! The loader: loads one configuration, answers, and ends.
//!
//! Everything that may hang (files, the user database) hangs here, and a deadline of the supervisor ends it.
//! It keeps superd's own identity, since it reads what superd may read.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::SigSet;

use crate::config::settings::Config;
use crate::config::settings::{self, Pool, PoolProtocol, Serves};
use crate::config::wire;
use crate::protocol::launch::{Gets, Malformed, Plan, ProgramPlan};
use crate::protocol::load::{Loaded, Request};
use crate::protocol::{plans, tables};
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::{SealedMap, sealed};
use crate::sys::poll::PollSet;

pub mod files;
pub mod hosts;
pub mod interfaces;
pub mod lists;
pub mod load;
pub mod system;
pub mod watches;
pub mod zones;

/// Serves the one request of the channel.
pub fn run(channel: &Channel) -> io::Result<()> {
    let Some(request) = receive(channel)? else { return Ok(()) };
    let changed = request.changed.as_deref().map(watches::whole);
    if changed.as_ref().is_some_and(Vec::is_empty) {
        return channel.send(b"unchanged", &[sealed("superd-report", &Loaded::default().encode())?.as_fd()]);
    }
    let mut outcome = load::load_from_disk(&request.path, &request.situation);
    if let Some(changed) = changed {
        watches::object(&changed, &mut outcome.report);
    }
    let (errors, warnings) = outcome.report.complaints();
    let (inotify, watches) = outcome.watches.map(|set| (set.inotify, set.watches)).unzip();
    let loaded = Loaded { errors, warnings, watches: watches.unwrap_or_default() };
    let report = sealed("superd-report", &loaded.encode())?;
    let Some(config) = outcome.config.filter(|_| loaded.errors.is_empty()) else {
        return channel.send(b"refused", &[report.as_fd()]);
    };
    let text = sealed("superd-config", &wire::encode(&config).map_err(io::Error::other)?)?;
    let plans = sealed("superd-plans", &plans::encode(&plans_of(&config, &request)))?;
    let tables = sealed("superd-tables", &tables::encode(outcome.parts)?)?;
    let mut fds: Vec<BorrowedFd<'_>> = vec![report.as_fd(), text.as_fd(), plans.as_fd(), tables.as_fd()];
    fds.extend(inotify.as_ref().map(AsFd::as_fd));
    channel.send(b"loaded", &fds)
}

fn receive(channel: &Channel) -> io::Result<Option<Request>> {
    let mut poll = PollSet::default();
    let mut packet = [0; 64];
    loop {
        poll.clear();
        poll.push(channel.as_fd(), true, false);
        poll.wait(None, &SigSet::empty())?;
        match channel.receive(&mut packet)? {
            Received::Empty => {}
            Received::Closed => return Ok(None),
            Received::Packet { fds, .. } => {
                let fd = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
                return Ok(Some(serde_json::from_slice(&SealedMap::open(fd.as_fd())?)?));
            }
        }
    }
}

/// One plan for each service, in their order: its place is its index.
fn plans_of(config: &Config, request: &Request) -> Vec<Plan> {
    let plan = |service: &settings::Service| {
        let Some(program) = service.program() else { return Plan::Nothing };
        let notify = || request.notify.clone();
        let gets = match &service.serves {
            Serves::Wait(_) => Gets::Listener,
            Serves::Pool(Pool { protocol: PoolProtocol::Handoff, .. }) => Gets::Channel(notify()),
            Serves::Pool(_) => Gets::Listeners(notify()),
            Serves::Exec(_) | Serves::Builtin(_) => Gets::Connection,
        };
        let (service, program) = (service.name.clone(), program.clone());
        Plan::Program(Box::new(ProgramPlan { service, program, nofile: request.nofile, gets }))
    };
    config.services().iter().map(plan).collect()
}

impl From<Malformed> for io::Error {
    fn from(_: Malformed) -> Self {
        io::ErrorKind::InvalidData.into()
    }
}
