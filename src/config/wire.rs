//! A configuration as bytes, from the process that loads it to the one that serves by it. A digest beside
//! each service tells what changed, so that only that has to be decoded.
//!
//! The length of a JSON header as 8 bytes, the header, then each service's JSON, in the header's order.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use serde::{Deserialize, Serialize};

use crate::model::name::ServiceName;
use crate::model::place::Place;

use super::access::{Hours, Sets};
use super::settings::{Config, Daemon, Log, Service};

/// The version of the form; another one is refused.
const VERSION: u32 = 1;

const LENGTH: usize = size_of::<u64>();

/// Why bytes are not a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// There are fewer bytes than the header says.
    Short,
    /// They were written by another version of superd.
    Version(u32),
    /// They are not the JSON that they should be.
    Malformed(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the configuration is cut off"),
            Self::Version(version) => write!(f, "the configuration is of version {version}, not {VERSION}"),
            Self::Malformed(why) => write!(f, "the configuration is malformed: {why}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    daemon: Daemon,
    log: Log,
    sets: Sets,
    hours: Hours,
    services: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    name: ServiceName,
    place: Place,
    /// Of its rules.
    places: Vec<Place>,
    digest: u64,
    length: usize,
}

/// The bytes of a configuration.
pub fn encode(config: &Config) -> Result<Vec<u8>, WireError> {
    let mut bodies = Vec::with_capacity(config.services.len() * 1024);
    let mut services = Vec::with_capacity(config.services.len());
    for service in &config.services {
        let start = bodies.len();
        // A line more above it in its file does not change a service: places stand in the header.
        let mut placeless = Service { place: Place { file: String::new(), line: 0 }, ..service.clone() };
        let places = placeless.access.take_places();
        serde_json::to_writer(&mut bodies, &placeless)?;
        let body = bodies.get(start..).unwrap_or_default();
        services.push(Row {
            name: service.name.clone(),
            place: service.place.clone(),
            places,
            digest: digest(body),
            length: body.len(),
        });
    }
    let header = serde_json::to_vec(&Header {
        version: VERSION,
        daemon: config.daemon.clone(),
        log: config.log.clone(),
        sets: config.sets.clone(),
        hours: config.hours.clone(),
        services,
    })?;
    let mut bytes = Vec::with_capacity(LENGTH + header.len() + bodies.len());
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&bodies);
    Ok(bytes)
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// Reads the bytes of a configuration, each service only when it is asked for.
pub struct Reader<'b> {
    header: Header,
    bodies: &'b [u8],
}

impl<'b> Reader<'b> {
    /// Reads the header, and sees that all is there.
    pub fn new(bytes: &'b [u8]) -> Result<Self, WireError> {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or(WireError::Short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| WireError::Short)?;
        let (header, bodies) = rest.split_at_checked(length).ok_or(WireError::Short)?;
        let version = serde_json::from_slice::<Version>(header)?.version;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let header: Header = serde_json::from_slice(header)?;
        let total = header.services.iter().try_fold(0_usize, |sum, row| sum.checked_add(row.length));
        match total {
            Some(total) if total <= bodies.len() => Ok(Self { header, bodies }),
            _ => Err(WireError::Short),
        }
    }

    /// `[daemon]`.
    pub fn daemon(&self) -> &Daemon {
        &self.header.daemon
    }

    /// `[log]`.
    pub fn log(&self) -> &Log {
        &self.header.log
    }

    /// `[sets]`; no part of any service's digest.
    pub fn sets(&self) -> &Sets {
        &self.header.sets
    }

    /// `[hours]`; no part of any service's digest.
    pub fn hours(&self) -> &Hours {
        &self.header.hours
    }

    /// Every service, not yet decoded, sorted by name.
    pub fn services(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.bodies;
        self.header.services.iter().map_while(move |row| {
            let (bytes, after) = rest.split_at_checked(row.length)?;
            rest = after;
            let Row { name, place, places, digest, .. } = row;
            Some(Entry { name, place, places, digest: *digest, bytes })
        })
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A service in its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'r> {
    /// Its name.
    pub name: &'r ServiceName,
    /// Where it stands now; not part of the digest.
    pub place: &'r Place,
    /// Those of its rules, as [`Access::take_places`](super::access::Access::take_places) gives them; not part of
    /// the digest.
    pub places: &'r [Place],
    /// The same for the same service, wherever it stands.
    pub digest: u64,
    /// Its JSON.
    pub bytes: &'r [u8],
}

impl Entry<'_> {
    /// The service.
    pub fn decode(&self) -> Result<Service, WireError> {
        let mut service: Service = serde_json::from_slice(self.bytes)?;
        self.put_places(&mut service);
        Ok(service)
    }

    /// Do the rules of the service stand where the entry's do?
    pub fn has_its_places(&self, service: &Service) -> bool {
        service.access.places().eq(self.places)
    }

    /// Moves a service that is the same to where the entry stands.
    pub fn put_places(&self, service: &mut Service) {
        service.place = self.place.clone();
        service.access.put_places(self.places.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_configuration_is_refused() {
        check(b"", &WireError::Short);
        check(&[0xff; 64], &WireError::Short);
        let mut other = 13_u64.to_le_bytes().to_vec();
        other.extend_from_slice(br#"{"version":2}"#);
        check(&other, &WireError::Version(2));
        let mut empty = 2_u64.to_le_bytes().to_vec();
        empty.extend_from_slice(b"{}");
        assert!(matches!(Reader::new(&empty), Err(WireError::Malformed(_))));
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &WireError) {
        assert_eq!(Reader::new(bytes).err().as_ref(), Some(expected));
    }
}
