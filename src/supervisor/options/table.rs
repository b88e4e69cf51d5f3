//! The table of socket options: what each is called, how it is set, read back and undone.
//!
//! Knows nothing of listeners: when an option is set is its user's matter.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::net::if_::{if_indextoname, if_nametoindex};
use socket2::{Domain, SockRef, Socket, Type};

use super::OptionError;
use crate::config::settings::SocketOptions;
use crate::sys::group;
use crate::sys::kind::SocketKind;
use crate::sys::sockopt::{self, Knob};

/// One option.
pub(super) struct Row {
    pub(super) name: &'static str,
    v4: Knob,
    v6: Knob,
    kind: Kind,
    holds_on: Holds,
    pub(super) asked: for<'a> fn(&'a SocketOptions) -> Option<Value<'a>>,
    /// Set also where the configuration does not say.
    pub(super) always: Option<Value<'static>>,
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
    /// An interface by its name.
    Interface,
}

/// The sockets to which an option means something.
#[derive(Clone, Copy)]
enum Holds {
    Everywhere,
    /// tcp and udp.
    Internet,
    Tcp,
    Udp,
    /// tcp, and groups: on other udp sockets anybody could bind beside it.
    TcpAndGroups,
    /// Where bytes flow: tcp and unix streams.
    Streams,
}

/// What an option is set to.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Int(i32),
    Time(Duration),
    Interface(&'a str),
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
/// have raised it. On unix sockets that of receiving means nothing (unix(7)). The interface of
/// `multicast_interface` can't be read back over IPv4. A zero in `max_segment`, the times and queues means "unset"
/// to the kernel, -1 in `ttl`.
pub(super) const TABLE: &[Row] = &[
    row("reuse_address", Kind::Switch, socket(libc::SO_REUSEADDR), |o| o.reuse_address.map(switch))
        .only_on(Holds::TcpAndGroups)
        .on_by_default(),
    row("reuse_port", Kind::Switch, socket(libc::SO_REUSEPORT), |o| o.reuse_port.map(switch))
        .only_on(Holds::Internet),
    row("free_bind", Kind::Switch, ip(libc::IP_FREEBIND), |o| o.free_bind.map(switch))
        .over_v6(ipv6(libc::IPV6_FREEBIND)),
    row("transparent", Kind::Switch, ip(libc::IP_TRANSPARENT), |o| o.transparent.map(switch))
        .over_v6(ipv6(libc::IPV6_TRANSPARENT)),
    row("receive_buffer", Kind::Buffer, socket(libc::SO_RCVBUF), |o| o.receive_buffer.map(number))
        .only_on(Holds::Internet)
        .undone_by(Undo::Reopen),
    row("send_buffer", Kind::Buffer, socket(libc::SO_SNDBUF), |o| o.send_buffer.map(number))
        .undone_by(Undo::Reopen),
    row("receive_low_water", Kind::Number, socket(libc::SO_RCVLOWAT), |o| o.receive_low_water.map(number))
        .only_on(Holds::Streams)
        .undone_by(Undo::Reopen),
    row("max_segment", Kind::Number, tcp(libc::TCP_MAXSEG), |o| o.max_segment.map(number)),
    row("keepalive", Kind::Switch, socket(libc::SO_KEEPALIVE), |o| o.keepalive.map(|_| switch(true)))
        .only_on(Holds::Tcp),
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
        .only_on(Holds::Tcp)
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
        .over_v6(ipv6(libc::IPV6_MINHOPCOUNT))
        .only_on(Holds::Tcp),
    row("tos", Kind::Number, ip(libc::IP_TOS), |o| o.tos.map(number)).over_v6(ipv6(libc::IPV6_TCLASS)),
    row("oob_inline", Kind::Switch, socket(libc::SO_OOBINLINE), |o| o.oob_inline.map(switch))
        .only_on(Holds::Tcp),
    row("defer_accept", Kind::Seconds, tcp(libc::TCP_DEFER_ACCEPT), |o| o.defer_accept.map(Value::Time)),
    row("fast_open", Kind::Number, tcp(libc::TCP_FASTOPEN), |o| o.fast_open.map(number)),
    row("mark", Kind::Number, socket(libc::SO_MARK), |o| o.mark.map(|mark| Value::Int(mark.cast_signed())))
        .only_on(Holds::Internet),
    row("priority", Kind::Number, socket(libc::SO_PRIORITY), |o| {
        o.priority.map(|priority| Value::Int(priority.cast_signed()))
    })
    .only_on(Holds::Internet),
    row("broadcast", Kind::Switch, socket(libc::SO_BROADCAST), |o| o.broadcast.map(switch))
        .only_on(Holds::Udp),
    row("multicast_ttl", Kind::Number, ip(libc::IP_MULTICAST_TTL), |o| o.multicast_ttl.map(number))
        .over_v6(ipv6(libc::IPV6_MULTICAST_HOPS))
        .only_on(Holds::Udp)
        .undone_by(Undo::Set(-1)),
    row("multicast_loop", Kind::Switch, ip(libc::IP_MULTICAST_LOOP), |o| o.multicast_loop.map(switch))
        .over_v6(ipv6(libc::IPV6_MULTICAST_LOOP))
        .only_on(Holds::Udp)
        .undone_by(Undo::Set(1)),
    row("multicast_interface", Kind::Interface, ip(libc::IP_MULTICAST_IF), |o| {
        o.multicast_interface.as_ref().map(|name| Value::Interface(name.as_str()))
    })
    .over_v6(ipv6(libc::IPV6_MULTICAST_IF))
    .only_on(Holds::Udp),
];

const fn row(
    name: &'static str,
    kind: Kind,
    knob: Knob,
    asked: for<'a> fn(&'a SocketOptions) -> Option<Value<'a>>,
) -> Row {
    let holds_on = match knob.level {
        libc::IPPROTO_TCP => Holds::Tcp,
        libc::IPPROTO_IP => Holds::Internet,
        _ => Holds::Everywhere,
    };
    Row { name, kind, holds_on, v4: knob, v6: knob, asked, always: None, undo: Undo::Set(0) }
}

impl Row {
    const fn over_v6(self, v6: Knob) -> Self {
        Self { v6, ..self }
    }

    const fn undone_by(self, undo: Undo) -> Self {
        Self { undo, ..self }
    }

    const fn only_on(self, holds_on: Holds) -> Self {
        Self { holds_on, ..self }
    }

    const fn on_by_default(self) -> Self {
        Self { always: Some(Value::Int(1)), undo: Undo::Set(1), ..self }
    }

    pub(super) fn holds_on(&self, kind: SocketKind) -> bool {
        match self.holds_on {
            Holds::Everywhere => true,
            Holds::Internet => !kind.is_unix(),
            Holds::Tcp => kind.is_tcp(),
            Holds::Udp => kind.is_udp(),
            Holds::TcpAndGroups => kind.is_tcp() || kind.is_group(),
            Holds::Streams => kind.is_tcp() || kind == SocketKind::UnixStream,
        }
    }

    pub(super) fn knob(&self, kind: SocketKind) -> Knob {
        if kind.is_ipv6() { self.v6 } else { self.v4 }
    }

    /// Only the buffers of tcp are tuned by the kernel, which ends once they are set.
    pub(super) fn undo_on(&self, kind: SocketKind) -> Undo {
        match (self.undo, self.kind) {
            (Undo::Reopen, Kind::Buffer) if !kind.is_tcp() => Undo::Fresh,
            (Undo::Reopen, _) if !kind.is_tcp() => Undo::Set(1),
            (undo, _) => undo,
        }
    }

    pub(super) fn is_taken_away(&self, old: &SocketOptions, new: &SocketOptions) -> bool {
        (self.asked)(old).is_some() && (self.asked)(new).is_none()
    }

    pub(super) fn set(
        &self,
        fd: BorrowedFd<'_>,
        kind: SocketKind,
        value: Value<'_>,
    ) -> Result<(), OptionError> {
        let socket = SockRef::from(&fd);
        let result = match (self.kind, value) {
            (_, Value::Int(value)) => sockopt::set_int(fd, self.knob(kind), value),
            (_, Value::Interface(name)) => if_nametoindex(name)
                .map_err(io::Error::from)
                .and_then(|index| group::send_on(fd, kind.is_ipv6(), index)),
            (Kind::Linger, Value::Time(time)) => socket.set_linger(Some(time)),
            (Kind::ReceiveTimeout, Value::Time(time)) => socket.set_read_timeout(Some(time)),
            (Kind::SendTimeout, Value::Time(time)) => socket.set_write_timeout(Some(time)),
            (Kind::Millis, Value::Time(time)) => {
                sockopt::set_int(fd, self.knob(kind), saturated(time.as_millis()))
            }
            (_, Value::Time(time)) => sockopt::set_int(fd, self.knob(kind), saturated(time.as_secs())),
        };
        result.map_err(|source| OptionError { name: self.name, source })
    }

    pub(super) fn undo(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> Result<(), OptionError> {
        let failed = |source| OptionError { name: self.name, source };
        let socket = SockRef::from(&fd);
        match (self.undo_on(kind), self.kind) {
            (Undo::Set(_), Kind::Interface) => group::send_on(fd, kind.is_ipv6(), 0).map_err(failed),
            (Undo::Set(value), _) => self.set(fd, kind, Value::Int(value)),
            (Undo::Fresh, _) => {
                let value = self.kernel_default(kind).map_err(failed)?;
                self.set(fd, kind, Value::Int(value))
            }
            (Undo::Clear, Kind::Linger) => socket.set_linger(None).map_err(failed),
            (Undo::Clear, Kind::SendTimeout) => socket.set_write_timeout(None).map_err(failed),
            (Undo::Clear, _) => socket.set_read_timeout(None).map_err(failed),
            (Undo::Reopen, _) => Err(failed(io::ErrorKind::Unsupported.into())),
        }
    }

    /// As the kernel gives it; it keeps the time of a linger that is off, which means nothing.
    pub(super) fn value(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> Option<Vec<u8>> {
        let value = sockopt::bytes(fd, self.knob(kind)).ok()?;
        let is_off = matches!(self.kind, Kind::Linger) && value.iter().take(4).all(|byte| *byte == 0);
        Some(if is_off { vec![0; value.len()] } else { value })
    }

    /// Makes it again what the options ask for, or what it was.
    pub(super) fn put_back(
        &self,
        fd: BorrowedFd<'_>,
        kind: SocketKind,
        options: &SocketOptions,
        before: Option<&[u8]>,
    ) -> Result<(), OptionError> {
        match ((self.asked)(options).or(self.always).filter(|_| self.holds_on(kind)), before) {
            (Some(value), _) => self.set(fd, kind, value),
            (None, Some(before)) if !self.holds_on(kind) || matches!(self.undo_on(kind), Undo::Reopen) => {
                self.set_as_read(fd, kind, before).map_err(|source| OptionError { name: self.name, source })
            }
            (None, _) => self.undo(fd, kind),
        }
    }

    /// A buffer is read at twice its size.
    fn set_as_read(&self, fd: BorrowedFd<'_>, kind: SocketKind, before: &[u8]) -> io::Result<()> {
        match (self.kind, before.try_into().map(i32::from_ne_bytes)) {
            (Kind::Buffer, Ok(doubled)) => sockopt::set_int(fd, self.knob(kind), doubled / 2),
            _ => sockopt::set_bytes(fd, self.knob(kind), before),
        }
    }

    fn kernel_default(&self, kind: SocketKind) -> io::Result<i32> {
        let domain = match kind {
            _ if kind.is_unix() => Domain::UNIX,
            _ if kind.is_ipv6() => Domain::IPV6,
            _ => Domain::IPV4,
        };
        let carried = if kind.is_datagram() { Type::DGRAM } else { Type::STREAM };
        let fresh = Socket::new(domain, carried, None)?;
        let value = sockopt::int(fresh.as_fd(), self.knob(kind))?;
        Ok(if matches!(self.kind, Kind::Buffer) { value / 2 } else { value })
    }

    pub(super) fn text(&self, fd: BorrowedFd<'_>, kind: SocketKind) -> io::Result<String> {
        let socket = SockRef::from(&fd);
        let int = || sockopt::int(fd, self.knob(kind));
        Ok(match self.kind {
            Kind::Switch => if int()? == 0 { "off" } else { "on" }.to_owned(),
            Kind::Number => int()?.cast_unsigned().to_string(),
            Kind::Buffer => (int()? / 2).to_string(),
            Kind::Seconds => time_text(Some(Duration::from_secs(int()?.unsigned_abs().into()))),
            Kind::Millis => time_text(Some(Duration::from_millis(int()?.unsigned_abs().into()))),
            Kind::Linger => socket.linger()?.map_or("off".to_owned(), |time| format!("{}s", time.as_secs())),
            Kind::ReceiveTimeout => time_text(socket.read_timeout()?),
            Kind::SendTimeout => time_text(socket.write_timeout()?),
            Kind::Interface => {
                let index = group::sent_on(fd, kind.is_ipv6()).ok_or(io::ErrorKind::Unsupported)?;
                if_indextoname(index)?.to_string_lossy().into_owned()
            }
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

fn switch(value: bool) -> Value<'static> {
    Value::Int(i32::from(value))
}

fn number<T: TryInto<i32>>(value: T) -> Value<'static> {
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
