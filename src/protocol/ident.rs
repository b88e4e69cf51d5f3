//! RFC 1413: what is asked of a client's ident server, and what it answers. All of it is hearsay: whoever owns the
//! client's machine makes it say what he likes.

use std::fmt;

use crate::policy::request::Fact;

/// The port that an ident server listens at.
pub const PORT: u16 = 113;

/// More of an answer is not read (RFC 1413, section 4: a user id has 512 octets at most).
pub const MAX_ANSWER: usize = 1000;

/// Bytes of a name that are kept.
const MAX_NAME: usize = 64;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The server names a user.
    User(IdentName),
    /// There is a server, and it names nobody.
    NoUser,
    /// No server, none in time, or one that makes no sense.
    Failed,
}

impl Reply {
    /// As the judge takes it: where nobody is named, nothing is known.
    pub fn fact(&self) -> Fact<&str> {
        match self {
            Self::User(name) => Fact::Known(name.as_str()),
            Self::NoUser | Self::Failed => Fact::Failed,
        }
    }
}

/// A user's name as an ident server says it, made safe for logs, environments and command lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentName(String);

impl IdentName {
    /// Every byte that could mean something to somebody becomes `_`, also a first `-`; what is longer than 64
    /// bytes is cut. Nothing is no name.
    pub fn clean(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..MAX_NAME).unwrap_or(bytes);
        let safe = |(at, byte): (usize, &u8)| if is_safe(at, *byte) { char::from(*byte) } else { '_' };
        let name: String = bytes.iter().enumerate().map(safe).collect();
        (!name.is_empty()).then_some(Self(name))
    }

    /// Takes a name that is clean already.
    pub fn read(text: &str) -> Option<Self> {
        Self::clean(text.as_bytes()).filter(|name| name.as_str() == text)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_safe(at: usize, byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'+' | b'@') || (byte == b'-' && at > 0)
}

impl fmt::Display for IdentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The question about a connection, by its two ports: the client's own first.
pub fn question(client: u16, local: u16) -> String {
    format!("{client} , {local}\r\n")
}

/// Is the answer there, so that no more of it need be read?
pub fn is_complete(answer: &[u8]) -> bool {
    answer.contains(&b'\n') || answer.len() >= MAX_ANSWER
}

/// Reads the answer to the question about these two ports: `PORTS : USERID : SYSTEM : NAME` or
/// `PORTS : ERROR : WHY`. The system is passed over, be it OTHER, and so is its character set: what is not plain
/// ASCII becomes `_`. Blanks around the name are not part of it.
pub fn read(answer: &[u8], client: u16, local: u16) -> Reply {
    let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut fields = line.splitn(4, |byte| *byte == b':').map(<[u8]>::trim_ascii);
    let mut field = || fields.next().unwrap_or_default();
    if !echoes(field(), client, local) {
        return Reply::Failed;
    }
    match field() {
        kind if kind.eq_ignore_ascii_case(b"USERID") => {
            let _system = field();
            IdentName::clean(field()).map_or(Reply::Failed, Reply::User)
        }
        kind if kind.eq_ignore_ascii_case(b"ERROR") => Reply::NoUser,
        _ => Reply::Failed,
    }
}

/// An answer must be about the ports that were asked.
fn echoes(pair: &[u8], client: u16, local: u16) -> bool {
    let mut ports = pair.splitn(2, |byte| *byte == b',').map(|port| {
        let digits = std::str::from_utf8(port.trim_ascii()).ok()?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u16>().ok()).flatten()
    });
    ports.next() == Some(Some(client)) && ports.next() == Some(Some(local))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &[u8], expected: &str) {
        let found = match read(answer, 51234, 79) {
            Reply::User(name) => name.to_string(),
            Reply::NoUser => "(none)".to_owned(),
            Reply::Failed => "(failed)".to_owned(),
        };
        assert_eq!(found, expected, "{}", answer.escape_ascii());
    }

    #[test]
    fn users_are_read() {
        check(b"51234 , 79 : USERID : UNIX : alice\r\n", "alice");
        check(b"51234,79:USERID:UNIX:alice", "alice");
        check(b"  51234 ,79 :userid: UNIX,ISO-8859-1 :alice \n", "alice");
        check(b"51234 , 79 : USERID : OTHER : 0815\r\n", "0815");
        check(b"51234 , 79 : USERID : : root\r\n", "root");
        check(b"51234 , 79 : USERID : UNIX : a:b\r\n", "a_b");
        check(b"51234 , 79 : USERID : UNIX : alice smith\r\n", "alice_smith");
        check(b"51234 , 79 : USERID : UNIX : -rf\r\n", "_rf");
        check(b"51234 , 79 : USERID : UNIX : a-b.c+d@e\r\n", "a-b.c+d@e");
        check(b"51234 , 79 : USERID : UNIX : ro\x1b[31mot;`id`\0\xff\r\n", "ro__31mot__id___");
        check(b"51234 , 79 : USERID : UNIX : alice\rmallory\r\n", "alice");
        let long = [b"51234 , 79 : USERID : UNIX : ", &[b'x'; 300][..], b"\r\n"].concat();
        check(&long, &"x".repeat(64));
    }

    #[test]
    fn errors_name_nobody() {
        for why in ["NO-USER", "HIDDEN-USER", "INVALID-PORT", "UNKNOWN-ERROR", "X-OWN", ""] {
            check(format!("51234 , 79 : ERROR : {why}\r\n").as_bytes(), "(none)");
        }
    }

    #[test]
    fn what_makes_no_sense_has_failed() {
        for answer in [
            "",
            "\r\n",
            "alice\r\n",
            "79 , 51234 : USERID : UNIX : alice\r\n",
            "51234 , 80 : USERID : UNIX : alice\r\n",
            "51234 , 79 , 79 : USERID : UNIX : alice\r\n",
            "+51234 , 79 : USERID : UNIX : alice\r\n",
            "116770 , 79 : USERID : UNIX : alice\r\n",
            "51234 79 : USERID : UNIX : alice\r\n",
            "51234 , 79 : USER : UNIX : alice\r\n",
            "51234 , 79 : USERID : alice\r\n",
            "51234 , 79 : USERID : UNIX : \r\n",
            "\r\n51234 , 79 : USERID : UNIX : alice\r\n",
        ] {
            check(answer.as_bytes(), "(failed)");
        }
    }

    /// Whatever single byte of an answer is another: a name that comes out of it is clean.
    #[test]
    fn mutations_stay_clean() {
        let answer = b"51234 , 79 : USERID : UNIX : alice\r\n";
        for at in 0..answer.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = *answer;
                bytes[at] = byte;
                if let Reply::User(name) = read(&bytes, 51234, 79) {
                    assert_eq!(IdentName::read(name.as_str()), Some(name));
                }
            }
        }
    }

    #[test]
    fn a_question_names_the_clients_port_first() {
        assert_eq!(question(51234, 79), "51234 , 79\r\n");
    }

    #[test]
    fn an_answer_ends() {
        assert!(is_complete(b"x\n"));
        assert!(!is_complete(b"x\r"));
        assert!(is_complete(&[b'x'; MAX_ANSWER]));
    }

    #[test]
    fn the_judge_gets_facts() {
        assert_eq!(Reply::User(IdentName::clean(b"alice").unwrap()).fact(), Fact::Known("alice"));
        assert_eq!((Reply::NoUser.fact(), Reply::Failed.fact()), (Fact::Failed, Fact::Failed));
    }
}
