//! Why a client is not let in, and what is done about it.

use crate::model::place::Place;
use crate::protocol::resolve::Named;
use crate::service::reason::Reason;

use super::hosts::Outcome;
use super::policy::Rules;

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Why.
    pub(super) reason: Reason,
    /// Where that stands.
    pub(super) rule: Option<Place>,
    /// What is sent to the client.
    pub(super) banner: Option<Vec<u8>>,
    /// Is it logged? `None`: as the service says.
    pub(super) log: Option<bool>,
    /// What is known of its name, where a rule asked for it.
    pub(super) naming: Option<Named>,
    /// What the hosts files have done for whom they refuse.
    pub(super) beside: Option<Outcome>,
    /// What is wrong with superwrap itself, for the admin.
    pub(super) trouble: Option<String>,
}

impl Refusal {
    /// For a reason that needs no more words.
    pub(super) fn because(reason: Reason) -> Self {
        let (rule, banner, log, naming, beside, trouble) = (None, None, None, None, None, None);
        Self { reason, rule, banner, log, naming, beside, trouble }
    }

    /// Nothing could be decided: nobody is let in.
    pub(super) fn trouble(why: impl Into<String>) -> Self {
        Self { trouble: Some(why.into()), ..Self::because(Reason::Undecided) }
    }

    /// By this.
    pub(super) fn at(self, place: &Place) -> Self {
        Self { rule: Some(place.clone()), ..self }
    }

    /// It may come again later: it is told what the service says to those.
    pub(super) fn busy(self, rules: &Rules) -> Self {
        Self { banner: rules.banners.busy.clone(), ..self }
    }
}
