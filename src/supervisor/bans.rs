//! Bans: who gave offence, who is refused for it, and keeping that over a restart in `state_dir/bans.json`.
//!
//! The file is written by a writer some time after a change, so that a storm of bans is one write; it is read
//! once, before the first client is let in.

use std::fs::OpenOptions;
use std::hash::RandomState;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::settings::Level;
use crate::model::address::Source;
use crate::model::client::Client;
use crate::model::name::ServiceName;
use crate::model::network::Network;
use crate::model::offence::Offence;
use crate::model::rate::{Per, Rate};
use crate::protocol::control::BanStatus;
use crate::protocol::writer::{REPORT_LENGTH, Report};
use crate::service::admission::ServiceKey;
use crate::service::ban::{Ban, Banned, Cause};
use crate::service::ban_file::{self, Clocks};
use crate::service::bans::{self, LONGEST, Terms};
use crate::service::rate::Meter;
use crate::service::record::{Event, Record};
use crate::sys::channel::{Channel, Received};
use crate::sys::memory::sealed;
use crate::sys::process::{self, Ended, Status};

use super::Supervisor;
use super::sessions::SessionKey;
use super::timers::{Due, TimerId};

/// From a change to the writing of it: what a crash may lose.
const DAMPING: Duration = Duration::from_secs(5);

/// Bans whose end is taken note of in one turn.
const BATCH: usize = 256;

/// More than the longest file that is ever written.
const MAX_FILE: u64 = 8 << 20;

/// Strangers bring bans about, and each is a line: so many a minute, and the next line counts the rest.
const LINES: u32 = 60;

/// The bans, and the file that keeps them.
#[derive(Debug)]
pub(super) struct Bans {
    table: bans::Bans,
    /// They are not as the file has them.
    is_changed: bool,
    timer: Option<TimerId>,
    writer: Option<Channel>,
    lines: Meter,
    unsaid: u64,
}

impl Bans {
    pub(super) fn new() -> Self {
        Self {
            table: bans::Bans::new(RandomState::new()),
            is_changed: false,
            timer: None,
            writer: None,
            lines: Meter::default(),
            unsaid: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    pub(super) fn writer(&self) -> Option<&Channel> {
        self.writer.as_ref()
    }
}

impl Supervisor {
    /// Is the client banned from the service?
    pub(super) fn is_banned(&self, service: &ServiceName, client: &Client) -> bool {
        self.ban_of(service, client).is_some()
    }

    /// The ban that keeps the client from the service.
    pub(super) fn ban_of(&self, service: &ServiceName, client: &Client) -> Option<Ban> {
        self.bans.table.find(service, client, self.now).filter(|_| !self.is_never_banned(client))
    }

    pub(super) fn is_never_banned(&self, client: &Client) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| self.admittance.is_among(&daemon.never_ban, client))
    }

    /// Counts an offence against a client, which may be banned for it.
    pub(super) fn count_offence(
        &mut self,
        key: ServiceKey,
        client: &Client,
        source: Source,
        offence: Offence,
    ) {
        let Some(settings) = self.services.get(key).map(|service| Rc::clone(&service.settings)) else {
            return;
        };
        let Some(terms) = &settings.ban else { return };
        if self.admittance.is_among(&terms.never, client) || self.is_never_banned(client) {
            return;
        }
        let on = Terms { after: terms.after, within: terms.within, length: terms.length, on: &terms.on };
        let who = (source, settings.limits.source_prefix);
        if let Some(ban) = self.bans.table.offence(&settings.name, on, who, offence, self.now) {
            self.log_ban(&ban);
            self.bans_have_changed();
        }
    }

    /// How the program of a client has ended may be an offence; not if superd has ended it.
    pub(super) fn judge_end(&mut self, key: SessionKey, ended: Ended) {
        let Some(session) = self.sessions.table.get(key).filter(|session| session.cause.is_none()) else {
            return;
        };
        let (Some(client), Some(source)) = (session.client, session.source) else { return };
        let offence = match ended.status {
            Status::Code(code) => u8::try_from(code).ok().map(Offence::Exit),
            Status::Signal(_) => Some(Offence::Signal),
        };
        if let Some(offence) = offence {
            self.count_offence(session.service, &client, source, offence);
        }
    }

    /// Takes note of the bans that have ended, some in a turn: nobody is refused for those any more.
    pub(super) fn expire_bans(&mut self) {
        for _ in 0..BATCH {
            if self.bans.table.expire(self.now).is_none() {
                return;
            }
            self.datagram_rules_are_stale();
        }
    }

    /// An admin bans.
    pub(super) fn ban(
        &mut self,
        who: &str,
        service: Option<&str>,
        seconds: u64,
    ) -> Result<Vec<BanStatus>, String> {
        let who: Banned = who.parse()?;
        let service = service.map(|name| self.known_service(name)).transpose()?;
        let length = Duration::from_secs(seconds);
        if length.is_zero() || length > LONGEST {
            return Err(format!("a ban lasts from 1 s to {} days", LONGEST.as_secs() / 86_400));
        }
        if let Some(client) = who.client().filter(|client| self.is_never_banned(client)) {
            let name = if client.address().is_some() { who.to_string() } else { client.to_string() };
            return Err(format!("{name} is never banned: [daemon] never_ban says so"));
        }
        let ban = Ban { who, service, cause: Cause::Admin, until: self.now + length };
        let ban = self.bans.table.add(ban).map_err(|error| error.to_string())?;
        self.log_ban(&ban);
        self.bans_have_changed();
        self.settle_datagram_rules();
        Ok(vec![self.ban_status(&ban)])
    }

    /// An admin lifts bans.
    pub(super) fn unban(&mut self, who: &str, service: Option<&str>) -> Result<Vec<BanStatus>, String> {
        let who: Banned = who.parse()?;
        let service =
            service.map(|name| ServiceName::new(name).map_err(|error| error.to_string())).transpose()?;
        let lifted = self.bans.table.lift(who, service.as_ref(), self.now);
        if lifted.is_empty() {
            return Err(format!("{who} is not banned"));
        }
        for ban in &lifted {
            let event = Event::Unban { who: ban.who };
            let service = ban.service.as_ref().map(ServiceName::as_str);
            self.log.write(&Record { level: event.level(), facility: None, service, event });
        }
        self.bans_have_changed();
        self.settle_datagram_rules();
        Ok(lifted.iter().map(|ban| self.ban_status(ban)).collect())
    }

    /// The networks that are banned from a service, those that end first in front.
    pub(super) fn banned_networks(&self, service: &ServiceName) -> Vec<Network> {
        let bans = self.bans.table.list(self.now).into_iter();
        let of_service = bans.filter(|ban| ban.service.as_ref().is_none_or(|name| name == service));
        of_service
            .filter_map(|ban| match ban.who {
                Banned::Network(network) => Some(network),
                Banned::User(_) => None,
            })
            .collect()
    }

    /// All bans.
    pub(super) fn ban_list(&self) -> Vec<BanStatus> {
        self.bans.table.list(self.now).iter().map(|ban| self.ban_status(ban)).collect()
    }

    pub(super) fn ban_status(&self, ban: &Ban) -> BanStatus {
        BanStatus {
            who: ban.who.to_string(),
            service: ban.service.as_ref().map(ServiceName::to_string),
            cause: ban.cause.to_string(),
            seconds: ban.until.saturating_duration_since(self.now).as_secs(),
        }
    }

    fn known_service(&self, name: &str) -> Result<ServiceName, String> {
        let service = self.services.by_name(name).and_then(|key| self.services.get(key));
        service.map(|service| service.name().clone()).ok_or_else(|| format!("there is no service `{name}`"))
    }

    fn log_ban(&mut self, ban: &Ban) {
        let by_client = ban.cause != Cause::Admin;
        let pace = Rate::new(LINES, Per::Minute, LINES).filter(|_| by_client);
        if pace.is_some_and(|pace| self.bans.lines.allow(pace, self.now).is_err()) {
            self.bans.unsaid += 1;
            return;
        }
        let length = ban.until.saturating_duration_since(self.now);
        let others = std::mem::take(&mut self.bans.unsaid);
        let event = Event::Ban { who: ban.who, cause: ban.cause, length, others };
        let service = ban.service.as_ref().map(ServiceName::as_str);
        self.log.write(&Record { level: event.level(), facility: None, service, event });
    }

    fn bans_have_changed(&mut self) {
        self.datagram_rules_are_stale();
        self.bans.is_changed = true;
        if self.bans.timer.is_none() {
            self.bans.timer = Some(self.timers.set(self.now + DAMPING, Due::KeepBans));
        }
    }

    fn ban_file(&self) -> Option<PathBuf> {
        self.daemon.as_ref().map(|daemon| daemon.state_dir.join("bans.json"))
    }

    /// Takes the bans of an earlier superd.
    pub(super) fn take_kept_bans(&mut self) {
        let Some(path) = self.ban_file() else { return };
        let clocks = Clocks { now: self.now, date: SystemTime::now() };
        let taken = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error.to_string()),
            Ok(bytes) => ban_file::decode(&bytes, clocks, &mut self.bans.table),
        };
        if let Err(why) = taken {
            let text = format!("the bans that {} keeps can't be taken: {why}", path.display());
            self.note(Level::Err, &text);
        }
    }

    /// Has the bans written, if they have changed. While a writer is at it, the next turn of the damping tries.
    pub(super) fn keep_bans(&mut self) {
        if let Some(timer) = self.bans.timer.take() {
            self.timers.cancel(timer);
        }
        if !self.bans.is_changed {
            return;
        }
        if self.bans.writer.is_some() && !self.is_ending() {
            return self.bans_have_changed();
        }
        self.bans.is_changed = false;
        if let Err(error) = self.start_keeping() {
            self.note(Level::Err, &format!("the bans can't be kept: {error}"));
        }
    }

    fn start_keeping(&mut self) -> io::Result<()> {
        let Some(path) = self.ban_file() else { return Ok(()) };
        let clocks = Clocks { now: self.now, date: SystemTime::now() };
        let text = sealed("superd-bans", &ban_file::encode(&self.bans.table, clocks)?)?;
        self.bans.writer = Some(self.start_writing(&path, &text)?);
        Ok(())
    }

    /// The writer of the bans has something to say, or has ended.
    pub(super) fn on_ban_writer(&mut self) {
        let mut packet = [0; REPORT_LENGTH];
        match self.bans.writer.as_ref().map(|channel| channel.receive(&mut packet)) {
            Some(Ok(Received::Packet { .. })) => {
                if let Some(Report { errno, .. }) = Report::read(&packet).filter(|report| report.errno != 0) {
                    let path = self.ban_file().unwrap_or_default();
                    let why = process::errno_name(errno);
                    self.note(Level::Err, &format!("the bans can't be kept in {}: {why}", path.display()));
                }
            }
            Some(Ok(Received::Empty)) | None => {}
            Some(Ok(Received::Closed) | Err(_)) => self.bans.writer = None,
        }
    }
}

/// A file that somebody else could have put there would ban whom he likes.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    let is_own = found.uid() == 0 || found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_file() || !is_own || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("it is not a file that superd alone can write"));
    }
    if found.len() > MAX_FILE {
        return Err(io::Error::other("it is too long"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_of_others_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bans.json");
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "{}").unwrap();
        for (mode, good) in [(0o640, true), (0o660, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), good, "{mode:o}");
        }
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link).is_err());
    }
}
