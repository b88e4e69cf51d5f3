//! Records become log lines: superd's grammar (superd.log(5)), xinetd's wording, and the journal's fields,
//! and the frames that syslog, the journal and a file want around them.
//!
//! Renders into buffers that the caller keeps; time and process id come in as values.

mod escape;
mod fields;
pub mod frame;
pub mod journal;
mod signal;
mod superd;
mod xinetd;

use crate::config::settings::{ClientDetail, Format};
use crate::service::record::Record;

/// The longest line, in bytes: what common log daemons take, and what bounds a full ring.
pub const MAX_LINE: usize = 8 * 1024;

/// How lines are worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// The wording.
    pub format: Format,
    /// How much of a client is written.
    pub client: ClientDetail,
}

/// Appends the record's line to `out`: printable ASCII without a newline, at most [`MAX_LINE`] bytes.
pub fn push_line(out: &mut Vec<u8>, record: &Record, style: Style) {
    let start = out.len();
    let said = style.format == Format::Xinetd && xinetd::push(out, record, style.client);
    if !said {
        superd::push(out, record, style.client);
    }
    out.truncate(start + MAX_LINE);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::SessionId;
    use crate::service::reason::Reason;
    use crate::service::record::Event;

    const MANUAL: &str = include_str!("../../../docs/man/superd.log.5");

    #[test]
    fn the_manual_has_every_reason() {
        for reason in Reason::ALL {
            let row = format!(".It {} Ta {} Ta ", reason.word(), reason.xinetd_word());
            assert!(MANUAL.contains(&row), "{row}");
        }
    }

    #[test]
    fn whatever_a_program_says_stays_one_printable_line() {
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        let session = SessionId { epoch: 1, serial: 1 };
        let stderr = Event::Stderr { session, line: &every_byte, dropped: 0 };
        let text: String = every_byte.iter().copied().map(char::from).collect();
        for (event, format) in [(stderr, Format::Superd), (Event::Note { text: &text }, Format::Xinetd)] {
            let mut out = Vec::new();
            push_line(&mut out, &Record::general(event), Style { format, client: ClientDetail::Full });
            assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", out.escape_ascii());
        }
    }

    #[test]
    fn a_line_is_bounded() {
        let text = "\n".repeat(MAX_LINE);
        let record = Record::general(Event::Note { text: &text });
        let mut out = b"before".to_vec();
        push_line(&mut out, &record, Style { format: Format::Xinetd, client: ClientDetail::Full });
        assert_eq!(out.len(), 6 + MAX_LINE);
    }
}
