//! The command line: superwrap by its own name with options and a program, or by another name, which is then that of
//! the program, as tcpd has it.
//!
//! Read by hand: it stands before every connection, and a library for it costs as much as the decision.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const OWN_NAME: &[u8] = b"superwrap";

const USAGE: &str = "usage: superwrap [--policy FILE] [--state FILE] [--service NAME] PROGRAM [ARGUMENT...]";

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) enum Wanted<T> {
    /// To decide, and to run a program.
    Run(T),
    /// A text.
    Say(String),
}

/// A decision that is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Arguments {
    /// In place of /etc/superwrap.toml.
    pub(super) policy: Option<PathBuf>,
    /// In place of the policy's own.
    pub(super) state: Option<PathBuf>,
    /// The service, as the log and the hosts files call it.
    pub(super) service: String,
    /// Is it the name of superwrap itself that says the program?
    pub(super) by_name: bool,
    /// The program and its arguments, beginning with `argv[0]`.
    pub(super) argv: Vec<OsString>,
}

/// Reads the command line. With rights that are lent, options would be a stranger's word on what is decided.
pub(super) fn read(
    mut all: impl Iterator<Item = OsString>,
    is_lent: bool,
) -> Result<Wanted<Arguments>, String> {
    let own = all.next().unwrap_or_default();
    if base(&own) != OWN_NAME && !own.is_empty() {
        let service = service_of(&own);
        let argv = std::iter::once(own).chain(all).collect();
        return Ok(Wanted::Run(Arguments { policy: None, state: None, service, by_name: true, argv }));
    }
    let (mut policy, mut state, mut service) = (None, None, None);
    let mut rest = all.peekable();
    while let Some(word) = rest.next_if(|word| word.as_bytes().starts_with(b"-") && word != "-") {
        let (name, value) = split(&word);
        match name {
            b"--" => break,
            b"--help" | b"-h" => return Ok(Wanted::Say(USAGE.to_owned())),
            b"--version" | b"-V" => {
                return Ok(Wanted::Say(format!("superwrap {}", env!("CARGO_PKG_VERSION"))));
            }
            b"--policy" | b"--state" | b"--service" if is_lent => {
                return Err(format!(
                    "{}: not where superwrap is installed set-user-ID or set-group-ID",
                    word.display()
                ));
            }
            b"--policy" | b"--state" | b"--service" => {
                let value = value.map(OsStr::to_owned).or_else(|| rest.next());
                let value = value.ok_or_else(|| format!("{} needs a value\n{USAGE}", word.display()))?;
                match name {
                    b"--policy" => policy = Some(PathBuf::from(value)),
                    b"--state" => state = Some(PathBuf::from(value)),
                    _ => service = Some(value.to_string_lossy().into_owned()),
                }
            }
            _ => return Err(format!("there is no option {}\n{USAGE}", word.display())),
        }
    }
    let argv: Vec<OsString> = rest.collect();
    let program = argv.first().filter(|program| !program.is_empty()).ok_or(USAGE)?;
    let service = service.unwrap_or_else(|| service_of(program));
    Ok(Wanted::Run(Arguments { policy, state, service, by_name: false, argv }))
}

/// `--name=value`
fn split(word: &OsStr) -> (&[u8], Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=').and_then(|at| bytes.split_at_checked(at)) {
        Some((name, value)) => (name, value.get(1..).map(OsStr::from_bytes)),
        None => (bytes, None),
    }
}

/// The last component, and without the `-` that makes a shell a login shell.
fn base(program: &OsStr) -> &[u8] {
    let bytes = program.as_bytes();
    let base = bytes.rsplit(|byte| *byte == b'/').next().unwrap_or(bytes);
    base.strip_prefix(b"-").unwrap_or(base)
}

fn service_of(program: &OsStr) -> String {
    String::from_utf8_lossy(base(program)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(words: &[&str], is_lent: bool) -> Result<Wanted<Arguments>, String> {
        read(words.iter().map(OsString::from), is_lent)
    }

    #[test]
    fn command_lines_are_read() {
        for (words, expected) in [
            (&["superwrap", "/bin/cat", "-n"][..], ("cat", false, None, &["/bin/cat", "-n"][..])),
            (&["/usr/sbin/superwrap", "--service", "x", "--", "-p"], ("x", false, None, &["-p"])),
            (
                &["superwrap", "--policy=/p", "--service=y", "p", "--policy"],
                ("y", false, Some("/p"), &["p", "--policy"]),
            ),
            (&["-superwrap", "sh"], ("sh", false, None, &["sh"])),
            (&["in.telnetd", "-h"], ("in.telnetd", true, None, &["in.telnetd", "-h"])),
            (&["/usr/sbin/in.ftpd"], ("in.ftpd", true, None, &["/usr/sbin/in.ftpd"])),
        ] {
            let Ok(Wanted::Run(arguments)) = read_all(words, false) else { panic!("{words:?}") };
            let policy = arguments.policy.as_deref().and_then(|path| path.to_str());
            assert_eq!(
                (arguments.service.as_str(), arguments.by_name, policy),
                (expected.0, expected.1, expected.2)
            );
            assert_eq!(arguments.argv, expected.3);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (words, is_lent, message) in [
            (&["superwrap"][..], false, USAGE),
            (&["superwrap", "--service", "x"], false, USAGE),
            (&["superwrap", "--policy"], false, "--policy needs a value"),
            (&["superwrap", "--polcy", "x"], false, "there is no option --polcy"),
            (&["superwrap", "--policy", "/mine", "sh"], true, "set-user-ID"),
            (&["superwrap", "--service=open", "sh"], true, "set-user-ID"),
            (&["superwrap", "--state=/mine", "sh"], true, "set-user-ID"),
        ] {
            let error = read_all(words, is_lent).err().unwrap_or_default();
            assert!(error.contains(message), "{words:?}: {error}");
        }
        assert!(read_all(&["superwrap", "sh"], true).is_ok());
    }
}
