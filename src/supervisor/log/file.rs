//! The log file's side of the log: its writer comes, reports, and goes.
//!
//! A disk may hang, so that a process of its own writes the file; here are its channel and its orders alone.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use crate::protocol::writer::{File, Order, REPORT_LENGTH, Report};
use crate::sys::channel::{Channel, Received};

use super::{Link, Log, target};

impl Log {
    /// The log file may have been renamed: its path is opened again.
    pub fn reopen(&mut self) {
        if self.target.file().is_some() && self.order.is_none() {
            let mut packet = Vec::new();
            Order::Reopen.push(&mut packet);
            self.order = Some(packet);
        }
    }

    /// The file that a writer is needed for, while there is none.
    pub fn wants_writer(&self) -> Option<&Path> {
        self.target.file().filter(|_| self.writer.is_none())
    }

    /// The writer's channel: to be polled for POLLIN, then [`Self::on_writer`]. State dumps go this way, too.
    pub fn writer(&self) -> Option<&Channel> {
        self.writer.as_ref()
    }

    /// Takes the channel of a writer that was just started.
    pub fn attach_writer(&mut self, channel: OwnedFd) {
        self.writer = Some(Channel::from(channel));
        self.order = self.target.file().map(target::open_order);
        self.trouble = None;
        if self.order.is_some() {
            self.link = Link::Open;
        }
    }

    /// Lets go of the writer, which ends when it has written all that it was sent.
    pub fn detach_writer(&mut self) {
        self.writer = None;
        self.trouble = None;
    }

    /// Reads what the writer reports; a writer that is gone is detached.
    pub fn on_writer(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut buffer = [0; REPORT_LENGTH];
        while let Some(writer) = &self.writer {
            match writer.receive(&mut buffer) {
                Ok(Received::Packet { len, .. }) => {
                    reports.extend(buffer.get(..len).and_then(Report::read));
                }
                Ok(Received::Empty) => break,
                Ok(Received::Closed) | Err(_) => self.detach_writer(),
            }
        }
        for report in reports.iter().filter(|report| report.file == File::Log) {
            self.take_report(*report);
        }
        reports
    }

    fn take_report(&mut self, report: Report) {
        self.trouble = Some(report.errno).filter(|errno| *errno != 0);
        self.count_dropped(report.lost);
        match self.trouble {
            Some(errno) => {
                let error = Errno::from_raw(errno);
                let text = format!("log file {}: {}", self.target, error.desc());
                self.fallback.push(&self.settings.tag, text.as_bytes());
            }
            None => self.say_dropped(),
        }
    }
}
