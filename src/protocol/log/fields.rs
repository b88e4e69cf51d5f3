//! An event as its word and its fields: the one walk that superd's own lines and the journal's fields share.
//!
//! Knows nothing of how a value is escaped: that is the renderer's.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::config::settings::ClientDetail;
use crate::model::address::{Source, SourcePrefix, canonical};
use crate::model::client::Client;
use crate::model::network::Network;
use crate::service::ban::Banned;
use crate::service::record::{Event, ExitStatus};

use super::signal;

/// The value of a field.
pub(super) enum Value<'a> {
    /// Bytes that may be anything.
    Bytes(&'a [u8]),
    /// Something that says itself.
    Shown(&'a dyn fmt::Display),
}

impl Value<'_> {
    /// Appends the value as it is.
    pub(super) fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            // Writing to a Vec can't fail.
            Self::Shown(shown) => drop(write!(out, "{shown}")),
        }
    }
}

/// The word that begins the line; none for prose.
pub(super) fn word<'a>(event: &Event<'a>) -> Option<&'a str> {
    match event {
        Event::Start { .. } => Some("start"),
        Event::End { .. } | Event::Answered { .. } => Some("end"),
        Event::Observed { .. } => Some("observe"),
        Event::Refuse { .. } | Event::RefuseOthers { .. } => Some("refuse"),
        Event::Ban { .. } => Some("ban"),
        Event::Unban { .. } => Some("unban"),
        Event::LaunchFailed { .. } => Some("launch-failed"),
        Event::Stderr { .. } => Some("stderr"),
        Event::State { state, .. } => Some(state),
        Event::Reload { .. } | Event::ReloadRefused { .. } => Some("reload"),
        Event::Stop { .. } => Some("stop"),
        Event::Note { .. } => None,
    }
}

/// Calls `field` with each field in the order of superd.log(5). Prose has none.
pub(super) fn each(event: &Event, detail: ClientDetail, mut field: impl FnMut(&'static str, Value)) {
    match event {
        Event::Start { session, client, local, pid } => {
            field("session", Value::Shown(session));
            if let Some(client) = *client {
                field("client", Value::Shown(&Shortened { client, detail, with_port: true }));
            }
            if let Some(local) = local {
                field("local", Value::Shown(&canonical(*local)));
            }
            shown(&mut field, "pid", pid.as_ref());
        }
        Event::Answered { session, client, local, sent } => {
            field("session", Value::Shown(session));
            field("client", Value::Shown(&Shortened { client: *client, detail, with_port: true }));
            if let Some(local) = local {
                field("local", Value::Shown(&canonical(*local)));
            }
            field("out", Value::Shown(sent));
        }
        Event::End { session, client, pid, status, duration, cpu, bytes, cause } => {
            field("session", Value::Shown(session));
            if let Some(client) = *client {
                field("client", Value::Shown(&Shortened { client, detail, with_port: true }));
            }
            shown(&mut field, "pid", pid.as_ref());
            match status {
                Some(ExitStatus::Code(code)) => field("status", Value::Shown(code)),
                Some(ExitStatus::Signal(number)) => field("signal", Value::Shown(&signal::Name(*number))),
                None => {}
            }
            field("duration", Value::Shown(&Seconds(*duration)));
            shown(&mut field, "cpu", cpu.map(Seconds).as_ref());
            shown(&mut field, "in", bytes.map(|(received, _)| received).as_ref());
            shown(&mut field, "out", bytes.map(|(_, sent)| sent).as_ref());
            optional(&mut field, "cause", *cause);
        }
        Event::Observed { client, rule } => {
            field("client", Value::Shown(&Shortened { client: *client, detail, with_port: true }));
            field("rule", Value::Shown(rule));
        }
        Event::Refuse { client, reason, rule, told, count } => {
            field("client", Value::Shown(&Shortened { client: *client, detail, with_port: true }));
            field("reason", Value::Bytes(reason.word().as_bytes()));
            if let Some(rule) = rule {
                field("rule", Value::Shown(rule));
            }
            if let Some(told) = told {
                optional(&mut field, "name", told.name);
                field("naming", Value::Bytes(told.naming.as_bytes()));
            }
            if *count > 1 {
                field("count", Value::Shown(count));
            }
        }
        Event::RefuseOthers { count } => {
            field("client", Value::Bytes(b"-"));
            field("count", Value::Shown(count));
        }
        Event::Ban { who, cause, length, others } => {
            field("source", Value::Shown(&ShortenedSource { who: *who, detail }));
            field("cause", Value::Shown(cause));
            field("for", Value::Shown(&Seconds(*length)));
            if *others > 0 {
                field("others", Value::Shown(others));
            }
        }
        Event::Unban { who } => field("source", Value::Shown(&ShortenedSource { who: *who, detail })),
        Event::LaunchFailed { session, client, step, error, program } => {
            field("session", Value::Shown(session));
            if let Some(client) = *client {
                field("client", Value::Shown(&Shortened { client, detail, with_port: true }));
            }
            field("step", Value::Bytes(step.as_bytes()));
            field("error", Value::Bytes(error.as_bytes()));
            field("program", Value::Bytes(program.as_bytes()));
        }
        Event::Stderr { session, line, dropped } => {
            field("session", Value::Shown(session));
            if *dropped > 0 {
                field("dropped", Value::Shown(dropped));
            }
            field("line", Value::Bytes(line));
        }
        Event::State { state: _, reason, endpoint, retry } => {
            optional(&mut field, "reason", *reason);
            if let Some(endpoint) = endpoint {
                field("endpoint", Value::Shown(endpoint));
            }
            if let Some(retry) = retry {
                field("retry", Value::Shown(&Seconds(*retry)));
            }
        }
        Event::Reload { generation, kept, changed, opened, closed } => {
            field("result", Value::Bytes(b"done"));
            field("generation", Value::Shown(generation));
            field("kept", Value::Shown(kept));
            field("changed", Value::Shown(changed));
            field("opened", Value::Shown(opened));
            field("closed", Value::Shown(closed));
        }
        Event::ReloadRefused { error, errors } => {
            field("result", Value::Bytes(b"refused"));
            field("errors", Value::Shown(errors));
            field("error", Value::Bytes(error.as_bytes()));
        }
        Event::Stop { sessions } => field("sessions", Value::Shown(sessions)),
        Event::Note { text: _ } => {}
    }
}

fn shown<T: fmt::Display>(field: &mut impl FnMut(&'static str, Value), key: &'static str, value: Option<&T>) {
    if let Some(value) = value {
        field(key, Value::Shown(value));
    }
}

fn optional(field: &mut impl FnMut(&'static str, Value), key: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        field(key, Value::Bytes(value.as_bytes()));
    }
}

/// A client, as much of it as `[log] client` lets be written.
pub(super) struct Shortened {
    /// The client.
    pub(super) client: Client,
    /// How much of it.
    pub(super) detail: ClientDetail,
    /// Its port, too, where all of it is written.
    pub(super) with_port: bool,
}

impl fmt::Display for Shortened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match (self.detail, self.client) {
            (ClientDetail::None, _) => return f.write_str("-"),
            // A user of this machine has no network.
            (_, Client::User { .. }) => return self.client.fmt(f),
            (_, Client::Inet(address)) => canonical(address),
        };
        match self.detail {
            ClientDetail::Prefix => {
                let bits = if address.is_ipv4() { LOGGED.v4 } else { LOGGED.v6 };
                match Source::of_address(address.ip(), LOGGED) {
                    Source::Network(network) => write!(f, "{network}/{bits}"),
                    Source::User(uid) => write!(f, "uid:{uid}"),
                }
            }
            _ if self.with_port => address.fmt(f),
            _ => address.ip().fmt(f),
        }
    }
}

/// A source that is banned, as much of it as `[log] client` lets be written.
struct ShortenedSource {
    who: Banned,
    detail: ClientDetail,
}

impl fmt::Display for ShortenedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.detail, self.who) {
            (ClientDetail::None, _) => f.write_str("-"),
            (ClientDetail::Prefix, Banned::Network(network)) => {
                let most = if network.address().is_ipv4() { LOGGED.v4 } else { LOGGED.v6 };
                Network::around(network.address(), network.prefix().min(most)).fmt(f)
            }
            (_, who) => who.fmt(f),
        }
    }
}

/// `client = "prefix"`: a network that a provider gives to many, not to one customer.
const LOGGED: SourcePrefix = SourcePrefix { v4: 24, v6: 48 };

/// Seconds with three decimals.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}
