//! What is wrong in one of the files, collected in the report that the whole configuration shares.
//!
//! Knows places in a text, nothing of the language.

use std::ops::Range;

use crate::config::diagnostic::{Diagnostic, Report, Spot};
use crate::model::place::Place;

/// After so many errors in one file the rest of it is not looked at: it is probably no table at all.
pub(super) const MAX_ERRORS: usize = 100;

/// The kind of every diagnostic from here.
const CODE: &str = "hosts-access";

/// The report, and the file that is being read.
pub(super) struct Complaints<'r> {
    pub(super) report: &'r mut Report,
    file: usize,
    errors: usize,
}

impl<'r> Complaints<'r> {
    /// About a file of the report, by its number.
    pub(super) fn about(report: &'r mut Report, file: usize) -> Self {
        Self { report, file, errors: 0 }
    }

    /// The rule can't be used.
    pub(super) fn error(&mut self, range: Range<usize>, message: impl Into<String>, hint: &str) {
        self.errors += 1;
        let error = Diagnostic::error(CODE, &self.spot(range), message);
        self.report.add(error.maybe_hint(Some(hint.to_owned()).filter(|hint| !hint.is_empty())));
    }

    /// The rule can be used, but does not do what it seems to.
    pub(super) fn warning(&mut self, range: Range<usize>, message: impl Into<String>, hint: &str) {
        let warning = Diagnostic::warning(CODE, &self.spot(range), message);
        self.report.add(warning.maybe_hint(Some(hint.to_owned()).filter(|hint| !hint.is_empty())));
    }

    /// A pattern that never matches: an error if that lets somebody in.
    pub(super) fn dead(&mut self, spot: &Spot, message: String, lets_in: bool) {
        let found = if lets_in {
            Diagnostic::error(CODE, spot, message)
        } else {
            Diagnostic::warning(CODE, spot, message)
        };
        self.errors += usize::from(lets_in);
        self.report.add(found);
    }

    /// Are there so many errors that more would help nobody?
    pub(super) fn are_enough(&self) -> bool {
        self.errors >= MAX_ERRORS
    }

    /// File and line.
    pub(super) fn place(&self, range: Range<usize>) -> Place {
        self.report.place(&self.spot(range))
    }

    /// A stretch of the file.
    pub(super) fn spot(&self, range: Range<usize>) -> Spot {
        Spot { file: self.file, range }
    }
}

/// For tests: what `work` gives, and its errors and warnings, a line each.
#[cfg(test)]
pub(super) fn check_report<T>(text: &str, work: impl FnOnce(&mut Complaints<'_>) -> T) -> (T, Vec<String>) {
    let mut report = Report::default();
    let file = report.add_source("hosts.allow", text);
    let result = work(&mut Complaints::about(&mut report, file));
    let (errors, warnings) = report.complaints();
    (result, errors.into_iter().chain(warnings).map(|complaint| complaint.line).collect())
}
