//! The rules of one table, in blocks: a long run of rules that name addresses alone, as tools that ban write
//! them, is asked with one look-up.
//!
//! The first rule that matches decides all the same.

use serde::{Deserialize, Serialize};

use super::address_map::AddressMap;
use super::matching::Question;
use super::outcome::Match;
use super::pattern::HostPattern;
use super::request::End;
use super::rule::Rule;

/// Shorter runs are not worth a map.
const MANY: usize = 8;

/// Rules in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Rule>", into = "Vec<Rule>")]
pub(super) struct Rules {
    rules: Vec<Rule>,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    /// A rule, by its number.
    One(usize),
    /// Rules for the same daemons and for addresses alone: the first of them, and which holds an address.
    Many(usize, AddressMap),
}

impl From<Vec<Rule>> for Rules {
    fn from(rules: Vec<Rule>) -> Self {
        let mut blocks = Vec::new();
        let mut at = 0;
        for run in
            rules.chunk_by(|rule, next| is_plain(rule) && is_plain(next) && rule.daemons == next.daemons)
        {
            if run.len() < MANY {
                blocks.extend((at..at + run.len()).map(Block::One));
            } else {
                let numbered = run
                    .iter()
                    .zip(0..)
                    .flat_map(|(rule, number)| networks(rule).map(move |network| (network, number)));
                blocks.push(Block::Many(at, AddressMap::of(numbered)));
            }
            at += run.len();
        }
        Self { rules, blocks }
    }
}

impl From<Rules> for Vec<Rule> {
    fn from(rules: Rules) -> Self {
        rules.rules
    }
}

/// Does it name addresses alone, and no exception?
fn is_plain(rule: &Rule) -> bool {
    rule.daemons.items().all(|(_, item)| item.at.is_none())
        && rule.clients.items().all(|(depth, item)| {
            depth == 0 && item.user.is_none() && matches!(item.host, HostPattern::Network(_))
        })
}

fn networks(rule: &Rule) -> impl Iterator<Item = crate::model::network::Network> {
    rule.clients.items().filter_map(|(_, item)| match &item.host {
        HostPattern::Network(network) => Some(*network),
        _ => None,
    })
}

impl Rules {
    /// Every rule.
    pub(super) fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The first answer that `decide` has for a rule and what its matching came to.
    pub(super) fn find<'r, T>(
        &'r self,
        question: &Question<'_>,
        decide: impl Fn(&'r Rule, Match) -> Option<T>,
    ) -> Option<T> {
        self.blocks.iter().find_map(|block| match block {
            Block::One(number) => {
                let rule = self.rules.get(*number)?;
                decide(rule, question.matches(rule))
            }
            Block::Many(first, map) => {
                let address = question.request.address(End::Client)?;
                let number = usize::try_from(map.get(address)?).ok()?;
                let rule = self.rules.get(first + number)?;
                decide(rule, question.matches(rule))
            }
        })
    }
}
