//! Rules that promise more than this host keeps: addresses that can be forged, names that nobody can look up,
//! passwords that anybody on the way can read. Only warnings.

use std::net::IpAddr;

use crate::model::endpoint::Endpoint;
use crate::model::pattern::ClientPattern;

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{Draft, ServiceDraft, Values};
use super::interfaces::InterfaceFacts;
use super::listen::{Listen, Port};

/// Log-in services that send passwords as they are, by port, by its name, and by the programs that serve them.
const CLEAR_TEXT: [(u16, &str, &[&str]); 4] = [
    (23, "telnet", &["telnetd", "in.telnetd", "utelnetd"]),
    (512, "exec", &["rexecd", "in.rexecd"]),
    (513, "login", &["rlogind", "in.rlogind"]),
    (514, "shell", &["rshd", "in.rshd"]),
];

/// Warns of log-ins in clear text that an address alone guards.
pub fn clear_text(draft: &Draft, report: &mut Report) {
    for service in &draft.services {
        let values = &service.values;
        let is_known = values.users(("", "users")).is_some()
            || values.rows(("", "rule")).iter().any(|rule| rule.value.users(("", "users")).is_some());
        let Some(spot) = guard(values).filter(|_| !is_known) else { continue };
        if let Some(name) = clear_text_name(service).filter(|_| is_public(service)) {
            let message =
                format!("service {}: an address alone guards a log-in in clear text ({name})", service.name);
            let hint = "whoever is on the way reads the password, and may answer as that address";
            report.add(Diagnostic::warning("clear-text", spot, message).hint(hint));
        }
    }
}

/// Warns of rules by address on interfaces that take forged ones (`rp_filter`, `accept_source_route`).
pub fn forged(draft: &Draft, interfaces: &[InterfaceFacts], report: &mut Report) {
    for service in &draft.services {
        let Some(spot) = guard(&service.values) else { continue };
        for interface in interfaces.iter().filter(|interface| interface.up && is_used(interface, service)) {
            let name = &interface.name;
            let mut warn = |message: String, hint: String| {
                report.add(Diagnostic::warning("forged", spot, message).hint(hint));
            };
            if interface.takes_any_source {
                warn(
                    format!(
                        "service {}: `{name}` takes packets whose source is somewhere else",
                        service.name
                    ),
                    format!(
                        "addresses can be forged there; `sysctl net.ipv4.conf.{name}.rp_filter=1` forbids it"
                    ),
                );
            }
            if interface.takes_source_routes {
                warn(
                    format!("service {}: `{name}` takes packets with a source route", service.name),
                    format!("`sysctl net.ipv4.conf.{name}.accept_source_route=0` forbids it"),
                );
            }
        }
    }
}

/// Warns of rules by name where names come from files alone. The texts are those of nsswitch.conf and
/// resolv.conf, if they are there.
pub fn names(draft: &Draft, nsswitch: Option<&str>, resolv: Option<&str>, report: &mut Report) {
    let Some(problem) = lacks_names(nsswitch, resolv) else { return };
    for service in &draft.services {
        let asked = clients(&service.values).find(|(_, pattern)| pattern.asks_name());
        if let Some((spot, pattern)) = asked {
            let message = format!("service {}: `{pattern}` needs names, and {problem}", service.name);
            let hint = "what has no answer refuses: only the names of /etc/hosts are known";
            report.add(Diagnostic::warning("no-resolver", spot, message).hint(hint));
        }
    }
}

/// Without nsswitch.conf glibc asks the name service, then the files (nsswitch.conf(5)); without resolv.conf it
/// asks this host (resolv.conf(5)).
fn lacks_names(nsswitch: Option<&str>, resolv: Option<&str>) -> Option<&'static str> {
    let hosts = nsswitch?.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
    let sources: Vec<&str> = hosts.unwrap_or("dns files").split_whitespace().collect();
    let other = sources
        .iter()
        .any(|source| !["files", "myhostname", "dns"].contains(source) && !source.starts_with('['));
    if other {
        return None;
    }
    if !sources.contains(&"dns") {
        return Some("`hosts:` of /etc/nsswitch.conf asks no name service");
    }
    let names_server = |line: &str| line.trim_start().starts_with("nameserver");
    match resolv {
        Some(text) if text.lines().any(names_server) => None,
        Some(_) => Some("/etc/resolv.conf names no server"),
        None => Some("there is no /etc/resolv.conf"),
    }
}

/// Where a service lets in by address.
fn guard(values: &Values) -> Option<&Spot> {
    let mut by_address = clients(values).filter(|(_, pattern)| {
        matches!(pattern, ClientPattern::Network(_) | ClientPattern::Set(_) | ClientPattern::Link)
    });
    by_address.next().map(|(spot, _)| spot)
}

/// The patterns of those who are let in.
fn clients(values: &Values) -> impl Iterator<Item = (&Spot, &ClientPattern)> {
    let rules = values.rows(("", "rule")).iter().filter_map(|rule| rule.value.clients(("", "from")));
    let lists = values.clients(("", "allow")).into_iter().chain(rules);
    lists.flatten().map(|said| (&said.spot, &said.value))
}

fn clear_text_name(service: &ServiceDraft) -> Option<&'static str> {
    let program = service.values.texts(("", "exec")).first().map(|said| said.value.as_str());
    let program = program.map(|path| path.rsplit('/').next().unwrap_or(path));
    let ports: Vec<&Port> = service
        .values
        .listens()
        .iter()
        .filter_map(|said| match &said.value {
            Listen::Inet(inet) => Some(&inet.port),
            _ => None,
        })
        .collect();
    let found = CLEAR_TEXT.iter().find(|(number, name, programs)| {
        let is_its = |port: &&&Port| match port {
            Port::Number(port) => port == number,
            Port::Name(port) => port.as_str() == *name,
        };
        ports.iter().any(|port| is_its(&port)) || program.is_some_and(|program| programs.contains(&program))
    });
    found.map(|(_, name, _)| *name)
}

fn addresses(service: &ServiceDraft) -> impl Iterator<Item = IpAddr> {
    let endpoints = service.values.listens().iter().flat_map(|said| said.value.endpoints(0));
    endpoints.filter_map(|endpoint| match endpoint {
        Endpoint::Inet(inet) => Some(inet.ip),
        _ => None,
    })
}

fn is_public(service: &ServiceDraft) -> bool {
    addresses(service).any(|ip| !ip.is_loopback())
}

fn is_used(interface: &InterfaceFacts, service: &ServiceDraft) -> bool {
    let own = &interface.addresses;
    let is_loopback = own.iter().any(IpAddr::is_loopback);
    addresses(service).any(|ip| own.contains(&ip) || (ip.is_unspecified() && !is_loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_a_server() {
        let server = Some("search x\nnameserver 192.0.2.1\n");
        for (nsswitch, resolv, lacks) in [
            (None, None, false),
            (Some("hosts: files dns\n"), server, false),
            (Some("passwd: files\n"), server, false),
            (Some("hosts: files dns\n"), Some("search x\n"), true),
            (Some("hosts: files dns\n"), None, true),
            (Some("hosts: files\n"), server, true),
            (Some("hosts: files myhostname\n"), server, true),
            (Some("hosts: files resolve [!UNAVAIL=return] dns\n"), None, false),
        ] {
            assert_eq!(lacks_names(nsswitch, resolv).is_some(), lacks, "{nsswitch:?} {resolv:?}");
        }
    }
}
