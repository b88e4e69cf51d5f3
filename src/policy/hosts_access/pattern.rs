//! One item of a list of hosts, users or daemons: text to pattern.
//!
//! A pattern that libwrap reads but that can't ever match is *dead*; the caller knows whether that lets
//! somebody in. Knows nothing of lists, files and requests.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::network::Network;

use super::host_list::HostSet;
use super::network::{self, bracketed};
use super::text::TextPattern;

/// The longest name of a netgroup.
pub const MAX_NETGROUP: usize = 128;

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPattern {
    /// `ALL`: any, also one that nothing is known of.
    All,
    /// `LOCAL`: the name has no dot.
    Local,
    /// `KNOWN`: there are an address and a name.
    Known,
    /// `UNKNOWN`: one of them is missing.
    Unknown,
    /// `PARANOID`: the name does not lead back to the address.
    Paranoid,
    /// `n.n.n.n`, `n.n.`, `n.n.n.n/len`, `n.n.n.n/m.m.m.m`, `[v6]`, `[v6]/len`.
    Network(Network),
    /// A mask with gaps: (address & mask) is the network.
    Masked {
        /// Without other bits than those of the mask.
        network: Ipv4Addr,
        /// Any.
        mask: Ipv4Addr,
    },
    /// `10.1.*`: the text of the address.
    AddressText(TextPattern),
    /// The name; a glob also the text of the address.
    Name(TextPattern),
    /// `@group`: the name is in that netgroup.
    Netgroup(String),
    /// `/path`: what that file lists.
    List(Arc<HostSet>),
    /// What can't be matched.
    Nobody,
}

/// Which users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserPattern {
    /// `ALL`.
    All,
    /// `KNOWN`: somebody says who it is.
    Known,
    /// `UNKNOWN`: nobody does.
    Unknown,
    /// `@group`: the user is in that netgroup.
    Netgroup(String),
    /// The name, in any case.
    Name(TextPattern),
}

/// Which daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DaemonPattern {
    /// `ALL`, `KNOWN`: each has a name.
    All,
    /// A number: the local port.
    Port(u16),
    /// The name, in any case.
    Name(TextPattern),
}

/// What an item was read as.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read<P> {
    /// A pattern.
    Is(P),
    /// A pattern that never matches, and why.
    Dead(&'static str, P),
    /// The path of a file with patterns.
    File(String),
}

/// Why an item is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

impl Bad {
    pub(super) fn new(message: impl Into<String>, hint: &'static str) -> Self {
        Self { message: message.into(), hint }
    }
}

/// Reads an item of a list of hosts, without a user.
pub(super) fn host(text: &str) -> Result<Read<HostPattern>, Bad> {
    let pattern = match text.to_ascii_uppercase().as_str() {
        "ALL" => HostPattern::All,
        "LOCAL" => HostPattern::Local,
        "KNOWN" => HostPattern::Known,
        "UNKNOWN" => HostPattern::Unknown,
        "PARANOID" => HostPattern::Paranoid,
        _ => return host_by_form(text),
    };
    Ok(Read::Is(pattern))
}

fn host_by_form(text: &str) -> Result<Read<HostPattern>, Bad> {
    let has_glob = text.contains(['*', '?']);
    if text.is_empty() {
        return Err(Bad::new("a host is missing beside the `@`", "write `user@host`; ALL is any host"));
    } else if let Some(group) = text.strip_prefix('@') {
        return Ok(Read::Is(HostPattern::Netgroup(netgroup(group)?)));
    } else if text.starts_with('/') {
        return Ok(Read::File(text.to_owned()));
    } else if text.starts_with('[') {
        return bracketed(text);
    } else if has_glob {
        return glob(text);
    } else if let Some((net, mask)) = text.split_once('/') {
        return network::v4(net, mask);
    } else if text.contains(':') {
        return network::v6(text, "");
    } else if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return network::number(text);
    }
    name(text)
}

fn glob(text: &str) -> Result<Read<HostPattern>, Bad> {
    if text.bytes().all(|b| b == b'*') {
        return Ok(Read::Is(HostPattern::All));
    }
    plain(text, ".-_:*?", "a host")?;
    let pattern = TextPattern::new(text);
    let has_digit = text.bytes().any(|b| b.is_ascii_digit());
    let is_address = has_digit && text.bytes().all(|b| b.is_ascii_digit() || b".*?".contains(&b));
    let pattern = if is_address { HostPattern::AddressText(pattern) } else { HostPattern::Name(pattern) };
    Ok(Read::Is(pattern))
}

fn name(text: &str) -> Result<Read<HostPattern>, Bad> {
    plain(text, ".-_", "a host")?;
    if text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains('-')
        && text.bytes().all(|b| b.is_ascii_digit() || b".-".contains(&b))
    {
        let message = format!("`{text}` is no address and no network");
        return Err(Bad::new(message, "there are no ranges: write networks, `10.1.2.0/24`"));
    }
    Ok(Read::Is(HostPattern::Name(TextPattern::new(text))))
}

/// Reads the user of `user@host`.
pub(super) fn user(text: &str) -> Result<UserPattern, Bad> {
    if let Some(group) = text.strip_prefix('@') {
        return Ok(UserPattern::Netgroup(netgroup(group)?));
    }
    match text.to_ascii_uppercase().as_str() {
        "ALL" => return Ok(UserPattern::All),
        "KNOWN" => return Ok(UserPattern::Known),
        "UNKNOWN" => return Ok(UserPattern::Unknown),
        _ => plain(text, ".-_+$\\~/*?", "a user")?,
    }
    Ok(UserPattern::Name(TextPattern::new(text)))
}

/// Reads an item of a list of daemons, without a host.
pub(super) fn daemon(text: &str) -> Result<Read<DaemonPattern>, Bad> {
    if text.eq_ignore_ascii_case("ALL") || text.eq_ignore_ascii_case("KNOWN") || text == "*" {
        return Ok(Read::Is(DaemonPattern::All));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let port = text.parse().ok().filter(|port| *port > 0);
        let bad = || Bad::new(format!("`{text}` is no port"), "a number here is the local port, 1 to 65535");
        return port.map(|port| Read::Is(DaemonPattern::Port(port))).ok_or_else(bad);
    }
    plain(text, ".-_+/*?", "a daemon")?;
    let pattern = DaemonPattern::Name(TextPattern::new(text));
    Ok(match text {
        "LOCAL" | "UNKNOWN" | "PARANOID" => {
            Read::Dead("it is a word for hosts, and here a plain name", pattern)
        }
        _ if text.contains('/') => Read::Dead("a daemon is known by its name without the path", pattern),
        _ => Read::Is(pattern),
    })
}

fn netgroup(text: &str) -> Result<String, Bad> {
    if text.is_empty() {
        return Err(Bad::new("a netgroup without a name", "write `@group`"));
    }
    plain(text, ".-_+", "a netgroup")?;
    if text.len() > MAX_NETGROUP {
        return Err(Bad::new("a netgroup's name has 128 bytes at most", ""));
    }
    Ok(text.to_owned())
}

/// Letters and digits, and what else such a text may hold.
fn plain(text: &str, others: &str, what: &str) -> Result<(), Bad> {
    let odd = text.chars().find(|c| !c.is_ascii_alphanumeric() && !others.contains(*c));
    let Some(odd) = odd else { return Ok(()) };
    let hint = match odd {
        '#' => "a comment begins in column 1; libwrap takes this for part of the list",
        '!' => "there is no `!`: write `ALL EXCEPT …`",
        '(' | ')' => "there are no parentheses: `a EXCEPT b EXCEPT c` is a without what is in b and not in c",
        '"' | '\'' => "write it without quotes",
        '@' => "it holds one `@`: `user@host`",
        ',' => "only blanks separate the items of such a file",
        _ => "",
    };
    Err(Bad::new(format!("`{text}` can't be {what}: it holds {odd:?}"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        let name = |text| HostPattern::Name(TextPattern::new(text));
        check_host("all", HostPattern::All);
        check_host("Paranoid", HostPattern::Paranoid);
        check_host("***", HostPattern::All);
        check_host("PC1.tue.nl", name("pc1.tue.nl"));
        check_host(".tue.nl", name(".tue.nl"));
        check_host("pc1.", name("pc1."));
        check_host("*.tue.nl", name("*.tue.nl"));
        check_host("10.1.*", HostPattern::AddressText(TextPattern::new("10.1.*")));
        check_host("2001?db8?*", name("2001?db8?*"));
        check_host("@trusted", HostPattern::Netgroup("trusted".to_owned()));
        check_host("FAIL", name("fail"));
        assert_eq!(host("/etc/list"), Ok(Read::File("/etc/list".to_owned())));
    }

    #[track_caller]
    fn check_host(text: &str, expected: HostPattern) {
        assert_eq!(host(text), Ok(Read::Is(expected)), "{text}");
    }

    #[test]
    fn other_texts_are_no_hosts() {
        for (text, hint) in [
            ("", "user@host"),
            ("#", "column 1"),
            ("!10.1.2.3", "no `!`"),
            ("(10.", "no parentheses"),
            ("\"10.1.2.3\"", "without quotes"),
            ("10.1.2.0-10.1.2.255", "no ranges"),
            ("10.1.2.0-255", "no ranges"),
            ("a@b", "one `@`"),
            ("a,b", "only blanks"),
            ("@", "`@group`"),
            ("café", ""),
        ] {
            let bad = host(text).unwrap_err();
            assert!(bad.hint.contains(hint), "{text}: {bad:?}");
        }
    }

    #[test]
    fn daemons_and_users_are_read() {
        let name = |text| Read::Is(DaemonPattern::Name(TextPattern::new(text)));
        for (text, expected) in [
            ("ALL", Read::Is(DaemonPattern::All)),
            ("known", Read::Is(DaemonPattern::All)),
            ("022", Read::Is(DaemonPattern::Port(22))),
            ("in.ftpd", name("in.ftpd")),
            (".ftpd", name(".ftpd")),
            ("local", name("local")),
        ] {
            assert_eq!(daemon(text), Ok(expected), "{text}");
        }
        for dead in ["LOCAL", "PARANOID", "/usr/sbin/sshd"] {
            assert!(matches!(daemon(dead), Ok(Read::Dead(..))), "{dead}");
        }
        for bad in ["0", "65536", "\u{feff}ALL", "@x", "a=b", "#"] {
            assert!(daemon(bad).is_err(), "{bad}");
        }
        assert_eq!(user("@staff"), Ok(UserPattern::Netgroup("staff".to_owned())));
        assert_eq!(user("unknown"), Ok(UserPattern::Unknown));
        assert_eq!(user("j*"), Ok(UserPattern::Name(TextPattern::new("j*"))));
        assert!(user("(joe").is_err());
    }
}
