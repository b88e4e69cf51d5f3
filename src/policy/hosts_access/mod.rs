//! The language of hosts.allow and hosts.deny: `hosts_access(5)` and `hosts_options(5)`, read once, asked often.
//!
//! [`Tables::compile`] reads both files, and every file that they name; [`Tables::decide`] answers for a request, or
//! names what must be looked up first. The answers are those of libwrap. Where libwrap skips what it can't read,
//! or lets in for want of an answer, this does not: docs/differences.md has the list.
//!
//! Reads no file, looks nothing up, runs nothing: [`Surroundings`] and the caller do.
//!
//! A line takes this way: `lines` → `rule` → `list` → `pattern`, `network`, `host_list`, `options`, `expand`. A request
//! this: `Tables::decide` → `block` → `matching`.

mod address_map;
mod block;
mod complaints;
pub mod expand;
pub mod host_list;
mod lines;
pub mod list;
mod matching;
mod network;
pub mod options;
mod outcome;
pub mod pattern;
pub mod request;
pub mod rule;
pub mod text;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::config::diagnostic::Report;
use crate::model::place::Place;

use self::block::Rules;
use self::complaints::Complaints;
use self::expand::Template;
use self::host_list::HostFiles;
use self::matching::Question;
use self::options::{Action, Ending};
use self::outcome::Match;
use self::request::{Facts, Need, Request};
use self::rule::{Rule, RuleReader};

/// What the rules name, and the caller knows.
pub trait Surroundings {
    /// The text of a file that a list names as `/path`; the error is for an admin.
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String>;

    /// Is there such a user? Yes, where users are not looked up.
    fn has_user(&mut self, name: &str) -> bool;

    /// Is there such a group? Yes, where groups are not looked up.
    fn has_group(&mut self, name: &str) -> bool;
}

/// hosts.allow or hosts.deny, as the caller found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableText<'a> {
    /// There is no such file: no rules.
    Missing,
    /// Its text.
    Text(&'a [u8]),
    /// It is there, but can't be read: whoever comes to it is refused.
    Unreadable,
}

/// Both tables, ready to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    allow: Table,
    deny: Table,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Table {
    Rules(Rules),
    /// Its path.
    Unreadable(String),
}

/// What the tables say to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<'t> {
    /// This, and for this reason.
    Decided(Decision<'t>),
    /// Ask again when that is in the facts.
    Need(Need),
}

/// A decision and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'t> {
    /// What becomes of the client.
    pub verdict: Verdict<'t>,
    /// Why.
    pub because: Because<'t>,
    /// What is done, in this order, whatever the verdict is.
    pub actions: &'t [Action],
}

/// What becomes of a client.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict<'t> {
    /// It is served.
    Allow,
    /// It is refused.
    Deny,
    /// It is served by this shell command, in place of the service.
    Twist(&'t Template),
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Because<'t> {
    /// This rule matches.
    Rule(&'t Place),
    /// This rule refuses, and a look-up that failed leaves open whether it matches.
    Undecided(&'t Place),
    /// This table can't be read.
    Unreadable(&'t str),
    /// No rule matches.
    NoRule,
}

impl Decision<'_> {
    /// Is the client served by the service that it asked for?
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

impl Tables {
    /// Reads both tables, each given by its path and what was found there, and the files that they name. Nothing
    /// is given if the report has errors then.
    pub fn compile(
        allow: (&str, TableText<'_>),
        deny: (&str, TableText<'_>),
        surroundings: &mut dyn Surroundings,
        report: &mut Report,
    ) -> Option<Self> {
        let mut files = HostFiles::default();
        let allow = Table::read(allow, Ending::Allow, surroundings, &mut files, report);
        let deny = Table::read(deny, Ending::Deny, surroundings, &mut files, report);
        (!report.has_errors()).then_some(Self { allow, deny })
    }

    /// hosts.allow, then hosts.deny, in each the first rule that matches; else the client is served.
    pub fn decide<'t>(&'t self, request: &Request<'_>, facts: &Facts) -> Answer<'t> {
        let question = Question { request, facts };
        [&self.allow, &self.deny].into_iter().find_map(|table| table.decide(&question)).unwrap_or(
            Answer::Decided(Decision { verdict: Verdict::Allow, because: Because::NoRule, actions: &[] }),
        )
    }

    /// Every rule, in the order of their evaluation.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        [&self.allow, &self.deny].into_iter().flat_map(|table| match table {
            Table::Rules(rules) => rules.all(),
            Table::Unreadable(_) => &[],
        })
    }
}

impl Table {
    fn read(
        (path, found): (&str, TableText<'_>),
        meaning: Ending,
        surroundings: &mut dyn Surroundings,
        files: &mut HostFiles,
        report: &mut Report,
    ) -> Self {
        let text = match found {
            TableText::Missing => return Self::Rules(Rules::default()),
            TableText::Unreadable => return Self::Unreadable(path.to_owned()),
            TableText::Text(bytes) => String::from_utf8_lossy(bytes),
        };
        let file = report.add_source(path, text.as_ref());
        let mut complaints = Complaints::about(report, file);
        let lines = lines::rule_lines(&text, &mut complaints);
        let mut reader = RuleReader { complaints, surroundings, files, meaning };
        let mut rules = Vec::with_capacity(lines.len());
        for line in &lines {
            if reader.complaints.are_enough() {
                break;
            }
            rules.extend(reader.read(line));
        }
        Self::Rules(rules.into())
    }

    fn decide<'t>(&'t self, question: &Question<'_>) -> Option<Answer<'t>> {
        match self {
            Self::Rules(rules) => rules.find(question, |rule, found| decide_by(rule, found, question.facts)),
            Self::Unreadable(path) => Some(Answer::Decided(Decision {
                verdict: Verdict::Deny,
                because: Because::Unreadable(path),
                actions: &[],
            })),
        }
    }
}

/// The answer, if this rule gives one.
fn decide_by<'t>(rule: &'t Rule, found: Match, facts: &Facts) -> Option<Answer<'t>> {
    let because = match found {
        Match::No => return None,
        Match::Need(need) => return Some(Answer::Need(need)),
        Match::Maybe if rule.ending == Ending::Allow => return None,
        Match::Maybe => Because::Undecided(&rule.place),
        Match::Yes => Because::Rule(&rule.place),
    };
    if let Some(need) = rule.need(facts) {
        return Some(Answer::Need(need));
    }
    let verdict = match &rule.ending {
        Ending::Allow => Verdict::Allow,
        Ending::Deny => Verdict::Deny,
        Ending::Twist(command) => Verdict::Twist(command),
    };
    Some(Answer::Decided(Decision { verdict, because, actions: &rule.actions }))
}
