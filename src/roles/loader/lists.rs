//! The list files of sets, read and compiled. A list with a bad line is refused as a whole, and the line shown.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Report, Spot};
use crate::config::draft::{Draft, ServiceDraft, SetDraft};
use crate::config::files::{self, Files};
use crate::config::situation::Situation;
use crate::config::ways::Way;
use crate::model::endpoint::{Endpoint, Transport};
use crate::model::label::Label;
use crate::model::network::Network;
use crate::model::pattern::ClientPattern;
use crate::policy::filter;
use crate::policy::list::{self, BadList};

/// Of a bad list, so many lines are shown.
const MOST_SHOWN: usize = 10;

/// A promise that holds for IPv4, and is easily remembered.
const MOST_FILTERED: usize = 1000;

/// What is in the sets.
pub type Contents = BTreeMap<Label, Vec<Network>>;

/// Reads all lists. What is wrong is added to the report.
pub fn read(draft: &Draft, files: &dyn Files, situation: &Situation, report: &mut Report) -> Contents {
    let contents: Contents = draft
        .sets
        .iter()
        .map(|(name, set)| (name.clone(), contents(name, set, files, situation, report)))
        .collect();
    for service in &draft.services {
        check_filter(service, &contents, report);
    }
    contents
}

fn contents(
    name: &Label,
    set: &SetDraft,
    files: &dyn Files,
    situation: &Situation,
    report: &mut Report,
) -> Vec<Network> {
    let mut networks = set.networks.clone();
    for said in &set.files {
        let path = said.value.display();
        let bytes = match files.read(&said.value) {
            Err(problem) => Err(("unreadable", problem.to_string())),
            Ok(file) => match files::distrust(&file, situation) {
                Some(why) => Err(("untrusted", why)),
                None => Ok(file.bytes),
            },
        };
        match bytes {
            Ok(bytes) => match list::parse(&bytes, MOST_SHOWN) {
                Ok(found) => networks.extend(found),
                Err(bad) => show(&path.to_string(), &bytes, bad, &said.spot, report),
            },
            Err((code, why)) => {
                let message = format!("`sets.{name}`: can't use {path}: {why}");
                report.add(Diagnostic::error(code, &said.spot, message));
            }
        }
    }
    networks
}

fn show(path: &str, bytes: &[u8], bad: BadList, said: &Spot, report: &mut Report) {
    let text = String::from_utf8_lossy(bytes);
    let file = report.add_source(path, text.as_ref());
    for bad in bad.lines {
        let spot = report.spot_of_line(file, bad.line);
        let error = Diagnostic::error("list", &spot, bad.mistake.message).maybe_hint(bad.mistake.hint);
        report.add(error.also(said, "the list is named here"));
    }
    if bad.more > 0 {
        let message = format!("{path}: {} more bad lines", bad.more);
        report.add(Diagnostic::error("list", said, message));
    }
}

/// Where datagrams are read before superd could judge them, the kernel does, by a program that can't be of any length.
fn check_filter(service: &ServiceDraft, contents: &Contents, report: &mut Report) {
    let values = &service.values;
    if !is_filtered(service) {
        return;
    }
    let rules = values.rows(("", "rule")).iter().filter_map(|rule| rule.value.clients(("", "from")));
    let lists = ["deny", "allow"].into_iter().filter_map(|key| values.clients(("", key)));
    let mut networks: Vec<Network> = Vec::new();
    for said in lists.chain(rules).flatten() {
        match &said.value {
            ClientPattern::Network(network) => networks.push(*network),
            ClientPattern::Set(name) => networks.extend(contents.get(name).into_iter().flatten()),
            _ => {}
        }
    }
    let (name, count) = (&service.name, networks.len());
    let message = if count > MOST_FILTERED {
        format!(
            "service {name}: the kernel judges its datagrams by at most {MOST_FILTERED} networks, and these are {count}"
        )
    } else if filter::most_instructions(&networks) > filter::MOST {
        format!(
            "service {name}: the kernel judges its datagrams, and these {count} networks need too long a socket filter"
        )
    } else {
        return;
    };
    let hint = "name larger networks, those of IPv6 first, which take most room; or have a firewall judge";
    report.add(Diagnostic::error("cannot-hold", &service.spot, message).hint(hint));
}

fn is_filtered(service: &ServiceDraft) -> bool {
    let is_udp = |endpoint: &Endpoint| endpoint.inet().is_some_and(|inet| inet.transport == Transport::Udp);
    match Way::of(&service.values) {
        Some(Way::Wait) => true,
        Some(Way::Builtin) => {
            let listens = service.values.listens();
            listens.iter().any(|said| said.value.endpoints(0).iter().any(is_udp))
        }
        _ => false,
    }
}
