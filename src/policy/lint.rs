//! What is allowed to be written, and is hardly meant: rules that nothing reaches, patterns that add nothing,
//! refusals that a client can evade. Warnings, never errors.

use crate::config::access::{Access, Action, Clauses, Placed, Rule, Rules};
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::model::place::Place;

/// Something to look at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub place: Place,
    /// The kind, as one stable word.
    pub code: &'static str,
    /// What is the matter.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Looks an access through.
pub fn lint(access: &Access) -> Vec<Warning> {
    let mut out = Vec::new();
    match &access.rules {
        Rules::Short(clauses) => short(clauses, &mut out),
        Rules::Ordered { rules, otherwise } => ordered(rules, otherwise, &mut out),
    }
    out
}

fn short(clauses: &Clauses, out: &mut Vec<Warning>) {
    for said in [&clauses.deny, &clauses.allow].into_iter().flatten() {
        list(&said.place, &said.value, out);
    }
    if let Some(deny) = &clauses.deny {
        by_name_alone(&deny.place, &deny.value, out);
        if deny.value.contains(&ClientPattern::Any) {
            warn(out, &deny.place, "nobody", "`deny` matches every client: nobody may use the service", None);
        }
    }
    if let (Some(allow), Some(deny)) = (&clauses.allow, &clauses.deny) {
        let covering = |pattern: &ClientPattern| {
            deny.value.iter().find(|outer| **outer != ClientPattern::Any && outer.covers(pattern))
        };
        for pattern in allow.value.iter().filter(|pattern| **pattern != ClientPattern::Any) {
            if let Some(outer) = covering(pattern) {
                let message =
                    format!("`{pattern}` of `allow` is refused by `{outer}` of `deny`, which comes first");
                warn(out, &allow.place, "shadowed", &message, None);
            }
        }
    }
}

fn ordered(rules: &[Rule], otherwise: &Placed<Action>, out: &mut Vec<Warning>) {
    for (at, rule) in rules.iter().enumerate() {
        if let Some(from) = &rule.from {
            list(&rule.place, from, out);
            if rule.action == Action::Deny && rule.users.is_none() {
                by_name_alone(&rule.place, from, out);
            }
        }
        if rule.observe && rule.action == Action::Allow {
            let hint = Some("a rule that observes says what it would have refused: `action = \"deny\"`");
            warn(out, &rule.place, "observes-nothing", "this rule observes, and would refuse nobody", hint);
        }
        let before = rules.iter().take(at).filter(|earlier| !earlier.observe);
        if let Some(earlier) = before.into_iter().find(|earlier| covers(earlier, rule)) {
            let message =
                format!("this rule is never reached: whoever it matches is matched at {}", earlier.place);
            warn(out, &rule.place, "unreachable", &message, Some("put it before that rule, or take it out"));
        }
    }
    if let Some(all) = rules.iter().find(|rule| !rule.observe && matches_all(rule)) {
        let message = format!("`otherwise` is never reached: the rule at {} matches everybody", all.place);
        warn(out, &otherwise.place, "unreachable", &message, None);
    }
}

/// Is there nothing that the later rule could match and the earlier does not?
fn covers(earlier: &Rule, later: &Rule) -> bool {
    let users = earlier.users.is_none() || earlier.users == later.users;
    let hours = earlier.hours.is_none() || earlier.hours == later.hours;
    let clients = match (&earlier.from, &later.from) {
        (None, _) => true,
        (Some(outer), None) => outer.contains(&ClientPattern::Any),
        (Some(outer), Some(inner)) => {
            inner.iter().all(|pattern| outer.iter().any(|outer| outer.covers(pattern)))
        }
    };
    users && hours && clients
}

fn matches_all(rule: &Rule) -> bool {
    let all = rule.from.as_ref().is_none_or(|from| from.contains(&ClientPattern::Any));
    all && rule.users.is_none() && rule.hours.is_none()
}

/// What is wrong in a list of patterns.
fn list(place: &Place, patterns: &[ClientPattern], out: &mut Vec<Warning>) {
    for (inner, outer) in inside_others(patterns) {
        let message = if inner == outer {
            format!("`{inner}` is said twice")
        } else {
            format!("`{inner}` adds nothing to `{outer}`")
        };
        warn(out, place, "duplicate", &message, None);
    }
    let any = patterns.contains(&ClientPattern::Any);
    let names: Vec<String> =
        patterns.iter().filter(|pattern| pattern.asks_name()).map(|pattern| format!("`{pattern}`")).collect();
    if any && patterns.len() > 1 {
        warn(out, place, "duplicate", "`any` is every client: the rest of the list adds nothing", None);
    } else if !names.is_empty() {
        let message = format!("{}: the name of a client must be asked for", names.join(", "));
        warn(out, place, "asks-name", &message, Some("an address or a network is decided at once"));
    }
}

/// A client that takes the name of its address away is not refused any more.
fn by_name_alone(place: &Place, patterns: &[ClientPattern], out: &mut Vec<Warning>) {
    let confirmed =
        |pattern: &ClientPattern| matches!(pattern, ClientPattern::Name(_) | ClientPattern::Below(_));
    if !patterns.is_empty() && patterns.iter().all(confirmed) {
        let message = "a client is refused by its name alone: without a name it is not";
        warn(out, place, "deny-by-name", message, Some("add `unknown`, or deny its network"));
    }
}

/// Pairs of patterns, the first of which the second makes needless. Networks are sorted for it: a list may
/// have thousands.
fn inside_others(patterns: &[ClientPattern]) -> Vec<(ClientPattern, ClientPattern)> {
    let mut networks: Vec<Network> = Vec::new();
    let mut words: Vec<&ClientPattern> = Vec::new();
    let mut found = Vec::new();
    for pattern in patterns {
        match pattern {
            ClientPattern::Any => {}
            ClientPattern::Network(network) => networks.push(*network),
            other => {
                if let Some(outer) = words.iter().find(|outer| outer.covers(other)) {
                    found.push((other.clone(), (*outer).clone()));
                } else if let Some(inner) = words.iter().find(|inner| other.covers(inner)) {
                    found.push(((*inner).clone(), other.clone()));
                }
                words.push(other);
            }
        }
    }
    networks.sort_unstable();
    let mut outer: Option<Network> = None;
    for network in networks {
        match outer.filter(|outer| outer.covers(&network)) {
            Some(outer) => found.push((ClientPattern::Network(network), ClientPattern::Network(outer))),
            None => outer = Some(network),
        }
    }
    found
}

fn warn(out: &mut Vec<Warning>, place: &Place, code: &'static str, message: &str, hint: Option<&str>) {
    out.push(Warning {
        place: place.clone(),
        code,
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
    });
}
