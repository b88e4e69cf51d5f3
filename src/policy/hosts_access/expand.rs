//! `%a`, `%h`, `%u` and the like in commands and values: text to template, template to text.
//!
//! What comes from outside is cleaned: a shell finds nothing in it that it would act on. Knows nothing of
//! processes; the caller says which pid `%p` is.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::host::HostName;

use super::pattern::Bad;
use super::request::{End, Facts, Naming, Need, Request, User};

/// A longer text is not made: the kernel takes no argument of 128 KiB, and no admin means one of 8.
const MAX_TEXT: usize = 8192;

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Piece {
    Text(String),
    Value(Letter),
}

/// What is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Letter {
    /// `%a`, `%A`
    Address(Side),
    /// `%h`, `%H`: the name if it is known, else the address.
    Host(Side),
    /// `%n`, `%N`
    Name(Side),
    /// `%r`, `%R`
    Port(Side),
    /// `%c`: `user@host`.
    Client,
    /// `%s`: `daemon@host`.
    Server,
    /// `%d`
    Daemon,
    /// `%p`
    Pid,
    /// `%u`
    User,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Side {
    Client,
    Local,
}

impl Side {
    fn end(self) -> End {
        match self {
            Self::Client => End::Client,
            Self::Local => End::Local,
        }
    }
}

/// The text would be longer than 8 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text is longer than {MAX_TEXT} bytes after its expansion")
    }
}

impl std::error::Error for TooLong {}

/// What templates are filled with.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Who came to what.
    pub request: &'a Request<'a>,
    /// What is known of it.
    pub facts: &'a Facts,
    /// The process that serves, or decides.
    pub pid: u32,
}

impl Template {
    /// Reads the file of a banner; the error is for an admin.
    pub fn of_banner(text: &str) -> Result<Self, String> {
        let wrong = |at: usize| {
            let line = text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
            format!("line {line}: a `%` that means nothing; `%%` is one")
        };
        Self::parse(text).map_err(|(at, _)| wrong(at))
    }

    /// Reads a text that stands in no table, as a banner's; `None` where a `%` in it means nothing.
    pub fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// Reads a text; the error tells where the `%` is that means nothing.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, Bad)> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut characters = text.char_indices();
        while let Some((at, c)) = characters.next() {
            if c != '%' {
                plain.push(c);
                continue;
            }
            match characters.next() {
                Some((_, '%')) => plain.push('%'),
                Some((_, c)) => {
                    let letter = letter(c).ok_or_else(|| (at, unknown_letter(c)))?;
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Value(letter));
                }
                None => return Err((at, Bad::new("a `%` at the end", LETTERS))),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// What must be looked up before it can be filled in. `%h`, `%c` and `%s` make do with what is known.
    pub(super) fn need(&self, facts: &Facts) -> Option<Need> {
        self.0.iter().find_map(|piece| match piece {
            Piece::Value(Letter::Name(side)) if facts.name(side.end()).is_none() => {
                Some(Need::Name(side.end()))
            }
            Piece::Value(Letter::User) if facts.user.is_none() => Some(Need::User(None)),
            _ => None,
        })
    }

    /// The text with everything filled in and cleaned: what is not in `A-Za-z0-9!@%-_=+:,./` becomes `_`,
    /// and so does a `-` in front, which a program would take for an option.
    pub fn expand(&self, values: &Values<'_>) -> Result<String, TooLong> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Value(letter) => text.push_str(&clean(&values.value(*letter))),
            }
            if text.len() > MAX_TEXT {
                return Err(TooLong);
            }
        }
        Ok(text)
    }

    /// The expanded text as a command, for the exec of a shell.
    pub fn shell_command(&self, values: &Values<'_>) -> Result<[String; 3], TooLong> {
        Ok(["/bin/sh".to_owned(), "-c".to_owned(), self.expand(values)?])
    }
}

const LETTERS: &str = "there are %a %A %c %d %h %H %n %N %p %r %R %s %u, and %% for `%`";

fn unknown_letter(c: char) -> Bad {
    Bad::new(format!("`%{c}` means nothing"), LETTERS)
}

fn letter(c: char) -> Option<Letter> {
    Some(match c {
        'a' => Letter::Address(Side::Client),
        'A' => Letter::Address(Side::Local),
        'h' => Letter::Host(Side::Client),
        'H' => Letter::Host(Side::Local),
        'n' => Letter::Name(Side::Client),
        'N' => Letter::Name(Side::Local),
        'r' => Letter::Port(Side::Client),
        'R' => Letter::Port(Side::Local),
        'c' => Letter::Client,
        's' => Letter::Server,
        'd' => Letter::Daemon,
        'p' => Letter::Pid,
        'u' => Letter::User,
        _ => return None,
    })
}

fn clean(value: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "!@%-_=+:,./".contains(c);
    let cleaned = value.chars().map(|c| if safe(c) { c } else { '_' }).collect::<String>();
    match cleaned.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => cleaned,
    }
}

impl Values<'_> {
    fn value(&self, letter: Letter) -> Cow<'_, str> {
        match letter {
            Letter::Address(side) => self.address(side.end()).into(),
            Letter::Host(side) => self.host(side.end()),
            Letter::Name(side) => self.name(side.end()).into(),
            Letter::Port(side) => self.port(side.end()).into(),
            Letter::Client => self.at_host(self.user(), End::Client),
            Letter::Server => self.at_host(Some(self.request.daemon), End::Local),
            Letter::Daemon => self.request.daemon.into(),
            Letter::Pid => self.pid.to_string().into(),
            Letter::User => self.user().unwrap_or("unknown").into(),
        }
    }

    fn address(&self, end: End) -> String {
        self.request.address(end).map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    fn port(&self, end: End) -> String {
        let address = match end {
            End::Client => self.request.client,
            End::Local => self.request.local,
        };
        address.map_or_else(|| "unknown".to_owned(), |address| address.port().to_string())
    }

    fn name(&self, end: End) -> &str {
        match self.facts.name(end) {
            Some(Naming::Paranoid) => "paranoid",
            naming => confirmed(naming).unwrap_or("unknown"),
        }
    }

    fn host(&self, end: End) -> Cow<'_, str> {
        let name = confirmed(self.facts.name(end));
        name.map_or_else(|| self.address(end).into(), Cow::from)
    }

    fn user(&self) -> Option<&str> {
        match &self.facts.user {
            Some(User::Known(user)) => Some(user),
            _ => None,
        }
    }

    /// `who@host`, or the one of both that is known. The user is the client's word, the `@` is ours.
    fn at_host<'v>(&'v self, who: Option<&'v str>, end: End) -> Cow<'v, str> {
        let host = self.host(end);
        match who {
            Some(who) if end == End::Local && host == "unknown" => who.into(),
            Some(who) => format!("{who}@{host}").into(),
            None => host,
        }
    }
}

fn confirmed(naming: Option<&Naming>) -> Option<&str> {
    match naming {
        Some(Naming::Confirmed(names)) => names.first().map(HostName::as_str),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_filled_in() {
        check("plain, 100%%", "plain, 100%");
        check("%a %h %n %r", "192.0.2.7 pc1.example.org pc1.example.org 4711");
        check("%A %H %N %R", "2001:db8::1 2001:db8::1 unknown 79");
        check("%c %s %d %p %u", "joe@pc1.example.org in.fingerd@2001:db8::1 in.fingerd 12 joe");
        check("%%a", "%a");
    }

    #[track_caller]
    fn check(template: &str, expected: &str) {
        let facts = facts(User::named("joe"));
        assert_eq!(expand(template, &facts).as_deref(), Ok(expected));
    }

    /// What would be code for a shell, an option for a program, or a second expansion.
    #[test]
    fn values_are_cleaned() {
        for (user, expected) in [
            ("a;b", "a_b"),
            ("ro\x1b[31mot;`id`", "ro__31mot__id_"),
            ("$(id)>x|y&z\n'\"\\*?~#<{}", "__id__x_y_z___________"),
            ("-rf", "_rf"),
            ("--", "_-"),
            ("%a", "%a"),
            ("é", "_"),
        ] {
            assert_eq!(expand("%u", &facts(User::named(user))).as_deref(), Ok(expected), "{user:?}");
        }
        let values = facts(User::named("$(id)"));
        let request = request();
        let values = Values { request: &request, facts: &values, pid: 1 };
        let command = Template::parse("echo %u").unwrap().shell_command(&values);
        assert_eq!(command.unwrap(), ["/bin/sh", "-c", "echo __id_"]);
    }

    #[test]
    fn what_is_not_known_has_a_word() {
        let request = Request { daemon: "x", client: None, local: None };
        let values = Values { request: &request, facts: &Facts::default(), pid: 0 };
        let text = Template::parse("%a %h %n %r %c %s %u").unwrap().expand(&values);
        assert_eq!(text.as_deref(), Ok("unknown unknown unknown unknown unknown x unknown"));
    }

    #[test]
    fn names_and_users_are_asked_for() {
        for (text, expected) in [
            ("%a %h %c %s", None),
            ("%n", Some(Need::Name(End::Client))),
            ("%N", Some(Need::Name(End::Local))),
            ("%u", Some(Need::User(None))),
        ] {
            assert_eq!(Template::parse(text).unwrap().need(&Facts::default()), expected, "{text}");
        }
        assert_eq!(Template::parse("%n %u").unwrap().need(&facts(User::Failed)), None);
    }

    #[test]
    fn bounds_hold() {
        let facts = facts(User::named(&"x".repeat(5000)));
        assert!(expand("%u", &facts).is_ok());
        assert_eq!(expand("%u%u", &facts), Err(TooLong));
        for (text, at) in [("a %z", 2), ("%", 0), ("%%%", 2), ("%é", 0)] {
            assert_eq!(Template::parse(text).unwrap_err().0, at, "{text}");
        }
    }

    fn expand(template: &str, facts: &Facts) -> Result<String, TooLong> {
        let request = request();
        Template::parse(template).unwrap().expand(&Values { request: &request, facts, pid: 12 })
    }

    fn request() -> Request<'static> {
        let (client, local) = ("[::ffff:192.0.2.7]:4711".parse().ok(), "[2001:db8::1]:79".parse().ok());
        Request { daemon: "in.fingerd", client, local }
    }

    fn facts(user: User) -> Facts {
        let client_name = Some(Naming::confirmed(["pc1.example.org"]));
        Facts { client_name, user: Some(user), ..Facts::default() }
    }
}
