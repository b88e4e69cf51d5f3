//! How often clients come, over all superwraps that run: a file of stamps, locked while it is looked at. Who can't be
//! counted is refused.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use crate::model::address::Source;
use crate::model::rate::Rate;
use crate::service::reason::Reason;
use crate::service::stamps::{BUCKET, Bucket, Entry};

use super::client::Visit;
use super::policy::{Rules, Service};
use super::refusal::Refusal;

/// What stands in front of the buckets: a mark, and a key for the hashes that strangers must not know.
const MARK: &[u8; 16] = b"superwrap 1\n\0\0\0\0";
const KEY: usize = 16;

/// Buckets: half a megabyte, of which the file system keeps what was written.
const BUCKETS: u64 = 4096;

/// Writable by its owner and group alone: whoever writes it says how often others have come.
const MODE: u32 = 0o660;

/// Counts a client that may come in otherwise; or says that it comes too often.
pub(super) fn count(rules: &Rules, visit: &Visit, now: SystemTime) -> Result<(), Refusal> {
    let Some(Service { settings, .. }) = &rules.service else { return Ok(()) };
    if settings.rate.is_none() && settings.rate_per_source.is_none() {
        return Ok(());
    }
    let source = Source::of(&visit.client, settings.source_prefix);
    let all = settings.rate.map(|rate| (Reason::Rate, rate, None));
    let own = settings.rate_per_source.map(|rate| (Reason::RatePerSource, rate, Some(source)));
    let outcome = State::open(&rules.wrap.state)
        .and_then(|state| state.count([own, all].into_iter().flatten(), settings.name.as_str(), now));
    match outcome {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(Refusal::because(reason).at(&settings.place)),
        Err(error) => {
            Err(Refusal::trouble(format!("can't count in {}: {error}", rules.wrap.state.display())))
        }
    }
}

/// The state file, while this process alone has it.
struct State {
    file: Flock<File>,
    key: [u8; KEY],
}

impl State {
    /// Waits for whoever has it: no longer than the deadline of the decision lets it.
    fn open(path: &Path) -> io::Result<Self> {
        let options = |file: &mut OpenOptions| {
            file.read(true)
                .write(true)
                .mode(MODE)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)
        };
        let file = options(OpenOptions::new().create(true))?;
        let about = file.metadata()?;
        if !about.is_file() || about.mode() & 0o002 != 0 {
            return Err(io::Error::other(
                "it is not a regular file that its owner and group alone can write",
            ));
        }
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let key = head(&file)?;
        Ok(Self { file, key })
    }

    /// Counts in all of them, or in none. The first that has no room is the reason.
    fn count(
        &self,
        limits: impl Iterator<Item = (Reason, Rate, Option<Source>)>,
        service: &str,
        now: SystemTime,
    ) -> io::Result<Option<Reason>> {
        let mut writes: Vec<(u64, Entry)> = Vec::new();
        for (reason, rate, source) in limits {
            let hash = self.hash(service, source);
            let start = BUCKET as u64 * (1 + hash % BUCKETS);
            let mut bytes = [0; BUCKET];
            read_at_most(&self.file, &mut bytes, start)?;
            match Bucket::from(bytes).count(hash, rate, now) {
                Some(entry) => writes.push((start, entry)),
                None => return Ok(Some(reason)),
            }
        }
        for (start, Entry { at, bytes }) in writes {
            self.file.write_all_at(&bytes, start + at as u64)?;
        }
        Ok(None)
    }

    fn hash(&self, service: &str, source: Option<Source>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        service.hash(&mut hasher);
        source.hash(&mut hasher);
        hasher.finish()
    }
}

/// The key of the file. An empty file gets one, in one piece with the mark.
fn head(file: &File) -> io::Result<[u8; KEY]> {
    let mut head = [0; 16 + KEY];
    if read_at_most(file, &mut head, 0)? == 0 {
        let random = RandomState::new();
        let (mark, key) = head.split_at_mut(MARK.len());
        mark.copy_from_slice(MARK);
        for (place, number) in key.chunks_mut(8).zip(0..) {
            let bytes = random.hash_one::<u64>(number).to_le_bytes();
            place.copy_from_slice(bytes.get(..place.len()).unwrap_or_default());
        }
        file.write_all_at(&head, 0)?;
    }
    match head.split_first_chunk::<16>() {
        Some((mark, key)) if mark == MARK => key.try_into().map_err(|_| io::ErrorKind::InvalidData.into()),
        _ => Err(io::Error::other("it is not a file that superwrap has made")),
    }
}

/// What lies behind the end of the file are zeroes.
fn read_at_most(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64)? {
            0 => break,
            length => done += length,
        }
    }
    Ok(done)
}
