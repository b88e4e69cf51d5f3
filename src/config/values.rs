//! Values with units, as texts: durations, sizes, octal numbers. One way to write each.

use std::time::Duration;

use crate::model::mistake::Mistake;

use crate::model::offence::Offence;
use crate::model::pattern::ClientPattern;
use crate::model::rate::{MAX_COUNT, Per, Rate};

/// Why a text is not the value that is wanted, for the admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The kind of mistake, as one stable word.
    pub code: &'static str,
    /// What is wrong with it.
    pub message: String,
    /// What to write.
    pub hint: Option<String>,
}

impl Complaint {
    /// Without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: "value", message: message.into(), hint: None }
    }

    /// About what only a later version has.
    pub fn not_served(message: impl Into<String>) -> Self {
        Self { code: "not-served-yet", ..Self::new(message) }
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Mistake> for Complaint {
    fn from(mistake: Mistake) -> Self {
        Self { code: "value", message: mistake.message, hint: mistake.hint }
    }
}

const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// `"500ms"`, `"30s"`, `"1min"`, `"2h"`, `"1d"`.
pub fn duration(text: &str) -> Result<Duration, Complaint> {
    let near = |unit: &str| match unit {
        "m" | "mins" | "minute" | "minutes" => Some("min"),
        "sec" | "secs" | "second" | "seconds" | "S" => Some("s"),
        "hr" | "hour" | "hours" | "H" => Some("h"),
        "day" | "days" | "D" => Some("d"),
        "msec" | "millis" => Some("ms"),
        _ => None,
    };
    measured(text, "duration", TIMES, near, "ms, s, min, h or d", "30s").map(Duration::from_millis)
}

/// `"512B"`, `"64KiB"`, `"1GiB"`, `"10MB"`.
pub fn size(text: &str) -> Result<u64, Complaint> {
    let near = |unit: &str| match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        "t" | "tb" | "tib" => Some("TiB"),
        _ => None,
    };
    measured(text, "size", SIZES, near, "B, KiB, MiB, GiB, TiB, kB, MB, GB or TB", "64KiB")
}

fn measured(
    text: &str,
    what: &str,
    units: &[(&str, u64)],
    near: impl Fn(&str) -> Option<&'static str>,
    names: &str,
    example: &str,
) -> Result<u64, Complaint> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(Complaint::new(format!("`{text}` is no {what}"))
            .hint(format!("a {what} is a whole number and its unit: \"{example}\"")));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let message = match unit {
            "" => format!("`{text}` has no unit"),
            _ => format!("`{unit}` is no unit of a {what}"),
        };
        let hint = match near(unit) {
            Some(right) => format!("did you mean `{number}{right}`?"),
            None => format!("the units are {names}, as in \"{example}\""),
        };
        return Err(Complaint::new(message).hint(hint));
    };
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|n| n.checked_mul(*factor))
        .ok_or_else(|| Complaint::new(format!("`{text}` is too large")))
}

/// `"20/s"`, `"6/min burst 10"`.
pub fn rate(text: &str) -> Result<Rate, Complaint> {
    let hint = "a rate is written \"20/s\", \"6/min\" or \"100/h\", and \"20/s burst 40\" for more at once";
    let wrong = |message: String| Complaint::new(message).hint(hint);
    let (steady, burst) = match text.split_once(' ') {
        None => (text, None),
        Some((steady, rest)) => {
            let burst = rest.strip_prefix("burst ").ok_or_else(|| wrong(format!("`{text}` is no rate")))?;
            (steady, Some(burst))
        }
    };
    let (count, unit) = steady.split_once('/').ok_or_else(|| match whole(steady) {
        Some(_) => {
            Complaint::new(format!("`{steady}` has no time")).hint(format!("write `{steady}/s`, /min or /h"))
        }
        None => wrong(format!("`{text}` is no rate")),
    })?;
    let per = Per::WORDS.iter().find(|(word, _)| *word == unit).map(|(_, per)| *per);
    let per = per.ok_or_else(|| wrong(format!("`{unit}` is no time of a rate")))?;
    let numbers = whole(count).zip(whole(burst.unwrap_or(count)));
    let (count, burst) = numbers.ok_or_else(|| wrong(format!("`{text}` is no rate")))?;
    Rate::new(count, per, burst)
        .ok_or_else(|| Complaint::new(format!("the numbers of `{text}` are not from 1 to {MAX_COUNT}")))
}

/// A number without sign; too large a one is as good as any other that is too large.
fn whole(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// A word of `ban.on`.
pub fn offence(text: &str) -> Result<Offence, Complaint> {
    Offence::new(text).ok_or_else(|| {
        Complaint::new(format!("`{text}` is no offence"))
            .hint("it is one of refused, rate, signal, or `exit:` and a status from 0 to 255")
    })
}

/// An item of `never` and `never_ban`: what a client is known by as soon as it connects.
pub fn exempt(text: &str) -> Result<ClientPattern, Complaint> {
    let pattern: ClientPattern = text.parse()?;
    match pattern {
        named if named.asks_name() => {
            Err(Complaint { code: "cannot-hold", ..Complaint::new("nobody waits for a name before a ban") }
                .hint("write addresses and networks"))
        }
        known => Ok(known),
    }
}

/// `"022"`: an octal number of file permissions.
pub fn octal(text: &str) -> Result<u32, Complaint> {
    let good = (1..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    good.then(|| u32::from_str_radix(text, 8).ok()).flatten().filter(|n| *n <= 0o777).ok_or_else(|| {
        Complaint::new(format!("`{text}` is no octal number from 0 to 777"))
            .hint("octal numbers are strings of the digits 0 to 7: \"022\"")
    })
}

/// The name of a variable that a program may be given.
pub fn variable_name(name: &str) -> Result<(), Complaint> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(Complaint::new(format!("`{name}` can't be the name of a variable")));
    }
    let of_a_connection = name == "PROTO"
        || ["TCP", "REMOTE_", "SUPERD_", "LISTEN_"].iter().any(|prefix| name.starts_with(prefix));
    if of_a_connection {
        return Err(Complaint::new(format!("`{name}` is a variable that superd sets for each connection"))
            .hint("PROTO, TCP*, REMOTE_*, SUPERD_* and LISTEN_* are superd's; choose another name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("500ms", Ok(500)),
            ("30s", Ok(30_000)),
            ("1min", Ok(60_000)),
            ("2h", Ok(7_200_000)),
            ("1d", Ok(86_400_000)),
            ("0s", Ok(0)),
            ("30", Err("`30` has no unit")),
            ("5m", Err("`m` is no unit of a duration")),
            ("-1s", Err("`-1s` is no duration")),
            ("1.5h", Err("`.5h` is no unit of a duration")),
            ("", Err("`` is no duration")),
            ("99999999999999999999s", Err("`99999999999999999999s` is too large")),
            ("18446744073709551615d", Err("`18446744073709551615d` is too large")),
        ] {
            let got = duration(text).map(|d| d.as_millis()).map_err(|c| c.message);
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
        }
        assert_eq!(duration("5m").unwrap_err().hint.as_deref(), Some("did you mean `5min`?"));
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0B", Ok(0)),
            ("64KiB", Ok(65_536)),
            ("64MiB", Ok(67_108_864)),
            ("1GB", Ok(1_000_000_000)),
            ("64M", Err("`M` is no unit of a size")),
            ("64", Err("`64` has no unit")),
        ] {
            assert_eq!(size(text).map_err(|c| c.message), expected.map_err(str::to_owned), "{text}");
        }
        assert_eq!(size("64M").unwrap_err().hint.as_deref(), Some("did you mean `64MiB`?"));
    }

    #[test]
    fn rates_have_times() {
        for (text, expected) in [
            ("20/s", Ok("20/s")),
            ("20/s burst 40", Ok("20/s burst 40")),
            ("20/s burst 20", Ok("20/s")),
            ("6/min", Ok("6/min")),
            ("1/h burst 1000000", Ok("1/h burst 1000000")),
            ("20", Err("`20` has no time")),
            ("20 burst 3", Err("`20` has no time")),
            ("20/m", Err("`m` is no time of a rate")),
            ("20/s burst", Err("`20/s burst` is no rate")),
            ("20/s  burst 4", Err("`20/s  burst 4` is no rate")),
            ("-1/s", Err("`-1/s` is no rate")),
            ("1.5/s", Err("`1.5/s` is no rate")),
            ("0/s", Err("the numbers of `0/s` are not from 1 to 1000000")),
            (
                "1/s burst 99999999999",
                Err("the numbers of `1/s burst 99999999999` are not from 1 to 1000000"),
            ),
            ("often", Err("`often` is no rate")),
            ("", Err("`` is no rate")),
        ] {
            let got = rate(text).map(|rate| rate.to_string()).map_err(|c| c.message);
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert_eq!(rate("20").unwrap_err().hint.as_deref(), Some("write `20/s`, /min or /h"));
    }

    #[test]
    fn octal_numbers_are_octal() {
        for (text, expected) in [
            ("022", Some(0o22)),
            ("0", Some(0)),
            ("0777", Some(0o777)),
            ("1000", None),
            ("8", None),
            ("", None),
            ("+2", None),
        ] {
            assert_eq!(octal(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn variables_of_the_connection_are_superds() {
        for (name, good) in [
            ("PATH", true),
            ("PROTOCOL", true),
            ("PROTO", false),
            ("TCPREMOTEIP", false),
            ("REMOTE_HOST", false),
            ("SUPERD_SESSION", false),
            ("LISTEN_FDS", false),
            ("", false),
            ("A=B", false),
        ] {
            assert_eq!(variable_name(name).is_ok(), good, "{name}");
        }
    }
}
