//! `superd check`: all that is wrong in configurations, without running them.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::diagnostic::Report;
use crate::roles::loader::load::{check_on_disk, read_from_disk, situation};
use crate::wrap;

/// Checks configurations.
///
/// Looks nothing up, and so needs neither root nor the machine that the configuration is for. Judges as for
/// root. Ends with 0 if all is well, 1 if there are errors.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Look up users, groups, ports and programs too
    #[arg(long)]
    pub resolve: bool,
    /// Judge as for a superd that does not run as root
    #[arg(long)]
    pub unprivileged: bool,
    /// Each is a policy of superwrap, not a configuration of superd
    #[arg(long)]
    pub policy: bool,
    /// Each is a whole configuration
    #[arg(default_value = "/etc/superd.toml")]
    pub files: Vec<PathBuf>,
}

/// Runs `superd check`.
pub fn run_check(args: &CheckArgs) -> ExitCode {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut good = true;
    for file in &args.files {
        let report = check(file, args);
        good &= !report.has_errors();
        // Where nobody can be told, the exit status still says it.
        let _ = std::io::stderr().write_all(describe(file, &report, colour).as_bytes());
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(file: &Path, args: &CheckArgs) -> Report {
    let situation = situation(!args.unprivileged);
    if args.policy {
        return wrap::check_policy(file, args.resolve, &situation);
    }
    if args.resolve { check_on_disk(file, &situation) } else { read_from_disk(file, &situation).1 }
}

/// Every diagnostic, and one line with their number; nothing for a configuration without any.
pub fn describe(file: &Path, report: &Report, colour: bool) -> String {
    let mut text = String::new();
    for diagnostic in report.rendered(colour) {
        text.push_str(&diagnostic);
        text.push_str("\n\n");
    }
    let (errors, warnings) = report.counts();
    let count = |n: usize, what: &str| match n {
        0 => None,
        1 => Some(format!("1 {what}")),
        n => Some(format!("{n} {what}s")),
    };
    let counts: Vec<String> =
        [count(errors, "error"), count(warnings, "warning")].into_iter().flatten().collect();
    if !counts.is_empty() {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}: {}", file.display(), counts.join(" and "));
    }
    text
}
