//! A link between the network of a test and another one at its far end. Only root can make these.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::until;
use super::world::{enter_network, run};

fn ip(words: &str) -> String {
    run(&[&["ip"], words.split(' ').collect::<Vec<_>>().as_slice()].concat())
}

/// Networks with a name so far: tests run side by side.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A pair of interfaces; the far one is in another network.
pub struct Link {
    near: &'static str,
    /// The name of the far interface.
    pub far: &'static str,
    network: String,
    net: u8,
}

impl Link {
    /// With the addresses 192.0.NET.1 and, at the far end, 192.0.NET.2. Needs `own_network`.
    pub fn make(near: &'static str, far: &'static str, net: u8) -> Self {
        let network = format!("superd-test-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::SeqCst));
        let link = Self { near, far, network, net };
        ip(&format!("netns add {}", link.network));
        link.plug_in();
        link
    }

    /// Makes the pair again.
    pub fn plug_in(&self) {
        let Self { near, far, network, net } = self;
        ip(&format!("link add {near} type veth peer name {far} netns {network}"));
        ip(&format!("addr add 192.0.{net}.1/24 dev {near}"));
        ip(&format!("-n {network} addr add 192.0.{net}.2/24 dev {far}"));
        ip(&format!("-n {network} link set {far} up"));
        ip(&format!("link set {near} up"));
        for at in [format!("-6 addr show dev {near}"), format!("-n {network} -6 addr show dev {far}")] {
            until("the link's own addresses", || {
                let addresses = ip(&at);
                (addresses.contains("fe80::") && !addresses.contains("tentative")).then_some(())
            });
        }
    }

    /// Takes the pair away.
    pub fn unplug(&self) {
        ip(&format!("link del {}", self.near));
    }

    /// The far end is there and hears nothing any more.
    pub fn deafen(&self) {
        ip(&format!("-n {} link set {} down", self.network, self.far));
    }

    /// Does something at the far end: what it opens stays there.
    pub fn at_far_end<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            enter_network(&self.network);
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().expect("the far end"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Another panic while a test fails would hide the first.
        let _ = Command::new("ip").args(["netns", "del", &self.network]).status();
    }
}
