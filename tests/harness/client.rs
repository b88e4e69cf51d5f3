//! A client of a service: a connection with deadlines, whose methods panic with what went wrong.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// A connected client.
pub struct Client {
    /// For what the methods do not offer.
    pub stream: TcpStream,
}

impl Client {
    /// Connects; panics where nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// As `connect`, without a panic.
    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream })
    }

    /// Connects from an address of this host.
    #[track_caller]
    pub fn connect_from(address: SocketAddr, from: IpAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap_or_else(|error| panic!("bind {from}: {error}"));
        socket
            .connect_timeout(&address.into(), DEADLINE)
            .unwrap_or_else(|e| panic!("connect {address}: {e}"));
        socket.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
        socket.set_write_timeout(Some(DEADLINE)).expect("SO_SNDTIMEO");
        Self { stream: socket.into() }
    }

    /// Its own address, as superd's log has it.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("getsockname")
    }

    /// Sends it all.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write to the service");
    }

    /// Says that no more comes.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What comes until the other side closes; a reset counts as an error.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("read from the service");
        bytes
    }

    /// As `read_to_end`, but a reset is an end, too.
    pub fn read_until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// As text.
    #[track_caller]
    pub fn read_text(&mut self) -> String {
        String::from_utf8(self.read_to_end()).expect("the service writes text")
    }

    /// One line, without its end.
    #[track_caller]
    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte).expect("read a line from the service") {
                0 => break,
                _ if byte[0] == b'\n' => break,
                _ => line.push(byte[0]),
            }
        }
        String::from_utf8(line).expect("the service writes text")
    }

    /// The pid that `probe sleep` and its kind write first.
    #[track_caller]
    pub fn read_pid(&mut self) -> i32 {
        let line = self.read_line();
        let pid = line.strip_prefix("pid ").and_then(|number| number.parse().ok());
        pid.unwrap_or_else(|| panic!("a pid was expected, not `{line}`"))
    }

    /// Does nothing come for a moment, and is the connection open?
    pub fn is_silent(&mut self, moment: Duration) -> bool {
        self.stream.set_read_timeout(Some(moment)).expect("SO_RCVTIMEO");
        let outcome = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(DEADLINE)).expect("SO_RCVTIMEO");
        matches!(outcome, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Closes with a reset instead of an end.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}
