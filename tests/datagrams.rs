//! Listeners of datagrams: unicast, multicast groups on an interface, broadcast, and interfaces that come back.
//!
//! Each test runs itself again in a network of its own, which only root can make.
#![allow(clippy::unwrap_used)] // a test that can't go on ends

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use socket2::SockRef;
use superd::config::settings::SocketOptions;
use superd::model::endpoint::{Endpoint, InetEndpoint, InterfaceName, Transport};
use superd::supervisor::bind::{BindError, open_listener, rejoin};
use superd::supervisor::lent::{Lent, Restored};

const INSIDE: &str = "SUPERD_TEST_OWN_NETWORK";
const PORT: u16 = 7079;

#[test]
fn unicast_is_nobody_elses() {
    in_own_network("unicast_is_nobody_elses", || {
        for ip in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
            let kept = open(&endpoint(ip, None)).unwrap();
            assert!(!SockRef::from(&kept).reuse_address().unwrap(), "{ip}");
            let mut error = open(&endpoint(ip, None)).unwrap_err();
            error.look_for_holder(&endpoint(ip, None));
            assert!(error.to_string().contains("Address already in use (held by pid "), "{error}");
            let other = socket2::Socket::new(
                if ip.contains(':') { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 },
                socket2::Type::DGRAM,
                None,
            )
            .unwrap();
            other.set_reuse_address(true).unwrap();
            let at = SocketAddr::new(ip.parse().unwrap(), PORT);
            assert_eq!(other.bind(&at.into()).unwrap_err().kind(), ErrorKind::AddrInUse, "{ip}");
        }
        // Both families have the port at once.
        let _both = [open(&endpoint("0.0.0.0", None)).unwrap(), open(&endpoint("::", None)).unwrap()];
    });
}

#[test]
fn a_wait_server_gets_a_socket_that_blocks() {
    in_own_network("a_wait_server_gets_a_socket_that_blocks", || {
        make_link("va", "vb", "192.0.2.1/24");
        for wait in [false, true] {
            for (ip, via) in [("127.0.0.1", None), ("::1", None), ("239.1.2.3", Some("va"))] {
                let at = endpoint(ip, via);
                let fd = open_listener(&at, &SocketOptions::default(), wait).unwrap();
                assert_eq!(SockRef::from(&fd).nonblocking().unwrap(), !wait, "{at}");
            }
        }
    });
}

/// The group's datagrams come, on its interface alone; another group's, and unicast ones, do not, even though
/// other sockets of the machine have joined it.
fn check_group(group: &str, other: &str, via: &str, others_via: &str) {
    let listener = UdpSocket::from(open(&endpoint(group, Some(via))).unwrap());
    let _neighbour = open(&endpoint(other, Some(via))).unwrap();
    let _elsewhere = open(&endpoint(group, Some(others_via))).unwrap();
    send(other, via, "other group");
    send(group, others_via, "other interface");
    send(group, via, "right");
    assert_eq!(receive(&listener).as_deref(), Some("right"), "{group}");
    assert_eq!(receive_now(&listener), None, "{group}");
}

#[test]
fn a_group_hears_its_own_datagrams() {
    in_own_network("a_group_hears_its_own_datagrams", || {
        make_link("va", "vb", "192.0.2.1/24");
        make_link("vc", "vd", "198.51.100.1/24");
        check_group("239.1.2.3", "239.1.2.4", "va", "vc");
        check_group("ff02::7079", "ff02::7080", "va", "vc");
        check_group("ff05::7079", "ff05::7080", "va", "vc");
        // A wildcard socket hears no group that others have joined.
        let wildcard = UdpSocket::from(open(&at_port("0.0.0.0", 7080)).unwrap());
        let _group = open(&Endpoint::Inet(InetEndpoint {
            interface: InterfaceName::new("va"),
            ..inet("239.1.2.3", 7080)
        }));
        let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
        let index = socket2::InterfaceIndexOrAddress::Index(if_nametoindex("va").unwrap());
        let _ = SockRef::from(&sender).join_multicast_v4_n(&"239.9.9.9".parse().unwrap(), &index);
        send_to("239.1.2.3:7080", "va", "group");
        sender.send_to(b"unicast", "192.0.2.1:7080").unwrap();
        assert_eq!(receive(&wildcard).as_deref(), Some("unicast"));
    });
}

#[test]
fn two_listeners_share_a_group() {
    in_own_network("two_listeners_share_a_group", || {
        make_link("va", "vb", "192.0.2.1/24");
        let [one, two] = [(); 2].map(|()| UdpSocket::from(open(&endpoint("239.1.2.3", Some("va"))).unwrap()));
        send("239.1.2.3", "va", "both");
        assert_eq!(receive(&one).as_deref(), Some("both"));
        assert_eq!(receive(&two).as_deref(), Some("both"));
    });
}

#[test]
fn an_interface_that_is_away_is_an_absence() {
    in_own_network("an_interface_that_is_away_is_an_absence", || {
        for group in ["239.1.2.3", "ff02::7079", "ff05::7079"] {
            let error = open(&endpoint(group, Some("va"))).unwrap_err();
            assert!(error.is_absence(), "{group}: {error}");
        }
        let interface = SocketOptions { multicast_interface: InterfaceName::new("va"), ..Default::default() };
        let error = open_listener(&endpoint("127.0.0.1", None), &interface, false).unwrap_err();
        assert!(error.is_absence(), "{error}");
    });
}

/// With another number, with the same one, and many times over: a socket has room for 20 groups.
#[test]
fn a_group_is_joined_again() {
    in_own_network("a_group_is_joined_again", || {
        for group in ["239.1.2.3", "ff02::7079", "ff05::7079"] {
            make_link("va", "vb", "192.0.2.1/24");
            let at = endpoint(group, Some("va"));
            let listener = UdpSocket::from(open(&at).unwrap());
            for round in 0..45 {
                rejoin(listener.as_fd(), &at).unwrap();
                let index = if_nametoindex("va").unwrap();
                ip("link del va");
                assert_eq!(rejoin(listener.as_fd(), &at).unwrap_err().raw_os_error(), Some(libc::ENODEV));
                let number = if round % 2 == 0 { format!("index {index} ") } else { String::new() };
                ip(&format!("link add va {number}type veth peer name vb"));
                bring_up("va", "vb", "192.0.2.1/24");
                rejoin(listener.as_fd(), &at).unwrap_or_else(|e| panic!("{group} round {round}: {e}"));
                send(group, "va", "back");
                assert_eq!(receive(&listener).as_deref(), Some("back"), "{group} round {round}");
            }
            ip("link del va");
        }
    });
}

#[test]
fn broadcasts_are_received() {
    in_own_network("broadcasts_are_received", || {
        make_link("va", "vb", "192.0.2.1/24");
        for broadcast in ["192.0.2.255", "255.255.255.255"] {
            let listener = UdpSocket::from(open(&at_port(broadcast, 7081)).unwrap());
            let sender = UdpSocket::bind("192.0.2.1:0").unwrap();
            sender.set_broadcast(true).unwrap();
            SockRef::from(&sender).bind_device(Some(b"va")).unwrap();
            sender.send_to(b"unicast", "192.0.2.1:7081").unwrap();
            sender.send_to(b"all", (broadcast, 7081)).unwrap();
            assert_eq!(receive(&listener).as_deref(), Some("all"), "{broadcast}");
        }
    });
}

#[test]
fn a_lent_group_comes_back() {
    in_own_network("a_lent_group_comes_back", || {
        make_link("va", "vb", "192.0.2.1/24");
        let at = endpoint("239.1.2.3", Some("va"));
        let options = SocketOptions::default();
        let listener = UdpSocket::from(open_listener(&at, &options, true).unwrap());
        let lent = Lent::remember(listener.as_fd()).unwrap();
        let index = socket2::InterfaceIndexOrAddress::Index(if_nametoindex("va").unwrap());
        let socket = SockRef::from(&listener);
        socket.leave_multicast_v4_n(&"239.1.2.3".parse().unwrap(), &index).unwrap();
        assert_eq!(lent.restore(listener.as_fd(), &at, &options), Restored::Same);
        send("239.1.2.3", "va", "back");
        assert_eq!(receive(&listener).as_deref(), Some("back"));
    });
}

fn inet(ip: &str, port: u16) -> InetEndpoint {
    let ip = ip.parse().unwrap();
    InetEndpoint { transport: Transport::Udp, ip, port, zone: None, interface: None, optional: false }
}

fn at_port(ip: &str, port: u16) -> Endpoint {
    Endpoint::Inet(inet(ip, port))
}

fn endpoint(ip: &str, interface: Option<&str>) -> Endpoint {
    Endpoint::Inet(InetEndpoint { interface: interface.and_then(InterfaceName::new), ..inet(ip, PORT) })
}

fn open(endpoint: &Endpoint) -> Result<OwnedFd, BindError> {
    open_listener(endpoint, &SocketOptions::default(), true)
}

fn send(group: &str, via: &str, text: &str) {
    let ip: IpAddr = group.parse().unwrap();
    send_to(&SocketAddr::new(ip, PORT).to_string(), via, text);
}

/// From this machine out on an interface; the loop brings it back in there.
fn send_to(to: &str, via: &str, text: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let sender = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    SockRef::from(&sender).bind_device(Some(via.as_bytes())).unwrap();
    sender.send_to(text.as_bytes(), to).unwrap();
}

fn receive(socket: &UdpSocket) -> Option<String> {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// What was sent on this machine has arrived when send returns.
fn receive_now(socket: &UdpSocket) -> Option<String> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn make_link(name: &str, peer: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name {peer}"));
    bring_up(name, peer, address);
}

/// Without duplicate detection, so that the link's own address is there at once.
fn bring_up(name: &str, peer: &str, address: &str) {
    for name in [name, peer] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        ip(&format!("link set {name} up"));
    }
    ip(&format!("addr add {address} dev {name}"));
    // The kernel makes the link's own address once both ends are up, in its own time.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !has_ipv6_address(name) {
        assert!(Instant::now() < deadline, "{name} gets no address of IPv6");
        std::thread::yield_now();
    }
}

/// One that can be used: its flags, the fifth word, have lost `IFA_F_TENTATIVE`.
fn has_ipv6_address(interface: &str) -> bool {
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    table.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()).any(|words| {
        words[5] == interface && u32::from_str_radix(words[4], 16).unwrap() & libc::IFA_F_TENTATIVE == 0
    })
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn in_own_network(test: &str, body: fn()) {
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let mut again = Command::new("unshare");
    again.arg("--net").arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    assert!(again.env(INSIDE, "1").status().unwrap().success());
}
