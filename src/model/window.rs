//! Windows of time in a week, as they are written: `Mon-Fri 08:00-18:00`. Knows no clock and no zone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;

/// 24:00, in minutes.
pub const DAY: u16 = 24 * 60;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Days, and a time of them: from the first minute until before the last. One that ends earlier than it begins
/// goes on to the next day, and belongs to the day that it begins on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// A bit for each day, Monday's the lowest.
    days: u8,
    /// In minutes since midnight.
    start: u16,
    end: u16,
}

impl Window {
    /// Is it said of this day (0 for Monday)? Then it begins on it.
    pub fn is_on(&self, day: u8) -> bool {
        self.days & (1_u8 << (day % 7)) != 0
    }

    /// When it begins, in minutes since midnight.
    pub fn start(&self) -> u16 {
        self.start
    }

    /// When it is over, in minutes since midnight; 1440 for 24:00.
    pub fn end(&self) -> u16 {
        self.end
    }

    /// Does it end on the day after?
    pub fn is_over_midnight(&self) -> bool {
        self.end < self.start
    }
}

impl FromStr for Window {
    type Err = Mistake;

    /// `Mon-Fri 08:00-18:00`, `Sat,Sun`, `22:00-06:00`.
    fn from_str(text: &str) -> Result<Self, Mistake> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match *words.as_slice() {
            [times] if times.contains(':') => with_times(text, 0x7f, times),
            [days] => Ok(Self { days: read_days(text, days)?, start: 0, end: DAY }),
            [days, times] => with_times(text, read_days(text, days)?, times),
            _ => Err(Mistake::new(format!("`{}` is no time of the week", text.escape_debug()))
                .hint("write `Mon-Fri 08:00-18:00`, `22:00-06:00` or `Sat,Sun`; several make a list")),
        }
    }
}

fn with_times(text: &str, days: u8, times: &str) -> Result<Window, Mistake> {
    let (start, end) = times.split_once('-').ok_or_else(|| no_times(text, times))?;
    let (start, end) = (minute(text, start)?, minute(text, end)?);
    if start == end {
        return Err(Mistake::new(format!("`{text}` ends when it begins"))
            .hint("leave the times out for the whole day, or write `00:00-24:00`"));
    }
    if start == DAY {
        return Err(Mistake::new(format!("`{text}`: nothing begins at 24:00")).hint("write `00:00`"));
    }
    // What ends at the first moment of the next day ends at the last of this one.
    let end = if end == 0 { DAY } else { end };
    Ok(Window { days, start, end })
}

/// `HH:MM`, two digits each.
fn minute(text: &str, time: &str) -> Result<u16, Mistake> {
    let two = |digits: &str| {
        let good = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        good.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let parts = time.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
    match parts {
        Some((hour @ 0..=23, minute @ 0..=59)) => Ok(hour * 60 + minute),
        Some((24, 0)) => Ok(DAY),
        _ => Err(no_times(text, time)),
    }
}

fn no_times(text: &str, times: &str) -> Mistake {
    Mistake::new(format!("`{}`: `{}` is no time", text.escape_debug(), times.escape_debug()))
        .hint("times are written `08:00-18:00`, from 00:00 to 24:00")
}

/// `Mon`, `Mon-Fri`, `Fri-Mon`, `Sat,Sun`.
fn read_days(text: &str, words: &str) -> Result<u8, Mistake> {
    let mut days = 0;
    for word in words.split(',') {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (day(text, first)?, day(text, last)?);
        let count = (7 + last - first) % 7 + 1;
        for at in 0..count {
            let bit = 1_u8 << ((first + at) % 7);
            if days & bit != 0 {
                return Err(Mistake::new(format!("`{text}` says a day twice")));
            }
            days |= bit;
        }
    }
    Ok(days)
}

fn day(text: &str, word: &str) -> Result<u8, Mistake> {
    if let Some((day, _)) = (0_u8..).zip(DAYS).find(|(_, name)| *name == word) {
        return Ok(day);
    }
    let start: String = word.chars().take(3).collect();
    let near = DAYS.iter().find(|name| name.eq_ignore_ascii_case(&start));
    let hint = match near {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("the days are {}", DAYS.join(", ")),
    };
    Err(Mistake::new(format!("`{}`: `{}` is no day", text.escape_debug(), word.escape_debug())).hint(hint))
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0x7f {
            let names: Vec<&str> =
                (0_u8..).zip(DAYS).filter(|(day, _)| self.is_on(*day)).map(|(_, name)| name).collect();
            write!(f, "{} ", names.join(","))?;
        }
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", time(self.start), time(self.end))
    }
}

impl TryFrom<String> for Window {
    type Error = Mistake;
    fn try_from(text: String) -> Result<Self, Mistake> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_and_written() {
        for (text, expected) in [
            ("Mon-Fri 08:00-18:00", "Mon,Tue,Wed,Thu,Fri 08:00-18:00"),
            ("22:00-06:00", "22:00-06:00"),
            ("Sat,Sun", "Sat,Sun 00:00-24:00"),
            ("Fri-Mon 09:00-10:00", "Mon,Fri,Sat,Sun 09:00-10:00"),
            ("Mon-Sun", "00:00-24:00"),
            ("Mon", "Mon 00:00-24:00"),
            ("Mon,Wed-Fri  00:00-24:00", "Mon,Wed,Thu,Fri 00:00-24:00"),
            ("18:00-00:00", "18:00-24:00"),
            ("23:59-24:00", "23:59-24:00"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), expected);
            assert_eq!(expected.parse(), Ok(window));
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for (text, message, hint) in [
            ("", "`` is no time of the week", "several make a list"),
            ("Mon 08:00-09:00 x", "`Mon 08:00-09:00 x` is no time of the week", "several make a list"),
            ("monday 08:00-09:00", "`monday 08:00-09:00`: `monday` is no day", "did you mean `Mon`?"),
            ("Mon- 08:00-09:00", "`Mon- 08:00-09:00`: `` is no day", "the days are Mon, Tue"),
            ("Mon,Mon", "`Mon,Mon` says a day twice", ""),
            ("Mon-Fri,Tue", "`Mon-Fri,Tue` says a day twice", ""),
            ("8:00-18:00", "`8:00-18:00`: `8:00` is no time", "`08:00-18:00`"),
            ("08:00-24:01", "`08:00-24:01`: `24:01` is no time", "from 00:00 to 24:00"),
            ("08:60-09:00", "`08:60-09:00`: `08:60` is no time", "from 00:00 to 24:00"),
            ("08:00", "`08:00`: `08:00` is no time", "from 00:00 to 24:00"),
            ("08:00-08:00", "`08:00-08:00` ends when it begins", "`00:00-24:00`"),
            ("24:00-08:00", "`24:00-08:00`: nothing begins at 24:00", "`00:00`"),
            ("0800-0900", "`0800-0900`: `0800` is no day", "the days are"),
        ] {
            let mistake = text.parse::<Window>().unwrap_err();
            assert_eq!(mistake.message, message);
            assert!(mistake.hint.clone().unwrap_or_default().contains(hint), "{text}: {:?}", mistake.hint);
        }
    }
}
