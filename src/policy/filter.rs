//! Rules of addresses as a socket filter: for datagrams, which a server or a handler reads before superd sees them.
//!
//! The judge itself is asked, once for each stretch of addresses between the bounds of the networks that the rules
//! name: within it no address is told from another. So the kernel says what the judge says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::filter::Instruction;
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;

use super::request::Interfaces;
use super::tables::{NamedSet, Tables};

mod program;

/// The longest program that is made. The kernel takes 4,096 instructions, but while one is replaced it has
/// memory for both only up to about this (`net.core.optmem_max`, 128 KiB).
pub const MOST: usize = 3000;

/// What a socket hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, and no IPv4 inside of it.
    V6,
}

/// There are more addresses to tell apart than a program has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// What it would take.
    pub instructions: usize,
}

/// From an address on, to the next stretch: may they? An IPv4 address is in the upper 32 bits.
type Stretch = (u128, bool);

/// The networks by whose bounds patterns tell addresses apart. What asks for more than the address tells nothing.
pub fn networks<'p>(
    patterns: impl Iterator<Item = &'p ClientPattern>,
    tables: &Tables,
    interfaces: &Interfaces,
) -> Vec<Network> {
    let mut found = Vec::new();
    for pattern in patterns {
        match pattern {
            ClientPattern::Network(network) => found.push(*network),
            ClientPattern::Set(name) => found.extend(tables.set(name).into_iter().flat_map(NamedSet::list)),
            ClientPattern::Local => {
                found.push(Network::around(Ipv4Addr::LOCALHOST.into(), 8));
                found.push(Network::host(Ipv6Addr::LOCALHOST.into()));
                found.extend(interfaces.own().map(Network::host));
            }
            ClientPattern::Link => found.extend(interfaces.links()),
            ClientPattern::Any
            | ClientPattern::Unix
            | ClientPattern::Name(_)
            | ClientPattern::Below(_)
            | ClientPattern::Unknown
            | ClientPattern::Paranoid => {}
        }
    }
    found
}

/// The program that drops what comes from whom `may` refuses; `None` if it refuses nobody. It must tell no addresses
/// apart but by the bounds of these networks.
pub fn program(
    family: Family,
    networks: &[Network],
    may: impl FnMut(IpAddr) -> bool,
) -> Result<Option<Vec<Instruction>>, TooLong> {
    let stretches = stretches(family, networks, may);
    if let [(_, true)] = stretches.as_slice() {
        return Ok(None);
    }
    let program = program::of(family, &stretches);
    if program.len() > MOST { Err(TooLong { instructions: program.len() }) } else { Ok(Some(program)) }
}

/// How many instructions these networks take, if no two neighbours are treated alike.
pub fn most_instructions(networks: &[Network]) -> usize {
    let of_family = |family| {
        let mut may = false;
        let alternating = |_| {
            may = !may;
            may
        };
        program::of(family, &stretches(family, networks, alternating)).len()
    };
    of_family(Family::V4).max(of_family(Family::V6))
}

fn stretches(family: Family, networks: &[Network], mut may: impl FnMut(IpAddr) -> bool) -> Vec<Stretch> {
    let mut starts = vec![0];
    for network in networks.iter().filter(|network| network.address().is_ipv6() == (family == Family::V6)) {
        let (first, beyond) = bounds(*network);
        starts.push(first);
        starts.extend(beyond);
    }
    // The judge takes these for IPv4: what follows them must not be judged by them.
    if family == Family::V6 && starts.iter().any(|start| address(family, *start).to_canonical().is_ipv4()) {
        starts.push(BEYOND_MAPPED);
    }
    starts.sort_unstable();
    starts.dedup();
    let mut stretches: Vec<Stretch> =
        starts.into_iter().map(|start| (start, may(address(family, start)))).collect();
    stretches.dedup_by_key(|(_, may)| *may);
    stretches
}

/// The first address behind the IPv4-mapped ones.
const BEYOND_MAPPED: u128 = 1 << 48;

/// The first address of a network, and the first one behind it.
fn bounds(network: Network) -> (u128, Option<u128>) {
    let first = match network.address() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let beyond = 1_u128.checked_shl(128_u32.saturating_sub(network.prefix().into()));
    (first, beyond.and_then(|size| first.checked_add(size)))
}

fn address(family: Family, start: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(start >> 96).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(start).into(),
    }
}

#[cfg(test)]
mod tests;
