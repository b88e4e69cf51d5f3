//! By what a service is served, looked up: the program and its user, or the built-in service.

use super::admit;
use super::diagnostic::{Report, Spot};
use super::draft::{ServiceDraft, Values};
use super::obstacles;
use super::pools;
use super::program;
use super::resolve::System;
use super::settings::{Builtin, Serves};
use super::situation::Situation;
use super::ways::Way;
use super::who;

const BUILTIN: (&str, &str) = ("", "builtin");
const STDERR: (&str, &str) = ("", "stderr");

/// Looks up what serves; `None` after saying what is wrong with it, here or in the first step.
pub fn resolve(
    values: &Values,
    system: &dyn System,
    situation: &Situation,
    report: &mut Report,
) -> Option<Serves> {
    let way = Way::of(values);
    if way == Some(Way::Builtin) {
        return builtin(values).map(Serves::Builtin);
    }
    let person = who::of_service(values, system, situation, report);
    let identity = person.as_ref().and_then(|(identity, _)| identity.as_ref());
    program::check(values, identity, system, situation, report);
    let (identity, account) = person?;
    let program = program::build(values, identity, account, situation)?;
    match way? {
        Way::Exec => Some(Serves::Exec(program)),
        Way::Wait => Some(Serves::Wait(program)),
        Way::Handoff | Way::Listen => pools::build(values, program).map(Serves::Pool),
        Way::Builtin | Way::Relay => None,
    }
}

fn builtin(values: &Values) -> Option<Builtin> {
    Some(match values.text(BUILTIN)? {
        "echo" => Builtin::Echo,
        "discard" => Builtin::Discard,
        "chargen" => Builtin::Chargen,
        "daytime" => Builtin::Daytime,
        "time" => Builtin::Time,
        "qotd" => Builtin::Qotd(values.quotes(("", "quotes"))?.to_vec()),
        "tcpmux" => Builtin::TcpMux,
        "sensor" => Builtin::Sensor,
        _ => return None,
    })
}

/// Where a service says what one of superd's helping processes does, and that it needs their user.
pub fn helper_need(service: &ServiceDraft) -> Option<(&Spot, String)> {
    let values = &service.values;
    if let (Some("log"), Some(spot)) = (values.text(STDERR), values.spot(STDERR)) {
        return Some((spot, "`stderr = \"log\"` needs it".to_owned()));
    }
    if let Some(spot) = admit::resolver_need(values) {
        return Some((spot, "superd's resolver, which asks who a client is, needs it".to_owned()));
    }
    match Way::of(values)? {
        Way::Builtin => {
            let builtin = values.text(BUILTIN)?;
            let endpoints = values.listens().iter().flat_map(|said| said.value.endpoints(0));
            let has_handler =
                !obstacles::answers_at_once(builtin) || endpoints.into_iter().any(|e| e.is_datagram());
            let spot = values.spot(BUILTIN).filter(|_| has_handler)?;
            Some((spot, format!("`builtin = \"{builtin}\"` needs it")))
        }
        Way::Handoff | Way::Listen if values.text(STDERR).is_none() => {
            let need = "the standard error of a pool's workers goes to superd's log, which needs it";
            Some((values.spot(("", "pool"))?, need.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::draft::Value;
    use crate::config::key_table::BUILTINS;

    #[test]
    fn every_built_in_service_of_the_key_table_is_made() {
        for word in BUILTINS {
            let spot = Spot { file: 0, range: 0..0 };
            let mut values = Values::default();
            values.insert(BUILTIN, Value::Text(word.to_owned()), spot.clone());
            values.insert(("", "quotes"), Value::Quotes(vec![b"quote".to_vec()]), spot);
            let made = builtin(&values).unwrap();
            assert_eq!(made.word(), word);
            assert_eq!(made.answers_at_once(), obstacles::answers_at_once(word), "{word}");
        }
    }
}
