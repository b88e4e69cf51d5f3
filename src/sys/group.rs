//! Multicast groups: joining and leaving them, and hearing no other.
//!
//! Interfaces are numbers here, 0 for the one that the kernel chooses. Knows nothing of endpoints.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use socket2::{InterfaceIndexOrAddress, SockRef};

use super::sockopt::{Knob, int, set_bytes, set_int};

/// `IPV6_MULTICAST_ALL` of linux/in6.h.
const IPV6_MULTICAST_ALL: i32 = 29;

/// Joins; `EADDRINUSE` if the socket is in the group already.
pub fn join(fd: BorrowedFd<'_>, group: IpAddr, interface: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            SockRef::from(&fd).join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
        }
        IpAddr::V6(group) => SockRef::from(&fd).join_multicast_v6(&group, interface),
    }
}

/// Leaves, also where the interface is gone.
pub fn leave(fd: BorrowedFd<'_>, group: IpAddr, interface: u32) -> io::Result<()> {
    match group {
        IpAddr::V4(group) => {
            SockRef::from(&fd).leave_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))
        }
        IpAddr::V6(group) => SockRef::from(&fd).leave_multicast_v6(&group, interface),
    }
}

/// Hears the groups that this socket has joined, not those that any other socket of the machine has.
pub fn hear_own_groups_only(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let knob = if v6 {
        Knob { level: libc::IPPROTO_IPV6, name: IPV6_MULTICAST_ALL }
    } else {
        Knob { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_ALL }
    };
    match set_int(fd, knob, 0) {
        // Before Linux 4.20 IPv6 has no such option; a socket bound to its group needs none.
        Err(error) if v6 && error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Has the interface itself joined the group, for whomever? As far as /proc tells; else yes.
pub fn is_member(group: IpAddr, interface: u32) -> bool {
    let (path, table_has): (_, fn(&str, IpAddr, u32) -> bool) = match group {
        IpAddr::V4(_) => ("/proc/net/igmp", igmp_has),
        IpAddr::V6(_) => ("/proc/net/igmp6", igmp6_has),
    };
    std::fs::read_to_string(path).map_or(true, |table| table_has(&table, group, interface))
}

/// A line of an interface begins with its index; those of its groups follow, indented, each with the address as
/// a hexadecimal word in the machine's byte order.
fn igmp_has(table: &str, group: IpAddr, interface: u32) -> bool {
    let IpAddr::V4(group) = group else { return false };
    let word = format!("{:08X}", u32::from_ne_bytes(group.octets()));
    let mut index = None;
    table.lines().any(|line| {
        let first = line.split_ascii_whitespace().next();
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            index = first.and_then(|number| number.parse().ok());
            return false;
        }
        index == Some(interface) && first == Some(&word)
    })
}

/// Index, name, address, and more.
fn igmp6_has(table: &str, group: IpAddr, interface: u32) -> bool {
    let IpAddr::V6(group) = group else { return false };
    let digits = format!("{:032x}", group.to_bits());
    table.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().and_then(|index| index.parse().ok()) == Some(interface) && words.nth(1) == Some(&digits)
    })
}

/// Sends what goes to a group out on this interface.
pub fn send_on(fd: BorrowedFd<'_>, v6: bool, interface: u32) -> io::Result<()> {
    let index = i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    if v6 {
        return set_int(fd, Knob { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_IF }, index);
    }
    // struct ip_mreqn: group, local address, index.
    let mut request = [Ipv4Addr::UNSPECIFIED.octets(); 3];
    request[2] = index.to_ne_bytes();
    set_bytes(fd, Knob { level: libc::IPPROTO_IP, name: libc::IP_MULTICAST_IF }, request.as_flattened())
}

/// Where it goes out, if that was said. IPv4 does not tell (only an address, which [`send_on`] never gives).
pub fn sent_on(fd: BorrowedFd<'_>, v6: bool) -> Option<u32> {
    let knob = Knob { level: libc::IPPROTO_IPV6, name: libc::IPV6_MULTICAST_IF };
    v6.then(|| int(fd, knob).ok()?.try_into().ok()).flatten().filter(|&index: &u32| index != 0)
}

/// The interface that a socket is bound to; 0 for none.
pub fn bound_interface(fd: BorrowedFd<'_>) -> io::Result<u32> {
    int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_BINDTOIFINDEX }).map(i32::cast_unsigned)
}

/// Binds a socket to the interface of this number; 0 to none.
pub fn bind_to_interface(fd: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let index = i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
    set_int(fd, Knob { level: libc::SOL_SOCKET, name: libc::SO_BINDTOIFINDEX }, index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IGMP: &str = "\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
7\teth0      :     2      V3
\t\t\t\t030201EF     1 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
";
    const IGMP6: &str = "\
1    lo              ff020000000000000000000000000001     1 0000000C 0
7    eth0            ff020000000000000000000000001ba7     1 0000000C 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn members_are_found_by_interface_and_group() {
        for (group, interface, expected) in [
            ("239.1.2.3", 7, true),
            ("239.1.2.3", 1, false),
            ("224.0.0.1", 1, true),
            ("224.0.0.1", 8, false),
            ("ff02::1ba7", 7, true),
            ("ff02::1ba7", 1, false),
            ("ff02::1", 1, true),
            ("ff02::1", 7, false),
        ] {
            let group: IpAddr = group.parse().unwrap();
            let found = if group.is_ipv4() {
                igmp_has(IGMP, group, interface)
            } else {
                igmp6_has(IGMP6, group, interface)
            };
            assert_eq!(found, expected, "{group} {interface}");
        }
    }
}
