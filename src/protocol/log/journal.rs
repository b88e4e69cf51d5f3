//! journald's native protocol: an entry is a datagram of `KEY=value` lines; a value with a newline is sent as
//! `KEY`, newline, its length as eight little-endian bytes, the bytes, newline.
//!
//! The fields are superd's own (`SUPERD_SERVICE`, …) beside those that every journal reader knows.

use crate::config::settings::{ClientDetail, Facility, Level};
use crate::service::record::{Event, Record};

use super::fields;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// What an entry needs besides its record.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// `SYSLOG_IDENTIFIER`.
    pub tag: &'a str,
    /// `SYSLOG_FACILITY`.
    pub facility: Facility,
    /// `MESSAGE`: the rendered line.
    pub line: &'a [u8],
}

/// The bytes before the line in every entry: `MESSAGE` comes first.
pub const BEFORE_LINE: usize = b"MESSAGE=".len();

/// Appends the entry of a record.
pub fn push_record(out: &mut Vec<u8>, record: &Record, detail: ClientDetail, entry: Entry) {
    push_plain(out, record.level, entry);
    if let Some(id) = message_id(&record.event) {
        push_field(out, "MESSAGE_ID", id.as_bytes());
    }
    if let Some(word) = fields::word(&record.event) {
        push_field(out, "SUPERD_EVENT", word.as_bytes());
    }
    if let Some(service) = record.service {
        push_field(out, "SUPERD_SERVICE", service.as_bytes());
    }
    let (mut name, mut bytes) = (String::new(), Vec::new());
    fields::each(&record.event, detail, |key, value| {
        name.clear();
        name.push_str("SUPERD_");
        name.push_str(key);
        name.make_ascii_uppercase();
        bytes.clear();
        value.push(&mut bytes);
        push_field(out, &name, &bytes);
    });
}

/// Appends an entry of a line alone.
pub fn push_plain(out: &mut Vec<u8>, level: Level, entry: Entry) {
    push_field(out, "MESSAGE", entry.line);
    push_field(out, "PRIORITY", (level as u8).to_string().as_bytes());
    push_field(out, "SYSLOG_FACILITY", entry.facility.0.to_string().as_bytes());
    push_field(out, "SYSLOG_IDENTIFIER", entry.tag.as_bytes());
}

fn push_field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The `MESSAGE_ID` of each kind of event, for `journalctl MESSAGE_ID=…` and catalogs. Never changed, never
/// used again for anything else; superd.log(5) lists them.
fn message_id(event: &Event) -> Option<&'static str> {
    match event {
        Event::Start { .. } => Some("064298fe2f9145a084646a028bc206ef"),
        Event::End { .. } | Event::Answered { .. } => Some("0fca265644de47bc8eb9c225a8427d3c"),
        Event::Refuse { .. } => Some("07bbd4c1737649fd9249fb3d0100b460"),
        Event::Observed { .. } => Some("5f1b0c2e8d934d0f9a57d41f0f2b6c73"),
        Event::RefuseOthers { .. } => Some("82fd8b62c5fc4dc89e3aa158a0e0f9ed"),
        Event::Ban { .. } => Some("68133007238a4621a7c9b19a640fbec6"),
        Event::Unban { .. } => Some("8745f54f0a7d4ddf8706000f4fb56fac"),
        Event::LaunchFailed { .. } => Some("e35201e956f14e4ca40026f109456924"),
        Event::Stderr { .. } => Some("7afc7d21555a4f75bf3f29bd17b09574"),
        Event::State { .. } => Some("22cdc0a52deb45d191e2eb0cee7035b3"),
        Event::Reload { .. } => Some("e5f8e3d9ecb840eba2466e20695bdd33"),
        Event::ReloadRefused { .. } => Some("ec4be9b6189e44a09b04ca464be15cb9"),
        Event::Stop { .. } => Some("1aa5b2bad4d34846bd2f07712843532a"),
        Event::Note { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::place::Place;
    use crate::model::session::SessionId;
    use crate::service::reason::Reason;
    use crate::service::record::ExitStatus;
    use std::time::Duration;

    const SESSION: SessionId = SessionId { epoch: 16, serial: 2 };

    #[test]
    fn an_entry_has_its_fields() {
        let client = "192.0.2.7:5".parse().unwrap();
        let record = Record::about(
            "finger",
            Event::Start { session: SESSION, client: Some(client), local: None, pid: Some(7) },
        );
        check(
            &record,
            b"MESSAGE=line\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=superd\n\
              MESSAGE_ID=064298fe2f9145a084646a028bc206ef\nSUPERD_EVENT=start\nSUPERD_SERVICE=finger\n\
              SUPERD_SESSION=10-2\nSUPERD_CLIENT=192.0.2.0/24\nSUPERD_PID=7\n",
        );
    }

    #[test]
    fn a_value_with_a_newline_can_forge_no_field() {
        let event = Event::Stderr { session: SESSION, line: b"a\nPRIORITY=0", dropped: 0 };
        let record = Record::about("finger", event);
        check(
            &record,
            b"MESSAGE=line\nPRIORITY=6\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=superd\n\
              MESSAGE_ID=7afc7d21555a4f75bf3f29bd17b09574\nSUPERD_EVENT=stderr\nSUPERD_SERVICE=finger\n\
              SUPERD_SESSION=10-2\nSUPERD_LINE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n",
        );
    }

    #[track_caller]
    fn check(record: &Record, expected: &[u8]) {
        let mut out = Vec::new();
        let entry = Entry { tag: "superd", facility: Facility(3), line: b"line" };
        push_record(&mut out, record, ClientDetail::Prefix, entry);
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(expected));
        assert_eq!(out.get(BEFORE_LINE..BEFORE_LINE + 4), Some(&b"line"[..]));
    }

    #[test]
    fn message_ids_are_unique_and_well_formed() {
        let client = "192.0.2.7:5".parse().unwrap();
        let rule = Place { file: String::new(), line: 1 };
        let events = [
            Event::Start { session: SESSION, client: Some(client), local: None, pid: Some(7) },
            Event::End {
                session: SESSION,
                client: Some(client),
                pid: Some(7),
                status: Some(ExitStatus::Code(0)),
                duration: Duration::ZERO,
                cpu: None,
                bytes: None,
                cause: None,
            },
            Event::Observed { client, rule: &rule },
            Event::Refuse { client, reason: Reason::Launch, rule: None, told: None, count: 1 },
            Event::RefuseOthers { count: 1 },
            Event::LaunchFailed { session: SESSION, client: Some(client), step: "", error: "", program: "" },
            Event::Stderr { session: SESSION, line: b"", dropped: 0 },
            Event::State { state: "online", reason: None, endpoint: None, retry: None },
            Event::Reload { generation: 1, kept: 0, changed: 0, opened: 0, closed: 0 },
            Event::ReloadRefused { error: "", errors: 1 },
            Event::Stop { sessions: 0 },
        ];
        let ids: std::collections::BTreeSet<_> = events.iter().filter_map(message_id).collect();
        assert_eq!(ids.len(), events.len());
        let answered = Event::Answered { session: SESSION, client, local: None, sent: 26 };
        assert!(message_id(&answered).is_some_and(|id| ids.contains(id)), "it is an end, too");
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        let manual = include_str!("../../../docs/man/superd.log.5");
        assert!(ids.iter().all(|id| manual.contains(id)), "superd.log(5) lists them");
    }
}
