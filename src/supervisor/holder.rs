//! Who has the port that superd wants: asked only to complete an error message, as far as superd may see.
//!
//! Reads /proc, up to a bound, and gives up without a word: the error is told with or without the holder.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::model::endpoint::{Endpoint, InetEndpoint, Transport, UnixEndpoint, UnixName};

/// Descriptors that are looked at, over all processes: some 50 ms.
const MAX_LINKS: usize = 20_000;

/// Longer tables of sockets are not searched.
const MAX_TABLE: u64 = 4 << 20;

/// `st` of a listening socket in /proc/net/tcp.
const LISTENING: &str = "0A";

/// `st` of a socket in /proc/net/udp that is connected to nobody.
const UNCONNECTED: &str = "07";

/// `Flags` of a listening socket in /proc/net/unix (`__SO_ACCEPTCON`), and `Type` of one of datagrams.
const ACCEPTS: &str = "00010000";
const DATAGRAM: &str = "0002";

/// A process that has the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name (comm), which it chose itself: shown with its odd characters escaped.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, {}", self.pid, self.name)
    }
}

/// The process that listens where the endpoint would.
pub(super) fn find_holder(endpoint: &Endpoint) -> Option<Holder> {
    let inode = match endpoint {
        Endpoint::Inet(inet) => inet_inode(inet),
        Endpoint::Unix(unix) => unix_inode(&read_table("/proc/net/unix")?, unix),
        Endpoint::Passed(_) => None,
    }?;
    find_owner(&format!("socket:[{inode}]"))
}

fn inet_inode(endpoint: &InetEndpoint) -> Option<u64> {
    // A socket for IPv6 may hold the IPv4 port too.
    let tables: &[&str] = match (endpoint.transport, endpoint.ip.is_ipv4()) {
        (Transport::Tcp, true) => &["/proc/net/tcp", "/proc/net/tcp6"],
        (Transport::Tcp, false) => &["/proc/net/tcp6"],
        (Transport::Udp, true) => &["/proc/net/udp", "/proc/net/udp6"],
        (Transport::Udp, false) => &["/proc/net/udp6"],
    };
    tables.iter().find_map(|table| listening_inode(&read_table(table)?, endpoint))
}

/// The inode of a socket of /proc/net/unix that has the endpoint's name: one that listens, or hears datagrams.
/// Connections that came out of a listener have its name too, but none of its flag and state.
fn unix_inode(table: &str, endpoint: &UnixEndpoint) -> Option<u64> {
    let name = match &endpoint.name {
        UnixName::Path(path) => path.to_str()?.to_owned(),
        UnixName::Abstract(name) => format!("@{name}"),
    };
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.splitn(8, ' ').collect();
        let &[_, _, _, flags, kind, _, ref rest @ ..] = fields.as_slice() else { return None };
        // The inode is padded with blanks, the path follows one.
        let (inode, path) =
            rest.join(" ").trim_start().split_once(' ').map(|(i, p)| (i.to_owned(), p.to_owned()))?;
        let hears = flags == ACCEPTS || kind == DATAGRAM;
        (hears && path == name).then(|| inode.parse().ok())?
    })
}

fn read_table(path: &str) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_TABLE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The inode of a listening socket of /proc/net/tcp or its like that is in the endpoint's way.
fn listening_inode(table: &str, endpoint: &InetEndpoint) -> Option<u64> {
    let state = if endpoint.transport == Transport::Udp { UNCONNECTED } else { LISTENING };
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (ip, port) = socket_of(words.nth(1)?)?;
        if words.nth(1)? != state || port != endpoint.port || !is_in_the_way(ip, endpoint.ip) {
            return None;
        }
        words.nth(5)?.parse().ok()
    })
}

fn is_in_the_way(held: IpAddr, wanted: IpAddr) -> bool {
    let same_family = held.is_ipv4() == wanted.is_ipv4();
    held == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        || same_family && (held == wanted || held.is_unspecified() || wanted.is_unspecified())
}

/// `0100007F:0050`: words of the address in the machine's byte order, the port as a number.
fn socket_of(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<u32> = address
        .as_bytes()
        .chunks(8)
        .map(|digits| u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok())
        .collect::<Option<_>>()?;
    let ip = match words[..] {
        [a] => Ipv4Addr::from(a.to_ne_bytes()).into(),
        [a, b, c, d] => {
            let bytes = [a, b, c, d].map(u32::to_ne_bytes).concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// The first process that has this socket open.
fn find_owner(link: &str) -> Option<Holder> {
    let mut links_left = MAX_LINKS;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            links_left = links_left.checked_sub(1)?;
            if fs::read_link(descriptor.path()).is_ok_and(|target| target == Path::new(link)) {
                let name = fs::read(process.path().join("comm")).ok()?;
                return Some(Holder { pid, name: name.trim_ascii_end().escape_ascii().to_string() });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::Transport;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0100007F:0051 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 112 1 0 100 0 0 10 0
   2: 00000000:0052 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 113 1 0 100 0 0 10 0
   3: nonsense
   4: 00000000000000000000000001000000:0053 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 114 1
   5: 00000000000000000000000000000000:0054 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 115 1
";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_socket_in_the_way_is_found() {
        let rows = [
            ("127.0.0.1", 80, Some(111)),
            ("0.0.0.0", 80, Some(111)),
            ("127.0.0.2", 80, None),
            ("127.0.0.1", 81, None),
            ("127.0.0.9", 82, Some(113)),
            ("::1", 83, Some(114)),
            ("127.0.0.1", 83, None),
            ("::1", 84, Some(115)),
            ("127.0.0.1", 84, Some(115)),
            ("::1", 80, None),
        ];
        for (ip, port, inode) in rows {
            let ip = ip.parse().unwrap();
            let transport = Transport::Tcp;
            let endpoint = InetEndpoint { transport, ip, port, zone: None, interface: None, optional: false };
            assert_eq!(listening_inode(TCP, &endpoint), inode, "{ip} {port}");
        }
    }

    const UDP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   0: 0100007F:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 211 2 0 0
   1: 0100007F:0046 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 212 2 0 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn a_socket_of_datagrams_is_in_the_way_unless_it_is_connected() {
        for (ip, port, inode) in
            [("127.0.0.1", 69, Some(211)), ("127.0.0.1", 70, None), ("127.0.0.2", 69, None)]
        {
            let (transport, ip) = (Transport::Udp, ip.parse().unwrap());
            let endpoint = InetEndpoint { transport, ip, port, zone: None, interface: None, optional: false };
            assert_eq!(listening_inode(UDP, &endpoint), inode, "{ip} {port}");
        }
    }

    const UNIX: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01   311 /run/a b.sock
0000000000000000: 00000003 00000000 00000000 0001 03 31222 /run/c.sock
0000000000000000: 00000002 00000000 00010000 0001 01 31333 /run/c.sock
0000000000000000: 00000002 00000000 00000000 0002 01 31444 @hidden
0000000000000000: 00000002 00000000 00000000 0002 01 31555
nonsense
";

    #[test]
    fn the_unix_socket_of_a_name_is_found() {
        use crate::model::endpoint::UnixKind;
        for (name, inode) in [
            (UnixName::Path("/run/a b.sock".into()), Some(311)),
            (UnixName::Path("/run/c.sock".into()), Some(31333)),
            (UnixName::Path("/run/d.sock".into()), None),
            (UnixName::Abstract("hidden".into()), Some(31444)),
            (UnixName::Abstract("run/c.sock".into()), None),
        ] {
            let endpoint = UnixEndpoint { kind: UnixKind::Stream, name, owner: None, group: None, mode: 0 };
            assert_eq!(unix_inode(UNIX, &endpoint), inode, "{endpoint}");
        }
    }
}
