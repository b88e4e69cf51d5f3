//! When accepting has to wait: resources that are out, limits that are reached, and what is said of it.

use std::time::{Duration, Instant};

use crate::config::settings::Level;
use crate::service::admission::{Full, ServiceKey};
use crate::service::backoff::Backoff;
use crate::sys::process;

use super::Supervisor;
use super::timers::{Due, TimerId};

/// A service that was paused is said to be resumed once it was not for so long: a limit that is reached a
/// thousand times a second is two lines, not two thousand.
const CALM: Duration = Duration::from_secs(5);

/// Descriptors, memory or processes are out: nothing is accepted or launched for a while.
#[derive(Debug)]
pub(super) struct Exhaustion {
    pub(super) errno: i32,
    pub(super) until: Instant,
}

/// One spell of exhaustion. It is over when nothing was out for a while: where accepting works and launching does
/// not, or a descriptor comes free now and then, the first success says little.
#[derive(Debug)]
pub(super) struct Spell {
    backoff: Backoff,
    /// Runs from a success on.
    over: Option<TimerId>,
}

fn fresh_backoff() -> Backoff {
    Backoff::delayed(Duration::from_millis(100), Duration::from_secs(1))
}

impl Supervisor {
    /// accept, clone or ppoll has said that something is out. Said once a spell.
    pub(super) fn resources_are_out(&mut self, errno: i32) {
        if self.exhaustion.is_some() {
            return;
        }
        if let Some(timer) = self.spell.as_mut().and_then(|spell| spell.over.take()) {
            self.timers.cancel(timer);
        }
        if self.spell.is_none() {
            self.spell = Some(Spell { backoff: fresh_backoff(), over: None });
            self.log_state(None, "paused", Some(&process::errno_name(errno)), Level::Err);
        }
        let wait = self.spell.as_mut().map_or(Duration::from_secs(1), |spell| spell.backoff.wait());
        let until = self.now + wait;
        self.exhaustion = Some(Exhaustion { errno, until });
        self.timers.set(until, Due::AcceptAgain);
        self.launches.hold(true);
        // Room for an admin on the control socket.
        self.reserve = None;
    }

    /// The wait is over: try again.
    pub(super) fn accept_again(&mut self) {
        self.exhaustion = None;
        self.launches.hold(false);
        self.send_launches();
        self.hand_to_handlers();
        for key in self.services.keys() {
            self.give_waiting(key);
        }
        self.watch_all();
    }

    /// Something has worked: a spell may be over.
    pub(super) fn resources_are_back(&mut self) {
        let Some(spell) = self.spell.as_mut().filter(|spell| spell.over.is_none()) else { return };
        spell.backoff = fresh_backoff();
        spell.over = Some(self.timers.set(self.now + CALM, Due::SpellOver));
        self.reserve = crate::sys::fd::open_null().ok();
    }

    /// Nothing was out for a while.
    pub(super) fn spell_over(&mut self) {
        if self.spell.take().is_some() {
            self.log_state(None, "resumed", None, Level::Notice);
        }
    }

    /// Time makes room in a service whose rate or load has left none: looks again then.
    pub(super) fn wait_for_room(&mut self, key: ServiceKey) {
        let until = self.queued_by(key).and_then(|full| full.until);
        let Some(service) = self.services.get_mut(key) else { return };
        let Some(until) = until.filter(|_| !service.listeners.is_empty()) else { return };
        if let Some((at, timer)) = service.room {
            if at <= until {
                return;
            }
            // The rate was a slower one before a reload.
            self.timers.cancel(timer);
        }
        service.room = Some((until, self.timers.set(until, Due::Room(key))));
    }

    /// There may be room again.
    pub(super) fn look_for_room(&mut self, key: ServiceKey) {
        if let Some(service) = self.services.get_mut(key) {
            service.room = None;
        }
        self.look_at_load(key);
        self.watch_service(key);
    }

    /// Says that a service is paused by its limit, once, and that it is resumed, when it has been for a while.
    pub(super) fn say_paused_or_resumed(&mut self, key: ServiceKey) {
        let full = self.queued_by(key);
        // One that is gone or disabled has no clients to pause for.
        let Some(service) = self.services.get_mut(key) else { return };
        if service.is_gone || !service.settings.enabled {
            return;
        }
        match (full, service.said_paused) {
            (Some(Full { reason, .. }), None) => {
                service.said_paused = Some(reason);
                self.log_state(Some(key), "paused", Some(reason.word()), Level::Notice);
            }
            (Some(_), Some(_)) => {
                if let Some(timer) = service.say_resumed.take() {
                    self.timers.cancel(timer);
                }
            }
            (None, Some(_)) if service.say_resumed.is_none() => {
                service.say_resumed = Some(self.timers.set(self.now + CALM, Due::SayResumed(key)));
            }
            (None, _) => {}
        }
    }

    /// The service has not been full for a while.
    pub(super) fn say_resumed(&mut self, key: ServiceKey) {
        let Some(service) = self.services.get_mut(key) else { return };
        service.say_resumed = None;
        service.said_paused = None;
        self.log_state(Some(key), "resumed", None, Level::Notice);
    }

    /// The launcher is gone: nothing is accepted until it is back.
    pub(super) fn launcher_is_lost(&mut self) {
        self.log_state(None, "degraded", Some("launcher"), Level::Err);
        self.watch_all();
    }

    /// The launcher is there, again or for the first time.
    pub(super) fn launcher_is_back(&mut self) {
        if self.launcher_was_lost {
            self.log_state(None, "online", Some("launcher"), Level::Notice);
        }
        self.launcher_was_lost = true;
        self.watch_all();
    }
}
