//! Which datagrams get an answer: none that could be half of a loop, or that many would answer at once.
//!
//! Two services that answer each other's answers never stop, and the first datagram may be anybody's with a
//! forged source. So nothing is answered that claims to come from a port where something may answer again.

use std::net::{IpAddr, SocketAddr};

use crate::model::address::canonical;

/// One datagram, as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Where it says that it comes from.
    pub source: SocketAddr,
    /// The address that it was sent to.
    pub asked: IpAddr,
    /// That is an address of this machine alone, not of a group or of a whole network.
    pub unicast: bool,
}

/// Ports below it belong to services, which may answer.
const FIRST_OF_CLIENTS: u16 = 1024;

/// NFS, which answers as well.
const NFS: u16 = 2049;

/// May it be answered? `own` are the ports of all built-in datagram services here: a second superd is likely to
/// have the same.
pub fn may_be_answered(question: &Question, own: &[u16]) -> bool {
    let source = canonical(question.source);
    let port = source.port();
    let from_service = port < FIRST_OF_CLIENTS || port == NFS || own.contains(&port);
    question.unicast && !is_group(question.asked) && !is_nobody(source.ip()) && !from_service
}

fn is_group(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_multicast() || address == IpAddr::from([255; 4])
}

/// No single machine can have sent from there: groups, everybody, and network 0 (RFC 1122, 3.2.1.3).
fn is_nobody(source: IpAddr) -> bool {
    let reserved = match source {
        IpAddr::V4(v4) => matches!(v4.octets(), [0 | 240.., ..]),
        IpAddr::V6(v6) => v6.is_unspecified(),
    };
    reserved || is_group(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u16; 2] = [7007, 1900];

    #[track_caller]
    fn check(source: &str, asked: &str, unicast: bool, expected: bool) {
        let question = Question { source: source.parse().unwrap(), asked: asked.parse().unwrap(), unicast };
        assert_eq!(may_be_answered(&question, &OWN), expected, "{question:?}");
    }

    #[test]
    fn clients_are_answered() {
        check("192.0.2.7:40000", "192.0.2.1", true, true);
        check("192.0.2.7:1024", "192.0.2.1", true, true);
        check("127.0.0.1:65535", "127.0.0.5", true, true);
        check("[2001:db8::1]:40000", "2001:db8::2", true, true);
        check("[::ffff:192.0.2.7]:40000", "::ffff:192.0.2.1", true, true);
        check("[fe80::1%3]:40000", "fe80::2", true, true);
    }

    #[test]
    fn ports_of_services_are_not() {
        for port in [0, 7, 9, 13, 17, 19, 37, 53, 123, 161, 389, 514, 1023, 2049, 7007, 1900] {
            check(&format!("192.0.2.7:{port}"), "192.0.2.1", true, false);
            check(&format!("[2001:db8::1]:{port}"), "2001:db8::2", true, false);
        }
    }

    #[test]
    fn groups_and_networks_are_not() {
        check("192.0.2.7:40000", "192.0.2.255", false, false);
        check("192.0.2.7:40000", "255.255.255.255", true, false);
        check("192.0.2.7:40000", "224.0.0.1", true, false);
        check("192.0.2.7:40000", "::ffff:224.0.0.1", true, false);
        check("[fe80::1%3]:40000", "ff02::1", true, false);
    }

    #[test]
    fn sources_that_are_nobody_are_not() {
        for source in
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[::ffff:224.0.0.1]"]
        {
            check(&format!("{source}:40000"), "192.0.2.1", true, false);
        }
        check("[::]:40000", "2001:db8::2", true, false);
        check("[ff02::1]:40000", "2001:db8::2", true, false);
    }
}
