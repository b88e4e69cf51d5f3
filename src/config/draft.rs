//! A configuration as it was said: values of the right form, not yet looked up. Generic over keys, so that
//! merging with the defaults is one function.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::label::Label;
use crate::model::name::ServiceName;
use crate::model::network::Network;
use crate::model::offence::Offence;
use crate::model::pattern::ClientPattern;
use crate::model::rate::{LoadAverage, Rate};
use crate::model::user::UserWord;
use crate::model::window::Window;

use super::diagnostic::Spot;
use super::listen::Listen;
use super::settings::RlimitPair;

/// A value and where it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub spot: Spot,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// To be looked up.
    Name(String),
    /// As it is.
    Id(u32),
}

/// A value of one of the kinds of the key table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// true or false.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text, a word.
    Text(String),
    /// An absolute path.
    Path(PathBuf),
    /// A duration.
    Time(Duration),
    /// Bytes, or an octal number.
    Size(u64),
    /// Texts.
    Texts(Vec<Said<String>>),
    /// Variables.
    Variables(BTreeMap<String, Said<String>>),
    /// A user or a group.
    Who(Who),
    /// Groups.
    Groups(Vec<Said<Who>>),
    /// Where to listen.
    Listens(Vec<Said<Listen>>),
    /// What a client is sent.
    Bytes(Vec<u8>),
    /// Quotes: one of them is sent.
    Quotes(Vec<Vec<u8>>),
    /// A limit of setrlimit(2).
    Rlimit(RlimitPair),
    /// How often.
    Rate(Rate),
    /// A load average.
    Load(LoadAverage),
    /// What counts towards a ban.
    Offences(Vec<Offence>),
    /// Clients that are known by their address alone.
    Exempt(Vec<ClientPattern>),
    /// A table that is one value.
    Inline(Values),
    /// Clients.
    Clients(Vec<Said<ClientPattern>>),
    /// Users of clients.
    Users(Vec<Said<UserWord>>),
    /// A name of hours.
    Label(Label),
    /// Tables in their order.
    Rows(Vec<Said<Values>>),
    /// Files, absolute.
    Files(Vec<Said<PathBuf>>),
    /// Windows of time.
    Windows(Vec<Window>),
    /// `"none"`: the default is taken away.
    Cleared,
    /// Said, but wrong or not served: a diagnostic says so, nothing else should.
    Wrong,
}

/// Which table below the section (`""` for none), and which key of it.
pub type Path = (&'static str, &'static str);

/// What one section says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<Path, Said<Value>>);

impl Values {
    /// Takes a value.
    pub fn insert(&mut self, path: Path, value: Value, spot: Spot) {
        self.0.insert(path, Said { value, spot });
    }

    /// Was it said, right or wrong, and not taken away?
    pub fn is_said(&self, path: Path) -> bool {
        self.said(path).is_some_and(|said| said.value != Value::Cleared)
    }

    /// What is said at all.
    pub fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.0.keys().copied()
    }

    /// Takes a value out.
    pub fn remove(&mut self, path: Path) {
        self.0.remove(&path);
    }

    /// A value, also one that is `"none"` or wrong.
    pub fn said(&self, path: Path) -> Option<&Said<Value>> {
        self.0.get(&path)
    }

    /// A value that holds.
    pub fn get(&self, path: Path) -> Option<&Said<Value>> {
        self.said(path).filter(|said| !matches!(said.value, Value::Cleared | Value::Wrong))
    }

    /// Where a value was said, if it holds.
    pub fn spot(&self, path: Path) -> Option<&Spot> {
        self.get(path).map(|said| &said.spot)
    }

    /// Was it said, and is it wrong?
    pub fn is_wrong(&self, path: Path) -> bool {
        self.said(path).is_some_and(|said| said.value == Value::Wrong)
    }

    /// Was it taken away?
    pub fn is_cleared(&self, path: Path) -> bool {
        self.said(path).is_some_and(|said| said.value == Value::Cleared)
    }

    /// A flag.
    pub fn flag(&self, path: Path) -> Option<bool> {
        match self.get(path)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A number that fits, which the key table's bounds see to.
    pub fn number<T: TryFrom<i64>>(&self, path: Path) -> Option<T> {
        match self.get(path)?.value {
            Value::Number(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    /// A size or an octal number that fits.
    pub fn size<T: TryFrom<u64>>(&self, path: Path) -> Option<T> {
        match self.get(path)?.value {
            Value::Size(size) => T::try_from(size).ok(),
            _ => None,
        }
    }

    /// A text or a word.
    pub fn text(&self, path: Path) -> Option<&str> {
        match &self.get(path)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A path.
    pub fn path(&self, path: Path) -> Option<&PathBuf> {
        match &self.get(path)?.value {
            Value::Path(path) => Some(path),
            _ => None,
        }
    }

    /// A duration.
    pub fn time(&self, path: Path) -> Option<Duration> {
        match self.get(path)?.value {
            Value::Time(time) => Some(time),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, path: Path) -> &[Said<String>] {
        match self.get(path).map(|said| &said.value) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    /// A user or group, and where it was said.
    pub fn who(&self, path: Path) -> Option<(&Who, &Spot)> {
        match self.get(path)? {
            Said { value: Value::Who(who), spot } => Some((who, spot)),
            _ => None,
        }
    }

    /// A list of groups.
    pub fn groups(&self, path: Path) -> Option<&[Said<Who>]> {
        match &self.get(path)?.value {
            Value::Groups(groups) => Some(groups),
            _ => None,
        }
    }

    /// The variables of `env`.
    pub fn variables(&self, path: Path) -> impl Iterator<Item = (&String, &String)> {
        let variables = match self.get(path).map(|said| &said.value) {
            Some(Value::Variables(variables)) => Some(variables),
            _ => None,
        };
        variables.into_iter().flatten().map(|(name, said)| (name, &said.value))
    }

    /// Where to listen.
    pub fn listens(&self) -> &[Said<Listen>] {
        match self.get(("", "listen")).map(|said| &said.value) {
            Some(Value::Listens(listens)) => listens,
            _ => &[],
        }
    }

    /// The bytes of a banner.
    pub fn bytes(&self, path: Path) -> Option<Vec<u8>> {
        match &self.get(path)?.value {
            Value::Bytes(bytes) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The quotes of qotd.
    pub fn quotes(&self, path: Path) -> Option<&[Vec<u8>]> {
        match &self.get(path)?.value {
            Value::Quotes(quotes) => Some(quotes),
            _ => None,
        }
    }

    /// A table that is one value.
    pub fn inline(&self, path: Path) -> Option<&Values> {
        match &self.get(path)?.value {
            Value::Inline(values) => Some(values),
            _ => None,
        }
    }

    /// A list of clients.
    pub fn clients(&self, path: Path) -> Option<&[Said<ClientPattern>]> {
        match &self.get(path)?.value {
            Value::Clients(clients) => Some(clients),
            _ => None,
        }
    }

    /// A list of users.
    pub fn users(&self, path: Path) -> Option<&[Said<UserWord>]> {
        match &self.get(path)?.value {
            Value::Users(users) => Some(users),
            _ => None,
        }
    }

    /// A name of hours.
    pub fn label(&self, path: Path) -> Option<Said<&Label>> {
        match self.get(path)? {
            Said { value: Value::Label(label), spot } => Some(Said { value: label, spot: spot.clone() }),
            _ => None,
        }
    }

    /// Tables in their order.
    pub fn rows(&self, path: Path) -> &[Said<Values>] {
        match self.get(path).map(|said| &said.value) {
            Some(Value::Rows(rows)) => rows,
            _ => &[],
        }
    }

    /// Files.
    pub fn files(&self, path: Path) -> &[Said<PathBuf>] {
        match self.get(path).map(|said| &said.value) {
            Some(Value::Files(files)) => files,
            _ => &[],
        }
    }

    /// Windows of time.
    pub fn windows(&self, path: Path) -> &[Window] {
        match self.get(path).map(|said| &said.value) {
            Some(Value::Windows(windows)) => windows,
            _ => &[],
        }
    }

    /// A limit of setrlimit(2).
    pub fn rlimit(&self, path: Path) -> Option<(RlimitPair, &Spot)> {
        match self.get(path)? {
            Said { value: Value::Rlimit(pair), spot } => Some((*pair, spot)),
            _ => None,
        }
    }

    /// A rate.
    pub fn rate(&self, path: Path) -> Option<Rate> {
        match self.get(path)?.value {
            Value::Rate(rate) => Some(rate),
            _ => None,
        }
    }

    /// A load average.
    pub fn load(&self, path: Path) -> Option<LoadAverage> {
        match self.get(path)?.value {
            Value::Load(load) => Some(load),
            _ => None,
        }
    }

    /// What counts towards a ban.
    pub fn offences(&self, path: Path) -> Option<&[Offence]> {
        match &self.get(path)?.value {
            Value::Offences(offences) => Some(offences),
            _ => None,
        }
    }

    /// Clients that are known by their address alone.
    pub fn exempt(&self, path: Path) -> &[ClientPattern] {
        match self.get(path).map(|said| &said.value) {
            Some(Value::Exempt(patterns)) => patterns,
            _ => &[],
        }
    }

    /// Takes what is not said here from the defaults: tables key by key, values and lists as a whole.
    pub fn merge(&mut self, defaults: &Values) {
        let whole: Vec<&'static str> = self
            .0
            .iter()
            .filter(|((table, _), said)| {
                table.is_empty() && matches!(said.value, Value::Cleared | Value::Wrong)
            })
            .map(|((_, name), _)| *name)
            .collect();
        for (path, said) in &defaults.0 {
            if path.0.is_empty() || !whole.contains(&path.0) {
                self.0.entry(*path).or_insert_with(|| said.clone());
            }
        }
        let Some(Value::Variables(theirs)) = defaults.said(("", "env")).map(|said| &said.value) else {
            return;
        };
        let Some(Value::Variables(ours)) = self.0.get_mut(&("", "env")).map(|said| &mut said.value) else {
            return;
        };
        for (name, said) in theirs {
            ours.entry(name.clone()).or_insert_with(|| said.clone());
        }
        ours.retain(|name, said| said.value != "none" || !theirs.contains_key(name));
    }
}

/// A service as it was said, with the defaults merged in.
#[derive(Debug, Clone)]
pub struct ServiceDraft {
    /// Its name.
    pub name: ServiceName,
    /// Its header.
    pub spot: Spot,
    /// What it says.
    pub values: Values,
}

/// A named set as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetDraft {
    /// Its name.
    pub spot: Spot,
    /// Its networks.
    pub networks: Vec<Network>,
    /// Its list files, absolute.
    pub files: Vec<Said<PathBuf>>,
    /// They are read again when they change.
    pub watch: bool,
}

/// Named hours as they were said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoursDraft {
    /// Their name.
    pub spot: Spot,
    /// Empty if they are wrong.
    pub windows: Vec<Window>,
    /// `None`: that of the daemon.
    pub zone: Option<Said<String>>,
}

/// All that was said.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// `[daemon]`.
    pub daemon: Values,
    /// `[log]`.
    pub log: Values,
    /// `[wrap]`.
    pub wrap: Values,
    /// `[sets]`, wrong ones too, so that their names are known.
    pub sets: BTreeMap<Label, SetDraft>,
    /// `[hours]`, wrong ones too.
    pub hours: BTreeMap<Label, HoursDraft>,
    /// Every service, sorted by name.
    pub services: Vec<ServiceDraft>,
}
