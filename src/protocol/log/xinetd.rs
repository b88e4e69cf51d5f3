//! xinetd's wording, for filters that match it: START, EXIT and FAIL lines, and `Reconfigured`.
//!
//! Only what xinetd would have said in just these words is said here; the rest is left to superd's own.

use std::fmt;
use std::io::Write;

use crate::config::settings::ClientDetail;
use crate::model::client::Client;
use crate::service::record::{Event, ExitStatus, Record};

use super::fields::Shortened;

/// Appends the record's line; `false` if xinetd has no word for it, and nothing was appended.
pub(super) fn push(out: &mut Vec<u8>, record: &Record, detail: ClientDetail) -> bool {
    let from = |client: &Client| Shortened { client: *client, detail, with_port: false };
    let service = record.service.unwrap_or("-");
    let written = match &record.event {
        Event::Start { client: Some(client), pid, .. } => {
            write!(out, "START: {service}{} from={}", Pid(*pid), from(client))
        }
        // What xinetd says of a server that waits.
        Event::Start { client: None, pid, .. } => {
            write!(out, "START: {service}{} from=<no address>", Pid(*pid))
        }
        Event::Answered { client, .. } => write!(out, "START: {service} from={}", from(client)),
        Event::End { pid, status, duration, .. } => {
            let (pid, seconds) = (Pid(*pid), duration.as_secs());
            match status {
                Some(ExitStatus::Code(code)) => {
                    write!(out, "EXIT: {service} status={code}{pid} duration={seconds}(sec)")
                }
                Some(ExitStatus::Signal(signal)) => {
                    write!(out, "EXIT: {service} signal={signal}{pid} duration={seconds}(sec)")
                }
                None => write!(out, "EXIT: {service}{pid} duration={seconds}(sec)"),
            }
        }
        // Filters end in `from=<HOST>$`: there is no place for a count in this line.
        Event::Refuse { client, reason, told: None, count: 0 | 1, .. } => {
            write!(out, "FAIL: {service} {} from={}", reason.xinetd_word(), from(client))
        }
        Event::Reload { kept, changed, opened, closed, .. } => {
            let old = kept + changed;
            write!(out, "Reconfigured: new={opened} old={old} dropped={closed} (services)")
        }
        _ => return false,
    };
    // Writing to a Vec can't fail.
    written.is_ok()
}

/// ` pid=…`, of what has a process.
struct Pid(Option<i32>);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |pid| write!(f, " pid={pid}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::session::SessionId;
    use crate::service::reason::Reason;

    const SESSION: SessionId = SessionId { epoch: 1, serial: 1 };

    fn client() -> Client {
        "[::ffff:192.0.2.7]:5".parse().unwrap()
    }

    fn end(status: ExitStatus) -> Event<'static> {
        let (duration, cpu) = (Duration::from_millis(1900), Duration::ZERO);
        Event::End {
            session: SESSION,
            client: Some(client()),
            pid: Some(4711),
            status: Some(status),
            duration,
            cpu: Some(cpu),
            bytes: None,
            cause: None,
        }
    }

    fn refuse(reason: Reason, count: u64) -> Event<'static> {
        Event::Refuse { client: client(), reason, rule: None, told: None, count }
    }

    #[test]
    fn lines_are_xinetds() {
        let start = Event::Start { session: SESSION, client: Some(client()), local: None, pid: Some(4711) };
        check(&start, "START: finger pid=4711 from=192.0.2.7");
        check(&end(ExitStatus::Code(0)), "EXIT: finger status=0 pid=4711 duration=1(sec)");
        check(&end(ExitStatus::Signal(15)), "EXIT: finger signal=15 pid=4711 duration=1(sec)");
        check(&refuse(Reason::PerSource, 1), "FAIL: finger per_source_limit from=192.0.2.7");
        check(&refuse(Reason::Connections, 1), "FAIL: finger service_limit from=192.0.2.7");
        check(
            &Event::Reload { generation: 2, kept: 3, changed: 1, opened: 5, closed: 6 },
            "Reconfigured: new=5 old=4 dropped=6 (services)",
        );
    }

    #[test]
    fn the_rest_is_superds() {
        check(&refuse(Reason::PerSource, 2), "");
        check(&Event::Stop { sessions: 1 }, "");
    }

    #[track_caller]
    fn check(event: &Event, expected: &str) {
        let mut out = Vec::new();
        let said = push(&mut out, &Record::about("finger", event.clone()), ClientDetail::Full);
        assert_eq!((String::from_utf8(out).unwrap().as_str(), said), (expected, !expected.is_empty()));
    }
}
