//! The control socket's language: one JSON object a line, versioned.
//!
//! `{"v":1,"do":"reload"}` is answered by `{"v":1,"ok":true,"reload":{…}}` or `{"v":1,"ok":false,"errors":[…]}`:
//! the answer stands under the word that was asked. The status is the same object as `state_dir/state.json`.
//! superd-control(7) describes it. Knows nothing of sockets, or of who may ask what.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::explain::{Explained, Question};
pub use super::status::{
    DatagramStatus, ListenerStatus, PoolLimits, PoolStatus, ServiceStatus, Status, WorkerStatus,
};

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
    /// Pools and their workers.
    Pool {
        /// Of this service alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
}

impl Request {
    /// The words that `do` may be.
    pub const WORDS: [&'static str; 8] =
        ["status", "reload", "socket", "pool", "bans", "explain", "ban", "unban"];

    /// Whether it changes anything, and thus needs the right to.
    pub fn is_change(&self) -> bool {
        match self {
            Self::Status | Self::Socket { .. } | Self::Bans | Self::Pool { .. } | Self::Explain(_) => false,
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
    /// To `pool`.
    Pool(Vec<PoolStatus>),
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
        "pool" => Request::Pool { service: take_optional_text(&mut fields, "service")? },
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
    let pool = line.pool.map(Answer::Pool);
    let explain = line.explain.map(Answer::Explain);
    match status.or(reload).or(socket).or(bans).or(pool).or(explain) {
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
    pool: Option<&'a [PoolStatus]>,
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
            pool: None,
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
                Answer::Pool(pools) => Self { pool: Some(pools), ..empty },
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
    pool: Option<Vec<PoolStatus>>,
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
mod tests;
