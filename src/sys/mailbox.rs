//! Datagrams of strangers, many in one system call: with whom they came from and which address they were sent
//! to, so that the answer comes from the address that was asked.
//!
//! Knows nothing of what is asked, nor of who may be answered.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_storage};

use super::socket::address_of;
use super::sockopt::{Knob, set_int};

/// Datagrams in one call, at most.
pub const BATCH: usize = 32;

/// The longest datagram.
const SIZE: usize = 65_536;

/// Room for the datagrams of one call. Memory is taken as it is written to: by short datagrams, little.
#[derive(Debug)]
pub struct Mailbox {
    bytes: Vec<u8>,
    envelopes: Vec<Envelope>,
}

/// What is known of one datagram.
#[derive(Debug, Clone, Copy)]
struct Envelope {
    length: usize,
    name: sockaddr_storage,
    name_length: libc::socklen_t,
    target: Option<Target>,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'m> {
    /// Where it says that it comes from.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub target: Target,
    /// What is in it.
    pub bytes: &'m [u8],
}

/// Where a datagram was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The address in its header.
    pub address: IpAddr,
    /// It is an address of this machine alone, as far as the kernel tells: not that of a network, nor a group.
    pub unicast: bool,
    /// The interface that it came by.
    interface: u32,
}

/// Has the kernel tell, for each datagram of this socket from now on, where it was sent to.
pub fn tell_targets(socket: BorrowedFd<'_>) -> io::Result<()> {
    // An IPv6 socket that takes IPv4 datagrams wants both.
    let four = set_int(socket, Knob { level: libc::IPPROTO_IP, name: libc::IP_PKTINFO }, 1);
    let six = set_int(socket, Knob { level: libc::IPPROTO_IPV6, name: libc::IPV6_RECVPKTINFO }, 1);
    four.or(six)
}

impl Default for Mailbox {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH * SIZE], envelopes: Vec::with_capacity(BATCH) }
    }
}

impl Mailbox {
    /// Takes what is there, at most [`BATCH`], without waiting; what was in the mailbox is gone. The number of
    /// datagrams.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.envelopes.clear();
        // SAFETY: all are C structures of numbers and pointers, or bytes, for which all bits zero is a value.
        let (mut headers, mut vectors, mut names, mut controls): (
            [mmsghdr; BATCH],
            [iovec; BATCH],
            [sockaddr_storage; BATCH],
            [Control; BATCH],
        ) = unsafe { std::mem::zeroed() };
        let parts = headers.iter_mut().zip(&mut vectors).zip(&mut names).zip(&mut controls);
        for ((((header, vector), name), control), room) in parts.zip(self.bytes.chunks_exact_mut(SIZE)) {
            *vector = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: SIZE };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = NAME_SIZE;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        // SAFETY: each of the BATCH headers points to one vector over its own part of `bytes`, to its own name and
        // its own control buffer, with their lengths; all live until the end of the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                HEADERS,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(0) } else { Err(error) };
        };
        self.envelopes.extend(headers.iter().zip(names).take(count).map(|(header, name)| Envelope {
            length: header.msg_len as usize,
            name,
            name_length: header.msg_hdr.msg_namelen,
            // SAFETY: the kernel has just filled in this header, and its control buffer is alive.
            target: unsafe { target_of(&header.msg_hdr) },
        }));
        Ok(count)
    }

    /// A datagram of the last call; `None` also for one of which the kernel did not say enough.
    pub fn letter(&self, index: usize) -> Option<Letter<'_>> {
        let envelope = self.envelopes.get(index)?;
        let start = index * SIZE;
        let bytes = self.bytes.get(start..start + envelope.length)?;
        Some(Letter { source: address_of(&envelope.name)?, target: envelope.target?, bytes })
    }

    /// Answers datagrams of the last call, each from the address that it was sent to, without waiting. An answer
    /// that can't be sent is dropped, as on any way through the network. The answers that were sent, and their bytes.
    pub fn answer(&self, socket: BorrowedFd<'_>, answers: &[(usize, &[u8])]) -> (u64, u64) {
        let (mut sent, mut bytes) = (0, 0);
        let mut rest = answers;
        while !rest.is_empty() {
            let Ok(count) = self.send(socket, rest) else {
                if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                    break;
                }
                // The first one has no way to its client.
                rest = rest.get(1..).unwrap_or_default();
                continue;
            };
            sent += count as u64;
            bytes += rest.iter().take(count).map(|(_, answer)| answer.len() as u64).sum::<u64>();
            // None, without an error: there is none that could be sent.
            rest = rest.get(count.max(1)..).unwrap_or_default();
        }
        (sent, bytes)
    }

    /// How many of the first [`BATCH`] were sent. An error, which is in errno, is about the first one.
    fn send(
        &self,
        socket: BorrowedFd<'_>,
        answers: &[(usize, &[u8])],
    ) -> Result<usize, std::num::TryFromIntError> {
        // SAFETY: as in `receive`.
        let (mut headers, mut vectors, mut controls): ([mmsghdr; BATCH], [iovec; BATCH], [Control; BATCH]) =
            unsafe { std::mem::zeroed() };
        let mut count = 0;
        let parts = headers.iter_mut().zip(&mut vectors).zip(&mut controls);
        for (((header, vector), control), (index, answer)) in parts.zip(answers) {
            let Some(envelope) = self.envelopes.get(*index) else { break };
            *vector = iovec { iov_base: answer.as_ptr().cast_mut().cast(), iov_len: answer.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = (&raw const envelope.name).cast_mut().cast();
            header.msg_hdr.msg_namelen = envelope.name_length;
            header.msg_hdr.msg_controllen = control.fill(envelope.target) as _;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `count` headers point to one vector each, over a slice that outlives the call, to a
        // name in `self` and to their own control buffer; the kernel reads these and writes only into `headers`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _) };
        usize::try_from(sent)
    }
}

#[allow(clippy::cast_possible_truncation)] // 128 and 32
const NAME_SIZE: libc::socklen_t = size_of::<sockaddr_storage>() as _;
#[allow(clippy::cast_possible_truncation)]
const HEADERS: libc::c_uint = BATCH as _;

/// The length of a control message with a `T`.
#[allow(clippy::cast_possible_truncation)] // below 100
const fn length_of<T>() -> usize {
    // SAFETY: CMSG_LEN computes a length.
    unsafe { libc::CMSG_LEN(size_of::<T>() as u32) as usize }
}

#[allow(clippy::cast_possible_truncation)] // below 100
const fn space_for(length: usize) -> usize {
    // SAFETY: CMSG_SPACE computes a length.
    unsafe { libc::CMSG_SPACE(length as u32) as usize }
}

const CONTROL_SIZE: usize = space_for(size_of::<in_pktinfo>()) + space_for(size_of::<in6_pktinfo>());

/// Control messages of one datagram, aligned as they are.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_SIZE]);

impl Control {
    /// Says which address an answer is to come from. The bytes that are filled.
    fn fill(&mut self, target: Option<Target>) -> usize {
        let Some(target) = target else { return 0 };
        match target.address {
            IpAddr::V4(address) => self.put(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: raw(address),
                    ipi_addr: raw(Ipv4Addr::UNSPECIFIED),
                },
            ),
            IpAddr::V6(address) => {
                // Elsewhere the way back may go by another interface.
                let interface = if address.is_unicast_link_local() { target.interface } else { 0 };
                let from = libc::in6_addr { s6_addr: address.octets() };
                let info = in6_pktinfo { ipi6_addr: from, ipi6_ifindex: interface as _ };
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
        }
    }

    fn put<T: Copy>(&mut self, level: c_int, kind: c_int, value: T) -> usize {
        let header: *mut cmsghdr = (&raw mut self.0).cast();
        // SAFETY: the buffer is aligned for a header and has room for one message with either information; the
        // data stand behind the header, where CMSG_DATA points, at no special alignment.
        unsafe {
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = length_of::<T>();
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
        }
        space_for(size_of::<T>())
    }
}

fn raw(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: address.to_bits().to_be() }
}

/// Where a datagram was sent to. Of IPv4 the kernel also says which address it would answer from, by itself: for
/// one that was sent to a network or to a group, that is not the address it was sent to.
///
/// # Safety
/// `header` is as recvmmsg left it, and its control buffer is alive.
unsafe fn target_of(header: &msghdr) -> Option<Target> {
    let mut found = None;
    // SAFETY: the caller's promise; CMSG_NXTHDR stays inside of msg_controllen, which the kernel has set.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = part.as_ref() {
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: in_pktinfo = read(part)?;
                    // 0 of what came before it was asked: nobody can send from the address of a network.
                    let own = info.ipi_spec_dst.s_addr;
                    return Some(Target {
                        address: Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)).into(),
                        unicast: own == info.ipi_addr.s_addr || own == 0,
                        interface: info.ipi_ifindex.try_into().unwrap_or(0),
                    });
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: in6_pktinfo = read(part)?;
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    // Of IPv4 the other message says more.
                    let unicast = !address.is_multicast() && address.to_ipv4_mapped().is_none();
                    found =
                        Some(Target { address: address.into(), unicast, interface: info.ipi6_ifindex as _ });
                }
                _ => {}
            }
            part = libc::CMSG_NXTHDR(header, part);
        }
    }
    found
}

/// The value of a control message, if it is as long as it should be.
///
/// # Safety
/// `part` points to a control message that is whole; any bits are a `T`.
unsafe fn read<T: Copy>(part: *const cmsghdr) -> Option<T> {
    // SAFETY: the caller's promise.
    unsafe {
        let fits = (*part).cmsg_len >= length_of::<T>();
        fits.then(|| {
            let mut value = MaybeUninit::<T>::uninit();
            std::ptr::copy_nonoverlapping(libc::CMSG_DATA(part), value.as_mut_ptr().cast(), size_of::<T>());
            value.assume_init()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// Sends to `asked` and has it echoed: the target that was told, and where the answer came from.
    fn exchange(bound: &str, asked: &str) -> (Target, SocketAddr) {
        let server = UdpSocket::bind((bound, 0)).unwrap();
        tell_targets(server.as_fd()).unwrap();
        let client = UdpSocket::bind(if asked.contains(':') { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let port = server.local_addr().unwrap().port();
        for text in ["one", "", "three"] {
            client.send_to(text.as_bytes(), (asked, port)).unwrap();
        }
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.receive(server.as_fd()).unwrap(), 3);
        let letters: Vec<_> = (0..3).map(|index| mailbox.letter(index).unwrap()).collect();
        assert_eq!(letters[0].source.port(), client.local_addr().unwrap().port());
        let answers: Vec<_> = (0..).zip(letters.iter().map(|letter| letter.bytes)).collect();
        assert_eq!(mailbox.answer(server.as_fd(), &answers), (3, 8));
        let target = letters[0].target;
        let mut buffer = [0; 10];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from.port()), (&b"one"[..], port));
        assert_eq!(mailbox.receive(server.as_fd()).unwrap(), 0);
        assert!(mailbox.letter(0).is_none());
        (target, from)
    }

    #[track_caller]
    fn check(bound: &str, asked: &str) {
        let (target, from) = exchange(bound, asked);
        let asked: IpAddr = asked.parse().unwrap();
        assert_eq!((target.address, target.unicast, from.ip()), (asked, true, asked));
    }

    #[test]
    fn answers_come_from_the_address_that_was_asked() {
        check("127.0.0.1", "127.0.0.1");
        check("0.0.0.0", "127.0.0.5");
        check("::", "127.0.0.5");
        check("::", "::1");
    }

    #[test]
    fn what_was_sent_to_a_network_is_told_apart() {
        for bound in ["0.0.0.0", "::"] {
            let server = UdpSocket::bind((bound, 0)).unwrap();
            tell_targets(server.as_fd()).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_broadcast(true).unwrap();
            client.send_to(b"x", ("127.255.255.255", server.local_addr().unwrap().port())).unwrap();
            let mut mailbox = Mailbox::default();
            assert_eq!(mailbox.receive(server.as_fd()).unwrap(), 1);
            assert!(!mailbox.letter(0).unwrap().target.unicast, "{bound}");
        }
    }

    #[test]
    fn an_answer_without_a_way_holds_up_no_other() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        tell_targets(server.as_fd()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"a", server.local_addr().unwrap()).unwrap();
        client.send_to(b"b", server.local_addr().unwrap()).unwrap();
        let mut mailbox = Mailbox::default();
        assert_eq!(mailbox.receive(server.as_fd()).unwrap(), 2);
        // Port 0 is nobody's.
        let nowhere = socket2::SockAddr::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
        // SAFETY: the address is one of a storage's kinds, and no longer than that.
        unsafe {
            let name: *mut u8 = (&raw mut mailbox.envelopes[0].name).cast();
            std::ptr::copy_nonoverlapping(nowhere.as_ptr().cast(), name, nowhere.len() as usize);
        }
        assert_eq!(mailbox.answer(server.as_fd(), &[(0, b"a"), (1, b"b")]), (1, 1));
    }
}
