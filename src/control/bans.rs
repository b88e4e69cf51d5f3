//! `superctl bans`, `ban` and `unban`: who is banned, was banned, was let in again.

use crate::config::values;
use crate::protocol::control::BanStatus;

use super::Report;
use super::terminal::{escape, escape_json, table};

/// Reads the length of a ban, as it is written in a configuration.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let length = values::duration(text).map_err(|complaint| match complaint.hint {
        Some(hint) => format!("{}: {hint}", complaint.message),
        None => complaint.message,
    })?;
    Ok(length.as_secs())
}

/// All of them.
pub(super) fn report(bans: &[BanStatus], json: bool) -> Report {
    if json {
        return as_json(bans);
    }
    let head = ["SOURCE", "SERVICE", "CAUSE", "LEFT"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = [head].into_iter().chain(bans.iter().map(row)).collect();
    let text = if bans.is_empty() { "nobody is banned\n".to_owned() } else { table(&rows).join("\n") + "\n" };
    Report { text, ..Report::default() }
}

/// What was done: `banned` or `lifted`.
pub(super) fn outcome(done: &str, bans: &[BanStatus], json: bool) -> Report {
    if json {
        return as_json(bans);
    }
    let line = |ban: &BanStatus| {
        let from = ban.service.as_deref().map_or_else(|| "every service".to_owned(), escape);
        format!("{done}: {} from {from}, {} left\n", escape(&ban.who), span(ban.seconds))
    };
    Report { text: bans.iter().map(line).collect(), ..Report::default() }
}

fn as_json(bans: &[BanStatus]) -> Report {
    let text = serde_json::to_string(bans).unwrap_or_default();
    Report { text: escape_json(&text) + "\n", ..Report::default() }
}

fn row(ban: &BanStatus) -> Vec<String> {
    let service = ban.service.as_deref().unwrap_or("all");
    vec![escape(&ban.who), escape(service), escape(&ban.cause), span(ban.seconds)]
}

/// The two largest units of a time.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}min {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bans() -> Vec<BanStatus> {
        let row = |who: &str, service: Option<&str>, cause: &str, seconds| BanStatus {
            who: who.to_owned(),
            service: service.map(str::to_owned),
            cause: cause.to_owned(),
            seconds,
        };
        vec![
            row("192.0.2.7", Some("finger"), "exit:255", 59),
            row("2001:db8::/64", None, "admin", 90_061),
            row("uid:7\u{1b}", None, "rate", 3661),
        ]
    }

    #[test]
    fn bans_are_a_table() {
        let shown = report(&bans(), false).text;
        let expected = "SOURCE         SERVICE  CAUSE     LEFT\n\
                        192.0.2.7      finger   exit:255  59s\n\
                        2001:db8::/64  all      admin     1d 1h\n\
                        uid:7\\x1b      all      rate      1h 1min\n";
        assert_eq!(shown, expected);
        assert_eq!(report(&[], false).text, "nobody is banned\n");
        let json = report(&bans(), true).text;
        assert_eq!(serde_json::from_str::<Vec<BanStatus>>(&json).unwrap(), bans());
    }

    #[test]
    fn what_was_done_is_said() {
        let shown = outcome("banned", &bans()[..2], false).text;
        let expected = "banned: 192.0.2.7 from finger, 59s left\n\
                        banned: 2001:db8::/64 from every service, 1d 1h left\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn lengths_have_units() {
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("5m"), Err("`m` is no unit of a duration: did you mean `5min`?".to_owned()));
    }
}
