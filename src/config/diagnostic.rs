//! What is wrong in a configuration, and how an admin is shown it: file, line, column, the line itself with
//! the place marked, and a hint.
//!
//! Knows texts and places in them, nothing of what they mean.

use std::fmt::Write as _;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::model::place::Place;

/// Does it keep the configuration from being used?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Yes.
    Error,
    /// No, but the admin should know.
    Warning,
}

/// A stretch of one of the report's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The file, by its number in the report.
    pub file: usize,
    /// Bytes of its text.
    pub range: Range<usize>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Its kind, as one stable word.
    pub code: &'static str,
    /// Where; `None` if there is no text to show.
    pub spot: Option<Spot>,
    /// One sentence.
    pub message: String,
    /// Written at the mark; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that have to do with it.
    pub others: Vec<(Spot, String)>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: &'static str, spot: &Spot, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            spot: Some(spot.clone()),
            message: message.into(),
            label: String::new(),
            hint: None,
            others: Vec::new(),
        }
    }

    /// A warning at a place.
    pub fn warning(code: &'static str, spot: &Spot, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, spot, message) }
    }

    /// An error about a whole file, or about none.
    pub fn bare(code: &'static str, message: impl Into<String>) -> Self {
        Self { spot: None, ..Self::error(code, &Spot { file: 0, range: 0..0 }, message) }
    }

    /// Writes a few words at the mark.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what to do, if anybody knows.
    #[must_use]
    pub fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Shows another place.
    #[must_use]
    pub fn also(mut self, spot: &Spot, label: impl Into<String>) -> Self {
        self.others.push((spot.clone(), label.into()));
        self
    }
}

/// A diagnostic as others are told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Of several lines, with the line of the file, the mark and the hint.
    pub text: String,
    /// In one line, for a log.
    pub line: String,
}

/// A file that was read.
#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

/// All that is wrong, with the texts it is about.
#[derive(Debug, Clone, Default)]
pub struct Report {
    sources: Vec<Source>,
    diagnostics: Vec<Diagnostic>,
    /// What could not be read as TOML.
    broken: Vec<Spot>,
}

impl Report {
    /// Takes the text of a file, for showing lines of it; gives its number.
    pub fn add_source(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        self.sources.push(Source { name: name.into(), text, lines });
        self.sources.len() - 1
    }

    /// Adds a diagnostic; the same one again (a default that is wrong for many services) is shown once.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        let newest = self.diagnostics.iter().rev().take(64);
        if !newest.into_iter().any(|known| *known == diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Is the text of a file no TOML? What is missing in it may stand where it could not be read.
    pub fn is_broken(&self, file: usize) -> bool {
        self.broken.iter().any(|spot| spot.file == file)
    }

    /// Notes that a stretch of a file could not be read.
    pub fn mark_broken(&mut self, spot: &Spot) {
        self.broken.push(spot.clone());
    }

    /// Is there anything that forbids using the configuration?
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// How many errors and how many warnings there are.
    pub fn counts(&self) -> (usize, usize) {
        let all = self.sorted();
        let errors = all.iter().filter(|d| d.severity == Severity::Error).count();
        (errors, all.len() - errors)
    }

    /// Everything, by file and position.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        all.sort_by_key(|d| {
            let (file, start) = d.spot.as_ref().map_or((0, 0), |s| (s.file + 1, s.range.start));
            (file, start, d.severity)
        });
        all.dedup();
        all.retain(|d| d.code == "syntax" || !self.is_echo(d));
        all
    }

    /// What was read where the syntax is wrong is not what was meant: one mistake, one error.
    fn is_echo(&self, diagnostic: &Diagnostic) -> bool {
        let Some(spot) = &diagnostic.spot else { return false };
        self.broken.iter().any(|broken| {
            broken.file == spot.file
                && (broken.range.start == spot.range.start || broken.range.contains(&spot.range.start))
        })
    }

    /// Every diagnostic as the text that an admin sees, by file and position.
    pub fn rendered(&self, colour: bool) -> Vec<String> {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        self.sorted().into_iter().map(|d| self.render(d, &renderer)).collect()
    }

    /// Everything as it is told to somebody else: the errors, then the warnings.
    pub fn complaints(&self) -> (Vec<Complaint>, Vec<Complaint>) {
        let renderer = Renderer::plain();
        let (errors, warnings): (Vec<_>, Vec<_>) =
            self.sorted().into_iter().partition(|d| d.severity == Severity::Error);
        let tell = |d: &Diagnostic| Complaint { text: self.render(d, &renderer), line: self.line(d) };
        (errors.into_iter().map(tell).collect(), warnings.into_iter().map(tell).collect())
    }

    /// A diagnostic in one line: `/etc/superd.toml:3:1: no key …`.
    fn line(&self, diagnostic: &Diagnostic) -> String {
        let message = plain(&diagnostic.message);
        let place = diagnostic.spot.as_ref().and_then(|spot| {
            let source = self.sources.get(spot.file)?;
            let line = source.line_of(spot.range.start);
            let (from, text) = source.line(line)?;
            let before = text.get(..boundary(text, spot.range.start.saturating_sub(from)))?;
            Some(format!("{}:{}:{}: ", source.name, line + 1, before.chars().count() + 1))
        });
        format!("{}{message}", place.unwrap_or_default())
    }

    /// File and line of a spot.
    pub fn place(&self, spot: &Spot) -> Place {
        let Some(source) = self.sources.get(spot.file) else {
            return Place { file: String::new(), line: 0 };
        };
        let line = source.line_of(spot.range.start) + 1;
        Place { file: source.name.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }

    /// What a line (from 1) of a file says, without the blanks around it.
    pub fn spot_of_line(&self, file: usize, line: u32) -> Spot {
        let number = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let range = self.sources.get(file).and_then(|source| source.line(number)).map(|(from, text)| {
            let start = from + text.len() - text.trim_start().len();
            start..start + text.trim().len()
        });
        Spot { file, range: range.unwrap_or(0..0) }
    }

    /// The line of a place, if it is in a file of the report.
    pub fn spot(&self, place: &Place) -> Option<Spot> {
        let file = self.sources.iter().position(|source| source.name == place.file)?;
        Some(self.spot_of_line(file, place.line))
    }

    fn render(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(plain(&diagnostic.message)).id(diagnostic.code);
        let mut group = Group::with_title(title);
        if let Some(snippet) = diagnostic
            .spot
            .as_ref()
            .and_then(|spot| self.snippet(spot, AnnotationKind::Primary, &diagnostic.label))
        {
            group = group.element(snippet);
        }
        for (spot, label) in &diagnostic.others {
            if let Some(snippet) = self.snippet(spot, AnnotationKind::Context, label) {
                group = group.element(snippet);
            }
        }
        if let Some(hint) = &diagnostic.hint {
            group = group.element(Level::HELP.message(plain(hint)));
        }
        renderer.render(&[group])
    }

    /// The one line where a spot begins, marked: a file of ten thousand lines is not walked for each error.
    fn snippet(
        &self,
        spot: &Spot,
        kind: AnnotationKind,
        label: &str,
    ) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let source = self.sources.get(spot.file)?;
        let line = source.line_of(spot.range.start);
        let (from, text) = source.line(line)?;
        let start = boundary(text, spot.range.start.saturating_sub(from));
        let end = boundary(text, spot.range.end.saturating_sub(from)).max(start);
        let annotation = kind.span(start..end);
        let annotation = if label.is_empty() { annotation } else { annotation.label(plain(label)) };
        Some(Snippet::source(text).line_start(line + 1).path(source.name.as_str()).annotation(annotation))
    }
}

impl Source {
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at).saturating_sub(1)
    }

    fn line(&self, number: usize) -> Option<(usize, &str)> {
        let from = *self.lines.get(number)?;
        let to = self.lines.get(number + 1).copied().unwrap_or(self.text.len());
        Some((from, self.text.get(from..to)?.trim_end_matches(['\n', '\r'])))
    }
}

/// The nearest boundary of a character at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A text that may hold what a file holds, without what would steer a terminal.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a String can't fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_shows_its_place() {
        let mut report = Report::default();
        let file = report.add_source("/etc/superd.toml", "[daemon]\nlunacher = \"auto\"\n");
        let spot = Spot { file, range: 9..17 };
        report.add(
            Diagnostic::error("unknown-key", &spot, "no key `lunacher`").hint("did you mean `launcher`?"),
        );
        let text = report.rendered(false).join("\n");
        assert_eq!(report.complaints().0[0].line, "/etc/superd.toml:2:1: no key `lunacher`");
        for part in ["/etc/superd.toml:2:1", "lunacher = \"auto\"", "^^^^^^^^", "did you mean `launcher`?"] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }

    #[test]
    fn spots_beyond_the_text_do_not_panic() {
        let mut report = Report::default();
        let file = report.add_source("x", "ü");
        for (start, end) in [(0, 1), (1, 2), (1, 1), (7, 9), (9, 7)] {
            report.add(Diagnostic::error("x", &Spot { file, range: start..end }, "y"));
        }
        assert!(report.rendered(false).len() > 1);
    }
}
