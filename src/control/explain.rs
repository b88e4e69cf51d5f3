//! `superctl explain`: a line for each part that was judged, and the verdict.

use nix::unistd::{Uid, User};

use crate::protocol::explain::{Explained, Question, Standing, Step};

use super::Report;
use super::bans::span;
use super::terminal::{escape, escape_json, table};

/// What an admin tells of a client.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// The service
    service: String,
    /// An address, `ADDRESS:PORT`, unix or uid:NUMBER
    client: String,
    /// Its confirmed name; unknown: it has none, paranoid: its name leads elsewhere
    #[arg(long)]
    name: Option<String>,
    /// Its user, by name or number
    #[arg(long)]
    user: Option<String>,
    /// When: 03:00, "Mon 03:00" or 2026-11-22T03:00 [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// The explanation as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ExplainArgs {
    /// The question; superd itself never asks who a user is.
    pub(super) fn question(&self) -> Result<Question, String> {
        let (user, uid) = self.user.as_deref().map_or(Ok((None, None)), user)?;
        Ok(Question {
            service: self.service.clone(),
            client: self.client.clone(),
            name: self.name.clone(),
            user,
            uid,
            at: self.at.clone(),
        })
    }
}

/// The name and the number of a user, as far as this machine knows it.
fn user(said: &str) -> Result<(Option<String>, Option<u32>), String> {
    let wrong = |error| format!("the user `{said}` can't be looked up: {error}");
    if let Ok(uid) = said.parse() {
        let found = User::from_uid(Uid::from_raw(uid)).map_err(wrong)?;
        return Ok((found.map(|user| user.name), Some(uid)));
    }
    let found = User::from_name(said).map_err(wrong)?;
    Ok((Some(said.to_owned()), found.map(|user| user.uid.as_raw())))
}

pub(super) fn report(explained: &Explained, json: bool) -> Report {
    let text = if json {
        escape_json(&serde_json::to_string(explained).unwrap_or_default()) + "\n"
    } else {
        let rows: Vec<Vec<String>> = explained.steps.iter().map(row).collect();
        let mut lines = table(&rows);
        lines.extend(remarks(explained));
        lines.push(verdict(explained));
        lines.join("\n") + "\n"
    };
    Report { text, code: u8::from(!explained.allowed), ..Report::default() }
}

fn row(step: &Step) -> Vec<String> {
    let place = step.place.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let because = step.because.as_deref().unwrap_or_default();
    [&place, &step.part, &step.answer, because].map(escape).to_vec()
}

/// What stands between the parts and the verdict.
fn remarks(explained: &Explained) -> Vec<String> {
    let untold = explained.untold.iter().map(|what| format!("not told, and so unknown: {}", escape(what)));
    let observed = explained
        .observed
        .iter()
        .map(|place| format!("{} only observes, and would have refused it", escape(&place.to_string())));
    let standing = explained.now.iter().flat_map(standing);
    untold.chain(observed).chain(standing).collect()
}

fn standing(now: &Standing) -> Vec<String> {
    let reason = now.reason.as_ref().map(|reason| format!(" ({})", escape(reason))).unwrap_or_default();
    let most = now.per_source.map(|most| format!(" of {most}")).unwrap_or_default();
    let state = format!(
        "now: {}{reason}, sessions {}, of this source {}{most}",
        escape(&now.state),
        now.sessions,
        now.of_source
    );
    let ban = now.ban.as_ref().map(|ban| {
        let from = ban.service.as_deref().map_or_else(|| "every service".to_owned(), escape);
        let (who, cause) = (escape(&ban.who), escape(&ban.cause));
        format!("now: {who} is banned from {from}, cause {cause}, {} left", span(ban.seconds))
    });
    [state].into_iter().chain(ban).collect()
}

fn verdict(explained: &Explained) -> String {
    let by = explained.rule.as_ref().map(|rule| format!(" by {}", escape(&rule.to_string())));
    let by = by.unwrap_or_default();
    if explained.allowed {
        return format!("{} at {}: allowed{by}", escape(&explained.client), escape(&explained.service));
    }
    let doubt = explained.doubt.as_ref().map(|doubt| format!(", {}", escape(doubt))).unwrap_or_default();
    format!(
        "{} at {}: refused{by}: {}{doubt}",
        escape(&explained.client),
        escape(&explained.service),
        escape(explained.reason.as_deref().unwrap_or("undecided"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::place::Place;
    use crate::protocol::control::BanStatus;

    fn place(line: u32) -> Place {
        Place { file: "/etc/superd.toml".to_owned(), line }
    }

    fn step(line: u32, part: &str, answer: &str, because: Option<&str>) -> Step {
        let because = because.map(str::to_owned);
        Step { place: Some(place(line)), part: part.to_owned(), answer: answer.to_owned(), because }
    }

    fn refused() -> Explained {
        Explained {
            service: "finger".to_owned(),
            client: "192.0.2.7".to_owned(),
            reason: Some("undecided".to_owned()),
            rule: Some(place(13)),
            doubt: Some("the name service gave no answer".to_owned()),
            steps: vec![
                step(9, "deny", "no", None),
                step(13, "allow", "unknown", Some(".example\u{1b}, the name service gave no answer")),
            ],
            untold: vec!["the name".to_owned()],
            now: Some(Standing {
                state: "paused".to_owned(),
                reason: Some("rate".to_owned()),
                sessions: 3,
                of_source: 2,
                per_source: Some(5),
                ban: Some(BanStatus {
                    who: "192.0.2.0/24".to_owned(),
                    service: None,
                    cause: "admin".to_owned(),
                    seconds: 59,
                }),
            }),
            ..Explained::default()
        }
    }

    #[test]
    fn each_part_has_a_line() {
        let shown = report(&refused(), false);
        let expected = "\
/etc/superd.toml:9   deny   no
/etc/superd.toml:13  allow  unknown  .example\\x1b, the name service gave no answer
not told, and so unknown: the name
now: paused (rate), sessions 3, of this source 2 of 5
now: 192.0.2.0/24 is banned from every service, cause admin, 59s left
192.0.2.7 at finger: refused by /etc/superd.toml:13: undecided, the name service gave no answer
";
        assert_eq!((shown.text.as_str(), shown.code), (expected, 1));
    }

    #[test]
    fn who_is_let_in_is_told_so() {
        let allowed = Explained {
            allowed: true,
            rule: None,
            observed: vec![place(4)],
            steps: Vec::new(),
            untold: Vec::new(),
            now: None,
            ..refused()
        };
        let shown = report(&allowed, false);
        let expected =
            "/etc/superd.toml:4 only observes, and would have refused it\n192.0.2.7 at finger: allowed\n";
        assert_eq!((shown.text.as_str(), shown.code), (expected, 0));
        let json = report(&refused(), true);
        assert_eq!(serde_json::from_str::<Explained>(&json.text).unwrap(), refused());
    }

    #[test]
    fn users_are_looked_up_here() {
        assert_eq!(user("root"), Ok((Some("root".to_owned()), Some(0))));
        assert_eq!(user("0"), Ok((Some("root".to_owned()), Some(0))));
        assert_eq!(user("no-such-user"), Ok((Some("no-such-user".to_owned()), None)));
    }
}
