//! `superctl status`: a head line, a row a service, and why one is not online.

use crate::protocol::control::{ListenerStatus, Refusal, ServiceStatus, Status};

use super::terminal::{escape, escape_json, table};
use super::{Failure, Report};

pub(super) fn report(mut status: Status, service: Option<&str>, json: bool) -> Result<Report, Failure> {
    if let Some(name) = service {
        status.services.retain(|service| service.name == name);
        if status.services.is_empty() {
            return Err(Failure::Refused(Refusal::new(format!(
                "there is no service {name:?}: see `superctl status`"
            ))));
        }
    }
    let text = if json {
        escape_json(&serde_json::to_string(&status).unwrap_or_default()) + "\n"
    } else if service.is_some() {
        services(&status.services)
    } else {
        head(&status) + &services(&status.services)
    };
    Ok(Report { text, ..Report::default() })
}

fn head(status: &Status) -> String {
    let dropped = match status.dropped_log_lines {
        0 => String::new(),
        lines => format!(", {lines} log lines dropped"),
    };
    let pending = match status.pending {
        0 => String::new(),
        clients => format!(", waiting for names {clients}"),
    };
    format!(
        "superd {}, pid {}, up {}, generation {}: services {}, sessions {}, workers {}, launches in flight {}{pending}{dropped}\n",
        escape(&status.version),
        status.pid,
        duration(status.uptime),
        status.generation,
        status.services.len(),
        status.sessions,
        status.workers,
        status.launches,
    )
}

/// The table; what is to be said about a service stands below its row.
fn services(services: &[ServiceStatus]) -> String {
    let heading = ["SERVICE", "STATE", "SESSIONS", "LISTENERS", "REFUSED"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = [heading].into_iter().chain(services.iter().map(row)).collect();
    let noted = [Vec::new()].into_iter().chain(services.iter().map(notes));
    let mut lines = Vec::new();
    for (row, notes) in table(&rows).into_iter().zip(noted) {
        lines.push(row);
        lines.extend(notes.into_iter().map(|note| format!("  {note}")));
    }
    lines.join("\n") + "\n"
}

fn row(service: &ServiceStatus) -> Vec<String> {
    let listeners: Vec<String> = service.listeners.iter().map(listener).collect();
    let refused: Vec<String> =
        service.refused.iter().map(|(reason, count)| format!("{}={count}", escape(reason))).collect();
    vec![
        escape(&service.name),
        escape(&service.state),
        service.sessions.to_string(),
        or_dash(&listeners.join(" ")),
        or_dash(&refused.join(" ")),
    ]
}

/// Where it listens; in brackets where it would like to.
fn listener(listener: &ListenerStatus) -> String {
    match &listener.bound {
        Some(address) => escape(address),
        None => format!("({})", escape(&listener.endpoint)),
    }
}

/// What an admin of a service that is not well wants to know.
fn notes(service: &ServiceStatus) -> Vec<String> {
    let mut notes = Vec::new();
    let retry = service.retry_in.map(|seconds| format!("next try in {:.0} s", seconds.max(0.0).ceil()));
    let reason = service.reason.as_deref().map(escape);
    let why: Vec<String> = reason.into_iter().chain(retry).collect();
    if !why.is_empty() {
        notes.push(format!("{}: {}", escape(&service.state), why.join("; ")));
    }
    for listener in &service.listeners {
        let Some(error) = &listener.error else { continue };
        // The first one is the state's reason already.
        if service.reason.as_deref() != Some(&format!("{error} {}", listener.endpoint)) {
            notes.push(format!("{}: {}", escape(&listener.endpoint), escape(error)));
        }
    }
    if service.launch_failed > 0 {
        notes.push(format!("{} launches failed, {} succeeded", service.launch_failed, service.started));
    }
    notes
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// The two largest units: `3d 4h`, `4m 5s`, `7s`.
fn duration(seconds: u64) -> String {
    let units =
        [(seconds / 86400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown: Vec<String> =
        units.iter().skip(first).take(2).map(|(count, unit)| format!("{count}{unit}")).collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn service(name: &str, state: &str) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            state: state.to_owned(),
            reason: None,
            retry_in: None,
            listeners: Vec::new(),
            sessions: 0,
            started: 0,
            launch_failed: 0,
            refused: BTreeMap::new(),
            workers: 0,
            datagrams: None,
        }
    }

    fn listener(endpoint: &str, bound: Option<&str>, error: Option<&str>) -> ListenerStatus {
        ListenerStatus {
            endpoint: endpoint.to_owned(),
            bound: bound.map(str::to_owned),
            error: error.map(str::to_owned),
            options: BTreeMap::new(),
            queue: None,
            dropped: None,
        }
    }

    fn example() -> Status {
        let finger = ServiceStatus {
            listeners: vec![
                listener("tcp:79", Some("0.0.0.0:79"), None),
                listener("tcp:79", Some("[::]:79"), None),
            ],
            sessions: 12,
            started: 40,
            launch_failed: 2,
            refused: BTreeMap::from([("per_source".to_owned(), 3), ("connections".to_owned(), 1)]),
            datagrams: None,
            ..service("finger", "online")
        };
        let ftp = ServiceStatus {
            reason: Some("EADDRNOTAVAIL tcp:192.0.2.1:21".to_owned()),
            retry_in: Some(11.2),
            listeners: vec![
                listener("tcp:192.0.2.1:21", None, Some("EADDRNOTAVAIL")),
                listener("tcp:79%x", None, Some("ENODEV\u{1b}[2J")),
            ],
            ..service("ftp", "degraded")
        };
        Status {
            version: "0.1.0".to_owned(),
            pid: 812,
            generation: 2,
            uptime: 90_061,
            fds: 20,
            services: vec![finger, ftp, service("tftp", "disabled")],
            sessions: 12,
            workers: 0,
            launches: 0,
            pending: 3,
            strangers: 0,
            dropped_log_lines: 5,
        }
    }

    #[test]
    fn everything_at_a_glance() {
        let shown = report(example(), None, false).unwrap();
        assert_eq!(
            shown.text,
            "\
superd 0.1.0, pid 812, up 1d 1h, generation 2: services 3, sessions 12, workers 0, launches in flight 0, waiting for names 3, 5 log lines dropped
SERVICE  STATE     SESSIONS  LISTENERS                      REFUSED
finger   online    12        0.0.0.0:79 [::]:79             connections=1 per_source=3
  2 launches failed, 40 succeeded
ftp      degraded  0         (tcp:192.0.2.1:21) (tcp:79%x)  -
  degraded: EADDRNOTAVAIL tcp:192.0.2.1:21; next try in 12 s
  tcp:79%x: ENODEV\\x1b[2J
tftp     disabled  0         -                              -
"
        );
    }

    #[test]
    fn one_service() {
        let shown = report(example(), Some("tftp"), false).unwrap();
        assert_eq!(
            shown.text,
            "SERVICE  STATE     SESSIONS  LISTENERS  REFUSED\ntftp     disabled  0         -          -\n"
        );
        let Err(Failure::Refused(refusal)) = report(example(), Some("tft"), false) else { panic!("found") };
        assert!(refusal.errors[0].contains("no service \"tft\""));
    }

    #[test]
    fn json_is_the_status_itself() {
        let shown = report(example(), None, true).unwrap();
        assert!(!shown.text.contains('\u{1b}') && shown.text.ends_with("}\n"));
        assert_eq!(serde_json::from_str::<Status>(&shown.text).unwrap(), example());
        let one = report(example(), Some("ftp"), true).unwrap();
        let expected = Status { services: vec![example().services[1].clone()], ..example() };
        assert_eq!(serde_json::from_str::<Status>(&one.text).unwrap(), expected);
    }

    #[test]
    fn durations_have_two_units() {
        let cases =
            [(0, "0s"), (7, "7s"), (65, "1m 5s"), (3600, "1h 0m"), (86_399, "23h 59m"), (90_061, "1d 1h")];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }
}
