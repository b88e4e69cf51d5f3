//! What one thread of the handlers has to say to the supervisor: kept, in its order, while the channel is full.

use std::collections::VecDeque;

use crate::protocol::handoff::{MAX_PACKET, Report};
use crate::sys::channel::Channel;

/// The longest line of a report.
const MAX_LINE: usize = 160;

/// Packets that are to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<String>);

impl Outbox {
    pub(super) fn push(&mut self, report: &Report) {
        if let Some(packet) = self.0.back_mut().filter(|packet| packet.len() + MAX_LINE <= MAX_PACKET) {
            return report.push(packet);
        }
        let mut packet = String::with_capacity(MAX_LINE);
        report.push(&mut packet);
        self.0.push_back(packet);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends what the channel takes.
    pub(super) fn flush(&mut self, channel: &Channel) {
        while let Some(packet) = self.0.front() {
            match channel.send(packet.as_bytes(), &[]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                // A channel that is broken is found at its end.
                Ok(()) | Err(_) => drop(self.0.pop_front()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mux::{LONGEST, MuxName};
    use crate::protocol::handoff::Lapse;

    #[test]
    fn no_line_is_longer_than_it_may_be() {
        let most = u64::MAX;
        for report in [
            Report::Counts { id: most, bytes: (most, most), answered: most, refused: most },
            Report::Done { id: most, bytes: Some((most, most)), why: Some(Lapse::Handshake) },
            Report::Launch { id: most, name: MuxName::new(&[b'x'; LONGEST]), received: most },
        ] {
            let mut line = String::new();
            report.push(&mut line);
            assert!(line.len() < MAX_LINE, "{line}");
        }
    }

    #[test]
    fn reports_share_packets() {
        let mut outbox = Outbox::default();
        (0..1000).for_each(|id| outbox.push(&Report::Take(id)));
        assert!(outbox.0.iter().all(|packet| packet.len() <= MAX_PACKET));
        assert_eq!(outbox.0.len(), 3);
    }
}
