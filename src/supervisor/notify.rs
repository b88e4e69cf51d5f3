//! What superd tells the service manager that started it: `sd_notify(3)`, over `$NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use nix::time::{ClockId, clock_gettime};

use super::Supervisor;

impl Supervisor {
    /// All is bound, or the reload is over.
    pub(super) fn notify_ready(&self) {
        let services = self.services.iter().filter(|(_, service)| !service.is_gone).count();
        notify(&format!("READY=1\nSTATUS=generation {}, {services} services", self.generation));
    }

    /// A load has begun. Before the first one is over superd is not ready yet, and says nothing.
    pub(super) fn notify_reloading(&self) {
        if self.generation > 0 {
            let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
                .map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000);
            notify(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
        }
    }
}

/// superd is on its way out.
pub(super) fn notify_stopping() {
    notify("STOPPING=1\nSTATUS=ending");
}

/// Without waiting: a service manager that does not listen loses the message.
fn notify(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = path.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = |address: SocketAddr| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address)
    };
    // Nothing depends on it, and there is nobody to tell.
    let _ = address.and_then(send);
}
