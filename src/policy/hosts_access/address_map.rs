//! From an address to the first of many networks that holds it: a look-up, however many there are.
//!
//! Knows networks and their numbers, nothing of rules.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::network::Network;

/// Ranges of addresses that don't meet, each with the lowest number of the networks that hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AddressMap {
    /// First, last, number; rising.
    v4: Vec<(u32, u32, u32)>,
    v6: Vec<(u128, u128, u32)>,
}

/// While the map is made, all addresses are numbers of one kind.
type Span = (u128, u128, u32);

impl AddressMap {
    /// Of networks and their numbers.
    pub(super) fn of(networks: impl IntoIterator<Item = (Network, u32)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, number) in networks {
            match network.address() {
                IpAddr::V4(first) => {
                    let first = first.to_bits();
                    let last = first | u32::MAX.checked_shr(network.prefix().into()).unwrap_or(0);
                    v4.push((first.into(), last.into(), number));
                }
                IpAddr::V6(first) => {
                    let first = first.to_bits();
                    v6.push((
                        first,
                        first | u128::MAX.checked_shr(network.prefix().into()).unwrap_or(0),
                        number,
                    ));
                }
            }
        }
        let narrow = |bits: u128| u32::try_from(bits).unwrap_or(u32::MAX);
        let v4 = apart(v4).into_iter().map(|(first, last, number)| (narrow(first), narrow(last), number));
        Self { v4: v4.collect(), v6: apart(v6) }
    }

    /// The lowest number of a network that holds the address.
    pub(super) fn get(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => find(&self.v4, address.to_bits()),
            IpAddr::V6(address) => find(&self.v6, address.to_bits()),
        }
    }
}

fn find<K: Copy + Ord>(spans: &[(K, K, u32)], key: K) -> Option<u32> {
    let at = spans.partition_point(|(first, _, _)| *first <= key).checked_sub(1)?;
    spans.get(at).filter(|(_, last, _)| key <= *last).map(|(_, _, number)| *number)
}

/// Walks over all spans from the lowest address on; of those that hold a place, the lowest number has it.
fn apart(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut coming = spans.into_iter().peekable();
    let mut here = BinaryHeap::new();
    let mut apart: Vec<Span> = Vec::new();
    let mut at = 0;
    loop {
        while here.peek().is_some_and(|Reverse((_, last))| *last < at) {
            here.pop();
        }
        if here.is_empty() {
            let Some((first, _, _)) = coming.peek() else { return apart };
            at = at.max(*first);
        }
        while let Some((_, last, number)) = coming.next_if(|(first, _, _)| *first <= at) {
            here.push(Reverse((number, last)));
        }
        let Some(&Reverse((number, last))) = here.peek().filter(|Reverse((_, last))| *last >= at) else {
            continue;
        };
        let end = coming.peek().map_or(last, |(first, _, _)| last.min(first - 1));
        match apart.last_mut() {
            Some(before) if before.2 == number && before.1 + 1 == at => before.1 = end,
            _ => apart.push((at, end, number)),
        }
        let Some(next) = end.checked_add(1) else { return apart };
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_network_has_the_address() {
        let networks = [
            "10.1.2.0/24",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.0/25",
            "192.0.2.128/25",
            "255.255.255.255/32",
            "2001:db8::/32",
            "::/0",
            "0.0.0.0/1",
        ];
        let parsed = networks.map(|network| network.parse::<Network>().unwrap());
        let map = AddressMap::of(parsed.into_iter().zip(0..));
        for (address, expected) in [
            ("10.1.2.3", Some(0)),
            ("10.1.3.0", Some(1)),
            ("10.255.255.255", Some(1)),
            ("11.0.0.0", Some(8)),
            ("127.255.255.255", Some(8)),
            ("128.0.0.0", None),
            ("192.0.2.127", Some(3)),
            ("192.0.2.128", Some(4)),
            ("192.0.3.0", None),
            ("255.255.255.255", Some(5)),
            ("2001:db8::1", Some(6)),
            ("2001:db7:ffff::", Some(7)),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(7)),
        ] {
            assert_eq!(map.get(address.parse().unwrap()), expected, "{address}");
        }
        assert_eq!(AddressMap::default().get("::".parse().unwrap()), None);
    }

    /// Many networks that overlap, against the plain way.
    #[test]
    fn it_answers_as_a_search_would() {
        let mut state = 0x2545_f491_u32;
        let mut random = move |below: u32| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state % below
        };
        for _ in 0..200 {
            let networks: Vec<Network> = (0..random(30))
                .map(|_| {
                    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + random(256));
                    Network::around(address.into(), u8::try_from(22 + random(11)).unwrap())
                })
                .collect();
            let map = AddressMap::of(networks.iter().copied().zip(0..));
            for last in 0..300 {
                let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0x09ff_ffe0 + last));
                let expected = networks.iter().position(|network| network.contains(address));
                assert_eq!(
                    map.get(address).map(|number| number as usize),
                    expected,
                    "{networks:?} {address}"
                );
            }
        }
    }
}
