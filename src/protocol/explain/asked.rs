//! Reading a question: who comes, what is known of it, and when. Errors are for the admin.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::model::address::canonical;
use crate::model::client::Client;
use crate::model::host::HostName;

use super::Question;

/// What an admin has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who comes.
    pub client: Client,
    /// What the name service says of it.
    pub name: Option<Name>,
    /// What its ident server says.
    pub user: Option<String>,
    /// The number of its user.
    pub uid: Option<u32>,
    /// When, if not now.
    pub at: Option<SystemTime>,
}

/// What the name service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// This name, and that it is the address's.
    Confirmed(HostName),
    /// That there is none.
    None,
    /// A name that has other addresses.
    Mismatch,
}

impl Asked {
    /// Reads a question. The zone is what times are meant in.
    pub fn read(question: &Question, zone: &TimeZone, now: SystemTime) -> Result<Self, String> {
        let (client, uid) = client(&question.client, question.uid)?;
        let at = question.at.as_deref().map(|text| moment(text, zone, now)).transpose()?;
        let name = question.name.as_deref().map(name).transpose()?;
        if name.is_some() && client.address().is_none() {
            return Err(format!("a client by a unix socket has no address that could have a name: {client}"));
        }
        Ok(Self { client, name, user: question.user.clone(), uid, at })
    }
}

fn client(text: &str, uid: Option<u32>) -> Result<(Client, Option<u32>), String> {
    // The kernel has no group for it here: rules know the members of groups.
    let user = |uid: Option<u32>| {
        let number = uid.unwrap_or(u32::MAX);
        (Client::User { uid: number, gid: u32::MAX, pid: 0 }, uid)
    };
    if text == "unix" {
        return Ok(user(uid));
    }
    if let Some(number) = text.strip_prefix("uid:") {
        let number = number.parse().map_err(|_| format!("`{text}`: `uid:` is followed by a number"))?;
        return match uid {
            Some(other) if other != number => {
                Err(format!("`{text}` is not the user with the number {other}"))
            }
            _ => Ok(user(Some(number))),
        };
    }
    // The interface of a link-local address is no part of what rules judge.
    let bare = text.split_once('%').map_or(text, |(address, _)| address);
    let ip = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare);
    let address = text
        .parse::<SocketAddr>()
        .or_else(|error| ip.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).map_err(|_| error));
    match address {
        Ok(address) => Ok((Client::Inet(canonical(address)), uid)),
        Err(_) => Err(format!(
            "`{text}` is no client: write an address, `ADDRESS:PORT`, `[IPV6]:PORT`, `unix` or `uid:NUMBER`"
        )),
    }
}

fn name(text: &str) -> Result<Name, String> {
    match text {
        "unknown" => Ok(Name::None),
        "paranoid" => Ok(Name::Mismatch),
        name => name.parse().map(Name::Confirmed).map_err(|mistake| {
            let hint = mistake.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
            format!("{}{hint}", mistake.message)
        }),
    }
}

/// The moment that a text means: a day of this week or of the next days, never of the past.
fn moment(text: &str, zone: &TimeZone, now: SystemTime) -> Result<SystemTime, String> {
    let wrong = || format!("`{text}` is no time: write `03:00`, `Mon 03:00` or `2026-11-22T03:00`");
    let now = Timestamp::try_from(now).map_err(|_| wrong())?;
    let today = zone.to_datetime(now).date();
    let local: DateTime = match text.split_once(' ') {
        Some((day, time)) => {
            on_weekday(today, day).ok_or_else(wrong)?.to_datetime(clock(time).ok_or_else(wrong)?)
        }
        None if text.contains('T') => text.parse().map_err(|_| wrong())?,
        None => today.to_datetime(clock(text).ok_or_else(wrong)?),
    };
    let moment = zone.to_ambiguous_timestamp(local).compatible().map_err(|_| wrong())?;
    Ok(moment.into())
}

fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse::<i8>().ok()
        } else {
            None
        }
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

fn on_weekday(today: Date, name: &str) -> Option<Date> {
    let days = [
        ("Mon", Weekday::Monday),
        ("Tue", Weekday::Tuesday),
        ("Wed", Weekday::Wednesday),
        ("Thu", Weekday::Thursday),
        ("Fri", Weekday::Friday),
        ("Sat", Weekday::Saturday),
        ("Sun", Weekday::Sunday),
    ];
    let (_, day) = days.into_iter().find(|(word, _)| *word == name)?;
    (0..7)
        .filter_map(|ahead| today.checked_add(i64::from(ahead).days()).ok())
        .find(|date| date.weekday() == day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(question: &Question) -> Result<Asked, String> {
        // A Sunday.
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        Asked::read(question, &TimeZone::get("Europe/Warsaw").unwrap(), now.into())
    }

    fn question(client: &str) -> Question {
        Question { client: client.to_owned(), ..Question::default() }
    }

    #[test]
    fn clients_are_addresses_and_users() {
        let user = |uid| Client::User { uid, gid: u32::MAX, pid: 0 };
        let inet = |text: &str| -> Client { text.parse().unwrap() };
        for (text, expected) in [
            ("192.0.2.7", inet("192.0.2.7:0")),
            ("192.0.2.7:51234", inet("192.0.2.7:51234")),
            ("2001:db8::7", inet("[2001:db8::7]:0")),
            ("[2001:db8::7]", inet("[2001:db8::7]:0")),
            ("[2001:db8::7]:9", inet("[2001:db8::7]:9")),
            ("::ffff:192.0.2.7", inet("192.0.2.7:0")),
            ("fe80::1%eth0", inet("[fe80::1]:0")),
            ("uid:7", user(7)),
            ("unix", user(u32::MAX)),
        ] {
            assert_eq!(read(&question(text)).unwrap().client, expected, "{text}");
        }
        for wrong in ["", "host.example", "192.0.2.256", "uid:", "uid:x", "192.0.2.0/24", "[192.0.2.7"] {
            assert!(read(&question(wrong)).is_err(), "{wrong}");
        }
        assert!(read(&Question { uid: Some(8), ..question("uid:7") }).is_err());
        assert_eq!(read(&Question { uid: Some(8), ..question("unix") }).unwrap().client, user(8));
    }

    #[test]
    fn names_are_words_or_names() {
        for (text, expected) in [
            ("unknown", Some(Name::None)),
            ("paranoid", Some(Name::Mismatch)),
            ("PC.Example.", Some(Name::Confirmed("pc.example".parse().unwrap()))),
            ("a b", None),
        ] {
            let asked = read(&Question { name: Some(text.to_owned()), ..question("192.0.2.7") });
            assert_eq!(asked.ok().and_then(|asked| asked.name), expected, "{text}");
        }
        assert!(read(&Question { name: Some("a.b".to_owned()), ..question("uid:7") }).is_err());
    }

    #[test]
    fn times_are_of_today_of_a_day_or_of_a_date() {
        for (text, expected) in [
            ("03:00", "2026-11-22T02:00:00Z"),
            ("Sun 03:00", "2026-11-22T02:00:00Z"),
            ("Mon 03:00", "2026-11-23T02:00:00Z"),
            ("Sat 23:59", "2026-11-28T22:59:00Z"),
            ("2026-07-01T03:00", "2026-07-01T01:00:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:30:00Z"),
        ] {
            let at = read(&Question { at: Some(text.to_owned()), ..question("unix") }).unwrap().at;
            assert_eq!(at, Some(expected.parse::<Timestamp>().unwrap().into()), "{text}");
        }
        for wrong in
            ["", "3", "3:00", "24:00", "03:60", "Mon", "Mo 03:00", "2026-11-31T03:00", "-1:00", "+3:00"]
        {
            assert!(read(&Question { at: Some(wrong.to_owned()), ..question("unix") }).is_err(), "{wrong}");
        }
    }
}
