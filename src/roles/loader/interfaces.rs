//! The interfaces of this machine: their facts for `superd check --resolve`, their addresses for rules.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::config::interfaces::InterfaceFacts;
use crate::policy::request::Interfaces;
use crate::sys::interfaces::addresses;

/// What `local` and `link` stand for now.
pub fn own() -> io::Result<Interfaces> {
    let all = addresses()?;
    let links = all.iter().map(|own| own.network);
    Ok(Interfaces::new(all.iter().map(|own| own.address), links))
}

/// What the kernel says of them.
pub fn interfaces() -> nix::Result<Vec<InterfaceFacts>> {
    let mut all: BTreeMap<String, InterfaceFacts> = BTreeMap::new();
    // One row for each address, and one for the link itself.
    for row in getifaddrs()? {
        let facts = all.entry(row.interface_name.clone()).or_default();
        facts.name = row.interface_name;
        facts.up = row.flags.contains(InterfaceFlags::IFF_UP);
        facts.multicast = row.flags.contains(InterfaceFlags::IFF_MULTICAST);
        facts.addresses.extend(row.address.as_ref().and_then(ip));
        // The kernel puts a broadcast address and the other end of a link into the same place.
        if row.flags.contains(InterfaceFlags::IFF_BROADCAST)
            && let Some(IpAddr::V4(address)) = row.broadcast.as_ref().and_then(ip)
        {
            facts.broadcasts.push(address);
        }
    }
    Ok(all.into_values().collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let all = interfaces().unwrap();
        let loopback = all.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(!loopback.multicast && loopback.broadcasts.is_empty(), "{loopback:?}");
    }
}
