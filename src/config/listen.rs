//! `listen`: `PROTOCOL:[ADDRESS:]PORT[%INTERFACE]`, and the endpoints that it stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::endpoint::{Endpoint, InetEndpoint, InterfaceName, Transport};

use super::keys::nearest_word;
use super::values::Complaint;

/// A port as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// A number.
    Number(u16),
    /// A name of /etc/services.
    Name(String),
}

/// One place to listen, its port perhaps not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The addresses; two for both families.
    addresses: Vec<IpAddr>,
    zone: Option<InterfaceName>,
    interface: Option<InterfaceName>,
    /// The port.
    pub port: Port,
}

impl Listen {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        let Some((protocol, rest)) = text.split_once(':') else { return Err(no_protocol(text)) };
        let family = family_of(protocol, text)?;
        let (address, rest) = split_address(rest)?;
        let (port, interface) = match rest.split_once('%') {
            Some((port, name)) => (port, Some(interface_named(name)?)),
            None => (rest, None),
        };
        let (addresses, zone) = match address {
            Some(address) => one_address(address, family)?,
            None => (every_address(family), None),
        };
        Ok(Self { addresses, zone, interface, port: port_named(port)? })
    }

    /// The sockets that it stands for, once the port is a number.
    pub fn endpoints(&self, port: u16) -> impl Iterator<Item = Endpoint> + '_ {
        let both = self.addresses.len() > 1;
        self.addresses.iter().map(move |&ip| {
            Endpoint::Inet(InetEndpoint {
                transport: Transport::Tcp,
                ip,
                port,
                zone: self.zone.clone(),
                interface: self.interface.clone(),
                optional: both && ip.is_ipv6(),
            })
        })
    }

    /// Does it hear this host alone?
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(IpAddr::is_loopback)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Both,
    V4,
    V6,
}

fn family_of(protocol: &str, text: &str) -> Result<Family, Complaint> {
    match protocol {
        "tcp" => Ok(Family::Both),
        "tcp4" => Ok(Family::V4),
        "tcp6" => Ok(Family::V6),
        "udp" | "udp4" | "udp6" | "unix" | "unix-dgram" | "unix-seqpacket" | "systemd" | "tcpmux" => {
            Err(Complaint::not_served(format!(
                "this version of superd does not serve `{protocol}` listeners yet"
            ))
            .hint("it serves tcp, tcp4 and tcp6"))
        }
        _ => Err(no_protocol(text)),
    }
}

fn no_protocol(text: &str) -> Complaint {
    let complaint = Complaint::new(format!("`{text}` does not say a protocol"));
    let bare = text.strip_prefix("*:").unwrap_or(text);
    let meant = match bare.split_once(':') {
        Some((slip, rest)) if nearest_word(["tcp", "tcp4", "tcp6"].into_iter(), slip).is_some() => Some(rest),
        Some((address, _)) if address.parse::<IpAddr>().is_err() && !address.starts_with('[') => None,
        _ => Some(bare),
    };
    match meant {
        Some(rest) if Listen::parse(&format!("tcp:{rest}")).is_ok() => {
            complaint.hint(format!("did you mean `tcp:{rest}`?"))
        }
        _ => complaint.hint("it is PROTOCOL:[ADDRESS:]PORT[%INTERFACE], for example `tcp:79`"),
    }
}

/// The address, if there is one, and what follows its colon.
fn split_address(rest: &str) -> Result<(Option<&str>, &str), Complaint> {
    if let Some(inner) = rest.strip_prefix('[') {
        let bad = || {
            Complaint::new(format!("`{rest}` is no address and port"))
                .hint("an IPv6 address is written `tcp:[::1]:79`")
        };
        let (address, after) = inner.split_once(']').ok_or_else(bad)?;
        return Ok((Some(address), after.strip_prefix(':').ok_or_else(bad)?));
    }
    // A `%` after the port may be followed by an interface with a colon (eth0:1).
    let upto = rest.find('%').unwrap_or(rest.len());
    match rest.get(..upto).unwrap_or(rest).rfind(':') {
        None => Ok((None, rest)),
        Some(at) => {
            let (address, port) =
                (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
            if address.contains(':') {
                return Err(Complaint::new(format!("`{address}` needs brackets"))
                    .hint("an IPv6 address is written `tcp:[::1]:79`"));
            }
            Ok((Some(address), port))
        }
    }
}

fn every_address(family: Family) -> Vec<IpAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    match family {
        Family::Both => vec![v6, v4],
        Family::V4 => vec![v4],
        Family::V6 => vec![v6],
    }
}

fn one_address(text: &str, family: Family) -> Result<(Vec<IpAddr>, Option<InterfaceName>), Complaint> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(interface_named(zone)?)),
        None => (text, None),
    };
    let ip: IpAddr = address.parse().map_err(|_| no_address(address))?;
    let fits = match family {
        Family::Both => true,
        Family::V4 => ip.is_ipv4(),
        Family::V6 => ip.is_ipv6(),
    };
    if !fits {
        return Err(Complaint::new(format!("`{ip}` is of the other family")).hint("`tcp:` takes either"));
    }
    usable(ip, zone.is_some())?;
    Ok((vec![ip], zone))
}

fn no_address(address: &str) -> Complaint {
    let complaint = Complaint::new(format!("`{address}` is no address"));
    match address {
        "*" | "any" | "" => complaint.hint("without an address it is every one: `tcp:79`"),
        "localhost" => complaint.hint("write `127.0.0.1` or `[::1]`"),
        _ => complaint.hint("host names are not looked up here: write the address"),
    }
}

/// Can a tcp socket be bound to it at all?
fn usable(ip: IpAddr, has_zone: bool) -> Result<(), Complaint> {
    let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match ip {
        _ if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Err(Complaint::new(format!("tcp can't listen at `{ip}`, which is no address of one host")))
        }
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let mapped = ip.to_canonical();
            Err(Complaint::new(format!("`{ip}` is the IPv4 address `{mapped}`"))
                .hint(format!("write `{mapped}`")))
        }
        _ if link_local && !has_zone => {
            Err(Complaint::new(format!("`{ip}` is link-local: each interface may have it"))
                .hint(format!("say which one: `[{ip}%eth0]`")))
        }
        _ if has_zone && !link_local => {
            Err(Complaint::new(format!("`{ip}` is not link-local, and has no zone"))
                .hint("an interface is said after the port: `tcp:192.0.2.7:79%eth0`"))
        }
        _ => Ok(()),
    }
}

fn interface_named(name: &str) -> Result<InterfaceName, Complaint> {
    InterfaceName::new(name)
        .ok_or_else(|| Complaint::new(format!("`{name}` can't be the name of an interface")))
}

fn port_named(text: &str) -> Result<Port, Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("the port is missing").hint("for example `tcp:79`"));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let number =
            text.parse().map_err(|_| Complaint::new(format!("`{text}` is no port: they end at 65535")))?;
        return Ok(Port::Number(number));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    if text.bytes().all(good) && text.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Ok(Port::Name(text.to_owned()));
    }
    Err(Complaint::new(format!("`{text}` is no port")).hint("a port is a number or a name of /etc/services"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listens_become_endpoints() {
        check("tcp:79", Ok("tcp6:79 tcp4:79"));
        check("tcp4:79", Ok("tcp4:79"));
        check("tcp6:79", Ok("tcp6:79"));
        check("tcp:0", Ok("tcp6:0 tcp4:0"));
        check("tcp:127.0.0.1:79", Ok("tcp:127.0.0.1:79"));
        check("tcp:[::1]:79", Ok("tcp:[::1]:79"));
        check("tcp:[fe80::1%eth0]:79", Ok("tcp:[fe80::1%eth0]:79"));
        check("tcp:79%eth0", Ok("tcp6:79%eth0 tcp4:79%eth0"));
        check("tcp:79%eth0:1", Ok("tcp6:79%eth0:1 tcp4:79%eth0:1"));
        check("tcp4:192.0.2.7:79%eth0", Ok("tcp:192.0.2.7:79%eth0"));
        check("tcp:0.0.0.0:79", Ok("tcp4:79"));
        check("79", Err("`79` does not say a protocol"));
        check("*:79", Err("`*:79` does not say a protocol"));
        check("tpc:79", Err("`tpc:79` does not say a protocol"));
        check("tcp:", Err("the port is missing"));
        check("tcp:65536", Err("`65536` is no port: they end at 65535"));
        check("tcp:-1", Err("`-1` is no port"));
        check("tcp:*:79", Err("`*` is no address"));
        check("tcp:localhost:79", Err("`localhost` is no address"));
        check("tcp:::1:79", Err("`::1` needs brackets"));
        check("tcp:[::1]79", Err("`[::1]79` is no address and port"));
        check("tcp:[::1", Err("`[::1` is no address and port"));
        check("tcp4:[::1]:79", Err("`::1` is of the other family"));
        check("tcp6:127.0.0.1:79", Err("`127.0.0.1` is of the other family"));
        check("tcp:224.0.0.1:79", Err("tcp can't listen at `224.0.0.1`, which is no address of one host"));
        check("tcp:[::ffff:192.0.2.7]:79", Err("`::ffff:192.0.2.7` is the IPv4 address `192.0.2.7`"));
        check("tcp:[fe80::1]:79", Err("`fe80::1` is link-local: each interface may have it"));
        check("tcp:[2001:db8::1%eth0]:79", Err("`2001:db8::1` is not link-local, and has no zone"));
        check("tcp:79%", Err("`` can't be the name of an interface"));
        check("tcp:79%a/b", Err("`a/b` can't be the name of an interface"));
        check("udp:79", Err("this version of superd does not serve `udp` listeners yet"));
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let got = Listen::parse(text).map_err(|c| c.message).map(|listen| {
            let port = match listen.port {
                Port::Number(number) => number,
                Port::Name(_) => 1,
            };
            listen.endpoints(port).map(|e| e.to_string()).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(got.as_deref().map_err(String::as_str), expected, "{text}");
    }
}
