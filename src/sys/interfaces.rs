//! The addresses of this host, and the networks that its interfaces are on.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::model::network::Network;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnAddress {
    /// The address.
    pub address: IpAddr,
    /// Who can be reached through that interface without a router.
    pub network: Network,
}

/// All addresses of this host. The kernel answers at once (rtnetlink, `RTM_GETADDR`): no disk, no server.
pub fn addresses() -> io::Result<Vec<OwnAddress>> {
    let mut all = Vec::new();
    for row in getifaddrs()? {
        let Some(address) = row.address.as_ref().and_then(ip) else { continue };
        let prefix = row.netmask.as_ref().and_then(ip).map_or(128, length);
        // On a link of two, the network is the other end's.
        let other = row.destination.as_ref().and_then(ip);
        let other = other.filter(|_| row.flags.contains(InterfaceFlags::IFF_POINTOPOINT));
        all.push(OwnAddress { address, network: Network::around(other.unwrap_or(address), prefix) });
    }
    Ok(all)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn length(mask: IpAddr) -> u8 {
    let bits = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(bits).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn ip_command(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    #[test]
    fn addresses_have_their_networks() {
        // SAFETY: unshare takes no pointer, and a new network namespace concerns this thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("skipped: needs root");
            return;
        }
        assert_eq!(addresses().unwrap(), []);
        ip_command("link set lo up");
        ip_command("addr add 192.0.2.7/24 dev lo");
        ip_command("addr add 198.51.100.1 peer 198.51.100.2 dev lo");
        ip_command("addr add 2001:db8::7/64 dev lo");
        let found = addresses().unwrap();
        for (address, network) in [
            ("127.0.0.1", "127.0.0.0/8"),
            ("192.0.2.7", "192.0.2.0/24"),
            ("::1", "::1"),
            ("2001:db8::7", "2001:db8::/64"),
        ] {
            let expected =
                OwnAddress { address: address.parse().unwrap(), network: network.parse().unwrap() };
            assert!(found.contains(&expected), "{expected:?} is not in {found:?}");
        }
        assert!(found.iter().any(|own| own.address.to_string() == "198.51.100.1"), "{found:?}");
    }
}
