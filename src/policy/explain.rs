//! How the judge came to a verdict, part by part, for an admin. The judge itself speaks; this writes it down.

use std::fmt;

use serde::Serialize;

use crate::config::access::{Action, Rule};
use crate::model::place::Place;

use super::judge::{Part, Policy, Trace, Verdict};
use super::matching;
use super::request::Request;
use super::tables::Tables;
use super::truth::{Cause, Needs, Truth};

/// What each part said, and the verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// In the order of judging.
    pub steps: Vec<Step>,
    /// The verdict.
    pub outcome: Outcome,
}

/// What one part said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// The part: `deny`, `from`, `rule deny`.
    pub part: String,
    /// `yes`, `no`, `unknown`, `pending`.
    pub answer: &'static str,
    /// The pattern that says it, or why it can't be told.
    pub because: Option<String>,
}

/// A verdict that can be sent away.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The client may.
    Allow {
        /// Where the rule stands that says so.
        place: Option<Place>,
        /// Where rules stand that would have refused it, if they did not only observe.
        observed: Vec<Place>,
    },
    /// It may not.
    Deny {
        /// What decided.
        cause: Cause,
        /// Where that stands.
        place: Place,
        /// Why it is undecided.
        doubt: Option<&'static str>,
    },
    /// It depends on what must be asked.
    Need(Needs),
}

/// Judges, and says how.
pub fn explain(policy: &Policy, request: &Request<'_>, tables: &Tables) -> Explanation {
    let mut writer = Writer { request, tables, steps: Vec::new() };
    let verdict = policy.judge_with(request, tables, &mut writer);
    Explanation { steps: writer.steps, outcome: outcome(&verdict) }
}

struct Writer<'w> {
    request: &'w Request<'w>,
    tables: &'w Tables,
    steps: Vec<Step>,
}

impl<'p> Trace<'p> for Writer<'_> {
    fn heard(&mut self, part: Part<'p>, place: &'p Place, truth: Truth) {
        let (answer, doubt) = match truth {
            Truth::Yes(_) => ("yes", None),
            Truth::No => ("no", None),
            Truth::Unknown(doubt) => ("unknown", Some(doubt.words())),
            Truth::Pending(_) => ("pending", None),
        };
        let pattern = if truth == Truth::No { None } else { self.pattern(part, truth) };
        let because = match (pattern, doubt) {
            (Some(pattern), Some(doubt)) => Some(format!("{pattern}, {doubt}")),
            (pattern, doubt) => pattern.or_else(|| doubt.map(str::to_owned)),
        };
        self.steps.push(Step { place: place.clone(), part: name(part), answer, because });
    }
}

impl Writer<'_> {
    /// The pattern that says so.
    fn pattern(&self, part: Part<'_>, truth: Truth) -> Option<String> {
        match part {
            Part::Deny(clients) | Part::Allow(clients) | Part::From(clients) => {
                clients.saying(truth, self.request, self.tables).map(ToString::to_string)
            }
            Part::Users(users) => users
                .iter()
                .find(|pattern| matching::user(pattern, self.request) == truth)
                .map(ToString::to_string),
            Part::Hours(name) => Some(name.to_string()),
            Part::Rule(_) | Part::Otherwise(_) => None,
        }
    }
}

fn name(part: Part<'_>) -> String {
    match part {
        Part::Deny(_) => "deny".to_owned(),
        Part::Allow(_) => "allow".to_owned(),
        Part::From(_) => "from".to_owned(),
        Part::Users(_) => "users".to_owned(),
        Part::Hours(name) => format!("hours {name}"),
        Part::Rule(Rule { action, observe: false, .. }) => format!("rule {}", word(*action)),
        Part::Rule(Rule { action, .. }) => format!("rule {} (observe)", word(*action)),
        Part::Otherwise(action) => format!("otherwise {}", word(action)),
    }
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Deny => "deny",
    }
}

fn outcome(verdict: &Verdict<'_>) -> Outcome {
    match verdict {
        Verdict::Allow { rule, observed } => Outcome::Allow {
            place: rule.map(|rule| rule.place.clone()),
            observed: observed.iter().map(|rule| rule.place.clone()).collect(),
        },
        Verdict::Deny { cause, place, doubt, .. } => Outcome::Deny {
            cause: *cause,
            place: (*place).clone(),
            doubt: doubt.map(super::truth::Doubt::words),
        },
        Verdict::Need(needs) => Outcome::Need(*needs),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "{}: {}: {}", step.place, step.part, step.answer)?;
            match &step.because {
                Some(because) => writeln!(f, ": {because}")?,
                None => writeln!(f)?,
            }
        }
        self.outcome.fmt(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow { place, observed } => {
                f.write_str("allowed")?;
                if let Some(place) = place {
                    write!(f, " by {place}")?;
                }
                observed.iter().try_for_each(|place| write!(f, ", would have been refused by {place}"))
            }
            Self::Deny { cause, place, doubt } => {
                write!(f, "refused by {place}: {}", cause.word())?;
                doubt.map_or(Ok(()), |doubt| write!(f, ", {doubt}"))
            }
            Self::Need(needs) => write!(f, "depends on {}", needs.words()),
        }
    }
}
