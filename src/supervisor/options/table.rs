//! The table of socket options: what each is called, how it is set, read back and undone.
//!
//! Knows nothing of listeners: when an option is set is its user's matter.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::OptionError;
use crate::config::settings::SocketOptions;
use crate::sys::sockopt::{self, Knob};

/// One option.
pub(super) struct Row {
    pub(super) name: &'static str,
    v4: Knob,
    v6: Knob,
    kind: Kind,
    pub(super) asked: fn(&SocketOptions) -> Option<Value>,
    /// Set also where the configuration does not say.
    pub(super) always: Option<Value>,
    pub(super) undo: Undo,
}

/// How an option is set and shown.
#[derive(Clone, Copy)]
enum Kind {
    /// `on` or `off`.
    Switch,
    /// An int as it is.
    Number,
    /// Bytes of a buffer: the kernel doubles what is set, for its own book-keeping.
    Buffer,
    /// An int of seconds.
    Seconds,
    /// An int of milliseconds.
    Millis,
    /// `struct linger`.
    Linger,
    /// A `struct timeval`, `SO_RCVTIMEO`.
    ReceiveTimeout,
    /// A `struct timeval`, `SO_SNDTIMEO`.
    SendTimeout,
}

/// What an option is set to.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Int(i32),
    Time(Duration),
}

/// How the kernel's default comes back on a kept listener.
#[derive(Clone, Copy)]
pub(super) enum Undo {
    /// By this value.
    Set(i32),
    /// By what a fresh socket has (a sysctl).
    Fresh,
    /// By no time at all.
    Clear,
    /// Not at all.
    Reopen,
}

/// In the order in which they are set: bind's own first, `priority` after `tos`, which changes it.
///
/// What a buffer was can't be set back: setting it ends its tuning by the kernel, and `receive_low_water` may
/// have raised it. A zero in `max_segment`, the times and queues means "unset" to the kernel, -1 in `ttl`.
pub(super) const TABLE: &[Row] = &[
    row("reuse_address", Kind::Switch, socket(libc::SO_REUSEADDR), |o| o.reuse_address.map(switch))
        .on_by_default(),
    row("reuse_port", Kind::Switch, socket(libc::SO_REUSEPORT), |o| o.reuse_port.map(switch)),
    row("free_bind", Kind::Switch, ip(libc::IP_FREEBIND), |o| o.free_bind.map(switch))
        .over_v6(ipv6(libc::IPV6_FREEBIND)),
    row("transparent", Kind::Switch, ip(libc::IP_TRANSPARENT), |o| o.transparent.map(switch))
        .over_v6(ipv6(libc::IPV6_TRANSPARENT)),
    row("receive_buffer", Kind::Buffer, socket(libc::SO_RCVBUF), |o| o.receive_buffer.map(number))
        .undone_by(Undo::Reopen),
    row("send_buffer", Kind::Buffer, socket(libc::SO_SNDBUF), |o| o.send_buffer.map(number))
        .undone_by(Undo::Reopen),
    row("receive_low_water", Kind::Number, socket(libc::SO_RCVLOWAT), |o| o.receive_low_water.map(number))
        .undone_by(Undo::Reopen),
    row("max_segment", Kind::Number, tcp(libc::TCP_MAXSEG), |o| o.max_segment.map(number)),
    row("keepalive", Kind::Switch, socket(libc::SO_KEEPALIVE), |o| o.keepalive.map(|_| switch(true))),
    row("keepalive.idle", Kind::Seconds, tcp(libc::TCP_KEEPIDLE), |o| o.keepalive?.idle.map(Value::Time))
        .undone_by(Undo::Fresh),
    row("keepalive.interval", Kind::Seconds, tcp(libc::TCP_KEEPINTVL), |o| {
        o.keepalive?.interval.map(Value::Time)
    })
    .undone_by(Undo::Fresh),
    row("keepalive.count", Kind::Number, tcp(libc::TCP_KEEPCNT), |o| o.keepalive?.count.map(number))
        .undone_by(Undo::Fresh),
    row("user_timeout", Kind::Millis, tcp(libc::TCP_USER_TIMEOUT), |o| o.user_timeout.map(Value::Time)),
    row("linger", Kind::Linger, socket(libc::SO_LINGER), |o| o.linger.map(Value::Time))
        .undone_by(Undo::Clear),
    row("nodelay", Kind::Switch, tcp(libc::TCP_NODELAY), |o| o.nodelay.map(switch)),
    row("receive_timeout", Kind::ReceiveTimeout, socket(libc::SO_RCVTIMEO), |o| {
        o.receive_timeout.map(Value::Time)
    })
    .undone_by(Undo::Clear),
    row("send_timeout", Kind::SendTimeout, socket(libc::SO_SNDTIMEO), |o| o.send_timeout.map(Value::Time))
        .undone_by(Undo::Clear),
    row("ttl", Kind::Number, ip(libc::IP_TTL), |o| o.ttl.map(number))
        .over_v6(ipv6(libc::IPV6_UNICAST_HOPS))
        .undone_by(Undo::Set(-1)),
    row("min_ttl", Kind::Number, ip(libc::IP_MINTTL), |o| o.min_ttl.map(number))
        .over_v6(ipv6(libc::IPV6_MINHOPCOUNT)),
    row("tos", Kind::Number, ip(libc::IP_TOS), |o| o.tos.map(number)).over_v6(ipv6(libc::IPV6_TCLASS)),
    row("oob_inline", Kind::Switch, socket(libc::SO_OOBINLINE), |o| o.oob_inline.map(switch)),
    row("defer_accept", Kind::Seconds, tcp(libc::TCP_DEFER_ACCEPT), |o| o.defer_accept.map(Value::Time)),
    row("fast_open", Kind::Number, tcp(libc::TCP_FASTOPEN), |o| o.fast_open.map(number)),
    row("mark", Kind::Number, socket(libc::SO_MARK), |o| o.mark.map(|mark| Value::Int(mark.cast_signed()))),
    row("priority", Kind::Number, socket(libc::SO_PRIORITY), |o| {
        o.priority.map(|priority| Value::Int(priority.cast_signed()))
    }),
];

const fn row(name: &'static str, kind: Kind, knob: Knob, asked: fn(&SocketOptions) -> Option<Value>) -> Row {
    Row { name, kind, v4: knob, v6: knob, asked, always: None, undo: Undo::Set(0) }
}

impl Row {
    const fn over_v6(self, v6: Knob) -> Self {
        Self { v6, ..self }
    }

    const fn undone_by(self, undo: Undo) -> Self {
        Self { undo, ..self }
    }

    const fn on_by_default(self) -> Self {
        Self { always: Some(Value::Int(1)), undo: Undo::Set(1), ..self }
    }

    fn knob(&self, v6: bool) -> Knob {
        if v6 { self.v6 } else { self.v4 }
    }

    pub(super) fn is_taken_away(&self, old: &SocketOptions, new: &SocketOptions) -> bool {
        (self.asked)(old).is_some() && (self.asked)(new).is_none()
    }

    pub(super) fn set(&self, fd: BorrowedFd<'_>, v6: bool, value: Value) -> Result<(), OptionError> {
        let socket = SockRef::from(&fd);
        let result = match (self.kind, value) {
            (_, Value::Int(value)) => sockopt::set_int(fd, self.knob(v6), value),
            (Kind::Linger, Value::Time(time)) => socket.set_linger(Some(time)),
            (Kind::ReceiveTimeout, Value::Time(time)) => socket.set_read_timeout(Some(time)),
            (Kind::SendTimeout, Value::Time(time)) => socket.set_write_timeout(Some(time)),
            (Kind::Millis, Value::Time(time)) => {
                sockopt::set_int(fd, self.knob(v6), saturated(time.as_millis()))
            }
            (_, Value::Time(time)) => sockopt::set_int(fd, self.knob(v6), saturated(time.as_secs())),
        };
        result.map_err(|source| OptionError { name: self.name, source })
    }

    pub(super) fn undo(&self, fd: BorrowedFd<'_>, v6: bool) -> Result<(), OptionError> {
        let failed = |source| OptionError { name: self.name, source };
        let socket = SockRef::from(&fd);
        match (self.undo, self.kind) {
            (Undo::Set(value), _) => self.set(fd, v6, Value::Int(value)),
            (Undo::Fresh, _) => {
                let value = self.kernel_default(v6).map_err(failed)?;
                self.set(fd, v6, Value::Int(value))
            }
            (Undo::Clear, Kind::Linger) => socket.set_linger(None).map_err(failed),
            (Undo::Clear, Kind::SendTimeout) => socket.set_write_timeout(None).map_err(failed),
            (Undo::Clear, _) => socket.set_read_timeout(None).map_err(failed),
            (Undo::Reopen, _) => Err(failed(io::ErrorKind::Unsupported.into())),
        }
    }

    fn kernel_default(&self, v6: bool) -> io::Result<i32> {
        let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
        let fresh = Socket::new(domain, Type::STREAM, None)?;
        sockopt::int(fresh.as_fd(), self.knob(v6))
    }

    pub(super) fn text(&self, fd: BorrowedFd<'_>, v6: bool) -> io::Result<String> {
        let socket = SockRef::from(&fd);
        let int = || sockopt::int(fd, self.knob(v6));
        Ok(match self.kind {
            Kind::Switch => if int()? == 0 { "off" } else { "on" }.to_owned(),
            Kind::Number => int()?.cast_unsigned().to_string(),
            Kind::Buffer => (int()? / 2).to_string(),
            Kind::Seconds => time_text(Some(Duration::from_secs(int()?.unsigned_abs().into()))),
            Kind::Millis => time_text(Some(Duration::from_millis(int()?.unsigned_abs().into()))),
            Kind::Linger => socket.linger()?.map_or("off".to_owned(), |time| format!("{}s", time.as_secs())),
            Kind::ReceiveTimeout => time_text(socket.read_timeout()?),
            Kind::SendTimeout => time_text(socket.write_timeout()?),
        })
    }
}

/// `30s`, `1500ms`, or `none`: so the kernel means zero here.
fn time_text(time: Option<Duration>) -> String {
    match time.filter(|time| !time.is_zero()) {
        None => "none".to_owned(),
        Some(time) if time.subsec_nanos() == 0 => format!("{}s", time.as_secs()),
        Some(time) => format!("{}ms", time.as_millis()),
    }
}

pub(super) fn saturated<T: TryInto<i32>>(value: T) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn switch(value: bool) -> Value {
    Value::Int(i32::from(value))
}

fn number<T: TryInto<i32>>(value: T) -> Value {
    Value::Int(saturated(value))
}

const fn knob(level: i32, name: i32) -> Knob {
    Knob { level, name }
}

const fn socket(name: i32) -> Knob {
    knob(libc::SOL_SOCKET, name)
}

const fn tcp(name: i32) -> Knob {
    knob(libc::IPPROTO_TCP, name)
}

const fn ip(name: i32) -> Knob {
    knob(libc::IPPROTO_IP, name)
}

const fn ipv6(name: i32) -> Knob {
    knob(libc::IPPROTO_IPV6, name)
}
