//! Listeners that superd shares with workers that accept by themselves: lent to the first of them, and set right
//! when the last one has ended. Also the channels of the other kind, since each worker is given one or the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::service::admission::ServiceKey;
use crate::sys::channel::Channel;
use crate::sys::fd::set_nonblocking;

use super::Supervisor;
use super::lending::Keepsake;
use super::lent::is_hung_up;
use super::listeners::ListenerKey;
use super::pools::Generation;

impl Supervisor {
    /// superd's end of the channel, and what the worker is given: the other end, or the listeners.
    pub(super) fn sockets_of_worker(
        &mut self,
        service: ServiceKey,
        generation: &Generation,
    ) -> io::Result<(Option<Channel>, Vec<OwnedFd>)> {
        if generation.settings.is_accepted() {
            let (own, theirs) = Channel::pair()?;
            return Ok((Some(own), vec![theirs.into_fd()]));
        }
        let mut sockets = Vec::new();
        let mut keepsakes = Vec::new();
        for &(key, serial) in &generation.listeners {
            let Some(listener) = self.listeners.get(key).filter(|l| l.serial == serial) else { continue };
            sockets.push(listener.fd.try_clone()?);
            // Those who have it may have set its flags, which are everybody's.
            if !self.is_lent_to_workers(service, key) {
                // As a server that waits finds it.
                set_nonblocking(listener.fd.as_fd(), false)?;
                keepsakes.push((key, serial, Keepsake::of(listener)?));
            }
        }
        if sockets.is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if let Some(state) = self.services.get_mut(service).and_then(|s| s.pool.as_mut()) {
            state.lent.extend(keepsakes);
        }
        Ok((None, sockets))
    }

    /// Do workers of this service have this listener?
    pub(super) fn is_lent_to_workers(&self, service: ServiceKey, listener: ListenerKey) -> bool {
        let serial = self.listeners.get(listener).map(|listener| listener.serial);
        let pool = self.services.get(service).and_then(|service| service.pool.as_ref());
        pool.is_some_and(|pool| {
            pool.lent.iter().any(|(key, lent, _)| *key == listener && Some(*lent) == serial)
        })
    }

    /// What workers have done to the listeners that they share is undone when the last one has ended. One that
    /// was shut down serves nobody: it listens again at once, or is opened anew.
    pub(super) fn check_pool_listeners(&mut self, service: ServiceKey) {
        let alone = self.workers.of_service(service).next().is_none();
        let Some(state) = self.services.get_mut(service).and_then(|s| s.pool.as_mut()) else { return };
        let lent = std::mem::take(&mut state.lent);
        let is_back = |(key, serial, _): &(ListenerKey, u64, Keepsake)| {
            let listener = self.listeners.get(*key).filter(|listener| listener.serial == *serial);
            alone || listener.is_none_or(|listener| is_hung_up(listener.fd.as_fd()))
        };
        let (back, lent): (Vec<_>, Vec<_>) = lent.into_iter().partition(is_back);
        state.lent = lent;
        self.return_pool_listeners(service, back);
    }

    /// Sets right what workers were given.
    pub(super) fn return_pool_listeners(
        &mut self,
        service: ServiceKey,
        lent: Vec<(ListenerKey, u64, Keepsake)>,
    ) {
        let mut reopened = false;
        for (key, serial, mut keepsake) in lent {
            if self.listeners.get(key).is_none_or(|listener| listener.serial != serial) {
                continue;
            }
            let owner = self.listeners.get(key).map(|listener| listener.service);
            let owner = owner.and_then(|owner| self.services.get(owner));
            if owner.is_some_and(|owner| owner.settings.is_accepted()) {
                keepsake.stay_nonblocking();
            }
            if let super::lent::Restored::Gone(_) = self.restore(key, &keepsake) {
                self.reopen_broken(key, libc::EINVAL);
                reopened = true;
            }
        }
        if reopened {
            self.commit_pool(service);
        }
    }
}
