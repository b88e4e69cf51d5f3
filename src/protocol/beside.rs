//! What a configuration's rules need beside it, taken from the block that the loader made. Sets stay in the
//! block, wherever that is: a million networks are not copied.

use std::fmt;
use std::ops::{Deref, Range};
use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::config::access::{self, Access, Sets};
use crate::policy::hours::Hours;
use crate::policy::table::Table;
use crate::policy::tables::Tables;

use super::tables::{Hosts, HostsFiles, decode, zone};

/// All of it.
#[derive(Debug)]
pub struct Beside {
    /// Sets and hours.
    pub tables: Tables,
    /// That of `[daemon]`.
    pub zone: TimeZone,
    /// The same, as it came.
    pub zone_bytes: Rc<[u8]>,
    /// hosts.allow and hosts.deny of those services that ask them.
    pub hosts: Vec<(HostsFiles, Rc<Hosts>)>,
}

/// What the configuration names.
#[derive(Debug, Clone, Copy)]
pub struct Named<'n> {
    /// `[sets]`
    pub sets: &'n Sets,
    /// `[hours]`
    pub hours: &'n access::Hours,
    /// The zone of `[daemon]`.
    pub zone: &'n String,
}

/// The block is not what the configuration needs.
#[derive(Debug)]
pub struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes the block of a configuration.
pub fn open<B: Deref<Target = [u8]> + 'static>(block: B, named: &Named<'_>) -> Result<Beside, Unfit> {
    let block = Rc::new(block);
    let parts = decode(&block).map_err(|_| Unfit("the tables are malformed".to_owned()))?;
    let missing = |what: &str, name: &str| Unfit(format!("{what} `{name}` is missing"));
    let zone_bytes = |name: &String| parts.zones.get(name).and_then(|range| block.get(range.clone()));
    let zone = |name: &String| {
        zone_bytes(name).and_then(|bytes| zone(name, bytes)).ok_or_else(|| missing("the time zone", name))
    };
    let mut tables = Tables::default();
    for name in named.sets.keys() {
        let part = parts.sets.get(name).map(|range| Part { block: Rc::clone(&block), range: range.clone() });
        let table =
            part.and_then(|part| Table::open(part).ok()).ok_or_else(|| missing("the set", name.as_str()))?;
        tables.put_set(name.clone(), table);
    }
    for (name, hours) in named.hours {
        tables.put_hours(name.clone(), Hours::new(hours.windows.clone(), zone(&hours.zone)?));
    }
    let mut hosts = Vec::with_capacity(parts.hosts.len());
    for (files, range) in &parts.hosts {
        let bytes = block.get(range.clone()).unwrap_or_default();
        let compiled = serde_json::from_slice(bytes).map_err(|error| Unfit(error.to_string()))?;
        hosts.push((files.clone(), Rc::new(compiled)));
    }
    let bytes = zone_bytes(named.zone).unwrap_or_default().into();
    Ok(Beside { tables, zone: zone(named.zone)?, zone_bytes: bytes, hosts })
}

/// The hosts files that a service asks.
pub fn hosts_of<'h>(hosts: &'h [(HostsFiles, Rc<Hosts>)], access: &Access) -> Option<&'h Rc<Hosts>> {
    let asked = access.hosts_access.as_ref()?;
    let is_asked = |(allow, deny): &HostsFiles| *allow == asked.allow && *deny == asked.deny;
    hosts.iter().find(|(files, _)| is_asked(files)).map(|(_, tables)| tables)
}

/// A stretch of the block, which lives as long as somebody has a part of it.
struct Part<B> {
    block: Rc<B>,
    range: Range<usize>,
}

impl<B: Deref<Target = [u8]>> Deref for Part<B> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.block.get(self.range.clone()).unwrap_or_default()
    }
}
