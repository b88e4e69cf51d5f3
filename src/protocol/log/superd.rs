//! superd's own wording: `WORD SERVICE key=value …`.

use crate::config::settings::ClientDetail;
use crate::service::record::{Event, Record};

use super::{escape, fields};

/// Appends the record's line.
pub(super) fn push(out: &mut Vec<u8>, record: &Record, detail: ClientDetail) {
    let Some(word) = fields::word(&record.event) else {
        return push_prose(out, record);
    };
    out.extend_from_slice(word.as_bytes());
    match (record.service, &record.event) {
        (Some(service), _) => push_word(out, service),
        // A client's line always has its service in the second place.
        (None, Event::RefuseOthers { .. } | Event::Ban { .. } | Event::Unban { .. }) => push_word(out, "-"),
        (None, _) => {}
    }
    fields::each(&record.event, detail, |key, value| {
        out.push(b' ');
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        let start = out.len();
        value.push(out);
        escape::quote_from(out, start);
    });
}

fn push_word(out: &mut Vec<u8>, word: &str) {
    out.push(b' ');
    out.extend_from_slice(word.as_bytes());
}

fn push_prose(out: &mut Vec<u8>, record: &Record) {
    if let Some(service) = record.service {
        out.extend_from_slice(service.as_bytes());
        out.extend_from_slice(b": ");
    }
    if let Event::Note { text } = record.event {
        escape::push_prose(out, text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::endpoint::{Endpoint, InetEndpoint, Transport};
    use crate::model::offence::Offence;
    use crate::model::place::Place;
    use crate::model::session::SessionId;
    use crate::service::ban::Cause;
    use crate::service::reason::Reason;
    use crate::service::record::ExitStatus;

    const SESSION: SessionId = SessionId { epoch: 0x6740_5a10, serial: 31 };

    #[test]
    fn sessions() {
        let client = "192.0.2.7:51234".parse().unwrap();
        let local = Some("[::ffff:198.51.100.1]:79".parse().unwrap());
        check(
            Event::Start { session: SESSION, client: Some(client), local, pid: Some(4711) },
            "start finger session=67405a10-1f client=192.0.2.7:51234 local=198.51.100.1:79 pid=4711",
        );
        let end = |status, cause| Event::End {
            session: SESSION,
            client: Some(client),
            pid: Some(4711),
            status: Some(status),
            duration: Duration::from_micros(1_203_900),
            cpu: Some(Duration::from_millis(4)),
            bytes: None,
            cause,
        };
        let head = "end finger session=67405a10-1f client=192.0.2.7:51234 pid=4711";
        check(end(ExitStatus::Code(0), None), &format!("{head} status=0 duration=1.203 cpu=0.004"));
        check(
            end(ExitStatus::Signal(15), Some("session")),
            &format!("{head} signal=TERM duration=1.203 cpu=0.004 cause=session"),
        );
        check(end(ExitStatus::Signal(40), None), &format!("{head} signal=40 duration=1.203 cpu=0.004"));
        let handed = Event::End {
            session: SESSION,
            client: Some(client),
            pid: None,
            status: None,
            duration: Duration::from_micros(1_203_900),
            cpu: None,
            bytes: Some((7, 9)),
            cause: Some("handler-lost"),
        };
        check(
            handed,
            "end finger session=67405a10-1f client=192.0.2.7:51234 duration=1.203 in=7 out=9 cause=handler-lost",
        );
        check(
            Event::Answered { session: SESSION, client, local, sent: 26 },
            "end finger session=67405a10-1f client=192.0.2.7:51234 local=198.51.100.1:79 out=26",
        );
    }

    #[test]
    fn refusals() {
        let client = "[2001:db8::7]:5".parse().unwrap();
        let rule = Place { file: "/etc/superd.toml".into(), line: 31 };
        check(
            Event::Refuse { client, reason: Reason::PerSource, rule: Some(&rule), told: None, count: 214 },
            "refuse finger client=[2001:db8::7]:5 reason=per_source rule=/etc/superd.toml:31 count=214",
        );
        check(
            Event::Refuse { client, reason: Reason::Shutdown, rule: None, told: None, count: 1 },
            "refuse finger client=[2001:db8::7]:5 reason=shutdown",
        );
        let others = Record::general(Event::RefuseOthers { count: 9 });
        assert_eq!(line(&others, ClientDetail::Full), "refuse - client=- count=9");
    }

    #[test]
    fn bans() {
        let who = "2001:db8:1:2::/64".parse().unwrap();
        let cause = Cause::Offence(Offence::Exit(255));
        let ban = |others| Event::Ban { who, cause, length: Duration::from_mins(1), others };
        check(ban(0), "ban finger source=2001:db8:1:2::/64 cause=exit:255 for=60.000");
        check(ban(7), "ban finger source=2001:db8:1:2::/64 cause=exit:255 for=60.000 others=7");
        check(Event::Unban { who }, "unban finger source=2001:db8:1:2::/64");
        for (detail, source) in [(ClientDetail::Prefix, "2001:db8:1::/48"), (ClientDetail::None, "-")] {
            let record = Record::general(Event::Unban { who });
            assert_eq!(line(&record, detail), format!("unban - source={source}"));
        }
    }

    #[test]
    fn troubles_and_states() {
        let client = "192.0.2.7:51234".parse().unwrap();
        check(
            Event::LaunchFailed {
                session: SESSION,
                client: Some(client),
                step: "set user",
                error: "EPERM",
                program: "/usr/sbin/in.fingerd",
            },
            "launch-failed finger session=67405a10-1f client=192.0.2.7:51234 step=\"set user\" error=EPERM \
             program=/usr/sbin/in.fingerd",
        );
        check(
            Event::Stderr { session: SESSION, line: b"oh\nno", dropped: 3 },
            r#"stderr finger session=67405a10-1f dropped=3 line="oh\x0ano""#,
        );
        let endpoint = Endpoint::Inet(InetEndpoint {
            transport: Transport::Tcp,
            ip: "192.0.2.1".parse().unwrap(),
            port: 79,
            zone: None,
            interface: None,
            optional: false,
        });
        check(
            Event::State {
                state: "degraded",
                reason: Some("EADDRNOTAVAIL"),
                endpoint: Some(&endpoint),
                retry: Some(Duration::from_secs(4)),
            },
            "degraded finger reason=EADDRNOTAVAIL endpoint=tcp:192.0.2.1:79 retry=4.000",
        );
        check(Event::State { state: "online", reason: None, endpoint: None, retry: None }, "online finger");
        check(Event::Note { text: "is \"well\"\x1b" }, r#"finger: is "well"\x1b"#);
    }

    #[test]
    fn superd_itself() {
        let rows = [
            (
                Event::Reload { generation: 3, kept: 9, changed: 1, opened: 2, closed: 0 },
                "reload result=done generation=3 kept=9 changed=1 opened=2 closed=0",
            ),
            (
                Event::ReloadRefused { error: "unknown key `x`", errors: 2 },
                "reload result=refused errors=2 error=\"unknown key `x`\"",
            ),
            (Event::Stop { sessions: 4 }, "stop sessions=4"),
            (Event::Note { text: "dropped 3 log lines" }, "dropped 3 log lines"),
        ];
        for (event, expected) in rows {
            assert_eq!(line(&Record::general(event), ClientDetail::Full), expected);
        }
    }

    #[test]
    fn clients_are_shortened() {
        let rows = [
            ("192.0.2.7:5", ClientDetail::Prefix, "192.0.2.0/24"),
            ("[::ffff:192.0.2.7]:5", ClientDetail::Prefix, "192.0.2.0/24"),
            ("[2001:db8:1:2:3:4:5:6]:5", ClientDetail::Prefix, "2001:db8:1::/48"),
            ("192.0.2.7:5", ClientDetail::None, "-"),
            ("[::ffff:192.0.2.7]:5", ClientDetail::Full, "192.0.2.7:5"),
        ];
        for (client, detail, expected) in rows {
            let client = client.parse().unwrap();
            let event = Event::Refuse { client, reason: Reason::Launch, rule: None, told: None, count: 1 };
            let expected = format!("refuse finger client={expected} reason=launch");
            assert_eq!(line(&Record::about("finger", event), detail), expected);
        }
    }

    #[track_caller]
    fn check(event: Event, expected: &str) {
        assert_eq!(line(&Record::about("finger", event), ClientDetail::Full), expected);
    }

    fn line(record: &Record, detail: ClientDetail) -> String {
        let mut out = Vec::new();
        push(&mut out, record, detail);
        String::from_utf8(out).unwrap()
    }
}
