//! The control socket's language: one JSON object a line, versioned.
//!
//! `{"v":1,"do":"reload"}` is answered by `{"v":1,"ok":true,"reload":{…}}` or `{"v":1,"ok":false,"errors":[…]}`:
//! the answer stands under the word that was asked. The status is the same object as `state_dir/state.json`.
//! superd-control(7) describes it. Knows nothing of sockets, or of who may ask what.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::explain::{Explained, Question};
pub use super::status::{ListenerStatus, ServiceStatus, Status};

/// The version of the language.
pub const VERSION: u32 = 1;

/// The longest request, in bytes, its newline included.
pub const MAX_REQUEST: usize = 4096;

/// The longest reply, in bytes, its newline included.
pub const MAX_REPLY: usize = 16 << 20;

/// What an admin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// The state of everything.
    Status,
    /// Load the configuration again, and say what came of it.
    Reload,
    /// A service's listeners, as the kernel has them.
    Socket {
        /// The service.
        service: String,
    },
    /// Who is banned.
    Bans,
    /// What would become of a client, and why.
    Explain(Question),
    /// Ban somebody.
    Ban {
        /// An address, a network, or `uid:NUMBER`.
        who: String,
        /// From this service; else from all.
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// For so long.
        seconds: u64,
    },
    /// Lift the bans of somebody.
    Unban {
        /// An address, a network, or `uid:NUMBER`.
        who: String,
        /// From this service; else wherever they are.
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
}

impl Request {
    /// The words that `do` may be.
    pub const WORDS: [&'static str; 7] = ["status", "reload", "socket", "bans", "explain", "ban", "unban"];

    /// Whether it changes anything, and thus needs the right to.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Status | Self::Socket { .. } | Self::Bans | Self::Explain(_) => false,
            Self::Reload | Self::Ban { .. } | Self::Unban { .. } => true,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// It was done.
    Done(Box<Answer>),
    /// It was not.
    Refused(Refusal),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Each is a text for the admin; a configuration error is several lines.
    pub errors: Vec<String>,
}

impl Refusal {
    /// A refusal for one reason.
    pub fn new(error: impl Into<String>) -> Self {
        Self { errors: vec![error.into()] }
    }
}

/// The answer to a request, by its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To `status`.
    Status(Status),
    /// To `reload`.
    Reload(ReloadReport),
    /// To `socket`.
    Socket(Vec<ListenerStatus>),
    /// To `bans`; to `ban` the ban that holds now, to `unban` those that were lifted.
    Bans(Vec<BanStatus>),
    /// To `explain`.
    Explain(Box<Explained>),
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanStatus {
    /// An address, a network, or `uid:NUMBER`.
    pub who: String,
    /// From what; absent: from every service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// What for: a word of `ban.on`, `sensor` or `admin`.
    pub cause: String,
    /// How long it still holds.
    pub seconds: u64,
}

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// The generation that is now in force.
    pub generation: u64,
    /// Services that did not change.
    pub kept: Vec<String>,
    /// Services that did.
    pub changed: Vec<String>,
    /// Services that are new.
    pub opened: Vec<String>,
    /// Services that are gone.
    pub closed: Vec<String>,
    /// What the configuration's reader warned of, rendered; and settings that wait for a restart.
    pub warnings: Vec<String>,
}

/// Reads one request line, with or without its newline. Nothing is ignored: an unknown key is an error, too.
pub fn parse_request(line: &[u8]) -> Result<Request, Refusal> {
    if line.len() > MAX_REQUEST {
        return Err(Refusal::new(format!("a request has at most {MAX_REQUEST} bytes")));
    }
    let value: Value = serde_json::from_slice(line)
        .map_err(|error| Refusal::new(format!("a request is one JSON object on a line: {error}")))?;
    let Value::Object(mut fields) = value else {
        return Err(Refusal::new("a request is one JSON object on a line"));
    };
    check_version(fields.remove("v").as_ref())?;
    let request = match take_text(&mut fields, "do")?.as_str() {
        "status" => Request::Status,
        "reload" => Request::Reload,
        "socket" => Request::Socket { service: take_text(&mut fields, "service")? },
        "bans" => Request::Bans,
        "explain" => Request::Explain(take_question(&mut fields)?),
        "ban" => Request::Ban {
            who: take_text(&mut fields, "who")?,
            service: take_optional_text(&mut fields, "service")?,
            seconds: take_number(&mut fields, "seconds")?,
        },
        "unban" => Request::Unban {
            who: take_text(&mut fields, "who")?,
            service: take_optional_text(&mut fields, "service")?,
        },
        other => {
            let known = Request::WORDS.join(", ");
            return Err(Refusal::new(format!("unknown request {other:?}; this superd knows {known}")));
        }
    };
    match fields.keys().next() {
        None => Ok(request),
        Some(key) => Err(Refusal::new(format!("unknown key {key:?} in the request"))),
    }
}

/// The line for `request`, with its newline.
pub fn encode_request(request: &Request) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        v: u32,
        #[serde(flatten)]
        request: &'a Request,
    }
    to_line(&Line { v: VERSION, request })
}

/// The line for `reply`, with its newline. What would be longer than [`MAX_REPLY`] becomes a refusal.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    let line = to_line(&ReplyLine::from(reply));
    if (1..=MAX_REPLY).contains(&line.len()) {
        return line;
    }
    let refusal = Reply::Refused(Refusal::new(format!("the answer would be longer than {MAX_REPLY} bytes")));
    to_line(&ReplyLine::from(&refusal))
}

/// Reads one reply line. Keys that a newer superd adds are passed over.
pub fn parse_reply(line: &[u8]) -> Result<Reply, BadReply> {
    let line: OwnedReplyLine =
        serde_json::from_slice(line).map_err(|error| BadReply::Malformed(error.to_string()))?;
    if line.v != VERSION {
        return Err(BadReply::Version(line.v));
    }
    if !line.ok {
        return Ok(Reply::Refused(Refusal { errors: line.errors }));
    }
    let status = line.status.map(Answer::Status);
    let reload = line.reload.map(Answer::Reload);
    let socket = line.socket.map(Answer::Socket);
    let bans = line.bans.map(Answer::Bans);
    let explain = line.explain.map(Answer::Explain);
    match status.or(reload).or(socket).or(bans).or(explain) {
        Some(answer) => Ok(Reply::Done(Box::new(answer))),
        None => Err(BadReply::Malformed("it holds no answer".to_owned())),
    }
}

/// Why a line is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadReply {
    /// Not the JSON of a reply.
    Malformed(String),
    /// Another version of the language.
    Version(u32),
}

impl std::fmt::Display for BadReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the answer can't be read: {why}"),
            Self::Version(v) => write!(f, "the answer is in version {v} of the language, not {VERSION}"),
        }
    }
}

impl std::error::Error for BadReply {}

/// A reply as it is written.
#[derive(Serialize)]
struct ReplyLine<'a> {
    v: u32,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reload: Option<&'a ReloadReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<&'a [ListenerStatus]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bans: Option<&'a [BanStatus]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<&'a Explained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [String]>,
}

impl<'a> From<&'a Reply> for ReplyLine<'a> {
    fn from(reply: &'a Reply) -> Self {
        let empty = Self {
            v: VERSION,
            ok: true,
            status: None,
            reload: None,
            socket: None,
            bans: None,
            explain: None,
            errors: None,
        };
        match reply {
            Reply::Refused(refusal) => Self { ok: false, errors: Some(&refusal.errors), ..empty },
            Reply::Done(answer) => match answer.as_ref() {
                Answer::Status(status) => Self { status: Some(status), ..empty },
                Answer::Reload(report) => Self { reload: Some(report), ..empty },
                Answer::Socket(listeners) => Self { socket: Some(listeners), ..empty },
                Answer::Bans(bans) => Self { bans: Some(bans), ..empty },
                Answer::Explain(explained) => Self { explain: Some(explained), ..empty },
            },
        }
    }
}

/// A reply as it is read.
#[derive(Deserialize)]
struct OwnedReplyLine {
    v: u32,
    ok: bool,
    status: Option<Status>,
    reload: Option<ReloadReport>,
    socket: Option<Vec<ListenerStatus>>,
    bans: Option<Vec<BanStatus>>,
    explain: Option<Box<Explained>>,
    #[serde(default)]
    errors: Vec<String>,
}

/// Empty if it can't be written; JSON has no raw newline, so that the line is one.
fn to_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    if !line.is_empty() {
        line.push(b'\n');
    }
    line
}

fn check_version(version: Option<&Value>) -> Result<(), Refusal> {
    match version {
        Some(v) if v.as_u64() == Some(u64::from(VERSION)) => Ok(()),
        Some(v) => {
            Err(Refusal::new(format!("version {v} of the language is unknown; this superd speaks {VERSION}")))
        }
        None => Err(Refusal::new(format!("the request has no version: begin it with {{\"v\":{VERSION},"))),
    }
}

fn take_text(fields: &mut Map<String, Value>, key: &str) -> Result<String, Refusal> {
    match fields.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::new(format!("{key:?} is a string"))),
        None => Err(Refusal::new(format!("the request has no {key:?}"))),
    }
}

fn take_optional_text(fields: &mut Map<String, Value>, key: &str) -> Result<Option<String>, Refusal> {
    if fields.contains_key(key) { take_text(fields, key).map(Some) } else { Ok(None) }
}

fn take_question(fields: &mut Map<String, Value>) -> Result<Question, Refusal> {
    let uid = if fields.contains_key("uid") { Some(take_number(fields, "uid")?) } else { None };
    Ok(Question {
        service: take_text(fields, "service")?,
        client: take_text(fields, "client")?,
        name: take_optional_text(fields, "name")?,
        user: take_optional_text(fields, "user")?,
        uid: uid.map(u32::try_from).transpose().map_err(|_| Refusal::new("\"uid\" is too large"))?,
        at: take_optional_text(fields, "at")?,
    })
}

fn take_number(fields: &mut Map<String, Value>, key: &str) -> Result<u64, Refusal> {
    match fields.remove(key) {
        Some(value) => value.as_u64().ok_or_else(|| Refusal::new(format!("{key:?} is a whole number"))),
        None => Err(Refusal::new(format!("the request has no {key:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check_request(line: &str, expected: Result<Request, &str>) {
        match (parse_request(line.as_bytes()), expected) {
            (Ok(request), Ok(wanted)) => assert_eq!(request, wanted, "{line}"),
            (Err(refusal), Err(word)) => {
                assert!(refusal.errors.iter().any(|e| e.contains(word)), "{line}: {refusal:?}");
            }
            (other, _) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn requests() {
        let socket = Request::Socket { service: "finger".to_owned() };
        check_request(r#"{"v":1,"do":"status"}"#, Ok(Request::Status));
        check_request("{ \"do\" : \"reload\", \"v\" : 1 }\r\n", Ok(Request::Reload));
        check_request(r#"{"v":1,"do":"socket","service":"finger"}"#, Ok(socket));
        check_request("", Err("JSON object"));
        check_request("[]", Err("JSON object"));
        check_request("{}{}", Err("JSON object"));
        check_request("\u{0}", Err("JSON object"));
        check_request(r#"{"do":"status"}"#, Err("no version"));
        check_request(r#"{"v":2,"do":"status"}"#, Err("speaks 1"));
        check_request(r#"{"v":"1","do":"status"}"#, Err("speaks 1"));
        check_request(r#"{"v":1.5,"do":"status"}"#, Err("speaks 1"));
        check_request(r#"{"v":1}"#, Err("no \"do\""));
        check_request(r#"{"v":1,"do":7}"#, Err("is a string"));
        check_request(r#"{"v":1,"do":"explode"}"#, Err("status, reload, socket, bans, explain, ban, unban"));
        let ban = Request::Ban { who: "uid:7".to_owned(), service: None, seconds: 60 };
        check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":60}"#, Ok(ban));
        check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":-1}"#, Err("is a whole number"));
        check_request(r#"{"v":1,"do":"ban","who":"uid:7"}"#, Err("no \"seconds\""));
        check_request(r#"{"v":1,"do":"ban","who":"uid:7","seconds":1,"service":7}"#, Err("is a string"));
        check_request(r#"{"v":1,"do":"unban"}"#, Err("no \"who\""));
        check_request(r#"{"v":1,"do":"socket"}"#, Err("no \"service\""));
        check_request(r#"{"v":1,"do":"status","service":"x"}"#, Err("unknown key"));
        check_request(&format!("{}{{}}", " ".repeat(MAX_REQUEST)), Err("at most 4096"));
        check_request(&"[".repeat(MAX_REQUEST), Err("JSON object"));
    }

    #[test]
    fn every_word_is_read_and_written() {
        let who = || "192.0.2.0/24".to_owned();
        let requests = [
            Request::Status,
            Request::Reload,
            Request::Socket { service: "a \n\u{1b}".to_owned() },
            Request::Bans,
            Request::Explain(Question {
                service: "a".to_owned(),
                client: "uid:7".to_owned(),
                uid: Some(7),
                ..Question::default()
            }),
            Request::Ban { who: who(), service: Some("a".to_owned()), seconds: 60 },
            Request::Unban { who: who(), service: None },
        ];
        assert_eq!(requests.len(), Request::WORDS.len());
        for (request, word) in requests.iter().zip(Request::WORDS) {
            let line = encode_request(request);
            assert!(String::from_utf8_lossy(&line).contains(&format!("\"do\":\"{word}\"")));
            assert_eq!(parse_request(&line).as_ref(), Ok(request));
        }
    }

    #[test]
    fn replies_come_back_as_they_were() {
        for (reply, start) in replies() {
            let line = encode_reply(&reply);
            let text = String::from_utf8(line.clone()).unwrap();
            assert!(text.starts_with(start), "{text}");
            assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
            assert_eq!(parse_reply(&line), Ok(reply));
        }
    }

    #[test]
    fn a_newer_superd_may_say_more() {
        let line = br#"{"v":1,"ok":true,"new":1,"reload":{"generation":2,"kept":[],"changed":[],"opened":[],
            "closed":[],"warnings":[],"newer":{}}}"#;
        let report = ReloadReport { generation: 2, ..ReloadReport::default() };
        assert_eq!(parse_reply(line), Ok(Reply::Done(Box::new(Answer::Reload(report)))));
        assert_eq!(parse_reply(br#"{"v":9,"ok":true}"#), Err(BadReply::Version(9)));
        assert!(matches!(parse_reply(br#"{"v":1,"ok":true}"#), Err(BadReply::Malformed(_))));
    }

    #[test]
    fn an_answer_beyond_the_bound_is_a_refusal() {
        let reply = Reply::Refused(Refusal::new("x".repeat(MAX_REPLY)));
        let line = encode_reply(&reply);
        assert!(line.len() < 200);
        assert!(matches!(parse_reply(&line), Ok(Reply::Refused(_))));
    }

    const SPICE: &[u8] = b"\"{}[]:,\\0e\xff";

    /// Lines that are nearly right, changed by a fixed generator: whatever they are, they are read or refused.
    #[test]
    fn mutated_lines_never_panic() {
        let mut seeds: Vec<Vec<u8>> = replies().iter().map(|(reply, _)| encode_reply(reply)).collect();
        seeds.extend(Request::WORDS.map(|word| {
            format!("{{\"v\":1,\"do\":\"{word}\",\"service\":\"\\ud83d\\ude00\"}}").into_bytes()
        }));
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below.max(1) as u64).unwrap()
        };
        let (mut read, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut line = seeds[round % seeds.len()].clone();
            for _ in 0..=random(3) {
                let at = random(line.len());
                match random(4) {
                    0 if !line.is_empty() => line[at] = random(256).try_into().unwrap(),
                    1 => line.insert(at, SPICE[random(SPICE.len())]),
                    2 => line.truncate(at),
                    _ => line.extend_from_within(at..),
                }
            }
            let outcomes = [parse_request(&line).is_ok(), parse_reply(&line).is_ok()];
            if outcomes.contains(&true) { read += 1 } else { refused += 1 }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused: the generator is too dull");
    }

    fn replies() -> Vec<(Reply, &'static str)> {
        let listener = ListenerStatus {
            endpoint: "tcp:127.0.0.1:79".to_owned(),
            bound: Some("127.0.0.1:79".to_owned()),
            error: None,
            options: BTreeMap::from([("backlog".to_owned(), "4096".to_owned())]),
            queue: Some([0, 4096]),
        };
        let service = ServiceStatus {
            name: "finger".to_owned(),
            state: "paused".to_owned(),
            reason: Some("connections".to_owned()),
            retry_in: Some(1.5),
            listeners: vec![ListenerStatus { options: BTreeMap::new(), queue: None, ..listener.clone() }],
            sessions: 3,
            started: 7,
            launch_failed: 1,
            refused: BTreeMap::from([("per_source".to_owned(), 2)]),
        };
        let status = Status {
            version: "0.1.0".to_owned(),
            pid: 4711,
            generation: 1,
            uptime: 5,
            fds: 12,
            services: vec![service],
            sessions: 3,
            workers: 0,
            launches: 0,
            pending: 0,
            strangers: 0,
            dropped_log_lines: 0,
        };
        let report = ReloadReport { generation: 2, opened: vec!["a".to_owned()], ..ReloadReport::default() };
        let refusal = Refusal { errors: vec!["line\nline".to_owned(), "\u{1b}[2J".to_owned()] };
        let done = |answer| Reply::Done(Box::new(answer));
        vec![
            (done(Answer::Status(status)), r#"{"v":1,"ok":true,"status":{"version":"#),
            (done(Answer::Reload(report)), r#"{"v":1,"ok":true,"reload":{"generation":2"#),
            (done(Answer::Socket(vec![listener])), r#"{"v":1,"ok":true,"socket":[{"endpoint":"#),
            (Reply::Refused(refusal), r#"{"v":1,"ok":false,"errors":["line\nline""#),
        ]
    }
}
