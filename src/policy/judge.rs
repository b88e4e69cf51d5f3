//! The judge: may this client use the service, and why (not)?
//!
//! A verdict is given as soon as nothing that could still be asked would change it; until then the judge says
//! what to ask, the cheapest first, and is asked again. What was asked and has no answer is unknown: it never
//! satisfies an allow, and never escapes a deny. A trace hears what each part said: [`super::explain`] is this
//! code with a trace that writes it down.

use crate::config::access::{Access, Action, Placed, Rule, Rules};
use crate::model::label::Label;
use crate::model::pattern::ClientPattern;
use crate::model::place::Place;
use crate::model::user::UserPattern;

use super::matching::{self, Clients};
use super::request::Request;
use super::tables::Tables;
use super::truth::{Cause, Doubt, Needs, Truth};

/// The rules of a service, prepared for judging.
#[derive(Debug)]
pub struct Policy {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Short(Box<Clauses>),
    Ordered { rules: Vec<Prepared>, otherwise: Placed<Action> },
}

#[derive(Debug)]
struct Clauses {
    deny: Option<Placed<Clients>>,
    allow: Option<Placed<Clients>>,
    users: Option<Placed<Vec<UserPattern>>>,
    hours: Option<Placed<Label>>,
}

#[derive(Debug)]
struct Prepared {
    rule: Rule,
    from: Option<Clients>,
}

/// What the judge says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<'p> {
    /// The client may.
    Allow {
        /// The rule that says so; none in the short form, and where no rule matched.
        rule: Option<&'p Rule>,
        /// Rules with `mode = "observe"` that would have refused it.
        observed: Vec<&'p Rule>,
    },
    /// It may not.
    Deny {
        /// What decided.
        cause: Cause,
        /// Where that stands.
        place: &'p Place,
        /// The rule that says so; none in the short form, and where no rule matched.
        rule: Option<&'p Rule>,
        /// Why it is undecided.
        doubt: Option<Doubt>,
    },
    /// That depends: ask this, and the judge again.
    Need(Needs),
}

/// Hears what each part said.
pub trait Trace<'p> {
    /// A part was judged.
    fn heard(&mut self, part: Part<'p>, place: &'p Place, truth: Truth);
}

/// A trace that forgets.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Trace<'_> for Silent {
    fn heard(&mut self, _: Part<'_>, _: &Place, _: Truth) {}
}

/// A part of a policy.
#[derive(Debug, Clone, Copy)]
pub enum Part<'p> {
    /// `deny`
    Deny(&'p Clients),
    /// `allow`
    Allow(&'p Clients),
    /// `from` of a rule.
    From(&'p Clients),
    /// `users`
    Users(&'p [UserPattern]),
    /// `hours`
    Hours(&'p Label),
    /// A whole rule.
    Rule(&'p Rule),
    /// `otherwise`: it was reached.
    Otherwise(Action),
}

impl Policy {
    /// Prepares what the configuration says.
    pub fn new(access: &Access) -> Self {
        let clients = |patterns: &Vec<ClientPattern>| Clients::new(patterns.clone());
        let placed = |said: &Placed<Vec<ClientPattern>>| Placed {
            place: said.place.clone(),
            value: clients(&said.value),
        };
        let form = match &access.rules {
            Rules::Short(clauses) => Form::Short(Box::new(Clauses {
                deny: clauses.deny.as_ref().map(placed),
                allow: clauses.allow.as_ref().map(placed),
                users: clauses.users.clone(),
                hours: clauses.hours.clone(),
            })),
            Rules::Ordered { rules, otherwise } => Form::Ordered {
                rules: rules
                    .iter()
                    .map(|rule| Prepared { rule: rule.clone(), from: rule.from.as_ref().map(clients) })
                    .collect(),
                otherwise: otherwise.clone(),
            },
        };
        Self { form }
    }

    /// May the client use the service?
    pub fn judge<'p>(&'p self, request: &Request<'_>, tables: &Tables) -> Verdict<'p> {
        self.judge_with(request, tables, &mut Silent)
    }

    /// The same, and the trace hears of each part.
    pub fn judge_with<'p>(
        &'p self,
        request: &Request<'_>,
        tables: &Tables,
        trace: &mut impl Trace<'p>,
    ) -> Verdict<'p> {
        match &self.form {
            Form::Short(clauses) => clauses.judge(request, tables, trace),
            Form::Ordered { rules, otherwise } => {
                let mut walk = Walk::default();
                for prepared in rules {
                    let truth = prepared.judge(request, tables, trace);
                    if let Some(end) = walk.step(&prepared.rule, truth) {
                        return walk.verdict(end);
                    }
                }
                trace.heard(Part::Otherwise(otherwise.value), &otherwise.place, Truth::Yes(Cause::Address));
                let (action, place) = (otherwise.value, &otherwise.place);
                walk.verdict(End { action, cause: Cause::Address, place, rule: None, doubt: None })
            }
        }
    }

    /// The hours by which a client was let in, by this rule if there was one: sessions may end with them.
    pub fn hours<'p>(&'p self, rule: Option<&'p Rule>) -> Option<&'p Label> {
        match &self.form {
            Form::Short(clauses) => clauses.hours.as_ref().map(|hours| &hours.value),
            Form::Ordered { .. } => rule.and_then(|rule| rule.hours.as_ref()),
        }
    }
}

impl Clauses {
    /// All must hold. What refuses for sure needs no more questions, and neither does what can't be told.
    fn judge<'p>(
        &'p self,
        request: &Request<'_>,
        tables: &Tables,
        trace: &mut impl Trace<'p>,
    ) -> Verdict<'p> {
        let mut sum = Sum::default();
        if let Some(hours) = &self.hours {
            let truth = matching::hours(&hours.value, request, tables);
            trace.heard(Part::Hours(&hours.value), &hours.place, truth);
            sum.must_hold(truth, Cause::Hours, &hours.place);
        }
        if let Some(deny) = &self.deny {
            let truth = deny.value.judge(request, tables);
            trace.heard(Part::Deny(&deny.value), &deny.place, truth);
            sum.must_not_hold(truth, &deny.place);
        }
        if let Some(allow) = &self.allow {
            let truth = allow.value.judge(request, tables);
            trace.heard(Part::Allow(&allow.value), &allow.place, truth);
            let cause = if allow.value.ask_name() { Cause::Name } else { Cause::Address };
            sum.must_hold(truth, cause, &allow.place);
        }
        if let Some(users) = &self.users {
            let truth = matching::users(&users.value, request);
            trace.heard(Part::Users(&users.value), &users.place, truth);
            sum.must_hold(truth, Cause::User, &users.place);
        }
        sum.verdict()
    }
}

/// What the clauses of the short form add up to.
#[derive(Default)]
struct Sum<'p> {
    refused: Option<(Cause, &'p Place)>,
    doubtful: Option<(Doubt, &'p Place)>,
    pending: Needs,
}

impl<'p> Sum<'p> {
    fn must_hold(&mut self, truth: Truth, cause: Cause, place: &'p Place) {
        match truth {
            Truth::Yes(_) => {}
            Truth::No => self.refuse(cause, place),
            open => self.leave_open(open, place),
        }
    }

    fn must_not_hold(&mut self, truth: Truth, place: &'p Place) {
        match truth {
            Truth::Yes(cause) => self.refuse(cause, place),
            Truth::No => {}
            open => self.leave_open(open, place),
        }
    }

    fn refuse(&mut self, cause: Cause, place: &'p Place) {
        self.refused = self.refused.or(Some((cause, place)));
    }

    fn leave_open(&mut self, truth: Truth, place: &'p Place) {
        match truth {
            Truth::Unknown(doubt) => self.doubtful = self.doubtful.or(Some((doubt, place))),
            Truth::Pending(needs) => self.pending = self.pending.and(needs),
            Truth::Yes(_) | Truth::No => {}
        }
    }

    fn verdict(self) -> Verdict<'p> {
        match (self.refused, self.doubtful) {
            (Some((cause, place)), _) => Verdict::Deny { cause, place, rule: None, doubt: None },
            (None, Some((doubt, place))) => {
                Verdict::Deny { cause: Cause::Undecided, place, rule: None, doubt: Some(doubt) }
            }
            (None, None) if !self.pending.is_empty() => Verdict::Need(self.pending.cheapest()),
            (None, None) => Verdict::Allow { rule: None, observed: Vec::new() },
        }
    }
}

impl Prepared {
    /// Does all that the rule says match? The cheap tests come first, and what does not match ends it.
    fn judge<'p>(&'p self, request: &Request<'_>, tables: &Tables, trace: &mut impl Trace<'p>) -> Truth {
        let place = &self.rule.place;
        let mut sum = Truth::Yes(Cause::Address);
        if let Some(from) = &self.from {
            let truth = from.judge(request, tables);
            trace.heard(Part::From(from), place, truth);
            sum = sum.and(truth);
        }
        if let Some(hours) = self.rule.hours.as_ref().filter(|_| sum != Truth::No) {
            let truth = matching::hours(hours, request, tables);
            trace.heard(Part::Hours(hours), place, truth);
            sum = sum.and(truth);
        }
        if let Some(users) = self.rule.users.as_ref().filter(|_| sum != Truth::No) {
            let truth = matching::users(users, request);
            trace.heard(Part::Users(users), place, truth);
            sum = sum.and(truth);
        }
        trace.heard(Part::Rule(&self.rule), place, sum);
        sum
    }
}

/// Rules in their order, until one decides.
#[derive(Default)]
struct Walk<'p> {
    /// What rules before the end wait for, by what they would do.
    pending_allow: Needs,
    pending_deny: Needs,
    /// The first rule that would allow, if one could tell.
    doubtful: Option<(&'p Rule, Doubt)>,
    observed: Vec<&'p Rule>,
    observing: Needs,
}

/// Where the walk ends, if nothing that is still open decides otherwise.
#[derive(Clone, Copy)]
struct End<'p> {
    action: Action,
    cause: Cause,
    place: &'p Place,
    rule: Option<&'p Rule>,
    doubt: Option<Doubt>,
}

impl<'p> Walk<'p> {
    fn step(&mut self, rule: &'p Rule, truth: Truth) -> Option<End<'p>> {
        if rule.observe {
            self.observe(rule, truth);
            return None;
        }
        let end = |cause, doubt| {
            Some(End { action: rule.action, cause, place: &rule.place, rule: Some(rule), doubt })
        };
        match (truth, rule.action) {
            (Truth::Yes(cause), _) => return end(cause, None),
            (Truth::Unknown(doubt), Action::Deny) => return end(Cause::Undecided, Some(doubt)),
            (Truth::Unknown(doubt), Action::Allow) => {
                self.doubtful = self.doubtful.or(Some((rule, doubt)));
            }
            (Truth::Pending(needs), Action::Allow) => self.pending_allow = self.pending_allow.and(needs),
            (Truth::Pending(needs), Action::Deny) => self.pending_deny = self.pending_deny.and(needs),
            (Truth::No, _) => {}
        }
        None
    }

    /// It decides nothing: what it would have refused is remembered.
    fn observe(&mut self, rule: &'p Rule, truth: Truth) {
        match truth {
            _ if rule.action == Action::Allow => {}
            Truth::Yes(_) | Truth::Unknown(_) => self.observed.push(rule),
            Truth::Pending(needs) => self.observing = self.observing.and(needs),
            Truth::No => {}
        }
    }

    fn verdict(self, end: End<'p>) -> Verdict<'p> {
        let against = match end.action {
            Action::Allow => self.pending_deny,
            Action::Deny => self.pending_allow,
        };
        if !against.is_empty() {
            // Any answer may end it; the cheapest is asked first.
            return Verdict::Need(self.pending_allow.and(self.pending_deny).cheapest());
        }
        match (end.action, self.doubtful) {
            (Action::Allow, _) if !self.observing.is_empty() => Verdict::Need(self.observing.cheapest()),
            (Action::Allow, _) => Verdict::Allow { rule: end.rule, observed: self.observed },
            (Action::Deny, Some((rule, doubt))) => Verdict::Deny {
                cause: Cause::Undecided,
                place: &rule.place,
                rule: Some(rule),
                doubt: Some(doubt),
            },
            (Action::Deny, None) => {
                let End { cause, place, rule, doubt, .. } = end;
                Verdict::Deny { cause, place, rule, doubt }
            }
        }
    }
}
