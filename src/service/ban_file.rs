//! Bans as they are kept over a restart: a versioned JSON object, with ends in seconds since 1970, because no other
//! clock goes on while superd does not run.

use std::hash::BuildHasher;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::model::name::ServiceName;
use crate::model::offence::Offence;

use super::ban::{Ban, Cause};
use super::bans::{Bans, LONGEST};

/// The version of the form.
const VERSION: u32 = 1;

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    version: u32,
    bans: Vec<Row>,
}

/// One ban.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    who: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    cause: String,
    until: u64,
}

/// The two clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The one that runs evenly.
    pub now: Instant,
    /// The one that says the date.
    pub date: SystemTime,
}

/// The bytes to keep.
pub fn encode<S: BuildHasher + Clone>(bans: &Bans<S>, clocks: Clocks) -> Result<Vec<u8>, serde_json::Error> {
    let seconds = |until: Instant| {
        let end = clocks.date + until.saturating_duration_since(clocks.now);
        end.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() + 1)
    };
    let row = |ban: Ban| Row {
        who: ban.who.to_string(),
        service: ban.service,
        cause: ban.cause.to_string(),
        until: seconds(ban.until),
    };
    let bans = bans.list(clocks.now).into_iter().map(row).collect();
    serde_json::to_vec_pretty(&File { version: VERSION, bans })
}

/// Takes the bans that were kept and have not ended. Fails, and takes none, if it is not all as it should be.
pub fn decode<S: BuildHasher + Clone>(
    bytes: &[u8],
    clocks: Clocks,
    bans: &mut Bans<S>,
) -> Result<(), String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("it is of version {}, not {VERSION}", file.version));
    }
    let kept: Vec<Option<Ban>> =
        file.bans.into_iter().map(|row| ban_of(row, clocks)).collect::<Result<_, String>>()?;
    for ban in kept.into_iter().flatten() {
        // There is room for as many as were kept.
        let _ = bans.add(ban);
    }
    Ok(())
}

/// `None`: it has ended meanwhile.
fn ban_of(row: Row, clocks: Clocks) -> Result<Option<Ban>, String> {
    let who = row.who.parse()?;
    let cause = match row.cause.as_str() {
        "admin" => Cause::Admin,
        _ => Cause::Offence(Offence::try_from(row.cause)?),
    };
    let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(row.until));
    let left = end.and_then(|end| end.duration_since(clocks.date).ok()).unwrap_or_default();
    // A clock that was set back makes no ban longer than any could be.
    let until = clocks.now + left.min(LONGEST);
    Ok((!left.is_zero()).then_some(Ban { who, service: row.service, cause, until }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::hash_map::DefaultHasher;
    use std::hash::BuildHasherDefault;

    type Table = Bans<BuildHasherDefault<DefaultHasher>>;

    fn clocks() -> Clocks {
        Clocks { now: Instant::now(), date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) }
    }

    fn later(clocks: Clocks, seconds: u64) -> Clocks {
        let by = Duration::from_secs(seconds);
        // Another boot: the even clock begins anywhere.
        Clocks { now: clocks.now + Duration::from_hours(5), date: clocks.date + by }
    }

    #[track_caller]
    fn check(after_seconds: u64, expected: &[(&str, Option<&str>, &str, u64)]) {
        let (clocks, mut bans) = (clocks(), Table::new(BuildHasherDefault::default()));
        let rows = [
            ("192.0.2.7", None, Cause::Admin, 3600),
            ("2001:db8::/64", Some("finger"), Cause::Offence(Offence::Exit(255)), 60),
            ("uid:7", Some("echo"), Cause::Offence(Offence::Sensor), 1800),
        ];
        for (who, service, cause, seconds) in rows {
            let service = service.map(|name| ServiceName::new(name).unwrap());
            let until = clocks.now + Duration::from_secs(seconds);
            bans.add(Ban { who: who.parse().unwrap(), service, cause, until }).unwrap();
        }
        let bytes = encode(&bans, clocks).unwrap();
        let (clocks, mut kept) = (later(clocks, after_seconds), Table::new(BuildHasherDefault::default()));
        decode(&bytes, clocks, &mut kept).unwrap();
        let rows: Vec<_> = kept
            .list(clocks.now)
            .into_iter()
            .map(|ban| {
                let left = ban.until.duration_since(clocks.now).as_secs();
                (ban.who.to_string(), ban.service.map(|name| name.to_string()), ban.cause.to_string(), left)
            })
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|(who, service, cause, left)| (who.as_str(), service.as_deref(), cause.as_str(), *left))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn bans_are_kept_until_their_end() {
        check(
            0,
            &[
                ("2001:db8::/64", Some("finger"), "exit:255", 61),
                ("uid:7", Some("echo"), "sensor", 1801),
                ("192.0.2.7", None, "admin", 3601),
            ],
        );
        check(100, &[("uid:7", Some("echo"), "sensor", 1701), ("192.0.2.7", None, "admin", 3501)]);
        check(10_000, &[]);
    }

    #[test]
    fn what_is_no_file_of_bans_is_not_taken() {
        for (text, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"{"version":2,"bans":[]}"#, "it is of version 2, not 1"),
            (
                r#"{"version":1,"bans":[
                    {"who":"192.0.2.7","cause":"admin","until":9999999999},
                    {"who":"nobody","cause":"admin","until":9999999999}]}"#,
                "`nobody` is no address and no network: addresses are written `192.0.2.7` or `2001:db8::7`, networks `192.0.2.0/24`",
            ),
            (r#"{"version":1,"bans":[{"who":"192.0.2.7","cause":"x","until":1}]}"#, "\"x\" is no offence"),
        ] {
            let mut bans = Table::new(BuildHasherDefault::default());
            assert_eq!(decode(text.as_bytes(), clocks(), &mut bans), Err(expected.to_owned()));
            assert!(bans.is_empty());
        }
    }

    #[test]
    fn no_ban_is_longer_than_any_could_be() {
        let mut bans = Table::new(BuildHasherDefault::default());
        let text =
            r#"{"version":1,"bans":[{"who":"192.0.2.7","cause":"admin","until":18446744073709551615}]}"#;
        decode(text.as_bytes(), clocks(), &mut bans).unwrap();
        assert!(bans.is_empty());
        let text = text.replace("18446744073709551615", "99999999999");
        let clocks = clocks();
        decode(text.as_bytes(), clocks, &mut bans).unwrap();
        assert_eq!(bans.next_deadline(), Some(clocks.now + LONGEST));
    }
}
