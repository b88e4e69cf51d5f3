//! Items of a list of hosts that begin as an address does: text to network.
//!
//! Where libwrap reads a number otherwise than people do (octal octets, `/abc` as `/0`), it is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::network::Network;

use super::pattern::{Bad, HostPattern, Read};

const OCTETS: &str = "write four decimal numbers from 0 to 255, without leading zeros";
const BRACKETS: &str = "an IPv6 address stands in brackets: `[2001:db8::1]`, `[2001:db8::]/32`";
const HOST_BITS: &str = "bits are set that the mask leaves out";

/// Digits and dots: an address, or the beginning of one.
pub(super) fn number(text: &str) -> Result<Read<HostPattern>, Bad> {
    if let Ok(address) = text.parse() {
        return Ok(Read::Is(HostPattern::Network(Network::host(IpAddr::V4(address)))));
    }
    if text.starts_with('.') {
        return Err(Bad::new(format!("`{text}`: a number begins with a dot"), OCTETS));
    }
    let Some(start) = text.strip_suffix('.') else {
        return Ok(Read::Dead(
            "it is neither an address nor a name; a network ends in a dot",
            HostPattern::Nobody,
        ));
    };
    let octets: Vec<_> = start.split('.').map(octet).collect();
    let (Some(octets), 1..=3) = (octets.iter().copied().collect::<Option<Vec<u8>>>(), octets.len()) else {
        return Err(Bad::new(format!("no address begins with `{text}`"), OCTETS));
    };
    let mut address = [0; 4];
    for (to, octet) in address.iter_mut().zip(&octets) {
        *to = *octet;
    }
    let bits = octets.iter().fold(0, |bits, _| bits + 8);
    Ok(Read::Is(HostPattern::Network(Network::around(Ipv4Addr::from(address).into(), bits))))
}

fn octet(text: &str) -> Option<u8> {
    text.parse().ok().filter(|number: &u8| number.to_string() == text)
}

/// `network/mask` or `network/length`.
pub(super) fn v4(network: &str, mask: &str) -> Result<Read<HostPattern>, Bad> {
    let Ok(network) = network.parse::<Ipv4Addr>() else {
        let message = format!("`{network}` before `/{mask}` is no IPv4 address");
        return Err(Bad::new(message, if network.contains(':') { BRACKETS } else { OCTETS }));
    };
    let pattern = if mask.contains('.') {
        mask.parse().ok().map(|mask| masked(network, mask))
    } else {
        length(mask, 32).map(|len| with_length(network, len))
    };
    let message = || format!("what follows `{network}/` is neither a length nor a mask");
    pattern.ok_or_else(|| Bad::new(message(), "write a length from 1 to 32, or a mask of four numbers"))
}

fn with_length(network: Ipv4Addr, len: u8) -> Read<HostPattern> {
    match Network::new(network.into(), len) {
        _ if len == 0 => dead("a length of 0 is no address for libwrap: write `0.0.0.0/0.0.0.0`, or ALL"),
        Some(network) => Read::Is(HostPattern::Network(network)),
        None => dead(HOST_BITS),
    }
}

fn masked(network: Ipv4Addr, mask: Ipv4Addr) -> Read<HostPattern> {
    let (bits, ones) = (mask.to_bits(), mask.to_bits().count_ones());
    if mask == Ipv4Addr::BROADCAST {
        return dead("libwrap takes that mask for an error: write the address alone");
    } else if network.to_bits() & !bits != 0 {
        return dead(HOST_BITS);
    }
    let len = u8::try_from(ones).ok().filter(|_| bits.leading_ones() == ones);
    let network_of_len = len.and_then(|len| Network::new(network.into(), len));
    Read::Is(network_of_len.map_or(HostPattern::Masked { network, mask }, HostPattern::Network))
}

fn dead(why: &'static str) -> Read<HostPattern> {
    Read::Dead(why, HostPattern::Nobody)
}

/// Decimal, without sign and leading zeros.
fn length(text: &str, most: u8) -> Option<u8> {
    octet(text).filter(|len| *len <= most)
}

/// `[address]` or `[address]/length`.
pub(super) fn bracketed(text: &str) -> Result<Read<HostPattern>, Bad> {
    let inner = text.strip_prefix('[').unwrap_or(text);
    let Some((address, rest)) = inner.split_once(']') else {
        return Err(Bad::new(format!("the bracket of `{text}` is not closed"), BRACKETS));
    };
    v6(address, rest)
}

/// An address, and what follows it: nothing, or `/length`.
pub(super) fn v6(address: &str, rest: &str) -> Result<Read<HostPattern>, Bad> {
    let Ok(network) = address.parse::<Ipv6Addr>() else {
        let hint = if address.contains('%') { "leave the zone out: any will match" } else { BRACKETS };
        return Err(Bad::new(format!("`{address}` is no IPv6 address"), hint));
    };
    let len = match rest.strip_prefix('/') {
        Some(len) => length(len, 128),
        None => Some(128).filter(|_| rest.is_empty()),
    };
    let Some(len) = len else {
        let message = format!("`{rest}` after the address is no length");
        return Err(Bad::new(message, "write `/` and a number from 0 to 128"));
    };
    let network = Network::around(network.into(), len);
    if network.address().is_ipv4() {
        return Ok(dead("such clients count as IPv4: write the IPv4 address"));
    }
    Ok(Read::Is(HostPattern::Network(network)))
}

#[cfg(test)]
mod tests {
    use super::super::pattern::host;
    use super::*;

    #[test]
    fn networks_are_read() {
        for (text, network) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.", "10.0.0.0/8"),
            ("10.1.2.", "10.1.2.0/24"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("131.155.72.0/255.255.254.0", "131.155.72.0/23"),
            ("0.0.0.0/0.0.0.0", "0.0.0.0/0"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::99]/33", "2001:db8::/33"),
            ("[::]/0", "::/0"),
            ("[fe80::]/10", "fe80::/10"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            let expected = HostPattern::Network(network.parse().unwrap());
            assert_eq!(host(text), Ok(Read::Is(expected)), "{text}");
        }
        let (network, mask) = (Ipv4Addr::new(10, 0, 2, 0), Ipv4Addr::new(255, 0, 255, 0));
        assert_eq!(host("10.0.2.0/255.0.255.0"), Ok(Read::Is(HostPattern::Masked { network, mask })));
    }

    #[test]
    fn what_libwrap_never_matches_is_dead() {
        for text in [
            "10",
            "10.1",
            "10.1.2.03",
            "10.1.2.300",
            "10.1.2.3/8",
            "10.1.2.3/255.0.0.0",
            "10.1.2.3/255.255.255.255",
            "0.0.0.0/0",
            "[::ffff:10.1.2.3]",
            "[::ffff:0:0]/96",
            "[::ffff:10.0.0.0]/104",
        ] {
            assert!(matches!(host(text), Ok(Read::Dead(_, HostPattern::Nobody))), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_refused() {
        for text in [
            ".1.2",
            "300.",
            "010.",
            "10..",
            "10.1.2.3.",
            "10/8",
            "10.1/16",
            "012.0.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/33",
            "10.0.0.0/255",
            "10.0.0.0/-1",
            "10.0.0.0/255.0.0",
            "10.0.0.0/8x",
            "host.example/24",
            "[2001:db8::",
            "[2001:db8:*]",
            "[2001:db8::]/129",
            "[2001:db8::]/",
            "[2001:db8::]/abc",
            "[2001:db8::]8",
            "[fe80::1%eth0]",
            "[10.1.2.3]",
            "[]",
            "2001:db8::/32",
            "2001:db8",
        ] {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
