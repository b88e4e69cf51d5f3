//! The files that `/path` in a list of hosts names: text to a set that a million addresses don't make slow.
//!
//! Words alone separate their items. libwrap knows no comment, no EXCEPT and no user in them, and reads what was
//! meant so as a pattern: here it is an error. Reads no file itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::diagnostic::{Report, Spot};

use super::Surroundings;
use super::address_map::AddressMap;
use super::complaints::Complaints;
use super::list::words;
use super::pattern::{self, Bad, HostPattern, Read};

/// Lists that name lists that name lists …
const MAX_DEPTH: usize = 16;

/// Hosts that a file lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSet {
    addresses: AddressMap,
    others: Vec<HostPattern>,
}

impl HostSet {
    fn new(patterns: Vec<HostPattern>) -> Self {
        let (mut networks, mut others) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                HostPattern::Network(network) => networks.push((network, 0)),
                other => others.push(other),
            }
        }
        Self { addresses: AddressMap::of(networks), others }
    }

    /// Is it one of the addresses, or in one of the networks?
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.addresses.get(address).is_some()
    }

    /// What is neither.
    pub(super) fn others(&self) -> &[HostPattern] {
        &self.others
    }
}

/// A file as it was read.
#[derive(Clone)]
pub(super) struct HostFile {
    pub(super) set: Arc<HostSet>,
    /// Patterns that never match: where, and why.
    pub(super) dead: Arc<[(Spot, String)]>,
}

/// The files that were read so far: each is read once.
#[derive(Default)]
pub(super) struct HostFiles {
    read: BTreeMap<String, HostFile>,
    /// Those that are being read, each named by the one before it.
    open: Vec<String>,
}

impl HostFiles {
    /// What a file lists. Errors in its text are in the report; the error given is about the file as a whole.
    pub(super) fn get(
        &mut self,
        path: &str,
        surroundings: &mut dyn Surroundings,
        report: &mut Report,
    ) -> Result<HostFile, Bad> {
        if let Some(file) = self.read.get(path) {
            return Ok(file.clone());
        }
        if self.open.iter().any(|open| open == path) {
            return Err(Bad::new(format!("`{path}` names itself"), "a list can't be part of itself"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(Bad::new(format!("`{path}` is the {MAX_DEPTH}th list within a list"), ""));
        }
        let bytes = surroundings.read(path).map_err(|error| {
            Bad::new(format!("can't read `{path}`: {error}"), "libwrap takes such a file for an empty one")
        })?;
        self.open.push(path.to_owned());
        let text = String::from_utf8_lossy(&bytes);
        let file = self.parse(path, &text, surroundings, report);
        self.open.pop();
        self.read.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    fn parse(
        &mut self,
        path: &str,
        text: &str,
        surroundings: &mut dyn Surroundings,
        report: &mut Report,
    ) -> HostFile {
        let number = report.add_source(path, text);
        let (mut patterns, mut dead) = (Vec::new(), Vec::new());
        let mut complaints = Complaints::about(report, number);
        for (range, word) in words(text, 0, &[' ', '\t', '\r', '\n', '\u{b}', '\u{c}']) {
            if complaints.are_enough() {
                break;
            }
            match item(word) {
                Ok(Read::Is(pattern)) => patterns.push(pattern),
                Ok(Read::Dead(why, _)) => dead.push((complaints.spot(range), never(word, why))),
                Ok(Read::File(path)) => match self.get(&path, surroundings, complaints.report) {
                    Ok(file) => {
                        patterns.push(HostPattern::List(file.set));
                        dead.extend_from_slice(&file.dead);
                    }
                    Err(bad) => complaints.error(range, bad.message, bad.hint),
                },
                Err(bad) => complaints.error(range, bad.message, bad.hint),
            }
        }
        HostFile { set: Arc::new(HostSet::new(patterns)), dead: dead.into() }
    }
}

fn item(word: &str) -> Result<Read<HostPattern>, Bad> {
    if word.eq_ignore_ascii_case("EXCEPT") {
        return Err(Bad::new(
            "EXCEPT is no operator in such a file",
            "write it in the rule: `/path EXCEPT …`",
        ));
    }
    if word.starts_with('#') {
        return Err(Bad::new("such a file has no comments", "libwrap reads each word of it as a pattern"));
    }
    if word.get(1..).is_some_and(|rest| rest.contains('@')) {
        return Err(Bad::new(
            format!("`{word}`: a user in such a file"),
            "write it in the rule: `user@/path`",
        ));
    }
    pattern::host(word)
}

/// What is said of a pattern that never matches.
pub(super) fn never(text: &str, why: &str) -> String {
    format!("`{text}` matches nobody: {why}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::*;

    #[test]
    fn files_are_sets() {
        let files = [
            ("/a", "10.1.2.3 10.0.0.0/24\n10.0.0.128/25\t192.0.2.1\r\n /b"),
            ("/b", "[2001:db8::]/32 2001:db9::1 .example.org 10.0.2.0/255.0.255.0"),
        ];
        let (file, errors) = read(&files, "/a");
        assert_eq!(errors, [""; 0]);
        let [HostPattern::List(nested)] = file.set.others() else { panic!("{:?}", file.set) };
        assert_eq!(nested.others().len(), 2);
        for (address, expected) in [
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("10.0.0.0", true),
            ("10.0.0.255", true),
            ("10.0.1.0", false),
            ("9.255.255.255", false),
            ("::1", false),
        ] {
            assert_eq!(file.set.holds(address.parse().unwrap()), expected, "{address}");
        }
        for (address, expected) in [("2001:db8:ffff::1", true), ("2001:db9::1", true), ("2001:db9::2", false)]
        {
            assert_eq!(nested.holds(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_was_meant_otherwise_is_an_error() {
        for (text, expected) in [
            ("192.0.2.1\n# 10.1.2.3 old entry\n", "/a:2:1: such a file has no comments"),
            ("10. EXCEPT 10.1.2.3", "/a:1:5: EXCEPT is no operator"),
            ("joe@10.1.2.3", "/a:1:1: `joe@10.1.2.3`: a user"),
            ("10.1.2.3,10.1.2.4", "/a:1:1: `10.1.2.3,10.1.2.4` can't be a host"),
            ("/a", "/a:1:1: `/a` names itself"),
            ("/b", "/b:1:1: `/a` names itself"),
            ("/nope", "/a:1:1: can't read `/nope`"),
        ] {
            let (_, errors) = read(&[("/a", text), ("/b", "/a")], "/a");
            assert!(errors.iter().any(|error| error.contains(expected)), "{text}: {errors:?}");
        }
        let chain: Vec<_> = (0..20).map(|n| (format!("/{n}"), format!("/{}", n + 1))).collect();
        let chain: Vec<_> = chain.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        assert!(read(&chain, "/0").1[0].contains("the 16th list within a list"));
    }

    fn read(files: &[(&str, &str)], path: &str) -> (HostFile, Vec<String>) {
        let mut report = Report::default();
        let file = HostFiles::default().get(path, &mut World::with(files), &mut report);
        let errors = report.complaints().0.into_iter().map(|complaint| complaint.line).collect();
        (file.unwrap_or_else(|bad| panic!("{bad:?}")), errors)
    }
}
