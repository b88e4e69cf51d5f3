//! What a configuration's rules need beside it, taken from the block that the loader made. Sets stay in the
//! mapped block: a million networks are not copied.

use std::fmt;
use std::ops::{Deref, Range};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::config::wire;
use crate::policy::hours::Hours;
use crate::policy::table::Table;
use crate::policy::tables::Tables;
use crate::protocol::tables::{Hosts, HostsFiles, decode, zone};
use crate::sys::memory::SealedMap;

/// All of it.
#[derive(Debug)]
pub(in super::super) struct Beside {
    pub(in super::super) tables: Tables,
    /// That of `[daemon]`.
    pub(in super::super) zone: TimeZone,
    /// The same, as it came.
    pub(in super::super) zone_bytes: Rc<[u8]>,
    pub(in super::super) hosts: Vec<(HostsFiles, Rc<Hosts>)>,
}

/// The block is not what the configuration needs.
#[derive(Debug)]
pub(super) struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the block of a configuration.
pub(super) fn open(block: &OwnedFd, config: &wire::Reader<'_>) -> Result<Beside, Unfit> {
    let map = Rc::new(SealedMap::open(block.as_fd()).map_err(|error| Unfit(error.to_string()))?);
    let parts = decode(&map).map_err(|_| Unfit("the tables are malformed".to_owned()))?;
    let missing = |what: &str, name: &str| Unfit(format!("{what} `{name}` is missing"));
    let zone_bytes = |name: &String| parts.zones.get(name).and_then(|range| map.get(range.clone()));
    let zone = |name: &String| {
        zone_bytes(name).and_then(|bytes| zone(name, bytes)).ok_or_else(|| missing("the time zone", name))
    };
    let mut tables = Tables::default();
    for name in config.sets().keys() {
        let part = parts.sets.get(name).map(|range| Part { map: Rc::clone(&map), range: range.clone() });
        let table =
            part.and_then(|part| Table::open(part).ok()).ok_or_else(|| missing("the set", name.as_str()))?;
        tables.put_set(name.clone(), table);
    }
    for (name, hours) in config.hours() {
        tables.put_hours(name.clone(), Hours::new(hours.windows.clone(), zone(&hours.zone)?));
    }
    let mut hosts = Vec::with_capacity(parts.hosts.len());
    for (files, range) in &parts.hosts {
        let bytes = map.get(range.clone()).unwrap_or_default();
        let compiled = serde_json::from_slice(bytes).map_err(|error| Unfit(error.to_string()))?;
        hosts.push((files.clone(), Rc::new(compiled)));
    }
    let name = &config.daemon().zone;
    let bytes = zone_bytes(name).unwrap_or_default().into();
    Ok(Beside { tables, zone: zone(name)?, zone_bytes: bytes, hosts })
}

/// A stretch of the block, which lives as long as somebody has a part of it.
struct Part {
    map: Rc<SealedMap>,
    range: Range<usize>,
}

impl Deref for Part {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.map.get(self.range.clone()).unwrap_or_default()
    }
}
