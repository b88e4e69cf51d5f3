//! The options of `hosts_options(5)`, from the third field on: text to actions and a last word.
//!
//! libwrap reads an option only when a client has matched the rule; here each is read at load, and a wrong one
//! is an error. Knows nothing of how actions are done.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Surroundings;
use super::expand::Template;
use super::pattern::Bad;

/// What is done for a client that a rule matched, in the order of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// `severity`: how this event is logged.
    Severity {
        /// The syslog facility, if it is said.
        facility: Option<String>,
        /// The syslog level.
        level: String,
    },
    /// `spawn`: a shell command beside the service, with standard descriptors on /dev/null.
    Spawn(Template),
    /// `banners`: the file of the daemon's name in this directory is sent, its own `%` expanded.
    Banners(String),
    /// `keepalive`: `SO_KEEPALIVE` is set.
    KeepAlive,
    /// `linger`: `SO_LINGER` is set to so many seconds.
    Linger(u32),
    /// `rfc931`: the user is looked up, within that time.
    Rfc931(Option<Duration>),
    /// `nice`: added to the program's niceness.
    Nice(i32),
    /// `setenv`: a variable for the program.
    SetEnv {
        /// Its name.
        name: String,
        /// Its value.
        value: Template,
    },
    /// `umask` of the program.
    Umask(u32),
    /// `user`, or `user.group`: who the program runs as.
    User {
        /// The user.
        user: String,
        /// The group, if it is not the user's own.
        group: Option<String>,
    },
    /// `group`: the group that the program runs as.
    Group(String),
}

impl Action {
    /// Its word, if it is about the process that a client is served by.
    pub fn of_process(&self) -> Option<&'static str> {
        Some(match self {
            Self::Nice(_) => "nice",
            Self::SetEnv { .. } => "setenv",
            Self::Umask(_) => "umask",
            Self::User { .. } => "user",
            Self::Group(_) => "group",
            _ => return None,
        })
    }
}

/// The option that ends a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// `allow`
    Allow,
    /// `deny`
    Deny,
    /// `twist`: this shell command runs in place of the service.
    Twist(Template),
}

enum Word {
    Action(Action),
    Ending(Ending),
}

const FACILITIES: [&str; 17] = [
    "kern", "user", "mail", "daemon", "auth", "lpr", "news", "uucp", "cron", "local0", "local1", "local2",
    "local3", "local4", "local5", "local6", "local7",
];

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// What is said where `nice` has no value.
const NICE: i32 = 10;

/// Reads the options of a rule. `options` begins after the `:` that ends the list of clients; `wrong` hears what
/// is wrong, and where in `options`.
pub(super) fn options(
    options: &str,
    surroundings: &mut dyn Surroundings,
    wrong: &mut dyn FnMut(Range<usize>, Bad),
) -> (Vec<Action>, Option<Ending>) {
    let (mut actions, mut ending) = (Vec::new(), None);
    for range in fields(options) {
        let field = options.get(range.clone()).unwrap_or_default();
        if ending.is_some() {
            let message = "an option after the one that ends the rule";
            wrong(range, Bad::new(message, "allow, deny and twist stand last"));
            break;
        }
        match option(field, surroundings) {
            Ok(Word::Action(action)) => actions.push(action),
            Ok(Word::Ending(last)) => ending = Some(last),
            Err(bad) => wrong(range, bad),
        }
    }
    (actions, ending)
}

/// Where the fields between colons stand, without the blanks around them; `\:` is no border.
fn fields(options: &str) -> Vec<Range<usize>> {
    let mut borders = Vec::new();
    let mut before = 0;
    for (at, byte) in options.bytes().enumerate() {
        if byte == b':' && before != b'\\' {
            borders.push(at);
        }
        before = byte;
    }
    let starts = [0].into_iter().chain(borders.iter().map(|at| at + 1));
    let ends = borders.iter().copied().chain([options.len()]);
    starts.zip(ends).map(|(start, end)| trimmed(options, start..end)).collect()
}

fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let field = text.get(range.clone()).unwrap_or_default();
    let start = range.start + (field.len() - field.trim_start().len());
    start..start + field.trim().len()
}

fn option(field: &str, surroundings: &mut dyn Surroundings) -> Result<Word, Bad> {
    let field = field.replace("\\:", ":");
    let end = field.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(field.len());
    let (keyword, rest) = field.split_at(end);
    let rest = rest.trim_start();
    let value = rest.strip_prefix('=').unwrap_or(rest).trim();
    let keyword = keyword.to_ascii_lowercase();
    let action = match keyword.as_str() {
        "allow" => return none(value, "allow").map(|()| Word::Ending(Ending::Allow)),
        "deny" => return none(value, "deny").map(|()| Word::Ending(Ending::Deny)),
        "twist" => return Ok(Word::Ending(Ending::Twist(template(some(value, "twist a command")?)?))),
        "spawn" => Action::Spawn(template(some(value, "spawn a command")?)?),
        "severity" => severity(some(value, "severity mail.info")?)?,
        "banners" => Action::Banners(folder(some(value, "banners /a/folder")?)?),
        "keepalive" => none(value, "keepalive").map(|()| Action::KeepAlive)?,
        "linger" => Action::Linger(number(value, 0..=65535, "linger", "seconds, 0 to 65535")?),
        "rfc931" if value.is_empty() => Action::Rfc931(None),
        "rfc931" => {
            let seconds: u32 = number(value, 1..=3600, "rfc931", "seconds, 1 to 3600")?;
            Action::Rfc931(Some(Duration::from_secs(seconds.into())))
        }
        "nice" if value.is_empty() => Action::Nice(NICE),
        "nice" => Action::Nice(number(value, -40..=40, "nice", "a number from -40 to 40")?),
        "setenv" => variable(some(value, "setenv NAME value")?)?,
        "umask" => Action::Umask(umask(value)?),
        "user" => user(some(value, "user name")?, surroundings)?,
        "group" => Action::Group(group(some(value, "group name")?, surroundings)?),
        other => return Err(no_option(other)),
    };
    Ok(Word::Action(action))
}

fn no_option(keyword: &str) -> Bad {
    match keyword {
        "" => Bad::new("an empty option", "remove the `:`: libwrap refuses every client of such a rule"),
        "aclexec" => Bad::new(
            "`aclexec` is not served",
            "a command that fails makes libwrap skip the rest of the file, and allow; write rules instead",
        ),
        word if word.starts_with(['(', '/']) => Bad::new(
            format!("`{word}` is no option"),
            "a command of the original language is written `spawn COMMAND`",
        ),
        word => {
            Bad::new(format!("no option `{word}`"), "hosts_options(5) lists them; in a command write `\\:`")
        }
    }
}

fn none(value: &str, keyword: &str) -> Result<(), Bad> {
    let bad = || Bad::new(format!("`{keyword}` has no value"), "options are separated by `:`");
    value.is_empty().then_some(()).ok_or_else(bad)
}

fn some<'v>(value: &'v str, example: &'static str) -> Result<&'v str, Bad> {
    let keyword = example.split(' ').next().unwrap_or_default();
    let bad = || Bad::new(format!("`{keyword}` needs a value, as in `{example}`"), "");
    (!value.is_empty()).then_some(value).ok_or_else(bad)
}

fn template(text: &str) -> Result<Template, Bad> {
    Template::parse(text).map_err(|(_, bad)| bad)
}

fn number<N>(
    text: &str,
    within: std::ops::RangeInclusive<N>,
    what: &str,
    hint: &'static str,
) -> Result<N, Bad>
where
    N: std::str::FromStr + PartialOrd,
{
    let bad = || Bad::new(format!("`{what}` can't be `{text}`"), hint);
    text.parse().ok().filter(|number| within.contains(number)).ok_or_else(bad)
}

fn umask(text: &str) -> Result<u32, Bad> {
    let bad = || Bad::new(format!("`umask` can't be `{text}`"), "an octal number up to 777");
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(text, 8).ok().filter(|mask| digits && *mask <= 0o777).ok_or_else(bad)
}

fn folder(path: &str) -> Result<String, Bad> {
    let bad = || Bad::new(format!("`{path}` is no absolute path"), "write it from `/` on");
    path.starts_with('/').then(|| path.to_owned()).ok_or_else(bad)
}

/// `level` or `facility.level`, in any case.
fn severity(value: &str) -> Result<Action, Bad> {
    let value = value.to_ascii_lowercase();
    let (facility, level) = match value.split_once('.') {
        Some((facility, level)) => (Some(facility), level),
        None => (None, value.as_str()),
    };
    if let Some(odd) = facility.filter(|facility| !FACILITIES.contains(facility)) {
        let hint = "kern user mail daemon auth lpr news uucp cron local0 … local7; there is no authpriv";
        return Err(Bad::new(format!("no syslog facility `{odd}`"), hint));
    }
    if !LEVELS.contains(&level) {
        let hint = "emerg alert crit err warning notice info debug";
        return Err(Bad::new(format!("no syslog level `{level}`"), hint));
    }
    Ok(Action::Severity { facility: facility.map(str::to_owned), level: level.to_owned() })
}

fn variable(value: &str) -> Result<Action, Bad> {
    let (name, value) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(plain) {
        let message = format!("`{name}` can't be the name of a variable");
        return Err(Bad::new(message, "a name and a value, with a blank between them"));
    }
    Ok(Action::SetEnv { name: name.to_owned(), value: template(value.trim())? })
}

fn user(value: &str, surroundings: &mut dyn Surroundings) -> Result<Action, Bad> {
    let (user, group_name) = match value.split_once('.') {
        Some((user, group)) => (user, Some(group)),
        None => (value, None),
    };
    if !surroundings.has_user(user) {
        return Err(Bad::new(format!("no user `{user}`"), ""));
    }
    let group = group_name.map(|name| group(name, surroundings)).transpose()?;
    Ok(Action::User { user: user.to_owned(), group })
}

fn group(name: &str, surroundings: &mut dyn Surroundings) -> Result<String, Bad> {
    let bad = || Bad::new(format!("no group `{name}`"), "");
    surroundings.has_group(name).then(|| name.to_owned()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::*;

    #[test]
    fn options_are_read() {
        let text = |text| Template::parse(text).unwrap();
        let level = |facility: Option<&str>, level: &str| Action::Severity {
            facility: facility.map(str::to_owned),
            level: level.to_owned(),
        };
        check("severity mail.info", vec![level(Some("mail"), "info")]);
        check("SEVERITY=notice", vec![level(None, "notice")]);
        check("spawn echo a\\:b | mail root", vec![Action::Spawn(text("echo a:b | mail root"))]);
        check("spawn [ -f /x ] && y", vec![Action::Spawn(text("[ -f /x ] && y"))]);
        check("keepalive : linger 0", vec![Action::KeepAlive, Action::Linger(0)]);
        check("rfc931", vec![Action::Rfc931(None)]);
        check("rfc931 5", vec![Action::Rfc931(Some(Duration::from_secs(5)))]);
        check("nice:nice -5", vec![Action::Nice(10), Action::Nice(-5)]);
        check("umask 022", vec![Action::Umask(0o22)]);
        check("banners /etc/banners", vec![Action::Banners("/etc/banners".to_owned())]);
        check("setenv A b %a", vec![Action::SetEnv { name: "A".to_owned(), value: text("b %a") }]);
        check("setenv A", vec![Action::SetEnv { name: "A".to_owned(), value: text("") }]);
        let (user, group) = ("nobody".to_owned(), "nogroup".to_owned());
        check("user nobody", vec![Action::User { user: user.clone(), group: None }]);
        check("user nobody.nogroup", vec![Action::User { user, group: Some(group.clone()) }]);
        check("group nogroup", vec![Action::Group(group)]);
    }

    #[track_caller]
    fn check(text: &str, expected: Vec<Action>) {
        let (mut errors, mut world) = (Vec::new(), World::default());
        let read = options(text, &mut world, &mut |_, bad| errors.push(bad));
        assert_eq!((read, errors), ((expected, None), Vec::new()), "{text}");
    }

    #[test]
    fn the_last_option_decides() {
        for (text, expected) in [
            ("ALLOW", Ending::Allow),
            ("keepalive : deny ", Ending::Deny),
            ("twist /bin/echo 421 %a", Ending::Twist(Template::parse("/bin/echo 421 %a").unwrap())),
        ] {
            let read = options(text, &mut World::default(), &mut |_, bad| panic!("{bad:?}"));
            assert_eq!(read.1, Some(expected), "{text}");
        }
    }

    #[test]
    fn wrong_options_are_errors() {
        for (text, range, message) in [
            ("", 0..0, "an empty option"),
            (" allow :", 8..8, "after the one that ends"),
            (" alow ", 1..5, "no option `alow`"),
            ("allow yes", 0..9, "`allow` has no value"),
            ("allow : severity info", 8..21, "after the one that ends"),
            ("twist x : allow", 10..15, "after the one that ends"),
            ("setenv : allow", 0..6, "`setenv` needs a value"),
            ("setenv 1A b", 0..11, "`1A` can't be"),
            ("spawn", 0..5, "`spawn` needs a value"),
            ("spawn echo %z", 0..13, "`%z` means nothing"),
            ("spawn date +%", 0..13, "a `%` at the end"),
            ("severity mail.loud", 0..18, "no syslog level `loud`"),
            ("severity authpriv.info", 0..22, "no syslog facility `authpriv`"),
            ("umask 1022", 0..10, "`umask` can't be `1022`"),
            ("umask", 0..5, "`umask` can't be"),
            ("umask +22", 0..9, "`umask` can't be"),
            ("linger -1", 0..9, "`linger` can't be `-1`"),
            ("rfc931 soon", 0..11, "`rfc931` can't be"),
            ("rfc931 0", 0..8, "`rfc931` can't be"),
            ("nice much", 0..9, "`nice` can't be"),
            ("banners x", 0..9, "no absolute path"),
            ("user no_such_user", 0..17, "no user `no_such_user`"),
            ("user nobody.x", 0..13, "no group `x`"),
            ("(/bin/true) &", 0..13, "is no option"),
            ("aclexec /bin/true", 0..17, "`aclexec` is not served"),
        ] {
            let mut errors = Vec::new();
            let mut world = World::default();
            options(text, &mut world, &mut |range, bad| errors.push((range, bad.message)));
            let [(at, error)] = errors.as_slice() else { panic!("{text}: {errors:?}") };
            assert!(error.contains(message), "{text}: {error}");
            assert_eq!(at, &range, "{text}");
        }
    }
}
