//! The launcher: makes every child of superd, each as the supervisor's own.
//!
//! It is small, so that a child costs the same whatever the supervisor holds, and it waits for nobody: a child
//! that hangs in its exec holds one slot. A child tells that its program runs by closing its status pipe,
//! which is close-on-exec.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::signal::SigSet;

use crate::protocol::launch::{BATCH, Launch, MAX_PACKET, Malformed, Report, Request, SLOTS, encode_reports};
use crate::protocol::step::Step;
use crate::roles::stage::Assignment;
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::{Slot, SlotTable};
use crate::sys::poll::PollSet;
use crate::sys::spawn::{Image, Parentage, Spawner};
use crate::sys::{fd, process};

/// The arguments of a launcher that finds its descriptors under these numbers.
pub fn arguments(
    channel: BorrowedFd<'_>,
    binary: BorrowedFd<'_>,
    slots: BorrowedFd<'_>,
) -> io::Result<Vec<CString>> {
    let numbers = [channel, binary, slots].map(|fd| CString::new(fd.as_raw_fd().to_string()));
    let words = [c"superd-launcher".into(), c"--role".into(), c"launcher".into()];
    words.into_iter().map(Ok).chain(numbers).map(|word| Ok(word?)).collect()
}

/// Serves launch requests until the channel closes. The arguments are [`arguments`]' numbers.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let mut inherited = || {
        let number = arguments.next().and_then(|text| text.to_str()?.parse().ok());
        fd::take_inherited(number.ok_or(io::ErrorKind::InvalidInput)?)
    };
    let channel = Channel::from(inherited()?);
    let binary = inherited()?;
    let slots = SlotTable::open(inherited()?, SLOTS)?;
    super::settle(c"superd-launcher")?;
    process::raise_descriptor_limit()?;
    let spawner = Spawner::new()?;
    let mut launcher = Launcher {
        channel,
        binary,
        slots,
        spawner,
        plans: Vec::new(),
        pending: Vec::new(),
        reports: Vec::new(),
    };
    while launcher.turn()? {}
    Ok(())
}

/// After a wait that itself had no memory.
const REST: Duration = Duration::from_millis(100);

struct Launcher {
    channel: Channel,
    binary: OwnedFd,
    slots: SlotTable,
    spawner: Spawner,
    /// The plans of superd's roles, and of configurations, until the supervisor forgets them.
    plans: Vec<(u64, OwnedFd)>,
    /// Children that have not executed their program yet: the slot, and the status pipe's reading end.
    pending: Vec<(u16, OwnedFd)>,
    reports: Vec<Report>,
}

impl Launcher {
    /// Waits for something, and does it. `false`: the supervisor is gone.
    fn turn(&mut self) -> io::Result<bool> {
        let mut set = PollSet::default();
        let channel = set.push(self.channel.as_fd(), true, !self.reports.is_empty());
        let first = channel + 1;
        for (_, status) in &self.pending {
            set.push(status.as_fd(), true, false);
        }
        if set.wait(None, &SigSet::empty()).is_err() {
            // ENOMEM: what is ready stays ready.
            std::thread::sleep(REST);
            return Ok(true);
        }
        let mut index = first;
        let reports = &mut self.reports;
        self.pending.retain(|(slot, _)| {
            let over = set.ready(index).read;
            index += 1;
            if over {
                reports.push(Report::Free(*slot));
            }
            !over
        });
        let go_on = !set.ready(channel).read || self.take_request()?;
        self.send_reports();
        Ok(go_on)
    }

    fn take_request(&mut self) -> io::Result<bool> {
        let mut packet = [0; MAX_PACKET];
        let (len, fds) = match self.channel.receive(&mut packet)? {
            Received::Packet { len, fds } => (len, fds),
            Received::Empty => return Ok(true),
            Received::Closed => return Ok(false),
        };
        let request = packet.get(..len).ok_or(Malformed).and_then(Request::decode);
        match request.map_err(|Malformed| io::ErrorKind::InvalidData)? {
            Request::Plans { generation } => self.keep_plans(generation, fds),
            Request::Forget { generation } => self.plans.retain(|(known, _)| *known != generation),
            Request::Launch(launches) => self.launch_all(&launches, fds),
        }
        Ok(true)
    }

    fn keep_plans(&mut self, generation: u64, fds: Vec<OwnedFd>) {
        let Some(fd) = fds.into_iter().next() else { return };
        match self.plans.iter_mut().find(|(known, _)| *known == generation) {
            // Those of the roles are sent again when the helpers' user has changed.
            Some((_, block)) => *block = fd,
            None => self.plans.push((generation, fd)),
        }
    }

    fn launch_all(&mut self, launches: &[Launch], fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        for launch in launches.iter().take(BATCH) {
            let own: Vec<OwnedFd> = fds.by_ref().take(launch.descriptors()).collect();
            match self.launch(launch, &own) {
                Ok(status) => {
                    self.pending.push((launch.slot, status));
                    self.reports.push(Report::Started(launch.slot));
                }
                Err((step, error)) => {
                    if let Some(slot) = self.slots.get(usize::from(launch.slot)) {
                        fail(slot, step, &error);
                    }
                    self.reports.push(Report::Free(launch.slot));
                }
            }
        }
    }

    /// Makes one child, and gives the reading end of its status pipe.
    fn launch(&mut self, launch: &Launch, fds: &[OwnedFd]) -> Result<OwnedFd, (Step, io::Error)> {
        if fds.len() < launch.descriptors() || launch.fds == 0 {
            // The kernel drops descriptors that this process has no room for.
            return Err((Step::Receive, io::Error::from_raw_os_error(libc::EMFILE)));
        }
        let stage = |error| (Step::Stage, error);
        let missing = || stage(io::ErrorKind::NotFound.into());
        let slot = self.slots.get(usize::from(launch.slot)).ok_or_else(missing)?;
        let plans = self.plans.iter().rev().find(|(generation, _)| *generation == launch.generation);
        let (_, plans) = plans.ok_or_else(missing)?;
        let (reading, writing) = fd::pipe().map_err(|error| (Step::Clone, error))?;
        let sockets = usize::from(launch.fds);
        let assignment = Assignment {
            launch: launch.clone(),
            sockets: numbers(fds.iter().take(sockets)),
            stderr: fds.get(sockets).map(AsRawFd::as_raw_fd),
            plans: plans.as_raw_fd(),
            slots: self.slots.as_fd().as_raw_fd(),
            binary: self.binary.as_raw_fd(),
            status: writing.as_raw_fd(),
        };
        let argv = assignment.arguments().map_err(stage)?;
        let mut keep: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        keep.extend([plans.as_fd(), self.slots.as_fd(), self.binary.as_fd(), writing.as_fd()]);
        let environment: [CString; 0] = [];
        let image = Image { binary: self.binary.as_fd(), argv: &argv, envp: &environment, keep: &keep };
        let spawned = self.spawner.spawn(&image, Parentage::Sibling(&slot.pid));
        spawned.map_err(|error| (Step::Clone, error))?;
        Ok(reading)
    }

    /// Sends what there is to tell. What a full channel does not take goes with what comes later.
    fn send_reports(&mut self) {
        let mut sent = 0;
        for reports in self.reports.chunks(BATCH) {
            let mut packet = Vec::new();
            encode_reports(reports, &mut packet);
            match self.channel.send(&packet, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A supervisor that is gone ends the next turn.
                _ => sent += reports.len(),
            }
        }
        self.reports.drain(..sent);
    }
}

fn numbers<'a>(fds: impl Iterator<Item = &'a OwnedFd>) -> Vec<i32> {
    fds.map(AsRawFd::as_raw_fd).collect()
}

fn fail(slot: &Slot, step: Step, error: &io::Error) {
    slot.step.store(step as u32, Ordering::Relaxed);
    slot.errno.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::launch::decode_reports;

    #[test]
    fn reports_wait_for_a_supervisor_that_does_not_read() {
        let (channel, supervisor) = Channel::pair().unwrap();
        let mut launcher = Launcher {
            channel,
            binary: fd::open_null().unwrap(),
            slots: SlotTable::create(SLOTS).unwrap(),
            spawner: Spawner::new().unwrap(),
            plans: Vec::new(),
            pending: Vec::new(),
            reports: Vec::new(),
        };
        let told: Vec<Report> =
            (0..u16::try_from(SLOTS).unwrap()).flat_map(|n| [Report::Started(n), Report::Free(n)]).collect();
        for report in told.iter().cycle().take(4 * told.len()) {
            launcher.reports.push(*report);
            launcher.send_reports();
        }
        assert!(!launcher.reports.is_empty(), "the channel was never full");
        let mut heard = Vec::new();
        let mut packet = [0; MAX_PACKET];
        while let Received::Packet { len, .. } = supervisor.receive(&mut packet).unwrap() {
            heard.extend(decode_reports(&packet[..len]).unwrap());
            launcher.send_reports();
        }
        assert!(heard.iter().eq(told.iter().cycle().take(4 * told.len())), "{}", heard.len());
    }
}
