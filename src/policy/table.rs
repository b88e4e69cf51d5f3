//! A table of networks as flat bytes: made once, where a configuration is loaded, and asked where it is mapped.
//! Opening and asking copy nothing, asking allocates nothing.
//!
//! Networks are ranges of numbers. Those that meet are joined, so that what is left is a rising list of bounds
//! where inside and outside take turns: an address is inside if the number of bounds up to it is odd. Above the
//! bounds lie levels of samples, each the first of a line of the level below: a look-up reads a line or two of
//! each level, however the networks are spread.
//!
//! The bytes: a line of head (mark, networks, IPv4 bounds, IPv6 bounds, as 8 bytes each), then the levels of
//! IPv4, the samples of samples first and the bounds last, then those of IPv6. Numbers are little-endian, and
//! each level begins at a multiple of a line.

use std::fmt;
use std::net::IpAddr;
use std::ops::{Deref, Range};

use crate::model::network::Network;

/// What the bytes begin with; another layout has another mark.
const MARK: u64 = u64::from_le_bytes(*b"nets-v1\n");

/// What a processor fetches at once.
const LINE: usize = 64;

/// Networks that can be asked for an address.
pub struct Table {
    bytes: Box<dyn Deref<Target = [u8]>>,
    networks: u64,
    v4: Levels,
    v6: Levels,
}

/// Where the levels lie in the bytes, from the top to the bounds.
type Levels = Vec<Range<usize>>;

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
        let (v4, v6) = (word(16).ok_or(NotATable)?, word(24).ok_or(NotATable)?);
        let (v4, end) = levels::<u32>(v4, LINE, bytes.len()).ok_or(NotATable)?;
        let (v6, end) = levels::<u128>(v6, end, bytes.len()).ok_or(NotATable)?;
        if mark != MARK || end != bytes.len() {
            return Err(NotATable);
        }
        Ok(Self { bytes: Box::new(bytes), networks, v4, v6 })
    }

    /// A table of these networks, in memory of its own.
    pub fn of(networks: &[Network]) -> Self {
        Self::open(build(networks)).unwrap_or_else(|NotATable| Self::empty())
    }

    fn empty() -> Self {
        Self { bytes: Box::new(Vec::new()), networks: 0, v4: Vec::new(), v6: Vec::new() }
    }

    /// Is the address in one of the networks?
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(ip) => is_inside(&self.bytes, &self.v4, ip.to_bits()),
            IpAddr::V6(ip) => is_inside(&self.bytes, &self.v6, ip.to_bits()),
        }
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
    /// Its bytes.
    type Bytes: Copy;
    /// How many are sampled by one: two lines of IPv6, which are fetched together, one of IPv4.
    const FAN: usize;
    const SIZE: usize = size_of::<Self::Bytes>();
    fn all(bytes: &[u8]) -> &[Self::Bytes];
    fn of(bytes: Self::Bytes) -> Self;
    fn put(self, out: &mut Vec<u8>);
    fn next(self) -> Option<Self>;
}

impl Key for u32 {
    type Bytes = [u8; 4];
    const FAN: usize = 16;
    fn all(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    fn of(bytes: [u8; 4]) -> Self {
        Self::from_le_bytes(bytes)
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    type Bytes = [u8; 16];
    const FAN: usize = 8;
    fn all(bytes: &[u8]) -> &[[u8; 16]] {
        bytes.as_chunks().0
    }
    fn of(bytes: [u8; 16]) -> Self {
        Self::from_le_bytes(bytes)
    }
    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Counts the bounds up to `key`, from the top down: each level tells the line of the next one.
fn is_inside<K: Key>(bytes: &[u8], levels: &[Range<usize>], key: K) -> bool {
    let (mut first, mut count) = (0, 0);
    for level in levels {
        let entries = K::all(bytes.get(level.clone()).unwrap_or_default());
        let end = entries.len().min(first + K::FAN);
        let line = entries.get(first..end).unwrap_or_default();
        let up_to_key = line.iter().filter(|entry| K::of(**entry) <= key).count();
        if up_to_key == 0 {
            return false;
        }
        count = first + up_to_key;
        first = (count - 1) * K::FAN;
    }
    count % 2 == 1
}

/// The places of the levels of `count` bounds that begin at `start`, and their end; `None` if that is beyond
/// `limit`.
fn levels<K: Key>(count: u64, start: usize, limit: usize) -> Option<(Levels, usize)> {
    let mut counts = Vec::new();
    let mut count = usize::try_from(count).ok().filter(|count| *count <= limit)?;
    while count > 0 {
        counts.push(count);
        count = if count > K::FAN { count.div_ceil(K::FAN) } else { 0 };
    }
    let mut levels = Vec::with_capacity(counts.len());
    let mut at = start;
    for count in counts.into_iter().rev() {
        let end = at.checked_add(count.checked_mul(K::SIZE)?)?;
        levels.push(at..end);
        at = end.checked_next_multiple_of(LINE)?;
    }
    (at <= limit).then_some((levels, at))
}

/// The bytes of a table of these networks, in any order; they may overlap.
pub fn build(networks: &[Network]) -> Vec<u8> {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for network in networks {
        match network.address() {
            IpAddr::V4(ip) => {
                let rest = u32::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
                v4.push((ip.to_bits(), ip.to_bits() | rest));
            }
            IpAddr::V6(ip) => {
                let rest = u128::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
                v6.push((ip.to_bits(), ip.to_bits() | rest));
            }
        }
    }
    let (v4, v6) = (bounds(v4), bounds(v6));
    let mut bytes = Vec::new();
    for word in [MARK, networks.len() as u64, v4.len() as u64, v6.len() as u64] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(LINE, 0);
    write(&v4, &mut bytes);
    write(&v6, &mut bytes);
    bytes
}

/// Where inside begins and ends: rising, without those that would meet.
fn bounds<K: Key>(mut ranges: Vec<(K, K)>) -> Vec<K> {
    ranges.sort_unstable();
    let mut bounds = Vec::with_capacity(ranges.len() * 2);
    let mut ranges = ranges.into_iter();
    let Some((first, mut last)) = ranges.next() else { return bounds };
    bounds.push(first);
    for (start, end) in ranges {
        // After the last address of all there is nothing outside, and no range begins.
        let Some(outside) = last.next() else { return bounds };
        if start > outside {
            bounds.extend([outside, start]);
        }
        last = last.max(end);
    }
    bounds.extend(last.next());
    bounds
}

fn write<K: Key>(bounds: &[K], bytes: &mut Vec<u8>) {
    let mut step = 1;
    while bounds.len().div_ceil(step) > K::FAN {
        step *= K::FAN;
    }
    while step > 0 && !bounds.is_empty() {
        bounds.iter().step_by(step).for_each(|bound| bound.put(bytes));
        bytes.resize(bytes.len().next_multiple_of(LINE), 0);
        step /= K::FAN;
    }
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
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(table.contains(address.parse().unwrap()), expected, "{address} in {networks:?}");
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
        for (at, byte) in [(0, b'x'), (16, 200), (16, 0), (23, 255), (24, 0), (31, 255)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Table::open(bad).err(), Some(NotATable), "{byte} at {at}");
        }
        let mut long = good;
        long.push(0);
        assert_eq!(Table::open(long).err(), Some(NotATable));
    }
}
