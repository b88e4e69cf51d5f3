//! `tcp:` and `udp:`, `[ADDRESS:]PORT[%INTERFACE]`. Knows no other protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::values::Complaint;
use crate::model::endpoint::{Endpoint, InetEndpoint, InterfaceName, Transport};

/// A port as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// A number.
    Number(u16),
    /// A name of /etc/services.
    Name(String),
}

/// A place of the internet protocols, its port perhaps not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetListen {
    /// tcp or udp.
    pub transport: Transport,
    /// The addresses; two for both families.
    addresses: Vec<IpAddr>,
    zone: Option<InterfaceName>,
    interface: Option<InterfaceName>,
    /// The port.
    pub port: Port,
}

/// Which addresses a protocol word takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Both,
    V4,
    V6,
}

impl InetListen {
    /// Reads what follows `tcp:` and the like.
    pub(super) fn parse(transport: Transport, family: Family, rest: &str) -> Result<Self, Complaint> {
        let (address, rest) = split_address(rest)?;
        let (port, interface) = match rest.split_once('%') {
            Some((port, name)) => (port, Some(interface_named(name)?)),
            None => (rest, None),
        };
        let place = match address {
            Some(address) => Place::named(address, family, interface)?.usable(transport)?,
            None => Place { addresses: every_address(family), zone: None, interface },
        };
        let Place { addresses, zone, interface } = place;
        Ok(Self { transport, addresses, zone, interface, port: port_named(port)? })
    }

    /// The sockets that it stands for, once the port is a number.
    pub fn endpoints(&self, port: u16) -> impl Iterator<Item = Endpoint> + '_ {
        let both = self.addresses.len() > 1;
        self.addresses.iter().map(move |&ip| {
            Endpoint::Inet(InetEndpoint {
                transport: self.transport,
                ip,
                port,
                zone: self.zone.clone(),
                interface: self.interface.clone(),
                optional: both && ip.is_ipv6(),
            })
        })
    }

    /// Does it hear other hosts?
    pub(super) fn hears_others(&self) -> bool {
        !self.addresses.iter().all(IpAddr::is_loopback)
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

/// An address, and what it is said with.
struct Place {
    addresses: Vec<IpAddr>,
    zone: Option<InterfaceName>,
    interface: Option<InterfaceName>,
}

impl Place {
    fn named(text: &str, family: Family, interface: Option<InterfaceName>) -> Result<Self, Complaint> {
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
            return Err(Complaint::new(format!("`{ip}` is of the other family"))
                .hint("`tcp:` and `udp:` take either"));
        }
        Ok(Self { addresses: vec![ip], zone, interface })
    }

    /// Can a socket be bound to it at all?
    fn usable(self, transport: Transport) -> Result<Self, Complaint> {
        let ip = self.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        match (ip, &self.zone) {
            _ if transport == Transport::Tcp && is_many(ip) => {
                Err(Complaint::new(format!("tcp can't listen at `{ip}`, which is no address of one host")))
            }
            (IpAddr::V6(v6), _) if v6.to_ipv4_mapped().is_some() => {
                let mapped = ip.to_canonical();
                Err(Complaint::new(format!("`{ip}` is the IPv4 address `{mapped}`"))
                    .hint(format!("write `{mapped}`")))
            }
            _ if ip.is_multicast() => self.group(ip),
            (_, None) if link_local => {
                Err(Complaint::new(format!("`{ip}` is link-local: each interface may have it"))
                    .hint(format!("say which one: `[{ip}%eth0]`")))
            }
            (_, Some(_)) if !link_local => {
                Err(Complaint::new(format!("`{ip}` is not link-local, and has no zone"))
                    .hint("an interface is said after the port: `tcp:192.0.2.7:79%eth0`"))
            }
            _ => Ok(self),
        }
    }

    /// A group is joined on one interface, and has it wherever it was said.
    fn group(self, ip: IpAddr) -> Result<Self, Complaint> {
        let Self { addresses, zone, interface } = self;
        let interface = match (zone, interface) {
            (Some(zone), Some(interface)) if zone != interface => {
                return Err(Complaint::new(format!(
                    "the group `{ip}` is on one interface, and this says `{zone}` and `{interface}`"
                )));
            }
            (zone, interface) => interface.or(zone),
        };
        // RFC 4291 §2.7: the scopes 1 and 2 end at the interface and at the link.
        let ends_at_link = matches!(ip, IpAddr::V6(v6) if matches!(v6.segments()[0] & 0xf, 1 | 2));
        if ends_at_link && interface.is_none() {
            return Err(Complaint::new(format!("the group `{ip}` is another one on each link"))
                .hint(format!("say the interface: `udp:[{ip}]:79%eth0`")));
        }
        Ok(Self { addresses, zone: None, interface })
    }
}

/// More than one host may have it.
fn is_many(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn every_address(family: Family) -> Vec<IpAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    match family {
        Family::Both => vec![v6, v4],
        Family::V4 => vec![v4],
        Family::V6 => vec![v6],
    }
}

fn no_address(address: &str) -> Complaint {
    let complaint = Complaint::new(format!("`{address}` is no address"));
    match address {
        "*" | "any" | "" => complaint.hint("without an address it is every one: `tcp:79`"),
        "localhost" => complaint.hint("write `127.0.0.1` or `[::1]`"),
        _ => complaint.hint("host names are not looked up here: write the address"),
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
