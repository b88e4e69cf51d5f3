//! What a configuration wants of the network's interfaces, held against those that there are.
//!
//! Only warnings, and only for `superd check --resolve`: an interface or an address may come later, and superd
//! serves it then. At a start the sockets themselves tell.

use std::net::{IpAddr, Ipv4Addr};

use crate::model::endpoint::{InetEndpoint, InterfaceName, Transport};

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, Said, ServiceDraft};
use super::exposure;
use super::listen::Listen;

/// An interface, as the kernel tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of the kernel")]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// It is up (`IFF_UP`).
    pub up: bool,
    /// It carries multicast (`IFF_MULTICAST`).
    pub multicast: bool,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The broadcast addresses of its networks.
    pub broadcasts: Vec<Ipv4Addr>,
    /// No source address is held against the routes (`rp_filter` is 0).
    pub takes_any_source: bool,
    /// `accept_source_route` is set.
    pub takes_source_routes: bool,
}

/// Warns of what these interfaces do not have.
pub fn check(draft: &Draft, interfaces: &[InterfaceFacts], report: &mut Report) {
    let machine = Machine { interfaces };
    for service in draft.services.iter().filter(|s| s.values.flag(("", "enabled")) != Some(false)) {
        for Said { value, spot } in service.values.listens() {
            machine.listen(service, value, spot, report);
        }
        machine.multicast_option(service, report);
    }
    exposure::forged(draft, interfaces, report);
}

struct Machine<'m> {
    interfaces: &'m [InterfaceFacts],
}

impl Machine<'_> {
    fn listen(&self, service: &ServiceDraft, listen: &Listen, spot: &Spot, report: &mut Report) {
        let Listen::Inet(inet) = listen else { return };
        // Both families of a `tcp:` want the same of the interface, and every address is always there.
        let endpoint = inet.endpoints(0).next();
        let Some(endpoint) = endpoint.as_ref().and_then(|endpoint| endpoint.inet()) else { return };
        let can_wait = ["free_bind", "transparent"]
            .into_iter()
            .any(|key| service.values.flag(("socket", key)) == Some(true));
        let named = endpoint.interface.as_ref().or(endpoint.zone.as_ref());
        let problem = match named.map(|name| self.named(name)) {
            Some(Err(missing)) => Some(missing),
            Some(Ok(interface)) => lacks(endpoint, &[interface], can_wait),
            None => lacks(endpoint, &self.interfaces.iter().collect::<Vec<_>>(), can_wait),
        };
        warn(problem, service, spot, report);
    }

    fn named(&self, name: &InterfaceName) -> Result<&InterfaceFacts, Problem> {
        let found = self.interfaces.iter().find(|interface| interface.name == name.as_str());
        found.ok_or_else(|| Problem { text: format!("there is no interface `{name}` now"), hint: LATER })
    }

    fn multicast_option(&self, service: &ServiceDraft, report: &mut Report) {
        let key = ("socket", "multicast_interface");
        let name = service.values.text(key).and_then(InterfaceName::new);
        if let (Some(name), Some(spot)) = (name, service.values.spot(key)) {
            let problem = self.named(&name).map_or_else(Some, |interface| no_multicast(&[interface]));
            warn(problem, service, spot, report);
        }
    }
}

/// What these interfaces lack for the endpoint.
fn lacks(endpoint: &InetEndpoint, interfaces: &[&InterfaceFacts], can_wait: bool) -> Option<Problem> {
    let ip = endpoint.ip;
    if ip.is_multicast() {
        return no_multicast(interfaces);
    }
    let everywhere = endpoint.is_wildcard() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) || loops(ip);
    if everywhere || can_wait || interfaces.iter().any(|interface| interface.addresses.contains(&ip)) {
        return None;
    }
    let broadcast = interfaces.iter().find(|i| i.broadcasts.iter().any(|address| IpAddr::V4(*address) == ip));
    let whose = match interfaces {
        [one] => format!("the interface `{}` does not have", one.name),
        _ => "no interface has".to_owned(),
    };
    match (endpoint.transport, broadcast) {
        (Transport::Udp, Some(_)) => None,
        (Transport::Tcp, Some(interface)) => Some(Problem {
            text: format!("`{ip}` is a broadcast address of `{}`: no connection comes there", interface.name),
            hint: "broadcasts are for `udp:`",
        }),
        (Transport::Udp, None) if ip.is_ipv4() => Some(Problem {
            text: format!("{whose} the address `{ip}` now, nor is it a broadcast address there"),
            hint: LATER,
        }),
        (_, None) => Some(Problem { text: format!("{whose} the address `{ip}` now"), hint: LATER }),
    }
}

const LATER: &str = "the service is degraded until it comes; `ip address` shows what there is";

struct Problem {
    text: String,
    hint: &'static str,
}

fn warn(problem: Option<Problem>, service: &ServiceDraft, spot: &Spot, report: &mut Report) {
    if let Some(Problem { text, hint }) = problem {
        let message = format!("service {}: {text}", service.name);
        report.add(Diagnostic::warning("interface", spot, message).hint(hint));
    }
}

/// Of several, one that can is enough: the routes choose.
fn no_multicast(interfaces: &[&InterfaceFacts]) -> Option<Problem> {
    if interfaces.iter().any(|interface| interface.multicast && interface.up) {
        return None;
    }
    let text = match interfaces {
        [one] if !one.multicast => format!("the interface `{}` carries no multicast", one.name),
        [one] => format!("the interface `{}` is down", one.name),
        _ => "no interface that is up carries multicast".to_owned(),
    };
    Some(Problem { text, hint: "nothing is received there but what this host itself sends" })
}

/// The whole of 127.0.0.0/8 is this host's, whatever the interface says.
fn loops(ip: IpAddr) -> bool {
    ip.is_loopback() && ip.is_ipv4()
}
