//! What the rules of a configuration need beside it, in one block of bytes: compiled sets, time zones, and
//! hosts.allow with hosts.deny. A reload replaces it as a whole, and no service changes by it.
//!
//! The length of a JSON index as 8 bytes, the index, then what it names, each at a multiple of a line of the
//! processor's cache: tables are asked where they lie.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::identity::Identity;
use crate::model::label::Label;
use crate::policy::hosts_access::{self, expand::Template};

use super::launch::Malformed;

const LINE: usize = 64;

const LENGTH: usize = size_of::<u64>();

/// What files with this in front hold is a zone of tzfile(5); others are a rule as the variable TZ says it.
const TZIF: &[u8] = b"TZif";

/// hosts.allow and hosts.deny, by their paths.
pub type HostsFiles = (PathBuf, PathBuf);

/// hosts.allow and hosts.deny, compiled, with what they name and the loader has looked up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hosts {
    /// The rules.
    pub tables: hosts_access::Tables,
    /// The users of the option `user`.
    pub users: BTreeMap<String, Identity>,
    /// The groups of the options `user` and `group`.
    pub groups: BTreeMap<String, u32>,
    /// The files of the option `banners`, by their paths.
    pub banners: BTreeMap<String, Template>,
}

/// All of it, each part as `T`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts<T> {
    /// Tables of networks, as [`crate::policy::table::build`] makes them.
    pub sets: BTreeMap<Label, T>,
    /// For [`zone`], by the name that the configuration has for it.
    pub zones: BTreeMap<String, T>,
    /// [`Hosts`], as JSON.
    pub hosts: Vec<(HostsFiles, T)>,
}

impl<T> Default for Parts<T> {
    fn default() -> Self {
        Self { sets: BTreeMap::new(), zones: BTreeMap::new(), hosts: Vec::new() }
    }
}

impl<T> Parts<T> {
    /// Each part as something else, in a fixed order; or the first error.
    fn try_map<U, E>(self, mut change: impl FnMut(T) -> Result<U, E>) -> Result<Parts<U>, E> {
        let Self { sets, zones, hosts } = self;
        Ok(Parts {
            sets: sets.into_iter().map(|(key, part)| Ok((key, change(part)?))).collect::<Result<_, E>>()?,
            zones: zones.into_iter().map(|(key, part)| Ok((key, change(part)?))).collect::<Result<_, E>>()?,
            hosts: hosts.into_iter().map(|(key, part)| Ok((key, change(part)?))).collect::<Result<_, E>>()?,
        })
    }
}

/// Lays the parts out.
pub fn encode(parts: Parts<Vec<u8>>) -> Result<Vec<u8>, Malformed> {
    let mut body: Vec<u8> = Vec::new();
    let place = |part: Vec<u8>| {
        body.resize(body.len().next_multiple_of(LINE), 0);
        let start = body.len();
        body.extend(part);
        Ok::<Range<usize>, Malformed>(start..body.len())
    };
    let index = serde_json::to_vec(&parts.try_map(place)?).map_err(|_| Malformed)?;
    let mut out = Vec::with_capacity(LENGTH + index.len() + LINE + body.len());
    out.extend_from_slice(&(index.len() as u64).to_le_bytes());
    out.extend_from_slice(&index);
    out.resize(out.len().next_multiple_of(LINE), 0);
    out.extend(body);
    Ok(out)
}

/// Where each part is in the block.
pub fn decode(block: &[u8]) -> Result<Parts<Range<usize>>, Malformed> {
    let (length, rest) = block.split_first_chunk::<LENGTH>().ok_or(Malformed)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| Malformed)?;
    let index = rest.get(..length).ok_or(Malformed)?;
    let index: Parts<Range<usize>> = serde_json::from_slice(index).map_err(|_| Malformed)?;
    let body = (LENGTH + length).next_multiple_of(LINE);
    index.try_map(|range| {
        let (start, end) = (range.start.checked_add(body), range.end.checked_add(body));
        let range = start.ok_or(Malformed)?..end.ok_or(Malformed)?;
        block.get(range.clone()).map(|_| range).ok_or(Malformed)
    })
}

/// The time zone in the bytes of a part; `None` if there is none in them.
pub fn zone(name: &str, bytes: &[u8]) -> Option<TimeZone> {
    if bytes.starts_with(TZIF) {
        return TimeZone::tzif(name, bytes).ok();
    }
    TimeZone::posix(std::str::from_utf8(bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let hosts = (PathBuf::from("/etc/hosts.allow"), PathBuf::from("/etc/hosts.deny"));
        let parts = Parts {
            sets: BTreeMap::from([("a".parse().unwrap(), vec![1; 100]), ("b".parse().unwrap(), Vec::new())]),
            zones: BTreeMap::from([("local".to_owned(), b"UTC0".to_vec())]),
            hosts: vec![(hosts.clone(), b"{}".to_vec())],
        };
        let block = encode(parts).unwrap();
        let index = decode(&block).unwrap();
        let at = |range: &Range<usize>| &block[range.clone()];
        let label = |text: &str| text.parse::<Label>().unwrap();
        assert_eq!(at(&index.sets[&label("a")]), [1; 100]);
        assert_eq!(at(&index.sets[&label("b")]), b"");
        assert_eq!(at(&index.zones["local"]), b"UTC0");
        assert_eq!((&index.hosts[0].0, at(&index.hosts[0].1)), (&hosts, &b"{}"[..]));
        assert!(index.sets.values().all(|range| range.start % LINE == 0));
        for cut in 0..block.len() {
            assert_eq!(decode(&block[..cut]), Err(Malformed), "{cut}");
        }
        assert_eq!(decode(&[0xff; 64]), Err(Malformed));
        assert_eq!(decode(&encode(Parts::default()).unwrap()), Ok(Parts::default()));
    }

    #[test]
    fn zones_are_rules_or_files() {
        assert!(zone("local", b"UTC0").is_some());
        assert!(zone("local", b"CET-1CEST,M3.5.0,M10.5.0/3").is_some());
        for bad in [&b""[..], b"nonsense", b"TZif", b"\xff"] {
            assert!(zone("x", bad).is_none(), "{bad:?}");
        }
    }
}
