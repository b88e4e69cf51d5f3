//! The files of a configuration: the main one and what it includes, in sections. Order does not matter, so
//! a section that stands twice is an error that shows both places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::label::Label;
use crate::model::name::ServiceName;

use super::diagnostic::{Diagnostic, Report, Spot};
use super::draft::{HoursDraft, SetDraft, Values};
use super::files::{self, FileText, Files};
use super::keys::{self, Key, Served};
use super::mistype;
use super::names;
use super::reader::{self, Context};
use super::situation::Situation;
use super::syntax;

/// How deep includes may include.
const MAX_DEPTH: usize = 16;

/// A table, and its header.
#[derive(Debug, Clone)]
pub struct Section {
    /// Where it begins.
    pub spot: Spot,
    /// What it says.
    pub values: Values,
}

/// All sections of all files.
#[derive(Debug, Default)]
pub struct Sections {
    /// `[daemon]`.
    pub daemon: Option<Section>,
    /// `[log]`.
    pub log: Option<Section>,
    /// `[wrap]`.
    pub wrap: Option<Section>,
    /// `[defaults]`.
    pub defaults: Option<Section>,
    /// `[sets]`.
    pub sets: BTreeMap<Label, SetDraft>,
    /// `[hours]`.
    pub hours: BTreeMap<Label, HoursDraft>,
    /// `[service.NAME]`.
    pub services: BTreeMap<ServiceName, Section>,
}

/// Reads `path` and all that it includes. `None` if `path` itself can't be read.
pub fn collect(
    path: &Path,
    files: &dyn Files,
    situation: &Situation,
    report: &mut Report,
) -> Option<Sections> {
    let mut collector = Collector {
        files,
        situation,
        report,
        sections: Sections::default(),
        chain: Vec::new(),
        done: Vec::new(),
    };
    let main = match files.read(path) {
        Ok(main) => main,
        Err(problem) => {
            let message = format!("can't read {}: {problem}", path.display());
            collector.report.add(Diagnostic::bare("unreadable", message));
            return None;
        }
    };
    collector.take_file(path, main, None);
    Some(collector.sections)
}

struct Collector<'a> {
    files: &'a dyn Files,
    situation: &'a Situation,
    report: &'a mut Report,
    sections: Sections,
    /// The files that are being read, each included by the one before it.
    chain: Vec<(PathBuf, (u64, u64))>,
    done: Vec<((u64, u64), PathBuf)>,
}

impl Collector<'_> {
    fn take_file(&mut self, path: &Path, file: FileText, included_at: Option<&Spot>) {
        if let Some(why) = files::distrust(&file, self.situation) {
            let message = format!("{} can't be trusted: {why}", path.display());
            let diagnostic = match included_at {
                Some(spot) => Diagnostic::error("untrusted", spot, message),
                None => Diagnostic::bare("untrusted", message),
            };
            self.report.add(diagnostic.hint(format!(
                "what root reads must belong to root: chown root {0}; chmod go-w {0}",
                path.display()
            )));
        }
        let name = path.display().to_string();
        let text = match String::from_utf8(file.bytes) {
            Ok(text) => text,
            Err(error) => return self.not_utf8(name, error.as_bytes(), error.utf8_error().valid_up_to()),
        };
        let number = self.report.add_source(name, text.as_str());
        self.chain.push((path.to_owned(), file.id));
        self.done.push((file.id, path.to_owned()));
        let table = syntax::parse(&text, number, self.report);
        self.take_tables(number, path, &table);
        self.chain.pop();
    }

    fn not_utf8(&mut self, name: String, bytes: &[u8], at: usize) {
        let file = self.report.add_source(name, String::from_utf8_lossy(bytes));
        let spot = Spot { file, range: at..at + 1 };
        self.report.add(Diagnostic::error("not-utf8", &spot, "this byte is not UTF-8"));
    }

    fn take_tables(&mut self, file: usize, path: &Path, table: &DeTable<'_>) {
        for (name, value) in table {
            let spot = Spot { file, range: name.span() };
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("include", _) => {}
                ("service", DeValue::Table(services)) => {
                    for (name, value) in services {
                        self.take_service(file, path, name.get_ref(), name.span(), value);
                    }
                }
                ("daemon", DeValue::Table(inner)) => {
                    let section = self.section(file, path, keys::DAEMON, inner, "[daemon]", spot);
                    keep(&mut self.sections.daemon, section, "[daemon]", self.report);
                }
                ("log", DeValue::Table(inner)) => {
                    let section = self.section(file, path, keys::LOG, inner, "[log]", spot);
                    keep(&mut self.sections.log, section, "[log]", self.report);
                }
                ("wrap", DeValue::Table(inner)) => {
                    let section = self.section(file, path, keys::WRAP, inner, "[wrap]", spot);
                    keep(&mut self.sections.wrap, section, "[wrap]", self.report);
                }
                ("defaults", DeValue::Table(inner)) => {
                    let section = self.section(file, path, keys::SERVICE, inner, "[defaults]", spot);
                    keep(&mut self.sections.defaults, section, "[defaults]", self.report);
                }
                ("sets", DeValue::Table(inner)) => {
                    let mut all = std::mem::take(&mut self.sections.sets);
                    names::sets(&mut context(self, file, path, false), inner, &mut all);
                    self.sections.sets = all;
                }
                ("hours", DeValue::Table(inner)) => {
                    let mut all = std::mem::take(&mut self.sections.hours);
                    names::hours(&mut context(self, file, path, false), inner, &mut all);
                    self.sections.hours = all;
                }
                (other, _) => self.take_other(file, path, other, name.span(), value),
            }
        }
        // Last, so that what stands here comes before what is included.
        if let Some(value) = table.get("include") {
            self.include(file, path, value);
        }
    }

    /// What is no table of this version, or not a table.
    fn take_other(
        &mut self,
        file: usize,
        path: &Path,
        name: &str,
        at: std::ops::Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let mut cx = context(self, file, path, false);
        match keys::find(keys::TOP, name) {
            None if cx.report.is_broken(file) => {}
            None => reader::unknown_key(&mut cx, keys::TOP, name, at, "the configuration"),
            Some(Key { service: Served::Now, kind, .. }) => mistype::wrong_type(&mut cx, name, *kind, value),
            Some(_) => {
                cx.error(
                    "not-served-yet",
                    at,
                    format!("this version of superd does not serve `[{name}]` yet"),
                    None,
                );
            }
        }
    }

    fn section(
        &mut self,
        file: usize,
        path: &Path,
        keys: &'static [Key],
        table: &DeTable<'_>,
        title: &str,
        spot: Spot,
    ) -> Section {
        let inherits = std::ptr::eq(keys, keys::SERVICE);
        let mut cx = context(self, file, path, inherits);
        Section { values: reader::section(&mut cx, keys, table, title), spot }
    }

    fn take_service(
        &mut self,
        file: usize,
        path: &Path,
        name: &str,
        at: std::ops::Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let spot = Spot { file, range: at.clone() };
        let DeValue::Table(table) = value.get_ref() else {
            let mut cx = context(self, file, path, false);
            let hint = format!("a service has a table: `[service.{name}]`");
            cx.error("type", at, format!("`service.{name}` is not a table"), Some(hint));
            return;
        };
        let section =
            self.section(file, path, keys::SERVICE, table, &format!("service {name}"), spot.clone());
        match ServiceName::new(name) {
            Err(why) => self.report.add(Diagnostic::error("service-name", &spot, why.to_string())),
            Ok(name) => match self.sections.services.get(&name) {
                Some(first) => self.report.add(twice(&format!("service {name}"), &section.spot, &first.spot)),
                None => {
                    self.sections.services.insert(name, section);
                }
            },
        }
    }

    fn include(&mut self, file: usize, path: &Path, value: &Spanned<DeValue<'_>>) {
        let Some(items) = value.get_ref().as_array() else {
            let mut cx = context(self, file, path, false);
            mistype::wrong_type(&mut cx, "include", keys::Kind::Include, value);
            return;
        };
        for item in items {
            let spot = Spot { file, range: item.span() };
            if let Some(text) = item.get_ref().as_str() {
                self.include_pattern(path, text, &spot);
            } else {
                let mut cx = context(self, file, path, false);
                mistype::wrong_type(&mut cx, "include", keys::Kind::Include, item);
            }
        }
    }

    fn include_pattern(&mut self, from: &Path, text: &str, spot: &Spot) {
        let whole = from.parent().unwrap_or(Path::new("")).join(text);
        let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
        let folder = whole.parent().unwrap_or(Path::new("")).to_owned();
        let Some(pattern) = name else {
            self.report.add(Diagnostic::error("include", spot, format!("`{text}` names no file")));
            return;
        };
        if folder.to_string_lossy().contains('*') {
            let diagnostic = Diagnostic::error("include", spot, "`*` may stand in the last component alone");
            return self.report.add(diagnostic.hint("include each folder by its name"));
        }
        if !pattern.contains('*') {
            return self.include_file(&whole, spot);
        }
        match self.files.list(&folder) {
            Err(problem) => {
                let message = format!("can't read the folder {}: {problem}", folder.display());
                self.report.add(Diagnostic::error("unreadable", spot, message));
            }
            Ok(mut names) => {
                names.retain(|name| files::pattern_wants(&pattern, name));
                names.sort();
                for name in &names {
                    self.include_file(&folder.join(name), spot);
                }
            }
        }
    }

    fn include_file(&mut self, path: &Path, spot: &Spot) {
        let file = match self.files.read(path) {
            Ok(file) => file,
            Err(problem) => {
                let message = format!("can't include {}: {problem}", path.display());
                return self.report.add(Diagnostic::error("unreadable", spot, message));
            }
        };
        if let Some(at) = self.chain.iter().position(|(_, id)| *id == file.id) {
            let mut names: Vec<String> =
                self.chain.iter().skip(at).map(|(path, _)| path.display().to_string()).collect();
            names.push(path.display().to_string());
            let message = format!("includes go in a circle: {}", names.join(" → "));
            return self.report.add(Diagnostic::error("include-cycle", spot, message));
        }
        if let Some((_, first)) = self.done.iter().find(|(id, _)| *id == file.id) {
            let message = format!("{} is included twice", path.display());
            let hint = format!("it was read already, as {}", first.display());
            return self.report.add(Diagnostic::error("include", spot, message).hint(hint));
        }
        if self.chain.len() >= MAX_DEPTH {
            let message = format!("includes are nested more than {MAX_DEPTH} deep");
            return self.report.add(Diagnostic::error("include", spot, message));
        }
        self.take_file(path, file, Some(spot));
    }
}

fn context<'c>(collector: &'c mut Collector<'_>, file: usize, path: &Path, inherits: bool) -> Context<'c> {
    let folder = collector.situation.cwd.join(path.parent().unwrap_or(Path::new("")));
    Context {
        report: collector.report,
        files: collector.files,
        situation: collector.situation,
        file,
        folder,
        inherits,
    }
}

fn keep(place: &mut Option<Section>, section: Section, title: &str, report: &mut Report) {
    match place {
        Some(first) => report.add(twice(title, &section.spot, &first.spot)),
        None => *place = Some(section),
    }
}

fn twice(what: &str, second: &Spot, first: &Spot) -> Diagnostic {
    Diagnostic::error("twice", second, format!("{what} stands twice"))
        .label("here again")
        .also(first, "here first")
        .hint("put all its keys in one place")
}
