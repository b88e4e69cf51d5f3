//! Time zones, read here so that nobody who serves has to: their rules go to the supervisor as bytes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use jiff::tz::TimeZone;

use crate::config::diagnostic::{Diagnostic, Report};
use crate::config::settings::Config;
use crate::protocol::tables::zone;

/// The zone of this machine, which is no name of a file.
const LOCAL: &str = "local";

/// Where zones are, the first that is there.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];

/// Where nothing says what the local zone is.
const UTC: &[u8] = b"UTC0";

/// No file of a zone is larger.
const MAX_BYTES: usize = 1 << 20;

/// The zones that a configuration uses. Those with a name are there, since the configuration is good.
pub fn read(
    config: &Config,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> BTreeMap<String, Vec<u8>> {
    let names = config.hours().values().map(|hours| &hours.zone).chain([&config.daemon().zone]);
    let mut zones = BTreeMap::new();
    for name in names {
        let bytes = if name == LOCAL { local(environment) } else { named(name) };
        match bytes.and_then(|bytes| known(name, bytes)) {
            Ok(bytes) => drop(zones.insert(name.clone(), bytes)),
            Err(why) => {
                report.add(Diagnostic::bare("unknown-zone", format!("the time zone `{name}`: {why}")));
            }
        }
    }
    zones
}

/// One zone, by the name that the configuration has for it.
pub fn one(name: &str, environment: &BTreeMap<String, String>) -> io::Result<TimeZone> {
    let bytes = if name == LOCAL { local(environment) } else { named(name) }?;
    zone(name, &bytes).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "its file is no time zone"))
}

/// Is there a zone of this name?
pub fn exists(name: &str) -> bool {
    named(name).and_then(|bytes| known(name, bytes)).is_ok()
}

fn known(name: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    match zone(name, &bytes) {
        Some(_) => Ok(bytes),
        None => Err(io::Error::new(ErrorKind::InvalidData, "its file is no time zone")),
    }
}

fn named(name: &str) -> io::Result<Vec<u8>> {
    // A name stays below the folder.
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(ErrorKind::NotFound.into());
    }
    let files = FOLDERS.iter().map(|folder| file(&Path::new(folder).join(name)));
    files.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(ErrorKind::NotFound.into()))
}

/// As tzset(3) finds it: TZ, else /etc/localtime, else UTC.
fn local(environment: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let Some(said) = environment.get("TZ") else {
        return match file(Path::new("/etc/localtime")) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(UTC.to_vec()),
            found => found,
        };
    };
    match said.strip_prefix(':').unwrap_or(said) {
        "" => Ok(UTC.to_vec()),
        path if path.starts_with('/') => file(Path::new(path)),
        name => named(name).or_else(|_| Ok(name.as_bytes().to_vec())),
    }
}

fn file(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    let bytes = std::fs::read(path)?;
    if bytes.len() > MAX_BYTES { Err(ErrorKind::InvalidData.into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_names_below_their_folder() {
        for (name, expected) in [
            ("Europe/Warsaw", true),
            ("UTC", true),
            ("Europe", false),
            ("Europe/Nowhere", false),
            ("../zoneinfo/UTC", false),
            ("/usr/share/zoneinfo/UTC", false),
            ("zone.tab", false),
            ("", false),
        ] {
            assert_eq!(exists(name), expected, "{name:?}");
        }
    }

    #[test]
    fn the_local_zone_is_what_tz_says() {
        for (said, expected) in [
            (Some(""), "UTC"),
            (Some(":Europe/Warsaw"), "CET"),
            (Some("Europe/Warsaw"), "CET"),
            (Some("/usr/share/zoneinfo/Europe/Warsaw"), "CET"),
            (Some("XYZ-3"), "XYZ"),
        ] {
            let environment = said.map(|said| ("TZ".to_owned(), said.to_owned())).into_iter().collect();
            let zone = zone(LOCAL, &local(&environment).unwrap()).unwrap();
            let winter = "2026-01-15T12:00:00Z".parse::<jiff::Timestamp>().unwrap();
            assert_eq!(zone.to_offset_info(winter).abbreviation(), expected, "{said:?}");
        }
        assert!(zone(LOCAL, &local(&BTreeMap::new()).unwrap()).is_some());
    }
}
