//! hosts.allow and hosts.deny, read and compiled where a load may hang.

use std::path::Path;

use crate::config::access::HostsAccess;
use crate::config::admit;
use crate::config::diagnostic::{Diagnostic, Report, Spot};
use crate::config::draft::Draft;
use crate::config::files::{self, FileProblem, Files};
use crate::config::resolve::System;
use crate::config::situation::Situation;
use crate::policy::hosts_access::{Surroundings, TableText, Tables};
use crate::protocol::tables::HostsFiles;

/// Compiles the files of all services, each pair once. Without a system, users are not looked up.
pub fn compile(
    draft: &Draft,
    files: &dyn Files,
    system: Option<&dyn System>,
    situation: &Situation,
    report: &mut Report,
) -> Vec<(HostsFiles, Tables)> {
    let mut asked: Vec<HostsFiles> = Vec::new();
    let mut compiled = Vec::new();
    let mut disk = Disk { files, system, situation };
    for service in &draft.services {
        let Some(said) = admit::hosts_access(&service.values) else { continue };
        let pair = (said.allow.clone(), said.deny.clone());
        let Some(spot) = service.values.spot(("", "hosts_access")).filter(|_| !asked.contains(&pair)) else {
            continue;
        };
        let tables = disk.tables(&said, spot, report);
        compiled.extend(tables.map(|tables| (pair.clone(), tables)));
        asked.push(pair);
    }
    compiled
}

/// Compiles one pair of files, whoever names it.
pub fn compile_pair(
    pair: &HostsAccess,
    files: &dyn Files,
    situation: &Situation,
    report: &mut Report,
) -> Option<Tables> {
    let nowhere = Spot { file: 0, range: 0..0 };
    Disk { files, system: None, situation }.tables(pair, &nowhere, report)
}

struct Disk<'d> {
    files: &'d dyn Files,
    system: Option<&'d dyn System>,
    situation: &'d Situation,
}

impl Disk<'_> {
    fn tables(&mut self, said: &HostsAccess, spot: &Spot, report: &mut Report) -> Option<Tables> {
        let disk = &*self;
        let mut table = |path: &Path, default: &str| match disk.bytes(path) {
            Ok(bytes) => Some(Some(bytes)),
            // As libwrap has it: without a file there are no rules. One that is named must be there.
            Err(Problem::Missing) if path == Path::new(default) => Some(None),
            Err(problem) => {
                let message = format!("`hosts_access`: can't use {}: {problem}", path.display());
                report.add(Diagnostic::error(problem.code(), spot, message));
                None
            }
        };
        let allow = table(&said.allow, "/etc/hosts.allow");
        let deny = table(&said.deny, "/etc/hosts.deny");
        let (allow, deny) = (allow?, deny?);
        let names = (said.allow.display().to_string(), said.deny.display().to_string());
        Tables::compile(
            (&names.0, table_text(allow.as_deref())),
            (&names.1, table_text(deny.as_deref())),
            self,
            report,
        )
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, Problem> {
        let file = self.files.read(path).map_err(|problem| match problem {
            FileProblem::Missing => Problem::Missing,
            other => Problem::Unreadable(other.to_string()),
        })?;
        match files::distrust(&file, self.situation) {
            Some(why) => Err(Problem::Untrusted(why)),
            None => Ok(file.bytes),
        }
    }
}

fn table_text(bytes: Option<&[u8]>) -> TableText<'_> {
    bytes.map_or(TableText::Missing, TableText::Text)
}

impl Surroundings for Disk<'_> {
    fn read(&mut self, path: &str) -> Result<Vec<u8>, String> {
        self.bytes(Path::new(path)).map_err(|problem| problem.to_string())
    }

    fn has_user(&mut self, name: &str) -> bool {
        // Who can't be asked for is missed where the command is run.
        self.system.is_none_or(|system| !matches!(system.user(name), Ok(None)))
    }

    fn has_group(&mut self, name: &str) -> bool {
        self.system.is_none_or(|system| !matches!(system.group(name), Ok(None)))
    }
}

/// Why a file can't be used.
enum Problem {
    Missing,
    Unreadable(String),
    Untrusted(String),
}

impl Problem {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing | Self::Unreadable(_) => "unreadable",
            Self::Untrusted(_) => "untrusted",
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => FileProblem::Missing.fmt(f),
            Self::Unreadable(why) | Self::Untrusted(why) => f.write_str(why),
        }
    }
}
