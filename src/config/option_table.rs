//! The socket options of the key table: each with the sockets that it is set on, and the kinds of listener that
//! it can hold on. Knows no code that reads or sets.

use super::key_table::key;
use super::keys::{Fits, Key, Kind, Served, SetOn};

use Kind::{Flag, Inline, Interface, Number, Size, Time, WholeSeconds};
use SetOn::{Both, Connection, Listener};

const KERNELS: &str = "the kernel's";
const U32: i64 = u32::MAX as i64;
const I32: i64 = i32::MAX as i64;

const fn option(
    name: &'static str,
    kind: Kind,
    set_on: SetOn,
    fits: Fits,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, doc, service: Served::Now, option: Some((set_on, fits)) }
}

/// `socket`.
pub static SOCKET: &[Key] = &[
    option(
        "backlog",
        Number(1, I32),
        Listener,
        Fits::Connections,
        "4096",
        "Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.",
    ),
    option(
        "keepalive",
        Inline(KEEPALIVE),
        Connection,
        Fits::Tcp,
        KERNELS,
        "Ask silent clients whether they live (SO_KEEPALIVE); { } for the system's times.",
    ),
    option(
        "user_timeout",
        Time,
        Connection,
        Fits::Tcp,
        KERNELS,
        "How long sent data may stay unacknowledged (TCP_USER_TIMEOUT).",
    ),
    option(
        "linger",
        WholeSeconds,
        Connection,
        Fits::Tcp,
        KERNELS,
        "How long close waits (SO_LINGER); \"0s\" makes it send a reset.",
    ),
    option("nodelay", Flag, Connection, Fits::Tcp, KERNELS, "Send small segments at once (TCP_NODELAY)."),
    option("receive_buffer", Size(I32 as u64), Both, Fits::Internet, KERNELS, "SO_RCVBUF."),
    option("send_buffer", Size(I32 as u64), Both, Fits::All, KERNELS, "SO_SNDBUF."),
    option("receive_timeout", Time, Connection, Fits::All, KERNELS, "SO_RCVTIMEO."),
    option("send_timeout", Time, Connection, Fits::All, KERNELS, "SO_SNDTIMEO."),
    option("receive_low_water", Size(I32 as u64), Connection, Fits::Stream, KERNELS, "SO_RCVLOWAT."),
    option(
        "ttl",
        Number(1, 255),
        Both,
        Fits::Internet,
        KERNELS,
        "Hops that a packet may make (IP_TTL, IPV6_UNICAST_HOPS).",
    ),
    option(
        "min_ttl",
        Number(1, 255),
        Both,
        Fits::Tcp,
        KERNELS,
        "Packets with fewer hops left are dropped (RFC 5082).",
    ),
    option("tos", Number(0, 255), Both, Fits::Internet, KERNELS, "Type of service (IP_TOS, IPV6_TCLASS)."),
    option("max_segment", Number(88, 32_767), Both, Fits::Tcp, KERNELS, "Bytes in a segment (TCP_MAXSEG)."),
    option("oob_inline", Flag, Connection, Fits::Tcp, KERNELS, "Urgent data among the rest (SO_OOBINLINE)."),
    option(
        "reuse_address",
        Flag,
        Listener,
        Fits::TcpAndGroups,
        "true",
        "Bind while old connections linger, or beside others that joined the group (SO_REUSEADDR).",
    ),
    option(
        "reuse_port",
        Flag,
        Listener,
        Fits::Internet,
        "false",
        "Share the port with other processes of the same user (SO_REUSEPORT).",
    ),
    option(
        "defer_accept",
        WholeSeconds,
        Listener,
        Fits::Tcp,
        KERNELS,
        "Wake superd when data has come (TCP_DEFER_ACCEPT).",
    ),
    option(
        "fast_open",
        Number(0, I32),
        Listener,
        Fits::Tcp,
        KERNELS,
        "Length of the queue of TCP Fast Open; 0 for none.",
    ),
    option(
        "free_bind",
        Flag,
        Listener,
        Fits::Internet,
        "false",
        "Bind an address that the host does not have yet (IP_FREEBIND).",
    ),
    option(
        "transparent",
        Flag,
        Listener,
        Fits::Internet,
        "false",
        "Bind addresses of others (IP_TRANSPARENT).",
    ),
    option("mark", Number(0, U32), Both, Fits::Internet, KERNELS, "SO_MARK."),
    option("priority", Number(0, I32), Both, Fits::Internet, KERNELS, "SO_PRIORITY."),
    option(
        "broadcast",
        Flag,
        Listener,
        Fits::Udp,
        KERNELS,
        "Let the program send to broadcast addresses (SO_BROADCAST).",
    ),
    option(
        "multicast_ttl",
        Number(0, 255),
        Listener,
        Fits::Udp,
        KERNELS,
        "Hops that what the program sends to groups may make (IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS).",
    ),
    option(
        "multicast_loop",
        Flag,
        Listener,
        Fits::Udp,
        KERNELS,
        "This host hears what the program sends to groups (IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP).",
    ),
    option(
        "multicast_interface",
        Interface,
        Listener,
        Fits::Udp,
        KERNELS,
        "Where what the program sends to groups goes out (IP_MULTICAST_IF, IPV6_MULTICAST_IF).",
    ),
];

static KEEPALIVE: &[Key] = &[
    key("idle", WholeSeconds, KERNELS, "Silence before the first question (TCP_KEEPIDLE)."),
    key("interval", WholeSeconds, KERNELS, "Between two questions (TCP_KEEPINTVL)."),
    key(
        "count",
        Number(1, 127),
        KERNELS,
        "Questions without an answer that end the connection (TCP_KEEPCNT).",
    ),
];
