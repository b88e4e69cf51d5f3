//! An event as its word and its fields: the one walk that superd's own lines and the journal's fields share.
//!
//! Knows nothing of how a value is escaped: that is the renderer's.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::settings::ClientDetail;
use crate::model::address::{SourcePrefix, canonical};
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
        Event::End { .. } => Some("end"),
        Event::Refuse { .. } | Event::RefuseOthers { .. } => Some("refuse"),
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
            field("client", Value::Shown(&Client { address: *client, detail }));
            if let Some(local) = local {
                field("local", Value::Shown(&canonical(*local)));
            }
            field("pid", Value::Shown(pid));
        }
        Event::End { session, client, pid, status, duration, cpu, cause } => {
            field("session", Value::Shown(session));
            field("client", Value::Shown(&Client { address: *client, detail }));
            field("pid", Value::Shown(pid));
            match status {
                ExitStatus::Code(code) => field("status", Value::Shown(code)),
                ExitStatus::Signal(number) => field("signal", Value::Shown(&signal::Name(*number))),
                ExitStatus::Unknown => field("status", Value::Bytes(b"unknown")),
            }
            field("duration", Value::Shown(&Seconds(*duration)));
            field("cpu", Value::Shown(&Seconds(*cpu)));
            optional(&mut field, "cause", *cause);
        }
        Event::Refuse { client, reason, rule, count } => {
            field("client", Value::Shown(&Client { address: *client, detail }));
            field("reason", Value::Bytes(reason.word().as_bytes()));
            if let Some(rule) = rule {
                field("rule", Value::Shown(rule));
            }
            if *count > 1 {
                field("count", Value::Shown(count));
            }
        }
        Event::RefuseOthers { count } => {
            field("client", Value::Bytes(b"-"));
            field("count", Value::Shown(count));
        }
        Event::LaunchFailed { session, client, step, error, program } => {
            field("session", Value::Shown(session));
            field("client", Value::Shown(&Client { address: *client, detail }));
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

fn optional(field: &mut impl FnMut(&'static str, Value), key: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        field(key, Value::Bytes(value.as_bytes()));
    }
}

/// A client, as much of it as `[log] client` lets be written.
struct Client {
    address: SocketAddr,
    detail: ClientDetail,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail {
            ClientDetail::Full => canonical(self.address).fmt(f),
            detail => ClientIp { ip: self.address.ip(), detail }.fmt(f),
        }
    }
}

/// A client without its port.
pub(super) struct ClientIp {
    /// The address.
    pub(super) ip: IpAddr,
    /// How much of it.
    pub(super) detail: ClientDetail,
}

impl fmt::Display for ClientIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.to_canonical();
        match self.detail {
            ClientDetail::Full => ip.fmt(f),
            ClientDetail::Prefix => {
                let bits = if ip.is_ipv4() { LOGGED.v4 } else { LOGGED.v6 };
                write!(f, "{}/{bits}", crate::model::address::Source::of(ip, LOGGED).address())
            }
            ClientDetail::None => f.write_str("-"),
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
