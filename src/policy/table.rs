//! A table of networks as flat bytes: made once, where a configuration is loaded, and asked where it is mapped.
//! Opening and asking copy nothing, asking allocates nothing.
//!
//! Networks that others cover are left out. The first addresses of the rest rise, and the one network that can
//! hold an address is the last that begins at or before it. Above the first addresses lie levels of samples, each
//! the first of a block of the level below: a look-up reads one block of each level, however the networks are
//! spread.
//!
//! There are three kinds: IPv4, IPv6 with a prefix of at most 64 bits, whose upper halves say all, and the rest of
//! IPv6.
//!
//! The bytes: a head (mark, networks given, and of each kind its networks and the shortest prefix, as 8 bytes each),
//! then for each kind the levels, the top first and all first addresses last, and the prefixes, a byte each.
//! Numbers are little-endian; each part begins at a multiple of [`BLOCK`], and is filled up with ones.

use std::fmt;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, Range};

use crate::model::network::Network;

/// What the bytes begin with; another layout has another mark.
const MARK: u64 = u64::from_le_bytes(*b"nets-v1\n");

/// What a look-up reads at once: two lines of a processor's cache, which it fetches together.
const BLOCK: usize = 128;

/// Networks that can be asked for an address.
pub struct Table {
    bytes: Box<dyn Deref<Target = [u8]>>,
    networks: u64,
    v4: Kind,
    v6_upper: Kind,
    v6: Kind,
}

/// Where the networks of a kind lie in the bytes.
#[derive(Default)]
struct Kind {
    /// From the top to all first addresses.
    levels: Vec<Range<usize>>,
    prefixes: Range<usize>,
    /// The shortest of the prefixes.
    shortest: u8,
}

/// Bytes that are no table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATable;

impl fmt::Display for NotATable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("these bytes are no table of networks")
    }
}

impl std::error::Error for NotATable {}

impl Table {
    /// Takes bytes that [`build`] made: a mapping, or a vector.
    pub fn open(bytes: impl Deref<Target = [u8]> + 'static) -> Result<Self, NotATable> {
        let word = |at: usize| {
            let word = bytes.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        };
        let (mark, networks) = (word(0).ok_or(NotATable)?, word(8).ok_or(NotATable)?);
        let said = |at: usize| word(at).zip(word(at + 8)).ok_or(NotATable);
        let (v4, end) = kind::<u32>(said(16)?, BLOCK, bytes.len()).ok_or(NotATable)?;
        let (v6_upper, end) = kind::<u64>(said(32)?, end, bytes.len()).ok_or(NotATable)?;
        let (v6, end) = kind::<u128>(said(48)?, end, bytes.len()).ok_or(NotATable)?;
        if mark != MARK || end != bytes.len() {
            return Err(NotATable);
        }
        Ok(Self { bytes: Box::new(bytes), networks, v4, v6_upper, v6 })
    }

    /// A table of these networks, in memory of its own.
    pub fn of(networks: &[Network]) -> Self {
        Self::open(build(networks)).unwrap_or_else(|NotATable| Self::empty())
    }

    fn empty() -> Self {
        Self {
            bytes: Box::new(Vec::new()),
            networks: 0,
            v4: Kind::default(),
            v6_upper: Kind::default(),
            v6: Kind::default(),
        }
    }

    /// Is the address in one of the networks?
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(ip) => self.v4.holds(&self.bytes, ip.to_bits()),
            IpAddr::V6(ip) => {
                self.v6_upper.holds(&self.bytes, upper(ip)) || self.v6.holds(&self.bytes, ip.to_bits())
            }
        }
    }

    /// Its networks, but those that others cover.
    pub fn list(&self) -> impl Iterator<Item = Network> {
        let v4 = self
            .v4
            .list::<u32>(&self.bytes)
            .map(|(first, prefix)| (Ipv4Addr::from_bits(first).into(), prefix));
        let v6_upper =
            self.v6_upper.list::<u64>(&self.bytes).map(|(upper, prefix)| (u128::from(upper) << 64, prefix));
        let v6 = v6_upper.chain(self.v6.list::<u128>(&self.bytes));
        let v6 = v6.map(|(first, prefix)| (Ipv6Addr::from_bits(first).into(), prefix));
        v4.chain(v6).filter_map(|(first, prefix)| Network::new(first, prefix))
    }

    /// How many networks it was made of.
    pub fn networks(&self) -> u64 {
        self.networks
    }

    /// Its size.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} networks, {} bytes)", self.networks, self.bytes.len())
    }
}

/// An address as a number.
trait Key: Copy + Ord {
    const SIZE: usize = size_of::<Self>();
    /// How many fit into a block, and are sampled by one.
    const FAN: usize = BLOCK / Self::SIZE;
    /// How many of a block are at or before this.
    fn at_or_before(self, block: &[u8; BLOCK]) -> usize;
    fn read(bytes: &[u8]) -> Option<Self>;
    fn write(self, out: &mut Vec<u8>);
    /// Does it begin with the same bits?
    fn agrees(self, other: Self, bits: u8) -> bool;
}

impl Key for u32 {
    fn at_or_before(self, block: &[u8; BLOCK]) -> usize {
        block.as_chunks().0.iter().map(|entry| usize::from(Self::from_le_bytes(*entry) <= self)).sum()
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn agrees(self, other: Self, bits: u8) -> bool {
        bits == 0 || (self ^ other) >> 32_u32.saturating_sub(bits.into()) == 0
    }
}

impl Key for u64 {
    fn at_or_before(self, block: &[u8; BLOCK]) -> usize {
        block.as_chunks().0.iter().map(|entry| usize::from(Self::from_le_bytes(*entry) <= self)).sum()
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn agrees(self, other: Self, bits: u8) -> bool {
        bits == 0 || (self ^ other) >> 64_u32.saturating_sub(bits.into()) == 0
    }
}

impl Key for u128 {
    // Three halvings of the eight; without a branch, which would be guessed wrong every other time.
    fn at_or_before(self, block: &[u8; BLOCK]) -> usize {
        let (entries, _) = block.as_chunks::<16>();
        let is_up_to =
            |at: usize| usize::from(entries.get(at).is_some_and(|entry| Self::from_le_bytes(*entry) <= self));
        let mut count = 4 * is_up_to(3);
        count += 2 * is_up_to(count + 1);
        count += is_up_to(count);
        count + is_up_to(count)
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|bytes| Self::from_le_bytes(*bytes))
    }
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn agrees(self, other: Self, bits: u8) -> bool {
        bits == 0 || (self ^ other) >> 128_u32.saturating_sub(bits.into()) == 0
    }
}

impl Kind {
    /// Finds the last network that begins at or before `key`, from the top down, and sees if it reaches so far.
    fn holds<K: Key>(&self, bytes: &[u8], key: K) -> bool {
        let Some((first, at)) = self.last_up_to(bytes, key) else { return false };
        // Most often this tells, and saves another wait for memory.
        if key == first || !key.agrees(first, self.shortest) {
            return key == first;
        }
        bytes.get(self.prefixes.start + at).is_some_and(|prefix| key.agrees(first, *prefix))
    }

    fn list<K: Key>(&self, bytes: &[u8]) -> impl Iterator<Item = (K, u8)> {
        let firsts = self.levels.last().and_then(|level| bytes.get(level.clone())).unwrap_or_default();
        let prefixes = bytes.get(self.prefixes.clone()).unwrap_or_default();
        firsts.chunks(K::SIZE).filter_map(K::read).zip(prefixes.iter().copied())
    }

    fn last_up_to<K: Key>(&self, bytes: &[u8], key: K) -> Option<(K, usize)> {
        let mut at = 0;
        for level in &self.levels {
            let block = bytes.get(level.start + at * BLOCK..level.end)?.first_chunk()?;
            at = at * K::FAN + key.at_or_before(block).checked_sub(1)?;
        }
        // What fills the last block up is not before any address but the last of all.
        at = at.min(self.prefixes.len().checked_sub(1)?);
        let first = K::read(bytes.get(self.levels.last()?.start + at * K::SIZE..)?)?;
        Some((first, at))
    }
}

/// The places of `count` networks whose levels begin at `start`, and their end; `None` if that is beyond `limit`.
fn kind<K: Key>((count, shortest): (u64, u64), start: usize, limit: usize) -> Option<(Kind, usize)> {
    let count = usize::try_from(count).ok().filter(|count| *count <= limit)?;
    let mut levels = Vec::new();
    let mut at = start;
    for step in steps::<K>(count) {
        let end =
            at.checked_add(count.div_ceil(step).checked_mul(K::SIZE)?)?.checked_next_multiple_of(BLOCK)?;
        levels.push(at..end);
        at = end;
    }
    let prefixes = at..at.checked_add(count)?;
    let end = prefixes.end.checked_next_multiple_of(BLOCK)?;
    let [shortest, ..] = shortest.to_le_bytes();
    (end <= limit).then_some((Kind { levels, prefixes, shortest }, end))
}

/// Of how many networks an entry of each level is the first, from the top down to 1.
fn steps<K: Key>(count: usize) -> impl Iterator<Item = usize> {
    let mut top = 1;
    while count.div_ceil(top) > K::FAN {
        top *= K::FAN;
    }
    let first = (count > 0).then_some(top);
    iter::successors(first, |step| Some(step / K::FAN).filter(|step| *step > 0))
}

/// The upper half of an address.
fn upper(address: Ipv6Addr) -> u64 {
    u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)
}

/// The bytes of a table of these networks, in any order; they may overlap.
pub fn build(networks: &[Network]) -> Vec<u8> {
    let (mut v4, mut v6_upper, mut v6) = (Vec::new(), Vec::new(), Vec::new());
    for network in networks {
        match network.address() {
            IpAddr::V4(ip) => v4.push((ip.to_bits(), network.prefix())),
            IpAddr::V6(ip) if network.prefix() <= 64 => v6_upper.push((upper(ip), network.prefix())),
            IpAddr::V6(ip) => v6.push((ip.to_bits(), network.prefix())),
        }
    }
    let (v4, v6_upper, v6) = (uncovered(v4), uncovered(v6_upper), uncovered(v6));
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MARK.to_le_bytes());
    bytes.extend_from_slice(&(networks.len() as u64).to_le_bytes());
    for (count, shortest) in [summary(&v4), summary(&v6_upper), summary(&v6)] {
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&shortest.to_le_bytes());
    }
    fill(&mut bytes);
    write(&v4, &mut bytes);
    write(&v6_upper, &mut bytes);
    write(&v6, &mut bytes);
    bytes
}

/// Without networks that are inside of others; rising.
fn uncovered<K: Key>(mut networks: Vec<(K, u8)>) -> Vec<(K, u8)> {
    // Of those with the same first address the largest comes first.
    networks.sort_unstable();
    networks.dedup_by(|(first, _), (outer, prefix)| outer.agrees(*first, *prefix));
    networks
}

/// How many there are, and the shortest prefix.
fn summary<K>(networks: &[(K, u8)]) -> (u64, u64) {
    let shortest = networks.iter().map(|(_, prefix)| *prefix).min().unwrap_or(0);
    (networks.len() as u64, shortest.into())
}

fn write<K: Key>(networks: &[(K, u8)], bytes: &mut Vec<u8>) {
    for step in steps::<K>(networks.len()) {
        networks.iter().step_by(step).for_each(|(first, _)| first.write(bytes));
        fill(bytes);
    }
    bytes.extend(networks.iter().map(|(_, prefix)| *prefix));
    fill(bytes);
}

fn fill(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0xff);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &[&str]) -> Table {
        Table::of(&networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_are_inside_or_not() {
        check(&[], &[], &["0.0.0.0", "::", "192.0.2.1"]);
        check(&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "::1"]);
        check(&["::/0"], &["::", "ffff::"], &["0.0.0.0", "::ffff:1.2.3.4"]);
        check(&["::ffff:0:0/96"], &["1.2.3.4", "::ffff:1.2.3.4"], &["::"]);
        check(
            &["192.0.2.0/24", "192.0.3.0/24", "192.0.2.7", "10.0.0.1"],
            &["192.0.2.0", "192.0.2.7", "192.0.3.255", "10.0.0.1"],
            &["192.0.1.255", "192.0.4.0", "10.0.0.0", "10.0.0.2", "0.0.0.0"],
        );
        check(&["255.255.255.255", "255.255.255.254"], &["255.255.255.255"], &["255.255.255.253", "0.0.0.0"]);
        check(
            &["2001:db8::/32", "2001:db8:1::/48", "2001:db9::1", "ffff::/16"],
            &["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::1", "ffff::1"],
            &["2001:db7:ffff::", "2001:db9::", "2001:db9::2", "fffe::"],
        );
    }

    #[track_caller]
    fn check(networks: &[&str], inside: &[&str], outside: &[&str]) {
        let table = table(networks);
        assert_eq!(table.networks(), networks.len() as u64);
        let again = Table::of(&table.list().collect::<Vec<_>>());
        assert!(again.list().eq(table.list()));
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(table.contains(address.parse().unwrap()), expected, "{address} in {networks:?}");
                assert_eq!(
                    again.contains(address.parse().unwrap()),
                    expected,
                    "{address} in {networks:?}, again"
                );
            }
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let good = build(&["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
        assert!(Table::open(good.clone()).is_ok());
        for cut in 0..good.len() {
            assert_eq!(Table::open(good[..cut].to_vec()).err(), Some(NotATable), "cut at {cut}");
        }
        for (at, byte) in [(0, b'x'), (16, 200), (16, 0), (23, 255), (32, 0), (39, 255)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Table::open(bad).err(), Some(NotATable), "{byte} at {at}");
        }
        let mut long = good;
        long.push(0);
        assert_eq!(Table::open(long).err(), Some(NotATable));
    }
}
