//! What is judged: a client, the moment, and what is known of it so far. All of it is given; nothing is asked
//! from here.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use crate::model::client::Client;
use crate::model::host::HostName;
use crate::model::network::Network;

/// A client that wants to use a service.
#[derive(Debug, Clone, Copy)]
pub struct Request<'r> {
    /// Who.
    pub client: Client,
    /// The address that it asked; none by a unix socket.
    pub local: Option<SocketAddr>,
    /// When.
    pub now: SystemTime,
    /// This host's own addresses and networks, as they are now.
    pub interfaces: &'r Interfaces,
    /// The name of its address.
    pub name: Fact<Naming<'r>>,
    /// Whose process it is; of a client by a unix socket [`Client::User`] says it, and this may say more.
    pub user: Fact<User<'r>>,
    /// What its RFC 1413 server says: its own word.
    pub ident: Fact<&'r str>,
}

impl<'r> Request<'r> {
    /// A request of which nothing was asked yet.
    pub fn new(client: Client, now: SystemTime, interfaces: &'r Interfaces) -> Self {
        let (name, user, ident) = (Fact::NotAsked, Fact::NotAsked, Fact::NotAsked);
        Self { client, local: None, now, interfaces, name, user, ident }
    }
}

/// Something that may have to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact<T> {
    /// Nobody asked.
    NotAsked,
    /// The answer.
    Known(T),
    /// It was asked, and there is no answer: an error, or no time left.
    Failed,
}

/// What the name service says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming<'r> {
    /// The names of the address that have it among their addresses.
    Confirmed(&'r [HostName]),
    /// The address has no name.
    NoName,
    /// It has one, which has other addresses.
    Mismatch,
}

/// A user of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'r> {
    /// Its number.
    pub uid: u32,
    /// The groups of the process, as far as the kernel says them.
    pub groups: &'r [u32],
}

/// The addresses and networks of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// Sorted.
    own: Vec<IpAddr>,
    links: Vec<Network>,
}

impl Interfaces {
    /// Its addresses, and the networks that its interfaces are on.
    pub fn new(own: impl IntoIterator<Item = IpAddr>, links: impl IntoIterator<Item = Network>) -> Self {
        let mut own: Vec<IpAddr> = own.into_iter().map(|address| address.to_canonical()).collect();
        own.sort_unstable();
        Self { own, links: links.into_iter().collect() }
    }

    /// Its addresses.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.own.iter().copied()
    }

    /// The networks that its interfaces are on.
    pub fn links(&self) -> impl Iterator<Item = Network> {
        self.links.iter().copied()
    }

    /// Is it loopback, or one of this host's addresses?
    pub fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.own.binary_search(&address).is_ok()
    }

    /// Is it on a network of an interface?
    pub fn is_on_link(&self, address: IpAddr) -> bool {
        self.links.iter().any(|network| network.contains(address))
    }
}
