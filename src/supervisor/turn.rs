//! The loop: wait for anything, do what it asks for, say what was done.
//!
//! A turn works in a fixed order: signals, the launcher, roles and control, then listeners in bounded batches,
//! then deadlines, and at last the log, whose lines leave together. What a turn is to wait for is declared
//! afresh each time, so that nobody keeps interest in a descriptor that is gone.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::sys::poll::PollSet;

use super::Supervisor;
use super::collecting::CollectorId;
use super::control::{Interest, Token};
use super::listeners::ListenerKey;
use super::signals::Signals;
use super::timers::Due;
use super::workers::WorkerKey;

/// Where a turn finds in the poll set what it waits for.
#[derive(Debug, Default)]
struct Places {
    launcher: Option<usize>,
    loader: Option<usize>,
    log_writer: Option<usize>,
    state_writer: Option<usize>,
    ban_writer: Option<usize>,
    interface_news: Option<usize>,
    watching: Option<usize>,
    collector: Vec<(usize, CollectorId)>,
    readiness: Option<usize>,
    resolver: Option<usize>,
    workers: Vec<(usize, WorkerKey)>,
    control: Vec<(usize, Token)>,
    farewells: Option<usize>,
    listener_set: Option<usize>,
    listeners: Vec<(usize, ListenerKey)>,
}

impl Supervisor {
    /// Turns until `enough` says so, or superd is to end.
    pub(super) fn turn_until(&mut self, enough: impl Fn(&Self) -> bool) {
        let mut poll = PollSet::default();
        let mask = Signals::mask();
        while !self.is_done() && !enough(self) {
            let places = self.declare(&mut poll);
            let woken = poll.wait(self.time_to_deadline(), &mask);
            self.now = Instant::now();
            match woken {
                Ok(_) => self.act(&poll, &places),
                Err(error) => self.wait_failed(error.raw_os_error().unwrap_or(0)),
            }
        }
    }

    /// ppoll itself had no memory. Nothing is known to be ready; a short rest, then once more.
    fn wait_failed(&mut self, errno: i32) {
        self.resources_are_out(errno);
        std::thread::sleep(Duration::from_millis(100));
        self.now = Instant::now();
        self.on_deadlines();
        self.log.flush();
    }

    fn declare(&self, poll: &mut PollSet) -> Places {
        poll.clear();
        let mut places = Places {
            launcher: self.launches.interest().map(|(fd, write)| poll.push(fd, true, write)),
            loader: self.load.interest().map(|fd| poll.push(fd, true, false)),
            resolver: self.resolver.interest().map(|(fd, write)| poll.push(fd, true, write)),
            log_writer: self.log.writer().map(|channel| poll.push(channel.as_fd(), true, false)),
            state_writer: self.state_writer.as_ref().map(|channel| poll.push(channel.as_fd(), true, false)),
            ban_writer: self.bans.writer().map(|channel| poll.push(channel.as_fd(), true, false)),
            interface_news: self.interface_news.as_ref().map(|news| poll.push(news.as_fd(), true, false)),
            watching: self.watching.interest().map(|fd| poll.push(fd, true, false)),
            ..Places::default()
        };
        for (fd, id) in self.collecting.interests() {
            places.collector.push((poll.push(fd, true, false), id));
        }
        if self.workers.has_pools() {
            places.readiness = Some(poll.push(self.readiness.as_fd(), true, false));
        }
        for (fd, key) in self.workers.interests() {
            let write = self.handlers.blocked && self.handlers.current == Some(key);
            places.workers.push((poll.push(fd, true, write), key));
        }
        if let Some(control) = &self.control {
            let mut interests: Vec<Interest<'_>> = Vec::new();
            control.interests(&mut interests);
            let push = |i: &Interest<'_>, poll: &mut PollSet| (poll.push(i.fd, i.read, i.write), i.token);
            places.control = interests.iter().map(|interest| push(interest, poll)).collect();
        }
        // Whatever comes of it, a turn ends with a flush.
        if let Some(fd) = self.log.interest() {
            poll.push(fd, false, true);
        }
        for fd in self.farewells.interests() {
            let place = poll.push(fd, true, false);
            places.farewells.get_or_insert(place);
        }
        if self.gate_is_open() {
            places.listener_set = self.listeners.push_interest(poll, &mut places.listeners);
        }
        places
    }

    fn act(&mut self, poll: &PollSet, places: &Places) {
        self.on_signals();
        let ready = |place: Option<usize>| place.is_some_and(|place| poll.ready(place).read);
        let writable = |place: Option<usize>| place.is_some_and(|place| poll.ready(place).write);
        if ready(places.launcher) || writable(places.launcher) {
            self.on_launcher(ready(places.launcher), writable(places.launcher));
        }
        if ready(places.loader) {
            self.on_loader();
        }
        if ready(places.log_writer) {
            self.on_log_writer();
        }
        if ready(places.state_writer) {
            self.on_state_writer();
        }
        if ready(places.ban_writer) {
            self.on_ban_writer();
        }
        if ready(places.interface_news) {
            self.on_interface_news();
        }
        if ready(places.watching) {
            self.on_watched();
        }
        for &(place, id) in &places.collector {
            if poll.ready(place).read {
                self.on_collector(id);
            }
        }
        if ready(places.resolver) || writable(places.resolver) {
            self.on_resolver();
        }
        if ready(places.readiness) {
            self.on_readiness();
        }
        for &(place, key) in &places.workers {
            if poll.ready(place).write && self.handlers.current == Some(key) {
                self.handlers_are_writable();
            }
            if poll.ready(place).read {
                self.on_worker(key);
            }
        }
        for &(place, token) in &places.control {
            let state = poll.ready(place);
            if state.read || state.write || state.broken {
                self.on_control(token);
            }
        }
        self.answer_requests();
        if let Some(first) = places.farewells {
            self.farewells.turn(|place| poll.ready(first + place).read, self.now);
        }
        self.accept_all(poll, places);
        self.on_deadlines();
        // What was let in by an answer of the resolver, or through tcpmux, is on its way before the loop sleeps.
        self.send_launches();
        self.hand_to_handlers();
        self.watch_touched();
        self.log.flush();
    }

    fn accept_all(&mut self, poll: &PollSet, places: &Places) {
        for &(place, key) in &places.listeners {
            let state = poll.ready(place);
            if state.read || state.broken {
                self.on_listener(key, state.broken);
            }
        }
        if places.listener_set.is_some_and(|place| poll.ready(place).read) {
            let mut ready = Vec::new();
            if let Err(error) = self.listeners.ready(&mut ready) {
                self.resources_are_out(error.raw_os_error().unwrap_or(0));
            }
            for (key, broken) in ready {
                self.on_listener(key, broken);
            }
        }
    }

    fn on_listener(&mut self, key: ListenerKey, broken: bool) {
        if broken && self.is_listener_gone(key) {
            return self.reopen_broken(key, libc::EINVAL);
        }
        self.accept_batch(key);
    }

    /// The services whose room has changed in this turn.
    fn watch_touched(&mut self) {
        if std::mem::take(&mut self.all_touched) {
            self.touched.clear();
            return self.watch_all();
        }
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for key in touched.drain(..) {
            self.watch_service(key);
        }
        self.touched = touched;
    }

    fn time_to_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.timers.next(),
            self.launches.next_deadline(),
            self.log.next_deadline(),
            self.refusals.next_deadline(),
            self.control.as_ref().and_then(super::control::ControlServer::next_deadline),
            self.farewells.next_deadline(),
            self.bans.next_deadline(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        // A nanosecond more: ppoll may return in the very instant, which is not yet over then.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_nanos(1))
    }

    fn on_deadlines(&mut self) {
        while let Some(due) = self.timers.take_due(self.now) {
            self.on_due(due);
        }
        if self.launches.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.kill_late_launches();
        }
        self.write_refusals();
        self.expire_bans();
        self.settle_stale_datagram_rules();
        self.log.on_deadline(self.now);
        if let Some(control) = &mut self.control {
            control.on_deadline(self.now);
        }
        self.farewells.turn(|_| false, self.now);
    }

    fn on_due(&mut self, due: Due) {
        match due {
            Due::SessionTimeout(key) => self.session_timeout(key),
            Due::SessionKill(key) => self.kill_session(key),
            Due::BindAgain(key) => self.bind_again(key),
            Due::SayResumed(key) => self.say_resumed(key),
            Due::StartLauncher => self.start_launcher(),
            Due::LoaderTimeout => self.loader_timeout(),
            Due::AcceptAgain => self.accept_again(),
            Due::SpellOver => self.spell_over(),
            Due::CloseRetired(key) => self.close_retired(key),
            Due::LendAgain(key) => self.lend_again(key),
            Due::Room(key) => self.look_for_room(key),
            Due::DatagramRules => self.settle_datagram_rules(),
            Due::KeepBans => self.keep_bans(),
            Due::AttachWriter => self.attach_writer(),
            Due::TakeLate(key) => self.take_is_late(key),
            Due::GiveAgain(key) => self.give_at_last(key),
            Due::WorkerLate(key) => self.worker_is_late(key),
            Due::WorkerIdle(key) => self.idle_is_over(key),
            Due::WorkerDismissed(key) => self.dismissal_is_over(key),
            Due::StartWorkers(key) => self.start_workers_again(key),
            Due::CommandLate(pid) => self.command_is_late(pid),
            Due::AnswerLate(id) => {
                self.answer_is_late(id);
                self.send_launches();
                self.hand_to_handlers();
            }
            Due::StartResolver => self.start_resolver_again(),
            Due::StartHandlers => self.start_handlers_again(),
            Due::StartCollector => self.start_collector_again(),
            Due::ListsSettled => self.lists_have_settled(),
            Due::Minute => self.minute_is_over(),
            Due::Shutdown => self.continue_ending(),
        }
    }
}
