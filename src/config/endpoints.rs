//! Where a service listens, looked up: names of ports and owners to numbers, and the folder of a path.

use std::path::Path;

use crate::model::endpoint::{Endpoint, Transport, UnixName};

use super::diagnostic::{Diagnostic, Report, Spot};
use super::listen::{InetListen, Listen, Port, UnixListen};
use super::program;
use super::resolve::{PathFacts, PathKind, System};
use super::situation::Situation;
use super::who;

/// The sockets of one place; `None` after saying what is wrong.
pub fn of_listen(
    listen: &Listen,
    spot: &Spot,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<Vec<Endpoint>> {
    match listen {
        Listen::Inet(inet) => port(inet, spot, system, report).map(|port| inet.endpoints(port).collect()),
        Listen::Unix(unix) => unix_endpoint(unix, spot, system, situation, report).map(|one| vec![one]),
        Listen::Passed(name) => Some(vec![Endpoint::Passed(name.clone())]),
        Listen::TcpMux(_) => Some(Vec::new()),
    }
}

fn port(inet: &InetListen, spot: &Spot, system: &dyn System, report: &mut Report) -> Option<u16> {
    let name = match &inet.port {
        Port::Number(number) => return Some(*number),
        Port::Name(name) => name,
    };
    let protocol = match inet.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let message = match system.port(inet.transport, name) {
        Ok(Some(port)) => return Some(port),
        Ok(None) => format!("there is no {protocol} port `{name}` in /etc/services"),
        Err(why) => format!("the port `{name}` can't be looked up: {why}"),
    };
    let hint = format!("a number needs no /etc/services: `{protocol}:79`");
    report.add(Diagnostic::error("unknown-port", spot, message).hint(hint));
    None
}

/// Without root the owner is not taken, as no user is: whoever runs superd owns the path.
fn unix_endpoint(
    unix: &UnixListen,
    spot: &Spot,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<Endpoint> {
    if let UnixName::Path(path) = &unix.name {
        socket_path(path, spot, system, report);
    }
    let owner = unix.owner.as_ref().map(|said| who::user_id(&said.value, &said.spot, system, report));
    let group = unix.group.as_ref().map(|said| who::group_id(&said.value, &said.spot, system, report));
    let (owner, group) =
        (owner.map_or(Some(None), |id| id.map(Some))?, group.map_or(Some(None), |id| id.map(Some))?);
    let taken = |id: Option<u32>| id.filter(|_| situation.root);
    Some(Endpoint::Unix(unix.endpoint(taken(owner), taken(group))))
}

/// Looks at where a socket is to be: a folder that is there, with nothing there that is no socket.
fn socket_path(path: &Path, spot: &Spot, system: &dyn System, report: &mut Report) {
    let slash = Path::new("/");
    program::directory(slash, path.parent().unwrap_or(slash), "listen", spot, system, report);
    if let Ok(Some(PathFacts { kind: PathKind::File | PathKind::Directory, .. })) = system.path(slash, path) {
        let message = format!("`listen`: {} is there already, and is no socket", path.display());
        report.add(Diagnostic::error("not-a-socket", spot, message).hint("superd removes sockets alone"));
    }
}
