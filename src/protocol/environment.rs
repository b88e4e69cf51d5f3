//! What the environment of a program says of its client, under the names that existing programs read:
//! ucspi's (`PROTO`, `TCP…`), xinetd's (`REMOTE_HOST`), systemd's (`REMOTE_ADDR`, `REMOTE_PORT`) and superd's
//! own.

use std::net::SocketAddr;

use crate::model::client::Client;
use crate::model::name::ServiceName;
use crate::model::session::SessionId;

use super::launch::Gets;

/// The names that superd sets for each connection; a configuration may not set them.
pub const RESERVED: [&str; 20] = [
    "PROTO",
    "TCPLOCALIP",
    "TCPLOCALPORT",
    "TCPREMOTEIP",
    "TCPREMOTEPORT",
    "TCPREMOTEHOST",
    "TCPREMOTEINFO",
    "IPCREMOTEEUID",
    "IPCREMOTEEGID",
    "IPCREMOTEPATH",
    "REMOTE_HOST",
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "SUPERD_SERVICE",
    "SUPERD_SESSION",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "SUPERD_POOL",
];

/// The variables of one connection. Addresses of IPv6 stand without brackets and with their zone if they have
/// one, as getnameinfo(3) writes them.
pub fn of_connection(
    service: &ServiceName,
    session: SessionId,
    client: Option<Client>,
    local: Option<SocketAddr>,
) -> Vec<(&'static str, String)> {
    let mut variables =
        vec![("SUPERD_SERVICE", service.to_string()), ("SUPERD_SESSION", session.to_string())];
    match client {
        Some(Client::Inet(client)) => {
            let ip = address_text(client);
            variables.push(("PROTO", "TCP".to_owned()));
            variables.push(("TCPREMOTEIP", ip.clone()));
            variables.push(("TCPREMOTEPORT", client.port().to_string()));
            variables.push(("REMOTE_HOST", ip.clone()));
            variables.push(("REMOTE_ADDR", ip));
            variables.push(("REMOTE_PORT", client.port().to_string()));
        }
        Some(Client::User { uid, gid, .. }) => {
            variables.push(("PROTO", "IPC".to_owned()));
            variables.push(("IPCREMOTEEUID", uid.to_string()));
            variables.push(("IPCREMOTEEGID", gid.to_string()));
        }
        None => {}
    }
    if let Some(local) = local {
        variables.push(("TCPLOCALIP", address_text(local)));
        variables.push(("TCPLOCALPORT", local.port().to_string()));
    }
    variables
}

/// The variables by which a program finds the sockets that it was given from descriptor 3 on (`sd_listen_fds(3)`),
/// and where it says that it is ready (`sd_notify(3)`). Its pid is known to itself alone.
pub fn of_sockets(service: &ServiceName, gets: &Gets, count: usize, pid: u32) -> Vec<(&'static str, String)> {
    let (name, notify) = match gets {
        Gets::Connection => return Vec::new(),
        Gets::Listener => (service.as_str(), None),
        Gets::Channel(notify) => ("superd-pool", Some(notify)),
        Gets::Listeners(notify) => (service.as_str(), Some(notify)),
    };
    let mut variables = vec![
        ("LISTEN_FDS", count.to_string()),
        ("LISTEN_PID", pid.to_string()),
        ("LISTEN_FDNAMES", vec![name; count].join(":")),
    ];
    variables.extend(notify.map(|notify| ("NOTIFY_SOCKET", notify.clone())));
    if matches!(gets, Gets::Channel(_)) {
        variables.push(("SUPERD_POOL", "1".to_owned()));
    }
    variables
}

fn address_text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(a) if a.scope_id() != 0 => format!("{}%{}", a.ip(), a.scope_id()),
        _ => address.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_described_in_every_dialect() {
        let session = SessionId { epoch: 0x10, serial: 0x1f };
        let name = ServiceName::new("finger").unwrap();
        let client = Some("192.0.2.7:51234".parse().unwrap());
        let variables = of_connection(&name, session, client, Some("[fe80::1%3]:79".parse().unwrap()));
        let find = |key: &str| variables.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        for (key, value) in [
            ("PROTO", "TCP"),
            ("TCPREMOTEIP", "192.0.2.7"),
            ("TCPREMOTEPORT", "51234"),
            ("TCPLOCALIP", "fe80::1%3"),
            ("TCPLOCALPORT", "79"),
            ("REMOTE_HOST", "192.0.2.7"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "51234"),
            ("SUPERD_SERVICE", "finger"),
            ("SUPERD_SESSION", "10-1f"),
        ] {
            assert_eq!(find(key), Some(value), "{key}");
        }
        assert!(variables.iter().all(|(key, _)| RESERVED.contains(key)));
        assert_eq!(of_connection(&name, session, None, None).len(), 2);
        let user = Some(Client::User { uid: 1000, gid: 100, pid: 7 });
        let variables = of_connection(&name, session, user, None);
        for expected in [("PROTO", "IPC"), ("IPCREMOTEEUID", "1000"), ("IPCREMOTEEGID", "100")] {
            assert!(variables.iter().any(|(key, value)| (*key, value.as_str()) == expected), "{expected:?}");
        }
        assert!(variables.iter().all(|(key, _)| RESERVED.contains(key)));
    }
}
